"""Recentring: simulated images with known centres, other substances, and images to refuse."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from ewaldflow.lib.errors import UserError
from ewaldflow.lib.formats.image import DiffractionImage
from ewaldflow.lib.geometry import EllipticalDistortion
from ewaldflow.lib.rings.calibrants import aluminium, gold
from ewaldflow.lib.rings.calibration import Ring, RingCalibration
from ewaldflow.lib.rings.recentre import NoRings, Recentred, recentre
from ewaldflow.lib.rings.recentre_kernels import hide_liars
from ewaldflow.lib.rings.simulate import RingConditions, simulate_rings
from ewaldflow.lib.rings.symmetry_start import inversion_centres

# a quarter of a usual image in each direction: 111 of gold at 100 px
SMALL = RingConditions(
    shape=(640, 640), distance_mm=282.0, width_px=2.0, stop_px=30, shaft_px=22, hot=20, dead=20
)


def calibration(c: RingConditions, off_px: tuple[float, float] = (5.0, -8.0)) -> RingCalibration:
    """What is known before: the middle of the image, wrong by `off_px`."""
    rings = tuple(
        Ring(tuple(int(i) for i in hkl), float(d), 0, 0, 0.0, 0.0, 0.0)
        for hkl, d in zip(gold().hkl[:8], gold().d_A[:8], strict=True)
    )
    return RingCalibration(
        "before", c.shape, "gold", c.wavelength_A, c.pixel_size_mm, c.distance_mm,
        (c.shape[0] / 2 + off_px[0], c.shape[1] / 2 + off_px[1]),
        EllipticalDistortion(c.ratio, c.azimuth_deg), c.three_fold_per_px, c.radial_per_mm2,
        c.rot1_rad, c.rot2_rad, rings=rings,
    )  # fmt: skip


@cache
def simulated(c: RingConditions, seed: int = 0) -> tuple[DiffractionImage, tuple[float, float]]:
    return simulate_rings(gold(), c, seed)


def off_px(found: Recentred, true: tuple[float, float]) -> float:
    return float(np.hypot(*np.subtract(found.beam_centre_px, true)))


# of a centre found by hand-written bounds well above what is measured, well below the document's
CASES = {
    "usual dose": (SMALL, 0.03),
    "10 counts per pixel": (replace(SMALL, peak=10.0), 0.12),
    "spotty rings": (replace(SMALL, grains=80), 0.15),
    "12 degrees missing": (replace(SMALL, gap_deg=(30.0, 42.0)), 0.03),
    "no stop": (replace(SMALL, stop_px=0, shaft_px=0), 0.03),
    "no stop, saturated": (replace(SMALL, stop_px=0, shaft_px=0, saturation=2000.0), 0.03),
    "low contrast": (replace(SMALL, background=5.0), 0.05),
    "three-fold distortion": (replace(SMALL, three_fold_per_px=(4e-5, 4e-5)), 0.05),
    "dark level and read noise": (replace(SMALL, offset=1000.0, read_noise=5.0), 0.05),
    "tilt": (replace(SMALL, rot1_rad=0.08, rot2_rad=-0.05), 0.05),
    "empty margin": (replace(SMALL, margin_px=12), 0.03),
}


@pytest.mark.parametrize("case", list(CASES))
def test_the_centre_is_found(case: str) -> None:
    c, bound = CASES[case]
    image, true = simulated(c)
    found = recentre(image, calibration(c))
    assert found.method == "rings"
    assert off_px(found, true) < bound
    assert max(found.sd_px) < bound
    assert found.coverage > 0.5


def test_the_standard_error_is_honest() -> None:
    c = replace(SMALL, peak=30.0)
    pulls = []
    for seed in range(6):
        image, true = simulated(c, seed)
        found = recentre(image, calibration(c))
        pulls += list(np.subtract(found.beam_centre_px, true) / found.sd_px)
    assert np.sqrt(np.mean(np.square(pulls))) < 2.0


def test_the_start_does_not_matter() -> None:
    image, _ = simulated(SMALL)
    near = recentre(image, calibration(SMALL))
    for start in ((320.0, 320.0), (250.0, 400.0), (0.0, 0.0)):
        found = recentre(image, calibration(SMALL), start=start)
        assert found.beam_centre_px == pytest.approx(near.beam_centre_px, abs=0.01)


def test_another_substance_than_the_calibrant() -> None:
    image, true = simulate_rings(aluminium(), replace(SMALL, distance_mm=250.0), 1)
    found = recentre(image, calibration(SMALL))
    assert off_px(found, true) < 0.03


def test_a_changed_camera_length_is_told() -> None:
    image, _ = simulated(SMALL)
    known = replace(calibration(SMALL), distance_mm=SMALL.distance_mm / 1.01)
    found = recentre(image, known)
    assert found.scale == pytest.approx(1.01, abs=5e-4)
    assert found.scale_sd < 1e-3
    assert np.isnan(recentre(image, replace(known, rings=())).scale)


def test_turning_an_image_turns_its_centre() -> None:
    c = replace(SMALL, ratio=1.0)
    image, _ = simulated(c)
    known = calibration(c)
    row, column = recentre(image, known).beam_centre_px
    turned = recentre(np.rot90(image.pixels), known).beam_centre_px
    # (row, column) -> (columns - 1 - column, row)
    assert turned == pytest.approx((639 - column, row), abs=0.02)


def test_a_wide_halo_of_an_amorphous_film() -> None:
    rng = np.random.default_rng(0)
    row, column = np.mgrid[:640, :640]
    r = np.hypot(row - 330.3, column - 310.6)
    pixels = rng.poisson(60 + 90 * np.exp(-(((r - 130) / 25) ** 2))).astype(np.uint16)
    known = replace(calibration(SMALL), distortion=EllipticalDistortion())
    found = recentre(pixels, known)
    assert found.beam_centre_px == pytest.approx((330.3, 310.6), abs=0.2)


def test_a_mask_is_heeded() -> None:
    image, true = simulated(SMALL)
    pixels = image.pixels.astype(float)
    pixels[:, 330:] = np.random.default_rng(0).uniform(0, 600, (640, 310))  # half is rubbish
    mask = np.zeros((640, 640), bool)
    mask[:, 330:] = True
    found = recentre(pixels, calibration(SMALL), mask=mask)
    assert off_px(found, true) < 0.05
    assert found.coverage < 0.8


def images_to_refuse() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    row, column = np.mgrid[:640, :640]
    r = np.hypot(row - 320, column - 300)
    return {
        "zeros": np.zeros((640, 640), np.uint16),
        "constant": np.full((640, 640), 7.0),
        "not finite": np.full((640, 640), np.nan),
        "noise": rng.poisson(10, (640, 640)).astype(np.uint16),
        "noise of no counts": rng.normal(0, 1, (640, 640)).astype(np.float32),
        "diffuse scattering": rng.poisson(5 + 100 * np.exp(-r / 100)).astype(np.uint16),
        "a beam alone": rng.poisson(5 + 1e4 * np.exp(-((r / 6) ** 2))).astype(np.uint16),
    }


@pytest.mark.parametrize("what", list(images_to_refuse()))
def test_images_to_refuse(what: str) -> None:
    with pytest.raises(NoRings) as caught:
        recentre(images_to_refuse()[what], calibration(SMALL))
    assert isinstance(caught.value, ValueError)
    assert "\n" not in str(caught.value)


def test_a_shape_that_is_not_the_calibrations() -> None:
    with pytest.raises(UserError, match="512 x 512 pixels, expected 640 x 640"):
        recentre(np.ones((512, 512)), calibration(SMALL))
    with pytest.raises(UserError, match="mask: found 2 x 2"):
        recentre(simulated(SMALL)[0], calibration(SMALL), mask=np.zeros((2, 2), bool))


def test_hot_pixels_are_hidden_and_spots_are_not() -> None:
    image = np.full((20, 20), 10, np.float32)
    image[2, 2] += 1  # so that no line is constant
    image += np.arange(20)[:, None] * 0.01 + np.arange(20) * 0.01
    image[5, 5] = 500  # hot
    image[10, 10] = image[10, 11] = 400  # a hot pair
    spot = np.exp(-((np.arange(7) - 3) ** 2) / (2 * 0.7**2))
    image[13:20, 3:10] += 400 * np.outer(spot, spot).astype(np.float32)
    hide_liars(image, 10.0, 3.0, np.inf)
    hidden = np.isnan(image[1:-1, 1:-1])
    assert hidden.sum() == 3
    assert np.isnan(image[5, 5])
    assert np.isnan(image[10, 10:12]).all()
    assert np.isnan(image[0]).all()  # the outermost pixels are not used


def test_the_point_of_inversion() -> None:
    row, column = np.mgrid[:100, :120]
    r = np.hypot(row - 44.25, column - 63.5)
    image = 100 + 50 * np.cos(r)
    image[40:50, :60] = np.nan
    assert inversion_centres(image)[0] == pytest.approx((44.25, 63.5), abs=0.3)
    assert inversion_centres(np.full((10, 10), np.nan)) == []
