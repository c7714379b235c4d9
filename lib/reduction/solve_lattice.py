"""From spots to a refined lattice with its symmetry: search, annealed refinement, choice.

The order matters and was measured: a basis is refined without symmetry and without the
elliptical distortion first (free together they diverge: a fixed ellipse looks like a strained
cell); the distortion and the rotation scale are freed once a lattice symmetry holds the cell.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from ..crystal.cell import Cell, cell_from_real_basis, orthogonalisation
from ..crystal.lattice_symmetry import LatticeCandidate, lattice_candidates, strain_basis
from ..crystal.niggli import niggli_reduce
from ..geometry import rotated
from .indexing import BasisSearch, anneal, best_triples, lattice_vectors
from .model import Model
from .refinement import TRICLINIC_STRAINS, Observations, Refined, refine
from .spot_finding import Spots

Floats = NDArray[np.float64]

# |h - round(h)| up to which a spot is called indexed; DIALS uses the same, so figures compare.
HKL_TOLERANCE = 0.3
# a third of it must hold far more spots than chance would put there
_TIGHT = 0.15
_CHANCE = (2 * _TIGHT) ** 3
# a spot that a model leaves out costs it as much as one 3 sigma off
_OUTLIER_CHI2 = 9.0
# Spots on a sublattice beyond this fraction: the lattice is the sublattice.
_ON_SUBLATTICE = 0.92


@dataclass(frozen=True)
class Solution:
    """A lattice that explains spots.

    Attributes
    ----------
    model : refined model.
    refined : the refinement it came from.
    hkl : (n, 3) index of every spot offered.
    indexed : (n,) whether that index is accepted.
    score : mean over all spots of min(chi-square, 9); lower is better.
    log10_chance : decimal logarithm of the odds that chance indexes as many spots.
    close : (n,) whether the spot lies so close to its index that chance would put few there.
    """

    model: Model
    refined: Refined
    hkl: NDArray[np.int32]
    indexed: NDArray[np.bool_]
    score: float
    log10_chance: float
    close: NDArray[np.bool_]

    @property
    def fraction(self) -> float:
        """Indexed over offered spots."""
        return float(self.indexed.mean())


def spot_sigmas(spots: Spots, model: Model) -> tuple[Floats, Floats]:
    """Standard deviations of the spots' positions (px) and excitation errors (1/Å)."""
    strength = np.maximum(spots.intensity / spots.sigma, 1.0)
    sigma_px = np.sqrt(0.25**2 + (1.5 / strength) ** 2)
    r = model.to_reciprocal(spots.row, spots.column, spots.frame)
    q = rotated(r, model.geometry.axis, model.angle_deg(spots.frame))
    rate = np.abs(np.cross(model.geometry.axis, q)[:, 2])
    step = np.deg2rad(abs(model.angle_step_deg))
    sigma = np.sqrt((4e-4) ** 2 + (2e-3 / strength) ** 2 + (0.3 * rate * step) ** 2)
    # a rocking curve cut by the ends of the series has a biased centroid
    last = len(model.beam_track_px) - 1
    cut = (spots.first <= 0) | (spots.last >= last)
    return sigma_px, np.where(cut, np.maximum(sigma, 2e-3), sigma)


def assign_indices(model: Model, spots: Spots) -> tuple[NDArray[np.int32], Floats, Floats]:
    """Nearest index of each spot, its largest |h - round(h)|, and |r| in 1/Å."""
    r = model.to_reciprocal(spots.row, spots.column, spots.frame)
    h = r @ np.linalg.inv(model.orientation).T
    index = np.round(h)
    deviation = np.abs(h - index).max(axis=1)
    deviation[(index == 0).all(axis=1)] = 1.0
    return index.astype(np.int32), deviation, np.linalg.norm(r, axis=1)


def _observations(
    spots: Spots, hkl: NDArray[np.int32], sigma: tuple[Floats, Floats], keep: NDArray[np.bool_]
) -> Observations:
    return Observations(
        hkl[keep], spots.row[keep], spots.column[keep], spots.frame[keep],
        sigma[0][keep], sigma[1][keep],
    )  # fmt: skip


def refine_in_stages(
    model: Model,
    spots: Spots,
    free: Sequence[str],
    strains: Floats,
    *,
    quantiles: Sequence[float] = (0.35, 0.5, 0.65, 0.8, 1.0),
    priors: dict[str, float] | None = None,
    cut_sigma: float = 5.0,
) -> Solution | None:
    """Refine with indices re-assigned as the resolution limit moves outwards.

    Returns None where fewer spots can be indexed than parameters need, or it diverges.
    """
    refined = None
    for limit in quantiles:
        hkl, deviation, length = assign_indices(model, spots)
        keep = (deviation < HKL_TOLERANCE) & (length <= np.quantile(length, limit))
        sigma = spot_sigmas(spots, model)
        if refined is not None and limit == 1.0:
            chi2 = _chi_square(model, spots, hkl, sigma)
            spread = np.median(chi2[keep]) / 2.37 if keep.any() else 1.0  # 3 d.o.f. median
            keep &= chi2 < 3 * cut_sigma**2 * max(spread, 1.0)
        if keep.sum() < 10 or np.linalg.matrix_rank(hkl[keep]) < 3:
            continue
        try:
            refined = refine(
                model, _observations(spots, hkl, sigma, keep), free, strains, priors=priors
            )
        except ValueError:  # a lens that none can be: the spots are not of this lattice
            return None
        volume = abs(np.linalg.det(refined.model.orientation))
        if not 0.5 < volume / abs(np.linalg.det(model.orientation)) < 2.0:
            return None
        model = refined.model
    return None if refined is None else _solution(refined, spots)


def _chi_square(
    model: Model, spots: Spots, hkl: NDArray[np.int32], sigma: tuple[Floats, Floats]
) -> Floats:
    """Sum of the three squared residuals of each spot, in units of sigma."""
    q = model.diffracted(hkl, spots.frame)
    g = model.geometry
    rc = g.to_pixel(q, model.centre_px(spots.frame))
    excitation = np.linalg.norm(q + g.s0, axis=1) - 1 / g.wavelength_A
    chi2: Floats = (
        ((rc[:, 0] - spots.row) / sigma[0]) ** 2
        + ((rc[:, 1] - spots.column) / sigma[0]) ** 2
        + (excitation / sigma[1]) ** 2
    )
    return chi2


def _solution(refined: Refined, spots: Spots) -> Solution:
    model = refined.model
    hkl, deviation, _ = assign_indices(model, spots)
    indexed = deviation < HKL_TOLERANCE
    chi2 = _chi_square(model, spots, hkl, spot_sigmas(spots, model))
    chi2 = np.where(indexed, np.minimum(chi2 / 3, _OUTLIER_CHI2), _OUTLIER_CHI2)
    close = deviation < _TIGHT
    return Solution(
        model, refined, hkl, indexed, float(chi2.mean()),
        _log10_chance(float(close.mean()), len(spots)), close,
    )  # fmt: skip


def _log10_chance(fraction: float, n: int) -> float:
    """Chernoff bound on the odds that chance puts `fraction` of n spots near lattice points."""
    f = min(max(fraction, 1e-9), 1 - 1e-9)
    if f <= _CHANCE:
        return 0.0
    divergence = f * np.log(f / _CHANCE) + (1 - f) * np.log((1 - f) / (1 - _CHANCE))
    return float(-n * divergence / np.log(10))


def weighted_points(
    model: Model, spots: Spots, search: BasisSearch
) -> tuple[Spots, Floats, Floats]:
    """The strongest spots, where they lie in reciprocal space (n, 3), and their weights (n,)."""
    strength = spots.intensity / spots.sigma
    some = spots[np.argsort(-strength, kind="stable")[: search.n_points]]
    points = model.to_reciprocal(some.row, some.column, some.frame)
    # low resolution is where a wrong axis or a distorted cell does least harm
    length = np.linalg.norm(points, axis=1)
    weights = np.exp(-((length / max(np.quantile(length, 0.6), 1e-9)) ** 2))
    return some, points, weights


def search_lattice(model: Model, spots: Spots, search: BasisSearch) -> Solution | None:
    """The best primitive lattice for spots with the model's geometry as it stands, or None."""
    some, points, weights = weighted_points(model, spots, search)
    vectors, _ = lattice_vectors(points, weights, search)
    if len(vectors) < 3:
        return None
    free = ("orientation", "strain", "axis_azimuth", "centre")
    priors = {"axis_azimuth": 0.1, "centre": 1.5}
    best: Solution | None = None
    for basis, _ in best_triples(points, weights, vectors, search):
        start, _ = anneal(points, np.ones(len(points)), basis)
        start = niggli_reduce(start)[0]
        solution = refine_in_stages(
            _with_basis(model, start), some, free, TRICLINIC_STRAINS,
            priors=priors,
        )  # fmt: skip
        while solution is not None and (smaller := _without_superlattice(solution)) is not None:
            solution = refine_in_stages(
                _with_basis(solution.model, smaller), some, free,
                TRICLINIC_STRAINS, priors=priors,
            )  # fmt: skip
        if solution is not None and (best is None or _better(solution, best)):
            best = solution
        # bases come smallest first: one that fits within the errors needs no rival
        if best is not None and fits_within_errors(best):
            break
    return best


def fits_within_errors(solution: Solution) -> bool:
    """Whether nearly all spots lie where the lattice says, to the accuracy they are known.

    No wrong sense of rotation came near it: those scored 2.7 to 8.6 on series whose right one
    scored 0.3 to 3.4.
    """
    return solution.score < 1.0


def _with_basis(model: Model, real: Floats) -> Model:
    """The model with another lattice: columns a, b, c of `real` at zero rotation, Å."""
    return replace(model, orientation=np.asarray(np.linalg.inv(real).T, np.float64))


def _without_superlattice(solution: Solution) -> Floats | None:
    """A basis of half or a third of the cell, if nearly all indexed spots lie on its lattice.

    With h.m a multiple of p for the indices of all spots, the real-space vector m / p is a
    lattice vector. A superlattice always indexes what its sublattice does, and by chance a
    little more, so it is not the indexed fraction that can tell.
    """
    hkl = solution.hkl[solution.close]
    if len(hkl) < 12:
        return None
    real = np.linalg.inv(solution.model.orientation).T
    for p in (2, 3):
        for m in product(range(p), repeat=3):
            leading = next((x for x in m if x), 0)
            if leading != 1:
                continue
            if np.mean(hkl @ np.array(m) % p == 0) > _ON_SUBLATTICE:
                vector = real @ np.array(m) / p
                replaced = int(np.argmax(np.array(m) != 0))
                smaller = real.copy()
                smaller[:, replaced] = vector
                return niggli_reduce(smaller)[0]
    return None


def _better(a: Solution, b: Solution) -> bool:
    """Whether a explains the spots better; a larger cell must do so clearly."""
    volume_a, volume_b = (1 / abs(np.linalg.det(s.model.orientation)) for s in (a, b))
    if volume_a > 1.3 * volume_b:
        return a.score < 0.85 * b.score
    if volume_b > 1.3 * volume_a:
        return a.score < b.score / 0.85
    return a.score < b.score


def significant(solution: Solution, log10_chance: float = -15.0) -> bool:
    """Whether chance is out of the question as an explanation of the indexed spots.

    `log10_chance` is what the odds must be below: of all lattices by default, some -7 are enough
    for the orientation of a known one.
    """
    return solution.log10_chance < log10_chance and solution.indexed.sum() >= 12


@dataclass(frozen=True)
class ChosenLattice:
    """A solution in its conventional setting, and what was considered on the way.

    `lens` tells whether the lens's distortions are refined with it, `cell_known` that the cell
    is held and the camera length refined in its place; `primitive` is the solution without
    symmetry that it came from. An `imposed` lattice was known beforehand and stays.
    """

    bravais: str
    solution: Solution
    niggli: Cell
    candidates: tuple[LatticeCandidate, ...]
    lens: bool
    cell_known: bool
    primitive: Solution
    notes: tuple[str, ...]
    imposed: bool = False


def choose_symmetry(
    solution: Solution,
    spots: Spots,
    *,
    max_obliquity_deg: float = 5.0,
    n_knots: int = 1,
    tolerance: float = 1.15,
    lens_gain: float = 0.85,
    allowed: Callable[[LatticeCandidate, Floats], bool] | None = None,
) -> ChosenLattice:
    """The highest lattice symmetry under which the spots are explained as well as without.

    Each candidate is refined with its constraint and with the lens free; the one of highest
    symmetry whose score is within `tolerance` of the best is taken. The lens is kept free only
    where that improves the score to less than `lens_gain` of what it is without. `allowed` may
    rule out candidates, given their orientation A.
    """
    real = np.linalg.inv(solution.model.orientation).T
    niggli, _ = niggli_reduce(real)
    candidates = lattice_candidates(niggli, max_obliquity_deg)
    # free of any constraint but priors on the lens: no candidate can fit better than this
    start = _with_basis(solution.model, niggli).with_knots(n_knots)
    reference = _refined_outwards(start, spots, "aP", lens=True)
    best = np.inf if reference is None else reference.score
    notes: list[str] = []
    for candidate in _nearest_of_each_type(candidates):
        start = replace(
            solution.model,
            orientation=_symmetrised(niggli @ candidate.transform, candidate),
        ).with_knots(n_knots)
        if allowed is not None and not allowed(candidate, start.orientation):
            continue
        with_lens = _refined_outwards(start, spots, candidate.bravais, lens=True)
        if with_lens is None:
            continue
        best = min(best, with_lens.score) if candidate.bravais == "aP" else best
        accepted = with_lens.score <= tolerance * best
        notes.append(
            f"{candidate.bravais} {_cell_text(with_lens.model.cell)}: metric distance "
            f"{candidate.distance:.4f}, score {with_lens.score:.3f} against {best:.3f} without "
            "symmetry" + (" - accepted" if accepted else " - rejected")
        )
        if accepted or candidate.bravais == "aP":
            # a lens is believed in only where the spots are explained clearly worse without
            without = _refined_outwards(start, spots, candidate.bravais, lens=False)
            lens = without is None or with_lens.score < lens_gain * without.score
            return ChosenLattice(
                candidate.bravais, with_lens if without is None or lens else without,
                cell_from_real_basis(niggli), candidates, lens, False, solution, tuple(notes),
            )  # fmt: skip
    raise ValueError("no lattice candidate could be refined")


def _refined_outwards(start: Model, spots: Spots, bravais: str, lens: bool) -> Solution | None:
    free, priors = refinable(bravais, lens)
    return refine_in_stages(
        start, spots, free, strain_basis(bravais), quantiles=_OUTER, priors=priors
    )


_OUTER = (0.6, 1.0, 1.0)


def _nearest_of_each_type(
    candidates: tuple[LatticeCandidate, ...],
) -> tuple[LatticeCandidate, ...]:
    """One candidate per Bravais type, the one with the smallest metric distance."""
    seen: dict[str, LatticeCandidate] = {}
    for candidate in candidates:
        if candidate.bravais not in seen or candidate.distance < seen[candidate.bravais].distance:
            seen[candidate.bravais] = candidate
    return tuple(seen.values())


def _symmetrised(conventional: Floats, candidate: LatticeCandidate) -> Floats:
    """A = U B with the candidate's exact cell, U nearest to the observed orientation."""
    exact = orthogonalisation(candidate.cell)
    left, _, right = np.linalg.svd(conventional @ np.linalg.inv(exact))
    orientation: Floats = left @ right @ np.linalg.inv(exact).T
    return orientation


def refinable(
    bravais: str, lens: bool, cell_known: bool = False
) -> tuple[tuple[str, ...], dict[str, float]]:
    """Parameter blocks that a lattice type lets one refine, and their priors.

    An orthorhombic or higher lattice can tell an elliptical distortion, or a wrong rotation
    scale, from a strained cell. The others can't, so the ellipse is left to `lens`, which
    frees what of the lens must prove itself: the radial distortion, and there the ellipse.
    With the cell known, the camera length takes its place, and every lattice is firm enough.
    """
    free: tuple[str, ...] = ("orientation", "distance" if cell_known else "strain", "centre")
    free += ("axis",)
    priors = {"centre": 1.5, "axis": 0.1, "rotation_scale": 0.03, "radial": 1.0}
    if bravais[0] in "am" and not cell_known:
        priors["distortion"] = 0.02
        return (*free, "distortion", "radial") if lens else free, priors
    priors["distortion"] = 0.03
    free += ("distortion", "rotation_scale")
    return (*free, "radial") if lens else free, priors


def _cell_text(cell: Cell) -> str:
    return " ".join(f"{v:.2f}" for v in cell)
