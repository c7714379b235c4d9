"""What is said about the symmetry of a phase, and on what evidence.

Everything is in one setting, that of `SpaceGroupVerdict.cell`; `SpaceGroupVerdict.reindexed`
brings data sets into it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

import gemmi
import numpy as np
from numpy.typing import NDArray

from ..crystal.cell import Cell, Floats, Integers
from ..crystal.lattice_symmetry import reindex_absences
from ..merging.data_set import DataSet

# A statement is made where its probability is at least this.
SURE = 0.9


@dataclass(frozen=True)
class Rotation:
    """What the intensities say about one rotation of the lattice.

    Attributes
    ----------
    name : order and axis, e.g. "2 along [0 1 0]".
    operator : (3, 3) int, acting on columns of indices.
    n_pairs : pairs of different merged reflections that it relates.
    cc : correlation of their normalised amplitudes; NaN below three pairs.
    cc_sd : standard deviation of the correlation of as many unrelated reflections, measured by
        pairing reflections of this data at random.
    significance : Fisher's z of `cc` over that of unrelated pairs.
    probability : that it is a symmetry, of this alone (Evans, 2011); NaN if not tested.
    seen : it is in the Laue group decided on.
    """

    name: str
    operator: Integers
    n_pairs: int
    cc: float
    cc_sd: float
    significance: float
    probability: float
    seen: bool


@dataclass(frozen=True)
class LaueGroupScore:
    """One subgroup of the lattice's rotations.

    Attributes
    ----------
    laue_class : e.g. "2/m".
    axes : names of its rotations.
    order : number of rotations.
    cc_inside, cc_outside : mean correlation of rotations in it and of the others; NaN if none.
    probability : of this subgroup among all; they sum to one.
    """

    laue_class: str
    axes: tuple[str, ...]
    order: int
    cc_inside: float
    cc_outside: float
    probability: float


@dataclass(frozen=True)
class LaueEvidence:
    """The Laue group, its lattice and setting.

    Attributes
    ----------
    laue_class : decided on; where undecided, the lower symmetry that is kept.
    bravais, cell : conventional lattice of that class with its constraints imposed.
    transform : (3, 3), conventional real basis = real basis of the data @ transform.
    operators : (m, 3, 3) int rotations in that setting, acting on columns of indices.
    lattice, lattice_cell : highest lattice tried.
    rotations : every rotation of it, in its setting.
    groups : every subgroup, most probable first.
    probability : of the group decided on.
    decided : that is at least `SURE`, and pairs were enough.
    n_pairs : pairs related by any rotation tried.
    metric_distance : strain that the lattice asks of the measured cell (`LatticeCandidate`).
    reason : one sentence.
    """

    laue_class: str
    bravais: str
    cell: Cell
    transform: Floats
    operators: Integers
    lattice: str
    lattice_cell: Cell
    rotations: tuple[Rotation, ...]
    groups: tuple[LaueGroupScore, ...]
    probability: float
    decided: bool
    n_pairs: int
    metric_distance: float
    reason: str


@dataclass(frozen=True)
class CentringEvidence:
    """A lattice translation tried on the reflections.

    Attributes
    ----------
    translation : fractions of the data's cell, e.g. (1/2, 1/2, 1/2).
    n_absent, n_present : unique reflections that it would extinguish, and leave.
    i_over_sigma : mean of those it would extinguish; NaN if there are none.
    ratio : their mean intensity over that of the others at the same resolution; NaN if none.
    ratio_sd : its standard deviation.
    found : the translation is one of the lattice.
    """

    translation: tuple[Fraction, Fraction, Fraction]
    n_absent: int
    n_present: int
    i_over_sigma: float
    ratio: float
    ratio_sd: float
    found: bool


@dataclass(frozen=True)
class Absences:
    """A screw axis or glide plane and the reflections it would extinguish.

    Attributes
    ----------
    name : e.g. "2_1 along b", "n glide normal to a".
    condition : what it leaves, as in International Tables: "0 k l: k + l = 2n".
    n : extinguished reflections that were measured, unique; 0 where it was not tested.
    i_over_sigma : mean over them.
    n_above_3_sigma : of them.
    ratio : mean of I / <I>, <I> that of all reflections at the same resolution.
    ratio_neighbours : the same of the reflections of the same row or plane that nothing
        extinguishes.
    n_neighbours : of them.
    spread : r.m.s. relative scatter of equivalent observations beyond their sigmas, over that
        of other reflections as strong; multiple scattering depends on the azimuth (Renninger,
        1937), so that values above one say that the intensity is not the reflection's own.
        NaN where there are too few equivalents.
    probability : that the element is there; NaN where it was not tested.
    """

    name: str
    condition: str
    n: int
    i_over_sigma: float
    n_above_3_sigma: int
    ratio: float
    ratio_neighbours: float
    n_neighbours: int
    spread: float
    probability: float


@dataclass(frozen=True)
class RankedGroup:
    """A space group that the Laue group and lattice allow.

    Attributes
    ----------
    symbol : Hermann-Mauguin in the setting of the data, as `gemmi.SpaceGroup` reads it.
    number : 1 to 230.
    elements : names of the absences it asks for.
    probability : all groups listed sum to one.
    absence_probability : of its absences; shared with all groups of the same ones.
    tied_with : symbols of the groups with the same absences.
    centrosymmetric, sohncke : whether it holds an inversion; only proper rotations.
    standard_symbol : of the standard setting.
    to_standard : coordinates here from those in the standard setting, as gemmi writes it, e.g.
        "z,x,y"; with C its matrix, standard real basis = real basis @ C (`DataSet.reindexed`).
    reasons : sentences for and against.
    """

    symbol: str
    number: int
    elements: tuple[str, ...]
    probability: float
    absence_probability: float
    tied_with: tuple[str, ...]
    centrosymmetric: bool
    sohncke: bool
    standard_symbol: str
    to_standard: str
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class SpaceGroupVerdict:
    """Laue group, absences and space groups of a phase.

    Attributes
    ----------
    space_group : to work in: the most probable one, where its absences are twice as probable as
        all others together (which takes reflections that were measured); else one that asks for
        no more than the absences that are sure, down to the Laue class without screws and glides.
    decided : whether the most probable absences reach `SURE`. Groups with the same absences
        are told apart by their frequency and E-statistics alone, see `ranked`.
    cell, bravais : conventional, of the Laue group decided on.
    transform : (3, 3), that real basis = real basis of the data @ transform.
    centring_absent : rows (k, 3) of fractional translations t found in the data's own cell;
        reflections with a fractional h.t were dropped.
    operators : (m, 3, 3) rotations acting on columns of indices.
    laue : evidence by rotation and subgroup.
    centring : evidence by translation; empty where nothing was to be tested.
    absences : evidence by element.
    ranked : most probable first.
    leakage, leakage_sd : intensity of extinguished reflections over what could leak into
        them by multiple scattering (see `absences`); NaN where nothing is extinguished.
    e2_minus_1 : <|E^2 - 1|> of general reflections, and what is expected of their sigmas with
        and without an inversion centre.
    notes : one sentence each.
    """

    space_group: str
    decided: bool
    cell: Cell
    bravais: str
    transform: Floats
    centring_absent: Floats
    operators: Integers
    laue: LaueEvidence
    centring: tuple[CentringEvidence, ...]
    absences: tuple[Absences, ...]
    ranked: tuple[RankedGroup, ...]
    leakage: float
    leakage_sd: float
    e2_minus_1: tuple[float, float, float]
    notes: tuple[str, ...]

    @property
    def group(self) -> gemmi.SpaceGroup:
        """`space_group` as gemmi's object."""
        return gemmi.SpaceGroup(self.space_group)

    @property
    def reason(self) -> str:
        """All of it in one sentence."""
        best = self.ranked[0]
        tied = f", tied with {', '.join(best.tied_with)}" if best.tied_with else ""
        return (
            f"{self.laue.reason}; {best.symbol} first with p {best.probability:.2f} "
            f"(absences {best.absence_probability:.2f}{tied}); used: {self.space_group}"
        )

    def reindexed(self, data: DataSet) -> DataSet:
        """A data set, indexed as those the verdict was made from, in the verdict's setting."""
        hkl = data.hkl @ self.transform
        whole = np.all(np.abs(hkl - np.rint(hkl)) < 1e-3, axis=1)
        for translation in self.centring_absent:
            whole &= _whole(data.hkl @ translation)
        kept = data.select(whole)
        indices = np.rint(kept.hkl @ self.transform).astype(np.int32)
        allowed = ~reindex_absences(self.bravais, indices)
        kept, indices = kept.select(allowed), indices[allowed]
        orientation = kept.orientation
        if orientation is not None:
            orientation = orientation @ np.linalg.inv(self.transform).T
        return replace(
            kept, hkl=indices, cell=self.cell, bravais=self.bravais, orientation=orientation
        )


def _whole(x: Floats) -> NDArray[np.bool_]:
    result: NDArray[np.bool_] = np.abs(x - np.rint(x)) < 1e-3
    return result
