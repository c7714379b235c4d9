"""Linear algebra of stage B: banded normal equations with a border of a few global parameters.

Unknowns are a few per frame (w1, w2, ln k), in the order of the frames, so that reflections that
last a few frames couple near neighbours only: S is banded. The global parameters p move frames by
``T p``; with the deviations eps from that they minimise

``1/2 w^T S w - b^T w + 1/2 (eps0 + eps)^T Lambda (eps0 + eps) + 1/2 (p0 + p)^T H (p0 + p)``

with ``w = T p + eps``; H is zero for those that are free.

Time and memory are linear in the number of frames.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from scipy.linalg import cho_solve_banded, cholesky_banded

from ..crystal.cell import Floats

#: Unknowns per frame: along, perp, ln of the scale.
PER_FRAME = 3


@dataclass(frozen=True)
class Solution:
    """Steps and covariances, in rad (and ln scale).

    Attributes
    ----------
    smooth : (m,) step of the global parameters.
    frame : (frames, 3) step of the deviations.
    deviation : (frames, 3, 3) covariance of the deviations.
    total : (frames, 3, 3) covariance of the frames, smooth rotation included.
    of_smooth : (frames, 3, 3) the part of `total` that the global parameters' errors are.
    smooth_covariance : (m, m) of the global parameters.
    log_evidence : ln of the marginal likelihood, but for a constant.
    """

    smooth: Floats
    frame: Floats
    deviation: Floats
    total: Floats
    of_smooth: Floats
    smooth_covariance: Floats
    log_evidence: float


def solve(
    band: Floats,
    gradient: Floats,
    tangents: Floats,
    precision: Floats,
    deviation: Floats,
    held: Floats,
    at: Floats,
    covariances: bool = True,
) -> Solution:
    """One Gauss-Newton step.

    Parameters
    ----------
    band : (bandwidth + 1, 3 frames) S, ``band[d, i] = S[i + d, i]``.
    gradient : (3 frames,) b.
    tangents : (3 frames, m) T.
    precision : (3 frames,) diagonal of Lambda.
    deviation : (3 frames,) eps0, deviations so far.
    held, at : (m,) diagonal of H, and p0, global parameters so far (of those held).
    covariances : whether to work them out; zeros if not.

    Raises
    ------
    numpy.linalg.LinAlgError : the equations are singular.
    """
    n = len(gradient)
    full = band.copy()
    full[0] += precision
    factor = cholesky_banded(full, lower=True, check_finite=False)
    coupling = band_times(band, tangents)
    solved = cho_solve_banded((factor, True), coupling, check_finite=False)
    right = gradient - precision * deviation
    alone = cho_solve_banded((factor, True), right, check_finite=False)
    border = tangents.T @ coupling - coupling.T @ solved
    border = 0.5 * (border + border.T)
    border[np.diag_indices_from(border)] += held + 1e-9 * np.trace(tangents.T @ coupling)
    smooth = np.linalg.solve(border, tangents.T @ gradient - held * at - coupling.T @ alone)
    frame = alone - solved @ smooth

    none = np.zeros((n // PER_FRAME, PER_FRAME, PER_FRAME))
    own, total, of_smooth = none, none, none
    of_p = np.linalg.inv(border)
    if covariances:
        inverse = _inverse_blocks(factor, PER_FRAME)
        x = solved.reshape(-1, PER_FRAME, solved.shape[1])
        y = (tangents - solved).reshape(x.shape)
        own = inverse + x @ of_p @ np.swapaxes(x, 1, 2)
        of_smooth = y @ of_p @ np.swapaxes(y, 1, 2)
        total = inverse + of_smooth
    # with eps0 != 0 the quadratic form is that of all of eps, from where eps would be zero
    far = deviation + tangents @ at
    at_zero = gradient + band_times(band, far[:, None])[:, 0]
    fitted = cho_solve_banded((factor, True), at_zero, check_finite=False)
    rest = tangents.T @ at_zero - coupling.T @ fitted
    log_evidence = 0.5 * (
        np.sum(np.log(precision))
        + np.sum(np.log(held[held > 0]))
        - 2 * np.sum(np.log(factor[0]))
        - np.linalg.slogdet(border)[1]
        + at_zero @ fitted
        + rest @ np.linalg.solve(border, rest)
    )
    return Solution(
        smooth, frame.reshape(-1, PER_FRAME), own, total, of_smooth, of_p, float(log_evidence)
    )


@numba.njit(cache=True, nogil=True)
def band_times(band: Floats, columns: Floats) -> Floats:
    """S times columns (n, m), S symmetric as a lower band."""
    width, n = band.shape
    m = columns.shape[1]
    out = np.zeros((n, m))
    for i in range(n):
        for k in range(m):
            out[i, k] += band[0, i] * columns[i, k]
        for d in range(1, min(width, n - i)):
            value = band[d, i]
            if value != 0.0:
                for k in range(m):
                    out[i + d, k] += value * columns[i, k]
                    out[i, k] += value * columns[i + d, k]
    return out


@numba.njit(cache=True, nogil=True, fastmath=True)
def _inverse_blocks(factor: Floats, size: int) -> Floats:
    """Diagonal blocks (n / size, size, size) of the inverse, from its banded Cholesky factor.

    Takahashi's recurrence: entries of the inverse within the band need only such entries.
    """
    width, n = factor.shape
    # z[i % width, d] = inverse[i, i + d]; only the last `width` rows are needed at a time
    z = np.zeros((width, width))
    out = np.zeros((n // size, size, size))
    column = np.zeros(width)
    line = np.zeros(width)
    for i in range(n - 1, -1, -1):
        reach = min(width - 1, n - 1 - i)
        diagonal = factor[0, i]
        for d in range(1, reach + 1):
            column[d] = factor[d, i] / diagonal
        row = z[i % width]
        for d in range(1, reach + 1):
            line[d] = 0.0
        # line[d] = sum_k column[k] inverse[i + k, i + d], by rows of the upper triangle
        for k in range(1, reach + 1):
            other = z[(i + k) % width]
            c = column[k]
            if c == 0.0:
                for d in range(k + 1, reach + 1):
                    line[k] += column[d] * other[d - k]
                continue
            line[k] += c * other[0]
            total = 0.0
            for d in range(k + 1, reach + 1):
                value = other[d - k]
                line[d] += c * value
                total += column[d] * value
            line[k] += total
        own = 1.0 / (diagonal * diagonal)
        for d in range(1, reach + 1):
            own += column[d] * line[d]
        row[0] = own
        for d in range(1, reach + 1):
            row[d] = -line[d]
        block, place = i // size, i % size
        for d in range(size - place):
            out[block, place, place + d] = row[d]
            out[block, place + d, place] = row[d]
    return out
