from dataclasses import replace

import numpy as np
import pytest

from ewaldflow.lib.crystal.lattice_symmetry import candidate_operators
from ewaldflow.lib.merging.delta_cc_half import delta_cc_half, reject_by_delta_cc_half
from ewaldflow.lib.reduction.statistics import cc_half_sigma_tau, equivalents
from ewaldflow.lib.simulation.data_sets import crystal, framework

OPERATORS = candidate_operators("oP")


def on_one_scale(seed, **options):
    truth = framework("MFI", d_min_A=1.3)
    return crystal(truth, seed, systematic=0.1, noise=0.1, fall_off_A2=0, scale=1, **options)


@pytest.fixture(scope="module")
def crystals():
    return [on_one_scale(i, range_deg=40) for i in range(14)]


def shuffled(one, seed=0):
    order = np.random.default_rng(seed).permutation(len(one))
    return replace(one, intensity=one.intensity[order], name="shuffled")


def test_leaving_out_by_sums_is_leaving_out(crystals):
    found = delta_cc_half(crystals, OPERATORS, n_shells=1)
    group = equivalents(np.concatenate([s.hkl for s in crystals]), OPERATORS)
    intensity = np.concatenate([s.intensity for s in crystals])
    owner = np.repeat(np.arange(len(crystals)), [len(s) for s in crystals])
    assert found.cc_half == pytest.approx(cc_half_sigma_tau(group, intensity), abs=1e-12)
    for k in range(len(crystals)):
        rest = owner != k
        direct = cc_half_sigma_tau(group[rest], intensity[rest])
        assert found.without[k] == pytest.approx(direct, abs=1e-12)
        assert found.delta[k] == pytest.approx(found.cc_half - direct, abs=1e-12)


def test_shells_are_weighted_by_what_counts_in_them(crystals):
    found = delta_cc_half(crystals, OPERATORS, n_shells=3)
    group = equivalents(np.concatenate([s.hkl for s in crystals]), OPERATORS)
    intensity = np.concatenate([s.intensity for s in crystals])
    d = np.concatenate([s.d_A for s in crystals])
    spacing = np.zeros(group.max() + 1)
    spacing[group] = d
    rank = np.argsort(np.argsort(-spacing, kind="stable"), kind="stable")
    shell = (rank * 3 // len(spacing))[group]
    n = np.bincount(group)[group]
    weight = [len(np.unique(group[(shell == s) & (n > 1)])) for s in range(3)]
    cc = [cc_half_sigma_tau(group[shell == s], intensity[shell == s]) for s in range(3)]
    assert found.cc_half == pytest.approx(np.average(cc, weights=weight), abs=1e-12)


def test_the_one_that_does_not_belong_is_removed_with_its_reason(crystals):
    sets = [*crystals[:6], shuffled(crystals[6]), *crystals[7:]]
    found = reject_by_delta_cc_half(sets, OPERATORS)
    assert [r.index for r in found.rejected] == [6]
    assert "delta -" in found.rejected[0].reason
    assert 6 not in found.kept
    assert len(found.kept) == 13
    assert found.cycles[0].delta[6] < 0 < found.cycles[-1].cc_half - found.cycles[0].cc_half


def test_nothing_is_removed_from_good_data(crystals):
    found = reject_by_delta_cc_half(crystals, OPERATORS)
    assert found.rejected == ()
    assert found.kept == tuple(range(14))
    assert "0 of 14" in found.why


def test_no_more_than_the_fraction_goes(crystals):
    sets = [shuffled(s, i) if i < 4 else s for i, s in enumerate(crystals)]
    found = reject_by_delta_cc_half(sets, OPERATORS, max_fraction=0.1, max_sd=1)
    assert 1 <= len(found.rejected) <= 2
    none = reject_by_delta_cc_half(sets, OPERATORS, max_fraction=0)
    assert none.rejected == ()


def test_identical_copies_reject_none(crystals):
    found = reject_by_delta_cc_half([crystals[0]] * 200, OPERATORS)
    assert found.rejected == ()
    assert np.ptp(found.cycles[0].delta) < 1e-9


def test_one_data_set_has_nothing_to_be_compared_with(crystals):
    one = delta_cc_half(crystals[:1], OPERATORS)
    assert np.isnan(one.without).all()
    few = crystals[0].select(equivalents(crystals[0].hkl, OPERATORS) == 0)
    alone = delta_cc_half([few], OPERATORS)
    assert np.isnan(alone.delta).all()
    assert reject_by_delta_cc_half([few], OPERATORS).kept == (0,)


def test_zero_intensities_have_no_cc_half(crystals):
    zero = [replace(s, intensity=np.zeros(len(s))) for s in crystals[:4]]
    found = delta_cc_half(zero, OPERATORS)
    assert np.isnan(found.cc_half)
    assert reject_by_delta_cc_half(zero, OPERATORS).rejected == ()


def test_what_is_refused(crystals):
    with pytest.raises(ValueError, match="found none"):
        delta_cc_half([], OPERATORS)
    with pytest.raises(ValueError, match="max_sd: found -1"):
        reject_by_delta_cc_half(crystals, OPERATORS, max_sd=-1)
