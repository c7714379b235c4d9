"""A single diffraction image with what its file says of it: powder rings, a pattern to recentre.

Series of frames have `read_series`; this is for one image of any format that they have, and of
those in which calibration images are kept (DM3, DM4, EMD).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class DiffractionImage:
    """One image; None stands for what its file does not say.

    Attributes
    ----------
    name : of the image, usually the stem of its file.
    pixels : (rows, columns), as stored, in any real dtype.
    wavelength_A : electron wavelength, from the accelerating voltage where that is stated.
    pixel_size_mm : edge of a detector pixel, binning included.
    camera_length_mm : camera length stated by the file.
    per_A_per_px : calibrated reciprocal-space size of a pixel stated by the file.
    saturation : counts at and above which a pixel is overloaded.
    exposure_s : exposure.
    camera : name of the detector.
    path : the file it came from.
    sha256 : digest of the file.
    notes : what the reader had to decide, one sentence each.
    """

    name: str
    pixels: NDArray[Any]
    wavelength_A: float | None = None
    pixel_size_mm: float | None = None
    camera_length_mm: float | None = None
    per_A_per_px: float | None = None
    saturation: float | None = None
    exposure_s: float | None = None
    camera: str = ""
    path: str = ""
    sha256: str = ""
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if np.ndim(self.pixels) != 2:
            raise ValueError(f"pixels: found {np.shape(self.pixels)}, expected (rows, columns)")

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        rows, columns = self.pixels.shape
        return rows, columns
