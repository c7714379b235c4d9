"""What a reduction is: lattices with integrated reflections, and a record of every frame."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from enum import IntFlag

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..crystal.cell import (
    Cell,
    cell_from_real_basis,
    cell_from_reciprocal_basis,
    orthogonalisation,
)
from ..crystal.lattice_symmetry import LatticeCandidate
from ..geometry import Geometry

Floats = NDArray[np.float64]


class Flag(IntFlag):
    """Why an integrated reflection may deserve less trust."""

    SATURATED = 1  # a pixel at or above the detector's saturation
    MASKED = 2  # a pixel of the spot is masked or off the detector
    PARTIAL = 4  # part of the rocking curve lies outside the frames that exist
    OVERLAP = 8  # another lattice's reflection shares the pixels
    EDGE = 16  # part of the spot is off the detector
    BACKGROUND = 32  # the background is unknown: too few pixels, or the halo of the direct beam
    PROFILE_FAILED = 64  # only the summation intensity is valid (other programs; never ours)
    OUTLIER = 128  # it disagrees with its symmetry equivalents
    MISFIT = 256  # its rocking curve contradicts the model


@dataclass(frozen=True)
class Reflections:
    """Integrated reflections of one lattice, one row each.

    Attributes
    ----------
    hkl : (n, 3) int32, in the lattice's conventional cell.
    intensity_sum, sigma_sum : 3D summation over the frames that exist, over the fraction of
        the rocking curve that they cover; Lorentz-corrected as below.
    intensity, sigma : by fitted spot and rocking-curve profiles; full, scaled over the series
        (`FrameTable.scale`) and Lorentz-corrected, so proportional to |F|^2 kinematically;
        ``intensity * lorentz`` is in electrons.
    background : mean background under the spot, electrons per pixel.
    frame : centroid of the rocking curve in frame positions (index into the series; the
        middle of the first frame is 0.0).
    angle_deg : the same as goniometer angle.
    row, column : predicted position, px.
    observed_row, observed_column : intensity-weighted centroid, px; NaN where too weak.
    partiality : fraction of the rocking curve recorded, 0 to 1.
    lorentz : Lorentz factor 1 / |d(excitation error) / d(rotation)|, Å rad.
    d_A : resolution.
    flags : `Flag` bits.
    """

    hkl: NDArray[np.int32]
    intensity_sum: Floats
    sigma_sum: Floats
    intensity: Floats
    sigma: Floats
    background: Floats
    frame: Floats
    angle_deg: Floats
    row: Floats
    column: Floats
    observed_row: Floats
    observed_column: Floats
    partiality: Floats
    lorentz: Floats
    d_A: Floats
    flags: NDArray[np.uint32]

    def __len__(self) -> int:
        return len(self.hkl)

    def __getitem__(self, index: object) -> Reflections:
        """Some of the rows (anything numpy indexes with)."""
        return Reflections(**{f.name: getattr(self, f.name)[index] for f in fields(self)})

    def has(self, flag: Flag) -> NDArray[np.bool_]:
        """(n,) True where any bit of `flag` is set."""
        result: NDArray[np.bool_] = (self.flags & np.uint32(flag)) != 0
        return result


@dataclass(frozen=True)
class StrongSpots:
    """The strong spots that lattices were searched in, one row each.

    Attributes
    ----------
    row, column : centroid, px.
    frame : centroid in frame positions, as in `Reflections`.
    significance : intensity over its counting error.
    lattice : number of the first lattice that indexes it, from 1; 0 where none does.
    """

    row: Floats
    column: Floats
    frame: Floats
    significance: Floats
    lattice: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.row)


@dataclass(frozen=True)
class FrameTable:
    """One row per frame of the series.

    Attributes
    ----------
    frame_number : as in the series.
    angle_deg : refined goniometer angle at mid-exposure.
    beam_row, beam_column : refined direct-beam position, px.
    scale : smooth relative scale from symmetry equivalents, by which intensities were divided.
    profile_ratio : observed over expected part of the rocking curves on this frame (flicker of
        the beam, a frame partly lost); NaN where no strong reflection told it.
    n_spots, n_indexed : found and indexed strong spots with their peak in the frame.
    background : median counts per pixel.
    blank : frame holds no signal and was left out.
    """

    frame_number: NDArray[np.int64]
    angle_deg: Floats
    beam_row: Floats
    beam_column: Floats
    scale: Floats
    profile_ratio: Floats
    n_spots: NDArray[np.int64]
    n_indexed: NDArray[np.int64]
    background: Floats
    blank: NDArray[np.bool_]


@dataclass(frozen=True)
class Lattice:
    """One crystal lattice found in a series, refined and integrated.

    Attributes
    ----------
    bravais : the lattice type imposed in the refinement.
    orientation : (3, 3) ``A = U B`` in 1/Å at zero rotation, conventional setting.
    cell, cell_esd : refined with the lattice's constraints.
    cell_p1, cell_p1_esd : the same setting refined without them.
    niggli : reduced cell of the unconstrained lattice.
    geometry : refined; its beam centre is the median over the frames (see `FrameTable`).
    esd : e.s.d. of other refined parameters by name.
    rotation_scale : true rotation over the nominal one.
    candidates : the lattice types considered, best first.
    mosaicity_deg : spread of the rocking curve proportional to its speed (eta).
    size_per_A : spread of the rocking curve independent of it (1/thickness and beam divergence).
    n_spots, n_indexed : spots offered to this lattice and indexed by it.
    rms_px, rms_deg : of the indexed spots about their predictions.
    reflections : integrated reflections.
    """

    bravais: str
    orientation: Floats
    cell: Cell
    cell_esd: Cell
    cell_p1: Cell
    cell_p1_esd: Cell
    niggli: Cell
    geometry: Geometry
    esd: Mapping[str, float]
    rotation_scale: float
    candidates: tuple[LatticeCandidate, ...]
    mosaicity_deg: float
    size_per_A: float
    n_spots: int
    n_indexed: int
    rms_px: float
    rms_deg: float
    reflections: Reflections

    def __post_init__(self) -> None:
        found = np.array(cell_from_reciprocal_basis(self.orientation))
        if not np.allclose(found, self.cell, rtol=1e-4, atol=1e-2):
            raise ValueError(f"cell: found {self.cell}, expected that of `orientation`, {found}")

    @property
    def indexed_fraction(self) -> float:
        """Indexed over offered spots."""
        return self.n_indexed / max(self.n_spots, 1)

    def reindexed(self, transform: ArrayLike, bravais: str) -> Lattice:
        """The same on the real basis ``basis @ transform``, as a lattice of type `bravais`.

        E.s.d.s of the cell are unknown then (NaN); reflections whose indices are no longer
        whole numbers are left out.
        """
        matrix = np.asarray(transform, float)
        orientation = self.orientation @ np.linalg.inv(matrix).T
        cell = cell_from_reciprocal_basis(orientation)
        free = cell_from_real_basis(orthogonalisation(self.cell_p1) @ matrix)
        unknown = (float("nan"),) * 6
        hkl = self.reflections.hkl @ matrix
        whole = np.all(np.abs(hkl - np.rint(hkl)) < 1e-3, axis=1)
        reflections = replace(self.reflections, hkl=np.rint(hkl).astype(np.int32))[whole]
        return replace(
            self, bravais=bravais, orientation=orientation, cell=cell, cell_esd=unknown,
            cell_p1=free, cell_p1_esd=unknown, reflections=reflections,
        )  # fmt: skip


@dataclass(frozen=True)
class Reduction:
    """The result of the engine on one series.

    Attributes
    ----------
    series : its name.
    lattices : strongest first; empty if the series holds no lattice (then `verdict` says why).
    frames : what happened to every frame.
    gain : counts per electron, given or estimated.
    statistics : figures of merit by name.
    seconds : wall time per step.
    notes : every choice made and every oddity met, one sentence each.
    verdict : one line: what was found.
    spots : what lattices were searched in; None where the engine does not tell.
    """

    series: str
    lattices: tuple[Lattice, ...]
    frames: FrameTable
    gain: float
    statistics: Mapping[str, float] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    verdict: str = ""
    spots: StrongSpots | None = None
