"""Scale, symmetry, errors and outliers of one lattice's intensities."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from ewaldflow.lib.crystal.cell import d_spacing_A
from ewaldflow.lib.reduction.correction import comparable, correct
from ewaldflow.lib.reduction.result import Flag, Reflections
from ewaldflow.lib.reduction.statistics import chi_square_of_equivalents, equivalents

CELL = (10.0, 10.0, 14.0, 90, 90, 90)
N_FRAMES = 100
MMM = np.array([np.diag(d) for d in ((1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1))])


def measured(operators=MMM, *, b=0.05, scale=None, seed=1):
    """Reflections of a crystal with these rotations; errors b I beyond the counting ones."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*(np.arange(-m, m + 1) for m in (8, 8, 11))), -1).reshape(-1, 3)
    hkl = grid[(d_spacing_A(grid, CELL) > 1.2) & np.any(grid != 0, axis=1)]
    hkl = hkl[rng.random(len(hkl)) < 0.7]
    group = equivalents(hkl, operators)
    n, d = len(hkl), d_spacing_A(hkl, CELL)
    truth = rng.exponential(1000, group.max() + 1)[group] * np.exp(-2 / d**2) + 5
    frame = rng.uniform(0, N_FRAMES - 1, n)
    factor = np.ones(n) if scale is None else scale(frame)
    sigma = np.sqrt(truth * factor + 20)
    intensity = truth * factor + np.hypot(sigma, b * truth * factor) * rng.normal(size=n)
    zero = np.zeros(n)
    return truth, Reflections(
        hkl=hkl.astype(np.int32),
        intensity_sum=intensity,
        sigma_sum=sigma,
        intensity=intensity,
        sigma=sigma,
        background=zero,
        frame=frame,
        angle_deg=0.6 * frame,
        row=zero,
        column=zero,
        observed_row=zero,
        observed_column=zero,
        partiality=zero + 1,
        lorentz=zero + 1,
        d_A=d,
        flags=np.zeros(n, np.uint32),
    )


def test_the_symmetry_of_the_intensities_not_of_the_metric():
    _, r = measured()
    done = correct(r, "tP", N_FRAMES, 60.0)
    assert done.laue.laue_class == "mmm"
    assert done.laue.n_seen == 3
    assert sum(done.laue.contradicted) == 4  # the four-folds and the diagonal two-folds
    assert "mmm: 3 of 7 rotations of the tP lattice seen" in done.note
    assert_array_equal(done.reflections.hkl, r.hkl)


def test_sigmas_become_honest():
    _, r = measured(b=0.1)
    before = chi_square_of_equivalents(equivalents(r.hkl, MMM), r.intensity, r.sigma)
    done = correct(r, "oP", N_FRAMES, 60.0).reflections
    after = chi_square_of_equivalents(equivalents(r.hkl, MMM), done.intensity, done.sigma)
    assert before > 1.5
    assert after == pytest.approx(1, abs=0.15)
    assert_allclose(done.sigma_sum, done.sigma)


def test_the_scale_is_taken_out_of_intensities_and_sigmas():
    def wave(frame):
        return 1 + 0.3 * np.cos(np.pi * frame / N_FRAMES)

    truth, r = measured(scale=wave)
    done = correct(r, "oP", N_FRAMES, 60.0)
    expected = wave(np.arange(N_FRAMES))
    assert_allclose(
        done.frame_scale / done.frame_scale.mean(), expected / expected.mean(), rtol=0.06
    )
    at = np.interp(r.frame, np.arange(N_FRAMES), done.frame_scale)
    assert_allclose(done.reflections.intensity, r.intensity / at)
    assert_allclose(done.reflections.intensity_sum, r.intensity_sum / at)
    strong = truth > 300
    ratio = done.reflections.intensity[strong] / truth[strong]
    assert np.std(ratio) / np.mean(ratio) < 0.1


def test_outliers_are_flagged_and_others_are_not():
    _, r = measured(b=0.02)
    intensity = r.intensity.copy()
    wrong = (np.arange(len(r)) % 100 == 0) & (intensity > 200)
    intensity[wrong] *= 3
    done = correct(Reflections(**{**vars(r), "intensity": intensity}), "oP", N_FRAMES, 60.0)
    flagged = done.reflections.has(Flag.OUTLIER)
    grouped = np.bincount(equivalents(r.hkl, MMM))[equivalents(r.hkl, MMM)] >= 4
    assert flagged[wrong & grouped].mean() > 0.9
    assert flagged[~wrong].mean() < 0.01
    assert wrong.sum() > 5
    assert f"{flagged.sum()} outliers" in done.note


def test_what_cannot_be_compared_decides_nothing():
    _, r = measured()
    flags, partiality = r.flags.copy(), r.partiality.copy()
    intensity, sigma = r.intensity.copy(), r.sigma.copy()
    flags[0], flags[1], flags[2] = Flag.OVERLAP, Flag.BACKGROUND, Flag.SATURATED
    partiality[3], partiality[4] = 0.5, 0.8
    intensity[5], sigma[6] = np.nan, 0.0
    changed = Reflections(
        **{
            **vars(r), "flags": flags, "partiality": partiality, "intensity": intensity,
            "sigma": sigma,
        }
    )  # fmt: skip
    assert_array_equal(np.flatnonzero(~comparable(changed)[:8]), [0, 1, 3, 5, 6])


@pytest.mark.parametrize("n", [0, 1, 30])
def test_few_reflections_are_left_as_they_are(n):
    _, r = measured()
    done = correct(r[:n], "oP", N_FRAMES, 60.0)
    assert_array_equal(done.reflections.intensity, r.intensity[:n])
    assert_array_equal(done.reflections.sigma, r.sigma[:n])
    assert_array_equal(done.frame_scale, 1)
    assert "too few equivalents to scale the frames" in done.note
    assert "too few equivalents for an error model" in done.note


def test_nothing_to_compare_is_said_in_a_sentence():
    _, r = measured()
    hidden = replace(r, flags=np.full(len(r), np.uint32(Flag.OVERLAP)))
    for reflections in (hidden, r[:0]):
        done = correct(reflections, "tP", N_FRAMES, 60.0)
        assert f"none of {len(reflections)} reflections can be compared" in done.note
        assert done.laue.laue_class == "-1"
        assert done.laue.n_seen == 0
        assert_array_equal(done.frame_scale, 1)
        assert_array_equal(done.reflections.intensity, reflections.intensity)


def test_saturated_reflections_tell_no_scale():
    def fading(frame):
        return np.exp(-frame / N_FRAMES)

    _, r = measured(scale=fading)
    wrong = np.random.default_rng(2).random(len(r)) < 0.3
    flags = np.where(wrong, np.uint32(Flag.SATURATED), np.uint32(0))
    lost = np.where(wrong, np.exp(1.5 * r.frame / N_FRAMES - 1), 1.0) * r.intensity
    done = correct(replace(r, intensity=lost, flags=flags), "oP", N_FRAMES, 60.0)
    ratio = done.frame_scale / fading(np.arange(N_FRAMES))
    assert_allclose(ratio / ratio.mean(), 1, atol=0.06)
