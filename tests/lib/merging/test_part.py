from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ewaldflow.lib.errors import UserError
from ewaldflow.lib.merging.data_set import DataSet
from ewaldflow.lib.merging.merge_phase import MergedPhase, merge_group, settle_phase
from ewaldflow.lib.merging.part import Branch, branches, in_the_setting_of, merge_part
from ewaldflow.lib.simulation.data_sets import crystal, framework

N = 5


@pytest.fixture(scope="module")
def data() -> tuple[DataSet, ...]:
    truth = framework("MOR", "oC", 0.9)
    made = [
        replace(crystal(truth, seed, range_deg=50.0, noise=0.05), name=f"crystal {seed}")
        for seed in range(N)
    ]
    return tuple(settle_phase(made).ambiguity.apply(made))


@pytest.fixture(scope="module")
def whole(data: tuple[DataSet, ...]) -> MergedPhase:
    return merge_group("phase 1", data, settle_phase(data).rotations)


@pytest.fixture(scope="module")
def tree(whole: MergedPhase, data: tuple[DataSet, ...]) -> tuple[Branch, ...]:
    assert [one.name for one in whole.scaled.data] == [one.name for one in data]
    return branches(whole, data)


def test_branches_are_nested_and_the_last_is_the_whole(
    tree: tuple[Branch, ...], whole: MergedPhase
) -> None:
    assert len(tree) == N - 1
    assert tree[-1].members == tuple(range(N))
    assert tree[-1].names == whole.pairwise.names
    for one in tree:
        for other in tree:
            both = set(one.members) & set(other.members)
            assert both in (set(), set(one.members), set(other.members))
    assert all(np.diff([one.height for one in tree]) >= 0)


def test_everything_together_has_the_figures_of_the_merge(
    tree: tuple[Branch, ...], whole: MergedPhase
) -> None:
    assert tree[-1].statistics == whole.statistics.overall


def test_the_figures_of_a_branch_are_those_of_merging_it(
    tree: tuple[Branch, ...], whole: MergedPhase, data: tuple[DataSet, ...]
) -> None:
    for one in tree:
        part = merge_part(whole, data, one.names)
        assert part.statistics.overall == one.statistics
        assert part.pairwise.names == one.names
        assert part.merged.space_group == whole.merged.space_group
        assert len(part.merged) <= len(whole.merged)
        assert set(part.left) == set(whole.pairwise.names) - set(one.names)


def test_a_part_is_no_more_complete_than_the_whole(tree: tuple[Branch, ...]) -> None:
    for one in tree:
        for other in tree:
            if set(one.members) <= set(other.members):
                assert one.statistics is not None
                assert other.statistics is not None
                assert one.statistics.completeness <= other.statistics.completeness
                assert one.statistics.d_min_A == other.statistics.d_min_A


def test_the_largest_branches_are_left_where_there_is_too_much(
    whole: MergedPhase, data: tuple[DataSet, ...]
) -> None:
    pairs = [one.members for one in branches(whole, data, most=0) if len(one.members) == 2]
    least = min(len(data[i]) + len(data[j]) for i, j in pairs)
    some = branches(whole, data, most=least)
    assert [one.statistics is not None for one in some].count(True) == 1
    assert all("too many" in one.why for one in some if one.statistics is None)
    assert len(next(one for one in some if one.statistics).members) == 2


def test_a_series_that_is_not_there_is_told(whole: MergedPhase, data: tuple[DataSet, ...]) -> None:
    with pytest.raises(UserError, match="'crystal 9', expected one of crystal 0, crystal 1"):
        merge_part(whole, data, ["crystal 1", "crystal 9"])
    with pytest.raises(UserError, match="found none"):
        merge_part(whole, data, [])


def test_one_series_alone_is_merged(whole: MergedPhase, data: tuple[DataSet, ...]) -> None:
    part = merge_part(whole, data, ["crystal 3"])
    assert len(part.scaled.data) == 1
    assert part.statistics.overall.n_observed <= len(data[3])
    assert len(part.clusters.linkage) == 0


def test_unscaled_data_come_into_the_setting_of_the_merge(data: tuple[DataSet, ...]) -> None:
    one = replace(data[0], orientation=np.diag([0.1, 0.05, 0.2]))
    turn = np.array([[0, 0, 1], [1, 0, 0], [0, 1, 0]])  # a' = b, b' = c, c' = a
    merged = one.reindexed(turn, "oP")
    again = in_the_setting_of(one, merged)
    np.testing.assert_array_equal(again.hkl, merged.hkl)
    np.testing.assert_array_equal(again.hkl[:, 0], one.hkl[:, 1])
    assert again.bravais == "oP"
    assert again.cell == pytest.approx(merged.cell)
    with pytest.raises(ValueError, match="orientation"):
        in_the_setting_of(replace(one, orientation=None), merged)
