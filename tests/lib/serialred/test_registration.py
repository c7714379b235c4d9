"""Shifts between pictures: exact on known ones, with honest errors, and none where none can be."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from ewaldflow.lib.serialred.registration import _lagrange, shift_between

SHAPE = (160, 180)


def scene(shift: tuple[float, float], *, dose: float | None = None, seed: int = 0, even=False):
    """Blobs at fixed places, all moved by `shift`, under resting light; dose None: no noise."""
    rng = np.random.default_rng(7)
    centres = rng.uniform((-40, -40), (SHAPE[0] + 40, SHAPE[1] + 40), (60, 2))
    widths = rng.uniform(2.0, 6.0, 60)
    row, column = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(float)
    dark = np.zeros(SHAPE)
    for (r, c), w in zip(centres + np.asarray(shift), widths, strict=True):
        dark += 0.5 * np.exp(-0.5 * ((row - r) ** 2 + (column - c) ** 2) / w**2)
    light = 1 - 0.3 * ((row - 60) ** 2 + (column - 100) ** 2) / 150**2
    light = np.ones(SHAPE) if even else light
    electrons = light * np.exp(-dark)
    if dose is None:
        return electrons
    return np.random.default_rng(seed).poisson(dose * electrons).astype(np.uint16)


@pytest.mark.parametrize("shift", [(0.0, 0.0), (0.3, -0.45), (7.5, -21.25), (-60.2, 33.3)])
def test_known_shift_is_found(shift: tuple[float, float]) -> None:
    found = shift_between(scene((0, 0)), scene(shift))
    assert found.vector == pytest.approx(shift, abs=0.1)
    assert found.quality > 0.97


@pytest.mark.parametrize("shift", [(0.3, -0.45), (7.5, -21.25), (-60.2, 33.3)])
def test_nothing_is_lost_in_even_light(shift: tuple[float, float]) -> None:
    light = scene((0, 0), even=True)
    found = shift_between(light, scene(shift, even=True), background_px=None)
    assert found.vector == pytest.approx(shift, abs=1e-4)


def test_sign_is_that_of_the_motion() -> None:
    image = np.zeros((64, 64))
    image[20:24, 30:33] = -1.0
    moved = np.zeros((64, 64))
    moved[23:27, 25:28] = -1.0  # three rows down, five columns to the left
    assert shift_between(image, moved).vector == pytest.approx((3, -5), abs=1e-3)


def test_noise_is_in_the_covariance() -> None:
    rng = np.random.default_rng(3)
    pulls = []
    for seed in range(12):
        shift = tuple(rng.uniform(-8, 8, 2))
        found = shift_between(
            scene((0, 0), dose=20, seed=2 * seed), scene(shift, dose=20, seed=2 * seed + 1)
        )
        pulls.append((found.vector - shift) / np.sqrt(np.diag(found.covariance)))
    assert 0.6 < np.sqrt(np.mean(np.square(pulls))) < 1.4


def masked_pair() -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """A dark particle that moves by (6.3, -9.6) while a larger, darker one rests."""
    row, column = np.mgrid[:200, :200].astype(float)

    def picture(r: float, c: float) -> NDArray[np.float64]:
        particle = np.hypot((row - r) / 9, (column - c) / 6) < 1
        resting = np.hypot(row - 130, column - 60) < 25
        return gaussian_filter(100 - 30.0 * particle - 70.0 * resting, 1.5)

    first, second = _moved(picture, 70, 100), _moved(picture, 76.3, 90.4)
    return first, second, np.hypot(row - 70, column - 100) < 16


def _moved(picture, row: float, column: float) -> NDArray[np.float64]:
    """The picture of a particle between pixels, averaged over finer ones."""
    steps = (np.arange(10) + 0.5) / 10 - 0.5
    return np.mean([picture(row + r, column + c) for r in steps for c in steps], axis=0)


def test_only_the_marked_particle_is_followed() -> None:
    first, second, mask = masked_pair()
    found = shift_between(first, second, mask=mask, max_shift_px=30)
    assert found.vector == pytest.approx((6.3, -9.6), abs=0.1)
    assert found.quality > 0.97
    assert shift_between(first, second).vector == pytest.approx((0, 0), abs=0.5)


def test_a_broad_bright_disc_is_followed_without_background() -> None:
    row, column = np.mgrid[:200, :200].astype(float)

    def disc(r: float, c: float) -> NDArray[np.float64]:
        return 500 / (1 + np.exp((np.hypot(row - r, column - c) - 60) / 2))

    found = shift_between(disc(100, 90), disc(112.4, 83.3), background_px=None)
    assert found.vector == pytest.approx((12.4, -6.7), abs=0.02)


def test_bad_pixels_do_not_hold_the_picture() -> None:
    valid = np.ones(SHAPE, bool)
    valid[78:82, :] = False
    valid[10:150:7, 5::11] = False
    first, second = scene((0, 0)), scene((4.4, 2.2))
    for image in (first, second):
        image[~valid] = 50.0
    free = shift_between(first, second, valid=valid)
    assert free.vector == pytest.approx((4.4, 2.2), abs=0.05)
    assert shift_between(first, second).vector == pytest.approx((0, 0), abs=0.1)


def test_nothing_in_common_is_said() -> None:
    rng = np.random.default_rng(5)
    first, second = rng.poisson(50, (2, *SHAPE))
    assert shift_between(first, second).quality < 0.3
    flat = shift_between(np.full(SHAPE, 9), np.full(SHAPE, 9))
    assert flat.quality == 0
    assert np.isnan(flat.vector).all()
    assert flat.esd_px == np.inf


def test_a_shift_beyond_the_largest_is_not_claimed() -> None:
    first, second, mask = masked_pair()
    found = shift_between(first, second, mask=mask, max_shift_px=4)
    assert found.quality < 0.8 or np.isnan(found.row_px)


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="expected one"):
        shift_between(np.zeros((50, 50)), np.zeros((50, 51)))


@pytest.mark.parametrize("fraction", [-0.75, -0.3, 0.0, 0.5, 0.9])
def test_interpolation_is_exact_for_quintics(fraction: float) -> None:
    x = np.arange(-3, 4)
    weights = _lagrange(fraction)
    for power in range(6):
        assert weights @ x.astype(float) ** power == pytest.approx(fraction**power, abs=1e-9)
