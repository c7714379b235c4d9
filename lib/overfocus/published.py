"""The published method run beside the default one, to be compared with it."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
from distributed import Client

from ..errors import UserError
from ..stem4d.scan import Scan4D
from .calibration import CALIBRATED, ScanCalibration
from .model import matrices_of, matrices_of_calibration, parameters_of
from .parameters import OverfocusParameters
from .plan import PublishedStart
from .result import PublishedSearch, lengths_m
from .search import Evaluation, search_many, spread_starts
from .views import stage_with

Tell = Callable[[int, Evaluation], None]

_OPTIONS = {
    "scan_pixel_size_m": "--scan-step",
    "camera_length_m": "--camera-length",
    "detector_pixel_size_m": "--pixel-size",
}


def published_search(
    scan: Scan4D,
    calibration: ScanCalibration,
    start: PublishedStart,
    tell: Tell | None = None,
    client: Client | None = None,
) -> PublishedSearch:
    """Minimise the blur of the superposition as Weber et al. do.

    Parameters
    ----------
    calibration : what the default method found; its beam centre is used, and whatever the start
        does not state.
    tell : called with the number of the start and each evaluation, as it is made.
    client : of a Dask cluster, over whose workers the starts are spread; threads if None.

    Raises
    ------
    UserError : a length of the microscope is unknown, or the start is and nothing was calibrated.
    """
    first = _first(scan, calibration, start)
    starts = spread_starts(first) if start.spread else [first]
    path: list[tuple[float, float, float]] = []
    lock = threading.Lock()

    def note(number: int, one: Evaluation) -> None:
        with lock:
            path.append((one.parameters.scan_rotation_deg, one.parameters.overfocus_m, one.loss))
        if tell is not None:
            tell(number, one)

    best = search_many(scan, starts, client, note)[0]
    return PublishedSearch(
        start=best.start,
        end=best.parameters,
        blur=best.loss,
        path=np.array(path),
        at_bound=best.at_bound,
        starts=len(starts),
        stage=stage_with(scan, "the published method's optimum", matrices_of(best.parameters)),
    )


def _first(
    scan: Scan4D, calibration: ScanCalibration, start: PublishedStart
) -> OverfocusParameters:
    lengths = lengths_m(scan)
    known = {name: value for name, value in lengths.items() if value is not None}
    for name in lengths:
        if name not in known:
            raise UserError(
                f"{scan.name}: {name}", "nothing", "a length that the published method needs",
                f"state it ({_OPTIONS[name]})",
            )  # fmt: skip
    stated = start.scan_rotation_deg, start.overfocus_um, start.flip_y
    if calibration.verdict == CALIBRATED:
        found = parameters_of(
            matrices_of_calibration(calibration), overfocused=calibration.overfocused, **known
        )
    elif None in stated:
        raise UserError(
            f"{scan.name}: start of the published method", "no calibration to start from",
            "rotation, overfocus and flip", "state them (--start-rotation, --start-overfocus, "
            "--start-flip)",
        )  # fmt: skip
    else:
        rows, columns = scan.shape
        y, x = calibration.centre_px
        seen = bool(np.isfinite([y, x]).all())
        found = OverfocusParameters(
            overfocus_m=1e-6,  # stated below
            scan_pixel_size_m=known["scan_pixel_size_m"],
            camera_length_m=known["camera_length_m"],
            detector_pixel_size_m=known["detector_pixel_size_m"],
            cy=y if seen else (rows - 1) / 2,
            cx=x if seen else (columns - 1) / 2,
        )
    turn, height, flip = stated
    return found.with_(
        scan_rotation_deg=found.scan_rotation_deg if turn is None else turn,
        overfocus_m=found.overfocus_m if height is None else height * 1e-6,
        flip_y=found.flip_y if flip is None else flip,
        descan_px=((0.0, 0.0), (0.0, 0.0)),  # the published model has none
    )
