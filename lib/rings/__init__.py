"""Powder rings: distance, beam centre, elliptical distortion, tilt; recentring of later images.

Its functions are looked up when asked for, since some need libraries that take long to import.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .calibration_data import build_calibration_data_from_cif as build_calibration_data_from_cif
    from .ellipse import fit_ellipse_to_ring as fit_ellipse_to_ring
    from .geometric_calibration import (
        perform_geometric_calibration as perform_geometric_calibration,
    )
    from .poni import center_to_poni as center_to_poni
    from .poni import get_calibration_parameters as get_calibration_parameters
    from .poni import poni_to_center as poni_to_center
    from .poni import read_poni as read_poni
    from .poni import update_ai as update_ai
    from .poni import write_poni as write_poni
    from .recalibration import recalibrate_batch as recalibrate_batch
    from .recalibration import recalibrate_no_beamstop as recalibrate_no_beamstop
    from .recalibration import recalibrate_with_beamstop as recalibrate_with_beamstop

_HOME = {
    "build_calibration_data_from_cif": "calibration_data",
    "center_to_poni": "poni",
    "fit_ellipse_to_ring": "ellipse",
    "get_calibration_parameters": "poni",
    "perform_geometric_calibration": "geometric_calibration",
    "poni_to_center": "poni",
    "read_poni": "poni",
    "recalibrate_batch": "recalibration",
    "recalibrate_no_beamstop": "recalibration",
    "recalibrate_with_beamstop": "recalibration",
    "update_ai": "poni",
    "write_poni": "poni",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)
