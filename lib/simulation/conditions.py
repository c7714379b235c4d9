"""What a simulated experiment consists of: crystals, beam, background, detector, header errors.

The defaults are those of a usual session: 200 kV, a Timepix of 516 x 516 pixels of 55 µm, a
calcined zeolite of 0.2 µm.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import gemmi
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from ..geometry import EllipticalDistortion, Geometry
from ..optics import electron_wavelength_A

Floats = NDArray[np.float64]
RockingShape = Literal["gaussian", "lorentzian", "sinc2"]


@dataclass(frozen=True)
class Crystal:
    """A crystal in the beam.

    Attributes
    ----------
    structure : its structure.
    rotation : (3, 3) proper rotation U; ``A = U B`` at zero goniometer angle.
    weight : share of the beam's electrons that pass it.
    thickness_A : along the beam; sets the intensity and the size part of the rocking width.
    mosaicity_deg : eta, the rocking width that grows with |g|.
    rocking : shape of the rocking curve; all have the same full width at half maximum.
    leakage : multiple scattering, crudely: every reflection gains this fraction of the mean
        |F|^2 of its resolution shell, times an exponential deviate of mean 1. In a real garnet
        the glide-forbidden reflections had 0.19 of the mean allowed intensity.
    """

    structure: gemmi.SmallStructure
    rotation: Floats
    weight: float = 1.0
    thickness_A: float = 230.0
    mosaicity_deg: float = 0.1
    rocking: RockingShape = "gaussian"
    leakage: float = 0.0

    def __post_init__(self) -> None:
        u = np.asarray(self.rotation, float)
        if u.shape != (3, 3) or not np.allclose(u @ u.T, np.eye(3)) or np.linalg.det(u) < 0:
            raise ValueError("rotation: expected a proper rotation matrix, shape (3, 3)")
        object.__setattr__(self, "rotation", u)
        for name in ("weight", "thickness_A"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: found {getattr(self, name)}, expected more than 0")
        for name in ("mosaicity_deg", "leakage"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name}: found {getattr(self, name)}, expected 0 or more")

    @property
    def size_per_A(self) -> float:
        """Standard deviation of the size part of the rocking curve, 1/Å.

        A plate of thickness t rocks as sinc^2(pi t s), whose full width at half maximum 0.886/t
        is that of a Gaussian of standard deviation 0.376/t.
        """
        return 0.376 / self.thickness_A


@dataclass(frozen=True)
class Beam:
    """The electron beam, and what the microscope does to it.

    Attributes
    ----------
    electrons_per_deg : electrons of the direct beam per degree of rotation.
    drift_px : largest distance of the beam centre from where it is on the first frame.
    illumination_change : peak to peak change of the illuminated crystal volume over the
        series (half a cosine wave about 1); acts on the reflections only.
    crystal_stays_deg : rotation after which the crystal has left the beam for good.
    fwhm_px : full width at half maximum of a spot's Gaussian core.
    tail_fraction, tail_px : share of a spot's electrons in the wide tail, a Moffat function
        ``1 / (1 + (r / tail_px)^2)^2`` tapered to nothing at 4 `tail_px`: unlike the profile of
        any reduction engine.
    visible : whether the direct beam reaches the detector.
    """

    electrons_per_deg: float = 1e7
    drift_px: float = 0.0
    illumination_change: float = 0.0
    crystal_stays_deg: float = math.inf
    fwhm_px: float = 2.5
    tail_fraction: float = 0.1
    tail_px: float = 4.0
    visible: bool = True


@dataclass(frozen=True)
class Background:
    """Diffuse scattering about the direct beam; electrons per pixel and 1e6 beam electrons.

    Attributes
    ----------
    uniform : everywhere.
    halo : ((height, decay length in px), ...): inelastic, exponential in the radius.
    rings : ((height, d in Å, sigma in 1/Å), ...): the amorphous support, Gaussian in |q|.
    """

    uniform: float = 0.5
    halo: tuple[tuple[float, float], ...] = ((200.0, 12.0), (20.0, 50.0))
    rings: tuple[tuple[float, float, float], ...] = ((1.0, 2.1, 0.04), (0.5, 1.2, 0.05))


NO_BACKGROUND = Background(0.0, (), ())


@dataclass(frozen=True)
class BeamStop:
    """A disc on an arm that reaches the last row; it stops everything and is masked."""

    row: float
    column: float
    radius_px: float = 12.0
    arm_width_px: float = 8.0

    def shadow(self, shape: tuple[int, int]) -> NDArray[np.bool_]:
        """(rows, columns) True behind the stop."""
        row, column = np.indices(shape)
        disc = np.hypot(row - self.row, column - self.column) <= self.radius_px
        arm = (np.abs(column - self.column) <= self.arm_width_px / 2) & (row >= self.row)
        return disc | arm


@dataclass(frozen=True)
class Detector:
    """How electrons become counts: ``counts = gain * electrons + pedestal``, rounded.

    Attributes
    ----------
    gain : counts per electron.
    pedestal, read_noise : counts at zero electrons and their standard deviation. Counts below
        zero read zero, as unsigned ones do.
    saturation : highest count a pixel shows, at most 65535.
    wide_cross : whether the six central rows and columns are two wide Timepix pixels each
        spread over three (and masked).
    zingers_per_frame : mean number of single bright pixels in a frame.
    beam_stop : a stop, or none.
    """

    gain: float = 1.0
    pedestal: float = 0.0
    read_noise: float = 0.0
    saturation: float = 11810.0
    wide_cross: bool = True
    zingers_per_frame: float = 0.0
    beam_stop: BeamStop | None = None

    def __post_init__(self) -> None:
        if not self.gain > 0:
            raise ValueError(f"gain: found {self.gain}, expected a positive number")
        if not 0 < self.saturation <= 65535:
            raise ValueError(f"saturation: found {self.saturation}, expected 1 to 65535")

    def mask(self, shape: tuple[int, int]) -> NDArray[np.bool_]:
        """(rows, columns) True where pixels must not be used."""
        mask = np.zeros(shape, bool)
        if self.wide_cross:
            mask[shape[0] // 2 - 3 : shape[0] // 2 + 3] = True
            mask[:, shape[1] // 2 - 3 : shape[1] // 2 + 3] = True
        if self.beam_stop is not None:
            mask |= self.beam_stop.shadow(shape)
        return mask


@dataclass(frozen=True)
class HeaderErrors:
    """By how much the series' own geometry (its headers) is wrong.

    Attributes
    ----------
    axis_deg : the nominal axis is the true one turned about the beam by this much.
    beam_px : distance of the nominal beam centre from the true one of the first frame, in a
        random direction.
    distance_percent, step_percent : nominal over true camera length and step, less 1.
    knows_distortion, knows_gain : whether the headers tell them.
    """

    axis_deg: float = 0.0
    beam_px: float = 0.0
    distance_percent: float = 0.0
    step_percent: float = 0.0
    knows_distortion: bool = False
    knows_gain: bool = False


def default_geometry(ellipse_ratio: float = 1.0, ellipse_azimuth_deg: float = 30.0) -> Geometry:
    """200 kV, 55 µm pixels, 452 mm, 0.8 Å at 258 pixels, beam beside the detector's middle.

    The axis lies in the detector plane, where instamatic finds it on a JEM-2100F.
    """
    return Geometry(
        wavelength_A=electron_wavelength_A(200.0),
        pixel_size_mm=0.055,
        distance_mm=452.0,
        beam_centre_px=(246.4, 239.7),
        axis=(-0.6204, 0.7843, 0.0),
        distortion=EllipticalDistortion(ellipse_ratio, ellipse_azimuth_deg),
    )


def random_rotation(seed: int | Sequence[int]) -> Floats:
    """A rotation matrix (3, 3), uniform over all rotations."""
    matrix: Floats = Rotation.random(rng=np.random.default_rng(seed)).as_matrix()
    return matrix
