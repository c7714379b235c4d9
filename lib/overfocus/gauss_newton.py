"""Gauss-Newton on the four elements of G, the object and the static layer fitted along.

The model of a frame is ``f_s(x) = t_s w(x) o(x - G s)``. For Poisson counts the score of a
movement of frame s is ``b_s = sum (f - t w o) grad o`` and its information
``H_s = sum t w grad o grad o^T``. The object is not known but made of the same frames: what all
frames at one object point agree to do changes the object, not the residual. Eliminating it
(variable projection, Golub and Pereyra 1973) takes from the information on G the part
``sum_u grad o grad o^T x S1 S1^T / W``, with W, S1 the sums of weights and of weighted scan
positions over the frames that see object point u.

Positions s may be followed by more columns (polynomials of time), whose coefficients, the drift of
the specimen, are then fitted with G.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft2, next_fast_len, rfft2

from .object_grid import Floats, ObjectGrid, Shifts, compare, object_of, shifts_of

Vectors = NDArray[np.float64]

#: Smoothing of the object, pixels, in turn; and the share of true slope at which more is no use.
SMOOTHINGS, CLEAR = (1, 2, 3, 5, 8), 0.5
#: Of a Gauss-Newton step; the smoothed object leaves steps a fifth too long.
DAMPING = 0.8


@dataclass
class Frames:
    """Binned frames of a scan and the state of the fit to them; lengths in binned pixels.

    Attributes
    ----------
    frames : (frame, row, column) float32, all frames, contiguous.
    corner : row and column in them where `mask` and `weight` begin.
    use : (used frame,) numbers of the frames in the fit.
    scan : (used frame, 2 or more) scan positions from the middle of the scan; see above.
    mask : (row, column) float32, 1 inside the disc wherever descan moves it.
    weight : (row, column) w, the static layer: aperture and gain.
    beam : (used frame,) t, intensities about 1.
    """

    frames: Floats
    corner: tuple[int, int]
    use: NDArray[np.intp]
    scan: Vectors
    mask: Floats
    weight: Floats
    beam: Floats

    @property
    def halves(self) -> NDArray[np.bool_]:
        """(used frame,) every other frame along rows and columns, as on a chessboard."""
        return np.asarray(np.floor(self.scan[:, 0] - self.scan[:, 1]).astype(int) % 2 == 1)

    def some(self, which: NDArray[np.bool_]) -> Frames:
        """The same fit with part of the frames in use."""
        return replace(
            self, use=self.use[which], scan=self.scan[which], weight=self.weight.copy(),
            beam=self.beam[which].copy(),
        )  # fmt: skip


@dataclass
class Step:
    """One comparison of all frames with the object made of them.

    Attributes
    ----------
    sums : (used frame, 10); see `object_grid.compare`.
    layer : (row, column) sum of t p over frames.
    grids, shifts : the objects of the two halves and where frames lie on them.
    """

    sums: Vectors
    layer: Floats
    grids: tuple[ObjectGrid, ObjectGrid] = field(repr=False)
    shifts: Shifts = field(repr=False)

    @property
    def grid(self) -> ObjectGrid:
        """The object of all frames."""
        one, other = self.grids
        coverage = one.coverage + other.coverage
        share = np.full_like(coverage, 0.5)
        np.divide(one.coverage, coverage, out=share, where=coverage > 0)
        return ObjectGrid(
            other.shadow + share * (one.shadow - other.shadow),
            other.gradient_y + share * (one.gradient_y - other.gradient_y),
            other.gradient_x + share * (one.gradient_x - other.gradient_x),
            coverage,
        )

    @property
    def scores(self) -> Vectors:
        """(used frame, 2) b, less what a change of the frame's intensity explains."""
        s = self.sums
        return np.asarray(s[:, 2:4] - s[:, 8:10] * (s[:, 4] / np.maximum(s[:, 1], 1e-9))[:, None])

    @property
    def information(self) -> Vectors:
        """(used frame, 2, 2) H, less the same."""
        s = self.sums
        h = s[:, [5, 6, 6, 7]].reshape(-1, 2, 2)
        lost = s[:, 8:10, None] * s[:, None, 8:10] / np.maximum(s[:, 1], 1e-9)[:, None, None]
        return np.asarray(h - lost)


def compared(state: Frames, movement: Vectors, finer: int, smooth: int = 1) -> Step:
    """Make the object for G = `movement`, (2, columns of scan), and compare the frames with it.

    The object is made twice, of every other frame: residuals are against the object of a frame's
    own half, slopes those of the other's. A slope with the residual's own noise in it would push
    G outwards, where frames are few and the object is noisiest; so the noise of the two is
    independent and pushes nowhere.
    """
    shifts = shifts_of(state.scan @ movement.T, state.mask.shape, finer)
    odd = state.halves
    parts = [(which, shifts.some(which)) for which in (~odd, odd)]
    grids = [
        object_of(
            state.frames, state.corner, state.use[which], state.beam[which], state.weight,
            state.mask, part, smooth,
        )
        for which, part in parts
    ]  # fmt: skip
    sums = np.zeros((len(state.use), 10), np.float32)
    layer = np.zeros(state.mask.shape, np.float32)
    for (which, part), own, other in zip(parts, grids, reversed(grids), strict=True):
        some = np.zeros((len(part.plane), 10), np.float32)
        compare(
            state.frames, state.corner, state.use[which], state.beam[which], state.weight,
            state.mask, part.plane, part.base, part.rest, own.shadow, own.gradient_y,
            own.gradient_x, other.gradient_y, other.gradient_x, some, layer,
        )  # fmt: skip
        sums[which] = some
    return Step(sums.astype(float), layer, (grids[0], grids[1]), shifts)


def clearest(state: Frames, movement: Vectors, finer: int) -> tuple[int, Step]:
    """The smoothing with which the frames tell most of G, and the comparison with it.

    Noise in an object's slopes spreads the score without adding to it: what it tells is the
    covariance of the halves' slopes squared over their variance.
    """
    best: tuple[float, int, Step] | None = None
    for smooth in SMOOTHINGS:
        step = compared(state, movement, finer, smooth)
        one, other = step.grids
        coverage = one.coverage + other.coverage
        true = sum(
            float(np.vdot(coverage, a * b))
            for a, b in (
                (one.gradient_y, other.gradient_y), (one.gradient_x, other.gradient_x)
            )
        )  # fmt: skip
        all_ = 0.5 * sum(
            float(np.vdot(coverage, g * g))
            for grid in step.grids for g in (grid.gradient_y, grid.gradient_x)
        )  # fmt: skip
        told = max(true, 0.0) ** 2 / max(all_, 1e-30)
        if best is not None and told < best[0]:
            break
        best = (told, smooth, step)
        if true > CLEAR * all_ or true <= 0:
            break
    assert best is not None
    return best[1], best[2]


def information_of_movement(state: Frames, step: Step) -> Vectors:
    """(2 n, 2 n) information on G, element by element in rows of n, the object eliminated."""
    outer = state.scan[:, :, None] * state.scan[:, None, :]
    n = 2 * state.scan.shape[1]
    whole = np.tensordot(step.information, outer, (0, 0)).transpose(0, 2, 1, 3).reshape(n, n)
    return np.asarray(whole - _taken_by_object(state, step))


def _taken_by_object(state: Frames, step: Step) -> Vectors:
    """What is lost because the object is not known; on the grid of whole pixels."""
    q = step.shifts.finer
    base = step.shifts.base
    size = step.shifts.shape
    padded = [next_fast_len(n, real=True) for n in size]
    window = rfft2(state.weight * state.mask, padded)
    flat = base[:, 0] * padded[1] + base[:, 1]

    def seen(values: Vectors) -> Vectors:
        points = np.bincount(flat, values, padded[0] * padded[1]).reshape(padded)
        return np.asarray(irfft2(rfft2(points) * window, padded)[: size[0], : size[1]])

    beam = state.beam.astype(float)
    total = seen(beam)
    known = total > 1e-3 * total.max()
    weight = total[known]
    moments = np.stack([seen(beam * one)[known] / weight for one in state.scan.T])
    one, other = step.grids
    pairs = ((one.gradient_y, other.gradient_y), (one.gradient_y, other.gradient_x),
             (one.gradient_x, other.gradient_y), (one.gradient_x, other.gradient_x))  # fmt: skip
    yy, yx, xy, xx = (np.einsum("krc,krc->rc", g, h)[known] / q**2 for g, h in pairs)
    cross = (moments * (0.5 * (yx + xy) * weight)) @ moments.T
    return np.block([
        [(moments * (yy * weight)) @ moments.T, cross],
        [cross, (moments * (xx * weight)) @ moments.T],
    ])  # fmt: skip


def newton_step(state: Frames, step: Step, information: Vectors) -> Vectors:
    """(2, n) change of G.

    A residual f(x) - o(x - G s) falls on the side that the content moved to less than was thought:
    ``o(x - (G + dG) s) = o - grad o . dG s``, so the score of dG s is minus b.
    """
    score = -(step.scores.T @ state.scan).ravel()
    return np.asarray(np.linalg.solve(information, score).reshape(2, -1))
