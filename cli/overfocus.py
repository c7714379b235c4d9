"""ewaldflow calibrate-overfocus and check-overfocus."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import options
from .output import console, of_scan, progress, table
from .reduce import STORE, Store, prepare, shown

if TYPE_CHECKING:
    from ..flows.calibrate_overfocus import OverfocusOutcome
    from ..lib.overfocus.plan import Plan

_RUN = "How it is run"
_HOW = "How it is calibrated"
_STATED = "What the files say wrongly or not at all"
_PAPER = "The published method, beside the default one"


class Drift(StrEnum):
    """Drift of the specimen that is fitted."""

    NONE = "none"
    CURVED = "curved"
    ALL = "all"


def _number(flags: str, metavar: str, text: str) -> Any:
    return typer.Option(flags, metavar=metavar, help=text, rich_help_panel=_STATED)


ScanShape = Annotated[
    tuple[int, int] | None,
    _number("--scan-shape", "ROWS COLUMNS", "Scan points, where a file has but frames in a row."),
]
ScanStep = Annotated[float | None, _number("--scan-step", "nm", "Distance of scan points.")]
CameraLength = Annotated[
    float | None, _number("--camera-length", "mm", "From specimen to detector.")
]
PixelSize = Annotated[float | None, _number("--pixel-size", "mm", "Edge of a detector pixel.")]
Voltage = Annotated[float | None, _number("--voltage", "kV", "Accelerating voltage.")]
Saturation = Annotated[
    float | None, _number("--saturation", "COUNTS", "Counts at which a pixel is overloaded.")
]


def calibrate_overfocus(
    scans: Annotated[
        list[str],
        typer.Argument(metavar="SCAN", help="Files, zarr folders, or `scan` artefacts."),
    ],
    store: Store = STORE,
    workers: options.Workers = 1,
    scheduler: options.Scheduler = None,
    keep: Annotated[
        bool,
        typer.Option(help="Keep a copy of the scan in the store.", rich_help_panel=_RUN),
    ] = True,
    scan_shape: ScanShape = None,
    scan_step: ScanStep = None,
    camera_length: CameraLength = None,
    pixel_size: PixelSize = None,
    voltage: Voltage = None,
    saturation: Saturation = None,
    underfocus: Annotated[
        bool,
        typer.Option(
            "--underfocus",
            help="The focus lay below the specimen. Frames cannot tell: the other sign turns all "
            "by 180°.",
            rich_help_panel=_HOW,
        ),
    ] = False,
    binning: Annotated[
        int | None,
        typer.Option(metavar="PX", help="Detector pixels binned.", rich_help_panel=_HOW),
    ] = None,
    drift: Annotated[
        Drift | None,
        typer.Option(help="Drift of the specimen that is fitted.", rich_help_panel=_HOW),
    ] = None,
    verify_twin: Annotated[
        bool,
        typer.Option(
            "--verify-twin",
            help="Compare with rays traced by TemGym Basic, and draw them.",
            rich_help_panel=_HOW,
        ),
    ] = False,
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="All choices, as YAML.", rich_help_panel=_HOW),
    ] = None,
    paper: Annotated[
        bool,
        typer.Option("--paper", help="Also minimise blur by shgo.", rich_help_panel=_PAPER),
    ] = False,
    start_rotation: Annotated[
        float | None,
        typer.Option(metavar="°", help="Where it starts, within 10°.", rich_help_panel=_PAPER),
    ] = None,
    start_overfocus: Annotated[
        float | None,
        typer.Option(metavar="µm", help="Where it starts, within 25 %.", rich_help_panel=_PAPER),
    ] = None,
    start_flip: Annotated[
        bool | None, typer.Option(help="Handedness, which it cannot find.", rich_help_panel=_PAPER)
    ] = None,
    spread: Annotated[
        bool,
        typer.Option("--spread", help="Start at every 15° and both flips.", rich_help_panel=_PAPER),
    ] = False,
) -> int:
    """Find scan rotation, handedness, overfocus and descan error from a defocused 4D-STEM scan.

    No start value is needed. The page of each scan shows the specimen as all frames agree on
    it, the matrices, the angle as each program names it, and how sure they are. A scan that does
    not tell is "not calibrated", with the reason; the exit code is then 1.

    While it runs, `STORE/.live/NAME.html` shows how far it is.

    **Examples**

    - `ewaldflow calibrate-overfocus gold.mib --scan-shape 64 64`
    - `ewaldflow calibrate-overfocus gold_master.h5 --scan-step 12.5 --camera-length 500`
    - `ewaldflow calibrate-overfocus scan/gold@v0001 --paper --verify-twin`
    """
    stated = options.scan_stated(
        scan_shape, scan_step, camera_length, pixel_size, voltage, saturation
    )
    plan = _plan(
        config, underfocus, binning, drift, verify_twin,
        paper or spread or start_rotation is not None or start_overfocus is not None,
        start_rotation, start_overfocus, start_flip, spread,
    )  # fmt: skip
    prepare(store)
    with progress(len(scans), of_scan):
        from ..flows.calibrate_overfocus import calibrate_overfocus as flow

        done = flow(scans, store, plan, stated, keep, workers, scheduler)
    return _conclude(done, store)


def check_overfocus(
    calibration: Annotated[
        str,
        typer.Argument(metavar="CALIBRATION", help="`overfocus` artefact, or calibration.yaml."),
    ],
    scan: Annotated[
        str, typer.Argument(metavar="SCAN", help="File, zarr folder, or `scan` artefact.")
    ],
    store: Store = STORE,
    scan_shape: ScanShape = None,
    saturation: Saturation = None,
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="All choices, as YAML.", rich_help_panel=_HOW),
    ] = None,
) -> int:
    """Tell whether an old calibration still holds, by a new overfocused scan.

    The new scan is calibrated by itself and compared. Exit code 0 if the old one holds, 1 if it
    does not or the scan does not tell.

    **Example**

    - `ewaldflow check-overfocus overfocus/gold@v0001 today.mib --scan-shape 64 64`
    """
    from ..lib.overfocus.config import OverfocusConfig

    stated = options.scan_stated(scan_shape, saturation=saturation)
    chosen = options.chosen(OverfocusConfig, config)
    prepare(store)
    with progress(1, of_scan):
        from ..flows.check_overfocus import check_overfocus as flow

        ref = flow(calibration, scan, store, chosen, stated)
    from ..lib.artefacts import ArtefactStore
    from ..tasks.overfocus import PAGE

    kept = ArtefactStore(store)
    manifest = kept.get(ref).manifest
    figures: dict[str, Any] = manifest.figures_of_merit
    row = [
        figures["verdict"],
        _value(figures, "rotation_deg", "{:+.3f}"),
        _value(figures, "scale_percent", "{:+.3f}"),
        _value(figures, "descan_px", "{:.4f}"),
        shown(kept.folder(ref) / "files" / PAGE),
    ]
    headings = ["calibration", "rotation / °", "scale / %", "descan / px", "report"]
    console().print(table(headings, [row], right=(1, 2, 3)))
    if figures["verdict"] == "holds":
        return 0
    console().print(f"\n{' '.join(manifest.notes)}", soft_wrap=True)
    return 1


def _plan(
    config: Path | None,
    underfocus: bool,
    binning: int | None,
    drift: Drift | None,
    verify_twin: bool,
    paper: bool,
    rotation: float | None,
    overfocus: float | None,
    flip: bool | None,
    spread: bool,
) -> Plan:
    from ..lib.errors import UserError
    from ..lib.overfocus.config import OverfocusConfig
    from ..lib.overfocus.plan import Plan, PublishedStart

    if overfocus is not None and (overfocus < 0) != underfocus:
        raise UserError(
            "--start-overfocus", f"{overfocus:g} µm",
            f"a {'negative' if underfocus else 'positive'} height, as the focus is stated to lie "
            f"{'below' if underfocus else 'above'} the specimen",
            "change its sign or --underfocus",
        )  # fmt: skip
    chosen = options.chosen(
        OverfocusConfig, config, overfocused=False if underfocus else None, binning=binning,
        drift=None if drift is None else drift.value,
    )  # fmt: skip
    start = options.chosen(
        PublishedStart, None, scan_rotation_deg=rotation, overfocus_um=overfocus, flip_y=flip,
        spread=spread,
    )  # fmt: skip
    return Plan(config=chosen, published=start if paper else None, verify_twin=verify_twin)


def _conclude(done: Sequence[OverfocusOutcome], store: Path) -> int:
    from ..lib.artefacts import ArtefactStore
    from ..tasks.overfocus import PAGE

    failed = [one for one in done if not one.overfocus]
    if len(failed) == len(done) == 1:
        print(f"ewaldflow: {failed[0].reason}", file=sys.stderr)
        return 2
    kept = ArtefactStore(store)
    rows = []
    for one in done:
        if not one.overfocus:
            rows.append([one.source, "failed", "", "", "", "", one.reason])
            continue
        page = shown(kept.folder(one.overfocus) / "files" / PAGE)
        figures = one.figures or {}
        numbers = [
            _value(figures, "scan_rotation_deg", "{:.3f}"),
            "" if "flip_y" not in figures else "flip y" if figures["flip_y"] else "no flip",
            _value(figures, "scale_px", "{:.4f}"),
            _value(figures, "overfocus_um", "{:.3f}"),
        ]
        rows.append([one.overfocus, one.verdict, *numbers, page])
    headings = [
        "calibration", "verdict", "rotation / °", "handedness", "scale / px", "overfocus / µm",
        "report",
    ]  # fmt: skip
    console().print(table(headings, rows, right=(2, 4, 5)))
    for one in done:
        if one.overfocus and one.reason:
            console().print(f"\n{one.source}: not calibrated. {one.reason}", soft_wrap=True)
    if len(failed) == len(done):
        return 2
    return 1 if failed or any(one.reason for one in done) else 0


def _value(figures: dict[str, Any], name: str, form: str) -> str:
    value = figures.get(name)
    return "" if value is None else form.format(value)
