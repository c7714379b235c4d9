"""The table of the 44 lattice characters, as IDXREF and CORRECT print it.

Fixed columns (checked on files of 2010 to 2024): mark, character, Bravais type, quality of fit,
six cell constants with one decimal, which may touch, and in CORRECT twelve reindexing integers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..crystal.cell import Cell
from .log import Lines, cell_or_none, fixed

_ROW = re.compile(r"^ ?([* ]) {0,5}(\d{1,2}) {1,10}([a-z][PCFIRA])\s*(.*)$")


@dataclass(frozen=True)
class LatticeCharacter:
    """How well the reduced cell fits one of the 44 lattice characters.

    Attributes
    ----------
    character : 1 to 44, International Tables A.
    bravais : aP, mP, mC, mI, oP, ...
    quality : of fit, 0 is perfect; XDS prints 999 for that and anything above.
    cell : the conventional cell without its symmetry imposed; None on overflow.
    marked : the metric agrees with the spots within XDS's limits.
    reindex : H' K' L' from H K L, 12 integers, as REIDX; None in IDXREF.
    """

    character: int
    bravais: str
    quality: float
    cell: Cell | None
    marked: bool
    reindex: tuple[int, ...] | None


def lattice_table(lines: Lines) -> tuple[LatticeCharacter, ...]:
    """The last table of lattice characters in a log, in its order; empty if there is none."""
    titles = lines.find_all("LATTICE-  BRAVAIS-   QUALITY")
    if not titles:
        return ()
    table = []
    for index, line in lines.rows(titles[-1] + 2, skip=1):
        row = _row(line)
        if row is None:
            lines.not_understood(index, "lattice character")
        else:
            table.append(row)
    return tuple(table)


def _row(line: str) -> LatticeCharacter | None:
    m = _ROW.match(line)
    if m is None:
        return None
    values = fixed(m[4], 1)
    # the integers start after the last decimal
    integers = re.findall(r"-?\d+", re.split(r"\.\d", m[4])[-1])
    if len(values) != 7 or len(integers) not in (0, 12):
        return None
    return LatticeCharacter(
        character=int(m[2]),
        bravais=m[3],
        quality=values[0],
        cell=cell_or_none(values[1:]),
        marked=m[1] == "*",
        reindex=tuple(int(word) for word in integers) or None,
    )
