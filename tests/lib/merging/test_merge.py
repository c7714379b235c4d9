from dataclasses import replace

import numpy as np
import pytest

from ewaldflow.lib.crystal.cell import d_spacing_A
from ewaldflow.lib.crystal.lattice_symmetry import BRAVAIS, candidate_operators, holohedral_group
from ewaldflow.lib.errors import UserError
from ewaldflow.lib.merging.data_set import DataSet
from ewaldflow.lib.merging.merge import laue_group_symbol, merge_scaled
from ewaldflow.lib.merging.saturation import saturated_evidence
from ewaldflow.lib.merging.scaling import Scaled, scale_data_sets
from ewaldflow.lib.reduction.result import Flag
from ewaldflow.lib.reduction.scaling import ErrorModel

MMM = candidate_operators("oP")
CELL = (10.0, 12.0, 14.0, 90.0, 90.0, 90.0)
SATURATED = int(Flag.SATURATED)


def scaled_by_hand(rows, outlier=None):
    """Rows of (h, k, l, intensity, sigma, flags), as if scaled."""
    table = np.array(rows, float)
    n = len(table)
    data = DataSet(
        name="by hand",
        cell=CELL,
        bravais="oP",
        hkl=table[:, :3].astype(np.int32),
        intensity=table[:, 3],
        sigma=table[:, 4],
        frame=np.zeros(n),
        d_A=d_spacing_A(table[:, :3], CELL),
        flags=table[:, 5].astype(np.uint32),
        wavelength_A=0.025,
        range_deg=10.0,
        n_frames=10,
    )
    out = np.zeros(n, bool) if outlier is None else np.array(outlier)
    return Scaled((data,), (np.ones(n),), (out,), (), MMM, ErrorModel(), 1.0, {}, ())


def test_means_by_hand():
    scaled = scaled_by_hand(
        [
            (1, 2, 3, 10.0, 1.0, 0),
            (-1, 2, -3, 13.0, 2.0, SATURATED),
            (1, -2, 3, 99.0, 1.0, 0),
            (0, 0, 2, 5.0, 0.5, 0),
        ],
        outlier=[False, False, True, False],
    )
    merged = merge_scaled(scaled)
    assert merged.hkl.tolist() == [[0, 0, 2], [1, 2, 3]]
    # (10 / 1 + 13 / 4) / (1 + 1 / 4); 1 / sqrt(1.25)
    assert merged.intensity == pytest.approx([5.0, 10.6])
    assert merged.sigma == pytest.approx([0.5, np.sqrt(0.8)])
    assert merged.multiplicity.tolist() == [1, 2]
    assert merged.n_saturated.tolist() == [0, 1]
    assert merged.cell == CELL
    assert merged.space_group == "P m m m"
    assert merged.wavelength_A == 0.025


def test_two_that_contradict_each_other_have_a_large_sigma():
    merged = merge_scaled(scaled_by_hand([(1, 2, 3, 0.0, 1.0, 0), (1, 2, 3, 100.0, 1.0, 0)]))
    # chi^2 = 2 x 50^2 with one degree of freedom; sigma of the mean 1 / sqrt(2) times its root
    assert merged.sigma == pytest.approx([50.0])


def test_saturated_ones_are_kept_filled_in_or_dropped():
    scaled = scaled_by_hand(
        [(1, 2, 3, 10.0, 1.0, 0), (1, 2, 3, 12.0, 1.0, SATURATED), (0, 0, 2, 5.0, 1.0, SATURATED)]
    )
    assert merge_scaled(scaled).intensity == pytest.approx([5, 11])
    filled = merge_scaled(scaled, saturated="fill")
    assert filled.intensity == pytest.approx([5, 10])
    assert filled.n_saturated.tolist() == [1, 0]
    assert merge_scaled(scaled, saturated="drop").hkl.tolist() == [[1, 2, 3]]


def test_resolution_and_space_group_can_be_given():
    scaled = scaled_by_hand([(1, 2, 3, 10.0, 1.0, 0), (0, 0, 2, 5.0, 1.0, 0)])
    assert merge_scaled(scaled, d_min_A=7.0, space_group="P n m a").hkl.tolist() == [[0, 0, 2]]
    with pytest.raises(UserError, match="no observation"):
        merge_scaled(scaled, d_min_A=50.0)
    with pytest.raises(UserError, match="Hermann-Mauguin"):
        merge_scaled(scaled, space_group="P q q q")


@pytest.mark.parametrize("bravais", BRAVAIS)
def test_the_group_of_all_rotations_is_the_holohedry(bravais):
    import gemmi

    symbol = laue_group_symbol(bravais, candidate_operators(bravais))
    group = gemmi.SpaceGroup(symbol)
    assert group.is_centrosymmetric()
    assert group.is_symmorphic()
    assert group.centring_type() == holohedral_group(bravais).centring_type()
    assert group.laue_str() == holohedral_group(bravais).laue_str()


def test_lower_laue_classes():
    assert laue_group_symbol("tP", candidate_operators("tP")[:1]) == "P -1"
    tetragonal = candidate_operators("tI")
    about_c = [m for m in tetragonal if m[2, 2] == 1]
    assert laue_group_symbol("tI", about_c) == "I 4/m"
    cubic = candidate_operators("cF")
    # even permutations of the axes with signs: m-3
    even = [m for m in cubic if np.linalg.det(np.abs(m)) > 0]
    assert laue_group_symbol("cF", even) == "F m -3"
    with pytest.raises(ValueError, match="no Laue class"):
        diagonal = [m for m in cubic if m.tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, -1]]]
        laue_group_symbol("cP", [np.eye(3, dtype=int), *diagonal])


def saturate(made, change):
    """The same sets with the strongest observations flagged and their intensities changed."""
    limit = 8.0
    sets = []
    for d, ln in zip(made.sets, made.ln_scale, strict=True):
        # by counts on the detector, so that of equivalents only some saturate
        high = d.intensity / np.exp(np.median(ln)) > limit
        sets.append(
            replace(
                d,
                intensity=np.where(high, change(d.intensity), d.intensity),
                flags=d.flags | np.where(high, np.uint32(SATURATED), np.uint32(0)),
            )
        )
    return sets


@pytest.fixture(scope="module")
def made(crystals):
    return crystals(8, outliers=0.0, wobble=0.4)


def evidence(made, change):
    scaled = scale_data_sets(saturate(made, change), candidate_operators("oC"))
    return saturated_evidence(scaled)


def test_saturated_ones_that_agree_are_kept(made):
    found = evidence(made, lambda i: i)
    assert found.choice == "keep", found.reason
    assert found.n_compared > 30
    assert found.ratio == pytest.approx(1, abs=0.1)


def test_flattened_ones_fill_in_only(made):
    found = evidence(made, lambda i: 0.7 * i)
    assert found.choice == "fill", found.reason
    assert found.ratio == pytest.approx(0.7, abs=0.08)
    assert "used only for the" in found.reason


def test_useless_ones_are_dropped(made):
    found = evidence(made, lambda i: 0.1 * i)
    assert found.choice == "drop", found.reason


def test_without_comparisons_they_are_filled_in(crystals):
    scaled = scaled_by_hand([(1, 2, 3, 10.0, 1.0, 0), (0, 0, 2, 5.0, 1.0, SATURATED)])
    found = saturated_evidence(scaled)
    assert (found.choice, found.n_only, found.n_compared) == ("fill", 1, 0)
    nothing = saturated_evidence(scaled_by_hand([(1, 2, 3, 10.0, 1.0, 0)]))
    assert (nothing.choice, nothing.reason) == ("keep", "nothing is saturated")
