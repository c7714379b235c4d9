"""What the electrons see during one exposure: the interface of optics and specimen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...lib.geometry import Geometry
from ..protocols import Mode

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Pose:
    """Where the specimen is: ``r_lab = rotation @ r_specimen + translation_um``.

    The lab frame is that of the house (x along columns, y along rows, z along the beam, as the
    camera of the diffraction mode sees it) with its origin on the optical axis at the eucentric
    plane. A direction of a crystal's reciprocal lattice turns with `rotation` too.
    """

    rotation: Floats
    translation_um: Floats


@dataclass(frozen=True)
class View:
    """One exposure.

    Attributes
    ----------
    mode : of the projection system.
    start, end : poses at the beginning and end of the exposure; the same if the stage rests.
    electrons : in the whole beam during the exposure; 0 when blanked.
    beam_centre_um : (2,) lab (x, y) where the beam meets the eucentric plane.
    beam_radius_um : of the beam's disc there.
    picture_px_per_um : (2, 2) for imaging and defocused diffraction: px (row, column) =
        `origin_px` + picture_px_per_um @ lab (x, y) in um; zero when focused.
    origin_px : (2,) (row, column) of the lab's origin in the picture.
    pattern_px : (2,) (row, column) of the direct beam in focused diffraction; in defocused
        diffraction every diffracted disc is displaced as in the focused pattern.
    geometry : camera length, wavelength, ellipse; its beam centre is replaced by `pattern_px`.
    defocused : whether a diffraction view shows discs.
    shape : (rows, columns) of the unbinned camera.
    """

    mode: Mode
    start: Pose
    end: Pose
    electrons: float
    beam_centre_um: Floats
    beam_radius_um: float
    picture_px_per_um: Floats
    origin_px: Floats
    pattern_px: Floats
    geometry: Geometry
    defocused: bool
    shape: tuple[int, int]
