"""train_model: a 4D-STEM scan becomes an `rrvae` artefact, a trained autoencoder and its maps."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import task

from ..lib.artefacts import ArtefactStore, Draft, Input, Manifest, Recipe
from ..lib.rrvae.plan import Plan
from ..lib.stem4d.metadata import ScanMetadata
from .live import LivePage, prefect_progress
from .overfocus import PAGE, OpenScan, name_in, open_scan
from .overfocus_check import load_calibration as load_overfocus
from .pictures import Picture, looking_on, show_pictures
from .progress import tell
from .rings import load_calibration as load_rings
from .running import TASK_OPTIONS, flow_run_id
from .scan import READ
from .workers import carry_out

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..lib.overfocus.calibration import ScanCalibration
    from ..lib.rings.calibration import RingCalibration
    from ..lib.rrvae.learn import Learned
    from ..lib.rrvae.patterns import Patterns
    from ..lib.rrvae.train import Latents, Look

KIND = "rrvae"
SCHEMA_VERSION = 1
WEIGHTS, SCORES, PREPARATION = "model.safetensors", "scores.yaml", "preparation.yaml"
OVER = "Training of a rotationally invariant autoencoder"
_SPOOLED_BYTES = 2**30  # larger prepared scans lie in a file while they are learned from
_PICTURE_S = 10.0  # between pictures in Prefect's pages
_SHARE = 10.0  # times as long as drawing the live page took, until it is drawn again
_CURVES = "Evidence lower bound (dotted: trained on), equivariance and invariance of each seed."


@task(task_run_name="train on {scan}", **TASK_OPTIONS)
def train_model(
    scan: str,
    store: Path,
    plan: Plan | None = None,
    stated: ScanMetadata | None = None,
    overfocus: str | None = None,
    rings: str | None = None,
    workers: str | None = None,
    name: str = "",
) -> str:
    """Train an ensemble on a scan, judge it, and map the scan.

    Parameters
    ----------
    scan : reference of a scan artefact, or a file that is not to be kept.
    store : root of the artefact store.
    plan : choices; None for the defaults.
    stated : what the user states about the scan, where it is a file.
    overfocus : reference of an `overfocus` artefact or its calibration.yaml: the scan's directions.
    rings : reference of a `rings` artefact or a PONI, whose ellipse is taken out.
    workers : address of worker processes, or None.
    name : of the artefact; that of the scan if empty.

    Returns
    -------
    Reference of the artefact, an older one if the same was made before, also where the verdict is
    "failed". Its arrays are ``maps`` and ``result``; its files report.html, model.safetensors,
    preparation.yaml and scores.yaml.
    """
    told = name or name_in(scan)
    with prefect_progress(told):
        return carry_out(
            workers, rrvae_artefact, scan, store, plan, stated, overfocus, rings, flow_run_id(),
            told,
        )  # fmt: skip


def rrvae_artefact(
    source: str,
    store: Path,
    plan: Plan | None = None,
    stated: ScanMetadata | None = None,
    overfocus: str | None = None,
    rings: str | None = None,
    flow_run: str | None = None,
    name: str = "",
) -> str:
    """What `train_model` does, without Prefect."""
    from ..lib.artefacts.records import write_columns, write_record

    chosen = with_rings(plan or Plan(), rings)
    kept = ArtefactStore(store)
    found_scan = open_scan(kept, source, stated)
    name = name or found_scan.name
    given = Calibrations(kept, overfocus, rings)
    recipe = Recipe(
        kind=KIND,
        name=name,
        schema_version=SCHEMA_VERSION,
        inputs=(*found_scan.inputs, *given.inputs),
        configuration={**chosen.model_dump(mode="json", exclude={"seed"}),
                       **found_scan.configuration},
        seeds={"judging": chosen.seed},
    )  # fmt: skip
    if found := kept.find(recipe):
        return found.ref
    live = LiveTraining(store, name)
    with kept.draft(recipe, flow_run_id=flow_run) as draft, spool(found_scan, chosen, kept) as file:
        from ..lib.rrvae.learn import learn
        from ..lib.rrvae.result import figures_of

        learned = learn(
            found_scan.scan.with_(name=name), chosen, calibration=given.overfocus,
            rings=given.rings, spool=file, say=live.say, on_look=live.look,
        )  # fmt: skip
        write_columns(draft.arrays.create_group("maps"), learned.maps)
        write_record(draft.arrays.create_group("result"), learned.result)
        draft.arrays.attrs.update({"schema": KIND, "schema_version": SCHEMA_VERSION})
        live.say("write report", 0.95)
        _write_files(draft, learned, chosen, (*given.manifests, *found_scan.manifests))
        draft.notes += [*learned.result.trust.reasons, *learned.result.notes]
        draft.figures_of_merit = figures_of(learned.result)
        made = draft.publish()
    tell(name, "done", 1.0)
    live.done(made.files / PAGE, f"../{made.path.relative_to(kept.root).as_posix()}/files/{PAGE}")
    return made.ref


def show_maps(made: str, store: Path) -> None:
    """Show maps and figures of an `rrvae` or `rrvae-map` artefact in Prefect's pages.

    Nothing outside of a flow run.
    """
    if flow_run_id() is None:
        return
    from ..lib.artefacts.arrays import read_array, subgroup
    from ..lib.report.rrvae_figures import content_and_angle

    artefact = ArtefactStore(store).get(made)
    figures: dict[str, Any] = artefact.manifest.figures_of_merit
    maps = subgroup(artefact.arrays, "maps")
    best, leading = int(figures["best_seed"]), int(figures["leading"])
    content = read_array(maps, "content")[best][..., leading]
    drawing = content_and_angle(content, read_array(maps, "angle_rad")[best])
    what = "Leading content and angle of the best seed."
    numbers = [f"- {key}: {value}" for key, value in figures.items() if key != "verdict"]
    text = "\n".join([f"**{figures['verdict']}**", *artefact.manifest.notes[:3], "", *numbers])
    name = artefact.manifest.name
    show_pictures(
        f"{artefact.manifest.kind}-{name}", f"rrVAE of {name}",
        [Picture(drawing, "maps", what)], {"report": artefact.files / PAGE}, text,
    )  # fmt: skip


class Calibrations:
    """Optional calibrations of a scan, with what recipe and page must say of them.

    Raises
    ------
    UserError : no such artefact or file, one of another kind, or a failed ring calibration.
    """

    def __init__(self, store: ArtefactStore, overfocus: str | None, rings: str | None) -> None:
        self.overfocus: ScanCalibration | None = None
        self.rings: RingCalibration | None = None
        self.inputs: tuple[Input, ...] = ()
        self.manifests: tuple[Manifest, ...] = ()
        if overfocus is not None:
            self.overfocus, given, self.manifests = load_overfocus(store, overfocus)
            self.inputs += (given,)
        if rings is not None:
            self.rings, given = load_rings(rings, store, "rings")
            self.inputs += (given,)
            if given.artefact:
                self.manifests += (store.get(given.artefact).manifest,)


def with_rings(plan: Plan, rings: str | None) -> Plan:
    """The plan; a ring calibration is given for its ellipse to be taken out."""
    if rings is None:
        return plan
    prepare = plan.prepare.model_copy(update={"distortion": "rings"})
    return plan.model_copy(update={"prepare": prepare})


@contextmanager
def spool(found: OpenScan, plan: Plan, store: ArtefactStore) -> Iterator[Path | None]:
    """A file to keep prepared patterns in, where they are too many for memory."""
    rows, columns = found.scan.scan_shape
    size = 4 * rows * columns * plan.prepare.shape[0] * plan.prepare.shape[1]
    if size <= _SPOOLED_BYTES:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix=".spool-", dir=store.root) as folder:
        yield Path(folder) / "patterns"


class LiveTraining:
    """What a person watches while an ensemble is trained: curves and the maps so far.

    On the live page of the store; the curves in Prefect's pages too.
    """

    def __init__(self, store: Path, name: str) -> None:
        self._name = name
        self._page = LivePage(store, name, OVER)
        self._looks: list[Look] = []
        self._next = self._next_picture = 0.0

    def say(self, step: str, fraction: float) -> None:
        """The next step, and the part of the work that is done."""
        tell(self._name, step, READ + (1 - READ) * fraction)
        if not step.startswith("epoch "):
            self._page.show(step)

    def look(self, look: Look, encode: Callable[[], Latents], patterns: Patterns) -> None:
        """Where training is."""
        self._looks.append(look)
        began = time.monotonic()
        if began < self._next:
            return
        latents, best = encode(), look.held_out_loss.argmin()
        facts = {
            "Epoch": look.epoch,
            "Held-out ELBO": f"{-look.held_out_loss[best]:.2f} nats",
            "Equivariance": f"{look.equivariance[best]:.3f}",
            "Seed shown": best,
        }
        maps = {
            "leading content": patterns.map_of(latents.leading_content[best]),
            "angle": patterns.map_of(latents.angle_rad[best]),
        }
        told = f"epoch {look.epoch}"
        self._page.show(told, facts, draw=lambda: [(self._curves(), _CURVES), (_maps(maps), told)])
        if began >= self._next_picture:
            self._show_prefect(facts)
            self._next_picture = time.monotonic() + _PICTURE_S
        # drawing must not take the time of what is drawn
        self._next = time.monotonic() + _SHARE * (time.monotonic() - began)

    def _show_prefect(self, facts: dict[str, Any], pages: dict[str, Path] | None = None) -> None:
        if flow_run_id() is None or not self._looks:
            return
        text = "\n".join(f"- {name}: {value}" for name, value in facts.items())
        with looking_on(f"curves of {self._name}"):
            picture = Picture(self._curves(), "training curves", _CURVES)
            show_pictures(f"rrvae-{self._name}-curves", f"Training on {self._name}", [picture],
                          pages, text)  # fmt: skip

    def _curves(self) -> Figure:
        from ..lib.report.rrvae_figures import training
        from ..lib.rrvae.result import curves_of

        return training(curves_of(self._looks))

    def done(self, final: Path, link: str) -> None:
        """The last page, which leads to the report."""
        self._show_prefect({}, {"report": final})
        self._page.show("done", final=link)


def _maps(maps: dict[str, Any]) -> Figure:
    from ..lib.report.rrvae_figures import content_and_angle

    return content_and_angle(*maps.values())


def _write_files(
    draft: Draft, learned: Learned, plan: Plan, manifests: tuple[Manifest, ...]
) -> None:
    """Weights, scores, how patterns were prepared, and the page."""
    import yaml

    from ..lib.report.rrvae_page import rrvae_page
    from ..lib.rrvae.checkpoint import save
    from ..lib.rrvae.result import scores_of

    def write(name: str, content: dict[str, Any]) -> None:
        text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
        (draft.files / name).write_text(text, encoding="utf-8")

    save(draft.files / WEIGHTS, learned.ensemble, learned.made)
    write(SCORES, scores_of(learned.result))
    write(PREPARATION, {**plan.prepare.model_dump(mode="json")})
    files = {
        WEIGHTS: "weights of all seeds, for `ewaldflow rrvae apply`",
        PREPARATION: "how the patterns were prepared, which must be the same where it is applied",
        SCORES: "verdict, scores of every seed, baselines, defects",
    }
    page = rrvae_page(learned.result, learned.maps, files, manifests)
    (draft.files / PAGE).write_text(page, encoding="utf-8")
