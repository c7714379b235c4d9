"""HyperSpy's own files (.hspy): images, stacks, and the patterns of scans as frames."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from .nexus import MAGIC, opened
from .source import FrameHeader, Pixels, Reader, stated
from .units import reciprocal_A

_SQUARE = 1e-3
_POSSIBLE_PER_A = (1e-6, 1.0)


def sniff(head: bytes) -> bool:
    """Whether a file is HDF5."""
    return head[:8] == MAGIC


def read_header(path: Path) -> FrameHeader:
    """Layout of the first signal of a file; its last two axes are a frame's."""
    notes: list[str] = []
    with _signal_of(path) as signal:
        data = signal["data"]
        if data.ndim < 2 or data.dtype.kind not in "uif":
            raise ValueError(f"data of shape {data.shape}, {data.dtype}; expected images")
        fields = _fields(signal, data.ndim, notes)
        shape, dtype = data.shape, data.dtype
    return FrameHeader(
        (int(shape[-2]), int(shape[-1])), dtype.newbyteorder("="), int(np.prod(shape[:-2])),
        metadata=stated(path, **fields), notes=tuple(notes),
    )  # fmt: skip


def read_pixels(path: Path, header: FrameHeader, first: int, stop: int) -> Pixels:
    """Frames of a file, (n, rows, columns), in native byte order."""
    frames = np.empty((stop - first, *header.shape), header.dtype)
    with _signal_of(path) as signal:
        data = signal["data"]
        for k in range(first, stop):
            frames[k - first] = data[np.unravel_index(k, data.shape[:-2]) if data.ndim > 2 else ()]
    return frames


@contextmanager
def _signal_of(path: Path) -> Iterator[Any]:
    import h5py

    with opened(path) as file:
        signals = file.get("Experiments")
        for signal in signals.values() if isinstance(signals, h5py.Group) else ():
            if isinstance(signal, h5py.Group) and isinstance(signal.get("data"), h5py.Dataset):
                yield signal
                return
        raise ValueError("HDF5 without a signal of HyperSpy in Experiments")


def _fields(signal: Any, axes: int, notes: list[str]) -> dict[str, Any]:
    """1/Å per pixel by the two last axes; kV and mm by the description of the microscope."""
    sides = []
    for n in (axes - 2, axes - 1):
        said = dict(signal[f"axis-{n}"].attrs) if f"axis-{n}" in signal else {}
        sides.append(reciprocal_A(float(said.get("scale", 0) or 0), str(said.get("units", ""))))
    fields: dict[str, Any] = {}
    a, b = (None if side is None else abs(side) for side in sides)
    if a is None or b is None:
        notes.append("the axes of the hspy file are not calibrated in reciprocal length")
    elif abs(a / b - 1) > _SQUARE or not _POSSIBLE_PER_A[0] < a < _POSSIBLE_PER_A[1]:
        notes.append(f"the hspy file states pixels of {a:g} and {b:g} 1/Å; not used")
    else:
        fields["per_A_per_px"] = float(np.sqrt(a * b))
    tem = signal.get("metadata/Acquisition_instrument/TEM")
    for name, field in (("beam_energy", "voltage_kV"), ("camera_length", "camera_length_mm")):
        value = None if tem is None else tem.attrs.get(name)
        if isinstance(value, int | float | np.number) and np.isfinite(value) and value > 0:
            fields[field] = float(value)
    return fields


READER = Reader("HyperSpy", (".hspy",), sniff, read_header, read_pixels)
