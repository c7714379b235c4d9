"""Orientation data from DIALS: its shoeboxes summed frame by frame, or its centroids.

Shoeboxes with a background are written by ``dials.integrate integration.debug.output=True
integration.debug.separate_files=False`` (of all frames only in newer versions: dials #1831).
Those of ``dials.find_spots`` hold nothing but the strong pixels, whose sums are biased, and are
not used. The column ``frame_sliced_shoebox`` of versions since September 2026 is not read: its
layout on disk has no stated version.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from ..crystal.cell import Floats, cell_from_reciprocal_basis, reciprocal_basis
from ..errors import UserError
from ..geometry import Geometry, centre_from_corner, to_dials_frame
from .dials_refl import ReflectionTable, Shoebox, read_refl
from .observations import Centroids, FrameIntensities, OrientationData

# bits of the mask, and of the flags of a reflection
VALID, FOREGROUND, BACKGROUND_USED = 1, 4, 16
INDEXED = 4
#: Centroids on a frame are told from so many standard deviations on.
LEAST_SNR = 4.0
_INTEGRATE = (
    "integrate with integration.debug.output=True integration.debug.separate_files=False, or "
    "ask for centroids alone (stage A)"
)


def from_dials(
    experiments: str | Path, reflections: str | Path, *, centroids: bool = False
) -> OrientationData:
    """Frame intensities from shoeboxes, or centroids, of one experiment.

    Parameters
    ----------
    experiments, reflections : a .expt and its .refl.
    centroids : take observed centroids (``xyzobs.px.value``) though they show no single frames.

    Raises
    ------
    UserError : a file is missing or not understood, there is more than one experiment, or
        `centroids` is False and there are no shoeboxes with a background.
    """
    experiment = _read_experiment(Path(experiments))
    table = read_refl(reflections)
    orientation, geometry = _model(experiment)
    first, angle, width = _scan(experiment, experiments)
    n = len(angle)
    if "miller_index" not in table.columns:
        raise UserError(reflections, "no indices", "miller_index", "give indexed reflections")
    rows = None if centroids else _slices(table, first, n, reflections)
    row, column = geometry.beam_centre_px
    return OrientationData(
        name=Path(reflections).stem,
        orientation=orientation,
        reciprocal_basis=reciprocal_basis(cell_from_reciprocal_basis(orientation)),
        geometry=geometry,
        angle_deg=angle,
        exposure_deg=np.full(n, width),
        used=np.ones(n, bool),
        beam_row=np.full(n, row),
        beam_column=np.full(n, column),
        intensities=rows,
        centroids=_centroids(table, first, n, reflections) if centroids else None,
    )


def _read_experiment(path: Path) -> dict[str, Any]:
    do = "give the .expt that DIALS wrote"
    try:
        whole = json.loads(path.read_text(encoding="utf-8"))
        if len(whole["crystal"]) != 1 or len(whole["experiment"]) != 1:
            found = f"{len(whole['experiment'])} experiments, {len(whole['crystal'])} crystals"
            raise UserError(path, found, "one of each", "split them: dials.split_experiments")
        names = ("beam", "detector", "goniometer", "scan", "crystal")
        return {name: whole[name][0] for name in names}
    except OSError as error:
        raise UserError(path, str(error.strerror or error), "a .expt of DIALS", do) from None
    except (ValueError, KeyError, IndexError, TypeError):
        raise UserError(path, "another content", "a .expt of an indexed scan", do) from None


def _ours(vector: Any) -> Floats:
    return to_dials_frame(vector)  # a half turn is its own inverse


def _model(experiment: dict[str, Any]) -> tuple[Floats, Geometry]:
    """A = U B, and the geometry, turned until the beam is z and the detector's rows are x."""
    panel = experiment["detector"]["panels"][0]
    # the direction it stores points back to the source
    beam = -_ours(experiment["beam"]["direction"])
    z = beam / np.linalg.norm(beam)
    fast, slow, origin = (_ours(panel[name]) for name in ("fast_axis", "slow_axis", "origin"))
    x = fast - (fast @ z) * z
    x /= np.linalg.norm(x)
    frame = np.array([x, np.cross(z, x), z])
    # origin + across fast + down slow = distance * beam
    across, down, distance = np.linalg.solve(np.stack([-fast, -slow, z], axis=1), origin)
    pixel = float(panel["pixel_size"][0])
    goniometer = experiment["goniometer"]
    half_turn = np.diag([1.0, -1.0, -1.0])

    def rotation(name: str) -> Floats:
        matrix = np.reshape(goniometer.get(name, np.eye(3).ravel()), (3, 3))
        return np.asarray(half_turn @ matrix @ half_turn, np.float64)

    # q = S R F A h is a turn about S axis of S F A
    setting, fixed = rotation("setting_rotation"), rotation("fixed_rotation")
    axis = frame @ setting @ _ours(goniometer["rotation_axis"])
    crystal = experiment["crystal"]
    real = np.array([_ours(crystal[f"real_space_{name}"]) for name in "abc"])
    orientation = frame @ setting @ fixed @ np.linalg.inv(real)
    geometry = Geometry(
        wavelength_A=experiment["beam"]["wavelength"],
        pixel_size_mm=pixel,
        distance_mm=float(distance),
        beam_centre_px=centre_from_corner(across / pixel, down / pixel),
        axis=(float(axis[0]), float(axis[1]), float(axis[2])),
    )
    return np.asarray(orientation, np.float64), geometry


def _scan(experiment: dict[str, Any], path: str | Path) -> tuple[int, Floats, float]:
    """First image, angles at mid-exposure, and width of an exposure."""
    scan = experiment["scan"]
    first, last = scan["image_range"]
    n = last - first + 1
    if "oscillation" in scan:
        start, width = scan["oscillation"]
        begin = start + width * np.arange(n)
    else:  # dxtbx since 2024
        begin = np.array(scan.get("properties", {}).get("oscillation", []), float)
        width = scan.get("properties", {}).get("oscillation_width", [0.0])[0]
        if len(begin) != n:
            raise UserError(path, "no angles", "those of each image", "give a rotation scan")
        if len(begin) > 1:
            width = float(np.median(np.diff(begin)))
    return int(first), begin + 0.5 * width, float(width)


def _centroids(table: ReflectionTable, first: int, n: int, path: str | Path) -> Centroids:
    c = table.columns
    if "xyzobs.px.value" not in c:
        raise UserError(path, "no xyzobs.px.value", "observed centroids", "give refined.refl")
    place = c["xyzobs.px.value"]
    variance = c.get("xyzobs.px.variance", np.full(place.shape, 0.25))
    intensity = c.get("intensity.sum.value", np.ones(len(place)))
    frame = place[:, 2] - (first - 1) - 0.5
    use = (c["miller_index"] != 0).any(axis=1) & (intensity > 0)
    use &= (variance[:, 2] > 0) & (frame > -0.5) & (frame < n - 0.5)
    if "flags" in c:
        use &= (c["flags"] & np.uint64(INDEXED)) > 0
    if not use.any():
        raise UserError(path, "no indexed spot", "some", "give indexed.refl or refined.refl")
    return Centroids(
        c["miller_index"][use].astype(np.int32), frame[use], np.sqrt(variance[use, 2]),
        place[use, 1] - 0.5, place[use, 0] - 0.5, intensity[use],
    )  # fmt: skip


def _slices(table: ReflectionTable, first: int, n: int, path: str | Path) -> FrameIntensities:
    if "shoebox" not in table.other:
        sliced = "frame_sliced_shoebox" in table.other
        found = "only sliced shoeboxes, of a layout not known" if sliced else "no shoeboxes"
        raise UserError(path, found, "shoeboxes with their background", _INTEGRATE)
    hkl = table.columns["miller_index"].astype(np.int32)
    found_rows: list[tuple[float, ...]] = []
    for number, box in enumerate(table.shoeboxes()):
        if box is not None and (hkl[number] != 0).any():
            found_rows += _sums(number, box, first)
    rows = np.array(found_rows, float).reshape(-1, 6)
    frame = rows[:, 1].astype(np.int64)
    rows = rows[(frame >= 0) & (frame < n)]
    if not len(rows):
        raise UserError(path, "shoeboxes without a background", "those of dials.integrate",
                        _INTEGRATE)  # fmt: skip
    crossing = rows[:, 0].astype(np.int64)
    return FrameIntensities(
        hkl[crossing], crossing, rows[:, 1].astype(np.int64), rows[:, 2], rows[:, 3], rows[:, 4],
        rows[:, 5],
    )  # fmt: skip


def _sums(number: int, box: Shoebox, first: int) -> list[tuple[float, ...]]:
    """number, frame, intensity, variance, row, column of each slice that is whole.

    All are summed over the same pixels: those in the foreground of any slice. DIALS's own
    foreground is narrower on the flanks of the rocking curve, and its sums with it.
    """
    core = np.asarray(((box.mask & FOREGROUND) > 0).any(axis=0), bool)
    n_core = int(core.sum())
    used = (box.mask & BACKGROUND_USED) > 0
    n_used = int(used.sum())
    if n_core == 0 or n_used == 0:
        return []
    y, x = np.nonzero(core)
    out: list[tuple[float, ...]] = []
    for k in range(len(box.data)):
        if ((box.mask[k][core] & VALID) == 0).any():
            continue
        counts, level = box.data[k][core], box.background[k][core]
        net = (counts - level).astype(float)
        total = float(net.sum())
        under = float(level.sum())
        variance = max(float(counts.sum()), under, 1e-6) + n_core * under / n_used
        row = column = float("nan")
        if total > LEAST_SNR * np.sqrt(variance):
            row = box.bbox[2] + float(net @ y) / total
            column = box.bbox[0] + float(net @ x) / total
        out.append((number, box.bbox[4] + k - (first - 1), total, variance, row, column))
    return out
