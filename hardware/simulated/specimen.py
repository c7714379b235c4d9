"""A grid with crystals on it: what the twin's electrons pass, drawn from a seed.

A particle is a convex body: a polygon that lies on the carbon film, of some thickness, with
bevelled edges. It is held as half-spaces ``n . r <= c`` about its own origin, so that the path
of a ray through it, at any tilt, is the difference of two numbers (`contrast`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import gemmi
import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat
from scipy.spatial import cKDTree

from ...lib.crystal.cell import cell_volume, reciprocal_basis
from ...lib.simulation.structures import cell_of, structure_factors, structure_named

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# Bodies closer than this, edge to edge, are not isolated: SerialRED's usual distance.
ISOLATED_UM = 1.0

DIRT = -1

# To any scattering, in dirt.
DIRT_FREE_PATH_UM = 0.3

# Crystals scatter to here; the corners of the twin's camera are at 0.57 Å.
D_MIN_A = 0.7


class PhaseOptions(BaseModel):
    """Crystals of one structure.

    Attributes
    ----------
    structure : a built-in one, by its name (MFI, MOR, CHA, andradite), or a CIF.
    weight : share of the crystals, relative to the other phases.
    diameter_um, diameter_spread : median and standard deviation of the logarithm of the diameter
        of the circle that has the crystal's area.
    thickness : of the plate, relative to that diameter, and at most `thickest_um`.
    thickest_um : also sets how strong multiple scattering gets.
    elongation : mean length over width; above 2.5 a lath.
    domain_A : the rocking curve is that of a plate of this thickness: what size, bending and
        the beam's convergence make of it together.
    coherent_A : length over which amplitudes add up, at most the plate's thickness; sets the
        interference of double scattering.
    two_beam : whether strong reflections are weakened as the two-beam theory has it within that
        length (Blackman).
    mosaicity_deg : rocking width that grows with \\|g\\|.
    tail : share of the rocking curve in its Lorentzian tails, the shape function's.
    mean_free_path_um : to any scattering that is not a reflection.
    preferred : share of the crystals that lie on the face c* points out of.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    structure: str
    weight: PositiveFloat = 1.0
    diameter_um: PositiveFloat = 0.8
    diameter_spread: float = Field(default=0.3, ge=0, le=1)
    thickness: PositiveFloat = 0.25
    thickest_um: PositiveFloat = 0.4
    elongation: float = Field(default=1.3, ge=1)
    domain_A: PositiveFloat = 230.0
    coherent_A: PositiveFloat = 800.0
    two_beam: bool = True
    mosaicity_deg: NonNegativeFloat = 0.1
    tail: float = Field(default=0.1, ge=0, lt=1)
    mean_free_path_um: PositiveFloat = 0.2
    preferred: float = Field(default=0.0, ge=0, le=1)


class SpecimenOptions(BaseModel):
    """What is on the grid.

    Attributes
    ----------
    phases : of the crystals.
    width_um : of the square of film that is covered, centred on the stage's origin.
    crystals_per_um2 : mean density, those in clusters included.
    clustered, dirt, faint : shares of the particles that touch another, scatter as something
        amorphous, or are so thin that they are hard to see.
    pitch_um, bar_um : of the grid's mesh; a bar of 0 is none.
    film_nm : thickness of the carbon film; `film_texture`: its relative standard deviation.
    film_free_path_um : see `PhaseOptions.mean_free_path_um`.
    bow_um, tilt_deg : how the film sags in a mesh, and how it is tilted there (+-).
    grid_tilt_deg : of the whole grid (+-).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    phases: tuple[PhaseOptions, ...] = (
        PhaseOptions(structure="MFI"),
        PhaseOptions(structure="MOR", elongation=2.2),
    )
    width_um: PositiveFloat = 240.0
    crystals_per_um2: NonNegativeFloat = 0.02
    clustered: float = Field(default=0.2, ge=0, le=1)
    dirt: float = Field(default=0.08, ge=0, lt=1)
    faint: float = Field(default=0.08, ge=0, le=1)
    pitch_um: PositiveFloat = 63.5
    bar_um: NonNegativeFloat = 20.0
    film_nm: NonNegativeFloat = 15.0
    film_texture: float = Field(default=0.15, ge=0, le=1)
    film_free_path_um: PositiveFloat = 0.2
    bow_um: float = 1.5
    tilt_deg: NonNegativeFloat = 1.0
    grid_tilt_deg: NonNegativeFloat = 0.5


@dataclass(frozen=True)
class Phase:
    """A structure with its reflections.

    Attributes
    ----------
    options : as asked for.
    structure : gemmi's.
    hkl : (n, 3) all points of the lattice to `D_MIN_A`.
    q0 : (n, 3) of an unturned crystal, 1/Å.
    strength : (n,) ``|F|^2 / V^2``, Å^-4.
    factor : (n,) complex ``F / V``, Å^-2.
    factor_at : (2 h + 1, 2 k + 1, 2 l + 1) the same by index, from the corner (-h, -k, -l).
    """

    options: PhaseOptions
    structure: gemmi.SmallStructure
    hkl: Ints
    q0: Floats
    strength: Floats
    factor: NDArray[np.complex128]
    factor_at: NDArray[np.complex128]

    @property
    def name(self) -> str:
        """Of the structure."""
        return str(self.structure.name)


@dataclass(frozen=True)
class Particles:
    """All that lies on the film, one row each.

    Attributes
    ----------
    centre_um : (n, 3) in the specimen's frame; z is the film's there.
    phase : (n,) index of the phase; `DIRT` scatters as something amorphous.
    orientation : (n, 3, 3) U: a crystal's ``q = R U B h`` at the pose's rotation R.
    thickness_um, area_um2 : (n,) of the plate, and of its outline seen along z.
    reach_um : (n,) radius of the sphere about the centre that holds it.
    vertices_um : for each, (v, 2) its outline, about its centre.
    faces : for each, (f, 4) rows n, c of ``n . r <= c``, r about its centre in um.
    cluster : (n,) number of the group of bodies it touches; its own if none.
    faint : (n,) True if made hard to see.
    gap_um : (n,) to the nearest other outline.
    """

    centre_um: Floats
    phase: Ints
    orientation: Floats
    thickness_um: Floats
    area_um2: Floats
    reach_um: Floats
    vertices_um: tuple[Floats, ...]
    faces: tuple[Floats, ...]
    cluster: Ints
    faint: NDArray[np.bool_]
    gap_um: Floats

    def __len__(self) -> int:
        return len(self.phase)

    @property
    def isolated(self) -> NDArray[np.bool_]:
        """(n,) True where nothing else is within `ISOLATED_UM`."""
        return self.gap_um > ISOLATED_UM


@dataclass(frozen=True)
class Specimen:
    """The ground truth.

    Attributes
    ----------
    options : as asked for.
    phases : in their order.
    particles : crystals and dirt.
    tree : of the particles' (x, y).
    """

    options: SpecimenOptions
    phases: tuple[Phase, ...]
    particles: Particles
    tree: cKDTree
    seed: int

    def near(self, xy_um: ArrayLike, radius_um: float) -> list[int]:
        """Particles that reach into a circle on the film, in ascending order."""
        if not len(self.particles):
            return []
        widest = float(self.particles.reach_um.max())
        found = self.tree.query_ball_point(np.asarray(xy_um, float), radius_um + widest)
        return sorted(int(i) for i in found)


@lru_cache(maxsize=16)
def phase_of(options: PhaseOptions) -> Phase:
    """The reflections of a structure; made once.

    Raises
    ------
    UserError : the structure is neither a built-in one nor a readable CIF.
    """
    structure = structure_named(options.structure)
    cell = cell_of(structure)
    hkl, factor = structure_factors(structure, D_MIN_A)
    factor = factor / cell_volume(cell)
    largest = np.abs(hkl).max(axis=0)
    table = np.zeros(2 * largest + 1, complex)
    table[tuple((hkl + largest).T)] = factor
    q0 = np.ascontiguousarray(hkl @ reciprocal_basis(cell).T)
    return Phase(options, structure, hkl.astype(np.int64), q0, np.abs(factor) ** 2, factor, table)
