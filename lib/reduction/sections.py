"""Undistorted sections of reciprocal space, such as hk0, made from the pixels of all frames.

Every pixel is a point of reciprocal space. Those within a thin slab about the plane are projected
onto it and averaged; nothing is interpolated, and what no frame recorded stays empty. A frame
that was exposed over a range of angles counts at as many of them as the section's pixels tell
apart.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..crystal.cell import reciprocal_basis
from ..crystal.lattice_symmetry import reindex_absences
from ..errors import UserError
from ..geometry import Geometry, rotation_about
from ..series import RotationSeries
from .result import FrameTable, Lattice
from .survey import frame_blocks

Floats = NDArray[np.float64]

PLANES = ("hk0", "h0l", "0kl")
MOST_PX = 601
# Pixels are looked at in tiles, most of which lie nowhere near a section.
_TILE = 16
# Rotations that a frame is taken apart into, at most.
_MOST_STEPS = 8
# Where the rocking width is not known.
_HALF_THICKNESS_PER_A = 0.008


@dataclass(frozen=True)
class Section:
    """A plane of reciprocal space.

    Attributes
    ----------
    name : such as hk0, h0l or 1kl.
    bravais : of the lattice.
    image : (n, n) float32, mean electrons of a pixel; NaN where nothing was recorded. The foot of
        the perpendicular from the origin is the middle; the first index that varies runs to the
        right, and the second one up as far as it is normal to that.
    times : (n, n) int64, pixels of frames that went in.
    step_per_A : edge of a pixel, 1/Å.
    half_thickness_per_A : of the slab.
    star : (3, 3) columns are a*, b*, c* in 1/Å along right, up and the normal.
    """

    name: str
    bravais: str
    image: NDArray[np.float32]
    times: NDArray[np.int64]
    step_per_A: float
    half_thickness_per_A: float
    star: Floats

    @property
    def reach_per_A(self) -> float:
        """From the middle to the middle of the outermost pixels, 1/Å."""
        return (self.image.shape[0] // 2) * self.step_per_A

    @property
    def height_per_A(self) -> float:
        """Distance of the plane from the origin, along its normal."""
        fixed, level = plane_of(self.name)
        return level * float(self.star[2, fixed])

    def place(self, hkl: ArrayLike) -> Floats:
        """(n, 2) row and column, in px, of reflections (n, 3) projected onto the plane."""
        q = np.atleast_2d(np.asarray(hkl, float)) @ self.star.T
        middle = self.image.shape[0] // 2
        place: Floats = middle + np.stack([-q[:, 1], q[:, 0]], axis=1) / self.step_per_A
        return place

    def reflections(self) -> NDArray[np.int64]:
        """(n, 3) indices of the lattice's points in the plane, but for the origin.

        Without those that its centring leaves out.
        """
        fixed, level = plane_of(self.name)
        i, j = (k for k in range(3) if k != fixed)
        flat = self.star[:2][:, [i, j]]
        reach = np.ceil(np.sqrt(2) * self.reach_per_A * np.linalg.norm(np.linalg.inv(flat), axis=1))
        m, n = (np.arange(-k, k + 1) for k in reach.astype(int))
        hkl = np.zeros((len(m) * len(n), 3), np.int64)
        hkl[:, i], hkl[:, j] = np.repeat(m, len(n)), np.tile(n, len(m))
        hkl[:, fixed] = level
        inside = np.abs(self.place(hkl) - self.image.shape[0] // 2).max(1) * self.step_per_A
        kept = (inside <= self.reach_per_A) & np.any(hkl != 0, axis=1)
        return hkl[kept & ~reindex_absences(self.bravais, hkl)]


def plane_of(name: str) -> tuple[int, int]:
    """Which index is fixed (0, 1, 2), and at what: (2, 0) of ``hk0``.

    Raises
    ------
    UserError : the name is of no plane.
    """
    found = re.fullmatch(r"(h|-?\d+)(k|-?\d+)(l|-?\d+)", name)
    fixed = [i for i, word in enumerate(found.groups()) if word not in "hkl"] if found else []
    if found is None or len(fixed) != 1:
        raise UserError("section", f"'{name}'", "a plane such as hk0, h1l or -2kl", "name one")
    return fixed[0], int(found.groups()[fixed[0]])


def sections(
    series: RotationSeries,
    lattice: Lattice,
    frames: FrameTable,
    gain: float = 1.0,
    *,
    planes: Sequence[str] = PLANES,
    d_min_A: float | None = None,
    half_thickness_per_A: float | None = None,
    most_px: int = MOST_PX,
) -> tuple[Section, ...]:
    """Sections of a series, all in one pass over its frames.

    Parameters
    ----------
    series, lattice, frames, gain : as reduced; blank frames are left out.
    planes : such as hk0, or h1l for the first layer.
    d_min_A : resolution at the edges; by default what the finest tenth of the lattice's
        reflections goes beyond, as only the corners of a detector see it.
    half_thickness_per_A : of the slab; by default three times the width of the rocking curve at
        the edge, but a quarter of the layers' distance at most.
    most_px : along an edge. Fewer where pixels would be finer than the detector's.

    Raises
    ------
    UserError : for a name of no plane.
    """
    fixed = [plane_of(name) for name in planes]
    if d_min_A is None:
        d_A = lattice.reflections.d_A
        d_min_A = float(np.quantile(d_A, 0.1)) if len(d_A) else 1.0
    reach = 1 / d_min_A
    pixel = lattice.geometry.per_A_per_px
    middle = max(1, min((most_px - 1) // 2, round(reach / pixel)))
    step = reach / middle
    width = lattice.size_per_A + np.deg2rad(lattice.mosaicity_deg) * reach
    widest = 3 * width if np.isfinite(width) and width > 0 else _HALF_THICKNESS_PER_A
    star = reciprocal_basis(lattice.cell)
    views, level, half = [], np.zeros(len(planes)), np.zeros(len(planes))
    for number, (axis, order) in enumerate(fixed):
        views.append(_view(star, axis))
        spacing = float(views[-1][2] @ star[:, axis])
        level[number] = order * spacing
        half[number] = half_thickness_per_A or min(widest, abs(spacing) / 4)
    total = np.zeros((len(planes), 2 * middle + 1, 2 * middle + 1))
    times = np.zeros(total.shape, np.int64)
    # from the crystal at zero rotation to the Cartesian frame of its cell, then to each section
    to_views = np.array(views) @ star @ np.linalg.inv(lattice.orientation)
    good = ~series.mask
    for start, block in frame_blocks(series):
        for k, raw in enumerate(block, start):
            if frames.blank[k]:
                continue
            angles = _angles_deg(frames.angle_deg[k], series.angle_width_deg[k], reach / step)
            turned = to_views[None] @ rotation_about(lattice.geometry.axis, -angles)[:, None]
            _add(
                total, times, raw, good, series.pedestal, 1 / gain,
                np.array([frames.beam_row[k], frames.beam_column[k]]),
                *_optics(lattice.geometry), turned, level, half, step,
            )  # fmt: skip
    with np.errstate(invalid="ignore"):
        image = np.where(times > 0, total / times, np.nan).astype(np.float32)
    return tuple(
        Section(name, lattice.bravais, image[i], times[i], step, float(half[i]), views[i] @ star)
        for i, name in enumerate(planes)
    )


def write_section(path: Path, section: Section) -> None:
    """Write the image as a 32-bit TIFF, with its scale and lattice as JSON in its description."""
    import tifffile

    told = {
        "section": section.name,
        "bravais": section.bravais,
        "step_per_A": section.step_per_A,
        "half_thickness_per_A": section.half_thickness_per_A,
        "star_per_A": section.star.tolist(),
        "unit": "mean electrons per pixel; NaN: not recorded",
    }
    tifffile.imwrite(path, section.image, description=json.dumps(told))


def _view(star: Floats, fixed: int) -> Floats:
    """(3, 3) rows are right, up and the normal of a section, in the frame of the cell."""
    i, j = (k for k in range(3) if k != fixed)
    right = star[:, i] / np.linalg.norm(star[:, i])
    normal = np.cross(star[:, i], star[:, j])
    normal /= np.linalg.norm(normal)
    return np.array([right, np.cross(normal, right), normal])


def _angles_deg(middle: float, width: float, reach_px: float) -> Floats:
    """Angles within a frame, so close that the edge of a section moves by a pixel at most."""
    n = int(np.clip(np.ceil(np.deg2rad(abs(width)) * reach_px), 1, _MOST_STEPS))
    angles: Floats = middle + width * ((np.arange(n) + 0.5) / n - 0.5)
    return angles


def _optics(geometry: Geometry) -> tuple[Floats, float, float, float, float]:
    """What takes pixels to scattering vectors, as numbers."""
    return (
        np.asarray(np.linalg.inv(geometry.distortion.matrix), np.float64), geometry.radial_per_mm2,
        geometry.pixel_size_mm, geometry.distance_mm, geometry.wavelength_A,
    )  # fmt: skip


@numba.njit(cache=True, nogil=True)
def _scattering_vector(
    row: float, column: float, centre: Floats, undo: Floats, radial: float, pixel_mm: float,
    distance_mm: float, wavelength_A: float,
) -> tuple[float, float, float]:  # fmt: skip
    """`Geometry.to_q` of one pixel."""
    dx, dy = (column - centre[1]) * pixel_mm, (row - centre[0]) * pixel_mm
    x, y = undo[0, 0] * dx + undo[0, 1] * dy, undo[1, 0] * dx + undo[1, 1] * dy
    if radial != 0.0:
        r2, factor = x * x + y * y, 1.0
        for _ in range(4):
            factor -= (factor + radial * r2 * factor**3 - 1) / (1 + 3 * radial * r2 * factor**2)
        x, y = x * factor, y * factor
    length = wavelength_A * np.sqrt(x * x + y * y + distance_mm * distance_mm)
    return x / length, y / length, distance_mm / length - 1 / wavelength_A


@numba.njit(cache=True, nogil=True)
def _add(
    total: Floats, times: NDArray[np.int64], raw: NDArray[np.generic], good: NDArray[np.bool_],
    pedestal: float, per_count: float, centre: Floats, undo: Floats, radial: float,
    pixel_mm: float, distance_mm: float, wavelength_A: float, turned: Floats, level: Floats,
    half: Floats, step: float,
) -> None:  # fmt: skip
    """Add a frame to the sums of all sections.

    turned : (angles, sections, 3, 3) from the laboratory to right, up and normal.
    """
    rows, columns = raw.shape
    middle = total.shape[1] // 2
    # no point of a tile is further from its middle; lenses stretch by less than a third
    margin = 1.35 * 0.5 * np.sqrt(2.0) * _TILE * pixel_mm / (distance_mm * wavelength_A)
    for top in range(0, rows, _TILE):
        for left in range(0, columns, _TILE):
            mx, my, mz = _scattering_vector(
                top + 0.5 * (_TILE - 1), left + 0.5 * (_TILE - 1), centre, undo, radial, pixel_mm,
                distance_mm, wavelength_A,
            )  # fmt: skip
            for a in range(turned.shape[0]):
                for p in range(turned.shape[1]):
                    t = turned[a, p]
                    off = t[2, 0] * mx + t[2, 1] * my + t[2, 2] * mz - level[p]
                    if abs(off) > half[p] + margin:
                        continue
                    for row in range(top, min(top + _TILE, rows)):
                        for column in range(left, min(left + _TILE, columns)):
                            if not good[row, column]:
                                continue
                            x, y, z = _scattering_vector(
                                row, column, centre, undo, radial, pixel_mm, distance_mm,
                                wavelength_A,
                            )  # fmt: skip
                            off = t[2, 0] * x + t[2, 1] * y + t[2, 2] * z - level[p]
                            if abs(off) > half[p]:
                                continue
                            right = t[0, 0] * x + t[0, 1] * y + t[0, 2] * z
                            up = t[1, 0] * x + t[1, 1] * y + t[1, 2] * z
                            i = middle - round(up / step)
                            j = middle + round(right / step)
                            if 0 <= i <= 2 * middle and 0 <= j <= 2 * middle:
                                total[p, i, j] += (raw[row, column] - pedestal) * per_count
                                times[p, i, j] += 1
