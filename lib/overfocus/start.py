"""The first G, from cross-spectra of coarse frames: no start value is needed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .binning import bin_frames
from .cross_spectra import (
    Candidate,
    Correlations,
    Spectra,
    candidates,
    contrast_of,
    correlations,
    polished,
    spectra_of,
)
from .gauss_newton import Frames

Vectors = NDArray[np.float64]

#: Radius of the disc in coarse pixels.
COARSE_RADIUS_PX = 12
#: Scan points along an axis that are looked at; of larger scans, the tile with most contrast.
TILE = 64
#: Anisotropy at which a pair of movements is thought unlikely: scans and descan are seldom worse.
LIKELY_ANISOTROPY = 0.2


@dataclass(frozen=True)
class Start:
    """A first G and how sure it is.

    Attributes
    ----------
    movements : (n, 2, 2) possible G in binned pixels, the likeliest first; n may be 0.
    likelihood : (n,) sum of the two z, cut down for anisotropy.
    snr : (n,) the smaller z of the two columns.
    disagreement : relative difference of the first between two halves of the scan.
    missing : which scan axis has no pairs of frames, "rows" or "columns", or "".
    """

    movements: Vectors
    likelihood: Vectors
    snr: Vectors
    disagreement: float = float("nan")
    missing: str = ""


_NONE = Start(np.zeros((0, 2, 2)), np.zeros(0), np.zeros(0))


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
    factor = max(1, round(radius / COARSE_RADIUS_PX))
    contrast, mask, use = _coarse_tile(state, recorded, factor)
    if mask.sum() < 12:
        return _NONE
    spectra = spectra_of(contrast, mask)
    both = [correlations(spectra, use, axis) for axis in (0, 1)]
    if both[0] is None or both[1] is None:
        missing = "rows" if both[0] is None else "columns"
        return Start(_NONE.movements, _NONE.likelihood, _NONE.snr, missing=missing)
    found = [candidates(one, spectra.overlap) for one in both if one is not None]
    pairs = []
    for row in found[0]:
        for column in found[1]:
            movement = factor * np.column_stack([row.movement, column.movement])
            unlike = anisotropy(descan - movement) / LIKELY_ANISOTROPY
            pairs.append((movement, (row.snr + column.snr) * np.exp(-(unlike**2)),
                          min(row.snr, column.snr)))  # fmt: skip
    if not pairs:
        return _NONE
    pairs.sort(key=lambda one: -one[1])
    movements, likelihood, snr = (np.array(one) for one in zip(*pairs[:4], strict=True))
    apart = _halves_apart(spectra, use, movements[0] / factor)
    return Start(movements, likelihood, snr, apart)


def anisotropy(matrix: Vectors) -> float:
    """Difference of the singular values of a (2, 2) matrix over their sum; 1 if it is zero."""
    singular = np.linalg.svd(matrix, compute_uv=False)
    return float((singular[0] - singular[1]) / max(singular.sum(), 1e-12)) if singular[0] else 1.0


def _coarse_tile(
    state: Frames, recorded: NDArray[np.bool_], factor: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_]]:
    """Contrast (scan_row, scan_column, row, column) of a tile, its mask, and its recorded points."""
    rows, columns = recorded.shape
    top, left = _liveliest_tile(state, recorded)
    tile = (slice(top, min(top + TILE, rows)), slice(left, min(left + TILE, columns)))
    high, wide = (n // factor * factor for n in state.mask.shape)
    y, x = state.corner
    flat = np.arange(rows * columns).reshape(rows, columns)[tile]
    use = recorded[tile]
    out = np.zeros((*use.shape, high // factor, wide // factor), np.float32)
    for i in range(len(use)):
        cut = np.ascontiguousarray(state.frames[flat[i], y : y + high, x : x + wide])
        bin_frames(cut, factor, 0.0, out[i])
    blocks = (high // factor, factor, wide // factor, factor)
    mask = (state.mask[:high, :wide] > 0).reshape(blocks).all((1, 3))
    layer = state.weight[:high, :wide].reshape(blocks).sum((1, 3))
    beam = np.ones(rows * columns, np.float32)
    beam[state.use] = state.beam
    values = out.reshape(-1, *out.shape[2:])[use.ravel()]
    contrast = np.zeros_like(out)
    contrast.reshape(-1, *out.shape[2:])[use.ravel()] = contrast_of(
        values, beam[flat[use]], layer, mask
    )
    return contrast, mask, use


def _liveliest_tile(state: Frames, recorded: NDArray[np.bool_]) -> tuple[int, int]:
    """First row and column of the tile whose frames vary most against the static layer."""
    rows, columns = recorded.shape
    tops = range(0, max(1, rows - TILE // 2), TILE) if rows > TILE else range(1)
    lefts = range(0, max(1, columns - TILE // 2), TILE) if columns > TILE else range(1)
    if len(tops) == len(lefts) == 1:
        return 0, 0
    y, x = state.corner
    h, w = state.mask.shape
    expected = state.weight * state.mask
    best = (-1.0, 0, 0)
    for top in tops:
        for left in lefts:
            i, j = min(top, max(rows - TILE, 0)), min(left, max(columns - TILE, 0))
            numbers = np.arange(rows * columns).reshape(rows, columns)[i : i + TILE, j : j + TILE]
            few = numbers[recorded[i : i + TILE, j : j + TILE]][::97]
            if not len(few):
                continue
            part = state.frames[few, y : y + h, x : x + w] * state.mask - expected
            best = max(best, (float(part.var() * len(few)), i, j))
    return best[1], best[2]


def _halves_apart(spectra: Spectra, use: NDArray[np.bool_], movement: Vectors) -> float:
    """Relative difference of G found from two halves, each with all the lags of its axis."""
    found: list[Vectors] = []
    for half in (0, 1):
        columns = []
        for axis in (0, 1):
            part = use.copy()
            cut = part.shape[1 - axis] // 2
            away = slice(cut, None) if half == 0 else slice(0, cut)
            part[(slice(None), away) if axis == 0 else (away, slice(None))] = False
            one: Correlations | None = correlations(spectra, part, axis)
            if one is None:
                return float("nan")
            start = Candidate((float(movement[0, axis]), float(movement[1, axis])), 0.0)
            columns.append(polished(one, spectra.overlap, start).movement)
        found.append(np.array(columns).T)
    return float(np.linalg.norm(found[0] - found[1]) / np.linalg.norm(movement))
