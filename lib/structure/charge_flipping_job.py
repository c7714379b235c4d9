"""Charge flipping, in a process of its own: ``python -m ...charge_flipping_job IN.json OUT.json``.

cctbx must be imported before gemmi and scipy or the interpreter dies, so nothing here may be
imported by a process that has those. The answer is written anew after every attempt: when the
process is killed at its time limit, what was found by then stands.

One attempt (Oszlanyi & Suto, Acta Cryst. A60 (2004) 134; A61 (2005) 147; A64 (2008) 123):
random phases in P1, flipping by the iterators of smtbx until the residual falls and stays, the
space group's origin found by the correlation of the phased amplitudes with their symmetry
equivalents (smtbx), a map of the observed amplitudes with symmetrised phases, its peaks, and
the R factor of the atoms that the composition makes of them. smtbx's own state machine is not
used: its test for convergence takes noise for it and passes over most true ones, and it fails
after the second attempt on Python 3.10 and later (`islice` with a float count).
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from typing import Any

from cctbx import crystal, maptbx, miller, symmetry_search, xray
from cctbx.array_family import flex
from smtbx.ab_initio import charge_flipping

# isort: split
import numpy as np

from .compare import match_positions
from .origin import likely_origins

# How attempts differ in turn: normalised amplitudes, threshold in sigma of the map, and the part
# of the reflections, the weakest, whose phases are turned by 90 degrees instead.
STRATEGIES: tuple[tuple[bool, float, float], ...] = (
    (False, 0.8, 0.2),
    (True, 1.0, 0.4),
    (False, 0.8, 0.0),
    (True, 0.9, 0.2),
)

BLOCK = 50  # iterations between looks at convergence
POLISHING = 5
PEAK_DISTANCE_A = 1.0  # no two atoms but hydrogens come closer
OVERFILL = 0.1  # part of an element's atoms that may be too many: Z is often an estimate
RUN_ON_PEAKS = 10  # peaks kept beyond those that the composition wants


def main() -> None:
    """Read the request, attempt after attempt, and write the answer."""
    with open(sys.argv[1]) as file:
        request = json.load(file)
    began = time.monotonic()
    solutions: list[dict[str, Any]] = []
    failures: list[str] = []
    for attempt, seed in enumerate(request["seeds"]):
        if time.monotonic() - began > request["stop_after_s"]:
            break
        kept = attempt % 3 != 2 or not any(request["saturated"])
        try:
            solutions += solve(request, seed, attempt, kept)
        except (RuntimeError, AssertionError) as error:  # of cctbx, on maps without structure
            failures.append(f"attempt from seed {seed}: {error}")
        confirmed = confirm(request, solutions)
        answer = {"solutions": solutions, "attempts": attempt + 1, "failures": failures}
        write(sys.argv[2], answer)
        if confirmed:
            break


def write(path: str, answer: dict[str, Any]) -> None:
    """Replace the answer as a whole."""
    with open(path + ".new", "w") as file:
        json.dump(answer, file)
    os.replace(path + ".new", path)


def observed(request: dict[str, Any], keep_saturated: bool) -> Any:
    """Amplitudes as a miller array in the space group, without systematic absences."""
    keep = [keep_saturated or not saturated for saturated in request["saturated"]]
    symmetry = crystal.symmetry(
        unit_cell=request["cell"],
        space_group_symbol=f"Hall: {request['hall']}",
        correct_rhombohedral_setting_if_necessary=False,
    )
    indices = flex.miller_index([tuple(h) for h, k in zip(request["hkl"], keep, strict=True) if k])
    amplitude = flex.double([f for f, k in zip(request["amplitude"], keep, strict=True) if k])
    array = miller.array(miller.set(symmetry, indices, False), amplitude)
    array.set_observation_type_xray_amplitude()
    array = array.eliminate_sys_absent().merge_equivalents().array()
    array.set_observation_type_xray_amplitude()
    return array


def solve(
    request: dict[str, Any], seed: int, attempt: int, keep_saturated: bool
) -> list[dict[str, Any]]:
    """One attempt from random phases: the solutions it came to, none or several origins."""
    f_obs = observed(request, keep_saturated)
    judged_by = observed(request, False) if any(request["saturated"]) else f_obs
    normalised, delta_over_sigma, weak = STRATEGIES[attempt % len(STRATEGIES)]
    flex.set_random_seed(seed)
    p1 = f_obs.expand_to_p1().merge_equivalents().array().discard_sigmas()
    p1.set_observation_type_xray_amplitude()
    norms = None
    if normalised:
        p1.setup_binner_counting_sorted(reflections_per_bin=max(30, min(200, p1.size() // 8)))
        norms = p1.amplitude_quasi_normalisations()
        p1 /= norms.data()
    flipping = (
        charge_flipping.weak_reflection_improved_iterator(weak_reflection_fraction=weak)
        if weak
        else charge_flipping.basic_iterator()
    )
    flipping.start(p1, 2 * math.pi * flex.random_double(p1.size()))
    flip(flipping, delta_over_sigma, request["iterations"])
    if norms is not None:
        flipping.denormalise(norms)
        for _ in range(2 * POLISHING):
            next(flipping)
    polish = charge_flipping.low_density_elimination_iterator(constant_rho_c=flipping.delta)
    polish.start(f_obs=flipping.f_obs, phases=flipping.f_calc, f_000=0)
    for _ in range(POLISHING):
        next(polish)
    origins: dict[float, Any] = {}
    shifts = likely_origins(
        polish.f_calc.indices().as_vec3_double().as_numpy_array(),
        polish.f_calc.data().as_numpy_array(),
        request["rotations"],
        request["translations"],
        request["orthogonalisation"],
        request["origins"],
    )
    for shift in shifts:
        shifted = symmetry_search.shift_refinement(f_obs, polish.f_calc, shift.tolist())
        # proposals may climb to the same place
        origins[round(shifted.goos.correlation, 4)] = shifted.symmetrised_shifted_sf.f_x
    found = []
    for cc, phased in sorted(origins.items(), reverse=True, key=lambda one: one[0])[:3]:
        solution = atoms_of(request, f_obs, judged_by, phased)
        found.append(solution | {"seed": seed, "symmetry_cc": cc, "with_saturated": keep_saturated})
    return found


def flip(flipping: Any, delta_over_sigma: float, iterations: int) -> None:
    """Flip until the skewness of the map has risen and stands still, or for all iterations.

    A map that never rose is kept too: its atoms will tell.
    """
    for _ in range(10):
        flipping.delta = delta_over_sigma * flipping.rho_map.sigma()
        next(flipping)
    seen: list[float] = []
    for _ in range(iterations // BLOCK):
        for _ in range(BLOCK):
            next(flipping)
        seen.append(flipping.rho_map.skewness())
        risen = seen[-1] > 1.15 * min(seen)
        if len(seen) >= 4 and risen and np.ptp(seen[-3:]) < 0.03 * seen[-1]:
            return


def atoms_of(request: dict[str, Any], f_obs: Any, judged_by: Any, phased: Any) -> dict[str, Any]:
    """Peaks of the map with these phases, the atoms made of them, and their R factor."""
    contents = dict(request["contents"])
    n_cell = sum(contents.values()) or f_obs.unit_cell().volume() / 18.0
    order = f_obs.space_group().order_z()
    common, phases = f_obs.common_sets(phased)
    fft = common.phase_transfer(phases).fft_map(
        symmetry_flags=maptbx.use_space_group_symmetry, resolution_factor=1 / 3
    )
    search = maptbx.peak_search_parameters(
        min_distance_sym_equiv=PEAK_DISTANCE_A,
        min_cross_distance=PEAK_DISTANCE_A,
        interpolate=True,
    )
    most = int(8 * n_cell / order) + 30
    peaks = fft.peak_search(search, verify_symmetry=False).all(max_clusters=most)
    top = peaks.heights()[0] if len(peaks.heights()) else 1.0
    settings = crystal.special_position_settings(f_obs, min_distance_sym_equiv=0.5)
    sites, heights, multiplicity = [], [], []
    for site, height in zip(peaks.sites(), peaks.heights(), strict=True):
        if height <= 0:
            break
        ops = settings.site_symmetry(site)
        sites.append([x % 1.0 for x in ops.exact_site()])
        heights.append(height / top)
        multiplicity.append(ops.multiplicity())
    elements = fill(contents, multiplicity)
    n = len(elements)
    gap = heights[n - 1] / heights[n] if 0 < n < len(heights) and heights[n] > 0 else 0.0
    r1, cc = figures(judged_by, sites[:n], elements) if n else (float("nan"), float("nan"))
    keep = max(n + RUN_ON_PEAKS, int(2 * n_cell / order) + RUN_ON_PEAKS)
    return {
        "sites": sites[:keep], "heights": heights[:keep], "multiplicity": multiplicity[:keep],
        "elements": elements, "peak_gap": gap, "r1": r1, "cc": cc,
    }  # fmt: skip


def fill(contents: dict[str, float], multiplicity: list[int]) -> list[str]:
    """Elements of the highest peaks, "" for one that fits none, until the cell is full.

    A peak is of the strongest scatterer of which as many atoms are still wanted as its position
    has points. The elements come in the order of their scattering.
    """
    wanted = dict(contents)
    elements: list[str] = []
    for points in multiplicity:
        if all(rest < 0.5 for rest in wanted.values()):
            break
        fits = [
            element
            for element, rest in wanted.items()
            if points <= rest + max(0.5, OVERFILL * contents[element]) and rest >= 0.5
        ]
        elements.append(fits[0] if fits else "")
        if fits:
            wanted[fits[0]] -= points
    while elements and not elements[-1]:
        elements.pop()
    return elements


def figures(f_obs: Any, sites: list[list[float]], elements: list[str]) -> tuple[float, float]:
    """R1 and correlation of amplitudes, after one scale and one displacement are fitted."""
    structure = xray.structure(crystal.special_position_settings(f_obs, min_distance_sym_equiv=0.5))
    for i, (site, element) in enumerate(zip(sites, elements, strict=True)):
        if not element:
            continue
        structure.add_scatterer(xray.scatterer(f"{element}{i}", site=site, u=0.01))
    structure.scattering_type_registry(table="electron")
    f_calc = f_obs.structure_factors_from_scatterers(structure, algorithm="direct").f_calc()
    fo = f_obs.data().as_numpy_array()
    fc = flex.abs(f_calc.data()).as_numpy_array()
    s2 = f_obs.d_star_sq().data().as_numpy_array() / 4
    # ln(fo / fc) over s^2, by shells: single weak ones say nothing
    order = np.argsort(s2)
    shells = np.array_split(order, max(3, min(12, len(order) // 40)))
    x = [s2[i].mean() for i in shells]
    y = [math.log(max(fo[i].sum(), 1e-12) / max(fc[i].sum(), 1e-12)) for i in shells]
    slope, _ = np.polyfit(x, y, 1)
    fc = fc * np.exp(np.clip(slope, -30, 30) * s2)
    scale = float(fo @ fc / max(fc @ fc, 1e-30))
    r1 = float(np.abs(fo - scale * fc).sum() / max(fo.sum(), 1e-30))
    cc = float(np.corrcoef(fo, fc)[0, 1]) if len(fo) > 2 else float("nan")
    return r1, cc


def confirm(request: dict[str, Any], solutions: list[dict[str, Any]]) -> bool:
    """Note which solutions agree; True if the best does with one from other random phases."""
    rated = [one for one in solutions if one["elements"] and one["r1"] == one["r1"]]
    if not rated:
        return False
    best = min(rated, key=lambda one: one["r1"])
    best["agrees_with"] = sorted(
        {
            one["seed"]
            for one in rated
            if one["seed"] != best["seed"] and same_atoms(request, best, one)
        }
    )
    enough = request["good_r1"] if best["peak_gap"] < request["great_gap"] else request["poor_r1"]
    return bool(best["agrees_with"]) and best["r1"] < enough


def same_atoms(request: dict[str, Any], first: dict[str, Any], second: dict[str, Any]) -> bool:
    """Whether four atoms of five are the same, up to origin and hand."""
    n = len(first["elements"])
    match = match_positions(
        first["sites"][:n],
        second["sites"][: len(second["elements"])],
        orthogonalisation=request["orthogonalisation"],
        rotations=request["rotations"],
        translations=request["translations"],
        tolerance_A=0.4,
    )
    return len(match) >= 0.8 * n


if __name__ == "__main__":
    main()
