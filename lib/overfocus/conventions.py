"""The angle between scan and detector as each program names it; all derived from the matrix.

Take the direction matrix ``T = B / k`` of the model, which turns detector vectors (y, x), rows
downwards, into scan vectors: ``T = R(t) F`` with ``R(t) = ((cos t, sin t), (-sin t, cos t))`` and
F = diag(-1, 1) for a flip. Then

=================  ========================================================================
libertem           t. What `libertem.udf.com` takes up to 0.16 as `scan_rotation` with `flip_y`,
                   and the published overfocus method with it.
scan_clockwise     -t. By how much the scan is turned clockwise as seen on the detector: what
                   LiberTEM's documentation says `scan_rotation` means (its issue 1775) and what
                   the overfocus method's authors use since.
thermo_fisher      t. "Scan rotation" of Thermo Fisher's programs turns the image, not the scan,
                   clockwise (LiberTEM-live issue 139): the opposite of `scan_clockwise`. It is a
                   difference: to bring the scan onto the detector, turn the knob by this less.
py4dstem           angle and transpose: T = R(-angle), or R(-angle) S with S the exchange of y
                   and x (its `force_com_rotation`, `force_com_transpose`; `QR_rotation`,
                   `QR_flip` of its calibrations).
pyxem              t, after the rows are flipped if `flip_y`: clockwise turn of beam shifts.
ptyrad             t, after `meas_flipT` [1, 0, 0] if `flip_y`; scale, asymmetry and shear are
                   those of A.
=================  ========================================================================
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import least_squares

from .model import flip, similarity_of

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class NamedAngles:
    """The same direction under each name; degrees, in (-180, 180]; see the module.

    Attributes
    ----------
    libertem_deg, flip_y : as `libertem.udf.com` up to 0.16 and the published method take it.
    scan_clockwise_deg : LiberTEM's documented convention.
    thermo_fisher_deg : to be taken off the microscope's "scan rotation".
    py4dstem_deg, py4dstem_transpose : as `force_com_rotation` and `force_com_transpose`.
    pyxem_deg : as `rotate_beam_shifts`, after a flip of rows if `flip_y`.
    ptyrad_affine : (scale, asymmetry, rotation_deg, shear_deg) as `pos_scan_affine`, of scale 1;
        with `meas_flipT` (1, 0, 0) if `flip_y`.
    """

    libertem_deg: float
    flip_y: bool
    scan_clockwise_deg: float
    thermo_fisher_deg: float
    py4dstem_deg: float
    py4dstem_transpose: bool
    pyxem_deg: float
    ptyrad_affine: tuple[float, float, float, float]

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, a mapping for each program."""
        scale, asymmetry, turn, shear = self.ptyrad_affine
        return {
            "libertem": {"scan_rotation_deg": self.libertem_deg, "flip_y": self.flip_y},
            "scan_clockwise": {"angle_deg": self.scan_clockwise_deg, "flip_y": self.flip_y},
            "thermo_fisher": {"less_scan_rotation_deg": self.thermo_fisher_deg},
            "py4dstem": {
                "rotation_deg": self.py4dstem_deg,
                "transpose": self.py4dstem_transpose,
            },
            "pyxem": {"clockwise_deg": self.pyxem_deg, "flip_rows": self.flip_y},
            "ptyrad": {
                "meas_flipT": [int(self.flip_y), 0, 0],
                "pos_scan_affine": [scale, asymmetry, turn, shear],
            },
        }


def named_angles(scan_to_detector: ArrayLike, overfocused: bool = True) -> NamedAngles:
    """Every program's angles of A, (2, 2).

    Raises
    ------
    UserError : A is singular or not finite.
    """
    found = similarity_of(scan_to_detector, overfocused)
    t = found.rotation_deg
    straight = flip(found.flip_y) @ np.asarray(scan_to_detector, float) / found.scale
    return NamedAngles(
        libertem_deg=t,
        flip_y=found.flip_y,
        scan_clockwise_deg=_wrapped(-t),
        thermo_fisher_deg=t,
        # R(t) F = R(t - 90) S
        py4dstem_deg=_wrapped(90 - t if found.flip_y else -t),
        py4dstem_transpose=found.flip_y,
        pyxem_deg=t,
        ptyrad_affine=affine_of(straight.T),
    )


def affine_of(matrix: ArrayLike) -> tuple[float, float, float, float]:
    """The (scale, asymmetry, rotation_deg, shear_deg) nearest to a (2, 2), determinant positive.

    ``matrix = scale diag(1 + asymmetry/2, 1 - asymmetry/2) R(rotation) ((1, 0), (tan shear, 1))``,
    as PtychoShelves and ptyRAD compose it, for row vectors (y, x).
    """
    wanted = np.asarray(matrix, float)
    turn = np.arctan2(wanted[0, 1] - wanted[1, 0], wanted[0, 0] + wanted[1, 1])
    size = np.sqrt(abs(np.linalg.det(wanted)))

    def composed(terms: Floats) -> Floats:
        asymmetry, angle, shear = terms[1:]
        c, s = np.cos(angle), np.sin(angle)
        stretch = terms[0] * np.diag([1 + asymmetry / 2, 1 - asymmetry / 2])
        out: Floats = stretch @ np.array([[c, s], [-s, c]]) @ np.array([[1, 0], [shear, 1]])
        return out

    # at 45 degrees asymmetry and shear do the same, so that not every matrix has such terms there
    fitted = least_squares(
        lambda terms: (composed(terms) - wanted).ravel() / size,
        [size, 0, turn, 0],
        xtol=1e-14,
        ftol=None,  # the residuals vanish: their decrease would end it too early
        gtol=None,
    ).x
    return (
        float(fitted[0]),
        float(fitted[1]),
        _wrapped(np.rad2deg(fitted[2])),
        float(np.rad2deg(np.arctan(fitted[3]))),
    )


def _wrapped(angle_deg: float) -> float:
    """In (-180, 180]."""
    return float(180.0 - (180.0 - angle_deg) % 360.0)
