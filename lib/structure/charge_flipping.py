"""Structure solution by charge flipping: attempts in a process of their own, ranked and judged.

Several attempts from random phases are made, and each may come to several solutions, of which
the first or the most symmetric need not be right. They are ranked by the R factor of the atoms
that the composition makes of their peaks, which the phases were not chosen by; a solution that
other random phases come to as well (up to origin and hand) is believed more. Sources:
Oszlanyi & Suto (2008), Acta Cryst. A64, 123; Palatinus & Chapuis (2007), J. Appl. Cryst. 40, 786.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import gemmi
import numpy as np
from numpy.typing import NDArray

from ..crystal.cell import Cell, Floats, d_spacing_A, orthogonalisation
from ..errors import UserError
from ..merging.merged_reflections import MergedReflections
from .cctbx_process import run_job
from .compare import Match, match_positions
from .scattering import electron_factor
from .solution import Atom, ChargeFlipping, Solution, Verdict

# R of unrefined atoms: below the first they are a structure, above the second none.
GOOD_R1, POOR_R1 = 0.30, 0.45
# The last peak of the composition stands above the next by this, if nothing is missing; by the
# second, no doubt is left, and real data (multiple scattering) may fit worse.
CLEAR_GAP, GREAT_GAP = 1.5, 3.0
# R of a less likely space group over that of the one before it, to be preferred.
CLEARLY_BETTER = 0.8


def charge_flip(
    merged: MergedReflections,
    contents: Mapping[str, float],
    *,
    space_group: str | None = None,
    d_min_A: float | None = None,
    n_attempts: int = 24,
    iterations: int = 600,
    time_limit_s: float = 60.0,
    seed: int = 1,
) -> ChargeFlipping:
    """Solve a structure.

    Parameters
    ----------
    merged : unique reflections; negative intensities count as zero.
    contents : atoms of each element in the cell, hydrogens left alone; for the ranking.
    space_group : to solve in, that of the reflections by default.
    d_min_A : leave out what is finer.
    n_attempts : starts from random phases at most. It ends earlier when the best solution is
        good and was come to twice.
    iterations : of flipping in an attempt.
    time_limit_s : wall time for all of it; no attempt begins after it, and what is not done by
        a quarter more is killed. Which attempts fit into it depends on the machine.
    seed : of the first attempt; the next take the numbers that follow.

    Raises
    ------
    UserError : no reflection with an intensity, an unknown space group, cctbx is not installed.
    """
    group = named_group(space_group or merged.space_group)
    d = d_spacing_A(merged.hkl, merged.cell)
    use = np.isfinite(merged.intensity) & (d >= (d_min_A or 0.0))
    if not np.any(merged.intensity[use] > 0):
        raise UserError("merged", "no positive intensity", "some", "reduce and merge first")
    rotations, translations = group_operations(group)
    largest = float(merged.intensity[use].max())
    request = {
        "cell": list(merged.cell),
        "orthogonalisation": orthogonalisation(merged.cell).tolist(),
        "rotations": rotations.tolist(),
        "translations": translations.tolist(),
        "hall": group.hall,
        "hkl": merged.hkl[use].tolist(),
        "amplitude": (100 * np.sqrt(np.maximum(merged.intensity[use], 0) / largest)).tolist(),
        "saturated": (merged.n_saturated[use] > 0).tolist(),
        "contents": _heavy_first(contents),
        "seeds": list(range(seed, seed + n_attempts)),
        "iterations": iterations,
        "origins": 8,
        "stop_after_s": time_limit_s,
        "good_r1": GOOD_R1,
        "poor_r1": POOR_R1,
        "great_gap": GREAT_GAP,
    }
    began = time.monotonic()
    answer, ended = run_job("charge_flipping_job", request, limit_s=1.25 * time_limit_s + 5)
    answer = answer or {"solutions": [], "attempts": 0}
    solutions = tuple(
        sorted(
            (_solution(one, merged.cell, group) for one in answer["solutions"]),
            key=lambda one: one.r1 if np.isfinite(one.r1) else np.inf,
        )
    )
    verdict, reasons = judge(solutions, answer["attempts"])
    if not ended.good:
        reasons = (*reasons, ended.why)
    return ChargeFlipping(
        solutions=solutions,
        verdict=verdict,
        reasons=reasons,
        n_attempts=answer["attempts"],
        n_converged=len({one.seed for one in solutions}),
        seconds=time.monotonic() - began,
    )


def charge_flip_in(
    merged: MergedReflections,
    contents: Mapping[str, float],
    space_groups: Sequence[str],
    *,
    d_min_A: float | None = None,
    n_attempts: int = 24,
    time_limit_s: float = 60.0,
    seed: int = 1,
) -> ChargeFlipping:
    """Try space groups in their order, up to the first that is solved; the best of those tried.

    A later group, which may have twice the atoms to fit with, has to fit clearly better.

    Parameters
    ----------
    space_groups : most likely first, in the setting of the reflections. Put a group before its
        subgroups, in which its structures are solved as well.
    time_limit_s : wall time for each; the others as for `charge_flip`, as are the errors.
    """
    tried = []
    for name in space_groups or (merged.space_group,):
        tried.append(
            charge_flip(
                merged, contents, space_group=name, d_min_A=d_min_A, n_attempts=n_attempts,
                time_limit_s=time_limit_s, seed=seed,
            )
        )  # fmt: skip
        if tried[-1].verdict == "solved" and _r1(tried[-1]) < CLEARLY_BETTER * min(
            map(_r1, tried[:-1]), default=np.inf
        ):
            break
    best = tried[0]
    for one in tried[1:]:
        if _r1(one) < CLEARLY_BETTER * _r1(best):
            best = one
    return best


def _r1(flipped: ChargeFlipping) -> float:
    r1 = flipped.best.r1 if flipped.best else np.inf
    return r1 if np.isfinite(r1) else np.inf


def judge(solutions: tuple[Solution, ...], n_attempts: int) -> tuple[Verdict, tuple[str, ...]]:
    """The verdict on ranked solutions, with a sentence for each reason."""
    if not solutions:
        return "not solved", (f"none of {n_attempts} attempts came to a structure",)
    best = solutions[0]
    if not np.isfinite(best.r1):
        return "uncertain", ("peaks were found, but no composition was given to judge them by",)
    reasons = [
        f"{len(best.atoms)} atoms reproduce the amplitudes to R {best.r1:.3f} unrefined "
        f"(below {GOOD_R1} is a structure, above {POOR_R1} is none)",
        f"the symmetry is kept to a correlation of {best.symmetry_cc:.3f}",
        f"the last atom's peak stands {best.peak_gap:.1f} times above the next",
    ]
    again = len(best.agrees_with)
    reasons.append(
        f"{again + 1} independent attempts agree" if again else "no other attempt came to it"
    )
    if best.r1 > POOR_R1:
        return "not solved", tuple(reasons)
    fits = best.r1 < GOOD_R1 and (again or best.peak_gap >= CLEAR_GAP)
    if fits or (again and best.peak_gap >= GREAT_GAP):
        return "solved", tuple(reasons)
    return "uncertain", tuple(reasons)


def named_group(name: str) -> gemmi.SpaceGroup:
    """The space group of a symbol.

    Raises
    ------
    UserError : there is none of that name.
    """
    group = gemmi.find_spacegroup_by_name(name)
    if group is None:
        raise UserError(
            "space_group", f"'{name}'", "a Hermann-Mauguin symbol such as 'P n m a'", "mend it"
        )
    return group


def group_operations(group: gemmi.SpaceGroup) -> tuple[NDArray[np.int64], Floats]:
    """All operations, centrings included: rotations (k, 3, 3) and translations (k, 3)."""
    operations = list(group.operations())
    rotations = np.array([op.rot for op in operations], np.int64) // gemmi.Op.DEN
    return rotations, np.array([op.tran for op in operations], float) / gemmi.Op.DEN


def compare_with(
    solution: Solution,
    known: tuple[Atom, ...],
    *,
    tolerance_A: float = 0.5,
    elements: bool = True,
) -> Match:
    """The solution's atoms beside those of a known structure of the same group and setting.

    Parameters
    ----------
    elements : whether only atoms of the same element count as found; otherwise all the peaks
        are offered, of no element.
    """
    rotations, translations = group_operations(named_group(solution.space_group))
    sites = [one.position for one in solution.atoms] if elements else solution.position
    kinds: dict[str, Any] = {}
    if elements:
        kinds = {
            "reference_kind": [one.element for one in known],
            "found_kind": [one.element for one in solution.atoms],
        }
    return match_positions(
        [one.position for one in known],
        sites,
        orthogonalisation=orthogonalisation(solution.cell),
        rotations=rotations,
        translations=translations,
        tolerance_A=tolerance_A,
        **kinds,
    )


def _heavy_first(contents: Mapping[str, float]) -> dict[str, float]:
    """The elements by falling scattering of electrons, without hydrogen."""
    heavy = {e: float(n) for e, n in contents.items() if e not in {"H", "D"}}
    # not the order of their numbers: calcium scatters more than iron
    return dict(sorted(heavy.items(), key=lambda item: -float(electron_factor(item[0], [0.2])[0])))


def _solution(found: Mapping[str, Any], cell: Cell, group: gemmi.SpaceGroup) -> Solution:
    counted: dict[str, int] = {}
    atoms = []
    for element, site, height, multiplicity in zip(
        found["elements"], found["sites"], found["heights"], found["multiplicity"], strict=False
    ):
        if not element:  # a peak that the composition has no atom for
            continue
        counted[element] = counted.get(element, 0) + 1
        x, y, z = (float(v) for v in site)
        atoms.append(
            Atom(
                label=f"{element}{counted[element]}",
                element=element,
                position=(x, y, z),
                multiplicity=int(multiplicity),
                height=float(height),
            )
        )
    return Solution(
        cell=cell,
        space_group=group.xhm(),
        position=np.array(found["sites"], float).reshape(-1, 3),
        height=np.array(found["heights"], float),
        multiplicity=np.array(found["multiplicity"], np.int64),
        atoms=tuple(atoms),
        seed=found["seed"],
        symmetry_cc=found["symmetry_cc"],
        peak_gap=found["peak_gap"],
        r1=found["r1"],
        cc=found["cc"],
        agrees_with=tuple(found.get("agrees_with", ())),
        with_saturated=found["with_saturated"],
    )
