"""Scans that are plain arrays: .npy files and zarr folders, ours and others'."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import zarr

from ..errors import UserError
from ..stem4d.storage import KIND
from ..stem4d.storage import read_scan as read_stored
from .scan_source import RawScan


def read_npy(path: Path, inside: str | None) -> RawScan:
    """A file of ``numpy.save``, read when needed."""
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    if not isinstance(array, np.ndarray):
        raise UserError(path, "an archive of arrays (.npz)", "one array", "save the scan alone")
    return RawScan([array], [path])


def read_zarr(path: Path, inside: str | None) -> RawScan:
    """A folder written by `storage.write_scan`, or one with a single array of three or four axes.

    `inside` names the array, where there are several.
    """
    try:
        store: Any = zarr.storage.ZipStore(path, mode="r") if path.is_file() else path
        opened: Any = zarr.open(store, mode="r")
    except (FileNotFoundError, ValueError, KeyError, BadZipFile) as error:
        found = "no zarr array or group in it"
        raise UserError(path, found, "a zarr folder of a scan", "check the path") from error
    if isinstance(opened, zarr.Array):
        return RawScan([opened], [path])
    if opened.attrs.get("schema") == KIND:
        scan = read_stored(opened)
        return RawScan(
            [scan.frames],
            [path],
            fields={
                name: getattr(scan, name)
                for name in (
                    "pixel_size_mm", "camera_length_mm", "scan_step_nm", "convergence_mrad",
                    "gain", "pedestal", "saturation",
                )
            },
            mask=scan.mask,
            missing=scan.missing,
            name=scan.name,
            instrument=scan.instrument,
            wavelength_A=scan.wavelength_A,
            notes=scan.notes,
        )  # fmt: skip
    arrays = {
        name: one
        for name, one in opened.members(max_depth=None)
        if isinstance(one, zarr.Array) and one.ndim >= 2
    }
    return RawScan([arrays[choose(path, {n: a.shape for n, a in arrays.items()}, inside)]], [path])


def choose(path: Path, shapes: dict[str, tuple[int, ...]], inside: str | None) -> str:
    """Which of the data sets of a file is the scan: the one of four axes, else of three.

    Raises
    ------
    UserError : none, or several.
    """
    if inside is not None:
        wanted = inside.strip("/")
        if wanted in shapes:
            return wanted
        raise UserError(
            path, f"no data set '{wanted}'", f"one of {', '.join(sorted(shapes)) or 'none'}",
            "name one that is there",
        )  # fmt: skip
    for axes in (4, 3):
        found = sorted(name for name, shape in shapes.items() if len(shape) == axes)
        if len(found) == 1:
            return found[0]
        if found:
            raise UserError(
                path, f"{len(found)} data sets of {axes} axes: {', '.join(found[:4])}",
                "one scan", f"name one, such as {path.name}::{found[0]}",
            )  # fmt: skip
    largest = max(shapes.items(), key=lambda item: np.prod(item[1]), default=("nothing", ()))
    found_text = f"at most {largest[0]} of shape {tuple(int(n) for n in largest[1])}"
    raise UserError(
        path, found_text if shapes else "no image data", "data of four axes", "give a 4D-STEM scan"
    )
