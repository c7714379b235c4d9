from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from ewaldflow.lib.cbed import Camera, simulate_graphene, with_dose
from ewaldflow.lib.errors import UserError
from ewaldflow.lib.geometry import EllipticalDistortion
from ewaldflow.lib.overfocus.calibration import ScanCalibration
from ewaldflow.lib.rings.calibration import RingCalibration
from ewaldflow.lib.rrvae.denoise import components
from ewaldflow.lib.rrvae.preprocess import PreprocessConfig, prepare
from ewaldflow.lib.rrvae.resample import CONSTANT, NEGATIVE, NOT_FINITE, SATURATED, binning

SMALL = {"scan_shape": (12, 12)}
PLAIN = PreprocessConfig()


@pytest.fixture(scope="module")
def clean():
    return simulate_graphene(**SMALL)


def apply(bins, frames, **choices):
    out = np.empty((len(frames), *bins.shape), np.float32)
    known = {"pedestal": 0.0, "scale": 1.0, "lowest": -1.0, "saturation": np.inf} | choices
    return out, bins.apply(frames, out, **known)


# --- binning -----------------------------------------------------------------------------------


def test_whole_numbers_bin_exactly():
    frames = np.random.default_rng(0).poisson(50, (3, 32, 32)).astype(np.uint16)
    bins = binning(np.zeros((32, 32), bool), (15.5, 15.5), (8, 8), 4)
    out, flags = apply(bins, frames)
    assert np.array_equal(out, frames.reshape(3, 8, 4, 8, 4).sum((2, 4)))
    assert not flags.any()
    assert not bins.mask.any()


def test_half_a_pixel_off_shares_counts():
    frame = np.zeros((1, 16, 16), np.float32)
    frame[0, 8, 8] = 100
    bins = binning(np.zeros((16, 16), bool), (7.5, 7.0), (16, 16), 1)
    out, _ = apply(bins, frame)
    assert out[0, 8, 8] == out[0, 8, 9] == 50
    assert out.sum() == 100
    assert bins.mask[:, 0].all()  # half of it lies beyond the detector
    assert bins.mask.sum() == 16


@settings(max_examples=10, deadline=None)
@given(st.floats(14, 18), st.floats(14, 18), st.floats(1.5, 4), st.integers(0, 9))
def test_no_electron_of_the_inside_is_lost(row, column, bin_px, seed):
    frames = np.zeros((1, 33, 33))
    frames[0, 14:19, 14:19] = np.random.default_rng(seed).poisson(50, (5, 5))
    out, _ = apply(binning(np.zeros((33, 33), bool), (row, column), (12, 12), bin_px), frames)
    assert out.sum() == pytest.approx(frames.sum(), rel=0.06)


def test_masked_raw_pixels_mask_what_they_reach():
    mask = np.zeros((32, 32), bool)
    mask[5, 9] = True
    frames = np.ones((1, 32, 32))
    frames[0, 5, 9], frames[0, 0, 0] = np.nan, 2
    out, flags = apply(binning(mask, (15.5, 15.5), (8, 8), 4), frames)
    assert not flags.any()
    bins = binning(mask, (15.5, 15.5), (8, 8), 4)
    assert np.argwhere(bins.mask).tolist() == [[1, 2]]
    assert out[0, 1, 2] == 0
    assert out[0].sum() == 63 * 16 + 1


@pytest.mark.parametrize("kind", ["u1", "<u2", ">u2", "i4", "u8", "f2", "<f4", ">f8"])
def test_counts_of_any_type(kind):
    frames = np.random.default_rng(0).integers(0, 100, (2, 16, 16)).astype(kind)
    out, _ = apply(binning(np.zeros((16, 16), bool), (7.5, 7.5), (8, 8), 2), frames)
    assert np.array_equal(out, frames.astype(float).reshape(2, 8, 2, 8, 2).sum((2, 4)))


def test_bad_patterns_are_told():
    frames = np.ones((5, 16, 16))
    frames[:, 3, 3] = 2
    frames[1, 2, 2], frames[2, 2, 2], frames[3] = np.nan, -7, 1
    frames[4, 2, 2] = 900
    bins = binning(np.zeros((16, 16), bool), (7.5, 7.5), (8, 8), 2)
    _, flags = apply(bins, frames, saturation=900)
    assert flags.tolist() == [0, NOT_FINITE, NEGATIVE, CONSTANT, SATURATED]


def test_an_ellipse_becomes_a_circle():
    y, x = np.indices((128, 128)) - 63.5
    lens = EllipticalDistortion(1.1, 30.0)
    ideal = np.linalg.inv(lens.matrix) @ np.stack([x.ravel(), y.ravel()])
    frame = (np.hypot(*ideal) < 45).reshape(1, 128, 128).astype(float)
    out, _ = apply(binning(np.zeros((128, 128), bool), (63.5, 63.5), (64, 64), 2, lens), frame)
    row, column = (np.arange(64) - 31.5)[:, None], np.arange(64) - 31.5
    inertia = [(out[0] * f).sum() / out[0].sum() for f in (row**2, column**2, row * column)]
    assert inertia[0] == pytest.approx(inertia[1], rel=0.015)  # 21 % before
    assert abs(inertia[2]) < 0.01 * inertia[0]
    assert out.sum() == pytest.approx(frame.sum(), rel=0.02)  # areas stay


# --- the whole preparation ---------------------------------------------------------------------


def test_patterns_are_electrons_whatever_the_gain_and_the_variance_is_theirs(clean):
    counted = with_dose(clean, 1e5, 0)
    one = prepare(counted, PLAIN)
    raised = counted.with_(frames=counted.frames * 7.0 + 30, gain=7.0, pedestal=30.0)
    other = prepare(raised, PLAIN)
    assert np.allclose(one.data, other.data, atol=1e-3)
    assert one.dose == pytest.approx(1e5 * clean.frames.sum((2, 3)).mean(), rel=1e-3)
    assert np.allclose(one.mean, np.asarray(counted.frames, float).mean((0, 1)), atol=1e-6)
    assert np.allclose(one.variance[0], np.maximum(one.mean, 0.01), rtol=1e-5)
    chi2 = (one.data**2 * 2 * one.weight)[:, 2 * one.mean > 1]
    assert chi2.mean() == pytest.approx(1.0, abs=0.06)  # 3 to 4 % are signal
    assert np.abs(one.data.mean(0)).max() < 1e-4
    assert one.centre_px == (31.5, 31.5)
    assert one.disc_radius_px == pytest.approx(31 / 1.038, abs=0.1)
    assert one.pixel_mrad == pytest.approx(1.038)
    assert one.choices["found"]["electrons_per_count"] == 1
    assert one.choices["pca"] is None


def test_noise_that_is_not_of_counting(clean):
    counted = with_dose(clean, 1e5, 0)
    plain = prepare(counted, PLAIN)
    more = prepare(counted, PreprocessConfig(read_noise_e=3.0, excess_noise=2.0))
    bright = plain.mean > 1
    expected = 2 * plain.mean[bright] + 9
    assert np.allclose(more.variance[0][bright], expected, rtol=1e-4)
    binned = prepare(counted, PreprocessConfig(read_noise_e=3.0, shape=(32, 32)))
    assert np.allclose(binned.variance[0] - binned.mean, 4 * 9, rtol=1e-3)  # four pixels read


@pytest.mark.parametrize(("stated", "ratio"), [(1.0, 1.0), (0.4, 0.4), (3.0, 3.0)])
def test_a_wrong_gain_is_told_by_the_noise(stated, ratio):
    scan = with_dose(simulate_graphene(scan_shape=(20, 20)), 3e4, 0)  # gain 1
    found = prepare(scan, PreprocessConfig(gain=stated))
    # electrons = counts / gain vary as counts / gain²
    assert found.choices["found"]["noise_ratio"] == pytest.approx(1 / ratio, rel=0.06)
    told = [note for note in found.notes if "times as much as gain" in note]
    assert len(told) == (ratio != 1)


def test_sharing_counts_between_pixels_is_no_wrong_gain():
    scan = simulate_graphene(camera=Camera((65, 65)), scan_shape=(20, 20))
    off = PreprocessConfig(centre=(31.6, 32.4), bin_px=1.0)
    found = prepare(with_dose(scan, 3e4, 0), off)
    assert found.choices["found"]["noise_ratio"] == pytest.approx(1, abs=0.1)
    assert found.notes == ()


def test_descan_that_is_left_in_is_noted(clean):
    known = ScanCalibration(
        "cal", (8, 8), (64, 64), np.eye(2), np.diag([0.1, 0.0]), (31.5, 31.5), 29.9
    )
    found = prepare(clean, PreprocessConfig(pseudo_dose=1e6), calibration=known)
    assert "descan moves the disc by up to 0.60 prepared pixels" in found.notes[0]


def test_one_hot_pixel_changes_nothing_else(clean):
    counted = with_dose(clean, 1e5, 0)
    hot = np.array(counted.frames)
    hot[:, :, 20, 25] = 60000
    a, b = prepare(counted, PLAIN), prepare(counted.with_(frames=hot), PLAIN)
    rest = np.ones((64, 64), bool)
    rest[20, 25] = False
    assert np.array_equal(a.weight[0][rest], b.weight[0][rest])
    assert np.array_equal(a.data[:, rest], b.data[:, rest])
    assert b.weight[0, 20, 25] < 1e-5


def test_noise_free_patterns_need_a_dose_to_be_stated(clean):
    with pytest.raises(UserError, match=r"graphene, gain: found none stated.*pseudo_dose"):
        prepare(clean, PLAIN)
    found = prepare(clean, PreprocessConfig(pseudo_dose=1e6))
    assert found.dose == pytest.approx(1e6, rel=1e-3)
    twice = prepare(clean, PreprocessConfig(pseudo_dose=2e6))
    assert np.allclose(twice.data, 2 * found.data, atol=1e-2)
    bright = found.mean > 1
    assert np.allclose(twice.weight[0][bright], found.weight[0][bright] / 2, rtol=1e-4)


@pytest.mark.parametrize("centre", [(31.5, 31.5), (28.2, 34.9)])
def test_a_shifted_disc_comes_to_the_middle(centre):
    camera = Camera((72, 72), centre_px=(centre[0] + 4, centre[1] + 4))
    found = prepare(
        simulate_graphene(camera=camera, **SMALL), PreprocessConfig(pseudo_dose=1e6, bin_px=1.0)
    )
    assert found.choices["found"]["centre_px"] == pytest.approx(camera.centre_px, abs=0.05)
    straight = prepare(simulate_graphene(**SMALL), PreprocessConfig(pseudo_dose=1e6))
    bright = ~(found.mask | straight.mask)
    assert bright.mean() > 0.9
    rim = np.abs(found.data - straight.data)[:, bright].mean()
    assert rim < 0.1 * np.abs(straight.data)[:, bright].mean() + 1e-9


def test_detectors_that_are_not_square():
    camera = Camera((80, 130), (0.9, 0.9))
    found = prepare(simulate_graphene(camera=camera, **SMALL), PreprocessConfig(pseudo_dose=1e6))
    assert found.choices["found"]["bin_px"] == 3  # 130 columns into 64
    assert found.mask[:18].all()  # 80 rows fill 26 of 64
    assert not found.mask[20:44, 12:52].any()
    assert found.data[:, found.mask].max() == 0


def test_masks(clean):
    config = PreprocessConfig(pseudo_dose=1e6, ring_px=(27.0, 29.0), outer_discs=1.05)
    found = prepare(clean, config)
    radius = np.hypot(*(np.indices((64, 64)) - 31.5))
    assert found.mask[(radius > 27) & (radius < 29)].all()
    assert found.mask[radius > 1.05 * 29.9].all()
    assert not found.mask[radius < 26.9].any()
    assert (found.weight[0][found.mask] == 0).all()
    with pytest.raises(UserError, match="every pixel masked"):
        prepare(clean, PreprocessConfig(pseudo_dose=1e6, ring_px=(0, 99)))


def test_the_ring_that_all_share_goes_with_the_mean(clean):
    counts = np.asarray(with_dose(clean, 1e5, 0).frames, float)
    radius = np.hypot(*(np.indices((64, 64)) - 31.5))
    ring = np.random.default_rng(1).poisson(200 * np.exp(-((radius - 27) ** 2)), counts.shape)
    scan = with_dose(clean, 1e5, 0).with_(frames=counts + ring)
    found = prepare(scan, PLAIN)
    assert np.abs(found.data.mean(0)).max() < 1e-3
    assert found.variance[0, 31, 4] > 100  # and its noise is known
    kept = prepare(scan, PreprocessConfig(subtract="none"))
    assert kept.mean.max() == 0
    assert np.allclose(kept.data.mean(0), found.mean, rtol=1e-3, atol=1e-3)


def test_bad_patterns_are_left_out_and_noted(clean):
    counts = np.array(with_dose(clean, 1e5, 0).frames, float)
    counts[0, 3, 30, 30] = np.nan
    counts[2, 5, 10, 10] = -4
    counts[4] = 7
    missing = np.zeros(SMALL["scan_shape"], bool)
    missing[11, 11] = True
    scan = with_dose(clean, 1e5, 0).with_(frames=counts, missing=missing)
    found = prepare(scan, PLAIN)
    assert len(found) == 144 - 1 - 1 - 12 - 1
    text = " ".join(found.notes)
    assert "1 patterns, the first at (0, 3), hold numbers that are not finite" in text
    assert "1 patterns, the first at (2, 5), hold counts below the pedestal" in text
    assert "12 patterns, the first at (4, 0), have the same value in all pixels" in text
    assert "1 scan points have no pattern" in text
    back = found.map_of(found.data[:, 30, 31] + found.mean[30, 31])
    assert np.allclose(back[5], counts[5, :, 30, 31], atol=1e-3)
    assert np.isnan(back[0, 3])
    assert np.isnan(back[4]).all()


def test_often_saturated_pixels_are_masked_and_rare_ones_cost_the_pattern(clean):
    scan = with_dose(clean, 1e5, 0)
    counts = np.array(scan.frames)
    counts[:, :, 5, 40] = 5000
    counts[6, 6, 30, 30] = 5000
    found = prepare(scan.with_(frames=counts, saturation=5000.0), PLAIN)
    assert found.mask[5, 40]
    assert found.mask.sum() == 1
    assert len(found) == 143
    assert found.notes[0].startswith("1 pixels are saturated in more than 1 %")


def test_scans_with_nothing_to_learn(clean):
    scan = with_dose(clean, 1e5, 0)
    constant = scan.with_(frames=np.full(scan.frames.shape, 3.0))
    with pytest.raises(UserError, match="the same value everywhere"):
        prepare(constant, PLAIN)
    with pytest.raises(UserError, match="0 patterns to learn from; the others have the same"):
        prepare(constant, PreprocessConfig(centre=(31.5, 31.5)))
    with pytest.raises(UserError, match="no pattern at all"):
        prepare(scan.with_(missing=np.ones(scan.scan_shape, bool)), PLAIN)
    empty = scan.with_(frames=np.zeros(scan.frames.shape))
    with pytest.raises(UserError, match="without intensity"):
        prepare(empty, PreprocessConfig(pseudo_dose=1e5))


def test_ten_patterns_are_prepared_with_a_warning():
    scan = with_dose(simulate_graphene(scan_shape=(2, 5)), 1e6, 0)
    found = prepare(scan, PreprocessConfig(pca="noise"))
    assert len(found) == 10
    assert "only 10 patterns" in found.notes[0]


def test_calibrations_are_asked_for_and_must_fit(clean):
    with pytest.raises(UserError, match="overfocus calibration: found none"):
        prepare(clean, PreprocessConfig(pseudo_dose=1e6, centre="calibration"))
    with pytest.raises(UserError, match="ring calibration: found none"):
        prepare(clean, PreprocessConfig(pseudo_dose=1e6, distortion="rings"))
    known = ScanCalibration(
        "cal", (8, 8), (64, 64), np.eye(2), np.zeros((2, 2)), (31.5, 31.5), 29.9
    )
    found = prepare(
        clean, PreprocessConfig(pseudo_dose=1e6, centre="calibration"), calibration=known
    )
    assert found.choices["found"]["centre_px"] == [31.5, 31.5]
    with pytest.raises(UserError, match=r"one for frames of \(32, 32\)"):
        prepare(
            clean,
            PreprocessConfig(pseudo_dose=1e6, centre="calibration"),
            calibration=replace(known, shape=(32, 32)),
        )
    rings = RingCalibration("r", (64, 64), "Au", 0.05, 0.055, 53.0, (31.5, 31.5))
    plain = prepare(clean, PreprocessConfig(pseudo_dose=1e6))
    assert np.allclose(
        prepare(clean, PreprocessConfig(pseudo_dose=1e6, distortion="rings"), rings=rings).data,
        plain.data,
    )


def test_a_camera_length_that_does_not_fit_the_disc_is_noted(clean):
    scan = clean.with_(camera_length_mm=clean.camera_length_mm * 1.3)
    found = prepare(scan, PreprocessConfig(pseudo_dose=1e6))
    assert "convergence angle and camera length say 38.8 px" in found.notes[0]


def test_out_of_memory_patterns_are_the_same(clean, tmp_path):
    scan = with_dose(clean, 1e5, 0)
    spooled = prepare(scan, PLAIN, spool=tmp_path / "patterns.npy", threads=2)
    assert isinstance(spooled.data.base, np.memmap) or isinstance(spooled.data, np.memmap)
    assert np.array_equal(spooled.data, prepare(scan, PLAIN).data)


# --- principal components ----------------------------------------------------------------------


def test_pure_noise_has_no_component():
    noise = np.random.default_rng(0).poisson(30, (20, 25, 16, 16))
    found = prepare(
        simulate_graphene(scan_shape=(20, 25)).with_(
            frames=noise, mask=np.zeros((16, 16), bool), gain=1.0
        ),
        PreprocessConfig(centre=(7.5, 7.5), shape=(16, 16), pca="noise"),
    )
    assert "no principal component stands out" in found.notes[-1]
    basis = components(found, 3)
    assert basis.edge == pytest.approx((1 + np.sqrt(256 / 500)) ** 2)
    assert basis.eigenvalues[0] == pytest.approx(basis.edge, rel=0.05)


def test_components_are_those_of_a_full_decomposition(clean):
    patterns = prepare(with_dose(clean, 1e6, 0), PLAIN)
    basis = components(patterns, 3)
    white = patterns.data.reshape(144, -1)[:, basis.pixels] / basis.sigma
    singular = np.linalg.svd(white, compute_uv=False)
    assert np.allclose(basis.eigenvalues, singular[:3] ** 2 / 144, rtol=1e-3)
    assert np.allclose(basis.vectors @ basis.vectors.T, np.eye(3), atol=1e-4)


def test_denoising_comes_nearer_to_the_truth(clean):
    counted = with_dose(clean, 3e5, 0)
    truth = np.asarray(clean.frames, float).reshape(144, 64, 64) * 3e5
    truth -= truth.mean(0)
    raw = prepare(counted, PLAIN)
    denoised = prepare(counted, PreprocessConfig(pca="noise"))
    rms = [np.sqrt(((p.data - truth) ** 2).mean()) for p in (raw, denoised)]
    assert rms[1] < 0.35 * rms[0]
    assert np.array_equal(raw.variance, denoised.variance)
    assert "stand out of the noise" in denoised.notes[-1]
    assert len(denoised.choices["found"]["pca_eigenvalues"]) >= 2


@pytest.mark.parametrize(
    "bad",
    [
        {"gain": 0},
        {"pseudo_dose": -1},
        {"shape": (4, 64)},
        {"pca": 0},
        {"ring_px": (9, 3)},
        {"subtract": "median"},
        {"scale": 1},
    ],
)
def test_impossible_choices(bad):
    with pytest.raises(ValidationError):
        PreprocessConfig(**bad)


def test_a_centre_off_the_detector(clean):
    with pytest.raises(UserError, match="centre: found"):
        prepare(clean, PreprocessConfig(pseudo_dose=1e6, centre=(99.0, 3.0)))
