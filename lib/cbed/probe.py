"""The probe and the camera of a simulated 4D-STEM scan. Vectors are (row, column)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..optics import ELECTRON_MASS, ELEMENTARY_CHARGE, LIGHT_SPEED, electron_wavelength_A

Floats = NDArray[np.float64]
FWHM_PER_SIGMA = 2 * math.sqrt(2 * math.log(2))


@dataclass(frozen=True)
class Probe:
    """A convergent probe.

    Attributes
    ----------
    voltage_kV : accelerating voltage.
    semi_angle_mrad : of the aperture.
    defocus_A : how far the focus lies behind the specimen's plane, along the beam; positive is
        underfocus.
    focus_spread_fwhm_A : full width at half maximum of the Gaussian distribution of defocus
        (temporal incoherence): Cc dE / E (1 + E/mc²) / (1 + E/2mc²). 80 Å at 60 kV with 0.35 eV
        and Cc = 1.3 mm.
    source_fwhm_A : full width of the Gaussian image of the source (spatial incoherence).
    """

    voltage_kV: float = 60.0
    semi_angle_mrad: float = 31.0
    defocus_A: float = 0.0
    focus_spread_fwhm_A: float = 0.0
    source_fwhm_A: float = 0.0

    def __post_init__(self) -> None:
        for name in ("voltage_kV", "semi_angle_mrad"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: found {getattr(self, name)}, expected > 0")
        for name in ("focus_spread_fwhm_A", "source_fwhm_A"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name}: found {getattr(self, name)}, expected >= 0")

    @property
    def wavelength_A(self) -> float:
        """Electron wavelength in ångström."""
        return electron_wavelength_A(self.voltage_kV)

    @property
    def cutoff_per_A(self) -> float:
        """Radius of the aperture in reciprocal ångström."""
        return self.semi_angle_mrad * 1e-3 / self.wavelength_A

    @property
    def relativistic_factor(self) -> float:
        """1 + eV / mc²: how much the specimen's phase grows with the electron's mass."""
        rest_V = ELECTRON_MASS * LIGHT_SPEED**2 / ELEMENTARY_CHARGE
        return 1 + self.voltage_kV * 1e3 / rest_V

    def defoci(self, count: int = 11) -> tuple[Floats, Floats]:
        """Defocus values in Å and their weights (sum 1): the Gaussian spread over ±1.3 FWHM."""
        if self.focus_spread_fwhm_A == 0:
            return np.array([self.defocus_A]), np.ones(1)
        sigma = self.focus_spread_fwhm_A / FWHM_PER_SIGMA
        offsets = np.linspace(-3, 3, count) * sigma
        weights = np.exp(-(offsets**2) / (2 * sigma**2))
        return self.defocus_A + offsets, weights / weights.sum()

    def with_(self, **changes: Any) -> Probe:
        """A copy with some fields changed."""
        return replace(self, **changes)


@dataclass(frozen=True)
class Camera:
    """Where the pixels of a diffraction pattern lie in angle.

    Attributes
    ----------
    shape : (rows, columns).
    pixel_mrad : angle between neighbouring pixels, (row, column).
    centre_px : where the undeflected beam arrives; None is the middle of the array, so that
        turning the array by 90 degrees turns the pattern.
    rotation_deg : the specimen's column axis appears on the detector turned by this angle from
        the detector's column axis towards its row axis.
    """

    shape: tuple[int, int] = (64, 64)
    pixel_mrad: tuple[float, float] = (1.038, 1.038)
    centre_px: tuple[float, float] | None = None
    rotation_deg: float = 0.0

    @property
    def centre(self) -> tuple[float, float]:
        """(row, column) of the undeflected beam."""
        middle = ((self.shape[0] - 1) / 2, (self.shape[1] - 1) / 2)
        return self.centre_px or middle

    def wave_vectors(self, wavelength_A: float, oversample: int = 1) -> Floats:
        """(2, rows, oversample, columns, oversample): in the specimen's frame, per ångström.

        The second and fourth axes run over sub-pixels, whose mean is the pixel's area average.
        """
        sub = (np.arange(oversample) - (oversample - 1) / 2) / oversample
        scale = 1e-3 / wavelength_A
        row = (np.arange(self.shape[0])[:, None] + sub - self.centre[0]) * self.pixel_mrad[0]
        column = (np.arange(self.shape[1])[:, None] + sub - self.centre[1]) * self.pixel_mrad[1]
        row, column = scale * row[:, :, None, None], scale * column[None, None]
        c, s = math.cos(math.radians(self.rotation_deg)), math.sin(math.radians(self.rotation_deg))
        return np.stack([c * row - s * column, s * row + c * column])
