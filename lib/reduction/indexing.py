"""Indexing: lattices from real-space directions of the 1D Fourier transform.

Spots mapped to reciprocal space and projected on a direction t lie on equidistant planes if
t is along a real-space lattice vector; the Fourier transform of the projections then peaks at
its length (Steller, Bolotovsky & Rossmann, J. Appl. Cryst. 30 (1997) 1036). Peaks are climbed
on ``S(v) = sum w cos(2 pi r.v) / sum w``, whose maxima are the lattice vectors v whatever
fraction of the spots is alien, and the shortest triple of vectors that explains the spots is
the basis.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numba
import numpy as np
from numpy.typing import NDArray

from ..crystal.niggli import niggli_reduce

Floats = NDArray[np.float64]

# Lattice vectors that differ by one on whose zero layer all points lie but this part are copies.
_LEAST_OFF_ZERO_LAYER = 0.03


@dataclass(frozen=True)
class BasisSearch:
    """How far and how finely the real-space search looks.

    Attributes
    ----------
    min_axis_A, max_axis_A : range of real-space axes looked for.
    n_directions : directions on the hemisphere.
    n_vectors : lattice vectors kept for building triples.
    n_points : strongest spots used.
    tolerance : |h - round(h)| up to which a spot counts as indexed.
    min_off_zero_layer : fraction of spots that must lie off a vector's zero layer.
    """

    min_axis_A: float = 3.0
    max_axis_A: float = 60.0
    n_directions: int = 6000
    n_vectors: int = 40
    n_points: int = 800
    tolerance: float = 0.2
    min_off_zero_layer: float = 0.15


def hemisphere(n: int) -> Floats:
    """n nearly evenly spaced unit vectors with z >= 0, (n, 3) (Fibonacci lattice)."""
    i = np.arange(n) + 0.5
    z = i / n
    azimuth = np.pi * (1 + np.sqrt(5.0)) * i
    radius = np.sqrt(1 - z * z)
    return np.stack([radius * np.cos(azimuth), radius * np.sin(azimuth), z], axis=1)


@numba.njit(cache=True, nogil=True, fastmath=True)
def _projection_histograms(
    points: Floats, weights: NDArray[np.float32], directions: Floats, half_width: float, n_bins: int
) -> NDArray[np.float32]:
    """(directions, n_bins) weighted histograms of the projections, linear in the bin."""
    histograms = np.zeros((len(directions), n_bins), np.float32)
    scale = n_bins / (2.0 * half_width)
    for k in range(len(directions)):
        x, y, z = directions[k]
        for i in range(len(points)):
            p = (points[i, 0] * x + points[i, 1] * y + points[i, 2] * z + half_width) * scale
            b = int(p)
            f = np.float32(p - b)
            if 0 <= b < n_bins - 1:
                histograms[k, b] += weights[i] * (np.float32(1.0) - f)
                histograms[k, b + 1] += weights[i] * f
    return histograms


def _cosine_sums(points: Floats, weights: Floats, vectors: Floats) -> Floats:
    """S(v) for each of `vectors`."""
    sums: Floats = np.cos(2 * np.pi * vectors @ points.T) @ weights / weights.sum()
    return sums


@numba.njit(cache=True, nogil=True, fastmath=True)
def _climb(points: Floats, weights: Floats, vectors: Floats, n_steps: int) -> None:
    """Newton steps (damped to ascent) of S(v) from each of `vectors`, in place."""
    for k in range(len(vectors)):
        for _ in range(n_steps):
            g = np.zeros(3)
            h = np.zeros((3, 3))
            for i in range(len(points)):
                phase = (
                    2.0
                    * np.pi
                    * (
                        points[i, 0] * vectors[k, 0]
                        + points[i, 1] * vectors[k, 1]
                        + points[i, 2] * vectors[k, 2]
                    )
                )
                s, c = np.sin(phase) * weights[i], np.cos(phase) * weights[i]
                for a in range(3):
                    g[a] -= s * points[i, a]
                    for b in range(3):
                        # |cos| keeps the curvature negative definite far from the top
                        h[a, b] += abs(c) * points[i, a] * points[i, b]
            for a in range(3):
                h[a, a] += 1e-9 + 1e-3 * (h[0, 0] + h[1, 1] + h[2, 2])
            step = np.linalg.solve(h, g) / (2.0 * np.pi)
            size = np.sqrt((step * step).sum())
            if size > 0.5:
                step *= 0.5 / size
            vectors[k] += step
            if size < 1e-4:
                break


def lattice_vectors(points: Floats, weights: Floats, search: BasisSearch) -> tuple[Floats, Floats]:
    """Real-space vectors v with high S(v), short and good ones first.

    Parameters
    ----------
    points : (n, 3) reciprocal-space positions at zero rotation, 1/Å.
    weights : (n,).

    Returns
    -------
    vectors : (m, 3) in Å.
    scores : (m,) S(v).
    """
    directions = hemisphere(search.n_directions)
    half_width = float(np.linalg.norm(points, axis=1).max()) * 1.01
    # bins fine enough for the longest axis; the transform's bins are 1 / (2 half_width) Å
    n_bins = int(2 ** np.ceil(np.log2(4 * half_width * search.max_axis_A * 1.1)))
    per_bin_A = 1.0 / (2.0 * half_width)
    low = max(int(np.ceil(search.min_axis_A / per_bin_A)), 3)
    high = min(int(search.max_axis_A / per_bin_A) + 1, n_bins // 2)
    candidates: list[Floats] = []
    strengths: list[Floats] = []
    for chunk in np.array_split(np.arange(len(directions)), max(1, len(directions) // 1000)):
        histograms = _projection_histograms(
            points, weights.astype(np.float32), directions[chunk], half_width, n_bins
        )
        power = np.abs(np.fft.rfft(histograms, axis=1))[:, low : high + 1]
        # the three highest local maxima of each direction
        peak = np.zeros(power.shape, bool)
        peak[:, 1:-1] = (power[:, 1:-1] >= power[:, :-2]) & (power[:, 1:-1] > power[:, 2:])
        power[~peak] = 0
        top = np.argsort(-power, axis=1)[:, :3]
        height = np.take_along_axis(power, top, axis=1)
        length = (top + low) * per_bin_A
        candidates.append((directions[chunk][:, None, :] * length[..., None]).reshape(-1, 3))
        strengths.append(height.ravel())
    start = np.concatenate(candidates)
    strength = np.concatenate(strengths)
    # every lattice vector scores alike; the short ones make the basis
    strength = strength * _short_first(start, search)
    best = np.argsort(-strength)[: 6 * search.n_vectors]
    vectors = start[best]
    _climb(points, weights, vectors, 25)
    scores = _cosine_sums(points, weights, vectors)
    length = np.linalg.norm(vectors, axis=1)
    inside = (length >= search.min_axis_A) & (length <= 1.05 * search.max_axis_A)
    # a short vector along the beam puts every spot of a thin slab on its zero layer: no evidence
    spread = (np.abs(np.round(vectors @ points.T)) > 0).mean(axis=1)
    inside &= spread > search.min_off_zero_layer
    vectors, scores = vectors[inside], scores[inside]
    order = np.argsort(-scores * _short_first(vectors, search))
    return _unique(vectors[order], scores[order], points, search.n_vectors)


def _short_first(vectors: Floats, search: BasisSearch) -> Floats:
    """Weight of a vector's score by its length: a basis is made of short ones."""
    weight: Floats = 1 / (1 + np.linalg.norm(vectors, axis=1) / search.max_axis_A)
    return weight


def _unique(vectors: Floats, scores: Floats, points: Floats, n: int) -> tuple[Floats, Floats]:
    """The first n vectors, without copies (either sign) of those before them.

    A copy differs by a vector on whose zero layer (nearly) all points lie, so that both index
    alike: near a lattice vector S has side maxima, displaced along the beam where the points
    are a thin slab. Together they would make a tiny cell that explains everything.
    """
    kept: list[int] = []
    for i, v in enumerate(vectors):
        difference = np.concatenate([vectors[kept] - v, vectors[kept] + v])
        off = (np.abs(difference @ points.T) > 0.5).mean(axis=1)
        if np.all(off > _LEAST_OFF_ZERO_LAYER):
            kept.append(i)
            if len(kept) == n:
                break
    return vectors[kept], scores[kept]


@numba.njit(cache=True, nogil=True, fastmath=True)
def _indexed_fractions(
    coordinates: Floats, triples: NDArray[np.int64], tolerance: float, weights: Floats
) -> Floats:
    """Weighted fraction of points with all three coordinates near integers, per triple."""
    fractions = np.zeros(len(triples))
    total = weights.sum()
    for k in range(len(triples)):
        s = 0.0
        for i in range(coordinates.shape[1]):
            near = True
            nonzero = False
            for j in range(3):
                x = coordinates[triples[k, j], i]
                n = np.round(x)
                if abs(x - n) > tolerance:
                    near = False
                    break
                if n != 0.0:
                    nonzero = True
            if near and nonzero:
                s += weights[i]
        fractions[k] = s / total
    return fractions


def best_triples(
    points: Floats, weights: Floats, vectors: Floats, search: BasisSearch, n_best: int = 4
) -> list[tuple[Floats, float]]:
    """Bases (3, 3 columns a, b, c; Niggli reduced) with the fraction of points they index.

    Among triples that index nearly as much as the best one, the smallest volume comes first:
    a superlattice indexes whatever its sublattice does.
    """
    if len(vectors) < 3:
        return []
    triples = np.array(list(combinations(range(len(vectors)), 3)))
    volume = np.abs(np.linalg.det(vectors[triples]))
    product = np.prod(np.linalg.norm(vectors, axis=1)[triples], axis=1)
    usable = (volume > search.min_axis_A**3) & (volume > 0.1 * product)
    triples, volume = triples[usable], volume[usable]
    if len(triples) == 0:
        return []
    coordinates = vectors @ points.T
    fraction = _indexed_fractions(coordinates, triples, search.tolerance, weights)
    # what a triple gains by chance grows with nothing but the tolerance, so fractions compare
    good = np.flatnonzero(fraction >= 0.93 * fraction.max())
    good = good[np.argsort(volume[good])]
    bases = vectors[triples[good]].transpose(0, 2, 1)
    found: list[tuple[Floats, float]] = []
    new = np.ones(len(good), bool)
    while new.any() and len(found) < n_best:
        k = int(np.argmax(new))
        found.append((niggli_reduce(bases[k])[0], float(fraction[good[k]])))
        new &= ~_same_lattice(found[-1][0], bases)
        new[k] = False
    return found


def _same_lattice(a: Floats, b: Floats, tolerance: float = 0.06) -> NDArray[np.bool_]:
    """Whether bases b, (n, 3, 3), each span nearly the same lattice as a (columns)."""
    transform = np.linalg.solve(a, b)
    rounded = np.round(transform)
    same: NDArray[np.bool_] = np.abs(np.abs(np.linalg.det(rounded)) - 1) < 1e-6
    return same & (np.abs(transform - rounded).max(axis=(1, 2)) < tolerance)


def anneal(
    points: Floats,
    weights: Floats,
    real_basis: Floats,
    tolerance: float = 0.25,
    stages: int = 6,
) -> tuple[Floats, NDArray[np.bool_]]:
    """Improve a basis by linear least squares from low to high resolution.

    At low resolution the indices are safe even with a wrong axis or cell; each stage fits A
    and admits points farther out.

    Returns
    -------
    real_basis : (3, 3) columns in Å.
    indexed : (n,) points within `tolerance` of an integer index at the end.
    """
    length = np.linalg.norm(points, axis=1)
    basis = real_basis
    for limit in np.quantile(length, np.linspace(0.35, 1.0, stages)):
        for _ in range(2):
            h = points @ basis
            near = (np.abs(h - np.round(h)).max(axis=1) < tolerance) & (length <= limit)
            index = np.round(h[near])
            if near.sum() < 6 or np.linalg.matrix_rank(index) < 3:
                break
            w = np.sqrt(weights[near])[:, None]
            reciprocal = np.linalg.lstsq(index * w, points[near] * w, rcond=None)[0].T
            if abs(np.linalg.det(reciprocal)) < 1e-12:
                break
            basis = np.linalg.inv(reciprocal).T
    h = points @ basis
    indexed = np.abs(h - np.round(h)).max(axis=1) < tolerance
    return basis, indexed
