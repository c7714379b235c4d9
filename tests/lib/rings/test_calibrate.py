"""Calibration by rings: known geometry, hard conditions, and what must be refused."""

import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from ewaldflow.lib.errors import UserError
from ewaldflow.lib.formats.image import DiffractionImage
from ewaldflow.lib.optics import electron_wavelength_A
from ewaldflow.lib.rings.assignment import best_scales, find_rings
from ewaldflow.lib.rings.calibrants import gold, load_calibrant
from ewaldflow.lib.rings.calibrate import calibrate_rings, fit_rings
from ewaldflow.lib.rings.calibration import CALIBRATED, NOT_CALIBRATED
from ewaldflow.lib.rings.centre_start import find_centre, find_round_start
from ewaldflow.lib.rings.config import RingConfig
from ewaldflow.lib.rings.masking import find_mask
from ewaldflow.lib.rings.pixel_map import ring_curve
from ewaldflow.lib.rings.polar import polar_view
from ewaldflow.lib.rings.simulate import RingConditions, simulate_rings

# a quarter of a usual image in each direction: 111 of gold at 62 px
SMALL = RingConditions(
    shape=(512, 512), distance_mm=175.0, width_px=1.6, stop_px=16, shaft_px=12, hot=20, dead=20
)
WAVELENGTH_A = SMALL.wavelength_A


def changed(**changes):
    return replace(SMALL, **changes)


@cache
def simulated(name="gold", seed=1, **changes):
    return simulate_rings(load_calibrant(name), changed(**changes), seed)


def off_centre(found, centre):
    return math.dist(found.beam_centre_px, centre)


@pytest.mark.parametrize("name", ["gold", "aluminium", "TlCl", "graphitised carbon"])
def test_calibrants_are_calibrated(name):
    image, centre = simulated(name)
    found = calibrate_rings([image], load_calibrant(name))
    assert found.verdict == CALIBRATED
    assert off_centre(found, centre) < 0.05
    assert found.distance_mm == pytest.approx(175, rel=2e-4)
    assert found.distortion.ratio == pytest.approx(1.024, abs=5e-4)
    assert found.distortion.azimuth_deg == pytest.approx(83, abs=0.6)
    assert found.calibrant == name
    assert found.sd("rot1_rad") != found.sd("rot1_rad")  # not fitted: NaN


def test_errors_are_as_large_as_stated():
    pulls = []
    for seed in range(1, 5):
        image, centre = simulated(seed=seed, peak=40.0)
        found = calibrate_rings([image], gold())
        assert found.verdict == CALIBRATED
        pulls += [
            (found.beam_centre_px[0] - centre[0]) / found.sd("beam_row_px"),
            (found.beam_centre_px[1] - centre[1]) / found.sd("beam_column_px"),
            (found.distance_mm - 175) / found.sd("distance_mm"),
            (found.distortion.ratio - 1.024) / found.sd("ratio"),
            (found.distortion.azimuth_deg - 83) / found.sd("azimuth_deg"),
        ]
    assert 0.4 < np.sqrt(np.mean(np.square(pulls))) < 1.5


@pytest.mark.parametrize(
    "condition",
    [
        {"peak": 15.0},
        {"gap_deg": (30.0, 42.0)},
        {"grains": 60},
        {"stop_px": 0.0, "shaft_px": 0.0, "saturation": 3000.0},
        {"three_fold_per_px": (8e-6, -4e-6)},
        {"background": 10.0},
        {"read_noise": 5.0, "offset": 20.0},
        {"margin_px": 9},
        {"states": False},
        {"stated_error": -0.1},
        {"centre_px": (200.0, 330.0)},
        {"ratio": 1.07, "azimuth_deg": 20.0},
    ],
    ids=str,
)
def test_hard_conditions(condition):
    image, centre = simulated(seed=7, **condition)
    found = calibrate_rings([image], gold())
    assert found.verdict == CALIBRATED, found.reasons
    assert off_centre(found, centre) < 0.1
    assert found.distance_mm == pytest.approx(175, rel=1e-3)


def test_three_fold_distortion_is_found():
    image, _ = simulated(seed=7, three_fold_per_px=(8e-6, -4e-6))
    found = calibrate_rings([image], gold())
    assert found.three_fold_per_px == pytest.approx((8e-6, -4e-6), abs=1e-6)
    without = calibrate_rings([simulated()[0]], gold())
    assert without.three_fold_per_px == (0, 0)


def test_radial_distortion_is_fitted_on_request():
    image, centre = simulated(seed=2, radial_per_mm2=1e-4)
    found = calibrate_rings([image], gold(), RingConfig(radial=True))
    assert found.radial_per_mm2 == pytest.approx(1e-4, abs=4 * found.sd("radial_per_mm2"))
    assert found.sd("radial_per_mm2") < 2e-5
    assert off_centre(found, centre) < 0.05


def test_tilt_is_told_from_the_ellipse_by_two_camera_lengths():
    tilt = {"rot1_rad": math.radians(5), "width_px": 1.2, "peak": 2000.0}
    images = [simulated(seed=4, **tilt)[0], simulated(seed=4, distance_mm=100.0, **tilt)[0]]
    centre = simulated(seed=4, **tilt)[1]
    found = calibrate_rings(images, gold(), RingConfig(tilt=True))
    assert found.verdict == CALIBRATED, found.reasons
    assert math.degrees(found.rot1_rad) == pytest.approx(5, abs=0.3)
    assert math.degrees(found.rot2_rad) == pytest.approx(0, abs=0.3)
    assert found.distortion.ratio == pytest.approx(1.024, abs=1e-3)
    assert off_centre(found, centre) < 0.05
    assert any("told apart by 2 camera lengths" in reason for reason in found.reasons)


def test_tilt_from_one_camera_length_is_called_ambiguous():
    image, _ = simulated(seed=4, rot1_rad=math.radians(5), width_px=1.2, peak=2000.0)
    found = calibrate_rings([image], gold(), RingConfig(tilt=True))
    assert any("one camera length" in reason for reason in found.reasons)


def test_tilt_with_a_known_ellipse():
    image, _ = simulated(seed=4, rot2_rad=math.radians(-5), width_px=1.2, peak=2000.0)
    config = RingConfig(tilt=True, known_distortion=(1.024, 83.0))
    found = calibrate_rings([image], gold(), config)
    assert math.degrees(found.rot2_rad) == pytest.approx(-5, abs=0.2)
    assert found.distortion.ratio == pytest.approx(1.024)
    assert any("rests on the ellipse that was given" in reason for reason in found.reasons)


def test_sample_height_changes_the_distance():
    images = [
        simulated(seed=seed, distance_mm=175.0 * (1 + 1e-5 * height), states=False)[0]
        for seed, height in ((1, 0.0), (2, 100.0), (3, 200.0))
    ]
    found = calibrate_rings(images, gold(), RingConfig(heights_um=(0.0, 100.0, 200.0)))
    assert found.height_per_um == pytest.approx(1e-5, abs=2e-6)
    assert found.height_um == 0
    assert found.distance_mm == pytest.approx(175, rel=3e-4)
    with pytest.raises(UserError, match="heights_um"):
        calibrate_rings(images, gold(), RingConfig(heights_um=(0.0, 100.0)))


def test_an_earlier_calibration_is_a_start_and_a_check():
    image, _ = simulated(states=False)
    first = calibrate_rings([image], gold())
    assert any("no camera length was stated" in reason for reason in first.reasons)
    second = calibrate_rings([image], gold(), start=first)
    assert second.verdict == CALIBRATED
    assert any("agrees to 0.0%" in reason for reason in second.reasons)
    far = replace(first, distance_mm=2 * first.distance_mm)
    assert calibrate_rings([image], gold(), start=far).verdict == NOT_CALIBRATED
    with pytest.raises(UserError, match="start from a calibration of this camera"):
        calibrate_rings([image], gold(), start=replace(first, shape=(100, 100)))


@pytest.mark.parametrize(("true", "taken"), [("gold", "TlCl"), ("TlCl", "gold")])
@pytest.mark.parametrize("stated", [True, False])
def test_wrong_calibrants_do_not_pass(true, taken, stated):
    image, _ = simulated(true)
    config = RingConfig(use_stated_scale=stated)
    try:
        verdict = calibrate_rings([image], load_calibrant(taken), config).verdict
    except UserError:  # where nothing can be fitted
        verdict = NOT_CALIBRATED
    assert verdict == NOT_CALIBRATED


def test_a_wrong_voltage_is_noticed_by_the_camera_length():
    image, _ = simulated(wavelength_A=electron_wavelength_A(300))
    config = RingConfig(wavelength_A=electron_wavelength_A(200))
    found = calibrate_rings([image], gold(), config)
    assert found.verdict == NOT_CALIBRATED
    assert "a voltage of 300 kV would explain it" in found.reasons[0]
    # and is not to be noticed without
    alone = calibrate_rings([image], gold(), config.model_copy(update={"use_stated_scale": False}))
    assert any("wrong voltage" in reason for reason in alone.reasons)


def test_one_ring_is_not_enough():
    only = load_calibrant("gold")
    one = replace(
        only, d_A=only.d_A[:1], hkl=only.hkl[:1], multiplicity=only.multiplicity[:1],
        intensity=only.intensity[:1],
    )  # fmt: skip
    image, centre = simulate_rings(one, SMALL, 3)
    found = calibrate_rings([image], gold())
    assert found.verdict == NOT_CALIBRATED
    assert any("only 1 ring" in reason for reason in found.reasons)
    assert off_centre(found, centre) < 0.2


def blank(value=10.0, shape=(256, 256)):
    return DiffractionImage("blank", np.full(shape, value), 0.025, 0.05)


def noise():
    pixels = np.random.default_rng(0).poisson(20, (256, 256))
    return DiffractionImage("noise", pixels, 0.025, 0.05)


@pytest.mark.parametrize("image", [blank(), blank(0.0), blank(np.nan)], ids=["flat", "zero", "NaN"])
def test_blank_images_are_refused(image):
    with pytest.raises(UserError, match="no contrast"):
        calibrate_rings([image], gold())


def test_images_without_rings_are_refused():
    with pytest.raises(UserError, match=r"no ring"):
        calibrate_rings([noise()], gold())
    y, x = np.mgrid[0:256, 0:256]
    halo = np.random.default_rng(0).poisson(2000 * np.exp(-np.hypot(y - 120, x - 130) / 40) + 5)
    with pytest.raises(UserError, match=r"no ring"):
        calibrate_rings([DiffractionImage("halo", halo, 0.025, 0.05)], gold())


def test_missing_pixels_do_no_harm():
    image, centre = simulated()
    pixels = image.pixels.astype(np.float32)
    pixels[100:140, 300:360] = np.nan
    found = calibrate_rings([replace(image, pixels=pixels)], gold())
    assert found.verdict == CALIBRATED
    assert off_centre(found, centre) < 0.05


def test_what_is_not_stated_is_asked_for():
    image, _ = simulated()
    with pytest.raises(UserError, match="wavelength_A"):
        calibrate_rings([replace(image, wavelength_A=None)], gold())
    with pytest.raises(UserError, match="pixel_size_mm"):
        calibrate_rings([replace(image, pixel_size_mm=None)], gold())
    with pytest.raises(UserError, match="at least one image"):
        calibrate_rings([], gold())
    with pytest.raises(UserError, match="one by one"):
        calibrate_rings([image, blank()], gold())
    with pytest.raises(UserError, match="no ring between them"):
        calibrate_rings([image], gold(), RingConfig(d_max_A=0.1))


def test_ranges_of_spacings_leave_rings_out():
    found = calibrate_rings([simulated()[0]], gold(), RingConfig(d_max_A=2.0, d_min_A=0.9))
    assert {ring.hkl for ring in found.rings} <= {
        (2, 2, 0), (3, 1, 1), (2, 2, 2), (4, 0, 0), (3, 3, 1), (4, 2, 0)
    }  # fmt: skip
    assert found.verdict == CALIBRATED


def test_points_lie_on_the_rings_drawn():
    image, _ = simulated()
    fit = fit_rings([image], gold())
    found = fit.calibrations[0]
    points = fit.points
    assert np.all(np.abs(points.residual_px[points.used]) < 6 * points.sigma_px[points.used])
    row, column = ring_curve(found, float(gold().d_A[0]), 3600)
    first = (points.ring == 0) & points.used
    nearest = np.hypot(
        points.row_px[first][:, None] - row, points.column_px[first][:, None] - column
    ).min(axis=1)
    assert np.median(nearest) < 0.3
    assert found.rings[0].n_points == np.count_nonzero(first)


def test_the_polar_view_has_straight_rings():
    image, _ = simulated()
    found = calibrate_rings([image], gold())
    view = polar_view(image.pixels, found, n_azimuth=72, n_radius=200)
    near = np.abs(view.inverse_d_per_A * gold().d_A[0] - 1) < 0.08
    seen = ~np.isnan(view.counts[:, near]).any(axis=1)
    assert seen.mean() > 0.8
    peaks = view.inverse_d_per_A[near][np.argmax(view.counts[seen][:, near], axis=1)]
    assert np.std(peaks) < 0.006
    top = view.inverse_d_per_A[near][np.nanargmax(view.profile[near])]
    assert top == pytest.approx(1 / gold().d_A[0], rel=0.02)
    waves = polar_view(image.pixels, found, corrected=False, n_radius=200)
    assert np.nanmax(waves.profile[near]) < np.nanmax(view.profile[near])


def test_the_centre_starts_from_symmetry():
    image, centre = simulated()
    good = find_mask(image.pixels).good
    counts = image.pixels.astype(np.float32)
    found, correlation = find_centre(counts, good)
    assert math.dist(found, centre) < 3
    assert correlation > 0.5
    start = find_round_start(counts, good)
    assert math.dist(start.centre_px, centre) < 0.3
    assert math.exp(2 * math.hypot(*start.stretch)) == pytest.approx(1.024, abs=0.002)


def test_scales_are_found_without_a_start():
    image, _ = simulated()
    good = find_mask(image.pixels).good
    peaks = find_rings(find_round_start(image.pixels.astype(np.float32), good))
    scales = best_scales(peaks, gold(), WAVELENGTH_A, (1.0, math.inf))
    assert scales[0].distance_px == pytest.approx(175 / 0.03, rel=1e-3)
    assert scales[0].score > 0.9
    assert all(other.score < 0.5 for other in scales[1:])
    assert best_scales(peaks, gold(), WAVELENGTH_A, (1.0, 2.0)) == []
