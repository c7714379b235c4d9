"""What engines of others need of the frames: which are blank, and where the beam is."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...errors import UserError
from ...series import RotationSeries
from ..survey import frame_blocks

# A frame with less than this part of the usual counts holds nothing.
_BLANK = 0.02
MIN_FRAMES = 4
# A direct beam seen further than this from where it is said to be is worth a try.
BEAM_PX = 1.0


def blank_frames(series: RotationSeries) -> NDArray[np.bool_]:
    """(n,) True where a frame holds no signal, as the built-in engine has it."""
    totals = np.zeros(len(series))
    for start, block in frame_blocks(series):
        counts = block.sum(axis=(1, 2), dtype=np.float64)
        uniform = block.max(axis=(1, 2)) == block.min(axis=(1, 2))
        counts -= series.pedestal * block.shape[1] * block.shape[2]
        totals[start : start + len(block)] = np.where(uniform, 0.0, counts)
    lit = totals[totals > 0]
    blank: NDArray[np.bool_] = totals <= _BLANK * (np.median(lit) if len(lit) else 0.0)
    return blank


def lit_frames(series: RotationSeries) -> tuple[RotationSeries, NDArray[np.bool_]]:
    """The series without its blank frames, and (n,) which they are.

    Raises
    ------
    UserError : fewer than `MIN_FRAMES` are left.
    """
    blank = blank_frames(series)
    n = len(series) - int(blank.sum())
    if n < MIN_FRAMES:
        raise UserError(
            series.name, f"{n} frames with a signal of {len(series)}", f"at least {MIN_FRAMES}",
            "collect a longer series; check that the beam was on",
        )  # fmt: skip
    return series.select(np.flatnonzero(~blank)), blank


def beam_seen(series: RotationSeries) -> tuple[float, float] | None:
    """(row, column) of the direct beam, the median over some frames; None where none is seen."""
    from ..beam_centre import find_beam

    positions = np.unique(np.linspace(0, len(series) - 1, 9).astype(int))
    frames = np.asarray(series.frames[positions])
    found = np.array([find_beam(frame.astype(np.float32), ~series.mask) for frame in frames])
    found = found[np.isfinite(found).all(axis=1)]
    if len(found) < 3:
        return None
    row, column = np.median(found, axis=0)
    return float(row), float(column)
