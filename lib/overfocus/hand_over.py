"""A calibration for other programs: a YAML file, and the lines that set each of them."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ..errors import UserError
from .calibration import CALIBRATED, Quality, ScanCalibration
from .conventions import named_angles
from .model import matrices_of_calibration, similarity_of
from .parameters import OverfocusParameters
from .result import errors_of

KIND = "ewaldflow overfocus calibration"
VERSION = 1


def hand_over(
    calibration: ScanCalibration, parameters: OverfocusParameters | None = None
) -> dict[str, Any]:
    """A calibration as plain numbers and words; numbers that are not known are None.

    A scan that could not be calibrated has its verdict, reasons and what was measured, and no
    angles.

    Parameters
    ----------
    parameters : the calibration in the paper's parameters, if the lengths of the microscope are
        known; see `model.parameters_of`.

    Raises
    ------
    UserError : a calibrated scan's A is singular.
    """
    matrices = matrices_of_calibration(calibration)
    out: dict[str, Any] = {
        "kind": KIND,
        "version": VERSION,
        "name": calibration.name,
        "verdict": calibration.verdict,
        "reasons": list(calibration.reasons),
        "scan_shape": list(calibration.scan_shape),
        "shape": list(calibration.shape),
        "order": "all vectors (row, column); scan points count from the middle of the scan",
        "scan_to_detector": _plain(matrices.scan_to_detector),
        "descan": _plain(matrices.descan),
        "centre_px": _plain(matrices.centre_px),
        "disc_radius_px": _plain(calibration.disc_radius_px),
        "drift_px": _plain(calibration.drift_px),
        "overfocused": calibration.overfocused,
        "covariance": _plain(calibration.covariance),
        "quality": {name: _plain(value) for name, value in asdict(calibration.quality).items()},
    }
    if calibration.verdict != CALIBRATED:
        return out
    found = similarity_of(matrices.scan_to_detector, calibration.overfocused)
    errors = errors_of(calibration)
    out["detector_to_scan"] = _plain(matrices.detector_to_scan)
    out["scale_px_per_px"] = found.scale
    out["scale_sd_relative"] = _plain(errors.scale)
    out["rotation_sd_deg"] = _plain(errors.rotation_deg)
    out["descan_sd"] = _plain(errors.descan_px)
    out["angles"] = named_angles(matrices.scan_to_detector, calibration.overfocused).as_dict()
    if parameters is not None:
        out["parameters"] = _plain_dict(asdict(parameters))
    return out


def write_yaml(
    path: Path, calibration: ScanCalibration, parameters: OverfocusParameters | None = None
) -> None:
    """Write `hand_over` to a file."""
    text = yaml.safe_dump(
        hand_over(calibration, parameters), sort_keys=False, default_flow_style=None, width=100
    )
    path.write_text(text, encoding="utf-8")


def read_yaml(path: Path) -> ScanCalibration:
    """The calibration that `write_yaml` wrote.

    Raises
    ------
    UserError : no such file, or it holds something else.
    """
    do = "give the file that `ewaldflow calibrate-overfocus` wrote"
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(path, "no such file", "an overfocus calibration", do) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(path, f"no YAML ({error})", "an overfocus calibration", do) from None
    kind = found.get("kind") if isinstance(found, dict) else type(found).__name__
    if kind != KIND or found.get("version") != VERSION:
        raise UserError(path, f"kind {kind!r}", f"kind {KIND!r}, version {VERSION}", do)
    try:
        return ScanCalibration(
            name=found["name"],
            scan_shape=_pair(found["scan_shape"], int),
            shape=_pair(found["shape"], int),
            scan_to_detector=_array(found["scan_to_detector"], (2, 2)),
            descan=_array(found["descan"], (2, 2)),
            centre_px=_pair(found["centre_px"], _number),
            disc_radius_px=_number(found["disc_radius_px"]),
            drift_px=_pair(found["drift_px"], _number),
            covariance=_array(found["covariance"], (8, 8)),
            overfocused=bool(found["overfocused"]),
            quality=Quality(**{name: _number(value) for name, value in found["quality"].items()}),
            verdict=found["verdict"],
            reasons=tuple(found["reasons"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(path, f"a damaged calibration ({error!r})", "a whole one", do) from None


def snippets(calibration: ScanCalibration) -> dict[str, str]:
    """Lines of Python, or YAML for ptyRAD, that set a program to a calibration.

    Returns
    -------
    text by "libertem", "py4dstem", "pyxem", "ptyrad".

    Raises
    ------
    UserError : the scan could not be calibrated.
    """
    if calibration.verdict != CALIBRATED:
        raise UserError(
            calibration.name, calibration.verdict, CALIBRATED,
            "record another scan: " + " ".join(calibration.reasons),
        )  # fmt: skip
    matrices = matrices_of_calibration(calibration)
    angles = named_angles(matrices.scan_to_detector, calibration.overfocused)
    rows, columns = calibration.scan_shape
    d = matrices.descan
    first = matrices.centre_px - d @ (np.array([rows - 1, columns - 1]) / 2)
    # where the beam is at scan point (0, 0), and how it moves: one array for all programs
    beam = _code(np.stack([first, d[:, 0], d[:, 1]]))
    y, x = (f"{v:.6g}" for v in matrices.centre_px)
    turn = np.deg2rad(angles.libertem_deg)
    corners = np.array([(y, x) for y in (-1, 1) for x in (-1, 1)]) * (rows - 1, columns - 1) / 2
    # the mask stands still, and the whole disc stays in it
    reach = calibration.disc_radius_px + np.linalg.norm(corners @ d.T, axis=1).max()
    scale, asymmetry, ptyrad_deg, shear = (f"{v:.6g}" for v in angles.ptyrad_affine)
    return {
        "libertem": f"""\
# LiberTEM up to 0.16, whose code turns scan_rotation against its documentation (issue 1775)
import numpy as np
from libertem.udf.com import CoMUDF

beam = np.array({beam})  # at scan point (0, 0), per scan row, per scan column
turn = np.array({_code(_turn_matrix(turn, angles.flip_y))})  # detector to scan
udf = CoMUDF.with_params(
    cy={y}, cx={x}, r={reach:.6g},
    scan_rotation={angles.libertem_deg:.6g}, flip_y={angles.flip_y},
    # descan, after rotation and flip
    regression=(beam - [[{y}, {x}], [0, 0], [0, 0]]) @ turn.T,
)
""",
        "py4dstem": f"""\
# py4DSTEM 0.14; `datacube` is yours
import numpy as np

beam = np.array({beam})  # at scan point (0, 0), per scan row, per scan column
row, column = np.indices(({rows}, {columns}))
datacube.calibration.set_origin(
    tuple(beam[0, k] + beam[1, k] * row + beam[2, k] * column for k in (0, 1))
)
datacube.calibration.set_QR_rotation_degrees({angles.py4dstem_deg:.6g})
datacube.calibration.set_QR_flip({angles.py4dstem_transpose})
com = dict(
    force_com_rotation={angles.py4dstem_deg:.6g},
    force_com_transpose={angles.py4dstem_transpose},
)  # for .preprocess(**com) of DPC, parallax and ptychography
""",
        "pyxem": f"""\
# pyxem 0.21; `signal` is your Diffraction2D
import numpy as np
import pyxem

beam = np.array({beam})  # at scan point (0, 0), per scan row, per scan column
row, column = np.indices(({rows}, {columns}))
at = [beam[0, k] + beam[1, k] * row + beam[2, k] * column for k in (0, 1)]
middle = np.array(signal.axes_manager.signal_shape[::-1]) / 2  # where pyxem puts the beam
# descan: shifts (x, y) that bring the beam to the middle of the detector
shifts = pyxem.signals.BeamShift(np.stack([middle[1] - at[1], middle[0] - at[0]], axis=-1))
signal.center_direct_beam(shifts=shifts)
# beam shifts measured later, in the directions of the scan:
# {"with y changed in sign first, " if angles.flip_y else ""}\
beam_shifts.rotate_beam_shifts({angles.pyxem_deg:.6g})
""",
        "ptyrad": f"""\
# ptyRAD: these lines under init_params; scan step and defocus are yours
meas_flipT: [{int(angles.flip_y)}, 0, 0]
pos_scan_flipT: null
pos_scan_affine: [{scale}, {asymmetry}, {ptyrad_deg}, {shear}]  # scale, asymmetry, rotation, shear
""",
    }


def _turn_matrix(turn: float, flip_y: bool) -> Any:
    c, s = np.cos(turn), np.sin(turn)
    return np.array([[c, s], [-s, c]]) @ np.diag([-1.0 if flip_y else 1.0, 1.0])


def _code(matrix: Any) -> str:
    rows = ("[" + ", ".join(f"{v:.9g}" for v in row) + "]" for row in np.asarray(matrix))
    return "[" + ", ".join(rows) + "]"


def _plain(value: Any) -> Any:
    """Nested lists of floats; None for what is not known."""
    if isinstance(value, np.ndarray | list | tuple):
        return [_plain(one) for one in value]
    number = float(value)
    return number if math.isfinite(number) else None


def _plain_dict(record: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value if isinstance(value, bool) else _plain(value) for name, value in record.items()
    }


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def _array(value: Any, shape: tuple[int, ...]) -> Any:
    out = np.array(value, float)  # None is NaN
    if out.shape != shape:
        raise ValueError(f"shape {out.shape}, not {shape}")
    return out


def _pair(value: Any, kind: Any) -> Any:
    first, second = value
    return kind(first), kind(second)
