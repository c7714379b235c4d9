"""The one in-memory representation of a continuous-rotation series."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..geometry import Geometry

# A dask array, or what acts as one: to import dask for its name takes longer than a series needs.
Frames = Any


@dataclass(frozen=True)
class SourceFile:
    """One raw file that a series was read from: its path and the SHA-256 of its bytes."""

    path: str
    sha256: str


@dataclass(frozen=True)
class RotationSeries:
    """Frames of one crystal, taken while it rotated.

    Only frames that exist are held; a gap in `frame_number` is a frame that is missing, or
    was spent on a tracking image if its number stands in `tracking_numbers`.

    Attributes
    ----------
    name : what people call the series.
    frames : (n, rows, columns), raw counts, lazily loaded, chunked by frames: a dask array, or
        what acts as one.
    frame_number : (n,) int64, strictly increasing, as in the file names.
    angle_start_deg, angle_width_deg : (n,) float64, goniometer angle at the start of each
        exposure and the range it covers.
    geometry : nominal geometry; `geometry.beam_centre_px` holds for all frames unless
        `beam_centres_px` (n, 2) is given.
    mask : (rows, columns) bool, True where a pixel must not be used.
    gain : counts per electron, or None if unknown (the engine then estimates it).
    pedestal : counts at zero electrons.
    saturation : counts at and above which a pixel is overloaded, or None if unknown.
    exposure_s : exposure of a frame, or None.
    tracking_numbers : frame numbers taken as (defocused) tracking images.
    instrument : name of the instrument, as in configs/instruments.
    notes : everything a reader had to decide or found odd, one sentence each.
    sources : the raw files with their digests.
    """

    name: str
    frames: Frames
    frame_number: NDArray[np.int64]
    angle_start_deg: NDArray[np.float64]
    angle_width_deg: NDArray[np.float64]
    geometry: Geometry
    mask: NDArray[np.bool_]
    beam_centres_px: NDArray[np.float64] | None = None
    gain: float | None = None
    pedestal: float = 0.0
    saturation: float | None = None
    exposure_s: float | None = None
    tracking_numbers: tuple[int, ...] = ()
    instrument: str = "unknown"
    notes: tuple[str, ...] = ()
    sources: tuple[SourceFile, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        n = self.frames.shape[0]
        for name in ("frame_number", "angle_start_deg", "angle_width_deg"):
            shape = getattr(self, name).shape
            if shape != (n,):
                raise ValueError(f"{name}: found shape {shape}, expected ({n},) as frames")
        if self.mask.shape != self.frames.shape[1:]:
            raise ValueError(
                f"mask: found shape {self.mask.shape}, expected {self.frames.shape[1:]}"
            )
        if n > 1 and not np.all(np.diff(self.frame_number) > 0):
            raise ValueError("frame_number: expected strictly increasing numbers")

    def __len__(self) -> int:
        return int(self.frames.shape[0])

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns) of a frame."""
        return int(self.frames.shape[1]), int(self.frames.shape[2])

    @property
    def angle_mid_deg(self) -> NDArray[np.float64]:
        """Goniometer angle at the middle of each exposure."""
        return self.angle_start_deg + 0.5 * self.angle_width_deg

    @property
    def missing_numbers(self) -> tuple[int, ...]:
        """Frame numbers that neither exist nor were tracking images."""
        if len(self) == 0:
            return ()
        every = range(int(self.frame_number[0]), int(self.frame_number[-1]) + 1)
        present = set(self.frame_number.tolist()) | set(self.tracking_numbers)
        return tuple(number for number in every if number not in present)

    def select(self, index: slice | NDArray[np.int64]) -> RotationSeries:
        """The same series with only some of its frames (by position, not by number)."""
        centres = self.beam_centres_px
        return self.with_(
            frames=self.frames[index],
            frame_number=self.frame_number[index],
            angle_start_deg=self.angle_start_deg[index],
            angle_width_deg=self.angle_width_deg[index],
            beam_centres_px=None if centres is None else centres[index],
        )

    def with_(self, **changes: Any) -> RotationSeries:
        """A copy with some fields changed."""
        return replace(self, **changes)
