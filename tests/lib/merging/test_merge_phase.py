from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ewaldflow.lib.crystal.lattice_symmetry import candidate_operators
from ewaldflow.lib.errors import UserError
from ewaldflow.lib.merging.config import MergingConfig
from ewaldflow.lib.merging.data_set import DataSet
from ewaldflow.lib.merging.merge_phase import (
    MergedPhase,
    merge_group,
    settle_phase,
    symmetry_of_single_crystals,
)
from ewaldflow.lib.simulation.data_sets import crystal, framework


@pytest.fixture(scope="module")
def mordenite() -> list[DataSet]:
    truth = framework("MOR", "oC", 0.9)
    return [
        replace(
            crystal(truth, seed, range_deg=50.0, noise=0.05, systematic=0.03),
            name=f"crystal {seed}",
        )
        for seed in range(6)
    ]


@pytest.fixture(scope="module")
def merged(mordenite: list[DataSet]) -> MergedPhase:
    settled = settle_phase(mordenite)
    assert settled.groups == (tuple(range(6)),)
    assert settled.left == {}
    data = settled.ambiguity.apply(mordenite)
    return merge_group("phase 1", data, settled.rotations)


def test_single_crystals_show_the_symmetry(mordenite: list[DataSet]) -> None:
    rotations = symmetry_of_single_crystals(mordenite)
    assert len(rotations) == 4  # 1 and three two-folds of mmm
    np.testing.assert_array_equal(rotations[0], np.eye(3))


def test_crystals_come_to_merged_intensities_and_a_space_group(merged: MergedPhase) -> None:
    assert merged.merged.space_group == "C m c m"
    assert merged.statistics.overall.cc_half > 0.99
    assert merged.statistics.overall.completeness > 0.5
    assert merged.left == {}
    truth = framework("MOR", "oC", 0.9)
    true = {tuple(h): i for h, i in zip(truth.hkl.tolist(), truth.true, strict=True)}
    pairs = [
        (true[key], i)
        for key, i in zip(map(tuple, merged.merged.hkl.tolist()), merged.merged.intensity,
                          strict=True)
        if key in true
    ]  # fmt: skip
    assert len(pairs) > 0.9 * len(merged.merged)
    assert np.corrcoef(np.array(pairs).T)[0, 1] > 0.99


def test_the_axes_of_an_orthorhombic_group_come_in_standard_order(
    mordenite: list[DataSet], merged: MergedPhase
) -> None:
    # the same crystals described with b and a exchanged: C c m m, say
    swap = np.array([[0, 1, 0], [1, 0, 0], [0, 0, -1]])
    swapped = [one.reindexed(swap) for one in mordenite]
    settled = settle_phase(swapped)
    done = merge_group("phase 1", settled.ambiguity.apply(swapped), settled.rotations)
    assert done.merged.space_group == "C m c m"
    np.testing.assert_allclose(done.merged.cell, merged.merged.cell, rtol=1e-6)


def test_one_crystal_is_a_phase(mordenite: list[DataSet]) -> None:
    settled = settle_phase(mordenite[:1])
    assert settled.groups == ((0,),)
    done = merge_group("phase 1", mordenite[:1], settled.rotations)
    assert len(done.merged) > 100
    assert len(done.pairwise) == 1


def test_crystals_without_common_reflections_are_not_merged(mordenite: list[DataSet]) -> None:
    first, second = mordenite[:2]
    split = [first.select(first.hkl[:, 2] % 4 == 0), second.select(second.hkl[:, 2] % 4 == 1)]
    settled = settle_phase(split)
    assert len(settled.groups) == 1
    assert len(settled.groups[0]) == 1
    assert len(settled.left) == 1
    (why,) = settled.left.values()
    assert "share" in why or "common" in why or "compare" in why


def test_zero_intensities_end_without_a_claim(mordenite: list[DataSet]) -> None:
    nothing = [replace(one, intensity=np.zeros(len(one))) for one in mordenite[:3]]
    settled = settle_phase(nothing)
    assert len(settled.rotations) == 1
    with pytest.raises(UserError, match="all 2280 intensities are zero"):
        merge_group("phase 1", [nothing[i] for i in settled.groups[0]], settled.rotations)


def test_a_sigma_that_is_none_is_refused(mordenite: list[DataSet]) -> None:
    sigma = mordenite[0].sigma.copy()
    sigma[3] = np.nan
    with pytest.raises(ValueError, match="1 observations without"):
        replace(mordenite[0], sigma=sigma)


def test_copies_of_one_series_count_once(mordenite: list[DataSet]) -> None:
    copies = [replace(mordenite[0], name=f"copy {i}") for i in range(200)]
    settled = settle_phase(copies)
    done = merge_group("phase 1", settled.ambiguity.apply(copies), settled.rotations)
    alone = merge_group("phase 1", copies[:1], settled.rotations)
    assert len(done.left) == 199
    assert all("copy 0" in why for why in done.left.values())
    np.testing.assert_allclose(done.merged.sigma, alone.merged.sigma)


def test_a_given_cut_and_space_group_are_obeyed(mordenite: list[DataSet]) -> None:
    config = MergingConfig(cut=0.999, space_group="C m m m")
    settled = settle_phase(mordenite, config)
    assert settled.clusters.criterion == "given"
    done = merge_group("phase 1", mordenite, candidate_operators("oC"), config)
    assert done.merged.space_group == "C m m m"
