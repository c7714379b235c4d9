"""Scans that RosettaSciIO reads: NanoMegas blockfiles, DigitalMicrograph, TVIPS, TIA, MRC."""

from __future__ import annotations

import importlib
import logging
import warnings
from pathlib import Path
from typing import Any

from ..errors import UserError
from .scan_hdf5 import _PER_NM
from .scan_source import RawScan

_PLUGINS = {
    ".blo": "blockfile",
    ".dm3": "digitalmicrograph",
    ".dm4": "digitalmicrograph",
    ".tvips": "tvips",
    ".ser": "tia",
    ".mrc": "mrc",
}


def read_with_rsciio(path: Path, inside: str | None) -> RawScan:
    """The data of most axes in a file."""
    plugin = importlib.import_module(f"rsciio.{_PLUGINS[path.suffix.lower()]}")
    logging.getLogger("rsciio").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = plugin.file_reader(str(path), lazy=True)
    if not found:
        raise UserError(path, "nothing", "a 4D-STEM scan", "give another file")
    best = max(found, key=lambda one: one["data"].ndim)
    data, axes = best["data"], best["axes"]
    if data.ndim >= 3 and sum(bool(axis.get("navigate")) for axis in axes) != data.ndim - 2:
        names = ", ".join(f"{axis.get('name')} {axis['size']}" for axis in axes)
        raise UserError(path, f"axes {names}", "images at scan points", "give a 4D-STEM scan")
    fields: dict[str, Any] = {"voltage_kV": _voltage_kV(best)}
    if data.ndim == 4:
        steps = [
            float(axis["scale"]) * _PER_NM.get(str(axis.get("units")).lower(), 0.0)
            for axis in axes[:2]
        ]
        fields["scan_step_nm"] = tuple(steps) if all(steps) else None
    return RawScan([data], [path], fields=fields)


def _voltage_kV(read: dict[str, Any]) -> float | None:
    microscope = read.get("metadata", {}).get("Acquisition_instrument", {}).get("TEM", {})
    header = read.get("original_metadata", {}).get("blockfile_header", {})
    if energy := microscope.get("beam_energy"):
        return float(energy)
    return float(header["Beam_energy"]) * 1e-3 if "Beam_energy" in header else None
