"""What really happened in a simulated series."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from ..crystal.cell import Cell, cell_from_reciprocal_basis
from ..geometry import Geometry

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class TrueReflections:
    """Passages of one lattice's points through the Ewald sphere, one row each.

    Attributes
    ----------
    hkl : (n, 3) int32; a reflection may pass twice.
    f2 : kinematic |F|^2, Å^2.
    angle_deg : true goniometer angle of the crossing.
    frame : the same in frame positions (index into the series; the middle of the first frame
        is 0.0; straight lines between frames where some are missing).
    row, column : position at the crossing, px.
    intensity : electrons of the whole passage, before saturation, had every frame been taken.
    lorentz : integral of the rocking curve over the passage, Å rad: proportional to
        ``intensity / f2`` and equal to ``1 / |ds/dphi|`` in quick crossings.
    recorded : fraction of the passage in frames that exist and are not blank.
    saturated : a pixel within one of the spot's centre reached the detector's saturation.
    grazing : the point turns back within reach of the sphere and its two passages overlap.
    """

    hkl: NDArray[np.int32]
    f2: Floats
    angle_deg: Floats
    frame: Floats
    row: Floats
    column: Floats
    intensity: Floats
    lorentz: Floats
    recorded: Floats
    saturated: NDArray[np.bool_]
    grazing: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.hkl)

    def __getitem__(self, index: object) -> TrueReflections:
        """Some of the rows (anything numpy indexes with)."""
        return TrueReflections(**{f.name: getattr(self, f.name)[index] for f in fields(self)})


@dataclass(frozen=True)
class TrueLattice:
    """One simulated crystal.

    Attributes
    ----------
    name : of its structure.
    space_group : Hermann-Mauguin symbol (extended).
    orientation : (3, 3) ``A = U B`` in 1/Å at zero rotation, the structure's own setting.
    weight : share of the beam's electrons that pass it.
    reflections : those whose crossing lies on the detector and within the series.
    """

    name: str
    space_group: str
    orientation: Floats
    weight: float
    reflections: TrueReflections

    @property
    def cell(self) -> Cell:
        """Cell parameters."""
        return cell_from_reciprocal_basis(self.orientation)


@dataclass(frozen=True)
class Truth:
    """The true experiment behind a simulated series.

    Attributes
    ----------
    lattices : one per crystal, in the order given.
    geometry : true geometry; its beam centre is that of the first exposure.
    angle_start_deg, angle_width_deg : (n,) true, of the frames in the series.
    beam_centres_px : (n, 2) true (row, column).
    illumination : (n,) relative crystal volume in the beam.
    blank : (n,) True where the frame reads zero everywhere.
    gain : counts per electron.
    n_aliens : scattering points of no lattice that were mixed in.
    seed : of everything random.
    """

    lattices: tuple[TrueLattice, ...]
    geometry: Geometry
    angle_start_deg: Floats
    angle_width_deg: Floats
    beam_centres_px: Floats
    illumination: Floats
    blank: NDArray[np.bool_]
    gain: float
    n_aliens: int
    seed: int

    @property
    def angle_mid_deg(self) -> Floats:
        """True goniometer angle at the middle of each exposure."""
        return self.angle_start_deg + 0.5 * self.angle_width_deg
