"""SPOT.XDS: the spots that COLSPOT found, and the indices that IDXREF gave them.

4 columns (x, y, z, intensity); 5 with the detector segment; 7 with indices; 8 with both. XDS
counts pixels from 1, and frame f covers z from f - 1 to f; indices 0 0 0 mean not indexed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..crystal.cell import Floats
from ..errors import UserError
from .log import read_text

COLUMNS = (4, 5, 7, 8)
_DO = "run COLSPOT again"


@dataclass(frozen=True, eq=False)
class SpotList:
    """Spots, (n,) each, strongest first as in the file.

    Attributes
    ----------
    row, column : centroid in px, pixel centres at integers from 0.
    frame_number : centroid, an integer is the middle of the frame with that number.
    intensity : counts.
    segment : of the detector, from 1; None if the file has none.
    hkl : (n, 3) indices, 0 0 0 for spots without; None before IDXREF.
    complete : False if the last line was cut, and left out.
    """

    row: Floats
    column: Floats
    frame_number: Floats
    intensity: Floats
    segment: NDArray[np.int64] | None
    hkl: NDArray[np.int64] | None
    complete: bool

    def __len__(self) -> int:
        return len(self.row)

    @property
    def indexed(self) -> NDArray[np.bool_]:
        """(n,) True for spots with indices."""
        if self.hkl is None:
            return np.zeros(len(self), bool)
        return np.asarray(np.any(self.hkl != 0, axis=1), bool)


def read_spot_xds(path: str | Path) -> SpotList:
    """Read a SPOT.XDS of 4, 5, 7 or 8 columns.

    Raises
    ------
    UserError : the file cannot be read, or a line has another number of columns than the first,
        or something that is no number.
    """
    text = read_text(path, "a SPOT.XDS")
    complete = text.endswith("\n")
    lines = text.splitlines()
    kept = [(i, line) for i, line in enumerate(lines, 1) if line.strip()]
    if not complete:
        kept = kept[:-1]
    n_columns = len(kept[0][1].split()) if kept else 0
    if n_columns not in COLUMNS:
        raise UserError(path, f"{n_columns} columns", "4, 5, 7 or 8", _DO)
    table = np.array([_row(path, i, line, n_columns) for i, line in kept], float)
    segment = table[:, 4].astype(np.int64) if n_columns in (5, 8) else None
    return SpotList(
        row=table[:, 1] - 1,
        column=table[:, 0] - 1,
        frame_number=table[:, 2] + 0.5,
        intensity=table[:, 3],
        segment=segment,
        hkl=table[:, -3:].astype(np.int64) if n_columns in (7, 8) else None,
        complete=complete,
    )


def _row(path: str | Path, number: int, line: str, n_columns: int) -> list[float]:
    words = line.split()
    try:
        values = [float(word) for word in words]
    except ValueError:
        values = []
    whole = all(v == round(v) for v in values[4:]) if np.all(np.isfinite(values)) else False
    if len(values) != n_columns or not whole or np.max(np.abs(values)) > 1e12:
        found = repr(line.strip()[:80])
        raise UserError(f"{path}: line {number}", found, f"{n_columns} numbers", _DO)
    return values
