"""What XDS left in a folder, in our frame and types.

XDS counts pixels from 1; an image f covers ZD from f - 1 to f; angles grow about
ROTATION_AXIS. Beam and detector may be tilted to each other; everything is turned until the
beam is z and the detector's rows run along x.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...crystal.cell import cell_from_reciprocal_basis
from ...crystal.lattice_symmetry import bravais_of_space_group
from ...errors import UserError
from ...geometry import centre_from_xds
from ...series import RotationSeries
from ...xds.correct import Correct, read_correct
from ...xds.integrate import read_integrate
from ..result import Flag, FrameTable, Lattice
from .outcome import (
    NO_ESD,
    frame_position,
    frame_table,
    lattice_from,
    lorentz_factors,
    reflection_rows,
)

Floats = NDArray[np.float64]

# Less of a reflection's profile than this is PARTIAL.
_WHOLE = 0.95
_LARGEST_BYTES = 2**30
_AGAIN = "run XDS again"
_HEADER_NUMBERS = (
    "STARTING_FRAME", "STARTING_ANGLE", "OSCILLATION_RANGE", "X-RAY_WAVELENGTH", "QX", "ORGX",
    "ORGY", "DETECTOR_DISTANCE", "SPACE_GROUP_NUMBER", "REFLECTING_RANGE_E.S.D.",
)  # fmt: skip


@dataclass(frozen=True)
class XdsResult:
    """The lattice, the frames, the gain that XDS found, and what is odd about them."""

    lattice: Lattice
    frames: FrameTable
    gain: float
    notes: tuple[str, ...]


@dataclass(frozen=True)
class HklFile:
    """An ASCII reflection file of XDS: its header, and one row of numbers per reflection."""

    header: dict[str, str]
    rows: Floats

    def numbers(self, key: str) -> Floats:
        """The numbers of a header item.

        Raises
        ------
        KeyError, ValueError : it is absent, or not numbers.
        """
        return np.array([float(word) for word in self.header[key].split()])


def read_hkl_file(path: Path) -> HklFile:
    """Read XDS_ASCII.HKL or INTEGRATE.HKL whole, header and rows.

    Raises
    ------
    UserError : it is missing, cut, too large, or not such a file.
    """
    try:
        if path.stat().st_size > _LARGEST_BYTES:
            raise UserError(path, "more than 1 GB", "a reflection file", _AGAIN)
        lines = path.read_text(encoding="latin-1").splitlines()
    except OSError as error:
        raise UserError(path, str(error.strerror), "a reflection file of XDS", _AGAIN) from None
    if not lines or lines[-1].strip() != "!END_OF_DATA":
        raise UserError(path, "no END_OF_DATA", "a complete file", _AGAIN)
    header: dict[str, str] = {}
    for line in lines:
        if not line.startswith("!"):
            break
        for key, value in re.findall(r"([A-Z][\w'.()-]*)=\s*(.*?)(?=\s+[A-Z][\w'.()-]*=|$)", line):
            header[key] = value.strip()
    body = [line for line in lines if not line.startswith("!")]
    width = int(header.get("NUMBER_OF_ITEMS_IN_EACH_DATA_RECORD", "0"))
    try:
        rows = np.array([[float(word) for word in line.split()] for line in body])
        rows = rows.reshape(len(body), width)
    except ValueError as error:
        raise UserError(
            path, f"rows that are not {width} numbers: {error}", "numbers", _AGAIN
        ) from None
    return HklFile(header, rows)


def read_spots(path: Path) -> tuple[Floats, NDArray[np.bool_]]:
    """(n,) image coordinates of the spots of SPOT.XDS, and whether IDXREF indexed each.

    A row is x, y, z and intensity, then a segment in some versions, then the indices once
    IDXREF has been there; 0 0 0 is not indexed. A file that cannot be read has no spots.
    """
    try:
        rows = np.loadtxt(path, ndmin=2)
    except (OSError, ValueError):
        rows = np.zeros((0, 4))
    if rows.shape[1] < 7:
        return rows[:, 2], np.zeros(len(rows), bool)
    return rows[:, 2], np.any(rows[:, -3:] != 0, axis=1)


def read_xds(
    folder: Path, series: RotationSeries, blank: NDArray[np.bool_] | None = None
) -> XdsResult:
    """The integrated lattice, from XDS_ASCII.HKL, CORRECT.LP, INTEGRATE.LP and SPOT.XDS.

    XDS gives no summed intensities and no observed positions here: they are NaN. A misfit of
    CORRECT is an OUTLIER. The scale of a frame is XDS's own, from INTEGRATE.LP. `blank` : (n,)
    frames that XDS was not given.

    Raises
    ------
    UserError : a file is missing, cut, or of something else.
    """
    path = folder / "XDS_ASCII.HKL"
    file = read_hkl_file(path)
    if file.rows.shape[1] < 12:
        raise UserError(path, f"{file.rows.shape[1]} columns", "unmerged data, 12", _AGAIN)
    try:
        beam = file.numbers("INCIDENT_BEAM_DIRECTION")
        told_axis = file.numbers("ROTATION_AXIS")
        real = np.array([file.numbers(f"UNIT_CELL_{axis}-AXIS") for axis in "ABC"])
        fast = file.numbers("DIRECTION_OF_DETECTOR_X-AXIS")
        number = {key: float(file.numbers(key)[0]) for key in _HEADER_NUMBERS}
    except (KeyError, ValueError, IndexError) as error:
        raise UserError(path, f"no {error} in its header", "a file of CORRECT", _AGAIN) from None

    z = beam / np.linalg.norm(beam)
    x = fast - (fast @ z) * z
    x /= np.linalg.norm(x)
    frame = np.array([x, np.cross(z, x), z])
    # XDS turns towards growing angles; where the series does not, about the opposite axis
    senses = np.median(series.angle_width_deg), number["OSCILLATION_RANGE"]
    sense = float(np.prod(np.sign(senses))) or 1.0
    axis = sense * (frame @ told_axis)
    distance, pixel = number["DETECTOR_DISTANCE"], number["QX"]
    geometry = series.geometry.with_(
        wavelength_A=number["X-RAY_WAVELENGTH"],
        distance_mm=distance,
        beam_centre_px=centre_from_xds(number["ORGX"], number["ORGY"], distance / pixel, beam),
        axis=tuple(axis.tolist()),
    )
    orientation = np.asarray(np.linalg.inv(real @ frame.T), np.float64)
    correct = read_correct(folder / "CORRECT.LP")
    gain = _gain(folder / "INTEGRATE.LP")

    order = np.isfinite(file.rows[:, :12]).all(axis=1) & (file.rows[:, 4] != 0)
    h, k, ell, iobs, sigma, xd, yd, zd, _, peak, _, _ = file.rows[order, :12].T
    hkl = np.stack([h, k, ell], axis=1).astype(np.int32)
    turned = zd - number["STARTING_FRAME"] + 1
    angle = sense * (number["STARTING_ANGLE"] + number["OSCILLATION_RANGE"] * turned)
    partiality = np.clip(peak / 100, 0.0, 1.0)
    flags = Flag.OUTLIER * (sigma < 0) + Flag.PARTIAL * (partiality < _WHOLE)
    # XDS multiplies by the reciprocal Lorentz factor times the wavelength, and counts as the
    # detector does
    to_ours = 1 / (geometry.wavelength_A * gain)
    reflections = reflection_rows(
        hkl=hkl,
        intensity=iobs * to_ours,
        sigma=np.abs(sigma) * to_ours,
        frame=frame_position(series, zd + 0.5),
        angle_deg=angle,
        row=yd - 1,
        column=xd - 1,
        partiality=partiality,
        lorentz=lorentz_factors(orientation, geometry, hkl, angle),
        cell=cell_from_reciprocal_basis(orientation),
        flags=flags.astype(np.uint32),
    )
    spot_z, indexed = read_spots(folder / "SPOT.XDS")
    refined = correct.refined
    lattice = lattice_from(
        bravais=bravais_of_space_group(int(number["SPACE_GROUP_NUMBER"])),
        orientation=orientation,
        geometry=geometry,
        reflections=reflections,
        n_spots=len(spot_z),
        n_indexed=int(indexed.sum()),
        rms_px=refined.sd_spot_px if refined else float("nan"),
        rms_deg=refined.sd_spindle_deg if refined else float("nan"),
        cell_esd=(refined.cell_esd if refined else None) or NO_ESD,
        mosaicity_deg=number["REFLECTING_RANGE_E.S.D."],
    )
    frames = frame_table(
        series,
        spot_frame=frame_position(series, spot_z + 0.5),
        indexed=indexed,
        centre_px=geometry.beam_centre_px,
        scale=_scales(folder / "INTEGRATE.LP", series),
        blank=blank,
    )
    return XdsResult(lattice, frames, gain, _notes(correct, lattice, series))


def _scales(path: Path, series: RotationSeries) -> Floats:
    table = read_integrate(path).images
    known = dict(zip(table.number.tolist(), table.scale.tolist(), strict=True))
    return np.array([known.get(number, np.nan) for number in series.frame_number.tolist()])


def _gain(path: Path) -> float:
    """Counts per electron that XDS estimated, 1 where it does not say."""
    found = re.search(r"WITH GAIN=\s*([\d.]+)", path.read_text(encoding="latin-1"))
    gain = float(found[1]) if found else 1.0
    return gain if gain > 0 else 1.0


def _notes(correct: Correct, lattice: Lattice, series: RotationSeries) -> tuple[str, ...]:
    notes = []
    model = correct.error_model
    if model is not None:
        isa = f"ISa {model.isa:.2f}" if model.determined else "ISa not determined"
        notes.append(f"CORRECT: {isa}")
    if not correct.refinement_accepted:
        notes.append("CORRECT did not accept its own refinement")
    notes += [f"CORRECT: {one.text}" for one in correct.warnings]
    if not correct.complete:
        notes.append(f"CORRECT.LP is cut at {correct.stops_at}")
    if np.dot(lattice.geometry.axis, series.geometry.axis) < 0:
        notes.append("the rotation axis is opposite to the one given")
    return tuple(notes)
