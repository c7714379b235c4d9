"""What to try when XDS cannot index, in the order in which one who knows it would.

Each attempt changes a few keywords of what worked best so far. It is kept if it indexes a
clearly larger part of the spots; the search ends when half of them are indexed. The list
depends only on the series, the choices and the first result, so that it is the same each time.
"""

from __future__ import annotations

from dataclasses import dataclass

import gemmi
import numpy as np

from ...crystal.cell import Cell
from .frames import BEAM_PX

# Half of the spots on one lattice is XDS's own demand; a fourth is what it is asked to go on with.
GOOD = 0.5
ENOUGH = 0.25
# An attempt has to index so much more to be kept.
BETTER = 0.02
# With fewer spots than this, weaker ones are let in.
FEW_SPOTS = 100

ALL_STEPS = "XYCORR INIT COLSPOT IDXREF"
FROM_SPOTS = "COLSPOT IDXREF"
INDEX = "IDXREF"
FINISH = "DEFPIX INTEGRATE CORRECT"

_STARVED = (
    "TWO-DIMENSIONAL",
    "DIMENSION OF DIFFERENCE VECTOR SET",
    "INSUFFICIENT NUMBER OF ACCEPTED SPOTS",
    "TOO FEW",
)
# Sohncke groups with the lowest symmetry of each lattice: they hold the cell and no more.
_LOWEST_GROUP = {
    "aP": 1, "mP": 3, "mC": 5, "oP": 16, "oC": 21, "oF": 22, "oI": 23,
    "tP": 75, "tI": 79, "hP": 143, "hR": 146, "cP": 195, "cF": 196, "cI": 197,
}  # fmt: skip


@dataclass(frozen=True)
class Attempt:
    """One way of running IDXREF.

    Attributes
    ----------
    what, reason : in words.
    job : steps of XDS to run.
    changes : keywords and values, on top of what worked best so far.
    """

    what: str
    reason: str
    job: str
    changes: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Indexing:
    """What IDXREF came to.

    Attributes
    ----------
    fraction : indexed part of the spots used; 0 where it did not get so far.
    n_spots : used.
    error : XDS's words, or how the program ended; empty if it went well.
    reduced_cell : of the lattice; None if there is none.
    """

    fraction: float
    n_spots: int
    error: str = ""
    reduced_cell: Cell | None = None

    @property
    def outcome(self) -> str:
        """In a phrase."""
        share = f"{100 * self.fraction:.0f} % of {self.n_spots} spots indexed"
        return f"{share}; {self.error}" if self.error else share


FIRST = Attempt("IDXREF", "as a rule", ALL_STEPS)


@dataclass(frozen=True)
class Facts:
    """What decides what may be tried.

    Attributes
    ----------
    axis : ROTATION_AXIS.
    frames : first and last frame number.
    resolution_A : coarse and fine limit.
    min_pixels : of a spot, as told.
    cell : known conventional cell.
    beam_seen, beam_told : (ORGX, ORGY) of the direct beam on the frames, and as told.
    reverse_axis : whether the opposite sense may be tried.
    """

    axis: tuple[float, float, float]
    frames: tuple[int, int]
    resolution_A: tuple[float, float]
    min_pixels: int
    cell: Cell | None
    beam_seen: tuple[float, float] | None
    beam_told: tuple[float, float]
    reverse_axis: bool


def further_attempts(first: Indexing, facts: Facts) -> tuple[Attempt, ...]:
    """What to try after a first result that is not good enough, in order."""
    starved = first.n_spots < FEW_SPOTS or any(word in first.error for word in _STARVED)
    weaker = Attempt(
        "IDXREF with weaker spots", f"only {first.n_spots} spots", FROM_SPOTS,
        (("MINIMUM_NUMBER_OF_PIXELS_IN_A_SPOT", str(max(2, facts.min_pixels // 2))),
         ("SIGNAL_PIXEL", "2.5")),
    )  # fmt: skip
    stronger = Attempt(
        "IDXREF with large spots only", "many spots lie on no lattice", FROM_SPOTS,
        (("MINIMUM_NUMBER_OF_PIXELS_IN_A_SPOT", str(2 * facts.min_pixels)),),
    )  # fmt: skip
    found = [weaker if starved else stronger]
    seen = facts.beam_seen
    if seen is not None and np.hypot(*np.subtract(seen, facts.beam_told)) > BEAM_PX:
        found.append(Attempt(
            "IDXREF with the beam as seen", "the direct beam is not where it is said to be",
            INDEX, (("ORGX", f"{seen[0]:.2f}"), ("ORGY", f"{seen[1]:.2f}")),
        ))  # fmt: skip
    if facts.reverse_axis:
        opposite = " ".join(f"{-value:.9f}" for value in facts.axis)
        found.append(Attempt(
            "IDXREF with the axis reversed", "it may be turned the other way",
            INDEX, (("ROTATION_AXIS", opposite),),
        ))  # fmt: skip
    if facts.cell is not None:
        found += [known_cell_attempt(one, facts.cell) for one in lattices_of_cell(facts.cell)]
    coarse, fine = facts.resolution_A
    found.append(Attempt(
        "IDXREF at low resolution", "spots far out may mislead",
        INDEX, (("INCLUDE_RESOLUTION_RANGE", f"{coarse:g} {1.5 * fine:.3g}"),),
    ))  # fmt: skip
    begin, end = facts.frames
    middle = (begin + end) // 2
    if end - begin >= 15:
        found += [
            Attempt(
                f"IDXREF on the {which} half", "the crystal or the beam may have moved",
                FROM_SPOTS, (("SPOT_RANGE", f"{a} {b}"),),
            )
            for which, a, b in (("first", begin, middle), ("second", middle + 1, end))
        ]  # fmt: skip
    found.append(Attempt(
        "IDXREF with larger errors allowed", "spots may be off their places",
        INDEX, (("MAXIMUM_ERROR_OF_SPOT_POSITION", "6.0"),
                ("MAXIMUM_ERROR_OF_SPINDLE_POSITION", "4.0"), ("INDEX_ERROR", "0.15")),
    ))  # fmt: skip
    return tuple(found)


def known_cell_attempt(bravais: str, cell: Cell) -> Attempt:
    """IDXREF told a conventional cell and the lowest space group of a lattice."""
    return Attempt(
        f"IDXREF with the known cell, {bravais}", "the cell is known", INDEX,
        (("SPACE_GROUP_NUMBER", str(_LOWEST_GROUP[bravais])),
         ("UNIT_CELL_CONSTANTS", " ".join(f"{value:g}" for value in cell))),
    )  # fmt: skip


def lattices_of_cell(cell: Cell, edge: float = 0.01, angle_deg: float = 0.5) -> tuple[str, ...]:
    """Lattice types that a conventional cell may have; its centring is not known from it."""
    a, b, c, alpha, beta, gamma = cell
    right = [abs(value - 90) < angle_deg for value in (alpha, beta, gamma)]

    def equal(x: float, y: float) -> bool:
        return abs(x / y - 1) < edge

    if all(right):
        if equal(a, b) and equal(b, c):
            return "cP", "cI", "cF"
        return ("tP", "tI") if equal(a, b) else ("oP", "oC", "oI", "oF")
    if right[0] and right[1] and abs(gamma - 120) < angle_deg and equal(a, b):
        return "hP", "hR"
    if right[0] and right[2]:
        return "mP", "mC"
    return ("aP",)


def lattice_with_known_cell(
    reduced: Cell, cell: Cell, edge: float = 0.05, angle_deg: float = 3.0
) -> str | None:
    """The lattice type by which a known conventional cell has a reduced cell; None if by none."""
    found = _reduced(reduced, "P")
    for bravais in lattices_of_cell(cell):
        known = _reduced(cell, bravais[1])
        close = np.abs(found[:3] / known[:3] - 1).max() < edge
        # near 90 degrees the reduced angles of the same lattice may be acute or obtuse
        turned = np.minimum(np.abs(found[3:] - known[3:]), np.abs(180 - found[3:] - known[3:]))
        if close and turned.max() < angle_deg:
            return bravais
    return None


def _reduced(cell: Cell, centring: str) -> np.ndarray:
    vector = gemmi.GruberVector(gemmi.UnitCell(*cell), centring)
    vector.niggli_reduce()
    return np.array(vector.cell_parameters())
