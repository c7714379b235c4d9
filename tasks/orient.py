"""orient: a `reduction` artefact becomes an `orientation` artefact, and many a `goniometer` study.

With `integrate_again` the orientations go back into another `reduction` artefact.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import task

from ..lib.artefacts import Artefact, ArtefactStore, Draft, Input, Recipe
from ..lib.orientation.config import OrientationConfig
from .progress import tell
from .report import below, made_from
from .running import TASK_OPTIONS, flow_run_id
from .workers import carry_out

if TYPE_CHECKING:
    from ..lib.orientation.observations import OrientationData
    from ..lib.orientation.series import OrientedSeries
    from ..lib.report.goniometer_page import Visit

KIND = "orientation"
STUDY = "goniometer"
PAGE = "report.html"
INDEX = "index.html"


@task(task_run_name="orient {reduction}", **TASK_OPTIONS)
def orient(
    reduction: str, store: Path, config: OrientationConfig | None = None, workers: str | None = None
) -> str:
    """Refine the orientation of every frame of a reduced series.

    Parameters
    ----------
    reduction : reference of the reduction artefact.
    store : root of the artefact store.
    config : choices; None for the defaults.
    workers : address of worker processes, or None.

    Returns
    -------
    Reference of the artefact, an older one if the same was made before. Its files are report.html,
    frames.csv, orientations.cif_pets, scan_varying.expt and orientations.xds, with _2 and so on
    for further lattices.
    """
    tell(reduction, "orient")
    return carry_out(workers, orientation_artefact, reduction, store, config, flow_run_id())


def orientation_artefact(
    reduction_ref: str,
    store: Path,
    config: OrientationConfig | None = None,
    flow_run: str | None = None,
) -> str:
    """What `orient` does, without Prefect."""
    chosen = config or OrientationConfig()
    kept = ArtefactStore(store)
    source = kept.get(reduction_ref)
    series_artefact = made_from(kept, source, "series")
    recipe = Recipe(
        kind=KIND,
        name=source.manifest.name,
        inputs=(
            Input.from_artefact("reduction", source),
            Input.from_artefact("series", series_artefact),
        ),
        configuration=chosen.model_dump(mode="json", exclude={"iterate"}),
        seeds={"half-sets and permutations": chosen.seed},
    )
    if found := kept.find(recipe):
        return found.ref
    from ..lib.artefacts.records import write_record
    from ..lib.orientation.series import orient_series
    from ..lib.reduction.storage import read_reduction
    from ..lib.report.orientation_page import orientation_page
    from ..lib.series.storage import read_series

    series = read_series(series_artefact.arrays)
    with kept.draft(recipe, flow_run_id=flow_run) as draft:
        done, data = orient_series(
            series, read_reduction(source.arrays), chosen, partial(tell, series.name)
        )
        write_record(draft.arrays, done)
        files = _hand_over(draft, done, data)
        page = orientation_page(done, files, kept.ancestors(series_artefact.ref, source.ref))
        (draft.files / PAGE).write_text(page, encoding="utf-8")
        draft.notes += done.lattices[0].notes
        draft.figures_of_merit = figures_of(done)
        return draft.publish().ref


def _hand_over(
    draft: Draft, done: OrientedSeries, data: Sequence[OrientationData]
) -> dict[str, str]:
    """Write the files for other programs; what each is, by name."""
    from ..lib.errors import UserError
    from ..lib.orientation.hand_over import write_cif_pets, write_dials, write_table, write_xds_like

    what = {}
    for number, (one, lattice) in enumerate(zip(data, done.lattices, strict=True), 1):
        more = "" if number == 1 else f"_{number}"
        numbers, found = done.frame_number, lattice.found
        write_table(draft.files / f"frames{more}.csv", one, found, numbers)
        what[f"frames{more}.csv"] = "every frame: orientation, zone axis, errors, flags"
        name = f"orientations{more}.cif_pets"
        write_cif_pets(draft.files / name, one, found, numbers)
        what[name] = "orientations and intensities of frames, as PETS2 gives them to JANA2020"
        name = f"orientations{more}.xds"
        write_xds_like(draft.files / name, one, found, numbers)
        what[name] = "cell axes of each frame in the laboratory frame of XDS"
        name = f"scan_varying{more}.expt"
        try:
            write_dials(draft.files / name, one, found, numbers, done.shape)
            what[name] = "scan-varying crystal for DIALS"
        except UserError as error:
            draft.notes += (f"{name} was not written: {error}",)
    return what


def figures_of(done: OrientedSeries) -> dict[str, Any]:
    """The few numbers that stand for the orientations of a series in a table."""
    lattice = done.lattices[0]
    study = lattice.study
    found = lattice.found
    worst, _ = _errors(found)
    numbers: dict[str, float] = {
        "rotation_scale": found.rotation_scale,
        "worst_sd_deg": worst,
        **{
            f"half_{axis}_{'published' if p.method == 'published' else 'default'}_deg": value
            for p in lattice.precision
            if p.method in (found.method, "published")
            for axis, value in (("along", p.half_along_deg), ("perp", p.half_perp_deg))
        },
        **found.figures,
    }  # fmt: skip
    if study is not None:
        numbers |= {
            "jitter_along_deg": study.jitter_along_deg,
            "jitter_perp_deg": study.jitter_perp_deg,
            "half_jitter_along_deg": study.half_jitter_along_deg,
            "half_jitter_perp_deg": study.half_jitter_perp_deg,
            "step_sd_deg": study.spread.true_sd,
            "rotation_scale_sd": study.scale_sd,
            "backlash_deg": study.backlash_deg,
            "wave_in_plane_deg": study.in_plane.best.amplitude,
            "wave_out_of_plane_deg": study.out_of_plane.best.amplitude,
        }
    return {
        "method": found.method,
        "instrument": done.instrument,
        "frames": len(done.frame_number),
        "lattices": len(done.lattices),
        "flagged": sum(bool(flag) for flag in found.flag),
        **_finite(numbers),
    }


def _errors(found: Any) -> tuple[float, float]:
    import numpy as np

    from ..lib.orientation.hand_over import principal_errors

    sd, _ = principal_errors(found.covariance_deg2)
    known = sd[np.isfinite(sd).all(axis=1)]
    if not len(known):
        return float("nan"), float("nan")
    return float(np.median(known[:, 0])), float(np.median(known[:, 1]))


@task(task_run_name="integrate {reduction} again", **TASK_OPTIONS)
def integrate_again(
    reduction: str, store: Path, config: OrientationConfig | None = None, workers: str | None = None
) -> str:
    """Integrate a reduced series again, with the refined orientation of every frame.

    Returns
    -------
    Reference of another `reduction` artefact, made from the series and the first reduction.
    """
    tell(reduction, "integrate again")
    return carry_out(workers, integrated_again, reduction, store, config, flow_run_id())


def integrated_again(
    reduction_ref: str,
    store: Path,
    config: OrientationConfig | None = None,
    flow_run: str | None = None,
) -> str:
    """What `integrate_again` does, without Prefect."""
    from ..lib.reduction.storage import SCHEMA_VERSION

    chosen = config or OrientationConfig()
    kept = ArtefactStore(store)
    source = kept.get(reduction_ref)
    series_artefact = made_from(kept, source, "series")
    recipe = Recipe(
        kind="reduction",
        name=source.manifest.name,
        schema_version=SCHEMA_VERSION,
        inputs=(
            Input.from_artefact("series", series_artefact),
            Input.from_artefact("reduction", source),
        ),
        configuration={"orientations": chosen.model_dump(mode="json", include={"window_per_A"})},
        seeds={"half-sets": chosen.seed},
    )
    if found := kept.find(recipe):
        return found.ref
    from ..lib.orientation.series import integrate_again
    from ..lib.reduction.storage import read_reduction, write_reduction
    from ..lib.reduction.xds_ascii import write_xds_ascii
    from ..lib.report.summary import headline
    from ..lib.series.storage import read_series

    series = read_series(series_artefact.arrays)
    with kept.draft(recipe, flow_run_id=flow_run) as draft:
        done = integrate_again(
            series, read_reduction(source.arrays), chosen, partial(tell, series.name)
        )
        write_reduction(draft.arrays, done)
        for number, lattice in enumerate(done.lattices, 1):
            name = "XDS_ASCII.HKL" if number == 1 else f"XDS_ASCII_{number}.HKL"
            write_xds_ascii(
                draft.files / name, lattice, done.frames, name=series.name, shape=series.shape,
                overload=series.saturation,
            )  # fmt: skip
        draft.notes += done.notes
        draft.figures_of_merit = {
            "engine": "refined orientations",
            "verdict": done.verdict,
            "headline": _finite(vars(headline(done))),
            "statistics": _finite(done.statistics),
            "seconds": _finite(done.seconds),
        }
        return draft.publish().ref


@task(task_run_name="goniometer of {name}", **TASK_OPTIONS)
def study_sessions(
    orientations: Sequence[str], store: Path, name: str, failed: Mapping[str, str] | None = None
) -> str:
    """Compare the goniometer over series and sessions of an instrument.

    Parameters
    ----------
    orientations : references of `orientation` artefacts; earlier ones of the same instruments
        that the store keeps are taken in too.
    store : root of the artefact store.
    name : of the study.
    failed : series that could not be refined, and why.

    Returns
    -------
    Reference of the `goniometer` artefact, an older one if the same was made before. Its file is
    index.html.
    """
    return goniometer_artefact(orientations, store, name, failed, flow_run_id())


def goniometer_artefact(
    orientations: Sequence[str],
    store: Path,
    name: str,
    failed: Mapping[str, str] | None = None,
    flow_run: str | None = None,
) -> str:
    """What `study_sessions` does, without Prefect."""
    kept = ArtefactStore(store)
    now = [kept.get(ref) for ref in orientations]
    used = _with_earlier(kept, now)
    recipe = Recipe(
        kind=STUDY,
        name=name,
        inputs=tuple(Input.from_artefact(KIND, one) for one in used),
        configuration={"failed": dict(failed or {})},
    )
    if found := kept.find(recipe):
        return found.ref
    from ..lib.report.goniometer_page import goniometer_page

    with kept.draft(recipe, flow_run_id=flow_run) as draft:
        visits = [_visit(kept, one, {a.ref for a in now}) for one in used]
        page = goniometer_page(
            name,
            visits,
            failed or {},
            kept.running_code.version,
            kept.ancestors(*(one.artefact for one in recipe.inputs if one.artefact)),
        )
        (draft.files / INDEX).write_text(page, encoding="utf-8")
        draft.figures_of_merit = {"series": len(visits), "failed": len(failed or {})}
        return draft.publish().ref


def _with_earlier(store: ArtefactStore, now: Sequence[Artefact]) -> list[Artefact]:
    """These, and the latest kept of every other series of the same instruments, oldest first."""
    instruments = {one.manifest.figures_of_merit.get("instrument") for one in now}
    names = {one.manifest.name for one in now}
    latest = {one.manifest.name: one for one in store.list(KIND)}  # sorted: later versions win
    earlier = [
        one
        for name, one in latest.items()
        if name not in names and one.manifest.figures_of_merit.get("instrument") in instruments
    ]
    return sorted([*earlier, *now], key=lambda one: (one.manifest.finished, one.ref))


def _visit(store: ArtefactStore, artefact: Artefact, now: set[str]) -> Visit:
    from ..lib.artefacts.records import read_record
    from ..lib.orientation.series import OrientedSeries
    from ..lib.report.goniometer_page import Visit

    done = read_record(artefact.arrays, OrientedSeries)
    taken = made_from(store, artefact, "series").manifest.finished
    return Visit(
        name=done.name,
        instrument=done.instrument,
        when=taken,
        oriented=done,
        link=f"../../../../{below(store, artefact)}/files/{PAGE}",
        earlier=artefact.ref not in now,
    )


def _finite(figures: Mapping[str, Any]) -> dict[str, Any]:
    # NaN stands for "there is none" inside; in a manifest that is null
    return {name: None if value != value else value for name, value in figures.items()}
