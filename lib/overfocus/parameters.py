"""The parameters of the paper's model, in its units, and the matrices that stand for them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class OverfocusParameters:
    """An overfocused scan (Weber et al., Methods and Figure 2).

    Attributes
    ----------
    overfocus_m : height of the focus above the specimen; negative for underfocus.
    scan_pixel_size_m : distance of scan points.
    camera_length_m : specimen to detector.
    detector_pixel_size_m : pitch of detector pixels.
    cy, cx : (row, column) on the detector where the ray straight down arrives.
    scan_rotation_deg : in the convention of LiberTEM up to 0.16 (see `conventions`).
    flip_y : whether detector and scan differ in handedness.
    descan_px : 2 x 2, movement (row, column) of the beam on the detector in px for each scan
        pixel along (row, column): ((dy/dsy, dy/dsx), (dx/dsy, dx/dsx)).
    """

    overfocus_m: float
    scan_pixel_size_m: float
    camera_length_m: float
    detector_pixel_size_m: float
    cy: float
    cx: float
    scan_rotation_deg: float = 0.0
    flip_y: bool = False
    descan_px: tuple[tuple[float, float], tuple[float, float]] = ((0.0, 0.0), (0.0, 0.0))

    def with_(self, **changes: Any) -> OverfocusParameters:
        """A copy with some fields changed."""
        return replace(self, **changes)
