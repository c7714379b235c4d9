from dataclasses import replace

import numpy as np
import pytest

from ewaldflow.lib.crystal.lattice_symmetry import candidate_operators
from ewaldflow.lib.errors import UserError
from ewaldflow.lib.merging.merge import merge_scaled
from ewaldflow.lib.merging.scaling import scale_data_sets
from ewaldflow.lib.reduction.result import Flag
from ewaldflow.lib.reduction.statistics import asymmetric_unit

MMM = candidate_operators("oC")


def errors_of_scale(made, scaled):
    """ln of found over true scale, without the common factor and B that no data can tell."""
    found = np.concatenate([np.log(f) for f in scaled.factor])
    wrong = found - np.concatenate(made.ln_scale)
    s2 = np.concatenate([0.25 / d.d_A**2 for d in made.sets])
    wrong -= np.polyval(np.polyfit(s2, wrong, 1), s2)
    return np.split(wrong, np.cumsum([len(d) for d in made.sets])[:-1])


@pytest.fixture(scope="module")
def eight(crystals):
    made = crystals(8)
    return made, scale_data_sets(made.sets, MMM)


def test_scales_come_back_within_counting_error(eight):
    made, scaled = eight
    wrong = errors_of_scale(made, scaled)
    # some 500 reflections in common of 10 %: 0.005 for K, more where B is uncertain with it
    assert np.std([w.mean() for w in wrong]) < 0.015
    assert np.mean([w.std() for w in wrong]) < 0.02
    # K's spread over a factor of e, so this was no small correction
    assert np.std([np.log(s.scale) for s in scaled.sets]) > 0.5


def test_b_factors_come_back_up_to_a_common_one(eight):
    made, scaled = eight
    found = np.array([s.b_A2 for s in scaled.sets])
    difference = found - made.b_A2
    assert np.std(difference) < 0.15
    assert np.std(made.b_A2) > 5 * np.std(difference)


def test_the_wobble_of_each_crystal_is_in_its_frame_scale(eight):
    _, scaled = eight
    for s in scaled.sets:
        assert np.log(s.frame_scale).mean() == pytest.approx(0, abs=1e-9)
        assert 0.03 < np.log(s.frame_scale).std() < 0.2


def test_sigmas_are_honest_and_outliers_found(eight):
    made, scaled = eight
    wrong = np.concatenate(errors_of_scale(made, scaled))
    truth = np.concatenate(made.truth)
    ln = np.concatenate([np.log(f) for f in scaled.factor])
    common = np.exp(np.concatenate(made.ln_scale) - ln + wrong)  # gauge
    i = np.concatenate([d.intensity for d in scaled.data])
    s = np.concatenate([d.sigma for d in scaled.data])
    planted, found = np.concatenate(made.outlier), np.concatenate(scaled.outlier)
    z = ((i - truth * common) / s)[~planted]
    assert z.std() == pytest.approx(1, abs=0.06)
    assert scaled.chi_square == pytest.approx(1, abs=0.1)
    assert np.mean(found[planted]) > 0.85
    assert np.mean(found[~planted]) < 0.001
    assert scaled.error.b == pytest.approx(0.05, abs=0.015)
    flagged = np.concatenate([d.has(Flag.OUTLIER) for d in scaled.data])
    assert np.array_equal(flagged, found)


def test_merged_intensities_are_the_true_ones(eight):
    made, scaled = eight
    merged = merge_scaled(scaled)
    unit = np.concatenate([asymmetric_unit(d.hkl, MMM) for d in made.sets])
    true = dict(zip(map(tuple, unit.tolist()), np.concatenate(made.truth), strict=True))
    expected = np.array([true[tuple(h)] for h in merged.hkl.tolist()])
    assert np.corrcoef(merged.intensity, expected)[0, 1] > 0.999
    factor = np.median(merged.intensity / expected)
    z = (merged.intensity / factor - expected) / (merged.sigma / factor)
    # what scales and B are off by is common to many, and does not average out
    assert 1.4826 * np.median(np.abs(z)) < 1.6
    assert merged.multiplicity.sum() == sum(np.sum(~o) for o in scaled.outlier)
    assert merged.space_group == "C m m m"


def test_a_fall_off_that_changes_with_tilt_is_followed(crystals):
    made = crystals(8, surface=0.5, outliers=0.0)
    flat = scale_data_sets(made.sets, MMM, surface=False)
    bent = scale_data_sets(made.sets, MMM)
    without = np.mean([w.std() for w in errors_of_scale(made, flat)])
    with_it = np.mean([w.std() for w in errors_of_scale(made, bent)])
    assert without > 0.08
    assert with_it < 0.4 * without
    assert flat.sets[0].surface.shape == (0, 2)


def test_flicker_is_followed_when_asked_for(crystals):
    made = crystals(8, flicker=0.1, outliers=0.0)
    smooth = scale_data_sets(made.sets, MMM)
    each = scale_data_sets(made.sets, MMM, frame_jitter=0.1)
    rms = [np.mean([w.std() for w in errors_of_scale(made, scaled)]) for scaled in (smooth, each)]
    assert rms[0] > 0.09
    assert rms[1] < 0.5 * rms[0]


def test_a_crystal_whose_sigmas_are_too_small_is_told_from_the_others(crystals):
    made = crystals(8, understated=3.0, outliers=0.0)
    scaled = scale_data_sets(made.sets, MMM)
    a = np.array([s.error.a for s in scaled.sets])
    assert a[0] == pytest.approx(3, rel=0.15)
    assert a[1:] == pytest.approx(1, rel=0.12)


def test_one_crystal_keeps_its_scale(crystals):
    made = crystals(1, outliers=0.0)
    scaled = scale_data_sets(made.sets, MMM)
    assert scaled.sets[0].scale == pytest.approx(1, rel=0.15)
    assert scaled.sets[0].b_A2 == pytest.approx(0, abs=0.3)
    assert scaled.chi_square == pytest.approx(1, abs=0.15)
    assert len(merge_scaled(scaled)) > 100


def test_two_crystals_without_common_reflections_stay_on_wilsons_scale(crystals):
    made = crystals(2, outliers=0.0)
    unique = [asymmetric_unit(d.hkl, MMM) for d in made.sets]
    odd = [(u.sum(axis=1) // 2) % 2 == k for k, u in enumerate(unique)]
    parts = [d.select(o) for d, o in zip(made.sets, odd, strict=True)]
    scaled = scale_data_sets(parts, MMM)
    assert [s.component for s in scaled.sets] == [0, 1]
    assert [s.n_common for s in scaled.sets] == [0, 0]
    assert any("Wilson" in note for note in scaled.notes)
    step = [
        np.mean(np.log(f) - ln[o])
        for f, ln, o in zip(scaled.factor, made.ln_scale, odd, strict=True)
    ]
    assert abs(step[0] - step[1]) < 0.5  # a factor that is e^1.2 before
    assert len(merge_scaled(scaled)) == len(
        np.unique(np.concatenate([u[o] for u, o in zip(unique, odd, strict=True)]), axis=0)
    )


def test_copies_count_once(crystals):
    made = crystals(2)
    alone = scale_data_sets(made.sets, MMM)
    copies = [replace(made.sets[0], name=f"copy {k}") for k in range(20)]
    # exported in other units, and on another orientation's indices
    copies.append(
        replace(
            made.sets[0],
            name="scaled",
            hkl=made.sets[0].hkl * np.array([-1, -1, 1], np.int32),
            intensity=made.sets[0].intensity * 0.37,
            sigma=made.sets[0].sigma * 0.37,
        )
    )
    scaled = scale_data_sets([*made.sets, *copies], MMM)
    assert set(scaled.excluded) == {c.name for c in copies}
    assert scaled.excluded["scaled"] == "a copy of crystal 0: counted once"
    assert scaled.chi_square == alone.chi_square
    assert np.array_equal(merge_scaled(scaled).sigma, merge_scaled(alone).sigma)


def test_200_copies_of_one_series_are_one_series(crystals):
    made = crystals(1)
    copies = [replace(made.sets[0], name=f"copy {k}") for k in range(200)]
    scaled = scale_data_sets(copies, MMM)
    assert len(scaled.data) == 1
    assert len(scaled.excluded) == 199
    assert len(scaled.notes) < 30
    assert np.array_equal(scaled.data[0].sigma, scale_data_sets(made.sets, MMM).data[0].sigma)


def test_frames_after_the_crystal_left_are_left_out(crystals):
    made = crystals(5, lost_after=0.5, outliers=0.0)
    scaled = scale_data_sets(made.sets, MMM)
    x = (made.sets[0].frame + 0.5) / made.sets[0].n_frames
    # a stretch that is partly there may go either way
    assert scaled.outlier[0][x > 0.57].all()
    assert np.mean(scaled.outlier[0][x < 0.43]) < 0.01
    assert any("crystal 0: frames" in note for note in scaled.notes)
    assert all(o.mean() < 0.01 for o in scaled.outlier[1:])


def test_intensities_that_are_all_zero_are_refused_by_name(crystals):
    made = crystals(2)
    zero = replace(made.sets[0], name="empty", intensity=np.zeros(len(made.sets[0])))
    scaled = scale_data_sets([zero, made.sets[1]], MMM)
    assert scaled.excluded == {"empty": f"all {len(zero)} intensities are zero"}
    with pytest.raises(UserError, match="intensities are zero"):
        scale_data_sets([zero], MMM)


def test_what_cannot_be_scaled_together(crystals):
    first, second = crystals(2).sets
    with pytest.raises(UserError, match="no data sets"):
        scale_data_sets([], MMM)
    with pytest.raises(UserError, match="2 data sets of this name"):
        scale_data_sets([first, replace(second, name=first.name)], MMM)
    other = replace(second, cell=(20.1, 19.7, 13.1, 90.0, 90.0, 90.0))
    with pytest.raises(UserError, match="one phase at a time"):
        scale_data_sets([first, other], MMM)
    with pytest.raises(ValueError, match="without a finite intensity and a positive sigma"):
        replace(first, sigma=np.full(len(first), np.nan))


def test_a_handful_of_observations_is_no_reason_to_fail(crystals):
    made = crystals(2)
    few = [d.select(np.arange(3)) for d in made.sets]
    scaled = scale_data_sets(few, MMM)
    assert any("as integrated" in note for note in scaled.notes)
    assert not np.concatenate(scaled.outlier).any()
