"""Gauss-Newton on the four elements of G, the object and the static layer fitted along.

The model of a frame is ``f_s(x) = t_s w(x) o(x - G s)``. For Poisson counts the score of a
movement of frame s is ``b_s = sum (f - t w o) l`` with the slope ``l = grad o / o``, its
information ``H_s = sum t w o l l^T``. The object is not known but made of the same frames: what
all frames at one object point agree to do changes the object, not the residual. Eliminating it
(variable projection, Golub and Pereyra 1973) takes from the information on G the part
``sum_u o l l^T x S1 S1^T / W``, with W, S1 the sums of weights and of weighted scan positions over
the frames that see object point u.

Residuals are against the sums of the counts C(u) at each object point, not smoothed; slopes are
of the object filtered. Given C(u), how the counts at u fall on the frames is multinomial with
known shares, whatever the object: so any slopes made of the C leave the score without bias
(a conditional score, Cox 1975), and all frames may be used for them. With slopes weighted by
S / (S + N), signal over signal and noise, the score tells most, and H is both its mean and its
variance.

Positions s may be followed by more columns (polynomials of time), whose coefficients, the drift of
the specimen, are then fitted with G.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft2, next_fast_len, rfft2

from .object_grid import Floats, ObjectGrid, Shifts, object_of, shifts_of
from .shift_and_add import compare, plane_by_plane, spans_of

Vectors = NDArray[np.float64]

#: That share the planes of the object among them.
THREADS = 2


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
    lit : (row, column) bool, where the static layer is sought; everywhere if None.
    """

    frames: Floats
    corner: tuple[int, int]
    use: NDArray[np.intp]
    scan: Vectors
    mask: Floats
    weight: Floats
    beam: Floats
    lit: NDArray[np.bool_] | None = None

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
    sums : (used frame, 9); see `object_grid.compare`.
    layer : (row, column) sum of t p over frames.
    grid, shifts : the object and where frames lie on it.
    """

    sums: Vectors
    layer: Floats
    grid: ObjectGrid = field(repr=False)
    shifts: Shifts = field(repr=False)

    @property
    def scores(self) -> Vectors:
        """(used frame, 2) b, less what a change of the frame's intensity explains."""
        s = self.sums
        share = (s[:, 0] - s[:, 1]) / np.maximum(s[:, 1], 1e-9)
        return np.asarray(s[:, 2:4] - s[:, 7:9] * share[:, None])

    @property
    def information(self) -> Vectors:
        """(used frame, 2, 2) H, less the same."""
        s = self.sums
        h = s[:, [4, 5, 5, 6]].reshape(-1, 2, 2)
        lost = s[:, 7:9, None] * s[:, None, 7:9] / np.maximum(s[:, 1], 1e-9)[:, None, None]
        return np.asarray(h - lost)


def compared(state: Frames, movement: Vectors, finer: int) -> Step:
    """Make the object for G = `movement`, (2, columns of scan), and compare the frames with it."""
    shifts = shifts_of(state.scan @ movement.T, state.mask.shape, finer)
    grid = object_of(
        state.frames, state.corner, state.use, state.beam, state.weight, state.mask, shifts,
        THREADS,
    )  # fmt: skip
    sums = np.zeros((len(state.use), 9), np.float32)
    layers = np.zeros((finer * finer, *state.mask.shape), np.float32)
    spans = spans_of(state.mask)
    wide = spans_of(np.ones_like(state.mask) if state.lit is None else state.lit)
    told = state.weight * state.mask

    def work(k: int, some: NDArray[np.intp]) -> None:
        compare(
            state.frames, state.corner, state.use, state.beam, told, state.mask, spans, wide,
            shifts.base, shifts.rest, some, grid.mean[k], grid.gradient_y[k], grid.gradient_x[k],
            grid.slope_y[k], grid.slope_x[k], sums, layers[k],
        )  # fmt: skip

    plane_by_plane(work, shifts.plane, finer * finer, THREADS)
    return Step(sums.astype(float), layers.sum(0), grid, shifts)


def information_of_movement(state: Frames, step: Step) -> Vectors:
    """(2 n, 2 n) information on G, element by element in rows of n, the object eliminated.

    What is left at each object point is o l l^T times the weighted scatter of the positions of
    the frames that see it, about their mean; taken on the grid of whole pixels. The frames'
    intensities take a share of it.
    """
    q, base, size = step.shifts.finer, step.shifts.base, step.shifts.shape
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
    scan = state.scan
    n = scan.shape[1]
    mean = [seen(beam * one)[known] / weight for one in scan.T]
    grid = step.grid
    pairs = ((grid.gradient_y, grid.slope_y), (grid.gradient_y, grid.slope_x),
             (grid.gradient_x, grid.slope_x))  # fmt: skip
    yy, yx, xx = (np.einsum("krc,krc->rc", g, h)[known] / q**2 for g, h in pairs)
    out = np.zeros((2, n, 2, n))
    for i in range(n):
        for j in range(i + 1):
            scatter = seen(beam * scan[:, i] * scan[:, j])[known] - weight * mean[i] * mean[j]
            one = np.array([[yy @ scatter, yx @ scatter], [yx @ scatter, xx @ scatter]])
            out[:, i, :, j] = out[:, j, :, i] = one
    # frames may fall on some points of the fine grid only, as they do at a rational movement
    inside = step.information.sum(0)
    scale = np.sqrt([inside[0, 0] / (yy @ weight), inside[1, 1] / (xx @ weight)])
    out *= scale[:, None, None, None] * scale[:, None]
    return out.reshape(2 * n, 2 * n)


def newton_step(state: Frames, step: Step, information: Vectors) -> Vectors:
    """(2, n) change of G.

    A residual f(x) - o(x - G s) falls on the side that the content moved to less than was thought:
    ``o(x - (G + dG) s) = o - grad o . dG s``, so the score of dG s is minus b.
    """
    score = -(step.scores.T @ state.scan).ravel()
    return np.asarray(np.linalg.solve(information, score).reshape(2, -1))
