import gemmi
import numpy as np
import pytest

from ewaldflow.lib.crystal.cell import d_spacing_A
from ewaldflow.lib.crystal.lattice_symmetry import candidate_operators
from ewaldflow.lib.reduction.laue_symmetry import (
    laue_verdict,
    normalised_amplitudes,
    operator_correlations,
)
from ewaldflow.lib.reduction.statistics import equivalents, unique_reflections

CELL = {"c": (9, 9, 9, 90, 90, 90), "t": (9, 9, 12, 90, 90, 90), "h": (9, 9, 12, 90, 90, 120)}


def rotations_of(space_group):
    operations = gemmi.SpaceGroup(space_group).operations().sym_ops
    rotations = np.array([op.rot for op in operations]) // gemmi.Op.DEN
    return np.round(np.linalg.inv(rotations)).astype(int).transpose(0, 2, 1)


def simulated(space_group, bravais, relative_sigma=0.1, d_min=1.2, seed=0):
    """Exponential intensities that obey the Laue group of `space_group`, falling off with d."""
    rng = np.random.default_rng(seed)
    cell = CELL[bravais[0]]
    hkl = unique_reflections(cell, bravais, d_min, candidate_operators("aP"))
    group = equivalents(hkl, rotations_of(space_group))
    d = d_spacing_A(hkl, cell)
    truth = 100 * rng.exponential(1, group.max() + 1)[group] * np.exp(-4 / d**2)
    sigma = relative_sigma * truth + 2.0
    return hkl, truth + sigma * rng.normal(size=len(hkl)), sigma, d


@pytest.mark.parametrize(
    ("space_group", "bravais", "laue_class"),
    [
        ("P 4 3 2", "cP", "m-3m"),
        ("F 2 3", "cF", "m-3"),
        ("I 4 2 2", "cI", "4/mmm"),
        ("P 4", "tP", "4/m"),
        ("P 2 2 2", "tP", "mmm"),
        ("P 6", "hP", "6/m"),
        ("P 3 2 1", "hP", "-3m"),
        ("P 3", "hP", "-3"),
        ("P 1 2 1", "cP", "2/m"),
        ("P 1", "cP", "-1"),
    ],
)
def test_the_symmetry_of_simulated_intensities_is_found(space_group, bravais, laue_class):
    operators = candidate_operators(bravais)
    verdict = laue_verdict(*simulated(space_group, bravais), operators)
    true = {op.tobytes() for op in rotations_of(space_group)}
    assert verdict.laue_class == laue_class
    assert {op.tobytes() for op in verdict.operators} == true
    assert np.array_equal(verdict.operators[0], np.eye(3))
    assert verdict.n_seen == len(true) - 1
    assert len(verdict.correlations) == len(operators) - 1
    for row, seen in zip(verdict.correlations, verdict.seen, strict=True):
        assert seen == (row.operator.tobytes() in true)
        assert not seen or row.cc > 0.7
    if len(true) > 1:
        assert verdict.lowest_cc > 0.7
    if len(true) < len(operators) and bravais != "cF":  # which has too few pairs left
        assert abs(verdict.highest_rejected_cc) < 0.4


def test_the_verdict_is_rarely_wrong_however_little_is_measured():
    right = {"P 4": 0, "P 4 2 2": 0}
    for space_group in right:
        for seed in range(20):
            data = simulated(space_group, "tP", relative_sigma=0.3, d_min=1.5, seed=seed)
            kept = np.random.default_rng(seed).random(len(data[0])) < 0.4
            verdict = laue_verdict(*(v[kept] for v in data), candidate_operators("tP"))
            right[space_group] += verdict.laue_class == {"P 4": "4/m"}.get(space_group, "4/mmm")
    assert min(right.values()) >= 18


def test_pseudo_symmetry_is_no_symmetry():
    # mmm intensities with a fifth of the spread alone breaking 4/mmm
    rng = np.random.default_rng(3)
    cell = CELL["t"]
    hkl = unique_reflections(cell, "tP", 1.0, candidate_operators("aP"))
    d = d_spacing_A(hkl, cell)
    true = equivalents(hkl, candidate_operators("oP"))
    pseudo = equivalents(hkl, candidate_operators("tP"))
    amplitude = np.sqrt(0.3) * rng.normal(size=pseudo.max() + 1)[pseudo]
    amplitude += np.sqrt(0.7) * rng.normal(size=true.max() + 1)[true]
    sigma = np.full(len(hkl), 2.0)
    intensity = 100 * amplitude**2 + sigma * rng.normal(size=len(hkl))
    verdict = laue_verdict(hkl, intensity, sigma, d, candidate_operators("tP"))
    assert verdict.laue_class == "mmm"


def test_pairs_are_counted_once():
    # under the two-fold along b, 1 2 3 pairs with -1 2 -3, Friedel mate 1 -2 3
    hkl = np.array([[1, 2, 3], [1, -2, 3], [-1, 2, -3], [2, 1, 0], [0, 4, 0], [3, 3, 3]])
    data = (hkl, np.arange(1.0, 7.0), np.ones(6), np.arange(6.0, 0.0, -1))
    operators = candidate_operators("mP")
    assert [c.n_pairs for c in operator_correlations(*data, operators)] == [0, 1]
    assert [c.n_pairs for c in operator_correlations(*data, operators, operators)] == [0, 0]


def test_the_correlation_by_hand():
    # with sigma 1, I = 2 sinh(x) has amplitude x less its mean; pairs (2, 3), (4, 4), (3, 2)
    hkl = [[1, 1, 1], [1, -1, 1], [2, 1, 1], [2, -1, 1], [3, 1, 1], [3, -1, 1]]
    intensity = 2 * np.sinh([2.0, 3.0, 4.0, 4.0, 3.0, 2.0])
    row = operator_correlations(
        hkl, intensity, np.ones(6), np.arange(6.0, 0.0, -1), candidate_operators("mP")
    )[1]
    # both orders, mean 3: products (-1)(0) twice each way, (1)(1) twice = 2; squares 1 0 1 1 1 0
    assert row.n_pairs == 3
    assert row.cc == pytest.approx(2 / 4)
    assert row.significance == pytest.approx(row.cc * np.sqrt(3))
    assert not row.beyond_chance


def test_unrelated_intensities_correlate_as_random_pairs_do():
    z = np.array(
        [
            c.significance
            for seed in range(15)
            for c in operator_correlations(
                *simulated("P 1", "cP", d_min=1.6, seed=seed), candidate_operators("cP")
            )[1:]
        ]
    )
    # rotations and their inverses share their pairs, so fewer than 345 are independent
    assert abs(z.mean()) < 0.3
    assert 0.8 < z.std() < 1.2


def test_resolution_falloff_alone_is_no_symmetry():
    hkl, _, sigma, d = simulated("P 1", "cP")
    smooth = 1000 * np.exp(-8 / d**2)
    noise = np.random.default_rng(4).exponential(1, len(d))
    verdict = laue_verdict(hkl, smooth * noise, sigma, d, candidate_operators("cP"))
    assert verdict.laue_class == "-1"


def test_amplitudes_by_hand():
    # asinh(I / 2 sigma) of 4, 0 and -4 with sigma 1 is +-asinh(2) about its mean, 0
    amplitude = normalised_amplitudes([4.0, 0.0, -4.0], [1.0, 1.0, 1.0], [1.0, 2.0, 3.0])
    assert np.allclose(amplitude, [1.4436354751788103, 0.0, -1.4436354751788103])


def test_amplitudes_of_a_shell_have_no_mean():
    rng = np.random.default_rng(0)
    d = rng.uniform(0.8, 5, 1000)
    intensity = rng.exponential(100 * d, 1000)
    amplitude = normalised_amplitudes(intensity, np.ones(1000), d)
    shells = np.array_split(amplitude[np.argsort(-d)], 20)
    assert np.allclose([shell.mean() for shell in shells], 0, atol=1e-12)


def test_no_reflections_show_no_symmetry():
    nothing = np.zeros(0)
    verdict = laue_verdict(
        np.zeros((0, 3), int), nothing, nothing, nothing, candidate_operators("oP")
    )
    assert verdict.laue_class == "-1"
    assert verdict.n_seen == 0


def test_a_set_of_operators_that_is_no_group_is_refused():
    with pytest.raises(ValueError, match="no group"):
        laue_verdict(*simulated("P 1", "cP", d_min=2.0), candidate_operators("cP")[1:])
