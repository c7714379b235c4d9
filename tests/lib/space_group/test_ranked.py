"""From data sets to a named space group, and never to one that was not measured."""

import importlib
import sys
from dataclasses import replace
from pathlib import Path

import gemmi
import numpy as np
import pytest

import ewaldflow
from ewaldflow.lib.errors import UserError
from ewaldflow.lib.reduction.result import Flag
from ewaldflow.lib.simulation.structures import zeolite
from ewaldflow.lib.space_group.ranked import determine_space_group

sys.path.insert(0, str(Path(ewaldflow.__file__).resolve().parent / "benchmarks"))
crystals = importlib.import_module("_random_crystals")
benchmark = importlib.import_module("merging_space_group")


def wedges(symbol, seed=1, **choices):
    return crystals.wedges(crystals.random_crystal(symbol, seed), seed, **choices)


@pytest.mark.parametrize(
    "symbol",
    ["P -1", "P 1 21/n 1", "C 1 2/c 1", "P b c a", "P c a 21", "I b c a", "P 42/n m c:2",
     "I -4 2 d", "R -3 c:H", "R -3:H", "P 63/m m c", "P a -3", "P -4 3 n"],
)  # fmt: skip
def test_the_true_absences_come_first_from_p1(symbol):
    crystal = crystals.random_crystal(symbol, 1)
    judged, verdict = benchmark.outcome(crystal, crystals.wedges(crystal, 1, n_sets=12))
    assert judged.laue_right
    assert judged.measured
    assert judged.first
    assert judged.decided or verdict.ranked[0].absence_probability > 0.8
    assert not judged.false_claim
    assert sum(g.probability for g in verdict.ranked) == pytest.approx(1)


@pytest.mark.long
@pytest.mark.parametrize("leakage", [0.05, 0.35])
def test_a_sweep_over_all_groups(leakage):
    false, wrong = [], []
    for symbol in crystals.GROUPS:
        for seed in (21, 22):
            crystal = crystals.random_crystal(symbol, seed)
            judged, _ = benchmark.outcome(
                crystal, crystals.wedges(crystal, seed, leakage=leakage, scatter=0.3)
            )
            false += [symbol] * judged.false_claim
            wrong += [symbol] * (judged.decided and not judged.first)
            assert judged.laue_right, symbol
    assert len(false) <= 1, false
    assert len(wrong) <= 1, wrong


@pytest.mark.parametrize(("code", "symbol"), [("MFI", "P n m a"), ("MOR", "C m c m")])
def test_zeolites_in_the_setting_of_the_data(code, symbol):
    data = crystals.wedges(crystals.crystal_of(zeolite(code), 1.2), 3)
    verdict = determine_space_group(data)
    assert verdict.space_group == symbol
    assert verdict.cell == pytest.approx(data[0].cell)
    best = verdict.ranked[0]
    assert (best.symbol, best.standard_symbol, best.to_standard) == (symbol, symbol, "x,y,z")
    assert best.tied_with
    assert any("told from" in note for note in verdict.notes)
    assert symbol in verdict.reason
    assert verdict.group.number == gemmi.SpaceGroup(symbol).number


def test_another_order_of_axes_is_named_and_its_way_to_the_standard_given():
    turn = np.array([[0, 1, 0], [0, 0, 1], [1, 0, 0]])  # Pnma (a, b, c) -> (c, a, b)
    data = [d.reindexed(turn) for d in wedges("P n m a")]
    verdict = determine_space_group(data)
    best = verdict.ranked[0]
    assert (best.symbol, best.standard_symbol) == ("P b n m", "P n m a")
    np.testing.assert_array_equal(verdict.transform, np.eye(3))
    change = np.array(gemmi.Op(best.to_standard).rot) // gemmi.Op.DEN
    hkl = data[0].hkl
    np.testing.assert_array_equal(
        verdict.group.operations().systematic_absences(hkl),
        gemmi.SpaceGroup("P n m a")
        .operations()
        .systematic_absences((hkl @ change).astype(np.int32)),
    )
    assert data[0].reindexed(change).cell == pytest.approx((9.3, 12.9, 15.1, 90, 90, 90))


def test_an_axis_that_was_not_measured_is_never_claimed():
    # without 0 k 0, P 21/c and P 2/c are the same
    data = [d.select((d.hkl[:, 0] != 0) | (d.hkl[:, 2] != 0)) for d in wedges("P 1 21/c 1")]
    verdict = determine_space_group(data)
    assert verdict.space_group == "P 1 2/c 1"
    assert not verdict.decided
    assert {g.symbol for g in verdict.ranked[:2]} == {"P 1 21/c 1", "P 1 2/c 1"}
    assert verdict.ranked[0].symbol == "P 1 21/c 1"  # the commoner one
    assert any("not tested" in note and "2_1 along b" in note for note in verdict.notes)
    assert any("not measured" in reason for reason in verdict.ranked[0].reasons)


def test_a_chiral_sample():
    verdict = determine_space_group(wedges("P 1 21 1", n_sets=12, leakage=0.05), chiral=True)
    assert all(group.sohncke for group in verdict.ranked)
    assert verdict.ranked[0].symbol == "P 1 21 1"
    assert verdict.ranked[0].tied_with == ()


def test_a_doubled_cell_is_halved():
    data = wedges("P b c a")
    # indexed on twice the c axis, with noise where nothing is
    rng = np.random.default_rng(0)
    doubled = []
    for d in data:
        odd = d.hkl * [1, 1, 2] + [0, 0, 1]
        noise = np.median(d.sigma)
        doubled.append(
            replace(
                d,
                hkl=np.concatenate([d.hkl * [1, 1, 2], odd]).astype(np.int32),
                cell=(*d.cell[:2], 2 * d.cell[2], 90.0, 90.0, 90.0),
                intensity=np.r_[d.intensity, noise * rng.normal(size=len(d))],
                sigma=np.r_[d.sigma, np.full(len(d), noise)],
                frame=np.r_[d.frame, d.frame],
                d_A=np.r_[d.d_A, d.d_A],
                flags=np.r_[d.flags, d.flags],
            )
        )
    verdict = determine_space_group(doubled)
    assert [e.translation for e in verdict.centring if e.found] == [(0, 0, 0.5)]
    assert sorted(verdict.cell) == pytest.approx(sorted(data[0].cell))
    assert verdict.group.number == 61
    back = verdict.reindexed(doubled[0])
    assert len(back) == len(data[0])
    np.testing.assert_allclose(np.sort(back.intensity), np.sort(data[0].intensity))


def test_reindexed_data_keep_their_reflections():
    p1, _ = crystals.to_p1(wedges("C 1 2/c 1"))
    verdict = determine_space_group(p1)
    for data in p1:
        back = verdict.reindexed(replace(data, orientation=np.eye(3)))
        assert len(back) == len(data)
        assert (back.bravais, back.cell) == ("mC", verdict.cell)
        # q = A h is a reflection's own, whatever the basis
        np.testing.assert_allclose(back.hkl @ back.orientation.T, data.hkl, atol=1e-9)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda d: d.select(np.arange(20)),
        lambda d: d.select(np.arange(1)),
        lambda d: d.select((d.hkl == 0).sum(axis=1) == 2),
        lambda d: replace(d, intensity=0 * d.intensity),
        lambda d: replace(d, intensity=0 * d.intensity + 1, sigma=0 * d.sigma + 1),
        lambda d: replace(d, sigma=0 * d.sigma + 1e9),
    ],
)
def test_poor_data_leave_it_undecided(spoil):
    data = spoil(full_sphere())
    verdict = determine_space_group(data)
    assert not verdict.decided
    assert verdict.space_group == "P -1"
    assert "undecided" in verdict.reason


def test_a_plane_of_reflections_cannot_decide():
    data = full_sphere()
    verdict = determine_space_group(data.select(data.hkl[:, 2] == 0))
    assert not verdict.decided
    assert len(verdict.operators) <= 2


def full_sphere():
    return wedges("P n m a", n_sets=1, range_deg=180.0)[0]


def test_errors():
    data = full_sphere()
    with pytest.raises(UserError, match="no data set"):
        determine_space_group([])
    with pytest.raises(UserError, match="no observations"):
        determine_space_group(data.select(np.zeros(len(data), bool)))
    with pytest.raises(UserError, match="settings aP, oP"):
        determine_space_group([data, replace(data, bravais="aP")])


def test_outliers_are_left_out():
    data = wedges("P n m a")
    flagged = []
    for d in data:
        bad = np.arange(len(d)) % 3 == 0
        flags = np.where(bad, np.uint32(Flag.OUTLIER), np.uint32(0))
        flagged.append(replace(d, intensity=np.where(bad, 1e6, d.intensity), flags=flags))
    verdict = determine_space_group(flagged)
    assert verdict.laue.laue_class == "mmm"
    assert verdict.ranked[0].symbol == "P n m a"


def test_a_verdict_is_repeatable():
    data = wedges("P n a 21")
    assert determine_space_group(data).ranked == determine_space_group(data).ranked
