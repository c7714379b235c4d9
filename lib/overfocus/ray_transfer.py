"""5 x 5 ray-transfer (ABCD) matrices of the column, on rays (y, slope y, x, slope x, 1).

Lengths in metres, slopes with the beam: a ray that moves by dy over dz down the column has slope
dy/dz. The fifth number carries what deflectors add (paraxial optics; TemGym Basic uses the same
matrices, Landers et al. 2023, J. Appl. Cryst. 56, 1267).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .model import ScanMatrices, check_parameters, flip, rotation
from .parameters import OverfocusParameters

Floats = NDArray[np.float64]
Y, SLOPE_Y, X, SLOPE_X, ONE = range(5)


def propagation(distance_m: float) -> Floats:
    """Free flight."""
    out = np.eye(5)
    out[Y, SLOPE_Y] = out[X, SLOPE_X] = distance_m
    return out


def lens(focal_length_m: float) -> Floats:
    """A round thin lens; converging if positive."""
    out = np.eye(5)
    out[SLOPE_Y, Y] = out[SLOPE_X, X] = -1 / focal_length_m
    return out


def deflector(kick: ArrayLike) -> Floats:
    """Adds `kick` (y, x) to the slopes."""
    out = np.eye(5)
    out[SLOPE_Y, ONE], out[SLOPE_X, ONE] = np.asarray(kick, float)
    return out


def rocking_pair(slope: ArrayLike, apart_m: float, to_pivot_m: float) -> Floats:
    """Two deflectors that tilt a ray on the axis by `slope` (y, x) about a point of the axis.

    Parameters
    ----------
    apart_m : between the deflectors.
    to_pivot_m : from the lower one down to the pivot, where the matrix ends.
    """
    slope = np.asarray(slope, float)
    above = -slope * to_pivot_m / apart_m
    return after(
        deflector(above), propagation(apart_m), deflector(slope - above), propagation(to_pivot_m)
    )


def shifting_pair(shift_m: ArrayLike, apart_m: float) -> Floats:
    """Two deflectors that shift every ray by `shift_m` (y, x) and leave its slope alone."""
    kick = np.asarray(shift_m, float) / apart_m
    return after(deflector(kick), propagation(apart_m), deflector(-kick))


def after(*elements: Floats) -> Floats:
    """The matrix of elements passed in the order given."""
    return reduce(lambda so_far, one: one @ so_far, elements, np.eye(5))


@dataclass(frozen=True)
class Column:
    """Where the elements are, in metres: what the model does not depend on.

    Attributes
    ----------
    focal_length_m : of the lens; the scan coils rock the beam about its front focal plane, so
        that they move the focus and do not tilt the beam at the specimen. The source is so far
        away that its rays come in parallel.
    coils_apart_m : between upper and lower scan coils; the lower ones lie as far above the pivot.
    descan_above, descan_apart : from the specimen to the upper descan coils, and between these, in
        parts of the camera length.
    """

    focal_length_m: float
    coils_apart_m: float
    descan_above: float = 0.25
    descan_apart: float = 0.5

    @classmethod
    def of(cls, parameters: OverfocusParameters) -> Column:
        """A column whose lens lies five, or three, times |overfocus| above the specimen.

        So short a focal length keeps rounding small; where the lens is does not matter.
        """
        size = abs(parameters.overfocus_m)
        return cls(focal_length_m=4 * size, coils_apart_m=4 * size)


def scan_shift_m(parameters: OverfocusParameters, scan_px: ArrayLike) -> Floats:
    """Where the beam stands in the laboratory at scan points (..., 2) from the middle.

    The laboratory's axes are those of the detector, with `flip_y` undone.
    """
    turn = rotation(-parameters.scan_rotation_deg)
    out: Floats = parameters.scan_pixel_size_m * np.asarray(scan_px, float) @ turn.T
    return out


def descan_shift_m(parameters: OverfocusParameters, scan_px: ArrayLike) -> Floats:
    """By how much the descan coils shift the beam: back to the axis, but for the descan error."""
    error_px = np.asarray(scan_px, float) @ np.array(parameters.descan_px, float).T
    error = parameters.detector_pixel_size_m * error_px @ flip(parameters.flip_y)
    out: Floats = error - scan_shift_m(parameters, scan_px)
    return out


def to_specimen(
    parameters: OverfocusParameters, scan_px: ArrayLike, column: Column | None = None
) -> Floats:
    """5 x 5, from above the scan coils to the specimen, at a scan point (2,) from the middle."""
    column = column or Column.of(parameters)
    # the front focal plane is the pivot: the ray crosses the axis there and leaves parallel to it
    slope = scan_shift_m(parameters, scan_px) / column.focal_length_m
    return after(
        rocking_pair(slope, column.coils_apart_m, column.coils_apart_m),
        propagation(column.focal_length_m),
        lens(column.focal_length_m),
        propagation(column.focal_length_m + parameters.overfocus_m),
    )


def to_detector(
    parameters: OverfocusParameters, scan_px: ArrayLike, column: Column | None = None
) -> Floats:
    """5 x 5, from the specimen to the detector, at a scan point (2,) from the middle."""
    column = column or Column.of(parameters)
    length = parameters.camera_length_m
    return after(
        propagation(column.descan_above * length),
        shifting_pair(descan_shift_m(parameters, scan_px), column.descan_apart * length),
        propagation((1 - column.descan_above - column.descan_apart) * length),
    )


def matrices_by_ray_transfer(parameters: OverfocusParameters) -> ScanMatrices:
    """A, D and centre from the products of the column's matrices: `matrices_of` the long way.

    Raises
    ------
    UserError : as `check_parameters`.
    """
    check_parameters(parameters)
    p = parameters
    turn, mirror = rotation(p.scan_rotation_deg), flip(p.flip_y)

    def of_a_ray(start_m: ArrayLike, scan_px: ArrayLike) -> tuple[Floats, Floats]:
        """Specimen (scan px) and detector (px from the centre) of a ray that comes in straight."""
        y, x = np.asarray(start_m, float)
        at_specimen = to_specimen(p, scan_px) @ np.array([y, 0, x, 0, 1])
        at_detector = to_detector(p, scan_px) @ at_specimen
        return (
            turn @ at_specimen[[Y, X]] / p.scan_pixel_size_m,
            mirror @ at_detector[[Y, X]] / p.detector_pixel_size_m,
        )

    unit = Column.of(p).focal_length_m * 1e-2  # a slope of 10 mrad at the focus
    rays = [of_a_ray(unit * one, (0, 0)) for one in np.eye(2)]
    specimen, detector = (np.column_stack(both) for both in zip(*rays, strict=True))
    a = detector @ np.linalg.inv(specimen)
    moved = [of_a_ray((0, 0), one) for one in np.eye(2)]
    specimen, detector = (np.column_stack(both) for both in zip(*moved, strict=True))
    # x - c = A (p - ds) + D ds
    descan = detector - a @ (specimen - np.eye(2))
    return ScanMatrices(a, descan, np.array([p.cy, p.cx], float))
