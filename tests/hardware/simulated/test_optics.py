from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray

from ewaldflow.hardware.protocols import DeflectorName
from ewaldflow.hardware.simulated.optics import Optics, OpticsOptions, Rays, Settings
from ewaldflow.lib.serialred.calibration import Condition

PX = 0.055
LENGTHS = {300.0: 452.0, 600.0: 904.0}
STILL: dict[str, Any] = {"beam_drift_um": 0.0, "pattern_drift_px": 0.0, "beam_walk_um": 0.0}
NAMES: tuple[DeflectorName, ...] = get_args(DeflectorName)


def optics(seed: int = 1, **options: Any) -> Optics:
    return Optics(OpticsOptions(**{**STILL, **options}), LENGTHS, 300.0, PX, seed)


def settings(condition: Condition, defocus_um: float = 150.0, **more: Any) -> Settings:
    if condition == "imaging":
        return Settings(mode="imaging", **more)
    focus = 0.4 if condition == "focused" else defocus_um
    return Settings(mode="diffraction", diffraction_focus=focus, **more)


def seen_px(rays: Rays, condition: Condition, actuator: str) -> NDArray[np.float64]:
    """What a camera sees move: pattern, disc of the beam, or picture."""
    if condition == "focused":
        return rays.pattern_mm / PX
    beam = condition == "defocused" or actuator == "beam_shift"
    at = rays.origin_mm + (rays.picture_mm_per_um @ rays.beam_um if beam else 0.0)
    return at / PX


@pytest.mark.parametrize("condition", get_args(Condition))
@pytest.mark.parametrize("name", NAMES)
def test_the_true_calibration_is_what_is_seen(name: DeflectorName, condition: Condition) -> None:
    column = optics()
    start = settings(condition)
    zero = seen_px(column.rays(start, 0.0), condition, name)
    matrix = column.px_per_unit(name, condition, start)
    for shift in ((100.0, 0.0), (0.0, -50.0), (70.0, 30.0)):
        rays = column.rays(start._replace(**{name: shift}), 0.0)
        moved = seen_px(rays, condition, name) - zero
        np.testing.assert_allclose(moved, matrix @ shift, atol=1e-9)


@pytest.mark.parametrize("defocus", [-150.0, 60.0, 300.0])
def test_it_is_so_at_any_defocus_and_camera_length(defocus: float) -> None:
    column = optics(2)
    start = settings("defocused", defocus, camera_length_mm=600.0)
    zero = seen_px(column.rays(start, 0.0), "defocused", "")
    for name in NAMES:
        rays = column.rays(start._replace(**{name: (40.0, -90.0)}), 0.0)
        expected = column.px_per_unit(name, "defocused", start) @ (40.0, -90.0)
        np.testing.assert_allclose(seen_px(rays, "defocused", "") - zero, expected, atol=1e-9)


def _shear(matrix: ArrayLike) -> float:
    """Of scale * rotation * [[1, shear], [0, 1]]."""
    gram = np.asarray(matrix).T @ np.asarray(matrix)
    return float(gram[0, 1] / gram[0, 0])


def test_every_matrix_is_its_own_with_scale_rotation_and_shear() -> None:
    shears = []
    for seed in range(15):
        column = optics(seed)
        start = settings("defocused")
        for name in NAMES:
            focused = column.px_per_unit(name, "focused", start)
            defocused = column.px_per_unit(name, "defocused", start)
            assert np.linalg.norm(focused - defocused) > 0.05 * np.linalg.norm(focused)
            shears.append(_shear(column.focused_mm[name]))
    assert max(map(abs, shears)) <= 0.15
    assert max(map(abs, shears)) > 0.12


def test_descan_has_a_solution_for_every_seed() -> None:
    """Beam shift of 5 um can be undone in both conditions, with a margin to the limits."""
    for seed in range(20):
        column, start = optics(seed), settings("defocused")
        blocks = np.block(
            [
                [column.px_per_unit(name, condition, start)
                 for name in ("image_shift_1", "image_shift_2")]
                for condition in ("focused", "defocused")
            ]
        )  # fmt: skip
        pushed = np.vstack(
            [column.px_per_unit("beam_shift", c, start) for c in ("focused", "defocused")]
        )
        for way in np.linspace(0, np.pi, 7):
            needed = np.linalg.solve(blocks, -pushed @ (5000 * np.cos(way), 5000 * np.sin(way)))
            assert np.abs(needed).max() < 32768 - 5000


def test_the_disc_is_70_px_for_a_beam_of_1_um_and_scales_with_the_defocus() -> None:
    column = optics()
    brightness = column.brightness_for(1.0)
    assert column.diameter_um(brightness) == pytest.approx(1.0)
    radii = []
    for defocus in (150.4, 300.4, -149.6):
        rays = column.rays(settings("defocused", defocus, brightness=brightness), 0.0)
        scale = np.sqrt(abs(np.linalg.det(rays.picture_mm_per_um)))
        radii.append(rays.radius_um * scale / PX)
        assert rays.defocused
    np.testing.assert_allclose(radii, np.array([1, 2, 1]) * 70.0, rtol=0.01)


def test_near_focus_the_pattern_is_focused() -> None:
    column = optics()
    rays = column.rays(settings("focused"), 0.0)
    assert not rays.defocused
    assert not rays.picture_mm_per_um.any()
    assert not column.rays(Settings(mode="diffraction"), 0.0).defocused  # at neutral, too


def test_the_picture_at_2500_has_87_px_per_um_and_grows_with_the_magnification() -> None:
    column = optics()
    scale = {}
    for magnification in (2500, 5000, 10000):
        rays = column.rays(settings("imaging", magnification=magnification), 0.0)
        scale[magnification] = np.sqrt(abs(np.linalg.det(rays.picture_mm_per_um))) / PX
    assert scale[2500] == pytest.approx(86.6, rel=1e-3)
    assert scale[5000] / scale[2500] == pytest.approx(2.0, rel=0.011)
    assert scale[10000] / scale[2500] == pytest.approx(4.0, rel=0.011)


def test_camera_length_stretches_the_pattern() -> None:
    column = optics(pattern_offset_px=0.0)
    shifted = settings("focused", diffraction_shift=(3.0, 1.0))
    short = column.rays(shifted, 0.0)
    long = column.rays(shifted._replace(camera_length_mm=600.0), 0.0)
    assert long.distance_mm == pytest.approx(2 * short.distance_mm)
    np.testing.assert_allclose(long.pattern_mm, 2 * short.pattern_mm)


def test_a_mrad_of_tilt_is_about_a_mrad_of_camera_length() -> None:
    column = optics()
    moved = column.focused_mm["beam_tilt"]
    assert np.sqrt(abs(np.linalg.det(moved))) == pytest.approx(0.452, rel=0.21)


def test_drift_is_slow_and_starts_at_zero() -> None:
    column = optics(beam_drift_um=0.05, pattern_drift_px=1.0, beam_offset_um=0.0)
    start = settings("focused")
    times = np.arange(0, 7200, 30.0)
    beam = np.array([column.rays(start, t).beam_um for t in times])
    pattern = np.array([column.rays(start, t).pattern_mm for t in times]) / PX
    np.testing.assert_allclose(beam[0], 0.0, atol=1e-12)
    assert 0.01 < np.abs(beam).max() < 0.5
    assert 0.2 < np.ptp(pattern, axis=0).max() < 10
    assert np.abs(np.diff(pattern, axis=0)).max() < 0.5


def test_hysteresis_returns_elsewhere_after_each_switch() -> None:
    column = optics(hysteresis_px=2.0, hysteresis_um=0.1)
    at = [column.rays(settings("focused", switches=n), 0.0) for n in range(60)]
    moved = np.array([one.pattern_mm for one in at[1:]]) / PX - at[0].pattern_mm / PX
    assert moved.std() == pytest.approx(2.0, rel=0.3)
    beam = np.array([one.beam_um for one in at[1:]]) - at[0].beam_um
    assert beam.std() == pytest.approx(0.1, rel=0.3)
    again = optics(hysteresis_px=2.0, hysteresis_um=0.1)
    repeated = again.rays(settings("focused", switches=7), 0.0)
    np.testing.assert_array_equal(repeated.pattern_mm, at[7].pattern_mm)


def test_settling_fades() -> None:
    column = optics(settling_px=5.0, settling_s=2.0)
    start = settings("focused", switches=1, switched_s=100.0)
    rest = column.rays(start, 1e6).pattern_mm
    first, later = (np.linalg.norm(column.rays(start, t).pattern_mm - rest) for t in (100, 102))
    assert later / first == pytest.approx(np.exp(-1))


def test_the_focus_settles() -> None:
    column = optics(focus_settling_s=0.1)
    start = settings("defocused", 150.4, focus_before=0.4, focus_set_s=10.0)
    full = column.rays(start, 1e6).picture_mm_per_um
    early = column.rays(start, 10.1).picture_mm_per_um
    np.testing.assert_allclose(early, (1 - np.exp(-1)) * full)
