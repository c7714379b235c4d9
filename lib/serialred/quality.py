"""How promising a crystal is: a quick diffraction snapshot judged, and a score to rank by.

The spots of one still are mapped to reciprocal space. If they are of one lattice, the vectors
between them are lattice vectors, so the transform of the spots, ``S(t) = mean exp(2 pi i q.t)``,
has a modulus near 1 wherever t is a vector of the direct lattice; the direct beam need not be
known well, as only differences count. Several crystals, powder rings or noise share it out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..geometry import Geometry
from ..reduction.spot_finding import SpotFinder, Spots

Floats = NDArray[np.float64]
Complexes = NDArray[np.complex64]

# Lattice vectors sought lie within such a box of direct space: across the beam, along it.
REACH_A, DEPTH_A = 42.0, 40.0

# Sampling there: across, fine enough for q to Q_MAX; along, where q hardly reaches.
STEP_A, DEPTH_STEP_A = 0.3, 20.0

# Shortest vector of a lattice, and resolution to which spots are used, 1/Å.
SHORTEST_A, Q_MAX = 3.5, 1.1

# The strongest spots are used.
MOST_SPOTS = 150

# With fewer there is always a vector that explains them.
FEWEST_SPOTS = 5

# Spots nearer to the direct beam are not told from it.
NEAREST_BEAM_PER_A = 0.05

# A spot is of the lattice if its phases on both vectors are within this of the common one.
TOLERANCE = 0.1


@dataclass(frozen=True)
class Snapshot:
    """What a still shows.

    Attributes
    ----------
    n_spots : found, the direct beam left out.
    resolution_A : d to which nine tenths of them reach; infinite without any.
    lattice : part of the spots that two lattice vectors explain, beyond what chance would.
    significance : of the better vector: its power over the strongest that random spots show.
    score : 0..1, see `lattice_likeness`.
    """

    n_spots: int
    resolution_A: float
    lattice: float
    significance: float
    score: float


def judge_snapshot(
    counts: ArrayLike,
    geometry: Geometry,
    mask: NDArray[np.bool_] | None = None,
    *,
    gain: float = 1.0,
    saturation: float = np.inf,
) -> Snapshot:
    """Judge one still (rows, columns); `mask` is True on pixels not to be used.

    The direct beam should lie within a few px of the geometry's centre.
    """
    electrons = np.asarray(counts, np.float32) / np.float32(gain)
    valid = np.ones(electrons.shape, bool) if mask is None else ~mask
    finder = SpotFinder(electrons.shape, threshold=6.0)
    finder.add(np.ascontiguousarray(electrons), valid, saturation / gain, 0)
    return judge_spots(finder.spots(), geometry)


def judge_spots(spots: Spots, geometry: Geometry) -> Snapshot:
    """Judge the spots of one frame."""
    q = geometry.to_q(spots.row, spots.column)
    length = np.linalg.norm(q, axis=1)
    away = length > NEAREST_BEAM_PER_A
    q, length, intensity = q[away], length[away], spots.intensity[away]
    reach = _nine_tenths(length)
    if len(q) < FEWEST_SPOTS:
        return Snapshot(len(q), 1 / reach if reach else float("inf"), 0.0, 0.0, 0.0)
    near = length < Q_MAX
    strongest = np.argsort(intensity[near])[::-1][:MOST_SPOTS]
    lattice, significance = _lattice_share(q[near][strongest])
    score = lattice_likeness(reach, lattice, significance)
    return Snapshot(len(q), 1 / reach, lattice, significance, score)


def _nine_tenths(length: Floats) -> float:
    return float(np.sort(length)[int(0.9 * (len(length) - 1))]) if len(length) else 0.0


@lru_cache(maxsize=1)
def _box() -> tuple[Floats, Floats, Floats]:
    """Places sought along x (half: S(-t) is the conjugate), y and z."""
    x = np.arange(0, REACH_A + STEP_A, STEP_A)
    y = np.arange(-REACH_A, REACH_A + STEP_A, STEP_A)
    z = np.arange(-DEPTH_A, DEPTH_A + DEPTH_STEP_A, DEPTH_STEP_A)
    return x, y, z


def _transform(q: Floats) -> tuple[Floats, Floats]:
    """|S(t)| and its t (n, 3), best over z for each place across, in the half plane x >= 0."""
    x, y, z = _box()
    waves = [np.exp(2j * np.pi * np.outer(t, one)).astype(np.complex64) for t, one in
             zip((x, y, z), q.T, strict=True)]  # fmt: skip
    power = np.zeros((len(x), len(y)), np.float32)
    depth = np.zeros((len(x), len(y)))
    for along, place in zip(waves[2], z, strict=True):
        s = (waves[0] * along) @ waves[1].T
        here = s.real**2 + s.imag**2
        better = here > power
        power[better] = here[better]
        depth[better] = place
    t = np.stack([*np.broadcast_arrays(x[:, None], y[None, :]), depth], axis=-1)
    keep = np.hypot(t[..., 0], t[..., 1]) >= SHORTEST_A
    return np.sqrt(power[keep]).astype(np.float64) / len(q), t[keep]


def _climbed(q: Floats, t: Floats) -> tuple[Floats, float, float]:
    """The maximum of |S| near t; |S| there and the phase (turns)."""
    for _ in range(6):
        phase = 2 * np.pi * q @ t
        common = np.angle(np.exp(1j * phase).mean())
        off = (phase - common + np.pi) % (2 * np.pi) - np.pi
        weight = np.cos(off / 2) ** 2
        design = np.column_stack([2 * np.pi * q, np.ones(len(q))])
        normal = design.T @ (weight[:, None] * design) + np.diag([1e-3, 1e-3, 0.1, 1e-9])
        step = -np.linalg.solve(normal, design.T @ (weight * np.sin(off)))[:3]
        t = t + np.clip(step, -0.3, 0.3)
    s = np.exp(2j * np.pi * q @ t).mean()
    return t, float(abs(s)), float(np.angle(s) / (2 * np.pi))


def _lattice_share(q: Floats) -> tuple[float, float]:
    """Part of the spots that the best two vectors explain; significance of the better one."""
    if len(q) < FEWEST_SPOTS:
        return 0.0, 0.0
    modulus, t = _transform(q)
    order = np.argsort(modulus)[::-1]
    first, best, phase = _climbed(q, t[order[0]])
    # the other vector: not along the first, and among equals the one most across it
    way = first[:2] / np.linalg.norm(first[:2])
    across = np.abs(t[:, 0] * way[1] - t[:, 1] * way[0])
    apart = across >= np.maximum(SHORTEST_A, 0.3 * np.hypot(t[:, 0], t[:, 1]))
    second, _, other = _climbed(q, t[apart][np.argmax(modulus[apart])])
    off = [np.abs((q @ v - p + 0.5) % 1 - 0.5) for v, p in ((first, phase), (second, other))]
    inside = float(np.count_nonzero((off[0] < TOLERANCE) & (off[1] < TOLERANCE))) / len(q)
    chance = (2 * TOLERANCE) ** 2
    n_tried = modulus.size / 4  # neighbours in the box are alike
    significance = len(q) * best**2 / np.log(n_tried)
    return max(0.0, (inside - chance) / (1 - chance)), float(significance)


# Logistic weights of `lattice_likeness`: fitted, none negative, to 270 stills of lib.simulation
# (three zeolites, random orientation, thickness, mosaicity, dose and spot size): 60 in which one
# crystal has at least 85 % of the diffracting volume, against two, three, six and fifteen equal
# crystals, crystals too thin to measure, amorphous and empty support.
OFFSET, OF_LATTICE, OF_REACH, OF_SIGNIFICANCE = -11.9, 10.2, 5.1, 1.58
ENOUGH_REACH_PER_A, ENOUGH_SIGNIFICANCE = 0.6, 7.4


def lattice_likeness(reach_per_A: float, lattice: float, significance: float) -> float:
    """Chance, 0..1, that a still is of one crystal; monotone in each of its arguments.

    Parameters
    ----------
    reach_per_A : 1/d to which nine tenths of the spots reach; more than `ENOUGH_REACH_PER_A`
        counts no further, as cells and damage differ.
    lattice, significance : as in `Snapshot`.
    """
    logit = (
        OFFSET
        + OF_LATTICE * lattice
        + OF_REACH * min(reach_per_A, ENOUGH_REACH_PER_A)
        + OF_SIGNIFICANCE * float(np.log(min(significance, ENOUGH_SIGNIFICANCE) + 0.1))
    )
    return float(1 / (1 + np.exp(-logit)))


@dataclass(frozen=True)
class Quality:
    """How good a crystal promises to be; each part and the score from 0 to 1.

    Attributes
    ----------
    isolation : of its distance to the next particle.
    size : of its area; a larger crystal scatters more.
    likeness : of its snapshot; 1 before one was taken.
    """

    isolation: float
    size: float
    likeness: float = 1.0

    @property
    def score(self) -> float:
        """Likeness times the geometric mean of the other two."""
        return float(self.likeness * np.sqrt(self.isolation * self.size))


def quality(
    nearest_um: float,
    area_um2: float,
    snapshot: Snapshot | None = None,
    *,
    isolation_um: float = 1.0,
    usual_area_um2: float = 0.25,
) -> Quality:
    """The quality of a particle.

    Parameters
    ----------
    nearest_um : distance of its outline from the next.
    area_um2 : of the particle.
    snapshot : of it, if one was taken.
    isolation_um, usual_area_um2 : at which isolation and size come to 0.63.
    """
    return Quality(
        isolation=float(1 - np.exp(-nearest_um / isolation_um)),
        size=float(1 - np.exp(-area_um2 / usual_area_um2)),
        likeness=1.0 if snapshot is None else snapshot.score,
    )


def rank(qualities: Sequence[Quality]) -> list[int]:
    """Indices, the best first; equals stay in order."""
    return sorted(range(len(qualities)), key=lambda i: -qualities[i].score)
