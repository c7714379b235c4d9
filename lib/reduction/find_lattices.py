"""Lattice after lattice, each from the spots that the ones before it leave over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..crystal.lattice_symmetry import reindex_absences, strain_basis
from .config import ReductionConfig
from .indexing import BasisSearch
from .known_cell import in_known_setting, with_known_cell
from .known_lattice import impose_lattice, search_known_lattice
from .model import Model
from .solve_lattice import (
    HKL_TOLERANCE,
    ChosenLattice,
    Solution,
    assign_indices,
    choose_symmetry,
    fits_within_errors,
    refinable,
    refine_in_stages,
    search_lattice,
    significant,
)
from .spot_finding import Spots

Progress = Callable[[str, float], None]
Search = Callable[[Model, Spots], Solution | None]

# Decimal logarithm of the odds of chance that a lattice may have: any, or a known one.
_CHANCE, _KNOWN_CHANCE = -15.0, -7.0


def find_lattices(
    model: Model, spots: Spots, config: ReductionConfig, notes: list[str], report: Progress
) -> list[tuple[ChosenLattice, Spots]]:
    """Up to `config.max_lattices` lattices, each with the spots it was offered."""
    find = _search_as_configured(config)
    known = config.cell is not None and config.bravais is not None
    chosen: list[tuple[ChosenLattice, Spots]] = []
    rest = spots
    current = model
    for number in range(config.max_lattices):
        report("index", number / config.max_lattices)
        # a further lattice must explain a fair share of all spots, not a few left over
        needed = 12 if number == 0 else max(0.08 * len(spots), 25)
        if len(rest) < needed:
            break
        solution = find(current, rest)
        unsure = solution is None or not fits_within_errors(solution)
        if number == 0 and config.try_reversed_axis and unsure:
            solution, reversed_axis = _better_sense(current, rest, find, solution)
            if reversed_axis:
                notes.append(
                    "the spots fit a rotation in the opposite sense: axis "
                    f"{_axis_text(model)} reversed; check the instrument's rotation_axis"
                )
        if solution is None or not significant(solution, _KNOWN_CHANCE if known else _CHANCE):
            break
        if solution.fraction * len(rest) < needed:
            break
        best: ChosenLattice | None
        if config.cell is not None and config.bravais is not None:
            best = impose_lattice(solution, config.cell, config.bravais, strongest(rest, 1000))
            if best is None:
                break
        else:
            best = choose_symmetry(solution, strongest(rest, 1000))
        notes.extend(f"lattice {number + 1}: {note}" for note in best.notes)
        if config.cell is not None:
            best, note = _with_the_known_cell(best, config)
            notes.append(f"lattice {number + 1}: {note}")
        final = _refine_on(best, rest)
        chosen.append((final, rest))
        current = replace(
            final.solution.model, orientation=model.orientation, knots=np.zeros(1),
            centre_offset_px=final.solution.model.centre_offset_px.mean(axis=0)[None],
        )  # fmt: skip
        rest = rest[~indexed_by(final.solution.model, final.bravais, rest)]
    return chosen


def _search_as_configured(config: ReductionConfig) -> Search:
    """Any lattice, or the orientation of the known one."""
    search = BasisSearch(min_axis_A=config.min_axis_A, max_axis_A=config.max_axis_A)
    cell, bravais = config.cell, config.bravais
    if cell is None or bravais is None:
        return lambda model, spots: search_lattice(model, spots, search)
    return lambda model, spots: search_known_lattice(model, spots, cell, bravais, search)


def _better_sense(
    model: Model, spots: Spots, find: Search, solution: Solution | None
) -> tuple[Solution | None, bool]:
    """The solution with the axis as given or reversed, whichever explains the spots better."""
    axis = np.asarray(model.geometry.axis)
    flipped = replace(model, geometry=model.geometry.with_(axis=tuple(-axis)))
    other = find(flipped, spots)
    if other is not None and (solution is None or other.score < 0.8 * solution.score):
        return other, True
    return solution, False


def strongest(spots: Spots, n: int) -> Spots:
    """The n spots with the largest I/sigma, in their order."""
    order = np.argsort(-(spots.intensity / spots.sigma), kind="stable")[:n]
    return spots[np.sort(order)]


def _with_the_known_cell(
    chosen: ChosenLattice, config: ReductionConfig
) -> tuple[ChosenLattice, str]:
    """The lattice in the known cell's setting, if it is that lattice; and a sentence on it."""
    assert config.cell is not None
    text = " ".join(f"{v:g}" for v in config.cell)
    model = in_known_setting(chosen.solution.model, chosen.bravais, config.cell)
    if model is None:
        return chosen, f"it does not match the known cell {text}"
    if config.refine_distance:
        model = with_known_cell(model, config.cell)
        distance = model.geometry.distance_mm
        note = f"known cell {text} held; camera length about {distance:.2f} mm from it"
    else:
        note = f"it matches the known cell {text}, whose setting is used"
    solution = replace(chosen.solution, model=model)
    return replace(chosen, solution=solution, cell_known=config.refine_distance), note


def _refine_on(chosen: ChosenLattice, spots: Spots) -> ChosenLattice:
    """The chosen lattice refined once more, now on all its spots (at most 6000)."""
    free, priors = refinable(chosen.bravais, chosen.lens, chosen.cell_known)
    solution = refine_in_stages(
        chosen.solution.model, strongest(spots, 6000), free, strain_basis(chosen.bravais),
        quantiles=(0.7, 1.0, 1.0), priors=priors,
    )  # fmt: skip
    return chosen if solution is None else replace(chosen, solution=solution)


def indexed_by(model: Model, bravais: str, spots: Spots) -> NDArray[np.bool_]:
    """Spots with an index within the tolerance that the lattice's centring allows."""
    hkl, deviation, _ = assign_indices(model, spots)
    indexed: NDArray[np.bool_] = (deviation < HKL_TOLERANCE) & ~reindex_absences(bravais, hkl)
    return indexed


def _axis_text(model: Model) -> str:
    return "(" + ", ".join(f"{v:.4f}" for v in model.geometry.axis) + ")"
