"""map_scan: a trained autoencoder applied to another scan: an `rrvae-map` artefact."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect import task

from ..lib.artefacts import ArtefactStore, Draft, Input, Manifest, Recipe
from ..lib.errors import UserError
from ..lib.rrvae.plan import Plan
from ..lib.rrvae.preprocess_config import PreprocessConfig
from ..lib.stem4d.metadata import ScanMetadata
from .live import prefect_progress
from .overfocus import PAGE, name_in, open_scan
from .progress import tell
from .rrvae import KIND as MODEL
from .rrvae import PREPARATION, SCORES, WEIGHTS, Calibrations, spool, with_rings
from .running import TASK_OPTIONS, flow_run_id
from .scan import READ
from .workers import carry_out

KIND = "rrvae-map"
SCHEMA_VERSION = 1
IN, OUT = "in distribution", "out of distribution"


@task(task_run_name="map {scan} by {model}", **TASK_OPTIONS)
def map_scan(
    model: str,
    scan: str,
    store: Path,
    preparation: dict[str, Any] | None = None,
    stated: ScanMetadata | None = None,
    overfocus: str | None = None,
    rings: str | None = None,
    workers: str | None = None,
) -> str:
    """Map a scan by a model that was trained on another, and say whether it may be.

    Parameters
    ----------
    model : reference of an `rrvae` artefact, or a model.safetensors with its preparation.yaml
        beside it.
    scan : reference of a `scan` artefact, or a file that is not to be kept.
    store : root of the artefact store.
    preparation : choices that differ from those in training, such as the gain of this scan.
    stated : what the user states about the scan, where it is a file.
    overfocus, rings : calibrations of this scan, as of `train_model`.
    workers : address of worker processes, or None.

    Returns
    -------
    Reference of the artefact, an older one if the same was made before. Its file is report.html.
    """
    with prefect_progress(name_in(scan)):
        return carry_out(
            workers, map_artefact, model, scan, store, preparation, stated, overfocus, rings,
            flow_run_id(),
        )  # fmt: skip


def map_artefact(
    model: str,
    source: str,
    store: Path,
    preparation: dict[str, Any] | None = None,
    stated: ScanMetadata | None = None,
    overfocus: str | None = None,
    rings: str | None = None,
    flow_run: str | None = None,
) -> str:
    """What `map_scan` does, without Prefect."""
    from ..lib.artefacts.records import write_columns, write_record

    kept = ArtefactStore(store)
    trained = open_model(kept, model)
    how = with_rings(Plan(prepare=trained.prepared_by(preparation or {})), rings).prepare
    found_scan = open_scan(kept, source, stated)
    name = found_scan.name
    given = Calibrations(kept, overfocus, rings)
    recipe = Recipe(
        kind=KIND,
        name=name,
        schema_version=SCHEMA_VERSION,
        inputs=(*trained.inputs, *found_scan.inputs, *given.inputs),
        configuration={"prepare": how.model_dump(mode="json"), **found_scan.configuration},
    )
    if found := kept.find(recipe):
        return found.ref

    def say(step: str, fraction: float) -> None:
        tell(name, step, READ + (1 - READ) * fraction)

    plan = Plan(prepare=how)
    with kept.draft(recipe, flow_run_id=flow_run) as draft, spool(found_scan, plan, kept) as file:
        from ..lib.rrvae.checkpoint import load
        from ..lib.rrvae.learn import map_scan as mapped_by

        ensemble, made = load(trained.weights)
        mapped = mapped_by(
            found_scan.scan, ensemble, made, how, trained.best, calibration=given.overfocus,
            rings=given.rings, spool=file, say=say,
        )  # fmt: skip
        write_columns(draft.arrays.create_group("maps"), mapped.maps)
        write_record(draft.arrays.create_group("prepared"), mapped.prepared)
        from ..lib.artefacts.arrays import create_array

        create_array(draft.arrays, "unlike", mapped.unlike)
        draft.arrays.attrs.update({"schema": KIND, "schema_version": SCHEMA_VERSION})
        say("write report", 0.9)
        manifests = (*given.manifests, *found_scan.manifests, *trained.manifests)
        _write_page(draft, mapped, trained, manifests, name)
        draft.notes += [*mapped.applied.reasons, *mapped.notes]
        draft.figures_of_merit = figures_of(mapped, trained.best)
        published = draft.publish()
    tell(name, "done", 1.0)
    return published.ref


@dataclass(frozen=True)
class TrainedModel:
    """A trained model with what its use needs.

    Attributes
    ----------
    said : as it was named.
    weights : file.
    preparation : choices in training.
    best : position of the seed that was judged best.
    verdict : of its training; "" if not known.
    inputs, manifests : of the artefact, for recipe and page.
    """

    said: str
    weights: Path
    preparation: PreprocessConfig
    best: int
    verdict: str
    inputs: tuple[Input, ...]
    manifests: tuple[Manifest, ...] = ()

    def prepared_by(self, changes: dict[str, Any]) -> PreprocessConfig:
        """The preparation of another scan; what noise it has is its own."""
        return PreprocessConfig(**{**self.preparation.model_dump(), **changes})


def open_model(store: ArtefactStore, said: str) -> TrainedModel:
    """A model in a store, or in a file beside which its preparation.yaml lies.

    Raises
    ------
    UserError : no such artefact or file, an artefact of another kind, or no preparation.
    """
    if Path(said).is_file() or said.endswith(".safetensors"):
        path = Path(said)
        if not path.is_file():
            raise UserError(path, "no such file", "a trained model", "check the path")
        given: tuple[Input, ...] = (Input.from_file(MODEL, path),)
        return _opened(said, path, given, ())
    artefact = store.get(said)
    if artefact.manifest.kind != MODEL:
        raise UserError(
            artefact.ref, f"an artefact of kind '{artefact.manifest.kind}'",
            f"one of kind '{MODEL}'", "name one that `ewaldflow rrvae train` made",
        )  # fmt: skip
    given = (Input.from_artefact(MODEL, artefact),)
    return _opened(artefact.ref, artefact.files / WEIGHTS, given, (artefact.manifest,))


def _opened(
    said: str, weights: Path, inputs: tuple[Input, ...], manifests: tuple[Manifest, ...]
) -> TrainedModel:
    import yaml
    from pydantic import ValidationError

    from ..lib.instrument import first_problem

    beside = weights.with_name(PREPARATION)
    try:
        how = PreprocessConfig(**yaml.safe_load(beside.read_text(encoding="utf-8")))
    except OSError as error:
        raise UserError(
            beside, str(error.strerror).lower(), "how patterns were prepared in training",
            "copy it beside the weights",
        ) from None  # fmt: skip
    except (yaml.YAMLError, TypeError, UnicodeDecodeError):
        raise UserError(beside, "no fields and values", "plain YAML", "copy it again") from None
    except ValidationError as error:
        raise first_problem(beside, error) from None
    scores: dict[str, Any] = {}
    if (told := weights.with_name(SCORES)).is_file():
        scores = yaml.safe_load(told.read_text(encoding="utf-8")) or {}
    best, verdict = int(scores.get("best_seed", 0)), str(scores.get("verdict", ""))
    return TrainedModel(said, weights, how, best, verdict, inputs, manifests)


def figures_of(mapped: Any, best: int) -> dict[str, Any]:
    """The few numbers that stand for a mapped scan in a table."""
    mine = mapped.agreements[best]
    numbers = {
        "pearson": abs(mine.pearson),
        "circular_R": mine.circular_R,
        "harmonic_pearson": abs(mapped.baselines[0].pearson),
        "harmonic_circular_R": mapped.baselines[0].circular_R,
    }
    return {
        "verdict": IN if mapped.applied.in_distribution else OUT,
        "patterns": mapped.prepared.patterns,
        "dose": mapped.prepared.dose,
        "best_seed": best,
        "leading": int(mapped.applied.latents.leading[best]),
        "unlike": float(mapped.applied.unlike.mean()),
        **{key: None if value != value else value for key, value in numbers.items()},
        "defects": len(mapped.defects),
        "warning": mapped.prepared.warning or None,
    }


def _write_page(
    draft: Draft, mapped: Any, trained: TrainedModel, manifests: tuple[Manifest, ...], name: str
) -> None:
    from ..lib.report.rrvae_map_page import rrvae_map_page

    page = rrvae_map_page(name, mapped, trained.said, trained.verdict, trained.best, manifests)
    (draft.files / PAGE).write_text(page, encoding="utf-8")
