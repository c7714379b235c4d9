"""Random truths of overfocused scans, and how far a calibration is from one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ewaldflow.lib.overfocus.calibration import CALIBRATED, ScanCalibration
from ewaldflow.lib.overfocus.model import matrices_of, similarity_of
from ewaldflow.lib.overfocus.parameters import OverfocusParameters
from ewaldflow.lib.stem4d.scan import Scan4D
from ewaldflow.lib.stem4d.simulate import Imperfections, simulate_scan
from ewaldflow.lib.stem4d.specimens import SPECIMENS

CAMERA_LENGTH_M, PITCH_M = 0.5, 50e-6
# 3.00 detector px per scan point at 20 um
STEP_M = 3.0 * PITCH_M * 20e-6 / (CAMERA_LENGTH_M + 20e-6)
SHAPE = (256, 256)


@dataclass(frozen=True)
class Errors:
    """A calibration against the truth: degrees, per cent, detector px per scan px."""

    rotation_deg: float
    scale_percent: float
    descan: float
    flip_right: bool

    def within(self, rotation_deg: float, scale_percent: float) -> bool:
        """Whether handedness, rotation and scale are right."""
        close = abs(self.rotation_deg) < rotation_deg and abs(self.scale_percent) < scale_percent
        return self.flip_right and close


def column(
    overfocus_m: float, rotation_deg: float, flip_y: bool, descan: np.ndarray, centre: np.ndarray
) -> OverfocusParameters:
    """A truth."""
    (a, b), (c, d) = descan.tolist()
    return OverfocusParameters(
        overfocus_m, STEP_M, CAMERA_LENGTH_M, PITCH_M, float(centre[0]), float(centre[1]),
        rotation_deg, flip_y, ((a, b), (c, d)),
    )  # fmt: skip


def random_truth(seed: int) -> tuple[OverfocusParameters, str, float]:
    """Truth, specimen and dose of a random scan."""
    random = np.random.default_rng([seed, 20])
    size = 10 * 5 ** random.uniform(0, 1) * 1e-6
    truth = column(
        size * random.choice([-1, 1]), random.uniform(0, 360), bool(random.integers(2)),
        random.normal(0, 0.05, (2, 2)), (np.array(SHAPE) - 1) / 2 + random.uniform(-8, 8, 2),
    )  # fmt: skip
    return truth, SPECIMENS[seed % len(SPECIMENS)], float(10 ** random.uniform(-1, 1))


def scan_of_truth(
    truth: OverfocusParameters, points: int, specimen: str, dose: float, seed: int
) -> Scan4D:
    """A simulated scan of `points` x `points`, gain spread by 2 %."""
    return simulate_scan(
        truth, (points, points), SHAPE, specimen, dose, seed=seed,
        imperfect=Imperfections(gain_sd=0.02),
    )  # fmt: skip


def errors(found: ScanCalibration, truth: OverfocusParameters) -> Errors:
    """How far off a calibration is; NaN where it holds no number."""
    true = matrices_of(truth)
    if not np.isfinite(found.scan_to_detector).all():
        return Errors(np.nan, np.nan, np.nan, False)
    overfocused = truth.overfocus_m > 0
    a = similarity_of(found.scan_to_detector, overfocused)
    b = similarity_of(true.scan_to_detector, overfocused)
    turned = (a.rotation_deg - b.rotation_deg + 180) % 360 - 180
    return Errors(
        turned, 100 * (a.scale / b.scale - 1),
        float(np.abs(found.descan - true.descan).max()), a.flip_y == b.flip_y,
    )  # fmt: skip


def passed(found: ScanCalibration) -> bool:
    """Whether the verdict lets it through."""
    return found.verdict == CALIBRATED
