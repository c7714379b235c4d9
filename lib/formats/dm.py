"""DM3 and DM4 files of Gatan's DigitalMicrograph (GMS): images, stacks of frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..instrument import SeriesMetadata
from .source import FrameHeader, Pixels, Reader, stated
from .units import reciprocal_A

_SQUARE = 1e-3  # by how much the sides of a pixel may differ; real cameras state 2e-4


def sniff(head: bytes) -> bool:
    """Whether a file begins with version 3 or 4, a length, and a byte order (0 or 1)."""
    order = {b"\0\0\0\3": head[8:12], b"\0\0\0\4": head[12:16]}.get(head[:4])
    return order in {b"\0\0\0\0", b"\0\0\0\1"}


def read_header(path: Path) -> FrameHeader:
    """Layout of the (first) image of a DM file and what its tags say.

    ``Actual Magnification`` is the calibrated camera length in mm where the microscope was in
    diffraction (``Indicated Magnification`` the displayed one, ``STEM Camera Length`` stale); the
    pixel is ``Pixel Size (um)`` of the chip times the binning.
    """
    image = _read(path)
    shape, dtype = image["data"].shape, image["data"].dtype
    units = [str(axis.get("units")) for axis in image["axes"]]
    if "eV" in units:
        raise ValueError("spectra, expected diffraction patterns")
    if dtype.kind not in "uif" or len(shape) not in (2, 3):
        raise ValueError(
            f"data of shape {shape}, {dtype}; expected an image or a stack of real numbers"
        )
    notes: list[str] = []
    metadata, camera = _metadata(path, image, notes)
    return FrameHeader(
        (int(shape[-2]), int(shape[-1])), dtype, int(np.prod(shape[:-2])),
        metadata=metadata, notes=tuple(notes), camera=camera,
    )  # fmt: skip


def read_pixels(path: Path, header: FrameHeader, first: int, stop: int) -> Pixels:
    """Frames of a file, (n, rows, columns), in native byte order."""
    data = _read(path)["data"].reshape(-1, *header.shape)[first:stop].compute()
    return np.ascontiguousarray(data, header.dtype.newbyteorder("="))


def _read(path: Path) -> dict[str, Any]:
    """The first image of the file, which is no thumbnail; its pixels are not read yet."""
    import struct

    from rsciio.digitalmicrograph import file_reader

    try:
        images = file_reader(str(path), lazy=True)
    except struct.error:
        raise ValueError("truncated: it ends within a tag") from None
    except (KeyError, AttributeError, TypeError, AssertionError) as error:
        raise ValueError(f"a damaged tag ({error})") from None
    if not images:
        raise ValueError("no image")
    image: dict[str, Any] = images[0]
    return image


def _metadata(path: Path, image: Mapping[str, Any], notes: list[str]) -> tuple[SeriesMetadata, str]:
    tags = image["original_metadata"]["ImageList"]["TagGroup0"].get("ImageTags", {})
    microscope = _at(tags, "Microscope Info") or {}
    diffracts = any(
        "DIFF" in str(microscope.get(name, "")).upper()
        for name in ("Imaging Mode", "Operation Mode")
    )
    camera_length = _positive(microscope.get("Actual Magnification")) if diffracts else None
    if diffracts and camera_length is None:
        notes.append("the DM tags state no calibrated camera length (Actual Magnification)")
    exposure = _first_positive(
        _at(tags, "DataBar", "Exposure Time (s)"),
        _at(tags, "Acquisition", "Parameters", "High Level", "Exposure (s)"),
    )
    voltage = _positive(microscope.get("Voltage"))
    if voltage is None:
        notes.append("the DM tags state no voltage")
    return stated(
        path,
        voltage_kV=None if voltage is None else voltage / 1000,
        camera_length_mm=camera_length,
        pixel_size_mm=_pixel_size_mm(tags, notes),
        per_A_per_px=_scale(image["axes"], notes),
        exposure_s=exposure,
        saturation=_positive(
            _at(tags, "Acquisition", "Frame", "Intensity", "Range", "Saturation Level (counts)")
        ),
    ), str(_at(tags, "Acquisition", "Device", "Name") or "")


def _pixel_size_mm(tags: Mapping[str, Any], notes: list[str]) -> float | None:
    chip = _at(tags, "Acquisition", "Device", "CCD", "Pixel Size (um)")
    binning = _at(tags, "Acquisition", "Parameters", "High Level", "Binning")
    if not (_pair(chip) and _pair(binning)):
        notes.append("the DM tags state no pixel size")
        return None
    sides = [float(size) * float(times) * 1e-3 for size, times in zip(chip, binning, strict=True)]
    if min(sides) <= 0 or abs(sides[0] / sides[1] - 1) > _SQUARE:
        notes.append(f"the DM tags state pixels of {sides[0]:g} x {sides[1]:g} mm; not used")
        return None
    return float(np.mean(sides))


def _scale(axes: Sequence[Mapping[str, Any]], notes: list[str]) -> float | None:
    sides = [reciprocal_A(float(axis["scale"]), str(axis["units"])) for axis in axes[-2:]]
    if None in sides:
        notes.append("the DM image is not calibrated in reciprocal length")
        return None
    low, high = sorted(abs(side) for side in sides if side)
    if high > low * (1 + _SQUARE):
        notes.append(f"the DM image states pixels of {low:g} and {high:g} 1/Å; not used")
        return None
    return float(np.sqrt(low * high))


def _at(tags: Any, *names: str) -> Any:
    """The tag at a path, or None."""
    for name in names:
        tags = tags.get(name) if isinstance(tags, Mapping) else None
    return tags


def _pair(value: Any) -> bool:
    return isinstance(value, tuple | list) and len(value) == 2


def _positive(value: Any) -> float | None:
    usable = isinstance(value, int | float) and bool(np.isfinite(value)) and value > 0
    return float(value) if usable else None


def _first_positive(*values: Any) -> float | None:
    return next((one for one in map(_positive, values) if one is not None), None)


READER = Reader("DM", (".dm3", ".dm4"), sniff, read_header, read_pixels)
