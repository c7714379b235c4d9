"""Overfocused 4D-STEM scans with a known truth: rays traced point by point.

For every scan point and detector pixel the ray is followed backwards: from the pixel, less the
error of descan, to the focus above the specimen, and on to the point of the specimen it crossed
(Weber et al., Methods). No matrix of `lib.overfocus` is used, so that one can test the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ..overfocus.parameters import OverfocusParameters
from .poisson import draw_poisson, poisson_table
from .scan import Scan4D, scan_of
from .specimens import transmission

FINER = 2.0  # points of the specimen's map per detector pixel
LARGEST_MAP = 6000  # points along the longer side of the map


@dataclass(frozen=True)
class Imperfections:
    """What is wrong with a microscope and its camera.

    Attributes
    ----------
    gain_sd : spread of the pixels' sensitivity about 1, the same in all frames.
    edge_px : width of the aperture's soft edge.
    illumination : fall of the beam's intensity from the middle of the disc to its edge.
    drift_px : (row, column) movement of the specimen's shadow in detector px per scan row; or
        (scan rows, 2): where it is at the start of each row.
    chip_gap_px : width of the dead cross between four chips, masked.
    hot_pixels : how many pixels report 40 times the dose and more, not masked.
    missing : share of the scan points with no frame.
    dead_quadrant : whether the last quarter of the detector reports nothing, not masked.
    saturation : counts no pixel exceeds.
    background_per_px : electrons everywhere, also beside the disc.
    """

    gain_sd: float = 0.0
    edge_px: float = 2.0
    illumination: float = 0.0
    drift_px: NDArray[np.float64] | tuple[float, float] = (0.0, 0.0)
    chip_gap_px: int = 0
    hot_pixels: int = 0
    missing: float = 0.0
    dead_quadrant: bool = False
    saturation: int | None = None
    background_per_px: float = 0.0


def simulate_scan(
    truth: OverfocusParameters,
    scan_shape: tuple[int, int],
    shape: tuple[int, int],
    specimen: str = "cross_grating",
    dose_per_px: float = 10.0,
    disc_radius_px: float = 100.0,
    seed: int = 0,
    feature_px: float | None = None,
    imperfect: Imperfections | None = None,
) -> Scan4D:
    """A scan in memory, (scan_row, scan_column, row, column) uint16.

    Parameters
    ----------
    truth : the column; `descan_px` counts scan pixels from the centre of the scan.
    scan_shape, shape : of the scan and of its frames.
    specimen : one of `specimens.SPECIMENS`, or "vacuum".
    dose_per_px : electrons in a pixel of the disc where the specimen lets all through.
    disc_radius_px : of the aperture's image.
    seed : of the specimen, the camera and the noise.
    feature_px : size of the specimen's features on the detector; a seventh of the radius if None.
    imperfect : faults of the microscope; none if None.
    """
    rows = list(
        simulate_rows(
            truth,
            scan_shape,
            shape,
            specimen,
            dose_per_px,
            disc_radius_px,
            seed,
            feature_px,
            imperfect,
        )
    )
    return described_scan(np.stack(rows), truth, scan_shape, shape, seed, imperfect)


def described_scan(
    frames: object,
    truth: OverfocusParameters,
    scan_shape: tuple[int, int],
    shape: tuple[int, int],
    seed: int = 0,
    imperfect: Imperfections | None = None,
) -> Scan4D:
    """Simulated frames, wherever they are kept, with what the microscope knows of them."""
    imperfect = imperfect or Imperfections()
    step_nm = truth.scan_pixel_size_m * 1e9
    return scan_of(
        frames,
        name="simulated",
        mask=_gap(shape, imperfect.chip_gap_px),
        missing=_missing(scan_shape, imperfect.missing, seed),
        pixel_size_mm=truth.detector_pixel_size_m * 1e3,
        camera_length_mm=truth.camera_length_m * 1e3,
        scan_step_nm=(step_nm, step_nm),
        gain=1.0,
        saturation=None if imperfect.saturation is None else float(imperfect.saturation),
        instrument="simulated",
    )


def simulate_rows(
    truth: OverfocusParameters,
    scan_shape: tuple[int, int],
    shape: tuple[int, int],
    specimen: str = "cross_grating",
    dose_per_px: float = 10.0,
    disc_radius_px: float = 100.0,
    seed: int = 0,
    feature_px: float | None = None,
    imperfect: Imperfections | None = None,
) -> Iterator[NDArray[np.uint16]]:
    """The same scan a scan row at a time, (scan_column, row, column) uint16 each."""
    imperfect = imperfect or Imperfections()
    feature_px = disc_radius_px / 7 if feature_px is None else feature_px
    drift = _drift(imperfect.drift_px, scan_shape[0])
    step, pitch = truth.scan_pixel_size_m, truth.detector_pixel_size_m
    to_specimen = truth.overfocus_m / (truth.overfocus_m + truth.camera_length_m)
    # everything on the specimen is told in scan pixels from the centre of the scan
    scan_px_per_px = abs(to_specimen) * pitch / step
    reach = (disc_radius_px + imperfect.edge_px + np.abs(drift).max() + 2) * scan_px_per_px
    sides = np.array(scan_shape) - 1 + 2 * reach
    in_focus = scan_px_per_px == 0  # each frame shows but one point
    finer = 8.0 if in_focus else FINER / scan_px_per_px
    finer = min(finer, LARGEST_MAP / max(sides.max(), 1.0))
    size = np.ceil(sides * finer).astype(int) + 4
    feature = max(feature_px * scan_px_per_px * finer, 2.0)
    passes = transmission(specimen, (int(size[0]), int(size[1])), feature, seed)

    camera = np.random.default_rng([seed, 1])
    gain = (1 + imperfect.gain_sd * camera.standard_normal(shape)).astype(np.float32)
    dead = _gap(shape, imperfect.chip_gap_px)
    if imperfect.dead_quadrant:
        dead[shape[0] // 2 :, shape[1] // 2 :] = True
    gain = np.where(dead, 0, np.maximum(gain, 0)).astype(np.float32)
    hot = camera.choice(shape[0] * shape[1], imperfect.hot_pixels, replace=False)
    glow = camera.uniform(40, 400, imperfect.hot_pixels) * max(dose_per_px, 1.0)
    missing = _missing(scan_shape, imperfect.missing, seed)
    highest = 65535 if imperfect.saturation is None else imperfect.saturation

    angle = np.deg2rad(truth.scan_rotation_deg)
    table, guide = poisson_table()
    seeds = np.random.SeedSequence([seed, 2]).generate_state(scan_shape[0], np.uint64)
    for scan_row in range(scan_shape[0]):
        row = np.zeros((scan_shape[1], *shape), np.uint16)
        _trace_row(
            row,
            scan_row - (scan_shape[0] - 1) / 2,
            np.array([truth.cy, truth.cx]),
            np.asarray(truth.descan_px, np.float64),
            np.array([np.cos(angle), np.sin(angle), -1.0 if truth.flip_y else 1.0]),
            np.array([truth.overfocus_m, truth.camera_length_m, pitch, step]),
            drift[scan_row],
            drift[scan_row + 1],
            passes,
            finer,
            np.array([disc_radius_px, max(imperfect.edge_px, 1e-3), imperfect.illumination]),
            dose_per_px,
            imperfect.background_per_px,
            gain,
            table,
            guide,
            seeds[scan_row],
        )
        row.reshape(scan_shape[1], -1)[:, hot] = np.minimum(glow, 65535).astype(np.uint16)
        np.minimum(row, highest, out=row)
        row[missing[scan_row]] = 0
        yield row


def _drift(drift_px: NDArray[np.float64] | tuple[float, float], rows: int) -> NDArray[np.float64]:
    """Where the specimen's shadow is at the start of each scan row and after the last, px."""
    given = np.asarray(drift_px, np.float64)
    if given.ndim == 1:
        return (np.arange(rows + 1) - rows / 2)[:, None] * given
    return np.vstack([given, 2 * given[-1:] - given[-2:-1] if rows > 1 else given[-1:]])


def _gap(shape: tuple[int, int], width: int) -> NDArray[np.bool_]:
    dead = np.zeros(shape, bool)
    for axis in (0, 1):
        first = (shape[axis] - width) // 2
        np.moveaxis(dead, axis, 0)[first : first + width] = True
    return dead


def _missing(scan_shape: tuple[int, int], share: float, seed: int) -> NDArray[np.bool_]:
    return np.asarray(np.random.default_rng([seed, 3]).random(scan_shape) < share)


@njit(cache=True, nogil=True)
def _trace_row(  # type: ignore[no-untyped-def]
    out,
    scan_y,
    centre,
    descan,
    turn,
    column,
    drift_from,
    drift_to,
    passes,
    finer,
    disc,
    dose,
    background,
    gain,
    table,
    guide,
    seed,
):
    """Follow the rays of one scan row back to the specimen, and count electrons."""
    points, height, width = out.shape
    cos, sin, flip = turn[0], turn[1], turn[2]
    overfocus, camera_length, pitch, step = column[0], column[1], column[2], column[3]
    radius, edge, illumination = disc[0], disc[1], disc[2]
    middle_y, middle_x = (passes.shape[0] - 1) / 2, (passes.shape[1] - 1) / 2
    state = np.empty(1, np.uint64)
    state[0] = seed
    for point in range(points):
        scan_x = point - (points - 1) / 2
        done = point / points
        slip_y = drift_from[0] + done * (drift_to[0] - drift_from[0])
        slip_x = drift_from[1] + done * (drift_to[1] - drift_from[1])
        beam_y = centre[0] + descan[0, 0] * scan_y + descan[0, 1] * scan_x
        beam_x = centre[1] + descan[1, 0] * scan_y + descan[1, 1] * scan_x
        for row in range(height):
            off_y = row - beam_y
            for col in range(width):
                off_x = col - beam_x
                expected = background
                distance = np.sqrt(off_y * off_y + off_x * off_x)
                if distance < radius + edge:
                    # slope of the ray between focus and detector, along the scan's axes
                    y_m, x_m = flip * (off_y - slip_y) * pitch, (off_x - slip_x) * pitch
                    slope_y = (cos * y_m + sin * x_m) / (overfocus + camera_length)
                    slope_x = (-sin * y_m + cos * x_m) / (overfocus + camera_length)
                    hit_y = scan_y + slope_y * overfocus / step
                    hit_x = scan_x + slope_x * overfocus / step
                    share = min(1.0, max(0.0, 0.5 + (radius - distance) / edge))
                    share *= 1 - illumination * (distance / radius) ** 2
                    expected += (
                        dose
                        * share
                        * _at(passes, middle_y + hit_y * finer, middle_x + hit_x * finer)
                    )
                expected *= gain[row, col]
                if expected > 0:
                    count = draw_poisson(expected, table, guide, state)
                    out[point, row, col] = min(count, 65535)


@njit(cache=True, nogil=True, inline="always")
def _at(map_, y, x):  # type: ignore[no-untyped-def]
    """Value of the map between its points, linear."""
    top, left = int(y), int(x)
    fy, fx = y - top, x - left
    upper = map_[top, left] * (1 - fx) + map_[top, left + 1] * fx
    lower = map_[top + 1, left] * (1 - fx) + map_[top + 1, left + 1] * fx
    return upper * (1 - fy) + lower * fy
