"""Scans in DM3 and DM4 files of Gatan's DigitalMicrograph, by RosettaSciIO."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

from ..errors import UserError
from .scan_hdf5 import PER_NM
from .scan_source import RawScan


def read_dm(path: Path, inside: str | None) -> RawScan:
    """The data of most axes in a file."""
    from rsciio.digitalmicrograph import file_reader

    logging.getLogger("rsciio").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = file_reader(str(path), lazy=True)
    if not found:
        raise UserError(path, "nothing", "a 4D-STEM scan", "give another file")
    best = max(found, key=lambda one: one["data"].ndim)
    data, axes = best["data"], best["axes"]
    if any(str(axis.get("units")) == "eV" for axis in axes):
        raise UserError(path, "spectra", "diffraction patterns", "give a 4D-STEM scan")
    if data.ndim >= 3 and sum(bool(axis.get("navigate")) for axis in axes) != data.ndim - 2:
        names = ", ".join(f"{axis.get('name')} {axis['size']}" for axis in axes)
        raise UserError(path, f"axes {names}", "images at scan points", "give a 4D-STEM scan")
    microscope = best.get("metadata", {}).get("Acquisition_instrument", {}).get("TEM", {})
    energy = microscope.get("beam_energy")
    fields: dict[str, Any] = {"voltage_kV": float(energy) if energy else None}
    if data.ndim == 4:
        steps = [
            float(axis["scale"]) * PER_NM.get(str(axis.get("units")).lower(), 0.0)
            for axis in axes[:2]
        ]
        fields["scan_step_nm"] = tuple(steps) if all(steps) else None
    return RawScan([data], [path], fields=fields)
