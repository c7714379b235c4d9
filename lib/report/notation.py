"""Numbers as a crystallographer writes them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..crystal.cell import Cell

LATTICE_NAMES = {
    "aP": "triclinic P",
    "mP": "monoclinic P",
    "mC": "monoclinic C",
    "mI": "monoclinic I",
    "oP": "orthorhombic P",
    "oC": "orthorhombic C",
    "oF": "orthorhombic F",
    "oI": "orthorhombic I",
    "tP": "tetragonal P",
    "tI": "tetragonal I",
    "hP": "hexagonal P",
    "hR": "rhombohedral R",
    "cP": "cubic P",
    "cF": "cubic F",
    "cI": "cubic I",
}


def with_esd(value: float, esd: float, decimals: int = 4) -> str:
    """A value with its e.s.d. in the last digits, ``12.063(4)``.

    The e.s.d. keeps two digits up to 19 and one above (the "rule of 19" of Acta
    Crystallographica). An e.s.d. of zero, but for rounding, is a value fixed by symmetry and
    stands alone; one that is not known (NaN) leaves the value with at most `decimals` decimals.
    """
    if not math.isfinite(value):
        return "–"
    if not esd > 1e-9 * max(abs(value), 1.0) or math.isinf(esd):
        text = f"{value:.{decimals}f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    exponent = math.floor(math.log10(esd))
    if esd / 10**exponent < 1.95:
        exponent -= 1
    if exponent >= 0:
        unit = 10**exponent
        return f"{round(value / unit) * unit:d}({round(esd / unit) * unit:d})"
    return f"{value:.{-exponent}f}({round(esd / 10**exponent)})"


def cell_text(cell: Cell, esd: Sequence[float] | None = None) -> str:
    """A cell on one line, edges in Å and angles in degrees, with e.s.d.s where given."""
    if esd is None:
        edges = [f"{v:.3f}" for v in cell[:3]]
        angles = [f"{v:.2f}" for v in cell[3:]]
    else:
        numbers = [with_esd(v, e, 3) for v, e in zip(cell, esd, strict=True)]
        edges, angles = numbers[:3], numbers[3:]
    return f"{', '.join(edges)} Å; {', '.join(angles)}°"


def duration(seconds: float) -> str:
    """A time a person can read: ``0.35 s``, ``12 s``, ``3 min 20 s``."""
    if seconds < 9.95:
        return f"{seconds:.2g} s"
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"


def rounded(value: float, decimals: int) -> str:
    """A number for a table; a dash where there is none."""
    return f"{value:.{decimals}f}" if math.isfinite(value) else "–"
