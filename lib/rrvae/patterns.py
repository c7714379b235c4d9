"""What the networks learn from: patterns in electrons, with the variance of every pixel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats32 = NDArray[np.float32]


@dataclass(frozen=True)
class Patterns:
    """Prepared diffraction patterns of a scan.

    The weight of a pixel in a Gaussian likelihood is 1 / (2 variance). There is no other scale:
    ``data`` are electrons, so how much the patterns tell against a prior follows from the dose.

    Attributes
    ----------
    data : (n, rows, columns) float32, electrons, the mean pattern subtracted if `mean` is not
        zero; 0 at masked pixels.
    variance : (1 or n, rows, columns) float32, electrons squared, of counting and reading; > 0.
    mask : (rows, columns) bool, True where a pixel must not be used.
    scan_shape : (rows, columns) of the scan.
    index : (n,) int64, where in the flattened scan each pattern was recorded.
    centre_px : (row, column) of the disc after preparation.
    mean : (rows, columns) float64, electrons, what was subtracted.
    dose : electrons in a pattern, the mean over the scan.
    pixel_mrad : angle between neighbouring pixels; None if unknown.
    disc_radius_px : radius of the bright-field disc; None if unknown.
    choices : the validated configuration, as a dictionary.
    notes : what was found odd or left out, one sentence each.
    """

    data: Floats32
    variance: Floats32
    mask: NDArray[np.bool_]
    scan_shape: tuple[int, int]
    index: NDArray[np.int64]
    centre_px: tuple[float, float]
    mean: NDArray[np.float64]
    dose: float
    pixel_mrad: float | None = None
    disc_radius_px: float | None = None
    choices: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        n, *shape = self.data.shape
        for name, found, expected in (
            ("variance", self.variance.shape[1:], tuple(shape)),
            ("mask", self.mask.shape, tuple(shape)),
            ("mean", self.mean.shape, tuple(shape)),
            ("index", self.index.shape, (n,)),
        ):
            if found != expected:
                raise ValueError(f"{name}: found shape {found}, expected {expected} as data")
        if self.variance.shape[0] not in (1, n):
            raise ValueError(
                f"variance: found {self.variance.shape[0]} patterns, expected 1 or {n}"
            )

    def __len__(self) -> int:
        return int(self.data.shape[0])

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns) of a pattern."""
        return int(self.data.shape[1]), int(self.data.shape[2])

    @property
    def weight(self) -> Floats32:
        """1 / (2 variance), 0 at masked pixels; the shape of `variance`."""
        return np.where(self.mask, np.float32(0), np.float32(0.5) / self.variance)

    def map_of(self, values: NDArray[Any]) -> NDArray[Any]:
        """Values (n, ...) of the patterns as a map (scan rows, scan columns, ...), NaN where none.

        Raises ValueError if there are not n of them.
        """
        values = np.asarray(values)
        if values.shape[0] != len(self):
            raise ValueError(f"values: found {values.shape[0]}, expected {len(self)}")
        kind = values.dtype if values.dtype.kind in "fc" else np.dtype(float)
        flat = np.full((self.scan_shape[0] * self.scan_shape[1], *values.shape[1:]), np.nan, kind)
        flat[self.index] = values
        return flat.reshape(*self.scan_shape, *values.shape[1:])

    def select(self, which: NDArray[Any]) -> Patterns:
        """Some of the patterns (indices or a boolean array), all else unchanged."""
        variance = self.variance if self.variance.shape[0] == 1 else self.variance[which]
        return replace(self, data=self.data[which], variance=variance, index=self.index[which])

    def with_(self, **changes: Any) -> Patterns:
        """A copy with some fields changed."""
        return replace(self, **changes)
