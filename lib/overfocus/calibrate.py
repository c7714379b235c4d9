"""Calibration by an overfocused scan, with no start value; see `fit` for the steps."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError
from ..stem4d.rows import for_each_rows
from ..stem4d.scan import Scan4D
from .assess import described
from .begin import NotCalibratedError, Tell, begun
from .binning import RADIUS_BINNED_PX, BinnedScan, Binner, bin_frames
from .calibration import NOT_CALIBRATED, ScanCalibration
from .config import OverfocusConfig
from .disc import find_disc
from .fit import fit_binned

Vectors = NDArray[np.float64]

#: Binned pixels that the shadow moves over the scan for it to be told from the aperture; frames
#: are binned less for it, up to so much memory.
LEAST_TRAVEL_PX, MOST_BYTES = 11.0, 1.1e9


def calibrate(
    scan: Scan4D,
    config: OverfocusConfig | None = None,
    tell: Tell | None = None,
    read: Callable[[Scan4D, OverfocusConfig], BinnedScan] | None = None,
) -> ScanCalibration:
    """The map between scan and detector from one overfocused scan.

    It is read once; twice if the shadow moves so little that frames must be binned less.

    Parameters
    ----------
    tell : called with a line on each step.
    read : what bins the scan; `bin_scan` if None.

    Returns a calibration whose verdict is "not calibrated", with reasons and NaN where there is no
    number, if the scan does not tell.

    Raises
    ------
    UserError : frames too small to be binned, or unreadable.
    """
    config, read = config or OverfocusConfig(), read or bin_scan
    binned = read(scan, config)
    try:
        begin = begun(binned, config, tell)
        wanted = binned.binning if config.binning else wanted_binning(binned, begin.travel_px)
        if wanted != binned.binning:
            config = config.model_copy(update={"binning": wanted})
            binned = read(scan, config)
            begin = begun(binned, config, tell)
        return described(binned, fit_binned(binned, begin, config, tell), config)
    except NotCalibratedError as error:
        return not_calibrated(binned, str(error), config)


def wanted_binning(binned: BinnedScan, travel_px: float) -> int:
    """Detector px per binned px for a shadow that moves by so many of the present binned px."""
    finer = max(1, int(binned.binning * travel_px / LEAST_TRAVEL_PX))
    frames = binned.scan_shape[0] * binned.scan_shape[1] * 4
    while finer < binned.binning and frames * np.prod(binned.shape) / finer**2 > MOST_BYTES:
        finer += 1
    return min(finer, binned.binning)


def bin_scan(scan: Scan4D, config: OverfocusConfig, threads: int = 2) -> BinnedScan:
    """One pass over a scan, binned so that the disc's radius is about `RADIUS_BINNED_PX`."""
    rows, columns = scan.scan_shape
    if rows * columns == 0:
        raise UserError(scan.name, f"{rows} x {columns} scan points", "a scan", "read it again")
    binner = Binner(
        scan, config.binning or choose_binning(scan, np.asarray(scan.frames[rows // 2]))
    )
    for_each_rows(scan, binner.add, threads)
    return binner.finish()


def choose_binning(scan: Scan4D, frames: NDArray[np.generic]) -> int:
    """Detector px per binned px, from some frames (n, row, column)."""
    few = np.asarray(frames[:: max(1, len(frames) // 16)], float)
    mean = np.nan_to_num(few.mean(0) - scan.pedestal)
    rough = max(1, round(min(scan.shape) / 128))
    height, width = (n // rough for n in scan.shape)
    small = np.empty((1, height, width), np.float32)
    bin_frames(mean[None], rough, 0.0, small)
    bad = scan.mask[: height * rough, : width * rough].reshape(height, rough, width, rough)
    disc = find_disc(small[0], np.asarray(bad.any((1, 3))))
    radius = disc.radius * rough if disc else min(scan.shape) / 3
    return int(max(1, min(int(radius) // RADIUS_BINNED_PX, min(scan.shape) // 8)))


def calibrate_binned(
    binned: BinnedScan,
    config: OverfocusConfig,
    tell: Tell | None = None,
    movement: Vectors | None = None,
) -> ScanCalibration:
    """As `calibrate`, of binned frames; `movement` (2, 2): a first G in detector px, if known."""
    try:
        begin = begun(binned, config, tell, movement)
        return described(binned, fit_binned(binned, begin, config, tell), config)
    except NotCalibratedError as error:
        return not_calibrated(binned, str(error), config)


def not_calibrated(binned: BinnedScan, reason: str, config: OverfocusConfig) -> ScanCalibration:
    """A calibration that is none."""
    nan = np.full((2, 2), np.nan)
    return ScanCalibration(
        binned.name, binned.scan_shape, binned.shape, nan, nan.copy(), (np.nan, np.nan), np.nan,
        overfocused=config.overfocused, verdict=NOT_CALIBRATED, reasons=(reason,),
    )  # fmt: skip
