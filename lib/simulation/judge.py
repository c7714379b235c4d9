"""Judging a reduction by the truth of the simulated series it was made from."""

from __future__ import annotations

from dataclasses import dataclass

import gemmi
import numpy as np
from numpy.typing import NDArray
from scipy.linalg import polar
from scipy.spatial.transform import Rotation

from ..crystal.cell import cell_from_real_basis
from ..geometry import rotation_about
from ..reduction.result import Flag, Lattice, Reduction, Reflections
from .truth import TrueLattice, Truth

Floats = NDArray[np.float64]

# A basis vector this far (in fractions of the true cell) from any true lattice vector is wrong.
LARGEST_MISFIT = 0.2

# Observed and true passages of a reflection are the same if no further apart than this.
LARGEST_ANGLE_DEG = 1.5

# Reflections that no one would merge, and so are not judged.
UNUSABLE = Flag.MASKED | Flag.EDGE | Flag.OVERLAP | Flag.BACKGROUND | Flag.PROFILE_FAILED

CENTRING_MULTIPLICITY = {"P": 1, "A": 2, "B": 2, "C": 2, "I": 2, "F": 4, "R": 3}


# What `judge` says only of a lattice that was found.
FIGURES = (
    "indexed_fraction",
    "cell_edge_error_percent",
    "cell_angle_error_deg",
    "orientation_error_deg",
    "axis_error_deg",
    "n_reflections",
    "n_matched",
    "n_used",
    "n_saturated",
    "saturated_missed",
    "frame_rms",
    "position_rms_px",
    "cc_f2",
    "cc_f2_with_saturated",
    "chi2_equivalents",
    "chi2_truth",
    "intensity_ratio",
)


@dataclass(frozen=True)
class LatticeMatch:
    """How a found lattice relates to a true one.

    Attributes
    ----------
    transform : (3, 3) the found real basis in terms of the true one (columns); integers, and
        fractions where the true lattice is centred. ``h_true = transform^-T h_found``.
    rotation : (3, 3) what turns the true lattice into the found one, at zero goniometer angle.
    """

    transform: Floats
    rotation: Floats

    def to_true_hkl(self, hkl: NDArray[np.integer]) -> NDArray[np.int64]:
        """Found indices (n, 3) in the true setting."""
        return np.rint(hkl @ np.linalg.inv(self.transform)).astype(np.int64)


def match_lattice(found: Lattice, true: TrueLattice) -> LatticeMatch | None:
    """The match of two lattices, or None where they are not the same lattice.

    Each found basis vector must be near a vector of the true lattice, and the found cell must
    hold as many lattice points as its centring says. Any setting will do, the inverted one
    (-A indexed as -h) and every lattice symmetry included; a mirror image or a sub-lattice not.
    """
    true_basis = np.linalg.inv(true.orientation).T  # columns a, b, c
    found_basis = np.linalg.inv(found.orientation).T
    group = gemmi.SpaceGroup(true.space_group).operations()
    centrings = np.array(group.cen_ops) / gemmi.Op.DEN  # (m, 3), 000 among them
    coordinates = np.linalg.solve(true_basis, found_basis)
    options = centrings[:, :, None] + np.rint(coordinates - centrings[:, :, None])
    misfit = np.linalg.norm(coordinates - options, axis=1)  # (m, columns)
    best = np.argmin(misfit, axis=0)
    transform = options[best, :, np.arange(3)].T
    points = abs(np.linalg.det(transform)) * len(centrings)
    multiplicity = CENTRING_MULTIPLICITY[found.bravais[1]]
    if found.bravais == "hR" and abs(found.cell[5] - found.cell[3]) < 1:
        multiplicity = 1  # rhombohedral axes
    if misfit.min(axis=0).max() > LARGEST_MISFIT or round(points) != multiplicity:
        return None
    rotation = polar(found_basis @ np.linalg.inv(true_basis @ transform))[0]
    return LatticeMatch(transform, rotation)


def judge(reduction: Reduction, truth: Truth, lattice: int = 0) -> dict[str, float]:
    """Figures of merit of a reduction, for one of the true lattices.

    Intensities are judged as a user gets them: Lorentz-corrected by the engine. The reflections
    used are those with a finite intensity, a partiality of at least 0.5, none of the flags in
    `UNUSABLE`, and no grazing passage; saturated ones only where said.

    Returns
    -------
    lattices_true, lattices_claimed : how many there are; lattices_false : claimed ones that
    match none of the true ones; found : 1 or 0. Where found (NaN otherwise):
    indexed_fraction : as the engine says;
    cell_edge_error_percent, cell_angle_error_deg : the largest of the three;
    orientation_error_deg : mean over the frames of the turn between found and true crystal;
    axis_error_deg : between found and true rotation axis;
    n_reflections, n_matched, n_used, n_saturated : in the list, known to the truth, used, and
    flagged saturated by the engine;
    saturated_missed : reflections truly saturated that the engine did not flag;
    frame_rms, position_rms_px : predicted less true;
    cc_f2, cc_f2_with_saturated : correlation of intensity and |F|^2;
    chi2_equivalents : reduced chi-square of symmetry equivalents with the engine's sigmas;
    chi2_truth : mean square of (I - I_true) / sigma;
    intensity_ratio : sum of the intensities over that of the true ones (electrons).
    """
    true = truth.lattices[lattice] if truth.lattices else None
    figures = dict.fromkeys(FIGURES, float("nan"))
    figures |= {
        "lattices_true": float(len(truth.lattices)),
        "lattices_claimed": float(len(reduction.lattices)),
        "lattices_false": float(
            sum(
                all(match_lattice(claimed, other) is None for other in truth.lattices)
                for claimed in reduction.lattices
            )
        ),
        "found": 0.0,
    }
    if true is None:
        return figures
    matches = [(claimed, match_lattice(claimed, true)) for claimed in reduction.lattices]
    good = [(claimed, match) for claimed, match in matches if match is not None]
    if not good:
        return figures
    claimed, match = max(good, key=lambda pair: pair[0].n_indexed)
    ideal = cell_from_real_basis(np.linalg.inv(true.orientation).T @ match.transform)
    difference = np.array(claimed.cell) - ideal
    cosine = np.dot(claimed.geometry.axis, truth.geometry.axis)
    figures |= {
        "found": 1.0,
        "indexed_fraction": claimed.indexed_fraction,
        "cell_edge_error_percent": float(100 * np.abs(difference[:3] / ideal[:3]).max()),
        "cell_angle_error_deg": float(np.abs(difference[3:]).max()),
        "orientation_error_deg": _orientation_error_deg(reduction, claimed, match, truth),
        "axis_error_deg": float(np.rad2deg(np.arccos(np.clip(cosine, -1, 1)))),
    }
    return figures | _judge_intensities(claimed.reflections, match, true, truth)


def _orientation_error_deg(
    reduction: Reduction, claimed: Lattice, match: LatticeMatch, truth: Truth
) -> float:
    """Mean turn between found and true crystal in the lab, over the frames that are not blank."""
    shown = ~truth.blank
    found = rotation_about(claimed.geometry.axis, reduction.frames.angle_deg[shown])
    true = rotation_about(truth.geometry.axis, truth.angle_mid_deg[shown])
    between = found @ match.rotation @ true.transpose(0, 2, 1)
    # An inverted setting carries its sign in the transform, so `between` is proper.
    return float(np.rad2deg(Rotation.from_matrix(between).magnitude().mean()))


def _judge_intensities(
    found: Reflections, match: LatticeMatch, true: TrueLattice, truth: Truth
) -> dict[str, float]:
    hkl = match.to_true_hkl(found.hkl)
    width_deg = float(truth.angle_width_deg.mean())
    row = match_reflections(hkl, found.frame, true, LARGEST_ANGLE_DEG / width_deg)
    known = row >= 0
    told = found[known]
    real = true.reflections[row[known]]
    usable = np.all(
        [
            np.isfinite(told.intensity),
            np.isfinite(told.sigma) & (told.sigma > 0),
            told.partiality >= 0.5,
            ~told.has(UNUSABLE),
            ~real.grazing,
        ],
        axis=0,
    )
    clean = usable & ~told.has(Flag.SATURATED)
    corrected, sigma = told.intensity, told.sigma
    electrons = told.intensity * told.lorentz
    group = equivalents(hkl[known], true.space_group)
    pull = (electrons - real.intensity)[clean] / (told.sigma * told.lorentz)[clean]
    missed = real.saturated & ~told.has(Flag.SATURATED) & ~told.has(UNUSABLE)
    return {
        "n_reflections": float(len(found)),
        "n_matched": float(known.sum()),
        "n_used": float(clean.sum()),
        "n_saturated": float(told.has(Flag.SATURATED).sum()),
        "saturated_missed": float(missed.sum()),
        "frame_rms": _rms(told.frame - real.frame),
        "position_rms_px": _rms(np.hypot(told.row - real.row, told.column - real.column)),
        "cc_f2": correlation(corrected[clean], real.f2[clean]),
        "cc_f2_with_saturated": correlation(corrected[usable], real.f2[usable]),
        "chi2_equivalents": chi2_equivalents(corrected[clean], sigma[clean], group[clean]),
        "chi2_truth": float(np.mean(pull**2)) if len(pull) else float("nan"),
        "intensity_ratio": (
            float(electrons[clean].sum() / real.intensity[clean].sum())
            if clean.any()
            else float("nan")
        ),
    }


def match_reflections(
    hkl: NDArray[np.int64], frame: Floats, true: TrueLattice, largest_frames: float
) -> NDArray[np.int64]:
    """Row of the true passage of each reflection (n, 3) seen at `frame` (n,); -1 for none."""
    reflections = true.reflections
    key = _key(reflections.hkl.astype(np.int64))
    order = np.lexsort((reflections.frame, key))
    wanted = _key(hkl)
    first = np.searchsorted(key[order], wanted)
    row = np.full(len(hkl), -1, np.int64)
    nearest = np.full(len(hkl), largest_frames)
    for other in (0, 1):  # a reflection passes the sphere twice at most
        place = first + other
        there = place < len(order)
        candidate = order[np.minimum(place, len(order) - 1)]
        distance = np.abs(reflections.frame[candidate] - frame)
        better = there & (key[candidate] == wanted) & (distance <= nearest)
        row[better], nearest[better] = candidate[better], distance[better]
    return row


def equivalents(hkl: NDArray[np.int64], space_group: str) -> NDArray[np.int64]:
    """(n,) a number that all reflections equivalent in the Laue group share."""
    operations = gemmi.SpaceGroup(space_group).operations()
    rotations = [np.array(op.rot) // gemmi.Op.DEN for op in operations.sym_ops]
    keys = [_key(sign * hkl @ rotation) for rotation in rotations for sign in (1, -1)]
    group: NDArray[np.int64] = np.max(keys, axis=0)
    return group


def chi2_equivalents(intensity: Floats, sigma: Floats, group: NDArray[np.int64]) -> float:
    """Reduced chi-square of repeats about their weighted mean; NaN without repeats."""
    _, member = np.unique(group, return_inverse=True)
    weight = 1 / sigma**2
    mean = np.bincount(member, weight * intensity) / np.bincount(member, weight)
    freedom = len(member) - len(mean)
    if freedom <= 0:
        return float("nan")
    return float(np.sum(weight * (intensity - mean[member]) ** 2) / freedom)


def correlation(a: Floats, b: Floats) -> float:
    """Pearson's correlation; NaN for fewer than three pairs."""
    return float(np.corrcoef(a, b)[0, 1]) if len(a) > 2 else float("nan")


def _key(hkl: NDArray[np.int64]) -> NDArray[np.int64]:
    """Indices up to 2^20 as one integer."""
    shifted = hkl.astype(np.int64) + (1 << 20)
    key: NDArray[np.int64] = (shifted[:, 0] << 42) | (shifted[:, 1] << 21) | shifted[:, 2]
    return key


def _rms(values: Floats) -> float:
    return float(np.sqrt(np.mean(values**2))) if len(values) else float("nan")
