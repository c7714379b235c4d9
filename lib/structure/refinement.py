"""Refinement of a structure against intensities (see `refinement_job`), and models from CIF."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from ..crystal.cell import Cell, d_spacing_A
from ..errors import UserError
from ..merging.merged_reflections import MergedReflections
from ..simulation.structures import structure_from_cif
from .cctbx_process import run_job
from .charge_flipping import named_group
from .solution import Atom, Refined, Solution


def refine(
    atoms: Sequence[Atom],
    hkl: ArrayLike,
    intensity: ArrayLike,
    sigma: ArrayLike,
    *,
    cell: Cell,
    space_group: str,
    d_min_A: float = 0.0,
    weight_a: float = 0.1,
    weight_b: float = 0.0,
    cycles: int = 50,
    time_limit_s: float = 300.0,
) -> Refined:
    """Refine positions and isotropic displacements against intensities, merged or not.

    Parameters
    ----------
    atoms : to start from; hydrogens stay as they are.
    hkl, intensity, sigma : (n, 3), (n,), (n,); equivalents are merged, Friedel mates too.
    cell, space_group : of both.
    d_min_A : leave out what is finer.
    weight_a, weight_b : of the weights, as on SHELXL's WGHT.
    cycles : at most.
    time_limit_s : wall time.

    Raises
    ------
    UserError : no atoms or too few reflections for them, a refinement that did not come to its
        end, an unknown space group, cctbx is not installed.
    """
    indices = np.asarray(hkl, int).reshape(-1, 3)
    i, s = np.asarray(intensity, float), np.asarray(sigma, float)
    use = np.isfinite(i) & np.isfinite(s) & (s > 0) & (d_spacing_A(indices, cell) >= d_min_A)
    n_atoms = sum(one.element not in {"H", "D"} for one in atoms)
    if n_atoms == 0 or len(np.unique(indices[use], axis=0)) <= 4 * n_atoms:
        raise UserError(
            "refinement", f"{n_atoms} atoms, {int(use.sum())} reflections",
            "more reflections than parameters", "merge more series, or refine fewer atoms",
        )  # fmt: skip
    group = named_group(space_group)
    scale = 1e4 / float(np.abs(i[use]).max())
    request = {
        "cell": list(cell),
        "hall": group.hall,
        "hkl": indices[use].tolist(),
        "intensity": (i[use] * scale).tolist(),
        "sigma": (s[use] * scale).tolist(),
        "atoms": [
            {
                "label": one.label,
                "element": one.element,
                "position": list(one.position),
                "u_iso_A2": one.u_iso_A2,
                "occupancy": one.occupancy,
            }
            for one in atoms
        ],
        "weight_a": weight_a,
        "weight_b": weight_b,
        "cycles": cycles,
    }
    answer, ended = run_job("refinement_job", request, limit_s=time_limit_s)
    if answer is None:
        raise UserError("refinement", ended.why, "an end", "give it more time, or fewer atoms")
    refined = []
    for before, after in zip(atoms, answer.pop("atoms"), strict=True):
        x, y, z = (float(v) for v in after["position"])
        refined.append(
            replace(
                before,
                position=(x, y, z),
                u_iso_A2=float(after["u_iso_A2"]),
                multiplicity=int(after["multiplicity"]),
            )
        )
    return Refined(atoms=tuple(refined), cell=cell, space_group=group.xhm(), **answer)


def refine_solution(
    solution: Solution, merged: MergedReflections, *, d_min_A: float = 0.0
) -> Refined:
    """Refine the atoms of a solution against the reflections it came from.

    Errors as `refine`.
    """
    return refine(
        solution.atoms,
        merged.hkl,
        merged.intensity,
        merged.sigma,
        cell=merged.cell,
        space_group=solution.space_group,
        d_min_A=d_min_A,
    )


def atoms_of_cif(path: str | Path) -> tuple[tuple[Atom, ...], Cell, str]:
    """The atoms of a published structure, its cell, and its space group.

    Anisotropic displacements are taken as their equivalent isotropic ones.

    Raises
    ------
    UserError : if the file is no complete structure.
    """
    structure = structure_from_cif(path)
    atoms = []
    for number, site in enumerate(structure.sites, 1):
        x, y, z = (float(v) for v in site.fract.tolist())
        atoms.append(
            Atom(
                label=site.label or f"{site.element.name}{number}",
                element=site.element.name,
                position=(x, y, z),
                u_iso_A2=site.u_iso if site.u_iso > 0 else 0.03,
                occupancy=site.occ,
            )
        )
    a, b, c, alpha, beta, gamma = structure.cell.parameters
    return tuple(atoms), (a, b, c, alpha, beta, gamma), structure.spacegroup.xhm()
