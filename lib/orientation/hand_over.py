"""Frame orientations for other programs: PETS2 and JANA, DIALS, XDS, and a plain table.

All start from R of each frame, ``q_lab = R B h`` in our laboratory frame. The zone axis [uvw] is
the lattice direction against the beam, towards the source: ``O uvw`` is along
``e = -R^T z / wavelength``, so ``uvw ~ B^T e``.
"""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..crystal.cell import Floats, cell_from_reciprocal_basis
from ..errors import UserError
from ..geometry import centre_to_corner, rotation_about, to_dials_frame
from .geometry import rotation_by
from .observations import FrameOrientations, OrientationData

#: Our frame to that of DIALS, and of PETS before it turns the tilt axis to x.
HALF_TURN = np.diag([1.0, -1.0, -1.0])
UNIT = np.eye(3).ravel().tolist()


def zone_axes(found: FrameOrientations, basis: Floats) -> Floats:
    """[uvw] of each frame, (frames, 3), the largest of the three 1; NaN where unknown."""
    uvw = found.centre @ basis
    with np.errstate(invalid="ignore"):
        largest = np.abs(uvw).max(axis=1, keepdims=True)
        out: Floats = uvw / largest
    return out


def settings(data: OrientationData, found: FrameOrientations) -> Floats:
    """(frames, 3, 3) A of each frame with the rotation as read out taken back.

    A perfect goniometer would give the same A for all. NaN where unknown.
    """
    back = rotation_about(data.geometry.axis, -data.angle_deg)
    out: Floats = back @ found.rotation @ data.reciprocal_basis
    return out


def principal_errors(covariance_deg2: Floats) -> tuple[Floats, Floats]:
    """Errors along the principal directions, and the worse direction, of 2 x 2 covariances.

    Returns
    -------
    sd : (frames, 2) degrees, the larger first.
    direction_deg : (frames,) of the larger, from along (0) to perp (90), -90 to 90.
    """
    n = len(covariance_deg2)
    sd, direction = np.full((n, 2), np.nan), np.full(n, np.nan)
    known = np.isfinite(covariance_deg2).all(axis=(1, 2))
    values, vectors = np.linalg.eigh(covariance_deg2[known])
    sd[known] = np.sqrt(np.maximum(values[:, ::-1], 0))
    angle = np.rad2deg(np.arctan2(vectors[:, 1, 1], vectors[:, 0, 1]))
    direction[known] = (angle + 90) % 180 - 90
    return sd, direction


def write_table(
    path: Path, data: OrientationData, found: FrameOrientations, numbers: NDArray[np.int64]
) -> None:
    """Everything of each frame as comma-separated values, one row each; units in the heading."""
    sd, direction = principal_errors(found.covariance_deg2)
    wide, _ = principal_errors(found.covariance_unshrunk_deg2)
    uvw = zone_axes(found, data.reciprocal_basis)
    columns: dict[str, Any] = {
        "frame": numbers,
        "angle_deg": data.angle_deg,
        **{f"u_{i}{j}": found.rotation[:, i, j] for i in range(3) for j in range(3)},
        **{name: uvw[:, k] for k, name in enumerate("uvw")},
        "along_deg": found.small_deg[:, 0],
        "perp_deg": found.small_deg[:, 1],
        "along_unshrunk_deg": found.small_unshrunk_deg[:, 0],
        "perp_unshrunk_deg": found.small_unshrunk_deg[:, 1],
        "worst_sd_deg": sd[:, 0],
        "best_sd_deg": sd[:, 1],
        "worst_direction_deg": direction,
        "worst_sd_unshrunk_deg": wide[:, 0],
        "best_sd_unshrunk_deg": wide[:, 1],
        "about_beam_deg": found.about_beam_deg,
        "about_beam_sd_deg": found.about_beam_sd_deg,
        "scale": found.frame_scale,
        "spots": found.n_spots,
        "merit": found.merit,
        "flag": found.flag,
    }
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        for row in zip(*columns.values(), strict=True):
            writer.writerow([f"{v:.8g}" if isinstance(v, float) else v for v in row])


def pets_matrix(orientation: Floats, omega_deg: float) -> Floats:
    """UB of PETS2, x along the tilt axis, from A at zero rotation in our frame."""
    turned: Floats = rotation_about([0.0, 0.0, 1.0], -omega_deg) @ HALF_TURN @ orientation
    return turned


def omega_of(data: OrientationData) -> float:
    """Direction of the tilt axis as PETS2 counts it, 0 to 360 degrees."""
    x, y, _ = data.geometry.axis
    return float(np.rad2deg(np.arctan2(-y, x)) % 360)


def write_cif_pets(
    path: Path, data: OrientationData, found: FrameOrientations, numbers: NDArray[np.int64]
) -> None:
    """Orientations, and intensities of each frame, as PETS2 hands them to JANA2020.

    The tags are those of its ``dyn.cif_pets``. Frames of unknown orientation are left out.
    """
    known = np.isfinite(found.centre).all(axis=1) & data.used
    middle = _mean_setting(settings(data, found)[known])
    omega = omega_of(data)
    matrix = pets_matrix(middle, omega)
    uvw = zone_axes(found, data.reciprocal_basis)
    cell = cell_from_reciprocal_basis(data.reciprocal_basis)
    names = ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma")
    lines = ["data_orientations", ""]
    lines += [f"_cell_{name} {value:.5f}" for name, value in zip(names, cell, strict=True)]
    lines.append(f"_diffrn_radiation_wavelength {data.geometry.wavelength_A:.6f}")
    lines += [
        f"_diffrn_orient_matrix_UB_{i + 1}{j + 1} {matrix[i, j]:.8f}"
        for i in range(3)
        for j in range(3)
    ]
    tags = ("id", "u", "v", "w", "precession_angle", "alpha", "beta", "omega", "scale")
    lines += ["", "loop_", *(f"_diffrn_zone_axis_{tag}" for tag in tags)]
    for f in np.flatnonzero(known):
        u, v, w = uvw[f]
        scale = found.frame_scale[f] if np.isfinite(found.frame_scale[f]) else 1.0
        lines.append(
            f"{numbers[f]} {u:.7f} {v:.7f} {w:.7f} {0.5 * abs(data.exposure_deg[f]):.5f} "
            f"{data.angle_deg[f]:.5f} 0.0 {omega:.4f} {scale:.5f}"
        )
    rows = data.intensities
    if rows is not None:
        named = [
            "index_h",
            "index_k",
            "index_l",
            "intensity_meas",
            "intensity_sigma",
            "zone_axis_id",
        ]
        lines += ["", "loop_", *(f"_refln_{tag}" for tag in named)]
        for i in np.flatnonzero(known[rows.frame]):
            h, k, ell = rows.hkl[i]
            lines.append(
                f"{h} {k} {ell} {rows.intensity[i]:.3f} {np.sqrt(rows.variance[i]):.3f} "
                f"{numbers[rows.frame[i]]}"
            )
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")


def write_dials(
    path: Path,
    data: OrientationData,
    found: FrameOrientations,
    numbers: NDArray[np.int64],
    shape: tuple[int, int],
) -> None:
    """A .expt with a crystal that varies over the scan.

    DIALS keeps A at the borders between images: the mean of the frames on both sides, so that what
    a single frame does alone is halved. The images are not named in it.

    Raises
    ------
    UserError : no frame's orientation is known, or a frame is missing, which DIALS does not allow.
    """
    if len(numbers) > 1 and not np.all(np.diff(numbers) == 1):
        raise UserError(
            f"{data.name}: frames", "gaps between them", "an unbroken scan",
            "hand over the table or the XDS-like file instead",
        )  # fmt: skip
    frames = _filled(settings(data, found), data.name)
    borders = _between(frames)
    width = float(np.median(np.diff(data.angle_deg)))
    start = float(data.angle_deg[0] - 0.5 * width)
    g = data.geometry
    corner = centre_to_corner(g.beam_centre_px)
    fast, slow, axis = (to_dials_frame(v) for v in ([1, 0, 0], [0, 1, 0], g.axis))
    origin = to_dials_frame([0, 0, g.distance_mm]) - g.pixel_size_mm * (
        corner[0] * fast + corner[1] * slow
    )
    middle = HALF_TURN @ _mean_setting(frames)
    real = np.linalg.inv(middle)
    n = len(numbers)
    panel = {
        "name": "Panel", "type": "SENSOR_PAD", "fast_axis": fast.tolist(),
        "slow_axis": slow.tolist(), "origin": origin.tolist(), "raw_image_offset": [0, 0],
        "image_size": [shape[1], shape[0]], "pixel_size": [g.pixel_size_mm, g.pixel_size_mm],
        "trusted_range": [-1.0, 65535.0], "thickness": 0.0, "material": "", "mu": 0.0,
        "identifier": "", "mask": [], "gain": 1.0, "pedestal": 0.0,
        "px_mm_strategy": {"type": "SimplePxMmStrategy"},
    }  # fmt: skip
    models = {"beam": 0, "detector": 0, "goniometer": 0, "scan": 0, "crystal": 0}
    whole = {
        "__id__": "ExperimentList",
        "experiment": [{"__id__": "Experiment", "identifier": "", **models}],
        "imageset": [],
        "beam": [{"direction": [0.0, 0.0, 1.0], "wavelength": g.wavelength_A}],
        "detector": [{"panels": [panel]}],
        "goniometer": [
            {"rotation_axis": axis.tolist(), "fixed_rotation": UNIT, "setting_rotation": UNIT}
        ],
        "scan": [
            {
                "image_range": [int(numbers[0]), int(numbers[-1])],
                "batch_offset": 0,
                "oscillation": [start, width],
                "exposure_time": [0.0] * n,
                "epochs": [0.0] * n,
                "valid_image_ranges": {},
            }
        ],
        "crystal": [
            {
                "__id__": "crystal",
                **{f"real_space_{name}": real[k].tolist() for k, name in enumerate("abc")},
                "space_group_hall_symbol": " P 1",
                "A_at_scan_points": [(HALF_TURN @ a).ravel().tolist() for a in borders],
            }
        ],
        "profile": [],
        "scaling_model": [],
    }
    path.write_text(json.dumps(whole, indent=1), encoding="utf-8")


def write_xds_like(
    path: Path, data: OrientationData, found: FrameOrientations, numbers: NDArray[np.int64]
) -> None:
    """The cell axes of every frame in the laboratory frame of XDS, at spindle angle zero.

    XDS has one orientation for a range of frames; its header keywords are used here, and a line per
    frame holds number, angle, UNIT_CELL_A-AXIS, B-AXIS, C-AXIS (Å). NaN where unknown.
    """
    g = data.geometry
    cell = " ".join(f"{v:.4f}" for v in cell_from_reciprocal_basis(data.reciprocal_basis))
    lines = [
        "!Orientation of each frame, Å, laboratory frame of XDS, spindle angle zero",
        f"!X-RAY_WAVELENGTH= {g.wavelength_A:.6f}",
        "!INCIDENT_BEAM_DIRECTION= 0 0 1",
        "!ROTATION_AXIS= " + " ".join(f"{v:.6f}" for v in g.axis),
        f"!UNIT_CELL_CONSTANTS= {cell}",
        "!FRAME ANGLE UNIT_CELL_A-AXIS UNIT_CELL_B-AXIS UNIT_CELL_C-AXIS",
        "!END_OF_HEADER",
    ]
    for f, a in enumerate(settings(data, found)):
        real = np.linalg.inv(a) if np.isfinite(a).all() else np.full((3, 3), np.nan)
        axes = " ".join(f"{v:.5f}" for v in real.ravel())
        lines.append(f"{numbers[f]} {data.angle_deg[f]:.5f} {axes}")
    path.write_text("\n".join([*lines, "!END_OF_DATA", ""]), encoding="utf-8")


def _filled(matrices: Floats, name: str) -> Floats:
    """Unknown ones replaced by the nearest known."""
    known = np.flatnonzero(np.isfinite(matrices).all(axis=(1, 2)))
    if not len(known):
        raise UserError(
            name, "no frame of known orientation", "some", "refine the orientations first"
        )
    nearest = known[np.abs(np.arange(len(matrices))[:, None] - known).argmin(axis=1)]
    out: Floats = matrices[nearest]
    return out


def _mean_setting(matrices: Floats | Sequence[Floats]) -> Floats:
    """The mean of nearly equal A = U B, as a matrix of the same cell."""
    a = np.asarray(matrices, float)
    first = a[len(a) // 2]
    turns = np.array([_vector(one @ np.linalg.inv(first)) for one in a])
    out: Floats = rotation_by(turns.mean(axis=0)) @ first
    return out


def _between(matrices: Floats) -> Floats:
    """(n + 1, 3, 3): half way between neighbours; the ends are those of the first and last."""
    half = [rotation_by(0.5 * _vector(b @ np.linalg.inv(a))) @ a
            for a, b in itertools.pairwise(matrices)]  # fmt: skip
    return np.array([matrices[0], *half, matrices[-1]])


def _vector(rotation: Floats) -> Floats:
    """Rotation vector, rad, of a small rotation matrix."""
    skew = 0.5 * (rotation - rotation.T)
    axis = np.array([skew[2, 1], skew[0, 2], skew[1, 0]])
    sine = float(np.linalg.norm(axis))
    if sine < 1e-12:
        return axis
    angle = np.arctan2(sine, 0.5 * (np.trace(rotation) - 1))
    out: Floats = axis * (angle / sine)
    return out
