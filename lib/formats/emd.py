"""EMD files (HDF5): those of Velox and those of Berkeley (NCEM)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ..instrument import SeriesMetadata
from .source import FrameHeader, Pixels, Reader, stated
from .units import reciprocal_A

_MAGIC = b"\x89HDF\r\n\x1a\n"
VELOX = "Data/Image"
_SQUARE = 1e-3


def sniff(head: bytes) -> bool:
    """Whether a file is HDF5."""
    return head[:8] == _MAGIC


def read_header(path: Path) -> FrameHeader:
    """Layout of the images of an EMD file and what it says of the microscope."""
    with _opened(path) as file:
        data, velox = _images(file)
        shape, dtype = data.shape, data.dtype
        if dtype.kind not in "uif" or len(shape) not in (2, 3):
            raise ValueError(
                f"data of shape {shape}, {dtype}; expected an image or a stack of real numbers"
            )
        notes: list[str] = []
        if velox:  # the frames are along the last axis
            shape = (shape[2], *shape[:2]) if len(shape) == 3 else shape
            metadata, camera = _velox(path, data.parent, notes)
        else:
            metadata, camera = _berkeley(path, file, data, notes)
    return FrameHeader(
        (int(shape[-2]), int(shape[-1])), dtype, int(np.prod(shape[:-2])),
        metadata=metadata, notes=tuple(notes), camera=camera,
    )  # fmt: skip


def read_pixels(path: Path, header: FrameHeader, first: int, stop: int) -> Pixels:
    """Frames of a file, (n, rows, columns), in native byte order."""
    with _opened(path) as file:
        data, velox = _images(file)
        if data.ndim == 2:
            pixels = data[()][None][first:stop]
        elif velox:
            pixels = np.moveaxis(data[..., first:stop], -1, 0)
        else:
            pixels = data[first:stop]
    return np.ascontiguousarray(pixels, header.dtype.newbyteorder("="))


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    import h5py

    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, KeyError, RuntimeError) as error:
        words = str(error)
        if "truncated" in words:
            raise ValueError("truncated: the HDF5 file is shorter than it says") from None
        raise ValueError(f"damaged HDF5 ({words})") from None


def _images(file: Any) -> tuple[Any, bool]:
    """The one dataset of images, and whether Velox wrote it."""
    import h5py

    if VELOX in file:
        found = [group["Data"] for group in file[VELOX].values() if "Data" in group]
    else:
        found = []

        def visit(_: str, item: Any) -> None:
            if isinstance(item, h5py.Group) and item.attrs.get("emd_group_type") == 1:
                found.extend([item["data"]] if "data" in item else [])

        file.visititems(visit)
    if len(found) != 1:
        names = ", ".join(one.parent.name for one in found[:3])
        raise ValueError(f"{len(found)} data sets of images {names}, expected one")
    return found[0], VELOX in file


def _velox(path: Path, group: Any, notes: list[str]) -> tuple[SeriesMetadata, str]:
    """From the JSON that each frame has a column of: volts, metres, seconds, as text."""
    raw = bytes(np.asarray(group["Metadata"][:, 0]))
    try:
        items: Any = json.loads(raw.split(b"\0")[0])
    except ValueError:
        raise ValueError("Velox metadata that is no JSON") from None
    result = items.get("BinaryResult", {})
    optics = items.get("Optics", {})
    size = result.get("PixelSize", {})
    width, height = (
        reciprocal_A(_number(size.get(side)) or 0.0, str(result.get(unit)))
        for side, unit in (("width", "PixelUnitX"), ("height", "PixelUnitY"))
    )
    voltage = _number(optics.get("AccelerationVoltage"))
    scale, camera_length = _square(width, height, notes), None
    if scale is not None:
        camera_length = _number(optics.get("CameraLength"))
    detector = items.get("Detectors", {}).get(f"Detector-{result.get('DetectorIndex')}", {})
    return stated(
        path,
        voltage_kV=None if voltage is None else voltage / 1000,
        camera_length_mm=None if camera_length is None else camera_length * 1000,
        per_A_per_px=scale,
        exposure_s=_number(detector.get("ExposureTime")),
    ), str(result.get("Detector", ""))


def _berkeley(path: Path, file: Any, data: Any, notes: list[str]) -> tuple[SeriesMetadata, str]:
    """From the attributes of ``microscope`` (volts, metres) and the axes ``dim1`` ..."""
    attributes: Mapping[str, Any] = dict(file["microscope"].attrs) if "microscope" in file else {}
    voltage = _number(attributes.get("high tension", attributes.get("voltage")))
    scales = []
    for axis in range(data.ndim - 1, data.ndim + 1):
        dim = data.parent.get(f"dim{axis}")
        step = float(dim[1] - dim[0]) if dim is not None and dim.size > 1 else 0.0
        units = dim.attrs.get("units", "") if dim is not None else ""
        text = units.decode() if isinstance(units, bytes) else str(units)
        scales.append(reciprocal_A(step, text))
    scale = _square(scales[0], scales[1], notes)
    camera_length = _number(attributes.get("camera length")) if scale is not None else None
    return stated(
        path,
        voltage_kV=None if voltage is None else voltage / 1000,
        camera_length_mm=None if camera_length is None else camera_length * 1000,
        per_A_per_px=scale,
    ), ""


def _square(a: float | None, b: float | None, notes: list[str]) -> float | None:
    """1/Å per pixel if both axes agree; a camera length is believed only beside it."""
    if a is None or b is None:
        notes.append("the EMD image is not calibrated in reciprocal length")
        return None
    low, high = sorted((abs(a), abs(b)))
    if high > low * (1 + _SQUARE):
        notes.append(f"the EMD image states pixels of {low:g} and {high:g} 1/Å; not used")
        return None
    return float(np.sqrt(low * high))


def _number(value: Any) -> float | None:
    """A positive number, or None."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if np.isfinite(number) and number > 0 else None


READER = Reader("EMD", (".emd",), sniff, read_header, read_pixels)
