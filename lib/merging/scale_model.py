"""The linear model of ln(scale) over many data sets, and its robust sparse least squares.

Scales p and the logarithms of the unknown true intensities are solved for together: the latter
are eliminated exactly (each set of equivalents is centred on its own weighted mean, Fox & Holmes,
Acta Cryst. 20 (1966) 886), and what is left is solved by conjugate gradients on sparse matrices,
preconditioned with the blocks of the data sets. The first passes compare logarithms of strong
reflections, which find scales wherever they are; the last ones are Gauss-Newton steps on the
intensities themselves, weak and negative observations of well known reflections included, which
have no bias from a cut on I/sigma (Hamilton, Rollett & Sparks, Acta Cryst. 18 (1965) 129). Weights
are those of a relative error that the residuals themselves show, times Huber's, with sigmas that
do not depend on whether their own intensity came out high or low.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix, csr_matrix, diags, vstack
from scipy.sparse.linalg import LinearOperator, cg, splu

from ..crystal.cell import Floats, Integers
from .observations import Observations

# Degrees of rotation from knot to knot of the scale, and of its change with resolution.
_KNOT_DEG, _SURFACE_KNOT_DEG = 4.0, 12.0
_MOST_KNOTS = 40
# Prior standard deviations: of K and B about Wilson's; of the second differences and the level of
# the scale of frames; of the surface and of its steps from knot to knot. All in ln.
_K, _B = 0.5, 0.5
_BEND, _LEVEL = 0.1, 0.5
_SURFACE, _STEP = 0.1, 0.05
# Relative error of a strong intensity before the data have told theirs.
_RELATIVE_ERROR = 0.15
_HUBER = 2.0
# Reflections whose mean is known better than this tell scales; with an uncertain mean, those
# that deviate from it by chance would seem to be weak.
_KNOWN = 6.0
# Frames with less than this part of the expected intensity, over such a stretch, saw no crystal.
_LOST, _STRETCH_DEG = 0.35, 2.0
_LOG_PASSES, _LINEAR_PASSES = 3, 4


@dataclass(frozen=True)
class Design:
    """``ln(scale) = matrix @ p``, with a penalty ``|penalty @ (p - prior)|^2``.

    Attributes
    ----------
    matrix : (observations, parameters) sparse.
    penalty : (conditions, parameters) sparse, in units of standard deviations.
    prior : (parameters,).
    first : (sets + 1,) first parameter of each set: K, B, frame knots, then surface knots, P_1 and
        P_2 of each in turn; and the number of these. Frame-wise ones follow after all sets.
    n_knots, n_surface : (sets,) of each kind.
    frame_first : (sets + 1,) first frame-wise parameter of each set, or empty.
    u_slope : d u / d(s^2), Å^2, to turn B's coefficient into a B factor.
    """

    matrix: csr_matrix
    penalty: csr_matrix
    prior: Floats
    first: Integers
    n_knots: Integers
    n_surface: Integers
    frame_first: Integers
    u_slope: float


def build_design(obs: Observations, *, surface: bool, frame_jitter: float) -> Design:
    """The model for these observations; see `scaling.scale_data_sets` for the options."""
    low, high = (float(obs.s2.min()), float(obs.s2.max())) if len(obs.s2) else (0.0, 1.0)
    u_slope = 2 / max(high - low, 1e-9)
    u = (obs.s2 - low) * u_slope - 1
    degrees = np.nan_to_num(obs.range_deg, nan=0.0)
    n_knots = np.clip(np.rint(degrees / _KNOT_DEG) + 1, 2, _MOST_KNOTS).astype(np.int64)
    n_surface = np.clip(np.rint(degrees / _SURFACE_KNOT_DEG) + 1, 2, _MOST_KNOTS).astype(np.int64)
    n_surface = n_surface if surface else np.zeros_like(n_surface)
    first = np.concatenate([[0], np.cumsum(2 + n_knots + 2 * n_surface)]).astype(np.int64)
    base = first[obs.member]
    rows = np.arange(len(u))
    position = obs.frame / np.maximum(obs.n_frames[obs.member] - 1, 1)

    entries = [(rows, base, np.ones(len(u))), (rows, base + 1, u)]
    for column, hat in _hats(position, n_knots[obs.member]):
        entries.append((rows, base + 2 + column, hat))
    if surface:
        start = base + 2 + n_knots[obs.member]
        for column, hat in _hats(position, n_surface[obs.member]):
            entries.append((rows, start + 2 * column, hat * u))
            entries.append((rows, start + 2 * column + 1, hat * (1.5 * u**2 - 0.5)))
    n_columns = int(first[-1])
    frame_first = np.zeros(0, np.int64)
    if frame_jitter > 0:
        frame_first = n_columns + np.concatenate([[0], np.cumsum(obs.n_frames)]).astype(np.int64)
        frame = np.clip(np.rint(obs.frame), 0, obs.n_frames[obs.member] - 1).astype(np.int64)
        entries.append((rows, frame_first[obs.member] + frame, np.ones(len(u))))
        n_columns = int(frame_first[-1])
    matrix = _sparse(entries, (len(u), n_columns))

    prior = np.zeros(n_columns)
    prior[first[:-1]], prior[first[:-1] + 1] = wilson_scales(obs, u)
    penalty = _penalty(first, n_knots, n_surface, n_columns, frame_jitter)
    return Design(matrix, penalty, prior, first, n_knots, n_surface, frame_first, u_slope)


def _hats(position: Floats, n: Integers) -> list[tuple[Integers, Floats]]:
    """Knot on either side and its weight, for positions 0 to 1 over n knots."""
    x = np.clip(position, 0, 1) * (n - 1)
    left = np.minimum(x.astype(np.int64), n - 2)
    return [(left, 1 - (x - left)), (left + 1, x - left)]


def _sparse(entries: list[tuple[Integers, Integers, Floats]], shape: tuple[int, int]) -> csr_matrix:
    rows, columns, values = (np.concatenate(x) for x in zip(*entries, strict=True))
    index = np.int32 if max(shape) < 2**31 else np.int64
    return coo_matrix((values, (rows.astype(index), columns.astype(index))), shape=shape).tocsr()


def _penalty(
    first: Integers, n_knots: Integers, n_surface: Integers, n_columns: int, frame_jitter: float
) -> csr_matrix:
    weight = np.zeros(n_columns)
    weight[first[:-1]], weight[first[:-1] + 1] = 1 / _K, 1 / _B
    weight[first[-1] :] = 1 / frame_jitter if frame_jitter > 0 else 0.0
    differences: list[tuple[Integers, Integers, Floats]] = []
    n_rows = 0
    for start, knots, patches in zip(first[:-1] + 2, n_knots, n_surface, strict=True):
        weight[start : start + knots] = 1 / (_LEVEL * np.sqrt(knots))
        weight[start + knots : start + knots + 2 * patches] = 1 / _SURFACE
        bend = start + np.arange(knots - 2)
        rows = n_rows + np.arange(len(bend))
        for shift, value in ((0, 1.0), (1, -2.0), (2, 1.0)):
            differences.append((rows, bend + shift, np.full(len(bend), value / _BEND)))
        n_rows += len(bend)
        step = start + knots + np.arange(max(2 * patches - 2, 0))
        rows = n_rows + np.arange(len(step))
        for shift, value in ((0, -1.0), (2, 1.0)):
            differences.append((rows, step + shift, np.full(len(step), value / _STEP)))
        n_rows += len(step)
    return vstack([diags(weight), _sparse(differences, (n_rows, n_columns))]).tocsr()


def wilson_scales(obs: Observations, u: Floats, n_shells: int = 15) -> tuple[Floats, Floats]:
    """ln K and B (coefficient of u) that give each set the others' mean intensities in shells."""
    edges = np.quantile(u, np.linspace(0, 1, n_shells + 1)[1:-1])
    shell = np.searchsorted(edges, u)
    cell = obs.member * n_shells + shell
    size = obs.n_sets * n_shells
    count = np.bincount(cell, minlength=size).reshape(-1, n_shells)
    mean = np.bincount(cell, obs.intensity, size).reshape(-1, n_shells) / np.maximum(count, 1)
    at = np.bincount(shell, u, n_shells) / np.maximum(np.bincount(shell, minlength=n_shells), 1)
    # the mean of n intensities from an exponential distribution has relative error 1/sqrt(n)
    weight = np.where(mean > 0, count, 0).astype(float)
    y = np.log(np.where(mean > 0, mean, 1.0))
    k, b, common = np.zeros(obs.n_sets), np.zeros(obs.n_sets), np.zeros(n_shells)
    for _ in range(10):
        common = _ratio(weight * (y - k[:, None] - b[:, None] * at), weight, 0)
        rest = y - common
        # B of a few reflections is nothing but noise: a prior of 10 reflections at each end
        s0, s1, s2 = weight.sum(1), weight @ at, weight @ at**2 + 20.0
        t0, t1 = np.sum(weight * rest, axis=1), (weight * rest) @ at
        det = np.maximum(s0 * s2 - s1**2, 1e-9)
        k = np.where(s0 > 0, (s2 * t0 - s1 * t1) / det, 0.0)
        b = np.where(s0 > 0, (s0 * t1 - s1 * t0) / det, 0.0)
    # one data set alone, and the mean of many, keep what they have
    return k - k.mean(), b - b.mean()


def _ratio(top: Floats, bottom: Floats, axis: int) -> Floats:
    result: Floats = top.sum(axis) / np.maximum(bottom.sum(axis), 1e-12)
    return result


def frame_and_surface(
    design: Design, p: Floats, number: int, n_frames: int
) -> tuple[Floats, Floats]:
    """Scale of each frame of a set, mean logarithm 0, and its (k, 2) surface coefficients."""
    start, knots = int(design.first[number]) + 2, int(design.n_knots[number])
    at = np.linspace(0, max(n_frames - 1, 1), knots)
    ln = np.interp(np.arange(n_frames), at, p[start : start + knots])
    if len(design.frame_first):
        ln = ln + p[design.frame_first[number] :][:n_frames]
    surface = p[start + knots : design.first[number + 1]].reshape(-1, 2)
    frame_scale: Floats = np.exp(ln - ln.mean())
    return frame_scale, surface


@dataclass(frozen=True)
class LostFrames:
    """A stretch of frames that recorded next to nothing: the crystal had left the beam.

    member : number of the data set. first, last : frames. fraction : of what was expected.
    """

    member: int
    first: int
    last: int
    fraction: float


def lost_frames(
    design: Design, p: Floats, obs: Observations, use: NDArray[np.bool_]
) -> tuple[list[LostFrames], NDArray[np.bool_]]:
    """Where intensities are less than `_LOST` of their equivalents', and (n,) which those are.

    Judged in stretches of about `_STRETCH_DEG` by what is observed over the means of equivalents,
    the smooth scale included; never a whole series, which simply has another scale.
    """
    factor = np.exp(design.matrix @ p)
    i, sigma = obs.intensity / factor, obs.sigma / factor
    weight = np.where(use, 1 / (sigma**2 + (0.3 * np.maximum(i, 0)) ** 2), 0.0)
    total = np.bincount(obs.group, weight, obs.n_groups)
    mean = np.bincount(obs.group, weight * i, obs.n_groups) / np.where(total > 0, total, 1.0)
    # the others' mean, for a stretch must not be judged by itself
    rest = total[obs.group] - weight
    other = (total * mean)[obs.group] - weight * i
    other = np.where(rest > 0, other / np.where(rest > 0, rest, 1.0), 0.0)
    told = use & (rest > 0) & (other * np.sqrt(np.maximum(rest, 0)) > 3)

    per_frame = obs.range_deg / np.maximum(obs.n_frames, 1)
    width = np.maximum(np.rint(_STRETCH_DEG / np.where(per_frame > 0, per_frame, 1.0)), 1)
    n_parts = np.maximum(np.ceil(obs.n_frames / width), 1).astype(np.int64)
    first = np.concatenate([[0], np.cumsum(n_parts)])
    within = np.clip(np.rint(obs.frame) // width[obs.member], 0, n_parts[obs.member] - 1)
    part = first[obs.member] + within.astype(np.int64)
    size = int(first[-1])

    own = p[design.first[obs.member]]  # ln K: the smooth scale is relative to it
    smooth = factor / np.exp(own) * np.where(told, 1.0, 0.0)
    count = np.bincount(part, told, size)
    level = np.bincount(part, smooth, size) / np.maximum(count, 1)
    expected = np.bincount(part, np.where(told, other, 0.0), size)
    ratio = np.bincount(part, np.where(told, i, 0.0), size) / np.where(expected > 0, expected, 1.0)
    error = np.sqrt(np.bincount(part, np.where(told, sigma**2, 0.0), size))
    error = error / np.where(expected > 0, expected, 1.0)
    owner = np.repeat(np.arange(obs.n_sets), n_parts)
    fraction = ratio * np.where(count > 0, level, 1.0)
    lost = (count >= 5) & (expected > 0) & (fraction + error * level < _LOST)
    lost &= (np.bincount(owner, ~lost & (count >= 5), obs.n_sets) > 0)[owner]
    stretches = []
    for k in np.flatnonzero(lost):
        m = int(owner[k])
        start = int((k - first[m]) * width[m])
        end = int(min(start + width[m], obs.n_frames[m])) - 1
        stretches.append(LostFrames(m, start, end, float(fraction[k])))
    return stretches, lost[part]


def solve(design: Design, obs: Observations, use: NDArray[np.bool_]) -> Floats:
    """Parameters (p,) from the observations marked; those of lone reflections tell nothing."""
    p = design.prior.copy()
    rows = np.flatnonzero(use)
    rows = rows[np.bincount(obs.group[rows], minlength=obs.n_groups)[obs.group[rows]] > 1]
    if len(rows) == 0:
        return p
    x = design.matrix[rows]
    group, i, sigma = obs.group[rows], obs.intensity[rows], obs.sigma[rows]
    precision = (design.penalty.T @ design.penalty).tocsc()
    error2 = _RELATIVE_ERROR**2

    expected = _expected_sigmas(sigma, group, _tenths(obs, rows))
    strong = i > 3 * sigma
    weight = np.where(strong, 1 / ((sigma / np.where(strong, i, 1)) ** 2 + error2), 0.0)
    y = np.log(np.where(strong, i, 1.0))
    robust = np.ones(len(rows))
    block = None
    for _ in range(_LOG_PASSES):
        block = block or _block_solver(x, weight, precision)
        p = _step(x, y, weight * robust, group, precision, design.prior, p, block)
        residual = _centred(y - x @ p, weight * robust, group)
        robust, grown = _huber(residual, weight)
        weight = weight / grown

    for k in range(_LINEAR_PASSES):
        g = np.exp(x @ p)
        mean, error = _means(group, i / g, sigma / g, error2, robust)
        known = mean > _KNOWN * error
        m = np.where(known, mean, 1.0)
        variance = (expected / g / m) ** 2 + error2
        weight = np.where(known, 1 / variance, 0.0)
        z = i / g / m - 1
        if k == 0:
            block = _block_solver(x, weight, precision)
        assert block is not None
        robust, grown = _huber(_centred(z, weight * robust, group), weight)
        # what residuals exceed their sigmas by is relative error for the strong ones
        error2 = error2 * float(np.clip(grown, 0.25, 4.0))
        p = _step(x, z + x @ p, weight * robust, group, precision, design.prior, p, block)
    return p


def _expected_sigmas(sigma: Floats, group: Integers, part: Integers) -> Floats:
    """Sigmas that do not know whether their own intensity came out high or low."""
    y = np.log(sigma)
    by_part = np.zeros_like(y)
    by_group = np.zeros_like(y)
    for _ in range(2):
        by_group = _group_mean(y - by_part, group)
        by_part = _group_mean(y - by_group, part)
    result: Floats = np.exp(by_group + by_part)
    return result


def _tenths(obs: Observations, rows: Integers) -> Integers:
    """Which tenth of which series."""
    position = obs.frame[rows] / np.maximum(obs.n_frames[obs.member[rows]], 1)
    return obs.member[rows] * 10 + np.clip(position * 10, 0, 9).astype(np.int64)


def _group_mean(y: Floats, group: Integers) -> Floats:
    result: Floats = (np.bincount(group, y) / np.maximum(np.bincount(group), 1))[group]
    return result


def _means(
    group: Integers, i: Floats, sigma: Floats, error2: float, robust: Floats
) -> tuple[Floats, Floats]:
    """Mean of the equivalents of each observation and its sigma, with an error in proportion."""
    n = int(group.max()) + 1
    mean = np.bincount(group, i, n) / np.maximum(np.bincount(group, minlength=n), 1)
    total = np.ones(n)
    for _ in range(2):
        weight = robust / (sigma**2 + error2 * np.maximum(mean, 0)[group] ** 2)
        total = np.maximum(np.bincount(group, weight, n), 1e-300)
        mean = np.bincount(group, weight * i, n) / total
    return mean[group], (1 / np.sqrt(total))[group]


def _centred(y: Floats, weight: Floats, group: Integers) -> Floats:
    n = int(group.max()) + 1
    total = np.maximum(np.bincount(group, weight, n), 1e-12)
    result: Floats = y - (np.bincount(group, weight * y, n) / total)[group]
    return result


def _huber(residual: Floats, weight: Floats) -> tuple[Floats, float]:
    """Weights that let large residuals pull no more than `_HUBER` sigmas, and the variance."""
    used = weight > 0
    pull = np.abs(residual) * np.sqrt(weight)
    # 0.6745: the median of |z|
    variance = float(np.median(pull[used]) / 0.6745) ** 2 if used.any() else 1.0
    pull /= np.sqrt(max(variance, 1e-12))
    return np.minimum(1.0, _HUBER / np.maximum(pull, 1e-9)), max(variance, 1e-6)


def _block_solver(x: csr_matrix, weight: Floats, precision: csr_matrix) -> LinearOperator:
    """Inverse of the normal matrix as if the true intensities were known: sets apart."""
    normal = (x.T @ diags(weight) @ x + precision).tocsc()
    factors = splu(
        normal, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True}
    )
    return LinearOperator(normal.shape, factors.solve)


def _step(
    x: csr_matrix,
    y: Floats,
    weight: Floats,
    group: Integers,
    precision: csr_matrix,
    prior: Floats,
    start: Floats,
    block: LinearOperator,
) -> Floats:
    """Minimise ``sum w (y - x p - mean_group)^2 + (p - prior) precision (p - prior)``."""
    transposed = x.T.tocsr()

    def normal(v: Floats) -> Floats:
        result: Floats = transposed @ (weight * _centred(x @ v, weight, group)) + precision @ v
        return result

    right = transposed @ (weight * _centred(y, weight, group)) + precision @ prior
    operator = LinearOperator((len(prior), len(prior)), normal)
    solution, _ = cg(operator, right, x0=start, rtol=1e-5, maxiter=100, M=block)
    return np.asarray(solution, np.float64)
