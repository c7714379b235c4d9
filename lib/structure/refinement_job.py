"""Least-squares refinement, in a process of its own: ``python -m ...refinement_job IN OUT``.

As with `charge_flipping_job`, cctbx must come before gemmi and scipy. Full-matrix least squares
on F^2 by smtbx: positions within their site symmetry, isotropic displacements, one scale;
electron scattering factors; weights ``1 / (sigma^2 + (a P)^2 + b P)``, P = (Fo^2 + 2 Fc^2) / 3.
Hydrogens stay where they are.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from cctbx import crystal, miller, xray
from cctbx.array_family import flex
from scitbx.lstbx import normal_eqns_solving
from smtbx.refinement import constraints, least_squares
from smtbx.utils import connectivity_table


def main() -> None:
    """Refine, judge, answer."""
    with open(sys.argv[1]) as file:
        request = json.load(file)
    symmetry = crystal.symmetry(
        unit_cell=request["cell"],
        space_group_symbol=f"Hall: {request['hall']}",
        correct_rhombohedral_setting_if_necessary=False,
    )
    structure = model_of(request, symmetry)
    fo_sq = observed(request, symmetry)
    refined, n_parameters = refine(structure, fo_sq, request)
    answer = json.dumps(figures(refined, structure) | {"n_parameters": n_parameters})
    with open(sys.argv[2], "w") as file:
        file.write(answer)


def observed(request: dict[str, Any], symmetry: Any) -> Any:
    """Unique F^2 with sigmas, without systematic absences."""
    indices = flex.miller_index([tuple(h) for h in request["hkl"]])
    array = miller.array(
        miller.set(symmetry, indices, False),
        flex.double(request["intensity"]),
        flex.double(request["sigma"]),
    )
    array.set_observation_type_xray_intensity()
    array = array.eliminate_sys_absent().merge_equivalents().array()
    return array.set_observation_type_xray_intensity()


def model_of(request: dict[str, Any], symmetry: Any) -> Any:
    """The structure to start from."""
    structure = xray.structure(
        crystal.special_position_settings(symmetry, min_distance_sym_equiv=0.5)
    )
    for atom in request["atoms"]:
        structure.add_scatterer(
            xray.scatterer(
                label=atom["label"],
                scattering_type=atom["element"],
                site=atom["position"],
                u=atom["u_iso_A2"],
                occupancy=atom["occupancy"],
            )
        )
    structure.scattering_type_registry(table="electron")
    for scatterer in structure.scatterers():
        moves = scatterer.scattering_type not in {"H", "D"}
        scatterer.flags.set_grad_site(moves)
        scatterer.flags.set_grad_u_iso(moves)
    return structure


def refine(structure: Any, fo_sq: Any, request: dict[str, Any]) -> tuple[Any, int]:
    """The least-squares problem at its minimum, and how many parameters it has."""
    parameters = constraints.reparametrisation(
        structure=structure, constraints=[], connectivity_table=connectivity_table(structure)
    )
    problem = least_squares.crystallographic_ls(
        fo_sq.as_xray_observations(),
        parameters,
        weighting_scheme=least_squares.mainstream_shelx_weighting(
            a=request["weight_a"], b=request["weight_b"]
        ),
    )
    normal_eqns_solving.levenberg_marquardt_iterations(
        problem, n_max_iterations=request["cycles"], gradient_threshold=1e-7,
        step_threshold=1e-7, tau=1e-4,
    )  # fmt: skip
    problem.build_up(objective_only=True)
    return problem, problem.reparametrisation.n_independents + 1


def figures(problem: Any, structure: Any) -> dict[str, Any]:
    """R factors, and the atoms as refined."""
    fo_sq, fc_sq = problem.observations.fo_sq, problem.fc_sq
    fo2, sigma = fo_sq.data().as_numpy_array(), fo_sq.sigmas().as_numpy_array()
    fc2 = problem.scale_factor() * fc_sq.data().as_numpy_array()
    fc = fc2.clip(min=0) ** 0.5
    weight = problem.weights.as_numpy_array()
    misfit = float((weight * (fo2 - fc2) ** 2).sum())
    freedom = len(fo2) - problem.reparametrisation.n_independents - 1

    def r1(chosen: Any) -> float:
        fo = fo2[chosen] ** 0.5
        return float(abs(fo - fc[chosen]).sum() / fo.sum()) if chosen.any() else float("nan")

    atoms = [
        {"position": list(one.site), "u_iso_A2": one.u_iso, "multiplicity": one.multiplicity()}
        for one in structure.scatterers()
    ]
    return {
        "r1": r1(fo2 > 2 * sigma),
        "r1_all": r1(fo2 > 0),
        "wr2": (misfit / float((weight * fo2**2).sum())) ** 0.5,
        "goodness_of_fit": (misfit / max(freedom, 1)) ** 0.5,
        "n_reflections": len(fo2),
        "n_strong": int((fo2 > 2 * sigma).sum()),
        "atoms": atoms,
    }


if __name__ == "__main__":
    main()
