"""The full 2 x 2 matrix between shifts of an actuator and shifts of the picture, from a grid.

Rotation, two scales and shear together: a fit of a rotation and two scales alone (as usual for
beam shift calibrations) is wrong by several per cent wherever there is shear. The offset is free:
the reference picture has errors too. Outliers (a failed registration) are found against a fit of
least absolute deviations and left out of the least-squares fit that follows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import UserError
from .calibration import relative_error

Floats = NDArray[np.float64]

# An outlier is farther from the fit than this many standard deviations of one component.
OUTLIER_SIGMAS = 4.0
# Registration is never better than this: residuals below are no outliers.
FLOOR_PX = 0.05
# Scale of a bivariate normal distribution from the median of its distances: sqrt(2 ln 2).
MEDIAN_DISTANCE = 1.17741
FEWEST = 6


@dataclass(frozen=True)
class ShiftFit:
    """What a grid of shifts says.

    Attributes
    ----------
    px_per_unit : (2, 2), see `lib.serialred.calibration`.
    offset_px : (2,) shift of the picture at no shift of the actuator.
    covariance : (4, 4) of ``px_per_unit.ravel()``.
    residual_px : r.m.s. distance of the shifts used from the fit.
    used : (n,) False for outliers and shifts that are not finite.
    """

    px_per_unit: Floats
    offset_px: Floats
    covariance: Floats
    residual_px: float
    used: NDArray[np.bool_]

    @property
    def n_used(self) -> int:
        """Shifts in the fit."""
        return int(np.count_nonzero(self.used))

    @property
    def n_rejected(self) -> int:
        """Shifts left out."""
        return int(self.used.size) - self.n_used

    @property
    def relative_error(self) -> float:
        """Expected error of the matrix over its norm (both Frobenius)."""
        return relative_error(self.px_per_unit, self.covariance)


def fit_shifts(
    shifts_unit: ArrayLike, shifts_px: ArrayLike, times_s: ArrayLike | None = None
) -> ShiftFit:
    """Fit ``shifts_px = px_per_unit @ shifts_unit + offset``, and a steady drift.

    Parameters
    ----------
    shifts_unit : (n, 2) (x, y) of the actuator.
    shifts_px : (n, 2) (row, column) of the picture; NaN where it could not be measured.
    times_s : (n,) when each was measured; None: nothing drifted.

    Raises
    ------
    ValueError : arrays of other shapes.
    UserError : fewer than six shifts agree, or they lie on a line.
    """
    x, y = np.asarray(shifts_unit, float), np.asarray(shifts_px, float)
    if x.shape != y.shape or x.ndim != 2 or x.shape[1] != 2:
        raise ValueError(f"shifts: found {x.shape} and {y.shape}, expected (n, 2) twice")
    finite = np.isfinite(x).all(1) & np.isfinite(y).all(1)
    # scaled, so that nm and degrees make equally sound normal equations
    scale = float(np.abs(x[finite]).max(initial=0.0)) or 1.0
    design = np.column_stack([x / scale, np.ones(len(x))])
    if times_s is not None and np.ptp(t := np.asarray(times_s, float)) > 0:
        design = np.column_stack([design, (t - t.mean()) / np.ptp(t)])
    _enough(design, finite)
    solution = _least_absolute(design[finite], y[finite])
    used = finite
    for _ in range(20):
        distance = np.where(finite, np.linalg.norm(y - design @ solution, axis=1), np.inf)
        # a fit to few shifts passes nearly through half of them (Rousseeuw & Leroy, 1987)
        few = 1 + 5 / max(np.count_nonzero(finite) - design.shape[1], 1)
        spread = few * float(np.median(distance[finite])) / MEDIAN_DISTANCE
        kept = distance <= OUTLIER_SIGMAS * max(spread, FLOOR_PX)
        _enough(design, kept)
        solution = np.asarray(np.linalg.lstsq(design[kept], y[kept], rcond=None)[0], float)
        if np.array_equal(kept, used):
            break
        used = kept
    residual = y[used] - design[used] @ solution
    freedom = max(len(residual) - design.shape[1], 1)
    noise = residual.T @ residual / freedom  # (2, 2) of row and column
    inverse = np.linalg.inv(design[used].T @ design[used])[:2, :2] / scale**2
    return ShiftFit(
        px_per_unit=solution[:2].T / scale,
        offset_px=solution[2],
        covariance=np.kron(noise, inverse),
        residual_px=float(np.sqrt(np.mean(np.sum(residual**2, axis=1)))),
        used=used,
    )


def _least_absolute(design: Floats, y: Floats) -> Floats:
    """Solution of least summed distances, by reweighting (Weiszfeld)."""
    solution = np.asarray(np.linalg.lstsq(design, y, rcond=None)[0], float)
    for _ in range(50):
        distance = np.linalg.norm(y - design @ solution, axis=1)
        weight = 1 / np.sqrt(np.maximum(distance, FLOOR_PX / 10))
        new = np.linalg.lstsq(weight[:, None] * design, weight[:, None] * y, rcond=None)[0]
        settled = np.abs(new - solution).max() < 1e-6 * np.abs(new).max()
        solution = new
        if settled:
            break
    return solution


def _enough(design: Floats, kept: NDArray[np.bool_]) -> None:
    n = int(np.count_nonzero(kept))
    if n < FEWEST:
        raise UserError(
            "grid of shifts",
            f"{n} that agree",
            f"at least {FEWEST}",
            "look at the pictures: a blank beam, no contrast, or steps beyond the camera",
        )
    if np.linalg.svd(design[kept, :3], compute_uv=False)[-1] < 1e-3:
        raise UserError(
            "grid of shifts", "points on a line", "a grid in x and y", "measure a whole grid"
        )
