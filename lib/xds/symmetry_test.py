"""How CORRECT chose the space group and the setting of the cell."""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import nan

from ..crystal.cell import Cell
from .log import (
    Lines,
    Vector,
    cell_or_none,
    count,
    fixed,
    number,
    numbers,
    percent,
    vector_or_none,
)


@dataclass(frozen=True)
class SpaceGroupRow:
    """One row of the test of space groups.

    Attributes
    ----------
    number : of the Sohncke group without screw axes that stands for its point group.
    cell : conventional, symmetry imposed.
    n_unique : reflections it needs.
    r_meas : fraction; NaN if nothing was compared.
    n_compared : reflections in `r_meas`.
    character, bravais : of the lattice.
    selected : marked with an asterisk.
    """

    number: int
    cell: Cell | None
    n_unique: int | None
    r_meas: float
    n_compared: int | None
    character: int
    bravais: str
    selected: bool


@dataclass(frozen=True)
class CellSetting:
    """One setting of a cell that was given, where there are several.

    Attributes
    ----------
    selected : marked with an asterisk.
    cc_reference : correlation with the reference data set; NaN without one.
    n_pairs : of it.
    r_meas : fraction; NaN if nothing was compared.
    n_compared : reflections in `r_meas`.
    esd : agreement with the given cell.
    reindex : 12 integers, as REIDX.
    """

    selected: bool
    cc_reference: float
    n_pairs: int | None
    r_meas: float
    n_compared: int | None
    esd: float
    reindex: tuple[int, ...]


@dataclass(frozen=True)
class Selected:
    """The space group and cell that CORRECT settled on before refining.

    Attributes
    ----------
    space_group_number : as printed.
    cell : Å and degrees.
    axes : a, b, c in Å in the laboratory frame; None if not printed.
    reindex : 12 integers and their divisor: H' = (r1 H + r2 K + r3 L) / divisor + r4.
    divisor : 1 for a primitive lattice, 2, 3 or 4 for a centred one.
    """

    space_group_number: int
    cell: Cell
    axes: tuple[Vector, Vector, Vector] | None
    reindex: tuple[int, ...]
    divisor: int


_CELL = r"((?:\s*(?:\d*\.\d|\*++)){6})"
_GROUP = re.compile(
    rf"^\s*(\*?)\s*(\d{{1,3}}) {_CELL}\s+(\d+|\*+)\s+(-?\d*\.\d|\*+)\s+(\d+|\*+)\s+(\d+)"
    r"\s+([a-z][A-Z])\s*$"
)


def space_group_rows(lines: Lines) -> tuple[SpaceGroupRow, ...]:
    """The test of space groups; empty if the group was given."""
    title = lines.find("SPACE-GROUP         UNIT CELL CONSTANTS")
    if title is None:
        return ()
    rows = []
    for index, line in lines.rows(title + 2, skip=1):
        m = _GROUP.match(line)
        if m is None:
            lines.not_understood(index, "space group")
            continue
        n_compared = count(m[6])
        rows.append(
            SpaceGroupRow(
                number=int(m[2]),
                cell=cell_or_none(fixed(m[3], 1)),
                n_unique=count(m[4]),
                r_meas=_r_meas(m[5], n_compared),
                n_compared=n_compared,
                character=int(m[7]),
                bravais=m[8],
                selected=m[1] == "*",
            )
        )
    return tuple(rows)


def cell_settings(lines: Lines) -> tuple[CellSetting, ...]:
    """The settings of a given cell; empty if only one was tried."""
    title = lines.find("CORRELATION  NPAIR  Rmeas")
    if title is None:
        return ()
    settings = []
    for index, line in lines.rows(title + 1, skip=1):
        marked = line.strip().startswith("*")
        words = re.findall(r"-?\d*\.\d+|-?\d+|\*+", line.strip().removeprefix("*"))
        reindex = [count(word) for word in words[5:]]
        whole = tuple(value for value in reindex if value is not None)
        if len(words) != 17 or len(whole) != 12:
            lines.not_understood(index, "setting of the cell")
            continue
        n_pairs, n_compared = count(words[1]), count(words[3])
        settings.append(
            CellSetting(
                selected=marked,
                cc_reference=number(words[0]) if n_pairs else nan,
                n_pairs=n_pairs,
                r_meas=_r_meas(words[2], n_compared),
                n_compared=n_compared,
                esd=number(words[4]),
                reindex=whole,
            )
        )
    return tuple(settings)


def _r_meas(word: str, n_compared: int | None) -> float:
    return nan if n_compared == 0 else percent(word)


_INDEX = re.compile(
    r"^ [HKL]' = \(\s*(-?\d+)\*H \+\s*(-?\d+)\*K \+\s*(-?\d+)\*L\)/\s*(\d+) \+\s*(-?\d+)"
)


def selected(lines: Lines) -> Selected | None:
    """The choice; None if the log does not tell it whole."""
    title = lines.find("SELECTED SPACE GROUP AND UNIT CELL FOR THIS DATA SET")
    if title is None:
        return None
    end = title + 14
    group = (lines.card("SPACE_GROUP_NUMBER", title, end) or "").split()
    number_ = count(group[0]) if group else None
    cell = cell_or_none(numbers(lines.card("UNIT_CELL_CONSTANTS", title, end)))
    if number_ is None or cell is None:
        return None
    axes = [
        vector_or_none(fixed(lines.card(f"UNIT_CELL_{a}-AXIS", title, end) or "", 3)) for a in "ABC"
    ]
    a, b, c = axes
    rows = [m for line in lines.all[title:end] if (m := _INDEX.match(line))]
    reindex = tuple(int(m[i]) for m in rows for i in (1, 2, 3, 5))
    return Selected(
        space_group_number=number_,
        cell=cell,
        axes=(a, b, c) if a and b and c else None,
        reindex=reindex if len(reindex) == 12 else (),
        divisor=int(rows[0][4]) if rows else 1,
    )
