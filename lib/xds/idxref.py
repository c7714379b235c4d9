"""IDXREF.LP: how XDS found and refined the lattice."""

from __future__ import annotations

from dataclasses import dataclass
from math import nan
from pathlib import Path

from ..crystal.cell import Cell
from .lattice_table import LatticeCharacter
from .log import Log, Vector
from .refined import RefinedParameters


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
    raise NotImplementedError
