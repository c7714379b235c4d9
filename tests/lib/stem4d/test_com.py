from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ewaldflow.lib.cbed import Camera, simulate_graphene, with_dose
from ewaldflow.lib.errors import UserError
from ewaldflow.lib.overfocus.calibration import NOT_CALIBRATED, ScanCalibration
from ewaldflow.lib.stem4d.com import (
    centre_of_mass,
    curl_and_divergence,
    detector_rotation,
    rotation_without_curl,
)
from ewaldflow.lib.stem4d.scan import scan_of

SMALL = {"scan_shape": (12, 14), "scan_step_A": (0.2, 0.2)}


def turn(angle_deg):
    """(row, column): from the column axis towards the row axis."""
    c, s = np.cos(np.deg2rad(angle_deg)), np.sin(np.deg2rad(angle_deg))
    return np.array([[c, s], [-s, c]])


def calibration(matrix, shape=(64, 64), **changes):
    made = ScanCalibration(
        name="cal",
        scan_shape=(8, 8),
        shape=shape,
        scan_to_detector=np.asarray(matrix, float),
        descan=np.zeros((2, 2)),
        centre_px=(31.5, 31.5),
        disc_radius_px=20.0,
    )
    return replace(made, **changes)


def test_centre_and_error_worked_out_by_hand():
    frames = np.zeros((1, 2, 3, 4))
    frames[0, 0, 1, 0], frames[0, 0, 1, 3] = 4, 12  # mean column (0 * 4 + 3 * 12) / 16 = 2.25
    frames[0, 1, 0, 1], frames[0, 1, 2, 1] = 5, 5
    found = centre_of_mass(scan_of(frames, gain=1.0))
    # mean of the two centres: row (1 + 1) / 2, column (2.25 + 1) / 2
    assert found.reference_px[0, 0] == pytest.approx([1, 1.625])
    assert found.shift_px[0, 0] == pytest.approx([0, 0.625])
    assert found.shift_px[0, 1] == pytest.approx([0, -0.625])
    # var = sum (x - c)² I / N²: (4 * 2.25² + 12 * 0.75²) / 16² = 27 / 256; rows 10 / 100
    assert found.sigma_px[0, 0] == pytest.approx([0, np.sqrt(27 / 256)])
    assert found.sigma_px[0, 1] == pytest.approx([np.sqrt(0.1), 0])
    assert found.intensity[0].tolist() == [16, 10]


def test_gain_and_pedestal_change_counts_and_not_the_result():
    frames = np.random.default_rng(0).poisson(20, (2, 3, 8, 9)).astype(float)
    plain = centre_of_mass(scan_of(frames, gain=1.0), read_noise_e=0.5)
    other = centre_of_mass(scan_of(frames * 7 + 100, gain=7.0, pedestal=100.0), read_noise_e=0.5)
    assert np.allclose(plain.shift_px, other.shift_px)
    assert np.allclose(plain.sigma_px, other.sigma_px)


def test_read_noise_worked_out_by_hand():
    frames = np.zeros((1, 2, 1, 3))
    frames[0, :, 0, 1] = 10  # counts in the middle of three: no counting error, only reading
    found = centre_of_mass(scan_of(frames, gain=1.0), read_noise_e=2.0)
    assert found.sigma_px[0, 0] == pytest.approx([0, np.sqrt(2 * 4 / 100)])


def test_counting_errors_are_those_seen():
    clean = simulate_graphene(**SMALL)
    truth = centre_of_mass(clean)
    pulls = []
    for seed in range(6):
        found = centre_of_mass(with_dose(clean, 2e4, seed))
        pulls.append((found.shift_px - truth.shift_px) / found.sigma_px)
    assert np.std(pulls) == pytest.approx(1, abs=0.05)
    assert "no gain" in truth.notes[0]
    assert np.isnan(truth.sigma_px).all()


def test_error_of_the_magnitude():
    clean = simulate_graphene(**SMALL)
    truth, found = centre_of_mass(clean), centre_of_mass(with_dose(clean, 1e6, 1))
    strong = truth.magnitude > 0.4
    pull = (found.magnitude - truth.magnitude)[strong] / found.magnitude_sigma[strong]
    assert np.std(pull) == pytest.approx(1, abs=0.2)


@settings(max_examples=10, deadline=None)
@given(st.floats(-180, 180), st.booleans(), st.booleans(), st.floats(0.3, 5))
def test_directions_are_those_of_the_scan_however_the_detector_is_turned(
    angle, flipped, overfocused, scale
):
    flip = np.diag([-1.0 if flipped else 1.0, 1.0])
    straight = simulate_graphene(scan_shape=(4, 4))
    rng = np.random.default_rng(0)
    field = rng.normal(size=(4, 4, 2))
    # deflections along the scan's axes, as a detector turned and flipped sees them
    to_detector = flip @ turn(angle)
    y, x = np.indices((64, 64)) - 31.5
    shifted = field @ to_detector.T
    frames = np.exp(
        -((y - shifted[..., :1, None]) ** 2 + (x - shifted[..., 1:, None]) ** 2) / (2 * 5.0**2)
    )
    scan = straight.with_(frames=frames)
    sign = 1 if overfocused else -1  # the shadow behind an underfocused probe is upside down
    known = calibration(sign * scale * to_detector, overfocused=overfocused)
    found = centre_of_mass(scan, known, reference="calibration")
    assert np.allclose(found.deflection, field * 1.038, atol=1e-6)
    assert np.allclose(found.magnitude, np.linalg.norm(field, axis=-1) * 1.038, atol=1e-6)


def test_simulated_turns_of_the_detector_are_undone():
    straight = centre_of_mass(simulate_graphene(**SMALL))
    turned = simulate_graphene(camera=Camera(rotation_deg=37.0), **SMALL)
    found = centre_of_mass(turned, calibration(3.0 * turn(37.0)))
    assert np.allclose(found.deflection, straight.deflection, atol=0.01)
    assert np.abs(centre_of_mass(turned).deflection - straight.deflection).max() > 0.2


def test_scan_steps_that_differ_do_not_shear_directions():
    scan = simulate_graphene(scan_shape=(3, 3), scan_step_A=(0.4, 0.1))
    known = calibration(5 * turn(20.0) @ np.diag([0.04, 0.01]))  # A: steps of 0.04 and 0.01 nm
    assert np.allclose(detector_rotation(scan, known), turn(20.0))


def test_angle_is_from_columns_to_rows():
    frames = np.zeros((1, 2, 9, 9))
    frames[0, 0, 6, 4], frames[0, 1, 2, 4] = 1, 1
    found = centre_of_mass(scan_of(frames))
    assert found.angle_rad[0] == pytest.approx([np.pi / 2, -np.pi / 2])


def test_descan_is_taken_out():
    y, x = np.indices((32, 32)) - 15.5
    descan = np.array([[0.3, 0.05], [-0.1, 0.2]])
    s = np.moveaxis(np.indices((5, 6), float), 0, -1) - [2, 2.5]
    moved = s @ descan.T + [0.7, -0.4]
    frames = np.exp(-((y - moved[..., :1, None]) ** 2 + (x - moved[..., 1:, None]) ** 2) / 18)
    scan = scan_of(frames)
    assert np.abs(centre_of_mass(scan).shift_px).max() > 0.5
    assert np.abs(centre_of_mass(scan, reference="plane").shift_px).max() < 1e-3
    known = calibration(np.eye(2), (32, 32), descan=descan, centre_px=(16.2, 15.1))
    assert np.abs(centre_of_mass(scan, known, reference="calibration").shift_px).max() < 1e-3


def test_deflections_of_graphene_have_no_curl_and_the_charge_as_divergence():
    found = centre_of_mass(simulate_graphene(scan_shape=(40, 40), scan_step_A=(0.1, 0.1)))
    curl, divergence = curl_and_divergence(found.deflection, (0.1, 0.1))
    inner = (slice(1, -1),) * 2  # where differences are central
    assert np.abs(curl[inner]).max() < 0.02 * np.abs(divergence[inner]).max()
    assert divergence[0:3, 0:3].mean() < -2 * np.abs(divergence.mean())  # deflected to the atom


@settings(max_examples=10, deadline=None)
@given(st.floats(0, 179))
def test_least_curl_tells_the_rotation_but_for_its_sign(angle):
    y, x = np.indices((12, 12)) / 3
    field = np.stack([np.sin(y) * np.cos(x), np.cos(y) * np.sin(x)], -1)  # a gradient
    turned = field @ turn(-angle).T
    found = rotation_without_curl(turned, (1 / 3, 1 / 3))
    assert abs((found - angle + 90) % 180 - 90) < 0.5


def test_curl_and_divergence_by_hand():
    y, x = np.indices((5, 5), float)
    curl, divergence = curl_and_divergence(np.stack([-3 * x + y, 2 * y + 4 * x], -1), (0.5, 0.25))
    assert np.allclose(curl, 2 / 0.5 + 3 / 0.25)
    assert np.allclose(divergence, 1 / 0.5 + 4 / 0.25)


def test_bad_patterns_are_noted_and_do_not_spoil_the_others():
    frames = np.random.default_rng(0).poisson(10, (2, 3, 8, 8)).astype(float)
    whole = centre_of_mass(scan_of(frames.copy()))
    frames[0, 1] = 0
    frames[1, 2, 3, 3] = np.nan
    frames[0, 2] = -5
    missing = np.zeros((2, 3), bool)
    missing[1, 0] = True
    found = centre_of_mass(scan_of(frames, missing=missing))
    bad = [(0, 1), (0, 2), (1, 0), (1, 2)]
    assert sorted(map(tuple, np.argwhere(np.isnan(found.magnitude)).tolist())) == bad
    assert any("3 patterns, the first at (0, 1)" in note for note in found.notes)
    difference = (found.shift_px + found.reference_px) - (whole.shift_px + whole.reference_px)
    assert np.nanmax(np.abs(difference)) < 1e-12


def test_masked_pixels_and_a_radius_leave_pixels_out():
    frames = np.random.default_rng(0).poisson(10, (2, 2, 16, 12)).astype(np.float32)
    mask = np.zeros((16, 12), bool)
    mask[3, 4] = True
    clean = centre_of_mass(scan_of(frames, mask=mask))
    frames[..., 3, 4] = np.nan
    assert np.allclose(centre_of_mass(scan_of(frames, mask=mask)).shift_px, clean.shift_px)
    far = frames.copy()
    far[..., 0, :] = 1e4
    near = {"centre_px": (8.0, 6.0), "radius_px": 5.0}
    one = centre_of_mass(scan_of(frames, mask=mask), **near)
    assert np.allclose(one.shift_px, centre_of_mass(scan_of(far, mask=mask), **near).shift_px)


def test_saturated_and_masked_pixels_are_noted():
    frames = np.random.default_rng(0).poisson(10, (2, 2, 8, 8))
    frames[0, 1, 3, 3] = 99
    mask = np.zeros((8, 8), bool)
    mask[:2] = True
    found = centre_of_mass(scan_of(frames, mask=mask, saturation=99.0))
    assert "16 masked pixels" in found.notes[0]
    assert "1 patterns hold saturated pixels" in found.notes[1]
    mask[3, 3] = True
    assert not any("saturated" in n for n in centre_of_mass(scan_of(frames, mask=mask)).notes)


def test_excess_noise_widens_errors():
    frames = np.random.default_rng(0).poisson(10, (2, 2, 8, 8))
    plain = centre_of_mass(scan_of(frames, gain=1.0)).sigma_px
    excess = centre_of_mass(scan_of(frames, gain=1.0), excess_noise=4.0).sigma_px
    assert np.allclose(excess, 2 * plain)


def test_wrong_calibrations_and_empty_scans():
    scan = simulate_graphene(scan_shape=(2, 2))
    with pytest.raises(UserError, match=r"frames of \(32, 32\), expected frames of \(64, 64\)"):
        centre_of_mass(scan, calibration(np.eye(2), (32, 32)))
    with pytest.raises(UserError, match="not calibrated"):
        centre_of_mass(scan, calibration(np.eye(2), verdict=NOT_CALIBRATED))
    with pytest.raises(UserError, match="overfocus calibration: found none"):
        centre_of_mass(scan, reference="calibration")
    with pytest.raises(UserError, match="no pattern with intensity"):
        centre_of_mass(scan_of(np.zeros((2, 2, 8, 8))))
    with pytest.raises(UserError, match="every pixel masked"):
        centre_of_mass(scan.with_(mask=np.ones((64, 64), bool)))
