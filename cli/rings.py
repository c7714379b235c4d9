"""ewaldflow calibrate-rings, recenter, check-drift and calibrate-axis."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import options
from .output import console, progress, table
from .reduce import STORE, Store, prepare, shown

if TYPE_CHECKING:
    from ..flows.calibrate_rings import Calibrated
    from ..lib.artefacts import Artefact
    from ..lib.rings.config import RingConfig

_KNOWN = "What the images do not say"
_FIT = "How it is fitted"
_RUN = "How it is run"

Images = Annotated[list[Path], typer.Argument(metavar="IMAGE", help="DM3, DM4, EMD, MRC, TIFF...")]
Calibrant = Annotated[
    str,
    typer.Option(
        metavar="NAME|CIF", rich_help_panel=_KNOWN,
        help="gold, aluminium, TlCl, 'graphitised carbon', or a CIF.",
    ),
]  # fmt: skip
Voltage = Annotated[
    float | None,
    typer.Option(metavar="kV", help="Accelerating voltage.", rich_help_panel=_KNOWN),
]
PixelSize = Annotated[
    float | None,
    typer.Option("--pixel-size", metavar="mm", help="Edge of a pixel.", rich_help_panel=_KNOWN),
]
CameraLength = Annotated[
    float | None,
    typer.Option(
        "--camera-length", metavar="mm", rich_help_panel=_KNOWN,
        help="About what it truly is: a start and a check, to 15 %.",
    ),
]  # fmt: skip
Displayed = Annotated[
    list[float] | None,
    typer.Option(
        "--displayed", metavar="mm", rich_help_panel=_KNOWN,
        help="Camera length that the microscope displayed, which names the setting; once, or for "
        "each image.",
    ),
]  # fmt: skip
Config = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="All choices, as YAML.", rich_help_panel=_FIT),
]
Name = Annotated[
    str, typer.Option(metavar="NAME", help="Name of the result.", rich_help_panel=_RUN)
]


def calibrate_rings(
    images: Images,
    store: Store = STORE,
    calibrant: Calibrant = "gold",
    voltage: Voltage = None,
    pixel_size: PixelSize = None,
    camera_length: CameraLength = None,
    displayed: Displayed = None,
    tilt: Annotated[
        bool | None,
        typer.Option(
            help="Fit the detector's tilt too; ambiguous with one camera length.",
            rich_help_panel=_FIT,
        ),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            metavar="REF|PONI", help="Earlier calibration to start from.", rich_help_panel=_FIT
        ),
    ] = None,
    config: Config = None,
    name: Name = "rings",
) -> int:
    """Calibrate a camera by images of powder rings.

    Camera length, beam centre, ellipse of the lenses and, if asked for, tilt, with errors. Images
    given together are fitted together. The result is compared with the last one of the same
    camera and camera length, and what moved is told.

    Exit code 1 if rings were found that do not make a calibration; the page says why.

    **Examples**

    - `ewaldflow calibrate-rings gold.dm4`
    - `ewaldflow calibrate-rings gold.tif --voltage 200 --pixel-size 0.055 --displayed 800`
    - `ewaldflow reduce crystal_1 --calibration rings/rings`
    """
    chosen = _config(config, voltage, pixel_size, camera_length, tilt=tilt)
    prepare(store)
    with progress(1):
        from ..flows.calibrate_rings import calibrate_rings as flow

        done = flow(images, store, calibrant, name, chosen, start, None, displayed or ())
    return _conclude(done, store)


def check_drift(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where images come to lie.")],
    store: Store = STORE,
    calibrant: Calibrant = "gold",
    voltage: Voltage = None,
    pixel_size: PixelSize = None,
    camera_length: CameraLength = None,
    displayed: Displayed = None,
    pattern: Annotated[
        str, typer.Option(metavar="GLOB", help="Names of the images.", rich_help_panel=_RUN)
    ] = "*",
    config: Config = None,
    name: Name = "rings",
) -> int:
    """Calibrate with the newest image in a folder, and warn of what moved. For a schedule.

    Exit code 1 if something moved beyond its limit, or the image does not calibrate.

    **Example**

    - `ewaldflow check-drift /data/gold --pattern "*.dm4"`
    """
    chosen = _config(config, voltage, pixel_size, camera_length)
    prepare(store)
    with progress(1):
        from ..flows.calibrate_rings import calibrate_rings as flow
        from ..tasks.rings import newest_image

        newest = [newest_image(folder, pattern)]
        done = flow(newest, store, calibrant, name, chosen, None, None, displayed or ())
    return _conclude(done, store) or int(bool(done.warnings))


def _config(
    path: Path | None,
    voltage: float | None,
    pixel_size: float | None,
    camera_length: float | None,
    **more: Any,
) -> RingConfig:
    from ..lib.rings.config import RingConfig

    return options.chosen(
        RingConfig, path,
        wavelength_A=options.stated_overrides(voltage_kV=voltage).exact_wavelength_A,
        pixel_size_mm=pixel_size, camera_length_mm=camera_length, **more,
    )  # fmt: skip


def _conclude(done: Calibrated, store: Path) -> int:
    from ..lib.artefacts import ArtefactStore
    from ..lib.rings.calibration import CALIBRATED
    from ..lib.rings.storage import read_calibrations
    from ..tasks.report import INDEX, PAGE

    kept = ArtefactStore(store)
    artefact = kept.get(done.rings)
    out = console()
    out.print(_table(artefact))
    bad = [one for one in read_calibrations(artefact) if one.verdict != CALIBRATED]
    for one in bad:
        for reason in one.reasons:
            print(f"ewaldflow: {one.name}: {reason}", file=sys.stderr)
    for warning in done.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    out.print(f"\n{done.rings}: {shown(artefact.files / PAGE)}", soft_wrap=True)
    if done.drift:
        out.print(f"drift: {shown(kept.folder(done.drift) / 'files' / INDEX)}", soft_wrap=True)
    return 1 if bad else 0


def _table(artefact: Artefact) -> Any:
    from ..lib.report.notation import with_esd
    from ..lib.rings.storage import read_calibrations

    rows = []
    for one in read_calibrations(artefact):
        row, column = one.beam_centre_px
        rows.append((
            one.name, one.verdict, with_esd(one.distance_mm, one.sd("distance_mm"), 3),
            f"{one.per_A_per_px:.6f}", with_esd(row, one.sd("beam_row_px"), 3),
            with_esd(column, one.sd("beam_column_px"), 3),
            with_esd(one.distortion.ratio, one.sd("ratio"), 4),
            with_esd(one.distortion.azimuth_deg, one.sd("azimuth_deg"), 2), str(len(one.rings)),
        ))  # fmt: skip
    headings = ("image", "verdict", "camera length / mm", "1/Å per px", "row / px", "column / px",
                "ratio", "azimuth / °", "rings")  # fmt: skip
    return table(headings, rows, right=range(2, 9))


def recenter(
    images: Images,
    calibration: Annotated[
        str, typer.Option("--calibration", metavar="REF|PONI", help="Of the camera.")
    ],
    store: Store = STORE,
    workers: options.Workers = 1,
    scheduler: options.Scheduler = None,
    name: Name = "images",
) -> int:
    """Find the direct beam on images of a calibrated camera.

    Gives a table of centres, a PONI for each image, and a page. An image on which no beam is
    found does not stop the others. Exit code 1 if some failed, 2 if all did.

    **Examples**

    - `ewaldflow recenter day2/*.dm4 --calibration rings/rings`
    - `ewaldflow recenter day2/*.tif --calibration calibration.poni --workers 4`
    """
    from ..lib.artefacts import ArtefactStore

    n_workers = min(workers, len(images))
    prepare(store)
    with progress(1):
        from ..flows.recenter import recenter as flow

        ref = flow(images, calibration, store, name, n_workers, scheduler)
    from ..tasks.report import PAGE

    artefact = ArtefactStore(store).get(ref)
    figures: dict[str, Any] = artefact.manifest.figures_of_merit
    failed, number = int(figures["failed"]), int(figures["images"])
    for note in artefact.manifest.notes:
        print(f"ewaldflow: {note}", file=sys.stderr)
    out = console()
    out.print(f"{number - failed} of {number} images recentred", highlight=False)
    out.print(f"{ref}: {shown(artefact.files / PAGE)}", soft_wrap=True)
    return 0 if not failed else 2 if failed == number else 1


def calibrate_axis(
    indexed: Annotated[
        list[str],
        typer.Argument(
            metavar="REDUCTION_REF|FILE",
            help="Reductions; or .pts of PETS2, .expt of DIALS, INTEGRATE.HKL or SPOT.XDS.",
        ),
    ],
    store: Store = STORE,
    workers: options.Workers = 1,
    scheduler: options.Scheduler = None,
    reach: Annotated[
        float,
        typer.Option(metavar="°", min=0.5, help="Half range of the search.", rich_help_panel=_FIT),
    ] = 10.0,
    name: Name = "axis",
) -> int:
    """Calibrate the rotation axis of an instrument by indexed series.

    A sequential search as in PETS, then refinement of azimuth and elevation; several series show
    how well the axis is known. Prints the axis as an instrument's YAML and other programs take it.

    Exit code 1 if some series tell no axis.

    **Examples**

    - `ewaldflow calibrate-axis reduction/crystal_1 reduction/crystal_2`
    - `ewaldflow calibrate-axis glycine.pts xds/INTEGRATE.HKL`
    """
    from ..lib.artefacts import ArtefactStore

    n_workers = min(workers, len(indexed))
    prepare(store)
    with progress(len(indexed)):
        from ..flows.calibrate_axis import calibrate_axis as flow

        ref = flow(indexed, store, name, reach, n_workers, scheduler)
    from ..tasks.report import PAGE
    from ..tasks.rotation_axis import YAML

    artefact = ArtefactStore(store).get(ref)
    for note in artefact.manifest.notes:
        print(f"ewaldflow: {note}", file=sys.stderr)
    print((artefact.files / YAML).read_text(encoding="utf-8"), end="")
    console().print(f"{ref}: {shown(artefact.files / PAGE)}", soft_wrap=True)
    return 1 if artefact.manifest.figures_of_merit["failed"] else 0
