from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ewaldflow.hardware.simulated.goniometer import Goniometer, GoniometerOptions, preset
from ewaldflow.hardware.simulated.view import Pose
from ewaldflow.lib.geometry import rotation_about

AXIS = np.array([0.6, 0.8, 0.0])
ACROSS = np.array([-0.8, 0.6, 0.0])
IDEAL = preset("ideal")


def ideal_with(**changes: Any) -> Goniometer:
    return Goniometer(IDEAL.model_copy(update=changes), AXIS, 1)


def at(goniometer: Goniometer, **target: float) -> Pose:
    """The pose at rest at a target."""
    goniometer.command(0.0, target, None)
    return goniometer.pose(1e5, 0.0)


def test_stage_x_goes_along_the_axis_and_y_across() -> None:
    assert at(ideal_with(), x_um=3.0).translation_um == pytest.approx(3 * AXIS)
    assert at(ideal_with(), y_um=2.0).translation_um == pytest.approx(2 * ACROSS)
    assert at(ideal_with(), z_um=-4.0).translation_um == pytest.approx([0, 0, -4])


def test_alpha_turns_about_the_axis_by_the_right_hand() -> None:
    pose = at(ideal_with(), alpha_deg=30.0, x_um=5.0, y_um=2.0)
    np.testing.assert_allclose(pose.rotation, rotation_about(AXIS, 30.0), atol=1e-12)
    expected = 5 * AXIS + 2 * (np.cos(np.pi / 6) * ACROSS + np.array([0, 0, np.sin(np.pi / 6)]))
    np.testing.assert_allclose(pose.translation_um, expected, atol=1e-12)


def test_beta_turns_about_what_alpha_has_turned() -> None:
    pose = at(ideal_with(), alpha_deg=30.0, beta_deg=10.0)
    expected = rotation_about(AXIS, 30.0) @ rotation_about(ACROSS, 10.0)
    np.testing.assert_allclose(pose.rotation, expected, atol=1e-12)


@pytest.mark.parametrize("height", [-3.0, 2.0])
def test_a_specimen_off_the_axis_swings_by_h_sin_alpha(height: float) -> None:
    # right-handed about the axis, what lies above (+z) goes to -across
    for alpha in (-50.0, 20.0):
        moved = at(ideal_with(), z_um=height, alpha_deg=alpha).translation_um
        assert moved @ ACROSS == pytest.approx(-height * np.sin(np.radians(alpha)))
        assert moved @ AXIS == pytest.approx(0.0)


def test_the_height_of_the_axis_is_what_matters() -> None:
    goniometer = ideal_with(axis_height_um=2.0, axis_slope=0.01)
    height = goniometer.axis_height(50.0, -20.0)
    slope = goniometer.axis_slope
    assert height == pytest.approx(goniometer.axis_height_um + 50 * slope[0] - 20 * slope[1])
    assert 1.2 <= abs(goniometer.axis_height_um) <= 2.0
    flat = at(goniometer, x_um=50.0, y_um=-20.0, z_um=height)
    goniometer.command(2e5, {"alpha_deg": 40.0}, None)
    tilted = goniometer.pose(3e5, 0.0)
    point = -flat.translation_um  # the specimen's point on the optical axis
    point[2] = 0.0  # of a flat grid, which z has brought to the height of the axis
    seen = tilted.rotation @ point + tilted.translation_um
    assert seen == pytest.approx([0.0, 0.0, height], abs=1e-9)


def test_a_tilt_axis_beside_the_optical_axis_moves_by_one_minus_cosine() -> None:
    goniometer = ideal_with(axis_offset_um=2.0)
    moved = at(goniometer, alpha_deg=60.0).translation_um
    assert moved @ ACROSS == pytest.approx(goniometer.axis_offset_um * (1 - 0.5))


def test_backlash_depends_on_where_one_comes_from() -> None:
    goniometer = ideal_with(play_um=0.4, play_deg=0.1)
    up = at(goniometer, x_um=10.0)
    goniometer.command(1e6, {"x_um": 20.0, "alpha_deg": 5.0}, None)
    goniometer.command(2e6, {"x_um": 10.0, "alpha_deg": 0.0}, None)
    down = goniometer.pose(3e6, 0.0)
    np.testing.assert_allclose(down.translation_um - up.translation_um, 0.4 * AXIS, atol=1e-4)
    assert goniometer.followers(3e6)[3] == pytest.approx(0.05)
    assert goniometer.position(3e6).x_um == pytest.approx(10.0)  # the read-out does not see it


def test_wobble_takes_the_axis_out_of_the_plane() -> None:
    goniometer = ideal_with(wobble_deg=0.1)
    worst = 0.0
    for alpha in np.linspace(-60, 60, 25):
        goniometer.command(0.0, {"alpha_deg": float(alpha)}, None)
        turned = goniometer.pose(1e6, 0.0).rotation
        if abs(alpha) > 1:
            axis = np.linalg.svd(turned - np.eye(3))[2][-1]
            axis *= np.sign(axis @ AXIS)
            worst = max(worst, abs(np.degrees(np.arcsin(axis[2]))))
            assert axis @ ACROSS == pytest.approx(0.0, abs=1e-9)
    assert worst == pytest.approx(0.1, rel=0.05)


def test_the_read_out_of_alpha_has_a_sine() -> None:
    goniometer = ideal_with(readout_error_deg=0.05, readout_period_deg=10.0)
    errors = []
    for alpha in np.linspace(0, 10, 41)[:-1]:
        goniometer.command(0.0, {"alpha_deg": float(alpha)}, None)
        errors.append(goniometer.position(1e6).alpha_deg - alpha)
    assert np.mean(errors) == pytest.approx(0.0, abs=1e-9)
    assert np.sqrt(2 * np.mean(np.square(errors))) == pytest.approx(0.05)


def test_the_read_out_is_rounded_to_nm_and_hundredths() -> None:
    goniometer = Goniometer(GoniometerOptions(), AXIS, 3)
    goniometer.command(0.0, {"x_um": 1.23456, "alpha_deg": 7.8912}, None)
    position = goniometer.position(1e6)
    assert position.x_um == round(position.x_um, 3)
    assert position.alpha_deg == round(position.alpha_deg, 2)
    assert position.x_um == pytest.approx(1.23456, abs=0.01)


def test_rotation_has_the_speed_asked_for_but_for_an_error() -> None:
    goniometer = Goniometer(GoniometerOptions(speed_error=0.01, play_deg=0.0), AXIS, 3)
    goniometer.command(0.0, {"alpha_deg": 50.0}, 0.8)
    speed = (goniometer.motors(40.0)[3] - goniometer.motors(20.0)[3]) / 20
    assert speed == pytest.approx(0.8 * goniometer.speed_factor)
    assert 0.006 <= abs(goniometer.speed_factor - 1) <= 0.01


def test_wander_comes_back_as_far_as_it_is_reversible() -> None:
    def there_and_back(reversible: float) -> float:
        goniometer = ideal_with(wander_um=1.0, wander_reversible=reversible)
        start = at(goniometer, alpha_deg=10.0).translation_um
        goniometer.command(1e5, {"alpha_deg": -40.0}, None)
        goniometer.command(2e5, {"alpha_deg": 10.0}, None)
        return float(np.linalg.norm(goniometer.pose(3e5, 0.0).translation_um - start))

    assert there_and_back(1.0) == pytest.approx(0.0, abs=1e-9)
    assert there_and_back(0.0) > 0.1


def _drift_um(setting: Any, seed: int) -> float:
    goniometer = Goniometer(preset(setting), AXIS, seed)
    goniometer.command(0.0, {"alpha_deg": -50.0}, None)
    goniometer.command(100.0, {"alpha_deg": 50.0}, 1.0)
    seen = [goniometer.pose(t, t).translation_um[:2] for t in np.arange(100.0, 203.0, 2.0)]
    return float(np.ptp(seen, axis=0).max())


def test_the_settings_are_as_bad_as_they_say() -> None:
    well, usual, bad = (
        [_drift_um(setting, seed) for seed in range(20)]
        for setting in ("well_set", "usual", "badly_set")
    )
    assert min(well) > 0.1
    assert max(well) < 0.8
    assert min(usual) > 0.5
    assert max(usual) < 2.5
    assert min(bad) > 3.0
    assert 7.0 < max(bad) < 10.5
    assert _drift_um("ideal", 1) == pytest.approx(0.0, abs=1e-9)


def test_one_seed_is_one_goniometer() -> None:
    def path(seed: int) -> list[Any]:
        goniometer = Goniometer(preset("usual"), AXIS, seed)
        goniometer.command(0.0, {"alpha_deg": 30.0, "x_um": 5.0}, None)
        return [goniometer.position(1e4), *goniometer.pose(1e4, 7.0).translation_um]

    assert path(4) == path(4)
    assert path(4) != path(5)


def test_the_axis_lies_in_the_detector_plane() -> None:
    with pytest.raises(ValueError, match="detector plane"):
        Goniometer(IDEAL, (0.6, 0.0, 0.8), 1)
