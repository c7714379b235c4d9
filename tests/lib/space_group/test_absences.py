"""Screw axes and glide planes under multiple scattering."""

import numpy as np
import pytest

from ewaldflow.lib.crystal.cell import d_spacing_A
from ewaldflow.lib.crystal.lattice_symmetry import candidate_operators
from ewaldflow.lib.reduction.statistics import unique_reflections
from ewaldflow.lib.space_group.absences import absence_evidence
from ewaldflow.lib.space_group.intensities import (
    expected_e2_minus_1,
    log_density,
    mean_at_resolution,
)

CELL = (9.3, 12.1, 10.7, 90.0, 104.0, 90.0)
OPERATORS = candidate_operators("mP")


def screw(h, k, n):
    return (h == 0) & (n == 0) & (k % 2 == 1)


def glide(h, k, n):
    return (k == 0) & (n % 2 == 1)


def evidence(*absent, leakage=0.0, seed=0, kept=None, d_min=0.9, **choices):
    """2/m P with the reflections of `absent` replaced by leakage."""
    rng = np.random.default_rng(seed)
    hkl = unique_reflections(CELL, "mP", d_min)
    if kept is not None:
        hkl = hkl[kept(*hkl.T)]
    f2 = rng.exponential(size=len(hkl))
    for rule in absent:
        f2[rule(*hkl.T)] = leakage * rng.exponential(size=int(rule(*hkl.T).sum()))
    sigma = np.full(len(hkl), 0.05)
    intensity = f2 + sigma * rng.normal(size=len(hkl))
    return absence_evidence(
        hkl, intensity, sigma, d_spacing_A(hkl, CELL), OPERATORS, "mP", **choices
    )


def first(found):
    best = found.extinctions[int(np.argmax(found.probability))]
    return [g.xhm() for g in best.groups]


@pytest.mark.parametrize("leakage", [0.0, 0.05, 0.19])
@pytest.mark.parametrize(
    ("absent", "names"),
    [
        ((), ["P 1 2 1", "P 1 m 1", "P 1 2/m 1"]),
        ((screw,), ["P 1 21 1", "P 1 21/m 1"]),
        ((glide,), ["P 1 c 1", "P 1 2/c 1"]),
        ((screw, glide), ["P 1 21/c 1"]),
    ],
)
def test_the_absences_put_in_are_found(absent, names, leakage):
    found = evidence(*absent, leakage=leakage)
    assert first(found) == names
    assert found.probability.sum() == pytest.approx(1)
    assert found.probability.max() > 0.8
    if glide in absent:
        assert found.leakage == pytest.approx(max(leakage, 0.01), abs=0.06)


def test_elements_are_described_by_numbers():
    found = evidence(screw, glide, leakage=0.19)
    by_name = {element.name: element for element in found.elements}
    c_glide = by_name["c glide normal to b"]
    hkl = unique_reflections(CELL, "mP", 0.9)
    assert c_glide.n == int(glide(*hkl.T).sum())
    assert c_glide.ratio == pytest.approx(0.19, abs=0.05)
    assert c_glide.ratio_neighbours == pytest.approx(1.0, abs=0.25)
    assert c_glide.probability > 0.99
    assert by_name["n glide normal to b"].probability < 0.01
    assert np.isnan(c_glide.spread)


def test_reflections_that_were_not_measured_say_nothing():
    found = evidence(glide, kept=lambda h, k, n: (h != 0) | (n != 0))
    by_name = {element.name: element for element in found.elements}
    axis = by_name["2_1 along b"]
    assert axis.n == 0
    assert np.isnan(axis.probability)
    # P 1 c 1 and P 1 21/c 1 stay equally probable
    top = np.sort(found.probability)[::-1]
    assert top[0] == pytest.approx(top[1])
    assert top[0] == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("what", ["none", "zero"])
def test_without_intensities_all_are_as_probable(what):
    hkl = unique_reflections(CELL, "mP", 2.0)[: 0 if what == "none" else None]
    n = len(hkl)
    found = absence_evidence(hkl, np.zeros(n), np.ones(n), d_spacing_A(hkl, CELL), OPERATORS, "mP")
    np.testing.assert_allclose(found.probability, 1 / 8)
    assert np.isnan(found.leakage)


def test_one_strong_reflection_does_not_decide():
    hkl = unique_reflections(CELL, "mP", 0.9)
    rng = np.random.default_rng(3)
    f2 = np.where(glide(*hkl.T), 0.0, rng.exponential(size=len(hkl)))
    f2[np.flatnonzero(glide(*hkl.T))[7]] = 6.0
    sigma = np.full(len(hkl), 0.05)
    found = absence_evidence(
        hkl, f2 + sigma * rng.normal(size=len(hkl)), sigma, d_spacing_A(hkl, CELL), OPERATORS, "mP"
    )
    assert "P 1 2/c 1" in first(found)


def test_only_proper_groups_for_chiral_samples():
    found = evidence(screw, chiral=True)
    names = [g.xhm() for e in found.extinctions for g in e.groups]
    assert names == ["P 1 2 1", "P 1 21 1"]
    assert first(found) == ["P 1 21 1"]


def test_scatter_of_equivalents_is_compared_with_that_of_reflections_as_strong():
    hkl = unique_reflections(CELL, "mP", 0.9)
    rng = np.random.default_rng(0)
    absent = glide(*hkl.T)
    f2 = np.where(absent, 0.3, 1.0) * rng.exponential(size=len(hkl))
    sigma = np.full(len(hkl), 0.05)
    found = absence_evidence(
        hkl, f2, sigma, d_spacing_A(hkl, CELL), OPERATORS, "mP",
        scatter=np.where(absent, 3.0, 1.5),
    )  # fmt: skip
    spread = {element.name: element.spread for element in found.elements}
    assert spread["c glide normal to b"] == pytest.approx(2.0)


# --- intensities -------------------------------------------------------------------------------


@pytest.mark.parametrize("mean", [0.05, 1.0])
@pytest.mark.parametrize("error", [0.02, 0.5])
def test_densities_are_normalised(mean, error):
    x = np.linspace(-5, 60, 200_001)
    density = np.exp(log_density(x, np.full(len(x), error), mean))
    assert np.trapezoid(density, x) == pytest.approx(1, abs=2e-3)


def test_densities_with_large_errors_hardly_depend_on_the_mean():
    x, s = np.array([0.3, -0.5]), np.array([50.0, 50.0])
    np.testing.assert_allclose(log_density(x, s, 0.1), log_density(x, s, 1.0), atol=0.03)


def test_e_statistics_without_errors_are_the_textbook_ones():
    s = np.full(2000, 1e-6)
    assert expected_e2_minus_1(s, centric=True) == pytest.approx(0.968, abs=0.02)
    assert expected_e2_minus_1(s, centric=False) == pytest.approx(0.736, abs=0.02)


def test_means_follow_the_fall_off():
    rng = np.random.default_rng(0)
    d = rng.uniform(0.8, 5.0, 4000)
    true = 100 * np.exp(-3 / d**2)
    mean = mean_at_resolution(d, true * rng.exponential(size=len(d)))
    assert np.median(np.abs(mean / true - 1)) < 0.1
    assert np.all(mean_at_resolution(d[:3], -np.ones(3)) > 0)
