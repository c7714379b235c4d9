"""calibrate_scan: an overfocused `scan` becomes an `overfocus` artefact."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import task

from ..lib.artefacts import ArtefactStore, Draft, Input, Manifest, Recipe
from ..lib.overfocus.plan import Plan
from ..lib.stem4d.metadata import ScanMetadata
from .convert import label
from .live import OVERFOCUS, LivePage, prefect_progress
from .pictures import Picture, show_pictures
from .progress import tell
from .running import TASK_OPTIONS, flow_run_id
from .scan import KIND as SCAN
from .scan import READ
from .scan_rows import binned_scan
from .workers import borrowed, carry_out

if TYPE_CHECKING:
    from ..lib.overfocus.binning import BinnedScan
    from ..lib.overfocus.config import OverfocusConfig
    from ..lib.overfocus.result import OverfocusResult, PublishedSearch
    from ..lib.overfocus.search import Evaluation
    from ..lib.stem4d.scan import Scan4D

KIND = "overfocus"
SCHEMA_VERSION = 1
PAGE = "report.html"
YAML = "calibration.yaml"
_STEPS = 8  # lines that a calibration tells, about
_SEARCH = 45  # evaluations of a published search, about


@task(task_run_name="calibrate {scan}", **TASK_OPTIONS)
def calibrate_scan(
    scan: str,
    store: Path,
    plan: Plan | None = None,
    stated: ScanMetadata | None = None,
    workers: str | None = None,
    by_rows: bool = False,
) -> str:
    """Find the map between scan and detector from one overfocused scan.

    Parameters
    ----------
    scan : reference of a scan artefact, or a file that is not to be kept.
    store : root of the artefact store.
    plan : choices; None for the defaults.
    stated : what the user states about the scan, where it is a file.
    workers : address of worker processes, or None.
    by_rows : have all of them read this one scan, a block of rows each, where it is an artefact.

    Returns
    -------
    Reference of the artefact, an older one if the same was made before. Its files are report.html,
    calibration.yaml, superposition.tif and a snippet for each program.
    """
    with prefect_progress(name_in(scan)):
        if by_rows and is_reference(scan):
            return overfocus_artefact(scan, store, plan, stated, flow_run_id(), workers)
        return carry_out(workers, overfocus_artefact, scan, store, plan, stated, flow_run_id())


def overfocus_artefact(
    source: str,
    store: Path,
    plan: Plan | None = None,
    stated: ScanMetadata | None = None,
    flow_run: str | None = None,
    workers: str | None = None,
) -> str:
    """What `calibrate_scan` does, without Prefect; with `workers`, by rows."""
    from ..lib.artefacts.records import write_record

    chosen = plan or Plan()
    kept = ArtefactStore(store)
    found_scan = open_scan(kept, source, stated)
    recipe = Recipe(
        kind=KIND,
        name=found_scan.name,
        schema_version=SCHEMA_VERSION,
        inputs=found_scan.inputs,
        configuration={
            **chosen.model_dump(mode="json", exclude={"config": {"seed"}}),
            **found_scan.configuration,
        },
        seeds={"bootstrap": chosen.config.seed},
    )
    if found := kept.find(recipe):
        return found.ref
    live = LivePage(store, found_scan.name, OVERFOCUS)
    with kept.draft(recipe, flow_run_id=flow_run) as draft:
        read = partial(
            binned_scan, store=kept, source=source, workers=workers,
            done=partial(_show_rows, found_scan.scan, live),
        )  # fmt: skip
        result, notes = _calibrated(found_scan.scan, chosen, live, read, workers)
        write_record(draft.arrays, result)
        draft.arrays.attrs.update({"schema": KIND, "schema_version": SCHEMA_VERSION})
        _write_files(draft, result, found_scan, chosen, notes)
        from ..lib.overfocus.result import figures_of

        draft.notes += [*result.calibration.reasons, *notes]
        draft.figures_of_merit = figures_of(result)
        made = draft.publish()
    tell(found_scan.name, "done", 1.0)
    live.show("done", final=f"../{made.path.relative_to(kept.root).as_posix()}/files/{PAGE}")
    return made.ref


@dataclass(frozen=True)
class OpenScan:
    """A scan with what a recipe must say of it."""

    name: str
    scan: Scan4D
    inputs: tuple[Input, ...]
    configuration: dict[str, Any]
    manifests: tuple[Manifest, ...] = ()


def name_in(source: str) -> str:
    """What progress on a scan is told under: the name of its artefact, or the file's."""
    return source.split("/")[1].split("@")[0] if is_reference(source) else label(Path(source).stem)


def is_reference(source: str) -> bool:
    """Whether this names a scan artefact rather than a file."""
    return source.startswith(f"{SCAN}/") and not Path(source).exists()


def open_scan(store: ArtefactStore, source: str, stated: ScanMetadata | None = None) -> OpenScan:
    """A scan artefact, or a file.

    Raises
    ------
    UserError : no such artefact or file, or no scan in it.
    """
    if is_reference(source):
        from ..lib.stem4d.storage import read_scan as read_stored

        artefact = store.get(source)
        return OpenScan(
            artefact.manifest.name,
            read_stored(artefact.arrays),
            (Input.from_artefact(SCAN, artefact),),
            {},
            (artefact.manifest,),
        )
    from ..lib.formats.scan4d import read_scan

    known = stated or ScanMetadata()
    scan = read_scan(source, stated=known)
    name = label(scan.name)
    inputs = tuple(Input(role="raw", digest=one.sha256, path=one.path) for one in scan.sources)
    said = {"stated": known.model_dump(mode="json", exclude_none=True)}
    return OpenScan(name, scan.with_(name=name), inputs, said)


def show_overfocus(overfocus: str, store: Path) -> None:
    """Show a calibration and its superposition in Prefect's pages; nothing outside of a flow run.

    Parameters
    ----------
    overfocus : reference of the artefact.
    store : root of the artefact store.
    """
    if flow_run_id() is None:
        return
    from ..lib.artefacts.records import read_record
    from ..lib.overfocus.result import OverfocusResult
    from ..lib.report.overfocus_figures import beside_bright_field, bright_field

    artefact = ArtefactStore(store).get(overfocus)
    views = read_record(artefact.arrays, OverfocusResult).views
    if views.superposition.size:
        what = "Every frame carried back to the specimen: sharp only if the calibration is right."
        alt = "virtual bright field beside the superposition"
        picture = Picture(beside_bright_field(views, None), alt, what)
    else:
        picture = Picture(bright_field(views, None), "virtual bright field", "No superposition.")
    name, figures = artefact.manifest.name, artefact.manifest.figures_of_merit
    numbers = [f"- {key}: {value}" for key, value in figures.items() if key != "verdict"]
    text = "\n".join([f"**{figures['verdict']}**", *artefact.manifest.notes[:3], "", *numbers])
    pages = {"report": artefact.files / PAGE}
    show_pictures(f"overfocus-{name}", f"Overfocused scan {name}", [picture], pages, text)


def _show_rows(scan: Scan4D, live: LivePage, done: int) -> None:
    """Tell how many scan rows are read."""
    rows = scan.scan_shape[0]
    tell(scan.name, f"row {done} of {rows}", READ + 0.2 * done / max(rows, 1))
    live.show(f"row {done} of {rows} binned")


def _calibrated(
    scan: Scan4D,
    plan: Plan,
    live: LivePage,
    read: Callable[[Scan4D, OverfocusConfig], BinnedScan],
    workers: str | None,
) -> tuple[OverfocusResult, list[str]]:
    """The result, with what there is to note about how the scan was read."""
    import numpy as np

    from ..lib.overfocus.calibrate import calibrate
    from ..lib.overfocus.result import OverfocusResult, named_parameters
    from ..lib.overfocus.views import views_of

    told = 0

    def say(line: str) -> None:
        nonlocal told
        told += 1
        tell(scan.name, line, READ + 0.2 + 0.2 * min(1.0, told / _STEPS))
        live.show(line)

    live.show("read frames")
    calibration = calibrate(scan, plan.config, say, read)
    parameters, lacking = named_parameters(scan, calibration)
    published = _published(scan, calibration, plan, live, workers)
    difference = float("nan")
    if plan.verify_twin and parameters is not None:
        from ..lib.overfocus.twin import verify_twin

        difference = verify_twin(parameters)
    tell(scan.name, "superpose frames", READ + 0.5)
    result = OverfocusResult(
        calibration, parameters, lacking, difference, views_of(scan, calibration), published
    )
    _show_result(live, result)
    notes = list(scan.notes)
    if scan.missing.any():
        notes.append(f"{int(scan.missing.sum())} scan points hold no frame")
    if plan.verify_twin and parameters is None:
        why = " and ".join(lacking) or "the calibration"
        notes.append(f"TemGym's rays were not compared: {why} is not known")
    if scan.scan_step_nm and not np.isclose(*scan.scan_step_nm, rtol=0.01):
        notes.append("the scan's steps differ; the overfocus is of their geometric mean")
    return result, notes


def _published(
    scan: Scan4D, calibration: Any, plan: Plan, live: LivePage, workers: str | None
) -> PublishedSearch | None:
    if plan.published is None:
        return None
    from ..lib.overfocus.published import published_search

    count = 0

    def watch(number: int, one: Evaluation) -> None:
        nonlocal count
        count += 1
        line = f"published method, evaluation {count}: blur {one.loss:.4f}"
        tell(scan.name, line, READ + 0.4 + 0.1 * min(1.0, count / _SEARCH))
        p = one.parameters
        live.show(
            line,
            {
                "Scan rotation": f"{p.scan_rotation_deg:.3f}°",
                "Overfocus": f"{p.overfocus_m * 1e6:.4f} µm",
                "Blur": f"{one.loss:.4f}",
                "Start": number + 1,
            },
            {"superposition with these": one.image},
        )

    with borrowed(workers, published_search) as client:
        return published_search(scan, calibration, plan.published, watch, client)


def _show_result(live: LivePage, result: OverfocusResult) -> None:
    from ..lib.report.overfocus_figures import sharp
    from ..lib.report.overfocus_page import headline

    views = result.views
    images = {"virtual bright field": views.bright_field}
    if views.superposition.size:
        images["superposition"] = sharp(views)
    live.show(headline(result.calibration), {"Verdict": result.calibration.verdict}, images)


def _write_files(
    draft: Draft, result: OverfocusResult, found: OpenScan, plan: Plan, notes: list[str]
) -> None:
    """The report, the YAML for people and programs, images, and snippets."""
    import tifffile

    from ..lib.overfocus.calibration import CALIBRATED
    from ..lib.overfocus.hand_over import snippets, write_yaml
    from ..lib.report.overfocus_page import overfocus_page

    write_yaml(draft.files / YAML, result.calibration, result.parameters)
    files = {YAML: "matrices, covariance, verdict and named angles, for people and programs"}
    if result.calibration.verdict == CALIBRATED:
        for program, text in snippets(result.calibration).items():
            name = f"{program}.yaml" if program == "ptyrad" else f"{program}_settings.py"
            (draft.files / name).write_text(text, encoding="utf-8")
            files[name] = f"lines that set {_PROGRAMS.get(program, program)} to it"
    for name, image, what in (
        ("superposition.tif", result.views.superposition, "all frames laid over each other"),
        ("bright_field.tif", result.views.bright_field, "counts in the beam's disc"),
    ):
        if image.size:
            tifffile.imwrite(draft.files / name, image.astype("float32"))
            files[name] = what
    diagram = None
    if plan.verify_twin and result.parameters is not None:
        from ..lib.overfocus.twin import ray_diagram

        diagram = ray_diagram(result.parameters)
    page = overfocus_page(result, files, found.manifests, found.scan.scan_step_nm, diagram, notes)
    (draft.files / PAGE).write_text(page, encoding="utf-8")


_PROGRAMS = {"libertem": "LiberTEM", "py4dstem": "py4DSTEM", "pyxem": "pyxem", "ptyrad": "ptyRAD"}
