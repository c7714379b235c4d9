"""The first G, from cross-spectra of coarse frames or their flow: no start value is needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .binning import bin_frames
from .cross_spectra import (
    Maps,
    Spectra,
    candidates,
    contrast_of,
    halves_of,
    snr_of,
    spectra_of,
    together,
)
from .flow import flow_of
from .gauss_newton import Frames
from .object_grid import Floats

Vectors = NDArray[np.float64]

#: Radius of the disc in coarse pixels.
COARSE_RADIUS_PX, FLOW_RADIUS_PX = 12, 22
#: Scan points along an axis that are looked at, of larger scans the tile with most contrast: the
#: small tile if the movement stands out of it by so much, else the large one.
SMALL_TILE, TILE = 32, 64
CLEAR_SNR = 30.0
#: Share of what changes along the scan that a flow must explain.
LEAST_EXPLAINED = 0.4


@dataclass(frozen=True)
class Start:
    """A first G and how sure it is.

    Attributes
    ----------
    movements : (n, 2, 2) possible G in binned pixels, the likeliest first; n may be 0.
    snr : (n,) z of each.
    halves_snr : the smaller z of the first in two halves of the scan.
    missing : which scan axis has no pairs of frames, "rows" or "columns", or "".
    """

    movements: Vectors
    snr: Vectors
    halves_snr: float = float("nan")
    missing: str = ""


_NONE = Start(np.zeros((0, 2, 2)), np.zeros(0))


def first_movement(
    state: Frames, recorded: NDArray[np.bool_], radius: float, descan: Vectors
) -> Start:
    """Possible G of a scan, from the movement along its rows and along its columns.

    Parameters
    ----------
    recorded : (scan_row, scan_column) bool.
    radius : of the disc, binned pixels.
    descan : (2, 2) first D, binned pixels per scan point; only rules out what is too anisotropic.
    """
    if max(recorded.shape) > SMALL_TILE:
        small = _in_tile(state, recorded, radius, descan, SMALL_TILE)
        if len(small.snr) and min(small.snr[0], small.halves_snr) > CLEAR_SNR:
            return small
    return _in_tile(state, recorded, radius, descan, TILE)


def _in_tile(
    state: Frames, recorded: NDArray[np.bool_], radius: float, descan: Vectors, size: int
) -> Start:
    """What the tile of `size` scan points along both axes shows."""
    factor = max(1, round(radius / COARSE_RADIUS_PX))
    contrast, mask, use = _contrast_of_tile(state, recorded, factor, size)
    if mask.sum() < 12:
        return _NONE
    spectra = spectra_of(contrast, mask)
    halves = [halves_of(spectra, use, axis) for axis in (0, 1)]
    down, across = (together(both, spectra) for both in halves)
    if down is None or across is None:
        missing = "rows" if down is None else "columns"
        return Start(_NONE.movements, _NONE.snr, missing=missing)
    found = candidates(down, across, spectra.overlap, descan / factor)
    if not found:
        return _NONE
    return Start(
        np.array([factor * one.movement for one in found]),
        np.array([one.snr for one in found]),
        _halves_snr(spectra, halves, found[0].movement),
    )


def anisotropy(matrix: Vectors) -> float:
    """Difference of the singular values of a (2, 2) matrix over their sum; 1 if it is zero."""
    singular = np.linalg.svd(matrix, compute_uv=False)
    return float((singular[0] - singular[1]) / max(singular.sum(), 1e-12)) if singular[0] else 1.0


def slow_movement(
    state: Frames, recorded: NDArray[np.bool_], radius: float, descan: Vectors
) -> Start:
    """G by optical flow, for a shadow that moves by few pixels over the whole scan.

    The static layer of `state` must be free of the specimen, which hardly moves out of a mean.
    """
    factor = max(1, round(radius / FLOW_RADIUS_PX))
    frames, mask, use, layer, _ = _coarse_tile(state, recorded, factor, TILE)
    flow = flow_of(frames, use, layer, mask, descan / factor)
    if flow is None or flow.explained < LEAST_EXPLAINED:
        return _NONE
    return Start(factor * flow.movement[None], np.array([flow.snr]), flow.halves_snr)


def _coarse_tile(
    state: Frames, recorded: NDArray[np.bool_], factor: int, size: int
) -> tuple[Floats, NDArray[np.bool_], NDArray[np.bool_], Floats, NDArray[np.intp]]:
    """Frames (scan_row, scan_column, row, column) of a tile, their mask, which are recorded,
    the static layer, and the numbers (scan_row, scan_column) of the frames."""
    rows, columns = recorded.shape
    top, left = _liveliest_tile(state, recorded, size)
    tile = (slice(top, min(top + size, rows)), slice(left, min(left + size, columns)))
    high, wide = (n // factor * factor for n in state.mask.shape)
    y, x = state.corner
    numbers = np.arange(rows * columns).reshape(rows, columns)[tile]
    use = recorded[tile]
    out = np.zeros((*use.shape, high // factor, wide // factor), np.float32)
    for i in range(len(use)):
        cut = np.ascontiguousarray(state.frames[numbers[i], y : y + high, x : x + wide])
        bin_frames(cut, factor, 0.0, out[i])
    blocks = (high // factor, factor, wide // factor, factor)
    mask = np.asarray((state.mask[:high, :wide] > 0).reshape(blocks).all((1, 3)))
    layer = np.asarray(state.weight[:high, :wide].reshape(blocks).sum((1, 3)))
    return out, mask, use, layer, numbers


def _contrast_of_tile(
    state: Frames, recorded: NDArray[np.bool_], factor: int, size: int
) -> tuple[Floats, NDArray[np.bool_], NDArray[np.bool_]]:
    """Contrast (scan_row, scan_column, row, column) of a tile, its mask, its recorded points."""
    frames, mask, use, layer, numbers = _coarse_tile(state, recorded, factor, size)
    beam = np.ones(recorded.size, np.float32)
    beam[state.use] = state.beam
    contrast = np.zeros_like(frames)
    contrast[use] = contrast_of(frames[use], beam[numbers[use]], layer, mask)
    return contrast, mask, use


def _liveliest_tile(state: Frames, recorded: NDArray[np.bool_], size: int) -> tuple[int, int]:
    """First row and column of the tile whose frames vary most against the static layer."""
    rows, columns = recorded.shape
    tops = range(0, max(1, rows - size // 2), size) if rows > size else range(1)
    lefts = range(0, max(1, columns - size // 2), size) if columns > size else range(1)
    if len(tops) == len(lefts) == 1:
        return 0, 0
    y, x = state.corner
    h, w = state.mask.shape
    expected = state.weight * state.mask
    best = (-1.0, 0, 0)
    for top in tops:
        for left in lefts:
            i, j = min(top, max(rows - size, 0)), min(left, max(columns - size, 0))
            numbers = np.arange(rows * columns).reshape(rows, columns)[i : i + size, j : j + size]
            few = numbers[recorded[i : i + size, j : j + size]][::97]
            if not len(few):
                continue
            part = state.frames[few, y : y + h, x : x + w] * state.mask - expected
            best = max(best, (float(part.var() * len(few)), i, j))
    return best[1], best[2]


def _halves_snr(spectra: Spectra, halves: Sequence[Sequence[Maps]], movement: Vectors) -> float:
    """The smaller z of a G in two halves of the scan, each with all the lags of its axis."""
    found = []
    for half in (0, 1):
        down, across = (together([both[half]], spectra) for both in halves)
        if down is None or across is None:
            return float("nan")
        found.append(snr_of(down, across, movement))
    return min(found)
