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


def filled(image: Floats, disc: Disc, bad: NDArray[np.bool_]) -> Floats:
    """An image of the aperture with bad pixels from the mean of others as far from its centre.

    Slopes beside a hot pixel would be its own.
    """
    out = image.copy()
    if bad.any():
        place = np.rint(2 * disc.distance(image.shape)).astype(int)
        count = np.bincount(place[~bad], minlength=place.max() + 1)
        total = np.bincount(place[~bad], image[~bad], minlength=place.max() + 1)
        known = np.flatnonzero(count)
        profile = np.interp(np.arange(len(count)), known, total[known] / count[known])
        out[bad] = profile[place[bad]]
    return out


def sectors_apart(flux: EdgeFlux, scan: Vectors, beam: Floats) -> float:
    """Largest difference of D from every other sector and from the rest, binned pixels."""
    found = []
    for half in (0, 1):
        residual = flux.residual.copy()
        residual[:, half::2] = np.nan
        fitted = fit_descan(EdgeFlux(residual, flux.predicted, flux.response), scan, beam)
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
    if step is None:
        ones = np.ones((1, *aperture.shape), np.float32)
        plane = np.zeros(len(state.use), np.int32)
        base = np.zeros((len(state.use), 2), np.int32)
        rest = np.zeros((len(state.use), 2), np.float32)
        fields = (ones, ones * 0, ones * 0, ones * np.float32(1e9))
    else:
        plane, base, rest = step.shifts.plane, step.shifts.base, step.shifts.rest
        grid = step.grid
        fields = (grid.mean, grid.gradient_y, grid.gradient_x, grid.coverage)
    _flux(
        state.frames, state.corner, state.use, state.beam, aperture, along_y, along_x,
        where, sector, plane, base, rest, *fields, np.float32(least_coverage), out,
    )  # fmt: skip
    told = out.astype(float)
    return EdgeFlux(told[..., 0], told[..., 1], told[..., 2:4])


def fit_descan(flux: EdgeFlux, scan: Vectors, beam: Floats) -> DescanFit | None:
    """D by least squares; None if too few sectors show an edge."""
    known = np.isfinite(flux.residual) & (flux.predicted > 0)
    used = known.sum(0) > max(8, 0.02 * len(scan))
    if used.sum() < LEAST_SECTORS:
        return None
    known &= used
    residual = np.where(known, flux.residual, 0)
    predicted = np.where(known, flux.predicted, 0)
    response = np.where(known[..., None], flux.response, 0)
    # unknowns: D row by row; d_s = D s
    design = (response[..., :, None] * scan[:, None, None, :]).reshape(*known.shape, 4)
    weight = np.where(known, beam[:, None] / np.maximum(predicted, 1e-6), 0.0)
    descan = np.zeros(4)
    for _ in range(3):
        # e_k eliminated
        pp = np.maximum((weight * predicted**2).sum(0), 1e-12)
        mean = np.einsum("sk,sk,skd->kd", weight, predicted, design) / pp[:, None]
        level = (weight * predicted * residual).sum(0) / pp
        apart = design - predicted[..., None] * mean
        off = residual - predicted * level
        weighted = apart * weight[..., None]
        normal = np.einsum("skd,ske->sde", weighted, apart)
        right = np.einsum("skd,sk->sd", weighted, off)
        try:
            descan = np.linalg.solve(normal.sum(0), right.sum(0))
        except np.linalg.LinAlgError:
            return None
        left = (off - apart @ descan) * np.sqrt(weight)
        live = weight > 0
        spread = 1.4826 * np.median(np.abs(left[live]))
        weight = np.where(np.abs(left) < 3 * max(spread, 1e-9), weight, 0)
    right -= np.einsum("sde,e->sd", normal, descan)
    return DescanFit(descan.reshape(2, 2), normal, right, int(used.sum()))


@njit(cache=True, nogil=True, fastmath={"nsz", "arcp", "contract", "reassoc"})
def _flux(  # type: ignore[no-untyped-def]
    frames, corner, use, beam, aperture, along_y, along_x, where, sector, plane, base, rest,
    shadow, gradient_y, gradient_x, coverage, least, out,
):  # fmt: skip
    """Residual flux, prediction and response by frame and sector; NaN if a pixel is unknown."""
    for i in range(len(use)):
        frame = frames[use[i]]
        k, top, left, t = plane[i], base[i, 0], base[i, 1], beam[i]
        dy, dx = rest[i, 0], rest[i, 1]
        one = out[i]
        # without a grid the fields have the size of a frame
        for j in range(len(sector)):
            y, x, n = where[j, 0], where[j, 1], sector[j]
            u, v = top + y, left + x
            if coverage[k, u, v] < least:
                one[n, 0] = np.nan
                continue
            p = shadow[k, u, v] + dy * gradient_y[k, u, v] + dx * gradient_x[k, u, v]
            told = aperture[y, x] * p
            one[n, 0] += frame[corner[0] + y, corner[1] + x] / t - told
            one[n, 1] += told
            one[n, 2] -= along_y[y, x] * p
            one[n, 3] -= along_x[y, x] * p
