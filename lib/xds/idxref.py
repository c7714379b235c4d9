"""IDXREF.LP: how XDS found and refined the lattice."""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import nan
from pathlib import Path

from ..crystal.cell import Cell
from .lattice_table import LatticeCharacter, lattice_table
from .log import Lines, Log, Vector, cell_or_none, count, fixed, number, numbers, read_lines
from .refined import RefinedParameters, refined_blocks

CLOSING = "elapsed wall-clock time"


@dataclass(frozen=True)
class IndexOrigin:
    """One candidate for the origin of the indices.

    Attributes
    ----------
    origin : offset h k l.
    quality : small is likely; NaN on overflow.
    delta_deg : angle between the given and the refined beam.
    beam_px : (x, y) counted from 1, of the refined beam; NaN if overflown.
    beam : its laboratory coordinates, 1/Å.
    misfit : mean |observed - fitted| of h, k, l.
    """

    origin: tuple[int, int, int]
    quality: float
    delta_deg: float
    beam_px: tuple[float, float]
    beam: Vector
    misfit: Vector


@dataclass(frozen=True)
class SpotIndexing:
    """How many spots a lattice indexes.

    Attributes
    ----------
    space_group_number : that was assumed.
    n_indexed, n_spots : indexed out of those used.
    n_overlap, n_too_far : rejected, because two spots have the same indices, or because they
        lie too far from the ideal position.
    expected_spindle_deg, expected_detector_px : expected errors; NaN if not printed.
    """

    space_group_number: int | None
    n_indexed: int
    n_spots: int
    n_overlap: int | None
    n_too_far: int | None
    expected_spindle_deg: float
    expected_detector_px: float

    @property
    def fraction(self) -> float:
        """Indexed over used spots."""
        return self.n_indexed / self.n_spots if self.n_spots else nan


@dataclass(frozen=True)
class Idxref(Log):
    """What IDXREF.LP says. What it does not say is None or empty.

    Attributes
    ----------
    given_space_group_number, given_cell : of XDS.INP; None if unknown.
    n_spots_used, n_spots : autoindexing is based on so many, out of those in SPOT.XDS.
    spot_ranges : first and last frame of each SPOT_RANGE.
    n_difference_vectors : clusters of difference vectors that the basis was derived from.
    reduced_cell : of the basis found.
    subtrees : population of the subtrees of local indexing, largest first.
    index_origins : candidates, best first.
    index_origin : the selected one.
    indexings : after each refinement; `indexing` is the last.
    solutions : every block of refined parameters, in order.
    lattices : the 44 characters.
    """

    given_space_group_number: int | None
    given_cell: Cell | None
    n_spots_used: int | None
    n_spots: int | None
    spot_ranges: tuple[tuple[int, int], ...]
    n_difference_vectors: int | None
    reduced_cell: Cell | None
    subtrees: tuple[int, ...]
    index_origins: tuple[IndexOrigin, ...]
    index_origin: tuple[int, int, int] | None
    indexings: tuple[SpotIndexing, ...]
    solutions: tuple[RefinedParameters, ...]
    lattices: tuple[LatticeCharacter, ...]

    @property
    def indexing(self) -> SpotIndexing | None:
        """The last count of indexed spots."""
        return self.indexings[-1] if self.indexings else None

    @property
    def start_of_integration(self) -> RefinedParameters | None:
        """The block that INTEGRATE starts from; None if IDXREF did not get so far."""
        blocks = [b for b in self.solutions if b.heading.endswith("START OF INTEGRATION")]
        return blocks[-1] if blocks else None


def read_idxref(path: str | Path) -> Idxref:
    """Read an IDXREF.LP, also of a run that failed or was cut (see `Log.complete`).

    Raises
    ------
    UserError : the file cannot be read, or is not a log of IDXREF.
    """
    lines = read_lines(path, "IDXREF", CLOSING)
    used, _, spots = (lines.after("AUTOINDEXING IS BASED ON") or "").partition("OUT OF")
    if not spots:  # before 2012 the spots left out were not told
        used = used.replace("SPOTS", "")
    # the control cards come first; SPACE GROUP NUMBER without "=" stands in the solutions
    cards = lines.find("AUTOINDEXING IS BASED ON") or len(lines.all)
    given = lines.after("UNIT_CELL_CONSTANTS=", 0, cards)
    return Idxref(
        given_space_group_number=_positive(lines.after("SPACE_GROUP_NUMBER=", 0, cards)),
        given_cell=cell_or_none(numbers(given)),
        n_spots_used=count(used),
        n_spots=count(spots.replace("SPOTS", "")),
        spot_ranges=_spot_ranges(lines),
        n_difference_vectors=lines.trailing("DIFFERENCE VECTOR CLUSTERS DETERMINED")
        or lines.trailing("DIFFERENCE VECTOR CLUSTERS USED"),
        reduced_cell=_reduced_cell(lines),
        subtrees=_subtrees(lines),
        index_origins=_index_origins(lines),
        index_origin=_selected_origin(lines),
        indexings=_indexings(lines),
        solutions=refined_blocks(lines),
        lattices=lattice_table(lines),
        **lines.common(),
    )


def _positive(text: str | None) -> int | None:
    value = count((text or "").split()[0]) if (text or "").split() else None
    return value if value and value > 0 else None


def _spot_ranges(lines: Lines) -> tuple[tuple[int, int], ...]:
    ranges = []
    for index in lines.find_all(" SPOT_RANGE="):
        first = [count(word) for word in lines.all[index].partition("=")[2].split()]
        if len(first) >= 2 and first[0] is not None and first[1] is not None:
            ranges.append((first[0], first[1]))
        else:
            lines.not_understood(index, "SPOT_RANGE")
    return tuple(ranges)


def _reduced_cell(lines: Lines) -> Cell | None:
    index = lines.find("PARAMETERS OF THE REDUCED CELL")
    if index is None or index + 1 >= len(lines.all):
        return None
    return cell_or_none(fixed(lines.all[index + 1], 2))


def _subtrees(lines: Lines) -> tuple[int, ...]:
    # a table of the same name with more columns, of vector clusters, comes before since 2019
    title = next(
        (i for i, line in enumerate(lines.all) if line.split() == ["SUBTREE", "POPULATION"]), None
    )
    if title is None:
        return ()
    sizes = []
    for index, line in lines.rows(title + 1, skip=1):
        m = re.fullmatch(r"\s*\d+\s+(\d+)\s*", line)
        if m:
            sizes.append(int(m[1]))
        else:
            lines.not_understood(index, "subtree")
    return tuple(sizes)


_ORIGIN = re.compile(r"^\s*(-?\d{1,4})\s*(-?\d{1,4})\s*(-?\d{1,4})\s+((?:-?\d+\.\d|\*).*)$")


def _index_origins(lines: Lines) -> tuple[IndexOrigin, ...]:
    title = lines.find("INDEX_   QUALITY")
    if title is None:
        return ()
    found = []
    for index, line in lines.rows(title + 2, skip=1):
        origin = _index_origin(line)
        if origin is None:
            lines.not_understood(index, "index origin")
        else:
            found.append(origin)
    return tuple(found)


def _index_origin(line: str) -> IndexOrigin | None:
    m = _ORIGIN.match(line)
    if m is None:
        return None
    # quality, delta, xd, yd with one decimal; x, y, z with four; dh, dk, dl with two
    values = [number(w) for w in re.findall(_FORMATS, m[4])]
    if len(values) != 10:
        return None
    quality, delta, xd, yd, x, y, z, dh, dk, dl = values
    return IndexOrigin(
        (int(m[1]), int(m[2]), int(m[3])), quality, delta, (xd, yd), (x, y, z), (dh, dk, dl)
    )


_FORMATS = r"-?\d*\.\d{4}|-?\d*\.\d{2}(?!\d)|-?\d*\.\d|\*+"


def _selected_origin(lines: Lines) -> tuple[int, int, int] | None:
    words = (lines.after("INDEX_ORIGIN=", lines.find("SELECTED:") or 0) or "").split()[:3]
    values = [count(word) for word in words]
    h, k, ell = values if len(values) == 3 else (None, None, None)
    return None if h is None or k is None or ell is None else (h, k, ell)


_INDEXED = re.compile(r"^\s*(\d+) OUT OF\s+(\d+) SPOTS INDEXED")


def _indexings(lines: Lines) -> tuple[SpotIndexing, ...]:
    found = []
    for index, line in enumerate(lines.all):
        m = _INDEXED.match(line)
        if m is None:
            continue
        below = [text for _, text in lines.rows(index + 1)]
        group = re.search(r"GROUP #\s*(\d+)", lines.all[max(index - 1, 0)])
        found.append(
            SpotIndexing(
                space_group_number=int(group[1]) if group else None,
                n_indexed=int(m[1]),
                n_spots=int(m[2]),
                n_overlap=_rejected(below, "OVERLAP"),
                n_too_far=_rejected(below, "TOO FAR"),
                expected_spindle_deg=_expected(below, "EXPECTED ERROR IN SPINDLE  POSITION"),
                expected_detector_px=_expected(below, "EXPECTED ERROR IN DETECTOR POSITION"),
            )
        )
    return tuple(found)


def _rejected(below: list[str], reason: str) -> int | None:
    line = next((text for text in below if f"(REASON: {reason}" in text), "")
    return count(line.partition("REJECTED")[0])


def _expected(below: list[str], item: str) -> float:
    line = next((text for text in below if item in text), "")
    return number((line.partition("POSITION")[2].split() or [""])[0])
