"""The one in-memory representation of a 4D-STEM scan."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..series.rotation_series import SourceFile

# (scan_row, scan_column, row, column): a zarr, dask or numpy array, or what can be sliced like one
Frames4D = Any


@dataclass(frozen=True)
class Scan4D:
    """A diffraction pattern at every point of a scan.

    Attributes
    ----------
    name : what people call the scan.
    frames : (scan_row, scan_column, row, column), raw counts, read when sliced; whole frames
        lie together, a scan row or a part of it at a time.
    mask : (row, column) bool, True where a pixel must not be used.
    missing : (scan_row, scan_column) bool, True where no pattern was recorded.
    wavelength_A, pixel_size_mm, camera_length_mm : of the detector; None if unknown.
    scan_step_nm : (row, column) distance of scan points; None if unknown.
    convergence_mrad : semi-angle of the probe; None if unknown.
    gain : counts per electron; None if unknown.
    pedestal : counts at zero electrons.
    saturation : counts at and above which a pixel is overloaded; None if unknown.
    instrument : name of the instrument.
    notes : everything a reader had to decide or found odd, one sentence each.
    sources : the raw files with their digests.
    """

    name: str
    frames: Frames4D
    mask: NDArray[np.bool_]
    missing: NDArray[np.bool_]
    wavelength_A: float | None = None
    pixel_size_mm: float | None = None
    camera_length_mm: float | None = None
    scan_step_nm: tuple[float, float] | None = None
    convergence_mrad: float | None = None
    gain: float | None = None
    pedestal: float = 0.0
    saturation: float | None = None
    instrument: str = "unknown"
    notes: tuple[str, ...] = ()
    sources: tuple[SourceFile, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        if len(self.frames.shape) != 4:
            raise ValueError(f"frames: found shape {self.frames.shape}, expected four axes")
        for name, shape in (("missing", self.scan_shape), ("mask", self.shape)):
            found = getattr(self, name).shape
            if found != shape:
                raise ValueError(f"{name}: found shape {found}, expected {shape} as frames")

    @property
    def scan_shape(self) -> tuple[int, int]:
        """(scan rows, scan columns)."""
        return int(self.frames.shape[0]), int(self.frames.shape[1])

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns) of a pattern."""
        return int(self.frames.shape[2]), int(self.frames.shape[3])

    def with_(self, **changes: Any) -> Scan4D:
        """A copy with some fields changed."""
        return replace(self, **changes)


def scan_of(frames: Frames4D, name: str = "scan", **fields: Any) -> Scan4D:
    """A scan of an array (scan_row, scan_column, row, column), nothing masked or missing."""
    rows, columns, height, width = frames.shape
    fields.setdefault("mask", np.zeros((height, width), bool))
    fields.setdefault("missing", np.zeros((rows, columns), bool))
    return Scan4D(name=name, frames=frames, **fields)
