from dataclasses import replace

import numpy as np
import pytest

from ewaldflow.lib.crystal.lattice_symmetry import candidate_operators
from ewaldflow.lib.merging.isomorphism import isomorphous_groups
from ewaldflow.lib.merging.pairwise import Pairwise, pairwise_correlations
from ewaldflow.lib.simulation.data_sets import crystal, filled, framework

MMM = candidate_operators("oP")
MFI, FILLED, OTHER = (
    framework("MFI", d_min_A=1.3), filled("MFI", d_min_A=1.3), filled("MFI", n=12, seed=5,
                                                                       d_min_A=1.3),
)  # fmt: skip


def some(truth, n, seed, low=8.0, high=50.0, **options):
    ranges = np.random.default_rng(seed).uniform(low, high, n)
    return [crystal(truth, 1000 * seed + i, range_deg=r, **options) for i, r in enumerate(ranges)]


def groups_of(sets, **options):
    return isomorphous_groups(pairwise_correlations(sets, MMM), **options)


@pytest.mark.parametrize(("noise", "systematic"), [(0.05, 0.1), (0.3, 0.4), (1.0, 0.15)])
def test_two_structures_behind_one_cell(noise, systematic):
    kind = {"noise": noise, "systematic": systematic}
    found = groups_of([*some(MFI, 12, 1, **kind), *some(FILLED, 6, 2, **kind)])
    assert found.groups == (tuple(range(12)), tuple(range(12, 18)))
    assert found.unassigned == ()
    contrast = found.contrasts[0]
    assert contrast.separate
    assert contrast.cc_between < min(contrast.cc_first, contrast.cc_second)
    assert contrast.n_pairs >= 70  # of 72; some share too few reflections
    assert contrast.significance > 4
    # what noise takes of the CC, the ratio gives back: true values correlate 0.5 to 0.7
    assert 0.45 < contrast.ratio < 0.75
    assert "2 structures of 12 + 6" in found.why


@pytest.mark.parametrize("noise", [0.05, 0.3, 1.0])
@pytest.mark.parametrize("seed", range(4))
def test_one_structure_stays_one(noise, seed):
    found = groups_of(some(MFI, 16, 10 + seed, noise=noise, systematic=0.3))
    assert found.groups == (tuple(range(16)),)
    assert not any(c.separate for c in found.contrasts)


def test_three_structures():
    sets = [*some(MFI, 10, 3), *some(FILLED, 5, 4), *some(OTHER, 4, 5)]
    found = groups_of(sets)
    assert found.groups == (tuple(range(10)), tuple(range(10, 15)), tuple(range(15, 19)))


def test_junk_is_named_with_its_reason():
    junk = some(MFI, 2, 6, low=25, change=lambda i, rng: rng.permutation(i))
    found = groups_of([*some(MFI, 8, 7), *junk])
    assert found.groups == (tuple(range(8)),)
    assert [u.index for u in found.unassigned] == [8, 9]
    for one in found.unassigned:
        assert "chance" in one.reason


def test_two_crystals_in_the_beam_are_named():
    both = some(MFI, 2, 8, low=30, change=lambda i, rng: i + rng.permutation(i))
    found = groups_of([*some(MFI, 10, 9), *both])
    assert found.groups == (tuple(range(10)),)
    assert [u.index for u in found.unassigned] == [10, 11]
    assert "of what its sigmas let expect" in found.unassigned[0].reason


def test_a_single_crystal_of_another_structure_is_set_aside():
    found = groups_of([*some(MFI, 10, 9), *some(FILLED, 1, 3)])
    assert found.groups == (tuple(range(10)),)
    assert found.unassigned[0].index == 10


def test_a_weak_crystal_of_the_same_structure_stays():
    weak = some(MFI, 1, 4, noise=1.5, low=40)
    found = groups_of([*some(MFI, 8, 5), *weak])
    assert found.groups == (tuple(range(9)),)
    assert found.quality[8] < found.quality[:8].min()


def test_too_few_common_reflections_are_unassigned():
    sets = some(MFI, 6, 2)
    few = sets[5].select(np.arange(15))
    found = groups_of([*sets[:5], few])
    assert found.groups == (tuple(range(5)),)
    assert "20 are needed" in found.unassigned[0].reason
    assert np.isnan(found.quality[5])


def test_two_data_sets():
    pair = some(MFI, 2, 1, low=40)
    assert groups_of(pair).groups == ((0, 1),)
    strangers = [pair[0], some(MFI, 1, 2, low=40, change=lambda i, r: r.permutation(i))[0]]
    found = groups_of(strangers)
    assert found.groups == ()
    assert len(found.unassigned) == 2
    disjoint = [s.select(s.hkl[:, 2] % 2 == odd) for odd, s in enumerate(pair)]
    assert [u.reason[:20] for u in groups_of(disjoint).unassigned] == ["shares 0 reflections"] * 2


def test_one_data_set_zeros_and_copies():
    (one,) = some(MFI, 1, 1)
    alone = groups_of([one])
    assert alone.groups == ((0,),)
    zero = replace(one, intensity=np.zeros(len(one)))
    found = groups_of([zero, *some(MFI, 4, 2)])
    assert found.unassigned[0].reason == "its intensities do not vary"
    assert found.groups == ((1, 2, 3, 4),)
    copies = isomorphous_groups(
        Pairwise(tuple("c" * 200), np.ones((200, 200)), np.full((200, 200), 300),
                 np.full((200, 200), 300.0), np.full(200, 0.9), 20)
    )  # fmt: skip
    assert copies.groups == (tuple(range(200)),)


def test_parts_that_share_nothing_are_groups_of_their_own():
    cc = np.full((6, 6), np.nan)
    cc[:4, :4] = cc[4:, 4:] = 0.9
    np.fill_diagonal(cc, 1)
    n = np.where(np.isfinite(cc), 100, 3)
    found = isomorphous_groups(
        Pairwise(tuple("abcdef"), cc, n, n.astype(float), np.full(6, 0.9), 20)
    )
    assert found.groups == ((0, 1, 2, 3), (4, 5))
    assert found.labels.tolist() == [0, 0, 0, 0, 1, 1]


def test_the_same_seed_gives_the_same_groups():
    correlations = pairwise_correlations([*some(MFI, 6, 1), *some(FILLED, 4, 2)], MMM)
    first, second = (isomorphous_groups(correlations, seed=5) for _ in range(2))
    assert first.contrasts == second.contrasts
