"""XPARM.XDS and GXPARM.XDS: geometry and orientation, in XDS's terms and in ours.

Since 2012 the file opens with a line naming the program and its version, and the cell comes
before the detector; before, it had no such line and the cell came last.

Our frame has the beam along z and the detector normal to it, so XDS's vectors are turned: first
into the detector's axes, then by the shortest rotation that takes the beam to z. The beam
centre is where the beam meets the detector, not the foot of the perpendicular.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

import numpy as np

from ..crystal.cell import Cell, Floats
from ..errors import UserError
from ..geometry import Geometry, centre_from_xds, to_beam_frame
from .log import Vector, read_text

# Beyond this tilt of the beam against the detector's normal, a detector taken as normal to the
# beam misplaces spots by more than 1e-3 of their distance from the centre at 2 theta = 3 degrees.
MAX_TILT_DEG = 1.0

_DO = "give the file that XDS wrote"


@dataclass(frozen=True)
class XdsGeometry:
    """Diffraction geometry and orientation as XDS states them.

    Attributes
    ----------
    source : the file.
    starting_frame : frame that starts at `starting_angle_deg`.
    starting_angle_deg, oscillation_deg : spindle angle there, and range of a frame.
    rotation_axis : laboratory frame.
    wavelength_A : Å.
    beam : laboratory frame; XDS prints it with length 1 / wavelength.
    space_group_number, cell : of `axes`.
    axes : a, b, c in Å in the laboratory frame at spindle angle zero.
    nx, ny : pixels.
    qx_mm, qy_mm : edges of a pixel.
    orgx, orgy : foot of the perpendicular from the crystal, counted from 1.
    distance_mm : to the detector along its normal.
    detector_x, detector_y : its axes in the laboratory frame.
    """

    source: str
    starting_frame: int
    starting_angle_deg: float
    oscillation_deg: float
    rotation_axis: Vector
    wavelength_A: float
    beam: Vector
    space_group_number: int
    cell: Cell
    axes: tuple[Vector, Vector, Vector]
    nx: int
    ny: int
    qx_mm: float
    qy_mm: float
    orgx: float
    orgy: float
    distance_mm: float
    detector_x: Vector
    detector_y: Vector

    @property
    def tilt_deg(self) -> float:
        """Angle between the beam and the detector's normal."""
        x, y, z = self._detector_frame @ np.array(self.beam)
        return float(np.rad2deg(np.arctan2(np.hypot(x, y), z)))

    def angle_deg(self, frame_number: Floats | float) -> Floats:
        """Spindle angle in the middle of a frame, for its number, which may be fractional."""
        number = np.asarray(frame_number, float) + 0.5
        return self.starting_angle_deg + self.oscillation_deg * (number - self.starting_frame)

    def geometry(self) -> Geometry:
        """The same in our terms.

        Raises
        ------
        UserError : rectangular pixels, a detector seen from behind, or one that is tilted
            against the beam by more than `MAX_TILT_DEG`.
        """
        if abs(self.qx_mm - self.qy_mm) > 1e-6 * self.qx_mm:
            found = f"{self.qx_mm} and {self.qy_mm} mm"
            raise UserError(f"{self.source}: QX, QY", found, "square pixels", "bin the frames")
        beam = self._detector_frame @ np.array(self.beam)
        if self.distance_mm <= 0 or beam[2] <= 0:
            found = f"distance {self.distance_mm:g} mm, beam {beam[2]:g} along the normal"
            raise UserError(
                self.source, found, "both positive", "flip the frames and process them again"
            )
        if self.tilt_deg > MAX_TILT_DEG:
            raise UserError(
                f"{self.source}: beam and detector",
                f"{self.tilt_deg:.1f} degrees off the normal",
                f"at most {MAX_TILT_DEG:g}",
                "use data of a detector that is normal to the beam",
            )
        axis = self._to_ours(np.array(self.rotation_axis))
        try:
            return Geometry(
                wavelength_A=self.wavelength_A,
                pixel_size_mm=self.qx_mm,
                distance_mm=self.distance_mm,
                beam_centre_px=centre_from_xds(
                    self.orgx, self.orgy, self.distance_mm / self.qx_mm, beam
                ),
                axis=(float(axis[0]), float(axis[1]), float(axis[2])),
            )
        except ValueError as error:
            raise UserError(self.source, str(error), "a geometry that can be", _DO) from None

    def orientation(self) -> Floats:
        """``A = U B`` (3, 3), columns a*, b*, c* in 1/Å at zero rotation in our frame."""
        real = np.array([self._to_ours(np.array(axis)) for axis in self.axes]).T
        return np.asarray(np.linalg.inv(real).T, np.float64)

    @property
    def _detector_frame(self) -> Floats:
        x, y = np.array(self.detector_x), np.array(self.detector_y)
        x, y = x / np.linalg.norm(x), y / np.linalg.norm(y)
        return np.array([x, y, np.cross(x, y)])

    def _to_ours(self, vector: Floats) -> Floats:
        beam = self._detector_frame @ np.array(self.beam)
        return to_beam_frame(self._detector_frame @ vector, beam)


@dataclass(frozen=True)
class Xparm(XdsGeometry):
    """An XPARM.XDS or GXPARM.XDS.

    Attributes
    ----------
    version : as printed; empty before 2012.
    build : BUILT=; None before 2015.
    """

    version: str
    build: int | None


def read_xparm(path: str | Path) -> Xparm:
    """Read XPARM.XDS or GXPARM.XDS of either layout.

    Raises
    ------
    UserError : the file cannot be read, is cut, or a number in it is missing or impossible.
    """
    text = read_text(path, "an XPARM.XDS")
    lines = text.splitlines()
    named = re.match(r"\s*XPARM\.XDS\s+VERSION\s+(.*?)(?:\s+BUILT=\s*(\d+))?\s*$", lines[0])
    if not text.endswith("\n"):
        lines = lines[:-1]  # half a number looks like a number
    first = 1 if named else 0
    # the order of the blocks, by lines of so many numbers each
    sizes = (6, 4, 7, 3, 3, 3, 5, 3, 3, 3, 3) if named else (6, 4, 4, 3, 3, 3, 3, 7, 3, 3, 3)
    rows = []
    for offset, size in enumerate(sizes):
        number = first + offset
        if number >= len(lines):
            raise UserError(path, f"the end after line {len(lines)}", "more numbers", _DO)
        rows.append(_row(path, lines[number], number + 1, size))
    scan, beam = rows[0], rows[1]
    if named:
        cell, axes, (_, nx, ny, qx, qy), (orgx, orgy, distance) = (
            rows[2],
            rows[3:6],
            rows[6],
            rows[7],
        )
        detector = rows[8:10]
    else:
        (nx, ny, qx, qy), (distance, orgx, orgy), detector = rows[2], rows[3], rows[4:6]
        cell, axes = rows[7], rows[8:11]
    a, b, c = axes
    found = Xparm(
        source=str(path),
        starting_frame=int(scan[0]),
        starting_angle_deg=scan[1],
        oscillation_deg=scan[2],
        rotation_axis=_vector(scan[3:6]),
        wavelength_A=beam[0],
        beam=_vector(beam[1:4]),
        space_group_number=int(cell[0]),
        cell=(cell[1], cell[2], cell[3], cell[4], cell[5], cell[6]),
        axes=(_vector(a), _vector(b), _vector(c)),
        nx=int(nx),
        ny=int(ny),
        qx_mm=qx,
        qy_mm=qy,
        orgx=orgx,
        orgy=orgy,
        distance_mm=distance,
        detector_x=_vector(detector[0]),
        detector_y=_vector(detector[1]),
        version=named[1].strip() if named else "",
        build=int(named[2]) if named and named[2] else None,
    )
    check_geometry(found)
    return found


def check_geometry(x: XdsGeometry) -> None:
    """Refuse what no experiment can have.

    Raises
    ------
    UserError : naming the first impossible value.
    """
    edges, angles = x.cell[:3], x.cell[3:]
    bad = {
        "wavelength": not 0 < x.wavelength_A < 100,
        "pixel size": min(x.qx_mm, x.qy_mm) <= 0,
        "size of the detector": min(x.nx, x.ny) <= 0,
        "cell": min(edges) <= 0 or not all(0 < angle < 180 for angle in angles),
        "space group number": not 0 <= x.space_group_number <= 230,
        "rotation axis": np.linalg.norm(x.rotation_axis) < 1e-6,
        "beam": np.linalg.norm(x.beam) < 1e-9,
        "detector axes": np.linalg.norm(np.cross(x.detector_x, x.detector_y)) < 0.1,
        "cell axes": abs(np.linalg.det(np.array(x.axes))) < 1e-6,
        "distance": x.distance_mm == 0,
    }
    for what, wrong in bad.items():
        if wrong:
            raise UserError(f"{x.source}: {what}", "an impossible value", "a possible one", _DO)


def _row(path: str | Path, line: str, number: int, size: int) -> list[float]:
    """The numbers of a line; columns are wide enough never to touch."""
    words = line.split()
    try:
        values = [float(word) for word in words]
    except ValueError:
        values = []
    if len(values) != size or not all(isfinite(v) and abs(v) < 1e9 for v in values):
        found = repr(line.strip()[:80])
        raise UserError(f"{path}: line {number}", found, f"{size} numbers", _DO)
    return values


def _vector(values: list[float]) -> Vector:
    return values[0], values[1], values[2]
