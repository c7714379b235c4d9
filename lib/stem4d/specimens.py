"""Specimens of the simulated 4D-STEM scans: maps of what fraction of the beam passes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numba import njit
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

Map = NDArray[np.float32]

SPECIMENS = ("holes", "grating", "islands", "sparse", "weak", "periodic", "cross_grating")


def transmission(kind: str, shape: tuple[int, int], feature: float, seed: int) -> Map:
    """How much of the beam passes each point of a specimen, (rows, columns) float32, 0 to 1.

    Parameters
    ----------
    kind : one of `SPECIMENS`: "holes": a film with holes; "grating": lines of uneven distance
        with debris; "islands": ragged patches; "sparse": few smooth blobs; "weak": patches of
        3 % contrast; "periodic": a perfect grid; "cross_grating": two sets of bars with islands
        of metal and faults; and "vacuum": nothing.
    shape : of the map.
    feature : typical size of what is on it, in map pixels.
    seed : of the random places.

    Raises
    ------
    ValueError : for an unknown kind.
    """
    if kind not in _MAKERS:
        raise ValueError(f"specimen: found {kind!r}, expected one of {', '.join(_MAKERS)}")
    random = np.random.default_rng(seed)
    made: Map = _MAKERS[kind](shape, feature, random).astype(np.float32)
    return made


def _holes(shape: tuple[int, int], feature: float, random: Generator) -> Map:
    film = np.full(shape, 0.35, np.float32)
    _stamp(film, *_places(shape, 2.2 * feature, (0.4 * feature, feature), random), 1.0, False)
    return film


def _grating(shape: tuple[int, int], feature: float, random: Generator) -> Map:
    _, x = _axes(shape, np.deg2rad(random.uniform(0, 180)))
    wobble = np.cumsum(random.uniform(1.4, 2.6, int((x.max() - x.min()) / feature) + 3)) * feature
    edges = wobble + x.min() - 2 * feature
    nearest = np.searchsorted(edges, x)
    inside = np.minimum(
        np.abs(x - edges[np.maximum(nearest - 1, 0)]),
        np.abs(x - edges[np.minimum(nearest, len(edges) - 1)]),
    )
    lines = (1 - 0.45 * _step(0.5 * feature - inside)).astype(np.float32)
    _stamp(lines, *_places(shape, 4 * feature, (0.25 * feature, 0.7 * feature), random), 0.3, False)
    return lines


def _islands(shape: tuple[int, int], feature: float, random: Generator) -> Map:
    return 1 - 0.6 * _patches(shape, feature, random)


def _sparse(shape: tuple[int, int], feature: float, random: Generator) -> Map:
    field = np.ones(shape, np.float32)
    _stamp(field, *_places(shape, 4 * feature, (0.5 * feature, feature), random), 0.4, True)
    return field


def _weak(shape: tuple[int, int], feature: float, random: Generator) -> Map:
    return 1 - 0.03 * _patches(shape, feature, random)


def _periodic(shape: tuple[int, int], feature: float, random: Generator) -> Map:
    y, x = _axes(shape, np.deg2rad(random.uniform(0, 90)))
    wave = 2 * np.pi / (2 * feature)
    bars = np.maximum(np.cos(wave * y), np.cos(wave * x))
    return 1 - 0.55 * _step(4 * (bars - 0.6)).astype(np.float32)


def _cross_grating(shape: tuple[int, int], feature: float, random: Generator) -> Map:
    y, x = _axes(shape, np.deg2rad(random.uniform(0, 90)))
    wave = 2 * np.pi / (2.5 * feature)
    bars = np.maximum(np.cos(wave * y), np.cos(wave * x))
    grid = (1 - 0.5 * _step(4 * (bars - 0.55))).astype(np.float32)
    _stamp(grid, *_places(shape, 6 * feature, (0.4 * feature, feature), random), 0.15, False)
    return grid * (1 - 0.2 * _patches(shape, 0.4 * feature, random))


_MAKERS: dict[str, Callable[[tuple[int, int], float, Generator], Map]] = {
    "holes": _holes,
    "grating": _grating,
    "islands": _islands,
    "sparse": _sparse,
    "weak": _weak,
    "periodic": _periodic,
    "cross_grating": _cross_grating,
    "vacuum": lambda shape, feature, random: np.ones(shape, np.float32),
}


def _axes(shape: tuple[int, int], angle: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Coordinates (row, column) of each point, turned by an angle."""
    rows, columns = np.indices(shape)
    cos, sin = np.cos(angle), np.sin(angle)
    return cos * rows - sin * columns, sin * rows + cos * columns


def _step(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """0 to 1 across an edge two pixels wide."""
    return np.asarray(np.clip(0.5 + distance / 2, 0, 1))


def _patches(shape: tuple[int, int], feature: float, random: Generator) -> Map:
    """Ragged patches over half of the map: smoothed noise, cut."""
    noise = gaussian_filter(random.standard_normal(shape, np.float32), 0.6 * feature, mode="wrap")
    noise /= noise.std()
    sharp = np.asarray(np.clip(0.5 + 0.8 * feature * noise / 2, 0, 1), np.float32)
    return sharp


def _places(
    shape: tuple[int, int], distance: float, radii: tuple[float, float], random: Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Random centres (n, 2), one per distance squared, and radii (n,), map pixels."""
    count = max(8, int(shape[0] * shape[1] / distance**2))
    return random.uniform(0, 1, (count, 2)) * np.array(shape), random.uniform(*radii, count)


@njit(cache=True, nogil=True)
def _stamp(map_, centres, radii, value, smooth):  # type: ignore[no-untyped-def]
    """Draw discs of a value, or smooth dips to it that multiply, into a map in place."""
    height, width = map_.shape
    for n in range(len(radii)):
        y, x, radius = centres[n, 0], centres[n, 1], radii[n]
        reach = 4 * radius if smooth else radius + 1
        for row in range(max(0, int(y - reach)), min(height, int(y + reach) + 2)):
            for column in range(max(0, int(x - reach)), min(width, int(x + reach) + 2)):
                squared = (row - y) ** 2 + (column - x) ** 2
                if smooth:
                    dip = np.exp(-squared / (2 * radius**2))
                    map_[row, column] *= 1 - (1 - value) * dip
                else:
                    share = min(1.0, max(0.0, 0.5 + (radius - np.sqrt(squared)) / 2))
                    map_[row, column] += share * (value - map_[row, column])
