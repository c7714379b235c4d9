"""The block of refined diffraction parameters that IDXREF, INTEGRATE and CORRECT print.

Two layouts: since 2013 a line "REFINED VALUES OF DIFFRACTION PARAMETERS DERIVED FROM n INDEXED
SPOTS" opens it; before, "USING n INDEXED SPOTS", with the same items in another order.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import nan

from ..crystal.cell import Cell
from .log import Lines, Vector, cell_or_none, count, fixed, number, vector_or_none

_OPENING = re.compile(r"DERIVED FROM\s+(\d+|\*+)\s+INDEXED SPOTS|^ USING\s+(\d+|\*+)\s+INDEXED")


@dataclass(frozen=True)
class RefinedParameters:
    """Diffraction parameters after one refinement, in XDS's frame and pixel count.

    Attributes
    ----------
    heading : the section they stand in, e.g. "DIFFRACTION PARAMETERS USED AT START OF
        INTEGRATION".
    n_spots : indexed spots they were refined on; None if unreadable.
    refined : which were refined: POSITION (or DISTANCE), BEAM, AXIS, ORIENTATION, CELL.
    sd_spot_px, sd_spindle_deg : standard deviations of spot and spindle positions.
    space_group_number : None if not printed.
    cell : Å and degrees; None if not printed.
    cell_esd : of `cell`, only CORRECT prints them; NaN where XDS prints -1, not determined.
    axes : a, b, c in Å in the laboratory frame at spindle angle zero; None if not printed.
    mosaicity_deg : CRYSTAL MOSAICITY; NaN if not printed.
    rotation_axis, beam : laboratory coordinates; the beam's length is 1 / wavelength in 1/Å.
    beam_px, origin_px : (x, y) counted from 1: where the beam meets the detector, and the foot
        of the perpendicular (ORGX, ORGY); NaN if not printed.
    distance_mm : crystal to detector; NaN if not printed.
    line : where the block starts, from 1.
    """

    heading: str
    n_spots: int | None
    refined: tuple[str, ...]
    sd_spot_px: float
    sd_spindle_deg: float
    space_group_number: int | None
    cell: Cell | None
    cell_esd: Cell | None
    axes: tuple[Vector, Vector, Vector] | None
    mosaicity_deg: float
    rotation_axis: Vector | None
    beam: Vector | None
    beam_px: tuple[float, float]
    origin_px: tuple[float, float]
    distance_mm: float
    line: int


def refined_blocks(lines: Lines) -> tuple[RefinedParameters, ...]:
    """Every block of refined parameters, in the order of the log."""
    found = (_OPENING.search(line) for line in lines.all)
    return tuple(_block(lines, i, m[1] or m[2]) for i, m in enumerate(found) if m)


def _block(lines: Lines, start: int, n_spots: str) -> RefinedParameters:
    items: dict[str, str] = {}
    first = start - 1 if "REFINED PARAMETERS:" in lines.all[max(start - 1, 0)] else start
    for _, line in lines.rows(first):
        text = line.strip()
        for name in _ITEMS:
            if text.startswith(name):
                items[name] = text[len(name) :]
    axes = [vector_or_none(fixed(items.get(f"{_AXIS} {a}-AXIS", ""), 3)) for a in "ABC"]
    a, b, c = axes
    return RefinedParameters(
        heading=_heading(lines, first),
        n_spots=count(n_spots),
        refined=tuple(items.get("REFINED PARAMETERS:", "").split()),
        sd_spot_px=number(items.get("STANDARD DEVIATION OF SPOT    POSITION (PIXELS)")),
        sd_spindle_deg=number(items.get("STANDARD DEVIATION OF SPINDLE POSITION (DEGREES)")),
        space_group_number=count(items.get("SPACE GROUP NUMBER")),
        cell=cell_or_none(fixed(items.get("UNIT CELL PARAMETERS", ""), 3)),
        cell_esd=_esd(items.get("E.S.D. OF CELL PARAMETERS")),
        axes=(a, b, c) if a and b and c else None,
        mosaicity_deg=number(items.get("CRYSTAL MOSAICITY (DEGREES)")),
        rotation_axis=vector_or_none(fixed(items.get("LAB COORDINATES OF ROTATION AXIS", ""), 6)),
        beam=vector_or_none(fixed(items.get("DIRECT BEAM COORDINATES (REC. ANGSTROEM)", ""), 6)),
        beam_px=_pair(items.get("DETECTOR COORDINATES (PIXELS) OF DIRECT BEAM", "")),
        origin_px=_pair(items.get("DETECTOR ORIGIN (PIXELS) AT", "")),
        distance_mm=number(items.get("CRYSTAL TO DETECTOR DISTANCE (mm)")),
        line=lines.offset + first + 1,
    )


_AXIS = "COORDINATES OF UNIT CELL"
_ITEMS = (
    "REFINED PARAMETERS:",
    "STANDARD DEVIATION OF SPOT    POSITION (PIXELS)",
    "STANDARD DEVIATION OF SPINDLE POSITION (DEGREES)",
    "SPACE GROUP NUMBER",
    "UNIT CELL PARAMETERS",
    "E.S.D. OF CELL PARAMETERS",
    *(f"{_AXIS} {a}-AXIS" for a in "ABC"),
    "CRYSTAL MOSAICITY (DEGREES)",
    "LAB COORDINATES OF ROTATION AXIS",
    "DIRECT BEAM COORDINATES (REC. ANGSTROEM)",
    "DETECTOR COORDINATES (PIXELS) OF DIRECT BEAM",
    "DETECTOR ORIGIN (PIXELS) AT",
    "CRYSTAL TO DETECTOR DISTANCE (mm)",
)


def _heading(lines: Lines, start: int) -> str:
    """The nearest line above that is a title: between asterisks, or below a line of them."""
    for index in range(start - 1, max(start - 12, -1), -1):
        text = lines.all[index].strip()
        if text and text.strip("* ") and (text.startswith("***") or _ruled(lines, index)):
            return text.strip("* ")
    return ""


def _ruled(lines: Lines, index: int) -> bool:
    above = lines.all[index - 1].strip() if index else ""
    return len(above) > 20 and set(above) == {"*"}


def _esd(text: str | None) -> Cell | None:
    """Six E-format numbers that may touch, as in -1.0E+00-1.0E+00; negative is undetermined."""
    if text is None:
        return None
    words = re.findall(r"[-+]?\d\.\d+[ED][-+]\d\d|\*+", text)
    if len(words) != 6:
        return None
    a, b, c, alpha, beta, gamma = (v if (v := number(w)) >= 0 else nan for w in words)
    return a, b, c, alpha, beta, gamma


def _pair(text: str) -> tuple[float, float]:
    values = fixed(text, 2)
    return (values[0], values[1]) if len(values) == 2 else (nan, nan)
