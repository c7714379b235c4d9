"""Shoeboxes, profiles and intensities of a stack of frames whose intensities are known."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import ndtr
from scipy.stats import norm

from ewaldflow.lib.geometry import Geometry
from ewaldflow.lib.reduction.engine import reduce_series
from ewaldflow.lib.reduction.integration import (
    REACH,
    Integrated,
    box_centres,
    integrate,
)
from ewaldflow.lib.reduction.prediction import Predictions, at_frames, predict
from ewaldflow.lib.reduction.refinement import Model
from ewaldflow.lib.reduction.result import Flag
from ewaldflow.lib.reduction.rocking import RockingCurve
from ewaldflow.lib.reduction.shoeboxes import ShoeboxCutter, Slices, place_slices, plan_slices
from ewaldflow.lib.simulation import judge, standard_set

SHAPE = (256, 250)
N_FRAMES = 40
ROCKING = RockingCurve(2.5e-3, 1.5e-3)
SPOT_PX = 1.1
CORE_PX = 3.0
GEOMETRY = Geometry(
    wavelength_A=0.025079,
    pixel_size_mm=0.055,
    distance_mm=226.0,
    beam_centre_px=(118.0, 114.0),
    axis=(-0.62, 0.78, 0.0),
)
LEVEL = 2.0  # background, electrons per pixel


@dataclass(frozen=True)
class Stack:
    """A crystal's frames, and the electrons of each of its reflections."""

    model: Model
    predictions: Predictions
    electrons: np.ndarray
    expected: np.ndarray  # (frames, rows, columns)

    def frames(self, seed):
        return np.random.default_rng(seed).poisson(self.expected).astype(np.float32)


def swept(model, predictions, frame):
    """Excitation errors at both ends of a frame, from the diffracted beam's length."""
    g = model.geometry
    ends = [
        np.linalg.norm(model.diffracted(predictions.hkl, frame + half) + g.s0, axis=1)
        - 1 / g.wavelength_A
        for half in (-0.5, 0.5)
    ]
    return np.minimum(*ends), np.maximum(*ends)


def paint(model, predictions, electrons, frames=range(N_FRAMES)):
    """Expected electrons of Gaussian spots with Gaussian rocking curves."""
    expected = np.zeros((len(frames), *SHAPE))
    sigma = ROCKING.sigma(predictions.length)
    edges = [np.arange(n + 1) - 0.5 for n in SHAPE]
    for i, f in enumerate(frames):
        at = np.full(len(predictions), float(f))
        low, high = swept(model, predictions, at)
        part = electrons * (ndtr(high / sigma) - ndtr(low / sigma))
        rc = model.geometry.to_pixel(model.diffracted(predictions.hkl, at), model.centre_px(at))
        for k in np.flatnonzero(part > 1e-3):
            across = [np.diff(norm.cdf(e, v, SPOT_PX)) for e, v in zip(edges, rc[k], strict=True)]
            expected[i] += part[k] * np.outer(*across)
    return expected


@pytest.fixture(scope="module")
def stack(make_model) -> Stack:
    model = make_model((7.0, 8.0, 9.5, 88.0, 97.0, 102.0), n_frames=N_FRAMES, geometry=GEOMETRY)
    predictions = predict(model, "aP", 0.95, SHAPE, margin_frames=8.0, d_max_A=8.0)
    predictions = predictions[np.abs(predictions.rate) > 2e-3 * predictions.length]
    electrons = np.random.default_rng(3).exponential(2000.0, len(predictions)) + 20.0
    return Stack(model, predictions, electrons, LEVEL + paint(model, predictions, electrons))


def cut(stack, frames, *, valid=None, ceiling=np.inf, usable=None, others=()) -> Slices:
    """The shoeboxes of a stack; `others` are models and predictions of further lattices."""
    usable = np.ones(N_FRAMES, bool) if usable is None else usable
    valid = np.ones(SHAPE, bool) if valid is None else valid
    lattices = [
        plan_slices(model, p, ROCKING.sigma(p.length), usable, half=6, reach=REACH)
        for model, p in ((stack.model, stack.predictions), *others)
    ]
    cutter = ShoeboxCutter(lattices, SHAPE, CORE_PX, ceiling)
    for f in np.flatnonzero(usable):
        cutter.add(frames[f], valid, int(f))
    return lattices[0]


def integrated(stack, slices) -> Integrated:
    return integrate(
        stack.model, stack.predictions, slices, box_centres(slices), ROCKING, CORE_PX, N_FRAMES
    )


def electrons_of(done):
    """Fitted electrons and sigmas: intensities without the Lorentz correction."""
    r = done.reflections
    return r.intensity * r.lorentz, r.sigma * r.lorentz


def pulls(stack, done, keep=slice(None)):
    found, sigma = electrons_of(done)
    return ((found - stack.electrons[done.kept]) / sigma)[keep]


# --- shoeboxes


def test_slices_cover_the_rocking_curve_and_no_more(stack):
    usable = np.ones(N_FRAMES, bool)
    usable[[7, 20]] = False
    p = stack.predictions
    slices = plan_slices(stack.model, p, ROCKING.sigma(p.length), usable, half=6, reach=REACH)
    assert not np.isin(slices.frame, [7, 20]).any()
    assert_array_equal(np.repeat(np.arange(len(p)), np.diff(slices.start)), slices.reflection)
    reach = REACH * ROCKING.sigma(p.length)
    for i in range(len(p)):
        low, high = swept(stack.model, p[np.full(N_FRAMES, i)], np.arange(N_FRAMES, dtype=float))
        touched = np.flatnonzero((high > -0.95 * reach[i]) & (low < 0.95 * reach[i]) & usable)
        # the other crossing of the same reflection is a reflection of its own
        touched = touched[np.abs(touched - p.frame[i]) < 15]
        mine = slices.frame[slices.start[i] : slices.start[i + 1]]
        assert set(touched) <= set(mine)
        assert len(mine) <= len(touched) + 3


def test_places_and_excitation_errors_of_slices(stack):
    p = stack.predictions
    slices = plan_slices(
        stack.model, p, ROCKING.sigma(p.length), np.ones(N_FRAMES, bool), half=6, reach=REACH
    )
    at = slices.frame.astype(float)
    low, high = swept(stack.model, p[slices.reflection], at)
    assert_allclose(slices.excitation_low, low, atol=1e-12)
    assert_allclose(slices.excitation_high, high, atol=1e-12)
    moved = replace(stack.model, beam_track_px=stack.model.beam_track_px + np.array([1.5, -2.0]))
    row, column = slices.row.copy(), slices.column.copy()
    place_slices(slices, moved, p)
    assert_allclose(slices.row, row + 1.5)
    assert_allclose(slices.column, column - 2.0)


def test_boxes_are_the_pixels_of_the_frame(stack):
    frames = stack.frames(1)
    valid = np.ones(SHAPE, bool)
    valid[100] = False
    slices = cut(stack, frames, valid=valid, ceiling=400.0)
    for m in range(0, len(slices), 7):
        r0, c0 = round(slices.row[m]) - 6, round(slices.column[m]) - 6
        r, c = np.meshgrid(np.arange(r0, r0 + 13), np.arange(c0, c0 + 13), indexing="ij")
        inside = (r >= 0) & (r < SHAPE[0]) & (c >= 0) & (c < SHAPE[1])
        pixels = np.full((13, 13), np.nan)
        pixels[inside] = frames[slices.frame[m], r[inside], c[inside]]
        core = np.hypot(r - slices.row[m], c - slices.column[m]) <= CORE_PX
        assert slices.saturated[m] == np.any(core & (pixels >= 400) & (r != 100))
        assert slices.masked[m] == np.any(core & (~inside | (r == 100)))
        pixels[(pixels >= 400) | (r == 100)] = np.nan
        assert_array_equal(slices.boxes[m], pixels)


def test_a_crowded_pixel_counts_the_other_cores(stack):
    wide = 9.0  # so that neighbours reach into each other
    p = stack.predictions
    slices = plan_slices(
        stack.model, p, ROCKING.sigma(p.length), np.ones(N_FRAMES, bool), half=6, reach=REACH
    )
    cutter = ShoeboxCutter([slices], SHAPE, wide, np.inf)
    for f, frame in enumerate(stack.expected.astype(np.float32)):
        cutter.add(frame, np.ones(SHAPE, bool), f)
    on = np.all([np.abs(v - 125) < 100 for v in (slices.row, slices.column)], axis=0)
    for m in np.flatnonzero(on)[::20]:
        same = np.flatnonzero(slices.frame == slices.frame[m])
        r = round(slices.row[m]) - 6 + np.arange(13)
        c = round(slices.column[m]) - 6 + np.arange(13)
        count = sum(
            np.hypot(r[:, None] - slices.row[k], c[None] - slices.column[k]) <= wide
            for k in same
            if k != m
        )
        assert_array_equal(slices.crowd[m], count)
    assert slices.crowd.max() > 0


# --- the whole


def test_intensities_are_true_within_their_errors(stack):
    done = integrated(stack, cut(stack, stack.frames(1)))
    r = done.reflections
    whole = r.partiality > 0.99
    assert whole.sum() > 100
    clean = whole & ~r.has(Flag.OVERLAP | Flag.MASKED | Flag.BACKGROUND)
    pull = pulls(stack, done, clean)
    assert np.mean(pull) == pytest.approx(0, abs=0.3)
    assert np.mean(pull**2) == pytest.approx(1, abs=0.35)
    found, _ = electrons_of(done)
    assert np.corrcoef(found[clean], stack.electrons[done.kept][clean])[0, 1] > 0.999
    # the sums are true as well
    sums = r.intensity_sum * r.lorentz
    off = (sums - stack.electrons[done.kept]) / (r.sigma_sum * r.lorentz)
    assert np.mean(off[clean]) == pytest.approx(0, abs=0.3)
    assert np.mean(off[clean] ** 2) == pytest.approx(1, abs=0.4)
    assert_allclose(np.median(r.background[clean]), LEVEL, rtol=0.05)
    assert not r.has(Flag.SATURATED).any()


def test_boxes_stay_where_they_were_cut_when_predictions_move(stack):
    slices = cut(stack, stack.frames(1))
    centre = box_centres(slices)
    away = stack.model.beam_track_px + np.array([0.45, -0.45])
    wrong = replace(stack.model, beam_track_px=away)
    place_slices(slices, wrong, stack.predictions)  # half of them round to other pixels now
    done = integrate(
        wrong, stack.predictions, slices, centre, ROCKING, CORE_PX, N_FRAMES
    )  # fmt: skip
    seen = np.isfinite(done.reflections.observed_row) & (done.reflections.partiality > 0.99)
    seen &= ~done.reflections.has(Flag.OVERLAP | Flag.MASKED)
    p = stack.predictions[done.kept]
    # positions are told from the (moved) prediction: the spots are where they were
    r = done.reflections
    assert np.median(r.observed_row[seen] - r.row[seen]) == pytest.approx(-0.45, abs=0.1)
    assert np.median(r.observed_column[seen] - r.column[seen]) == pytest.approx(0.45, abs=0.1)
    assert np.std((r.observed_row - p.row)[seen]) < 0.3


def test_what_was_learned_on_the_way(stack):
    done = integrated(stack, cut(stack, stack.frames(1)))
    truth = ROCKING.sigma(stack.predictions.length)
    assert_allclose(done.rocking.sigma(stack.predictions.length), truth, rtol=0.1)
    known = np.isfinite(done.profile_ratio)
    assert known.sum() > 30
    assert_allclose(done.profile_ratio[known], 1, atol=0.1)
    o = done.observations
    at = at_frames(stack.model, o.hkl, o.frame)
    assert len(o.frame) > 50
    for deviation in (o.row - at.row, o.column - at.column):
        assert np.mean((deviation / o.sigma_px) ** 2) < 1.0
        assert abs(np.mean(deviation)) < 0.05
    r = done.reflections
    seen = np.isfinite(r.observed_row) & (r.partiality > 0.99) & ~r.has(Flag.OVERLAP)
    assert_allclose(r.observed_row[seen], r.row[seen], atol=0.6)


def test_lorentz_factor_by_hand():
    """(0, 5, 0) of an aligned 10 Å cube about x: 2.00004 Å rad (see test_prediction).

    Its rate is 0.4999902 per radian, so 1000 electrons are an intensity of 499.9902.
    """
    model = Model(
        orientation=np.eye(3) * 0.1,
        geometry=GEOMETRY.with_(wavelength_A=0.025, axis=(1, 0, 0)),
        beam_track_px=np.tile(GEOMETRY.beam_centre_px, (N_FRAMES, 1)),
        angle_mid_deg=0.3 * (np.arange(N_FRAMES) - N_FRAMES / 2),
        angle_step_deg=0.3,
    )
    p = predict(model, "cP", 0.9, SHAPE)
    p = p[(p.hkl == [0, 5, 0]).all(axis=1)]
    assert len(p) == 1
    one = Stack(model, p, np.array([1000.0]), LEVEL + paint(model, p, np.array([1000.0])))
    r = integrated(one, cut(one, one.expected.astype(np.float32))).reflections
    assert r.lorentz[0] == pytest.approx(1 / 0.4999902, rel=1e-6)
    assert r.intensity[0] == pytest.approx(499.99, rel=0.03)
    assert r.d_A[0] == pytest.approx(2)
    assert r.angle_deg[0] == pytest.approx(-0.358101, abs=1e-6)
    assert r.frame[0] == pytest.approx(20 - 0.358101 / 0.3, abs=1e-6)


def test_masked_pixels_are_flagged_and_do_no_harm(stack):
    valid = np.ones(SHAPE, bool)
    valid[60:200:20] = False
    frames = stack.frames(2)
    frames[:, ~valid] = 1e5
    done = integrated(stack, cut(stack, frames, valid=valid))
    r = done.reflections
    masked = r.has(Flag.MASKED)
    near = np.min(np.abs(r.row[:, None] - np.arange(60, 200, 20)), axis=1)
    assert masked[(near < 1) & (r.partiality > 0.9)].all()
    on = (r.row > 8) & (r.row < 247) & (r.column > 8) & (r.column < 241)
    assert not masked[(near > 5) & on].any()
    pull = pulls(stack, done, masked & on & (r.partiality > 0.95) & ~r.has(Flag.OVERLAP))
    assert len(pull) > 30
    assert np.median(np.abs(pull)) < 1.2


def test_saturated_pixels_are_flagged_and_fitted_around(stack):
    frames = stack.frames(3)
    ceiling = 250.0
    done = integrated(stack, cut(stack, np.minimum(frames, ceiling), ceiling=ceiling))
    r = done.reflections
    saturated = r.has(Flag.SATURATED)
    top = np.zeros(len(r))
    for k, (row, column, at) in enumerate(zip(r.row, r.column, r.frame, strict=True)):
        window = np.s_[
            max(round(at) - 1, 0) : max(round(at) + 2, 0),
            max(round(row) - 1, 0) : round(row) + 2,
            max(round(column) - 1, 0) : round(column) + 2,
        ]
        top[k] = frames[window].max(initial=0)
    assert saturated.sum() > 10
    assert saturated[(top >= ceiling) & (r.partiality > 0.95)].all()
    assert not saturated[top < 0.3 * ceiling].any()
    found, _ = electrons_of(done)
    use = saturated & (r.partiality > 0.95) & ~r.has(Flag.OVERLAP | Flag.MASKED)
    ratio = found[use] / stack.electrons[done.kept][use]
    assert np.median(ratio) == pytest.approx(1, abs=0.1)


def test_overlaps_with_another_lattice_are_flagged(stack, make_model):
    other = make_model((7.5, 8.5, 11.0, 95, 92, 88), seed=5, n_frames=N_FRAMES, geometry=GEOMETRY)
    p = predict(other, "aP", 0.95, SHAPE, d_max_A=8.0)
    p = p[np.abs(p.rate) > 2e-3 * p.length]
    strong = np.full(len(p), 5000.0)
    expected = stack.expected + paint(other, p, strong)
    frames = np.random.default_rng(1).poisson(expected).astype(np.float32)
    alone = integrated(stack, cut(stack, frames))
    done = integrated(stack, cut(stack, frames, others=((other, p),)))
    flagged, before = (d.reflections.has(Flag.OVERLAP) for d in (done, alone))
    assert flagged.sum() > before.sum() + 20
    # where the second lattice is known, what is not flagged is right
    r = done.reflections
    clean = (r.partiality > 0.99) & ~r.has(Flag.OVERLAP | Flag.MASKED | Flag.BACKGROUND)
    assert np.median(np.abs(pulls(stack, done, clean))) < 1.0
    # and flagged ones truly have another's spot within two cores
    rows = np.concatenate([stack.predictions.row, p.row])
    columns = np.concatenate([stack.predictions.column, p.column])
    frame = np.concatenate([stack.predictions.frame, p.frame])
    for k in np.flatnonzero(flagged)[::5]:
        distance = np.hypot(rows - r.row[k], columns - r.column[k])
        close = (distance < 2 * CORE_PX + 1) & (np.abs(frame - r.frame[k]) < 25)
        assert close.sum() > 1


def test_a_curve_cut_by_the_end_of_the_series_is_partial(stack):
    done = integrated(stack, cut(stack, stack.frames(4)))
    r = done.reflections
    assert_array_equal(r.has(Flag.PARTIAL), r.partiality < 0.95)
    sigma = ROCKING.sigma(1 / r.d_A)
    p = stack.predictions[done.kept]
    first, last = (
        np.sign(p.rate) * (swept(stack.model, p, np.full(len(p), f))[k])
        for f, k in ((0.0, 0), (N_FRAMES - 1.0, 1))
    )
    # what an end cuts off, where the curve is monotonous: the tail of a Gaussian
    edge = np.where(p.frame < N_FRAMES / 2, first, -last) / sigma
    near = (np.abs(p.frame - (-0.5)) < 1) & (p.rate > 0)
    assert near.sum() > 2
    expected = 1 - ndtr(edge[near])
    assert_allclose(r.partiality[near], expected, atol=0.06)
    cut_short = r.has(Flag.PARTIAL) & (r.partiality > 0.4) & ~r.has(Flag.OVERLAP | Flag.MASKED)
    assert cut_short.sum() > 10
    assert np.median(np.abs(pulls(stack, done, cut_short))) < 1.2
    whole = r.partiality > 0.99
    found, sigma_e = electrons_of(done)
    relative = sigma_e / np.maximum(found, 100)
    strong = found > 1000
    assert np.median(relative[cut_short & strong]) > 1.2 * np.median(relative[whole & strong])


def test_a_blank_frame_in_the_middle_is_bridged(stack):
    usable = np.ones(N_FRAMES, bool)
    usable[20] = False
    frames = stack.frames(5)
    frames[20] = 0
    done = integrated(stack, cut(stack, frames, usable=usable))
    r = done.reflections
    hit = (np.abs(r.frame - 20) < 1) & ~r.has(Flag.OVERLAP | Flag.MASKED)
    assert hit.sum() > 2
    assert r.has(Flag.PARTIAL)[hit].all()
    assert (r.partiality[hit] > 0.2).all()
    assert np.abs(pulls(stack, done, hit)).max() < 4
    away = (np.abs(r.frame - 20) > 8) & (np.abs(r.frame - 20) < 10)
    assert (r.partiality[away] > 0.95).all()
    assert np.isnan(done.profile_ratio[20])


def test_reflections_without_intensity_have_none_on_average(stack):
    flat = np.random.default_rng(6).poisson(LEVEL, stack.expected.shape).astype(np.float32)
    done = integrated(stack, cut(stack, flat))
    r = done.reflections
    significance = r.intensity / r.sigma
    assert np.mean(significance) == pytest.approx(0, abs=0.3)
    assert np.std(significance) == pytest.approx(1, abs=0.35)
    assert np.isnan(r.observed_row[np.abs(significance) < 3]).all()


def test_intensities_of_a_crowded_pattern_are_in_electrons():
    # neighbours' light, taken for tails of the profile, made these 10 to 30 % too large; what
    # of the spots' own tails lies in the background, 3 to 4 %, is missing
    series, truth = standard_set("MFI", 20, 1)
    figures = judge(reduce_series(series), truth)
    assert figures["intensity_ratio"] == pytest.approx(0.97, abs=0.03)
    assert figures["cc_f2"] > 0.9995
