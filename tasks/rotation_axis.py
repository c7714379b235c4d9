"""calibrate axis: indexed series become a `rotation-axis` artefact."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from prefect import task

from ..lib.artefacts import ArtefactStore, Input, Recipe
from ..lib.artefacts.durable import sha256_file
from ..lib.errors import UserError
from .progress import tell
from .report import PAGE, made_from
from .running import TASK_OPTIONS, flow_run_id
from .workers import carry_out_each

if TYPE_CHECKING:
    from ..lib.orientation.observations import OrientationData
    from ..lib.orientation.rotation_axis import AxisCalibration, SeriesAxis

KIND = "rotation-axis"
YAML = "axis.yaml"


@task(task_run_name="calibrate axis {name}", **TASK_OPTIONS)
def calibrate_axis(
    indexed: Sequence[str],
    store: Path,
    name: str,
    reach_deg: float = 10.0,
    workers: str | None = None,
) -> str:
    """Calibrate the rotation axis of an instrument by indexed series.

    Parameters
    ----------
    indexed : references of reductions; or files: a .pts of PETS2, a .expt of DIALS with its .refl,
        an INTEGRATE.HKL or SPOT.XDS of XDS.
    store : root of the artefact store.
    name : of the calibration.
    reach_deg : half range of the search.
    workers : address of worker processes, or None.

    Returns
    -------
    Reference of the artefact, an older one if the same was made before. Its files are report.html
    and axis.yaml. A series that tells no axis has its reason there.

    Raises
    ------
    UserError : no series tells an axis, or they are of several instruments.
    """
    return axis_artefact(indexed, store, name, reach_deg, workers, flow_run_id())


def axis_artefact(
    indexed: Sequence[str],
    store: Path,
    name: str,
    reach_deg: float = 10.0,
    workers: str | None = None,
    flow_run: str | None = None,
) -> str:
    """What `calibrate_axis` does, without Prefect."""
    kept = ArtefactStore(store)
    inputs = tuple(item for said in indexed for item in _inputs(said, kept))
    recipe = Recipe(kind=KIND, name=name, inputs=inputs, configuration={"reach_deg": reach_deg})
    if found := kept.find(recipe):
        return found.ref
    from ..lib.artefacts.records import write_record
    from ..lib.orientation.rotation_axis import combine_axes
    from ..lib.report.axis_page import axis_page

    done = carry_out_each(
        workers, series_axes, [(said, store, reach_deg) for said in indexed],
        lambda n: tell(name, "find axis", n / len(indexed)),
    )  # fmt: skip
    failed = {said: why for said, (_, why) in zip(indexed, done, strict=True) if why}
    good = [one for axes, _ in done for one in axes]
    if not good:
        said, why = next(iter(failed.items()))
        raise UserError(name, f"no series that tells an axis ({said}: {why})", "one", "give others")
    calibration = combine_axes(good)
    with kept.draft(recipe, flow_run_id=flow_run) as draft:
        write_record(draft.arrays, calibration)
        (draft.files / YAML).write_text(axis_text(calibration), encoding="utf-8")
        page = axis_page(
            name,
            calibration,
            failed,
            YAML,
            kept.running_code.version,
            kept.ancestors(*(one.artefact for one in recipe.inputs if one.artefact)),
        )
        (draft.files / PAGE).write_text(page, encoding="utf-8")
        draft.notes += [*calibration.notes, *(f"{said}: {why}" for said, why in failed.items())]
        draft.figures_of_merit = {
            "azimuth_deg": calibration.azimuth_deg,
            "azimuth_sd_deg": calibration.azimuth_sd_deg,
            "elevation_deg": calibration.elevation_deg,
            "elevation_sd_deg": calibration.elevation_sd_deg,
            "series": len(good),
            "failed": len(failed),
        }
        return draft.publish().ref


def series_axes(said: str, store: Path, reach_deg: float) -> tuple[list[SeriesAxis], str]:
    """The axis by the strongest lattice of one series; what is wrong with it is its reason."""
    from ..lib.orientation.rotation_axis import calibrate_axis as by_one

    try:
        return [by_one(_load(said, ArtefactStore(store)), reach_deg)], ""
    except UserError as error:
        return [], str(error)
    except Exception as error:  # one series' fault is not the others'
        return [], f"unexpected {type(error).__name__}: {error}".splitlines()[0]


def _load(said: str, store: ArtefactStore) -> OrientationData:
    path = Path(said)
    if path.suffix == ".pts":
        from ..lib.orientation.from_pets import from_pets

        return from_pets(path)
    if path.suffix == ".expt":
        from ..lib.orientation.from_dials import from_dials

        return from_dials(path, path.with_suffix(".refl"), centroids=True)
    if _is_file(said):
        from ..lib.orientation.from_xds import from_xds

        return from_xds(path)
    from ..lib.orientation.from_reduction import from_reduction
    from ..lib.reduction.storage import read_reduction
    from ..lib.series.storage import read_series

    source = store.get(said)
    series = made_from(store, source, "series")
    return from_reduction(read_series(series.arrays), read_reduction(source.arrays))[0]


def _is_file(said: str) -> bool:
    return Path(said).suffix in {".pts", ".expt", ".HKL", ".XDS"}


def _inputs(said: str, store: ArtefactStore) -> list[Input]:
    """What a series is made from, for the recipe.

    Raises
    ------
    UserError : no such artefact or file, or an artefact of another kind.
    """
    if not _is_file(said):
        artefact = store.get(said)
        if artefact.manifest.kind != "reduction":
            raise UserError(artefact.ref, f"an artefact of kind '{artefact.manifest.kind}'",
                            "a reduction", "name one that `ewaldflow reduce` made")  # fmt: skip
        return [Input.from_artefact("reduction", artefact)]
    path = Path(said)
    beside = {".pts": (".rpl", ".cor"), ".expt": (".refl",)}.get(path.suffix, ())
    files = [path, *(p for p in (path.with_suffix(s) for s in beside) if p.exists())]
    try:
        return [
            Input(role="indexed", digest=sha256_file(one), path=str(one.absolute()))
            for one in files
        ]
    except OSError as error:
        raise UserError(path, str(error.strerror).lower(), "a readable file", "check it") from None


def axis_text(calibration: AxisCalibration) -> str:
    """The axis for the YAML of an instrument, and as other programs are told it."""
    x, y, z = calibration.axis
    return "\n".join([
        f"# azimuth {calibration.azimuth_deg:.4f} +- {calibration.azimuth_sd_deg:.4f} degrees from "
        "x (columns) towards y (rows),",
        f"# elevation {calibration.elevation_deg:.4f} +- {calibration.elevation_sd_deg:.4f} "
        f"degrees along the beam; from {len(calibration.series)} series",
        f"# XDS:        ROTATION_AXIS= {x:.6f} {y:.6f} {z:.6f}",
        f"# DIALS:      geometry.goniometer.axes={x:.6f},{-y:.6f},{-z:.6f}",
        f"# instamatic: {calibration.instamatic_rad:.5f} rad; "
        f"PETS2: omega {calibration.pets_omega_deg:.4f}",
        f"rotation_axis: [{x:.6f}, {y:.6f}, {z:.6f}]",
        "",
    ])  # fmt: skip
