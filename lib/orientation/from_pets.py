"""Orientation data from the files of PETS2: intensities of the peaks that it found, by frame.

A ``.pts`` holds geometry, cell and angles; ``.rpl`` (or ``.cor``, with refined centres) the peaks:
x, y, z in 1/Å, intensity, its error, two columns of whole pixels, position in px, angle, highest
pixel, number of the frame. Only frames on which a peak was found are listed, so that frames without
it are missing rather than zero. They hold no indices: these are found here, with the cell of the
``.pts``.

PETS counts pixels from 1, x along columns and y along rows. Its reciprocal space is ours turned
half about x, (x, -y, -z), with the tilt axis at the angle omega; the crystal turns by alpha
about it. (Derived from the x, y, z of real files, and checked in the tests.)
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..crystal.cell import Cell, Floats, reciprocal_basis
from ..errors import UserError
from ..geometry import Geometry
from ..reduction.config import ReductionConfig
from ..reduction.find_lattices import find_lattices
from ..reduction.model import Model
from ..reduction.solve_lattice import HKL_TOLERANCE, assign_indices
from ..reduction.spot_finding import Spots
from .observations import FrameIntensities, OrientationData

#: Pixel sizes are not in a .pts: only their ratio to the camera length matters.
PIXEL_MM = 0.055
#: Peaks of one reflection so many frames apart belong to one passage.
GAP = 3
#: Columns of a .rpl and a .cor.
COLUMNS = 12
_DO = "give the .pts that PETS2 wrote, with its .rpl or .cor beside it"


@dataclass(frozen=True)
class PetsInput:
    """What a .pts says.

    Attributes
    ----------
    wavelength_A, per_A_per_px : scale.
    omega_deg : direction of the tilt axis.
    half_exposure_deg : half of what an exposure covers.
    centre_px : (x, y) as written, from 1.
    cell : reference cell.
    alpha_deg : (frames,).
    used : (frames,) bool.
    """

    wavelength_A: float
    per_A_per_px: float
    omega_deg: float
    half_exposure_deg: float
    centre_px: tuple[float, float]
    cell: Cell
    alpha_deg: Floats
    used: NDArray[np.bool_]


def from_pets(pts: str | Path, peaks: str | Path | None = None) -> OrientationData:
    """Frame intensities of the peaks of a PETS2 project, indexed with its cell.

    Parameters
    ----------
    pts : the project's .pts.
    peaks : its .rpl or .cor; None takes what stands beside the .pts, .rpl first.

    Raises
    ------
    UserError : a file is missing or not understood, the project is of precession data, or
        the peaks are not on a lattice of the cell.
    """
    pts = Path(pts)
    said = read_pts(pts)
    path = Path(peaks) if peaks else next(
        (p for p in (pts.with_suffix(s) for s in (".rpl", ".cor")) if p.exists()), None
    )  # fmt: skip
    if path is None:
        raise UserError(pts, "no .rpl or .cor beside it", "a list of peaks", _DO)
    table = _read_peaks(path)
    frame = table[:, 11].astype(np.int64) - 1
    inside = (frame >= 0) & (frame < len(said.alpha_deg))
    table, frame = table[inside], frame[inside]
    column, row = table[:, 7] - 1, table[:, 8] - 1
    omega = np.deg2rad(said.omega_deg)
    geometry = Geometry(
        wavelength_A=said.wavelength_A,
        pixel_size_mm=PIXEL_MM,
        distance_mm=PIXEL_MM / (said.per_A_per_px * said.wavelength_A),
        beam_centre_px=(said.centre_px[1] - 1, said.centre_px[0] - 1),
        axis=(float(np.cos(omega)), float(-np.sin(omega)), 0.0),
    )
    beam = _centres(pts.with_suffix(".cenloc"), len(said.alpha_deg), geometry)
    steps = np.diff(said.alpha_deg)
    step = float(np.median(steps)) if len(steps) else 2 * said.half_exposure_deg
    model = Model(np.eye(3) * 0.1, geometry, beam, _ordered(said.alpha_deg, step), step)
    spots = _as_spots(row, column, frame, table[:, 3], table[:, 4])
    notes: list[str] = []
    # the cell of the .pts was refined with distortions that its scale does not tell of
    config = ReductionConfig(cell=said.cell, max_lattices=1, d_max_A=50.0, refine_distance=True)
    found = find_lattices(model, spots, config, notes, lambda step, fraction: None)
    if not found:
        cell = " ".join(f"{v:g}" for v in said.cell)
        raise UserError(path, f"{len(spots)} peaks that no lattice explains",
                        f"peaks of the cell {cell}", "check the cell and omega")  # fmt: skip
    refined = found[0][0].solution.model
    hkl, deviation, _ = assign_indices(refined, spots)
    good = (deviation < HKL_TOLERANCE) & (hkl != 0).any(axis=1)
    good &= np.isfinite(table[:, 3]) & (table[:, 4] > 0)
    rows = FrameIntensities(
        hkl[good], _passages(hkl[good], frame[good]), frame[good], table[good, 3],
        table[good, 4] ** 2, row[good], column[good],
    )  # fmt: skip
    centre = refined.centre_px(np.arange(len(said.alpha_deg), dtype=float))
    out_of_order = np.zeros(len(said.alpha_deg), bool)
    out_of_order[1:] = steps * np.sign(step) <= 0
    return OrientationData(
        name=pts.stem,
        orientation=refined.orientation,
        reciprocal_basis=reciprocal_basis(refined.cell),
        geometry=refined.geometry,
        angle_deg=said.alpha_deg,
        exposure_deg=np.full(len(said.alpha_deg), 2 * said.half_exposure_deg),
        used=said.used & ~out_of_order,
        beam_row=centre[:, 0],
        beam_column=centre[:, 1],
        intensities=rows,
    )


def read_pts(path: str | Path) -> PetsInput:
    """Read what orientation refinement needs from a .pts.

    Raises
    ------
    UserError : the file cannot be read, something in it is missing, or it is of precession data.
    """
    try:
        lines = Path(path).read_text(encoding="latin-1").splitlines()
    except OSError as error:
        raise UserError(path, str(error.strerror or error), "a .pts of PETS2", _DO) from None
    cards: dict[str, list[str]] = {}
    images: list[list[float]] = []
    listing = False
    for line in lines:
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        key = words[0].lower()
        if key in ("imagelist", "endimagelist"):
            listing = key == "imagelist"
        elif listing:
            try:
                images.append([float(words[1]), float(words[-1])])
            except (ValueError, IndexError):
                raise UserError(path, f"the image '{line.strip()[:60]}'", "a name, an angle and "
                                "more numbers", _DO) from None  # fmt: skip
        else:
            cards.setdefault(key, words[1:])
    if cards.get("geometry", ["continuous"])[0].lower() != "continuous":
        raise UserError(f"{path}: geometry", cards["geometry"][0], "continuous",
                        "give data of continuous rotation")  # fmt: skip

    def numbers(key: str, n: int) -> list[float]:
        try:
            values = [float(word) for word in cards.get(key, [])[:n]]
        except ValueError:
            values = []
        if len(values) < n:
            raise UserError(f"{path}: {key}", " ".join(cards.get(key, [])) or "nothing",
                            f"{n} numbers", _DO)  # fmt: skip
        return values

    if not images:
        raise UserError(path, "no list of images", "imagelist ... endimagelist", _DO)
    a, b, c, alpha, beta, gamma = numbers("referencecell", 6)
    x, y = numbers("center", 2)
    table = np.array(images)
    return PetsInput(
        numbers("lambda", 1)[0], numbers("aperpixel", 1)[0], numbers("omega", 1)[0],
        numbers("phi", 1)[0], (x, y), (a, b, c, alpha, beta, gamma), table[:, 0], table[:, 1] > 0,
    )  # fmt: skip


def _read_peaks(path: Path) -> Floats:
    try:
        table = np.loadtxt(path, ndmin=2)
    except (OSError, ValueError) as error:
        raise UserError(path, str(error)[:80], f"{COLUMNS} columns of numbers", _DO) from None
    if table.shape[1] != COLUMNS:
        raise UserError(path, f"{table.shape[1]} columns", f"{COLUMNS} (.rpl or .cor)", _DO)
    return np.asarray(table, np.float64)


def _centres(path: Path, n: int, geometry: Geometry) -> Floats:
    """(n, 2) direct beam: the .cenloc's where it found one, lines between; else the .pts's."""
    if not path.exists():
        return np.tile(geometry.beam_centre_px, (n, 1))
    table = np.loadtxt(path, ndmin=2)
    if table.shape != (n, 3):
        raise UserError(path, f"{table.shape[0]} rows", f"one for each of {n} frames", _DO)
    good = table[:, 2] > 0
    if not good.any():
        return np.tile(geometry.beam_centre_px, (n, 1))
    at = np.arange(n)
    return np.stack([np.interp(at, at[good], table[good, k] - 1) for k in (1, 0)], axis=1)


def _ordered(alpha_deg: Floats, step: float) -> Floats:
    """The angles, an odd one out put where its neighbours say."""
    n = np.arange(len(alpha_deg))
    line = np.median(alpha_deg - step * n) + step * n
    return np.where(np.abs(alpha_deg - line) > abs(step) * 0.9, line, alpha_deg)


def _as_spots(
    row: Floats, column: Floats, frame: NDArray[np.int64], intensity: Floats, sigma: Floats
) -> Spots:
    n = len(row)
    return Spots(
        row, column, frame.astype(float), np.full(n, 0.5), frame, frame, intensity,
        np.maximum(sigma, 1e-6), intensity, np.full(n, 9), np.zeros(n, bool), np.zeros(n, bool),
    )  # fmt: skip


def _passages(hkl: NDArray[np.int32], frame: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n,) number of the passage: the same index on frames at most `GAP` apart."""
    order = np.lexsort((frame, *hkl.T))
    new = np.ones(len(order), bool)
    same = (np.diff(hkl[order], axis=0) == 0).all(axis=1)
    new[1:] = ~(same & (np.diff(frame[order]) <= GAP))
    number = np.empty(len(order), np.int64)
    number[order] = np.cumsum(new) - 1
    return number
