"""Descan from the flux over the aperture's edge.

The flux in a sector of a ring around the edge is linear in the aperture's movement: what comes in
over the edge is brightness times length of edge times movement, whatever the edge's profile. The
specimen shifts the centre of mass of a frame but is in all of the edge flux only as a factor that
the object made of the interior predicts. For sector k of frame s

    F_sk / t_s - P_sk = Q_sk . (D s) + e_k P_sk,
    P_sk = sum_x a(x) p_s(x),   Q_sk = - sum_x grad a(x) p_s(x),

a the aperture's mean image, p_s the predicted shadow, e_k what a is wrong by in the sector. One
linear least squares for D and the e_k, weighted by 1/P, outliers cut at three sigma.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .disc import Disc
from .gauss_newton import Frames, Step
from .object_grid import Floats

Vectors = NDArray[np.float64]

SECTORS = 24
LEAST_SECTORS = 5
#: Coverage, in frames, below which the object is not predicted.
LEAST_COVERAGE = 4.0


@dataclass(frozen=True)
class EdgeFlux:
    """Fluxes by frame and sector, NaN where the object is not known.

    Attributes
    ----------
    residual : (used frame, sector) F / t - P.
    predicted : (used frame, sector) P.
    response : (used frame, sector, 2) Q, per pixel.
    """

    residual: Vectors
    predicted: Vectors
    response: Vectors


@dataclass(frozen=True)
class DescanFit:
    """Solution for D and what it takes to resample it.

    Attributes
    ----------
    descan : (2, 2) binned pixels per scan point.
    normal, right : (used frame, 4, 4) and (used frame, 4) normal equations of D by frame, the
        sectors' own unknowns eliminated to first order.
    sectors : how many gave a constraint.
    """

    descan: Vectors
    normal: Vectors
    right: Vectors
    sectors: int


def ring_of(
    disc: Disc, shape: tuple[int, int], bad: NDArray[np.bool_], half_px: float
) -> np.ndarray:
    """(row, column) int32 sector of each pixel of the ring about the edge, else -1.

    A sector with more than a fifth of bad pixels is left out: a movement would be cut short there.
    """
    y, x = np.indices(shape)
    angle = np.arctan2(y - disc.centre[0], x - disc.centre[1])
    sector = np.floor((angle + np.pi) / (2 * np.pi) * SECTORS).astype(np.int32) % SECTORS
    ring = np.abs(disc.distance(shape) - disc.radius) <= half_px
    # what the frame's border cuts off is as bad as masked
    inside = np.bincount(sector[ring], minlength=SECTORS)
    whole = 2 * np.pi * disc.radius * 2 * half_px / SECTORS
    good = np.bincount(sector[ring & ~bad], minlength=SECTORS)
    drop = (good < 0.8 * inside) | (good < 0.75 * whole)
    return np.where(ring & ~bad & ~drop[sector], sector, -1).astype(np.int32)


def round_layer(image: Floats, disc: Disc, bad: NDArray[np.bool_]) -> Floats:
    """The mean of an image, but for bad pixels, at each distance from the disc's centre."""
    place = np.rint(2 * disc.distance(image.shape)).astype(int)
    count = np.bincount(place[~bad], minlength=place.max() + 1)
    total = np.bincount(place[~bad], image[~bad], minlength=place.max() + 1)
    known = np.flatnonzero(count)
    profile = np.interp(np.arange(len(count)), known, total[known] / count[known])
    return np.asarray(profile[place], np.float32)


def even_layer(image: Floats, disc: Disc, bad: NDArray[np.bool_], inner: float) -> Floats:
    """An image of the aperture as if nothing but a smooth fall from its centre were in it.

    Within `inner` of the centre it is a + b r^2; beyond it falls as the image does in the mean.
    """
    distance = disc.distance(image.shape)
    inside = (distance < inner) & ~bad
    squares = np.column_stack([np.ones(inside.sum()), distance[inside] ** 2])
    (level, fall), *_ = np.linalg.lstsq(squares, image[inside], rcond=None)
    smooth = level + fall * np.minimum(distance, inner) ** 2
    mean = round_layer(image, disc, bad)
    rim = mean[np.abs(distance - inner) < 2].mean()
    return np.asarray(np.where(distance < inner, smooth, smooth * mean / rim), np.float32)


def filled(image: Floats, disc: Disc, bad: NDArray[np.bool_]) -> Floats:
    """An image of the aperture with bad pixels from the mean of others as far from its centre.

    Slopes beside a hot pixel would be its own.
    """
    return np.where(bad, round_layer(image, disc, bad), image) if bad.any() else image.copy()


def sectors_apart(flux: EdgeFlux, scan: Vectors, beam: Floats) -> float:
    """Largest difference of D from every other sector and from the rest, binned pixels."""
    found = []
    for half in (0, 1):
        part = slice(1 - half, None, 2)
        every_other = EdgeFlux(
            flux.residual[:, part], flux.predicted[:, part], flux.response[:, part]
        )
        fitted = fit_descan(every_other, scan, beam)
        if fitted is None:
            return float("nan")
        found.append(fitted.descan)
    return float(np.abs(found[0] - found[1]).max())


def edge_flux(
    state: Frames,
    ring: NDArray[np.int32],
    aperture: Floats,
    step: Step | None,
    least_coverage: float = LEAST_COVERAGE,
) -> EdgeFlux:
    """Fluxes in the ring's sectors; without a `step` the specimen is taken as even."""
    along_y, along_x = (np.asarray(one, np.float32) for one in np.gradient(aperture))
    out = np.zeros((len(state.use), SECTORS, 4), np.float32)
    where = np.argwhere(ring >= 0)
    sector = ring[ring >= 0]
    order = np.argsort(sector, kind="stable")  # pixels of a sector follow each other
    where = where[order]
    at = tuple(where.T)
    edge = np.column_stack([aperture[at], along_y[at], along_x[at]])
    cut = np.searchsorted(sector[order], np.arange(SECTORS + 1))
    height, width = state.frames.shape[1:]
    flat = state.frames.reshape(-1, height * width)
    pixel = ((where + state.corner) @ (width, 1)).astype(np.uint64)
    if step is None:
        _flux_of_even(flat, state.use, state.beam, edge, pixel, cut, out)
    else:
        shifts, grid = step.shifts, step.grid
        fields = np.stack([grid.mean, grid.gradient_y, grid.gradient_x, grid.coverage], -1)
        across = shifts.shape[1]
        place = (where @ (across, 1)).astype(np.uint64)
        begin = (shifts.base @ (across, 1)).astype(np.uint64)
        _flux(
            flat, state.use, state.beam, edge, pixel, place, cut, shifts.plane, begin,
            shifts.rest, fields.reshape(len(fields), -1, 4), np.float32(least_coverage), out,
        )  # fmt: skip
    told = out.astype(float)
    return EdgeFlux(told[..., 0], told[..., 1], told[..., 2:4])


def told_apart(
    state: Frames, ring: NDArray[np.int32], aperture: Floats, step: Step, descan: Vectors
) -> Floats:
    """The aperture's mean image without what the specimen put into it.

    Where the shadow moves by less than its features, a pixel is bright while the aperture is on
    one side: the mean of the product is not that of the factors, but, s' the mean position
    weighted by the shadow, ``a - grad a . D s'``.
    """
    y, x = np.nonzero(ring >= 0)
    across = step.shifts.shape[1]
    sums = np.zeros((len(y), 3))
    _mean_position(
        state.beam, np.ascontiguousarray(state.scan[:, :2]), step.shifts.plane,
        (step.shifts.base @ (across, 1)).astype(np.uint64), (y * across + x).astype(np.uint64),
        step.grid.shadow.reshape(len(step.grid.shadow), -1), sums,
    )  # fmt: skip
    place = sums[:, 1:] / np.maximum(sums[:, :1], 1e-9)
    along_y, along_x = (np.asarray(one)[y, x] for one in np.gradient(aperture))
    moved = place @ descan.T
    out = aperture.copy()
    out[y, x] += (along_y * moved[:, 0] + along_x * moved[:, 1]).astype(np.float32)
    return out


@njit(cache=True, nogil=True)
def _mean_position(beam, scan, plane, begin, place, shadow, sums):  # type: ignore[no-untyped-def]
    """Sums over frames of the shadow in each pixel, and of it times the scan position."""
    for i in range(len(plane)):
        grid, first = shadow[plane[i]], begin[i]
        for j in range(len(place)):
            p = beam[i] * grid[first + place[j]]
            sums[j, 0] += p
            sums[j, 1] += p * scan[i, 0]
            sums[j, 2] += p * scan[i, 1]


def fit_descan(flux: EdgeFlux, scan: Vectors, beam: Floats) -> DescanFit | None:
    """D by least squares; None if too few sectors show an edge."""
    known = np.isfinite(flux.residual) & (flux.predicted > 0)
    used = known.sum(0) > max(8, 0.02 * len(scan))
    if used.sum() < LEAST_SECTORS:
        return None
    known &= used
    descan = np.zeros(4)
    weight = np.where(known, beam[:, None] / np.maximum(flux.predicted, 1e-6), 0.0)
    data = np.concatenate(
        [np.where(known, one, 0)[..., None] for one in (flux.residual, flux.predicted)]
        + [np.where(known[..., None], flux.response, 0)],
        axis=-1,
    )
    positions = np.ascontiguousarray(scan[:, :2])
    for _ in range(3):
        normal, right, means, levels = _normal_equations(data, positions, weight)
        try:
            descan = np.linalg.solve(normal.sum(0), right.sum(0))
        except np.linalg.LinAlgError:
            return None
        left = _left_over(data, positions, weight, means, levels, descan)
        spread = 1.4826 * np.median(np.abs(left[weight > 0]))
        weight = np.where(np.abs(left) < 3 * max(spread, 1e-9), weight, 0)
    right -= np.einsum("sde,e->sd", normal, descan)
    return DescanFit(descan.reshape(2, 2), normal, right, int(used.sum()))


@njit(cache=True, nogil=True)
def _normal_equations(data, scan, weight):  # type: ignore[no-untyped-def]
    """Of D, row by row, by frame, with e_k eliminated; its part of design and of residual."""
    frames, sectors = weight.shape
    means, levels, pp = np.zeros((sectors, 4)), np.zeros(sectors), np.full(sectors, 1e-12)
    design = np.empty(4)
    for s in range(frames):
        for k in range(sectors):
            w = weight[s, k] * data[s, k, 1]
            pp[k] += w * data[s, k, 1]
            levels[k] += w * data[s, k, 0]
            for d in range(4):
                means[k, d] += w * data[s, k, 2 + d // 2] * scan[s, d % 2]
    for k in range(sectors):
        levels[k] /= pp[k]
        means[k] /= pp[k]
    normal, right = np.zeros((frames, 4, 4)), np.zeros((frames, 4))
    for s in range(frames):
        for k in range(sectors):
            w, p = weight[s, k], data[s, k, 1]
            if w == 0:
                continue
            off = w * (data[s, k, 0] - p * levels[k])
            for d in range(4):
                design[d] = data[s, k, 2 + d // 2] * scan[s, d % 2] - p * means[k, d]
            for d in range(4):
                right[s, d] += design[d] * off
                for e in range(d + 1):
                    normal[s, d, e] += w * design[d] * design[e]
        for d in range(4):
            for e in range(d):
                normal[s, e, d] = normal[s, d, e]
    return normal, right, means, levels


@njit(cache=True, nogil=True)
def _left_over(data, scan, weight, means, levels, descan):  # type: ignore[no-untyped-def]
    """(frame, sector) residuals of a D in standard errors, 0 where the weight is."""
    out = np.zeros(weight.shape)
    for s in range(weight.shape[0]):
        for k in range(weight.shape[1]):
            p = data[s, k, 1]
            left = data[s, k, 0] - p * levels[k]
            for d in range(4):
                design = data[s, k, 2 + d // 2] * scan[s, d % 2] - p * means[k, d]
                left -= design * descan[d]
            out[s, k] = left * np.sqrt(weight[s, k])
    return out


@njit(cache=True, nogil=True, fastmath={"nsz", "arcp", "contract", "reassoc"})
def _flux_of_even(frames, use, beam, edge, pixel, cut, out):  # type: ignore[no-untyped-def]
    """`_flux` of a shadow of 1."""
    sectors = len(cut) - 1
    even = np.zeros((sectors, 3), np.float32)
    for k in range(sectors):
        for j in range(cut[k], cut[k + 1]):
            even[k] += edge[j]
    frame = np.empty(frames.shape[1], np.float32)
    for i in range(len(use)):
        frame[:] = frames[use[i]]  # read in order; gathering from far memory takes three times that
        for k in range(sectors):
            total = np.float32(0)
            for j in range(cut[k], cut[k + 1]):
                total += frame[pixel[j]]
            out[i, k, 0] = total / beam[i] - even[k, 0]
            out[i, k, 1] = even[k, 0]
            out[i, k, 2] = -even[k, 1]
            out[i, k, 3] = -even[k, 2]


@njit(cache=True, nogil=True, fastmath={"nsz", "arcp", "contract", "reassoc"})
def _flux(  # type: ignore[no-untyped-def]
    frames, use, beam, edge, pixel, place, cut, plane, begin, rest, fields, least, out
):
    """Residual flux, prediction and response by frame and sector; NaN if a pixel is unknown.

    Pixels of sector k are `cut[k]` to `cut[k + 1]`: `pixel` in a frame, (frame, pixel), and
    `place` after `begin` in `fields`, (plane, point, 4): shadow, its gradient and its coverage.
    `edge`, (pixel, 3): the aperture and its gradient.
    """
    zero = np.float32(0)
    frame = np.empty(frames.shape[1], np.float32)
    for i in range(len(use)):
        frame[:] = frames[use[i]]
        grid = fields[plane[i]]
        first, t = begin[i], beam[i]
        dy, dx = rest[i, 0], rest[i, 1]
        for k in range(len(cut) - 1):
            counted, told, to_y, to_x = zero, zero, zero, zero
            seen = True
            for j in range(cut[k], cut[k + 1]):
                u = first + place[j]
                seen &= grid[u, 3] >= least
                p = grid[u, 0] + dy * grid[u, 1] + dx * grid[u, 2]
                counted += frame[pixel[j]]
                told += edge[j, 0] * p
                to_y += edge[j, 1] * p
                to_x += edge[j, 2] * p
            out[i, k, 0] = counted / t - told if seen else np.float32(np.nan)
            out[i, k, 1] = told
            out[i, k, 2] = -to_y
            out[i, k, 3] = -to_x
