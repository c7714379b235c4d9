"""What solving a structure ends in: candidate solutions, ranked, and a verdict in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..crystal.cell import Cell, Floats

Verdict = Literal["solved", "uncertain", "not solved"]


@dataclass(frozen=True)
class Atom:
    """An atom of the asymmetric unit.

    Attributes
    ----------
    label : unique in its structure, such as Si1.
    element : chemical symbol.
    position : fractional coordinates.
    u_iso_A2 : isotropic displacement, Å^2.
    occupancy : 0 to 1, without the factor of a special position.
    multiplicity : of the position, in the conventional cell; 0 if not worked out.
    height : of the peak it stands on, over the highest; NaN if on none.
    """

    label: str
    element: str
    position: tuple[float, float, float]
    u_iso_A2: float = 0.02
    occupancy: float = 1.0
    multiplicity: int = 0
    height: float = float("nan")


@dataclass(frozen=True)
class Solution:
    """One set of phases that charge flipping came to, and the atoms its map shows.

    Attributes
    ----------
    cell, space_group : of the positions; the origin is one of the group's.
    position : (n, 3) fractional coordinates of the peaks, highest first, one of each orbit.
    height : (n,) over the highest.
    multiplicity : (n,) points of each orbit in the cell.
    atoms : what the composition makes of the peaks; empty without composition.
    seed : of the random phases it grew from.
    symmetry_cc : correlation of the P1 amplitudes with those symmetrised about this origin.
    peak_gap : height of the last peak that the composition wants over that of the next.
    r1 : sum |Fo - Fc| / sum Fo of the atoms, before refinement: one scale, one displacement.
    cc : correlation of Fo with Fc.
    agrees_with : seeds of other attempts that came to the same atoms.
    with_saturated : whether reflections with saturated observations took part.
    """

    cell: Cell
    space_group: str
    position: Floats
    height: Floats
    multiplicity: NDArray[np.int64]
    atoms: tuple[Atom, ...]
    seed: int
    symmetry_cc: float
    peak_gap: float
    r1: float
    cc: float
    agrees_with: tuple[int, ...] = ()
    with_saturated: bool = True

    def __len__(self) -> int:
        return len(self.position)


@dataclass(frozen=True)
class ChargeFlipping:
    """What all attempts came to.

    Attributes
    ----------
    solutions : best first, by `r1` of their atoms.
    verdict : solved, uncertain or not solved.
    reasons : why, a sentence each.
    n_attempts, n_converged : how often it began from random phases, and came to a structure.
    seconds : wall time.
    """

    solutions: tuple[Solution, ...]
    verdict: Verdict
    reasons: tuple[str, ...]
    n_attempts: int
    n_converged: int
    seconds: float

    @property
    def best(self) -> Solution | None:
        """The first solution."""
        return self.solutions[0] if self.solutions else None

    @property
    def sentence(self) -> str:
        """The verdict with its reasons, as one line."""
        return f"{self.verdict}: {'; '.join(self.reasons)}"


@dataclass(frozen=True)
class Refined:
    """A structure refined against intensities.

    Attributes
    ----------
    r1 : sum |Fo - Fc| / sum Fo over reflections with I > 2 sigma.
    r1_all : over all with a positive intensity.
    wr2 : weighted R of F^2, over all.
    n_reflections, n_strong, n_parameters : unique, those with I > 2 sigma, refined.
    goodness_of_fit : 1 for weights that tell the truth.
    atoms : refined.
    cell, space_group : of the atoms.
    """

    r1: float
    r1_all: float
    wr2: float
    n_reflections: int
    n_strong: int
    n_parameters: int
    goodness_of_fit: float
    atoms: tuple[Atom, ...]
    cell: Cell
    space_group: str
