"""Beam centres and pyFAI's point of normal incidence: the relation between them, and files.

A pixel's centre is at integers in our arrays and at ``index + 0.5`` in pyFAI, which counts from
the corner that the detector's orientation names. With b1, b2 the place of the direct beam from
that corner in metres and L the PONI's distance (pyFAI 2025.12 and 2026.9 agree, all
orientations, any tilt; rot3 turns the image about the beam and moves nothing)::

    poni1 = b1 - L tan(rot2) / cos(rot1)
    poni2 = b2 + L tan(rot1)
"""

from __future__ import annotations

from dataclasses import asdict, replace
from math import cos, tan
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from ..geometry import EllipticalDistortion
from .calibration import Ring, RingCalibration
from .poni_file import ORIENTATIONS, Poni, read_poni_file, write_poni_file


class WrongValue(UserError, ValueError):
    """An argument that cannot be; also a ValueError, as callers of functions expect."""


def center_to_poni(
    cx: float,
    cy: float,
    px_size: float,
    py_size: float,
    dist: float,
    rot1: float = 0.0,
    rot2: float = 0.0,
    rot3: float = 0.0,
    *,
    orientation: int = 3,
    shape: tuple[int, int] | None = None,
) -> tuple[float, float]:
    """(poni1, poni2) in metres of a beam centre in the image as it is stored.

    Parameters
    ----------
    cx, cy : column and row of the beam in the stored array; pixel centres are at integers.
    px_size, py_size : width and height of a pixel, m.
    dist : the PONI's distance, m.
    rot1, rot2, rot3 : tilts, rad, in pyFAI's sense for this orientation; rot3 has no effect.
    orientation : of the detector, 1 to 4.
    shape : (rows, columns); needed for all orientations but 3.

    Raises
    ------
    WrongValue : an unknown orientation, no shape where it is needed, a size that is not positive,
        or a tilt of 90 degrees and more.
    """
    _check(px_size, py_size, dist, rot1, rot2)
    y, x = _oriented(cy, cx, orientation, shape)
    return (
        float((y + 0.5) * py_size - dist * tan(rot2) / cos(rot1)),
        float((x + 0.5) * px_size + dist * tan(rot1)),
    )


def poni_to_center(
    poni1: float,
    poni2: float,
    px_size: float,
    py_size: float,
    dist: float,
    rot1: float = 0.0,
    rot2: float = 0.0,
    rot3: float = 0.0,
    *,
    orientation: int = 3,
    shape: tuple[int, int] | None = None,
) -> tuple[float, float]:
    """(cx, cy): column and row of the direct beam in the stored array; undoes `center_to_poni`."""
    _check(px_size, py_size, dist, rot1, rot2)
    y = (poni1 + dist * tan(rot2) / cos(rot1)) / py_size - 0.5
    x = (poni2 - dist * tan(rot1)) / px_size - 0.5
    cy, cx = _oriented(y, x, orientation, shape)  # its own inverse
    return float(cx), float(cy)


def get_calibration_parameters(poni_file: str | Path) -> dict[str, Any]:
    """What a PONI file of any version states.

    Returns
    -------
    ``distance``, ``poni1``, ``poni2``, ``wavelength``, ``pixel1``, ``pixel2`` in metres (the
    wavelength None if not stated), ``rot1``, ``rot2``, ``rot3`` in radians, ``max_shape`` (rows,
    columns) or None, ``orientation``, ``detector``, ``poni_version``, and ``center``, the (column,
    row) of the beam in the stored image, None where that needs a shape that is not stated.

    Raises
    ------
    PoniNotFound : no such file (a FileNotFoundError).
    UserError : the file is damaged, or states neither a detector nor pixel sizes.
    """
    poni = read_poni_file(poni_file)
    known = poni.orientation == 3 or poni.shape is not None
    return {
        "distance": poni.distance_m,
        "poni1": poni.poni1_m,
        "poni2": poni.poni2_m,
        "rot1": poni.rot1_rad,
        "rot2": poni.rot2_rad,
        "rot3": poni.rot3_rad,
        "wavelength": poni.wavelength_m,
        "pixel1": poni.pixel1_m,
        "pixel2": poni.pixel2_m,
        "max_shape": poni.shape,
        "orientation": poni.orientation,
        "detector": poni.detector,
        "poni_version": poni.version,
        "center": centre_of(poni)[::-1] if known else None,
    }


def update_ai(
    initial_ponifile: str | Path,
    poni1_new: float,
    poni2_new: float,
    output_ponifile: str | Path | None = None,
) -> Any:
    """pyFAI's AzimuthalIntegrator of a PONI file with another point of normal incidence, in m.

    With `output_ponifile` it is written there too, in place of what was there.
    """
    poni = replace(
        read_poni_file(initial_ponifile), poni1_m=float(poni1_new), poni2_m=float(poni2_new)
    )
    if output_ponifile is not None:
        write_poni_file(poni, output_ponifile)
    return to_integrator(poni)


def to_integrator(poni: Poni) -> Any:
    """The pyFAI AzimuthalIntegrator of a PONI."""
    import pyFAI

    config: dict[str, Any] = dict(poni.detector_config)
    if poni.detector == "Detector":
        config |= {"pixel1": poni.pixel1_m, "pixel2": poni.pixel2_m, "max_shape": poni.shape}
    config["orientation"] = poni.orientation
    contents = {
        "poni_version": 2.1 if poni.parallax is None else 3,
        "detector": poni.detector,
        "detector_config": config,
        "dist": poni.distance_m,
        "poni1": poni.poni1_m,
        "poni2": poni.poni2_m,
        "rot1": poni.rot1_rad,
        "rot2": poni.rot2_rad,
        "rot3": poni.rot3_rad,
        "wavelength": poni.wavelength_m,
    }
    if poni.parallax is not None:
        contents["parallax"] = poni.parallax
    return pyFAI.load(contents)


def centre_of(poni: Poni) -> tuple[float, float]:
    """(row, column) of the direct beam in the stored image.

    Raises
    ------
    UserError : an orientation other than 3 and no shape.
    """
    cx, cy = poni_to_center(
        poni.poni1_m, poni.poni2_m, poni.pixel2_m, poni.pixel1_m, poni.distance_m,
        poni.rot1_rad, poni.rot2_rad, orientation=poni.orientation, shape=poni.shape,
    )  # fmt: skip
    return cy, cx


def with_centre(poni: Poni, beam_centre_px: tuple[float, float]) -> Poni:
    """The PONI with the direct beam at another (row, column) of the stored image."""
    row, column = beam_centre_px
    poni1, poni2 = center_to_poni(
        column, row, poni.pixel2_m, poni.pixel1_m, poni.distance_m,
        poni.rot1_rad, poni.rot2_rad, orientation=poni.orientation, shape=poni.shape,
    )  # fmt: skip
    return replace(poni, poni1_m=poni1, poni2_m=poni2)


def poni_of(calibration: RingCalibration, *, orientation: int = 3) -> Poni:
    """The PONI of a calibration, for a detector of an orientation.

    A PONI has no ellipse: distortions, calibrant and ring radii go into a comment that
    `calibration_of` reads and pyFAI passes over.
    """
    sign1, sign2 = _tilt_signs(orientation)
    pixel_m = calibration.pixel_size_mm * 1e-3
    blank = Poni(
        distance_m=calibration.distance_mm * 1e-3,
        poni1_m=0.0,
        poni2_m=0.0,
        rot1_rad=sign1 * calibration.rot1_rad,
        rot2_rad=sign2 * calibration.rot2_rad,
        rot3_rad=0.0,
        pixel1_m=pixel_m,
        pixel2_m=pixel_m,
        shape=calibration.shape,
        orientation=orientation,
        wavelength_m=calibration.wavelength_A * 1e-10,
        ours={
            "name": calibration.name,
            "calibrant": calibration.calibrant,
            "distortion": asdict(calibration.distortion),
            "three_fold_per_px": list(calibration.three_fold_per_px),
            "radial_per_mm2": calibration.radial_per_mm2,
            "rings": [[*ring.hkl, ring.d_A] for ring in calibration.rings],
        },
    )
    return with_centre(blank, calibration.beam_centre_px)


def write_poni(calibration: RingCalibration, path: str | Path, *, orientation: int = 3) -> Path:
    """Write a calibration as a PONI (version 2.1), in place of what was there; see `poni_of`.

    Raises
    ------
    UserError : the file cannot be written.
    """
    return write_poni_file(poni_of(calibration, orientation=orientation), path)


def read_poni(
    path: str | Path,
    *,
    wavelength_A: float | None = None,
    shape: tuple[int, int] | None = None,
) -> RingCalibration:
    """A calibration from a PONI, its image stored as arrays are, whatever its orientation.

    Parameters
    ----------
    wavelength_A, shape : stand in where the file states none.

    Raises
    ------
    PoniNotFound : no such file.
    UserError : a damaged file; pixels that are not square; no wavelength or no shape; a shape
        other than the one stated.
    """
    return calibration_of(read_poni_file(path), wavelength_A=wavelength_A, shape=shape)


def calibration_of(
    poni: Poni, *, wavelength_A: float | None = None, shape: tuple[int, int] | None = None
) -> RingCalibration:
    """What `read_poni` returns, of a PONI already read."""
    if shape is not None and poni.shape is not None and tuple(shape) != poni.shape:
        raise UserError(
            poni.path, f"a detector of {_by(poni.shape)}", f"{_by(shape)}, as the image has",
            "give the PONI of this camera and binning",
        )  # fmt: skip
    shape = poni.shape or shape
    if shape is None:
        raise UserError(
            f"{poni.path}: max_shape", "nothing", "[rows, columns] of the detector",
            "add max_shape to Detector_config",
        )  # fmt: skip
    if poni.wavelength_m is not None:
        wavelength_A = poni.wavelength_m * 1e10
    if wavelength_A is None:
        raise UserError(
            f"{poni.path}: Wavelength", "nothing", "the wavelength in metres", "add the line"
        )
    if abs(poni.pixel1_m / poni.pixel2_m - 1) > 1e-6:
        raise UserError(
            f"{poni.path}: Detector_config", f"pixels of {poni.pixel1_m:g} x {poni.pixel2_m:g} m",
            "square pixels", "resample the images",
        )  # fmt: skip
    sign1, sign2 = _tilt_signs(poni.orientation)
    ours = poni.ours
    try:
        three_fold = ours.get("three_fold_per_px", (0.0, 0.0))
        rings = tuple(
            Ring((int(h), int(k), int(l)), float(d), 0, 0, 0.0, float("nan"), float("nan"))
            for h, k, l, d in ours.get("rings", ())  # noqa: E741
        )
        distortion = EllipticalDistortion(**ours.get("distortion", {}))
        three = (float(three_fold[0]), float(three_fold[1]))
        radial = float(ours.get("radial_per_mm2", 0.0))
    except (TypeError, ValueError, IndexError) as error:
        raise UserError(
            f"{poni.path}: comment of Ewaldflow", str(error), "what write_poni writes",
            "remove the comment",
        ) from None  # fmt: skip
    return RingCalibration(
        name=str(ours.get("name", Path(poni.path).stem)),
        shape=shape,
        calibrant=str(ours.get("calibrant", "")),
        wavelength_A=wavelength_A,
        pixel_size_mm=poni.pixel1_m * 1e3,
        distance_mm=poni.distance_m * 1e3,
        beam_centre_px=centre_of(replace(poni, shape=shape)),
        distortion=distortion,
        three_fold_per_px=three,
        radial_per_mm2=radial,
        rot1_rad=sign1 * poni.rot1_rad,
        rot2_rad=sign2 * poni.rot2_rad,
        rings=rings,
    )


def _by(shape: tuple[int, int]) -> str:
    return f"{shape[0]} x {shape[1]}"


def _tilt_signs(orientation: int) -> tuple[int, int]:
    """Of rot1 and rot2 against orientation 3: a horizontal flip negates rot1, a vertical rot2."""
    if orientation not in ORIENTATIONS:
        raise WrongValue("orientation", repr(orientation), "1, 2, 3 or 4", "give one of these")
    return (-1 if orientation in (1, 4) else 1), (-1 if orientation in (1, 2) else 1)


def _oriented(
    row: float, column: float, orientation: int, shape: tuple[int, int] | None
) -> tuple[float, float]:
    """(row, column) counted in the detector's orientation; the same way back."""
    horizontal, vertical = _tilt_signs(orientation)
    if shape is None and orientation != 3:
        raise WrongValue(
            "shape", "nothing", f"(rows, columns), which orientation {orientation} needs",
            "give shape, or max_shape in the PONI",
        )  # fmt: skip
    rows, columns = shape or (0, 0)
    return (
        row if vertical > 0 else rows - 1 - row,
        column if horizontal > 0 else columns - 1 - column,
    )


def _check(px_size: float, py_size: float, dist: float, rot1: float, rot2: float) -> None:
    for name, value in (("px_size", px_size), ("py_size", py_size), ("dist", dist)):
        if not (np.isfinite(value) and value > 0):
            raise WrongValue(name, f"{value}", "a positive number of metres", "correct it")
    for name, value in (("rot1", rot1), ("rot2", rot2)):
        if not abs(value) < np.pi / 2:
            raise WrongValue(name, f"{value}", "less than 90 degrees, in radians", "correct it")
