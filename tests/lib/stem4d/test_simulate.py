import numpy as np
import pytest
from scipy.ndimage import shift as shifted

from ewaldflow.lib.overfocus.parameters import OverfocusParameters
from ewaldflow.lib.stem4d.simulate import Imperfections, simulate_rows, simulate_scan
from ewaldflow.lib.stem4d.specimens import SPECIMENS, transmission

# k = d o / ((o + l) s) = 0.25 scan px per detector px: the shadow moves 4 px per step
OVERFOCUS, LENGTH, PITCH = 20e-6, 0.5, 50e-6
STEP = PITCH * OVERFOCUS / (OVERFOCUS + LENGTH) / 0.25
UPRIGHT = OverfocusParameters(OVERFOCUS, STEP, LENGTH, PITCH, 31.5, 31.5)


def _scan(truth=UPRIGHT, scan_shape=(3, 3), **options):
    options.setdefault("dose_per_px", 20.0)
    return simulate_scan(truth, scan_shape, (64, 64), disc_radius_px=24.0, **options)


def _movement(first, second, allowed=10):
    """Whole-pixel movement of what two frames show, where both see it."""
    a, b = first.astype(float), second.astype(float)
    inner = (slice(20, 44), slice(20, 44))
    best = min(
        (np.abs(shifted(a, (dy, dx), order=0)[inner] - b[inner]).mean(), dy, dx)
        for dy in range(-allowed, allowed + 1)
        for dx in range(-allowed, allowed + 1)
    )
    return best[1], best[2]


@pytest.mark.parametrize(
    ("changes", "along_rows", "along_columns"),
    [
        # specimen point s appears where the ray from the focus through it lands: content moves by
        # D - A for each step of the beam, A = 4 px per px here
        ({}, (-4, 0), (0, -4)),
        # B = k R(90) = k [[0, 1], [-1, 0]], so A = 4 [[0, -1], [1, 0]]
        ({"scan_rotation_deg": 90.0}, (0, -4), (4, 0)),
        ({"flip_y": True}, (4, 0), (0, -4)),
        ({"descan_px": ((2.0, 0.0), (1.0, -1.0))}, (-2, 1), (0, -5)),
    ],
)
def test_shadow_moves_as_worked_out_by_hand(changes, along_rows, along_columns):
    frames = _scan(UPRIGHT.with_(**changes), feature_px=5.0).frames
    assert _movement(frames[1, 1], frames[2, 1]) == along_rows
    assert _movement(frames[1, 1], frames[1, 2]) == along_columns


def test_underfocus_turns_the_movement_round():
    # o = -20 um: M = s (l + o) / (d o) = -4 (1 - 8e-5)
    frames = _scan(UPRIGHT.with_(overfocus_m=-OVERFOCUS), feature_px=5.0).frames
    assert _movement(frames[1, 1], frames[2, 1]) == (4, 0)


def test_aperture_moves_by_the_descan_error_alone():
    frames = _scan(
        UPRIGHT.with_(descan_px=((0.5, 0.0), (-0.25, 1.0))), (9, 9), specimen="vacuum"
    ).frames.astype(float)
    rows, columns = np.indices((64, 64))

    def middle(frame):
        return np.array([(frame * rows).sum(), (frame * columns).sum()]) / frame.sum()

    assert middle(frames[4, 4]) == pytest.approx([31.5, 31.5], abs=0.2)
    assert (middle(frames[8, 4]) - middle(frames[0, 4])) / 8 == pytest.approx(
        [0.5, -0.25], abs=0.03
    )
    assert (middle(frames[4, 8]) - middle(frames[4, 0])) / 8 == pytest.approx([0.0, 1.0], abs=0.03)


def test_specimen_drifts_by_the_pixels_given():
    still = _scan(scan_shape=(5, 1), feature_px=5.0).frames
    # a drift of +4 px a row undoes what the scan moves
    drifting = _scan(
        scan_shape=(5, 1), feature_px=5.0, imperfect=Imperfections(drift_px=(4.0, 0.0))
    ).frames
    assert _movement(still[2, 0], still[3, 0]) == (-4, 0)
    assert _movement(drifting[2, 0], drifting[3, 0]) == (0, 0)


def test_dose_is_what_was_asked_for():
    frames = _scan(specimen="vacuum", scan_shape=(8, 8), dose_per_px=3.0).frames
    inside = frames[:, :, 28:36, 28:36]
    assert inside.mean() == pytest.approx(3.0, rel=0.03)
    assert inside.var() == pytest.approx(3.0, rel=0.06)
    assert not frames[:, :, :4].any()


def test_faults_of_camera_and_scan():
    faults = Imperfections(
        chip_gap_px=2, hot_pixels=5, missing=0.3, dead_quadrant=True, saturation=30
    )
    scan = _scan(scan_shape=(8, 8), imperfect=faults)
    frames = scan.frames
    assert scan.mask[31:33].all()
    assert scan.mask[:, 31:33].all()
    assert scan.mask.sum() == 2 * 2 * 64 - 4
    assert frames.max() == 30 == scan.saturation
    assert 5 <= scan.missing.sum() <= 35
    assert not frames[scan.missing].any()
    dead = frames[~scan.missing][:, 32:, 32:]
    assert (dead.any(axis=0)).sum() <= 5  # hot pixels only
    assert (frames[~scan.missing].min(axis=0) == 30).sum() == 5


def test_gain_stays_with_the_pixels():
    frames = _scan(
        specimen="vacuum", scan_shape=(16, 16), imperfect=Imperfections(gain_sd=0.1)
    ).frames.astype(float)
    halves = frames[::2].mean((0, 1)), frames[1::2].mean((0, 1))
    inside = [half[26:38, 26:38].ravel() for half in halves]
    assert np.corrcoef(*inside)[0, 1] > 0.9
    assert inside[0].std() / inside[0].mean() == pytest.approx(0.1, rel=0.3)


def test_same_seed_same_scan_whole_or_by_rows():
    options = {"specimen": "holes", "disc_radius_px": 24.0, "dose_per_px": 5.0}
    whole = simulate_scan(UPRIGHT, (3, 4), (64, 64), seed=5, **options)
    rows = simulate_rows(UPRIGHT, (3, 4), (64, 64), seed=5, **options)
    for expected, row in zip(whole.frames, rows, strict=True):
        np.testing.assert_array_equal(row, expected)
    other = simulate_scan(UPRIGHT, (3, 4), (64, 64), seed=6, **options)
    assert (other.frames != whole.frames).any()
    assert whole.frames.dtype == np.uint16


@pytest.mark.parametrize("specimen", SPECIMENS)
def test_specimens_let_part_of_the_beam_pass(specimen):
    map_ = transmission(specimen, (300, 400), 20.0, 1)
    assert map_.shape == (300, 400)
    assert map_.dtype == np.float32
    assert map_.min() >= 0
    assert map_.max() <= 1
    contrast = map_.max() - map_.min()
    assert contrast == pytest.approx(0.03, abs=1e-6) if specimen == "weak" else contrast > 0.3


def test_scans_nobody_should_calibrate_on_are_made_too():
    assert _scan(UPRIGHT.with_(overfocus_m=0.0)).frames.any()
    assert _scan(scan_shape=(1, 6)).frames.shape == (1, 6, 64, 64)
    with pytest.raises(ValueError, match="specimen: found 'cheese'"):
        transmission("cheese", (10, 10), 3.0, 0)
