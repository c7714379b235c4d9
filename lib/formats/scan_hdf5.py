"""Scans in HDF5: Dectris masters (Arina and others), HyperSpy, EMD and plain data sets."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # noqa: F401  (the compressions of Dectris' files)
import numpy as np

from . import emd, nexus
from .hdf5_chunks import CheckedData
from .scan_arrays import choose
from .scan_frames import frames_of
from .scan_source import RawScan

PER_NM = {"pm": 1e-3, "a": 0.1, "å": 0.1, "angstrom": 0.1, "nm": 1.0, "n_m": 1.0, "um": 1e3,
           "µm": 1e3, "μm": 1e3}  # fmt: skip


def read_hdf5(path: Path, inside: str | None) -> RawScan:
    """A scan in an HDF5 file; a Dectris master is known by its links, Velox by its groups."""
    file = h5py.File(path, "r")
    entry = file.get("entry/data")
    links = isinstance(entry, h5py.Group) and any(re.fullmatch(r"data_\d+", one) for one in entry)
    if inside is None and links:
        return _dectris(path)
    if inside is None and emd.VELOX in file:  # its frames lie along the last axis
        return frames_of(path, emd.READER)
    sets: dict[str, h5py.Dataset] = {}

    def look(name: str, one: Any) -> None:
        if isinstance(one, h5py.Dataset) and one.dtype.kind in "uif" and one.ndim >= 2:
            sets[name] = one

    file.visititems(look)
    name = choose(path, {name: one.shape for name, one in sets.items()}, inside)
    chosen = sets[name]
    return RawScan([CheckedData(chosen)], [path], fields={"scan_step_nm": _step_nm(chosen)})


def _dectris(path: Path) -> RawScan:
    """Frames of a Dectris master, which lie in the files it links to."""
    raw = frames_of(path, nexus.READER)
    fields, files, notes = {**raw.fields}, list(raw.files), list(raw.notes)
    companion = path.with_name(path.name.removesuffix("_master.h5") + ".h5")
    if companion != path and companion.is_file():
        about = _stem_metadata(companion)
        if about:
            files.append(companion)
            fields |= {name: value for name, value in about.items() if value is not None}
            notes.append(f"scan, camera length and voltage are those of {companion.name}")
    return replace(
        raw,
        files=files,
        fields=fields,
        name=path.name.removesuffix(".h5").removesuffix("_master"),
        notes=tuple(notes),
    )


def _stem_metadata(path: Path) -> dict[str, Any]:
    """What the file beside an Arina master, written by the scan's controller, says of the scan."""
    with h5py.File(path, "r") as file:
        if "STEM Metadata" not in file:
            return {}
        said = {k: v[0] for k, v in file["STEM Metadata"].attrs.items() if np.size(v) == 1}
    rows, columns = (int(said.get(f"NumPixels{axis}", 0)) for axis in "YX")
    step = float(said.get("Pixel Size", 0))
    return {
        "scan_shape": (rows, columns) if rows and columns else None,
        "scan_step_nm": (step, step) if step else None,
        "camera_length_mm": float(said.get("Camera Length", 0)) * 1e3 or None,
        "voltage_kV": float(said.get("High Tension", 0)) * 1e-3 or None,
    }


def _step_nm(chosen: h5py.Dataset) -> tuple[float, float] | None:
    """Distance of scan points: from HyperSpy's axes, or EMD's dimension vectors."""
    group = chosen.parent
    steps = []
    for n in (0, 1):
        axis = group.get(f"axis-{n}")
        vector = group.get(f"dim{n + 1}")
        if axis is not None and "scale" in axis.attrs:
            scale, units = axis.attrs["scale"], axis.attrs.get("units", "")
        elif vector is not None and vector.ndim == 1 and len(vector) > 1:
            scale, units = float(vector[1] - vector[0]), vector.attrs.get("units", "")
        else:
            return None
        text = units.decode() if isinstance(units, bytes) else str(units)
        per_nm = PER_NM.get(text.strip("[] ").lower())
        if per_nm is None:
            return None
        steps.append(float(scale) * per_nm)
    return steps[0], steps[1]
