"""What orientation refinement starts from and ends in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..crystal.cell import Floats
from ..geometry import Geometry


@dataclass(frozen=True)
class FrameIntensities:
    """One row per frame of each passage of a reflection through the Ewald sphere.

    Rows cover all frames on which the reflection is predicted within a window of excitation
    error; weak, absent and negative ones are rows like any other.

    Attributes
    ----------
    hkl : (n, 3) int32.
    crossing : (n,) int64 number of the passage; rows of one have the same hkl.
    frame : (n,) int64 index into the series.
    intensity : (n,) summed over the spot on this frame alone, background taken off, electrons; no
        Lorentz factor, no scale.
    variance : (n,) of it, electrons^2.
    row, column : (n,) observed centroid on this frame, px; NaN where too weak.
    """

    hkl: NDArray[np.int32]
    crossing: NDArray[np.int64]
    frame: NDArray[np.int64]
    intensity: Floats
    variance: Floats
    row: Floats
    column: Floats

    def __len__(self) -> int:
        return len(self.hkl)


@dataclass(frozen=True)
class Centroids:
    """One row per passage, for sources without frame-by-frame intensities (XDS, peak lists).

    Attributes
    ----------
    hkl : (n, 3) int32.
    frame, frame_sd : (n,) observed centroid in frame positions and its standard deviation.
    row, column : (n,) observed, px; NaN where unknown.
    intensity : (n,) any scale; weights only.
    """

    hkl: NDArray[np.int32]
    frame: Floats
    frame_sd: Floats
    row: Floats
    column: Floats
    intensity: Floats


@dataclass(frozen=True)
class OrientationData:
    """A series to refine orientations of.

    Attributes
    ----------
    name : of the series.
    orientation : (3, 3) ``A = U B`` in 1/Å at zero rotation, the engine's; None where only the
        cell is known (the published method and stage 0 need no more).
    reciprocal_basis : (3, 3) B, columns a*, b*, c* in the crystal's Cartesian frame.
    geometry : axis, wavelength, distance, beam centre as refined.
    angle_deg : (frames,) goniometer's angle at mid-exposure, as read out.
    exposure_deg : (frames,) rotation during the exposure; 0 for stills.
    used : (frames,) bool: exists, not blank, the crystal in the beam.
    beam_row, beam_column : (frames,) direct beam, px.
    intensities : frame by frame; None if only `centroids` are known.
    centroids : None if `intensities` are there (they give their own).
    """

    name: str
    orientation: Floats | None
    reciprocal_basis: Floats
    geometry: Geometry
    angle_deg: Floats
    exposure_deg: Floats
    used: NDArray[np.bool_]
    beam_row: Floats
    beam_column: Floats
    intensities: FrameIntensities | None
    centroids: Centroids | None = None

    @property
    def n_frames(self) -> int:
        """Number of frames, unused ones included."""
        return len(self.angle_deg)


@dataclass(frozen=True)
class FrameOrientations:
    """The orientation of every frame, by any method.

    The beam in the crystal, ``e = -s0`` turned into the crystal's Cartesian frame (towards the
    centre of the Ewald sphere, length 1/wavelength), has two degrees of freedom per frame; small
    rotations are about the axis (along) and about the direction normal to axis and beam (perp).

    Attributes
    ----------
    method : published, stage A, stage B.
    rotation : (frames, 3, 3) R with ``q_lab = R B h``; NaN where unknown.
    centre : (frames, 3) e, 1/Å, in the crystal's Cartesian frame; NaN where unknown.
    small_deg : (frames, 2) along, perp: shrunk deviation from the smooth global rotation.
    small_unshrunk_deg : (frames, 2) the same without prior.
    covariance_deg2, covariance_unshrunk_deg2 : (frames, 2, 2) of them, scaled as the method says.
    about_beam_deg, about_beam_sd_deg : (frames,) third angle and its error; NaN where unknown.
    frame_scale : (frames,) relative.
    n_spots : (frames,) observations that counted.
    merit : (frames,) figure of merit (thesis eq. 16 for the published method).
    flag : (frames,) why a frame is not to be trusted; "" where it is.
    axis : (3,) unit vector of the rotation axis in the crystal's Cartesian frame.
    rotation_scale : true rotation over the read-out.
    figures : global ones by name (chi_square, jitter_along_deg, sigma_s_per_A ...).
    notes : one sentence each.
    """

    method: str
    rotation: Floats
    centre: Floats
    small_deg: Floats
    small_unshrunk_deg: Floats
    covariance_deg2: Floats
    covariance_unshrunk_deg2: Floats
    about_beam_deg: Floats
    about_beam_sd_deg: Floats
    frame_scale: Floats
    n_spots: NDArray[np.int64]
    merit: Floats
    flag: tuple[str, ...]
    axis: Floats
    rotation_scale: float
    figures: dict[str, float]
    notes: tuple[str, ...]
