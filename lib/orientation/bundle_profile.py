"""The rocking curve of stage B: a symmetric shape of the excitation error, averaged over exposures.

``f(x) = sum_m c_m exp(-x^2 / 2 m^2)``, ``x = s / sigma_h``, ``sigma_h^2 = s0^2 + (eta |g|)^2``, is
1 at its top. A frame that turns by delta (in s, to either side) sees the mean
``W = [F(x + y) - F(x - y)] / 2y`` with ``y = delta / sigma_h``. As f has one shape for all
reflections, F, f and f' come from tables.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls
from scipy.special import ndtr

from ..crystal.cell import Floats

#: Widths of the components of the shape, in units of sigma_h.
MULTIPLES = np.array([0.35, 0.6, 1.0, 1.6, 2.6, 4.2])
GAUSSIAN = np.array([0.0, 0.0, 1.0, 0.0, 0.0, 0.0])
#: Another shape is taken if the sum of weighted squares falls by this much.
WORTHWHILE = 20.0
REACH = 20.0
STEP = 0.02


@dataclass(frozen=True)
class RockingShape:
    """Width and shape of all rocking curves.

    Attributes
    ----------
    size_per_A : s0, the part of the width that does not grow with |g|.
    mosaic_rad : eta.
    mixture : (6,) weights c of `MULTIPLES`, not negative, their sum 1.
    """

    size_per_A: float
    mosaic_rad: float
    mixture: Floats

    def sigma(self, length: Floats) -> Floats:
        """sigma_h (n,) in 1/Å at |g| = `length` (n,)."""
        out: Floats = np.hypot(self.size_per_A, self.mosaic_rad * length)
        return out

    @property
    def table(self) -> Floats:
        """(n, 3) F, f, f' at x from -`REACH` to `REACH`."""
        return _tables() @ self.mixture


_components: list[Floats] = []


def _tables() -> Floats:
    """(n, 3, 6): the same of each component alone; made once."""
    if not _components:
        x = np.arange(-REACH, REACH + STEP / 2, STEP)[:, None]
        f = np.exp(-0.5 * (x / MULTIPLES) ** 2)
        whole = np.sqrt(2 * np.pi) * MULTIPLES * ndtr(x / MULTIPLES)
        _components.append(np.stack([whole, f, -x / MULTIPLES**2 * f], axis=1))
    return _components[0]


@numba.njit(cache=True, nogil=True, inline="always")
def _look_up(table: Floats, x: float, value: int) -> float:
    """F (0) or f (1) at x, by Hermite's cubic through values and slopes."""
    place = (x + REACH) / STEP
    k = int(place)
    if place < 0 or k >= table.shape[0] - 1:
        if value == 1:
            return 0.0
        return table[0, 0] if place < 0 else table[-1, 0]
    t = place - k
    a, b = table[k, value], table[k + 1, value]
    da, db = table[k, value + 1] * STEP, table[k + 1, value + 1] * STEP
    u = 1 - t
    return u * u * (1 + 2 * t) * a + t * t * (3 - 2 * t) * b + t * u * (u * da - t * db)


@numba.njit(cache=True, nogil=True)
def averaged(
    s: Floats, delta: Floats, sigma: Floats, table: Floats
) -> tuple[Floats, Floats, Floats]:
    """W, dW/ds (1/(1/Å)) and dW/d(ln sigma) of rows with s, delta and sigma, each (n,) in 1/Å."""
    n = len(s)
    w, slope, width = np.empty(n), np.empty(n), np.empty(n)
    for i in range(n):
        x, y = s[i] / sigma[i], max(abs(delta[i]) / sigma[i], 0.02)
        high, low = _look_up(table, x + y, 1), _look_up(table, x - y, 1)
        w[i] = (_look_up(table, x + y, 0) - _look_up(table, x - y, 0)) / (2 * y)
        along = (high - low) / (2 * y)
        slope[i] = along / sigma[i]
        width[i] = w[i] - x * along - 0.5 * (high + low)
    return w, slope, width


def fit_mixture(
    s: Floats,
    delta: Floats,
    sigma: Floats,
    weight: Floats,
    observed: Floats,
    top: Floats,
    shape: Floats,
    mixture: Floats,
    bounds: NDArray[np.int64],
) -> Floats:
    """Weights c (6,) of the mixture at frozen widths, by non-negative least squares.

    The `mixture` there is, if another is no better by what noise alone would give.

    Amplitudes are eliminated to first order, as an error of c that is no change of shape is theirs.

    Parameters
    ----------
    s, delta, sigma : (n,) in 1/Å, sorted by passage.
    weight : (n,) of the rows.
    observed : (n,) intensities.
    top : (n,) amplitude times frame scale.
    shape : (n,) W as it is now.
    bounds : (passages + 1,) where passages begin.
    """
    tables = _tables()
    columns = np.stack(
        [top * averaged(s, delta, sigma, np.ascontiguousarray(tables[:, :, m]))[0]
         for m in range(len(MULTIPLES))] + [observed], axis=1,
    )  # fmt: skip
    root = np.sqrt(weight)
    columns *= root[:, None]
    own = root * top * shape
    own2 = np.maximum(np.add.reduceat(own * own, bounds[:-1]), 1e-300)
    part = np.add.reduceat(columns * own[:, None], bounds[:-1], axis=0) / own2[:, None]
    columns -= np.repeat(part, np.diff(bounds), axis=0) * own[:, None]
    normal = columns.T @ columns
    m = len(MULTIPLES)
    # the sum of c is fixed, as it is the amplitudes' scale; the ridge keeps twins from trading
    scale = np.trace(normal[:m, :m]) / m
    a = normal[:m, :m] + scale * np.ones((m, m)) + 1e-6 * scale * np.eye(m)
    b = normal[:m, m] + scale
    factor = np.linalg.cholesky(a)
    c, _ = nnls(factor.T, np.linalg.solve(factor, b))
    total = float(c.sum())
    gain = float(mixture @ a @ mixture - 2 * b @ mixture - (c @ a @ c - 2 * b @ c))
    return c / total if total > 0 and gain > WORTHWHILE else mixture
