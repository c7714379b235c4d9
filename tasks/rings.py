"""calibrate rings: images of a powder become a `rings` artefact, and a `ring-drift` check."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from prefect import task
from prefect.artifacts import create_table_artifact

from ..lib.artefacts import ArtefactStore, Input, Recipe
from ..lib.artefacts.durable import sha256_file
from ..lib.errors import UserError
from ..lib.rings.calibration import CALIBRATED, RingCalibration
from ..lib.rings.config import RingConfig
from ..lib.rings.drift import DriftLimits
from .pictures import Picture, looking_on, show_pictures
from .progress import tell
from .report import INDEX, PAGE, below
from .running import TASK_OPTIONS, flow_run_id
from .workers import carry_out

if TYPE_CHECKING:
    from ..lib.formats import DiffractionImage
    from ..lib.report.ring_drift_page import Dated
    from ..lib.rings.calibrate import RingFit

KIND = "rings"
DRIFT = "ring-drift"
YAML, INSTRUMENT = "calibration.yaml", "instrument.yaml"


@task(task_run_name="calibrate rings {name}", **TASK_OPTIONS)
def calibrate(
    images: Sequence[Path],
    calibrant: str,
    store: Path,
    name: str,
    config: RingConfig | None = None,
    start: str | None = None,
    displayed_mm: Sequence[float] = (),
    workers: str | None = None,
) -> str:
    """Calibrate a camera by images of powder rings, fitted together.

    Parameters
    ----------
    images : of one powder on one camera, one or more.
    calibrant : name of a known one, or path of a CIF.
    store : root of the artefact store.
    name : of the calibration.
    config : choices; None for the defaults.
    start : reference of an earlier calibration, or path of a PONI, to start from.
    displayed_mm : camera length that the microscope displayed, of each image or one of all, where
        files do not say it. It names the setting; the true one may be quite another.
    workers : address of worker processes, or None.

    Returns
    -------
    Reference of the artefact, an older one if the same was made before, also where the verdict is
    "not calibrated". Its files are report.html, calibration.yaml and, if calibrated, a PONI and
    maps for each image and instrument.yaml.
    """
    tell(name, "calibrate rings")
    return carry_out(
        workers, rings_artefact, images, calibrant, store, name, config, start, displayed_mm,
        flow_run_id(),
    )  # fmt: skip


def rings_artefact(
    images: Sequence[Path],
    calibrant: str,
    store: Path,
    name: str,
    config: RingConfig | None = None,
    start: str | None = None,
    displayed_mm: Sequence[float] = (),
    flow_run: str | None = None,
) -> str:
    """What `calibrate` does, without Prefect."""
    from ..lib.formats import read_image
    from ..lib.rings.calibrants import load_calibrant

    chosen = config or RingConfig()
    kept = ArtefactStore(store)
    powder = load_calibrant(calibrant)
    read = [read_image(path) for path in images]
    if displayed_mm and len(displayed_mm) not in (1, len(read)):
        raise UserError(
            "displayed camera lengths", f"{len(displayed_mm)} for {len(read)} images",
            "one for each image, or one for all", "state them in the images' order",
        )  # fmt: skip
    inputs = [Input(role="raw", digest=one.sha256, path=one.path) for one in read]
    if (cif := Path(calibrant)).is_file():
        inputs.append(Input(role="calibrant", digest=sha256_file(cif), path=str(cif.absolute())))
    before = None
    if start is not None:
        before, role = load_calibration(start, kept, "start")
        inputs.append(role)
    recipe = Recipe(
        kind=KIND,
        name=name,
        inputs=tuple(inputs),
        configuration={
            **chosen.model_dump(mode="json"),
            "calibrant": powder.name,
            "displayed_mm": list(displayed_mm),
        },
    )
    if found := kept.find(recipe):
        return found.ref
    from ..lib.report.rings_page import rings_page
    from ..lib.rings.calibrate import fit_rings
    from ..lib.rings.storage import write_fit

    fit = _displayed(fit_rings(read, powder, chosen, before), read, displayed_mm)
    with kept.draft(recipe, flow_run_id=flow_run) as draft:
        tell(name, "write report", 0.7)
        write_fit(draft.arrays, fit)
        files = _hand_over(draft.files, fit, name)
        manifests = kept.ancestors(*(one.artefact for one in recipe.inputs if one.artefact))
        page = rings_page(name, read, fit, files, manifests, kept.running_code.version)
        (draft.files / PAGE).write_text(page, encoding="utf-8")
        draft.notes += [f"{one.name}: {why}" for one in fit.calibrations for why in one.reasons]
        draft.figures_of_merit = figures_of(fit.calibrations)
        return draft.publish().ref


def _displayed(
    fit: RingFit, images: Sequence[DiffractionImage], displayed_mm: Sequence[float]
) -> RingFit:
    """The fit with the camera lengths that the microscope displayed: as stated, or as files say.

    What the fit was to start from is no such statement.
    """
    lengths: Sequence[float | None] = [one.camera_length_mm for one in images]
    if displayed_mm:
        lengths = list(displayed_mm) * (len(images) if len(displayed_mm) == 1 else 1)
    named = zip(fit.calibrations, lengths, strict=True)
    return replace(
        fit,
        calibrations=tuple(replace(one, camera_length_mm=length) for one, length in named),
    )


def _hand_over(folder: Path, fit: RingFit, name: str) -> dict[str, str]:
    """Write the files for people and programs; what each is, by name."""
    from ..lib.rings.hand_over import calibration_text, instrument_text, write_correction_maps
    from ..lib.rings.poni import write_poni

    (folder / YAML).write_text(calibration_text(fit.calibrations), encoding="utf-8")
    files = {YAML: "all that was found, with standard errors"}
    good = [one for one in fit.calibrations if one.verdict == CALIBRATED]
    for number, one in enumerate(fit.calibrations, 1):
        if one.verdict != CALIBRATED:
            continue
        more = "" if number == 1 else f"_{number}"
        write_poni(one, folder / f"calibration{more}.poni")
        files[f"calibration{more}.poni"] = f"pyFAI geometry of {one.name}"
        maps = folder if number == 1 else folder / f"maps{more}"
        maps.mkdir(exist_ok=True)
        for axis, map_ in zip("xy", write_correction_maps(one, maps), strict=True):
            path = (maps / map_).relative_to(folder).as_posix()
            files[path] = f"distortion along {axis}, {axis.upper()}-GEO_CORR of XDS"
    if good:
        (folder / INSTRUMENT).write_text(instrument_text(good, f"{KIND}/{name}"), encoding="utf-8")
        files[INSTRUMENT] = "camera length and distortion, for the YAML of an instrument"
    return files


def figures_of(calibrations: Sequence[RingCalibration]) -> dict[str, Any]:
    """The few numbers that stand for a calibration in a table."""
    first = calibrations[0]
    verdicts = {one.verdict for one in calibrations}
    numbers = {
        "distance_mm": first.distance_mm,
        "distance_sd_mm": first.sd("distance_mm"),
        "per_A_per_px": first.per_A_per_px,
        "row_px": first.beam_centre_px[0],
        "column_px": first.beam_centre_px[1],
        "centre_sd_px": max(first.sd("beam_row_px"), first.sd("beam_column_px")),
        "ratio": first.distortion.ratio,
        "ratio_sd": first.sd("ratio"),
        "azimuth_deg": first.distortion.azimuth_deg,
        "camera_length_mm": first.camera_length_mm,
    }
    return {
        # together they are what the least of them is
        "verdict": first.verdict if len(verdicts) == 1 else "some not calibrated",
        "calibrant": first.calibrant,
        "images": len(calibrations),
        "rings": len(first.rings),
        **{key: None if value != value else value for key, value in numbers.items()},
    }


def show_rings(rings: str, image: Path, store: Path) -> None:
    """Show a calibration over its first image in Prefect's pages; nothing outside of a flow run.

    Parameters
    ----------
    rings : reference of the `rings` artefact.
    image : the first of its images.
    store : root of the artefact store.
    """
    if flow_run_id() is None:
        return
    with looking_on(f"the picture of {rings}"):
        from ..lib.formats import read_image
        from ..lib.report.ring_figures import rings_over_image
        from ..lib.rings.storage import read_calibrations

        artefact = ArtefactStore(store).get(rings)
        first, pictures = read_calibrations(artefact)[0], []
        if first.rings:
            read = read_image(image)
            drawing = rings_over_image(read, first, np.ones(read.shape, bool))
            what = "Calibrated rings over two quadrants, the other two bare to compare."
            pictures.append(Picture(drawing, "the image with the calibrated rings over it", what))
        figures = artefact.manifest.figures_of_merit
        numbers = [f"- {name}: {value}" for name, value in figures.items() if value is not None]
        text = "\n".join([f"**{first.verdict}**", *artefact.manifest.notes, "", *numbers])
        show_pictures(
            f"rings-{artefact.manifest.name}", f"Rings of {artefact.manifest.name}", pictures,
            {"report": artefact.files / PAGE}, text,
        )  # fmt: skip


def load_calibration(
    said: str, store: ArtefactStore, role: str = "calibration"
) -> tuple[RingCalibration, Input]:
    """The calibration in a `rings` artefact (its first, if it has several) or a PONI file.

    Raises
    ------
    UserError : no such artefact or file, one of another kind, or a calibration that failed.
    """
    from ..lib.rings.storage import read_calibrations

    if said.endswith(".poni"):
        from ..lib.rings.poni import read_poni

        path = Path(said)
        calibration = read_poni(path)
        return calibration, Input(role=role, digest=sha256_file(path), path=str(path.absolute()))
    artefact = store.get(said)
    calibration = read_calibrations(artefact)[0]
    if calibration.verdict != CALIBRATED:
        why = calibration.reasons[0] if calibration.reasons else "no reason is kept"
        raise UserError(artefact.ref, f"'{calibration.verdict}': {why}", f"'{CALIBRATED}'",
                        "name another")  # fmt: skip
    return calibration, Input.from_artefact(role, artefact)


@task(task_run_name="drift since before {rings}", **TASK_OPTIONS)
def check_drift(
    rings: str, store: Path, limits: DriftLimits | None = None
) -> tuple[str, tuple[str, ...]]:
    """Compare a calibration with the last one of its camera and setting that the store keeps.

    Parameters
    ----------
    rings : reference of a `rings` artefact.
    store : root of the artefact store.
    limits : from which change on to warn; None for the defaults.

    Returns
    -------
    Reference of the `ring-drift` artefact (its file is index.html), and warnings, one sentence
    each; "" and none if it is not calibrated.
    """
    ref, warnings, rows = drift_artefact(rings, store, limits, flow_run_id())
    if rows:
        create_table_artifact(rows, key="ring-drift", description=f"Drift of {rings}")
    return ref, warnings


def drift_artefact(
    rings: str, store: Path, limits: DriftLimits | None = None, flow_run: str | None = None
) -> tuple[str, tuple[str, ...], list[dict[str, Any]]]:
    """What `check_drift` does, without Prefect; also a row for each change."""
    from ..lib.report.ring_drift_page import ring_drift_page
    from ..lib.rings.drift import comparable, drift

    chosen = limits or DriftLimits()
    kept = ArtefactStore(store)
    now = kept.get(rings)
    everything = _dated(kept)
    mine = next((one for one in everything if one.ref == now.ref), None)
    if mine is None:
        return "", (), []
    earlier = [one for one in everything if (one.when, one.ref) < (mine.when, mine.ref)]
    same = [one for one in earlier if comparable(one.calibration, mine.calibration)] + [mine]
    beside = [one for one in everything if one.ref == mine.ref]
    others = [
        one
        for one in [*earlier, *beside]
        if one not in same and comparable(_at(one, mine.calibration), mine.calibration)
    ]
    found = None
    if len(same) > 1:
        found = drift(mine.calibration, same[-2].calibration, same[-2].ref, chosen)
    recipe = Recipe(
        kind=DRIFT,
        name=now.manifest.name,
        inputs=tuple(
            Input.from_artefact(KIND, kept.get(ref))
            for ref in dict.fromkeys(one.ref for one in [*others, *same])
        ),
        configuration=chosen.model_dump(mode="json"),
    )
    warnings = found.warnings if found else ()
    rows = [vars(one) for one in found.changes] if found else []
    if made := kept.find(recipe):
        return made.ref, warnings, rows
    with kept.draft(recipe, flow_run_id=flow_run) as draft:
        page = ring_drift_page(
            now.manifest.name,
            same,
            others,
            found,
            chosen,
            kept.running_code.version,
            kept.ancestors(*(one.artefact for one in recipe.inputs if one.artefact)),
        )
        (draft.files / INDEX).write_text(page, encoding="utf-8")
        draft.notes += list(warnings)
        draft.figures_of_merit = {"calibrations": len(same), "warnings": len(warnings)}
        return draft.publish().ref, warnings, rows


def _dated(store: ArtefactStore) -> list[Dated]:
    """All good calibrations of the store, oldest first; of one artefact in its order."""
    from ..lib.report.ring_drift_page import Dated
    from ..lib.rings.storage import read_calibrations

    found = []
    for one in store.list(KIND):
        link = f"../../../../{below(store, one)}/files/{PAGE}"
        found += [
            Dated(one.ref, one.manifest.finished, calibration, link)
            for calibration in read_calibrations(one)
            if calibration.verdict == CALIBRATED
        ]
    return sorted(found, key=lambda one: (one.when, one.ref))


def _at(one: Dated, other: RingCalibration) -> RingCalibration:
    """The same as if taken at the camera length of another."""
    return replace(one.calibration, camera_length_mm=other.camera_length_mm)


def newest_image(folder: Path, pattern: str = "*") -> Path:
    """The file in a folder that was written last, of a format that images are read from.

    Raises
    ------
    UserError : no such folder, or no image in it.
    """
    from ..lib.formats.registry import reader_of_suffix

    try:
        files = [one for one in folder.glob(pattern) if one.is_file() and reader_of_suffix(one)]
    except OSError as error:
        raise UserError(folder, str(error.strerror), "a readable folder", "check it") from None
    if not files:
        found = "no such folder" if not folder.is_dir() else f"no image named {pattern}"
        raise UserError(folder, found, "images of powder rings", "check folder and pattern")
    return max(files, key=lambda one: (one.stat().st_mtime, one.name))
