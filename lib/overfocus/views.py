"""What a person looks at to believe a calibration: images with it, and with only parts of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError
from ..stem4d.scan import Scan4D
from ..stem4d.virtual import disc, middle_rows, virtual_detector
from .blur import blur_of
from .calibration import ScanCalibration
from .model import ScanMatrices, matrices_of_calibration, similarity_of
from .superposition import ControlImages, control_images, superpose_with_coverage

Floats = NDArray[np.float64]

#: Control images of larger scans are of the rows about the middle; each takes a few passes.
STAGE_BYTES = 2**30
_FRAMES_SHOWN = 3


@dataclass(frozen=True)
class Stage:
    """The control images with some matrices (Weber et al., Figs. 5 to 9).

    Attributes
    ----------
    title : what is right and what is not.
    images : the images.
    blur : of the superposition, by the metric of Crete et al. (2007).
    """

    title: str
    images: ControlImages
    blur: float


@dataclass(frozen=True)
class Views:
    """Images of a scan and its calibration.

    Attributes
    ----------
    bright_field : (scan_row, scan_column) counts in the beam's disc.
    superposition, coverage : (scan_row, scan_column) of all frames with the calibration, of pixels
        that are in the beam throughout the scan; empty if there is none.
    mean : (row, column) of some frames.
    frames : (n, row, column) a few frames.
    places : (n, 2) their scan rows and columns.
    stages : with ever more of the calibration; none if there is none.
    stage_rows : (first scan row, the one after the last) of the stages.
    """

    bright_field: Floats
    superposition: Floats
    coverage: Floats
    mean: Floats
    frames: Floats
    places: NDArray[np.int64]
    stages: tuple[Stage, ...]
    stage_rows: tuple[int, int]


def views_of(scan: Scan4D, calibration: ScanCalibration) -> Views:
    """The images; reads the scan a few times, and keeps at most `STAGE_BYTES` of it."""
    held = middle_rows(scan, STAGE_BYTES)
    rows, left = scan.scan_shape[0], (scan.scan_shape[0] - held.scan_shape[0]) // 2
    whole = held if left == 0 else scan
    known = _usable(calibration.scan_to_detector)
    superposition = coverage = np.zeros((0, 0))
    stages: tuple[Stage, ...] = ()
    if known:
        lit = disc(scan.shape, _centre(calibration), _always_lit(calibration, scan.shape))
        superposition, coverage = superpose_with_coverage(
            whole.with_(mask=scan.mask | ~lit), matrices_of_calibration(calibration)
        )
        stages = _stages(held, calibration)
    places = _places(held)
    some = held.frames[places[:, 0], places[:, 1]].astype(float)
    recorded = np.flatnonzero(~held.missing)
    sample = held.frames.reshape(-1, *scan.shape)[recorded[:: max(1, len(recorded) // 256)]]
    beam = disc(scan.shape, _centre(calibration), _radius(calibration, scan.shape))
    return Views(
        bright_field=virtual_detector(whole, beam),
        superposition=superposition,
        coverage=coverage,
        mean=sample.mean(axis=0, dtype=float) if len(sample) else np.zeros(scan.shape),
        frames=some,
        places=places + np.array([left, 0]),
        stages=stages,
        stage_rows=(left, rows - left),
    )


def _usable(matrix: Floats) -> bool:
    return bool(np.isfinite(matrix).all() and abs(np.linalg.det(matrix)) > 1e-12)


def _centre(calibration: ScanCalibration) -> tuple[float, float]:
    """Of the beam; the detector's middle where it was not found."""
    y, x = calibration.centre_px
    rows, columns = calibration.shape
    return (y, x) if np.isfinite([y, x]).all() else ((rows - 1) / 2, (columns - 1) / 2)


def _radius(calibration: ScanCalibration, shape: tuple[int, int]) -> float:
    radius = calibration.disc_radius_px
    return radius if np.isfinite(radius) and radius > 0 else min(shape) / 2


def _always_lit(calibration: ScanCalibration, shape: tuple[int, int]) -> float:
    """Radius about the centre within which the beam is wherever descan leaves it."""
    ends = np.abs(calibration.descan) @ (np.array(calibration.scan_shape) / 2)
    moved = float(np.hypot(*ends))
    radius = _radius(calibration, shape)
    return max(radius - moved - 2, 0.3 * radius) if np.isfinite(moved) else radius


def _places(scan: Scan4D) -> NDArray[np.int64]:
    """Recorded scan points near two corners and the middle."""
    rows, columns = scan.scan_shape
    recorded = np.argwhere(~scan.missing)
    wanted = np.linspace([rows * 0.1, columns * 0.1], [rows * 0.9, columns * 0.9], _FRAMES_SHOWN)
    near = [recorded[np.argmin(((recorded - one) ** 2).sum(1))] for one in wanted if len(recorded)]
    return np.unique(np.array(near, np.int64).reshape(-1, 2), axis=0)


def _stages(scan: Scan4D, calibration: ScanCalibration) -> tuple[Stage, ...]:
    right = matrices_of_calibration(calibration)
    scale = similarity_of(right.scan_to_detector, calibration.overfocused).scale
    still = np.zeros((2, 2))
    tried = {
        "nothing right: half the scale": replace(
            right, scan_to_detector=0.5 * scale * np.eye(2), descan=still
        ),
        "scale alone": replace(right, scan_to_detector=scale * np.eye(2), descan=still),
        "rotation and handedness too": replace(right, descan=still),
        "descan error too: the calibration": right,
    }
    places = _places(scan)
    made = []
    for title, matrices in tried.items():
        try:
            images = control_images(scan, matrices, _middle(places))
        except UserError:  # the beam leaves the detector with these matrices: nothing to show
            continue
        made.append(Stage(title, images, blur_of(images.shifted_sum)))
    return tuple(made)


def _middle(places: NDArray[np.int64]) -> tuple[int, int]:
    row, column = places[len(places) // 2]
    return int(row), int(column)


def stage_with(scan: Scan4D, title: str, matrices: ScanMatrices) -> Stage:
    """One more stage, of any matrices, on the rows about the middle.

    Raises
    ------
    UserError : the beam is not on the detector with them.
    """
    held = middle_rows(scan, STAGE_BYTES)
    images = control_images(held, matrices, _middle(_places(held)))
    return Stage(title, images, blur_of(images.shifted_sum))
