"""TIFF frames and stacks, also those of instamatic with YAML in their description."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import yaml

from ..geometry import centre_from_corner
from ..instrument import SeriesMetadata
from ..series.rotation_series import RotationSeries
from . import tiff_tags
from .source import FrameHeader, Pixels, Reader, check_size, stated
from .write import Writer, WriteReport, blocks, frame_names, new_folder, numbered_from_one


class _PlainLoader(yaml.SafeLoader):
    """Safe YAML that passes over tags of Python objects instead of refusing the text."""


_PlainLoader.add_multi_constructor("tag:yaml.org,2002:python/", lambda loader, tag, node: None)


def sniff(head: bytes) -> bool:
    """Whether a file begins as TIFF or BigTIFF does."""
    return head[:4] in {b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"}


def read_header(path: Path) -> FrameHeader:
    """Layout of a TIFF file and what instamatic, DM, TVIPS or JEOL wrote beside it."""
    with tifffile.TiffFile(path) as tiff:
        pages = tiff.pages
        page = tiff.pages.first
        shape, dtype = page.shape, page.dtype
        if dtype is None or dtype.kind not in "uif" or len(shape) != 2:
            raise ValueError(f"a page of shape {shape}, {dtype}; expected one channel of numbers")
        n_pages = len(pages)
        ends = [0]
        for each in pages if n_pages > 1 else [page]:
            if (each.shape, each.dtype) != (shape, dtype):
                raise ValueError(f"pages of {shape} and {each.shape}; expected one size")
            ends += [a + n for a, n in zip(each.dataoffsets, each.databytecounts, strict=True)]
        # An ImageJ stack may hold all frames behind a single page.
        description = page.description
        series = tiff.series[0].shape if n_pages == 1 and description else (n_pages, *shape)
        n_frames = int(np.prod(series[:-2])) if tuple(series[-2:]) == shape else 1
        offset = 0
        if n_pages == n_frames == 1 and page.is_final and sum(page.databytecounts) == page.nbytes:
            offset, dtype = page.dataoffsets[0], dtype.newbyteorder(tiff.byteorder)
        fields, camera, notes = tiff_tags.of_tiff(tiff, page)
    check_size(path, max(ends))
    if fields or notes:
        metadata = stated(path, **fields)
    else:
        metadata, notes = _instamatic(description)
    return FrameHeader(
        (int(shape[0]), int(shape[1])), dtype, n_frames, offset, metadata, notes=tuple(notes),
        camera=camera,
    )  # fmt: skip


def read_pixels(path: Path, header: FrameHeader, first: int, stop: int) -> Pixels:
    """Frames of a file, (n, rows, columns), in native byte order."""
    if header.offset:  # plain pixels in one piece: opening the file anew takes longer than they do
        pixels = np.fromfile(path, header.dtype, int(np.prod(header.shape)), "", header.offset)
        native = header.dtype.newbyteorder("=")
        return pixels.reshape(1, *header.shape).astype(native, copy=False)[first:stop]
    with tifffile.TiffFile(path) as tiff:
        if len(tiff.pages) == header.n_frames:
            pixels = tiff.asarray(key=range(first, stop), maxworkers=1)
        else:
            pixels = tiff.asarray(maxworkers=1).reshape(-1, *header.shape)[first:stop]
    return np.asarray(pixels).reshape(-1, *header.shape)


def _instamatic(description: str) -> tuple[SeriesMetadata, list[str]]:
    """What instamatic's YAML states; nothing if the description is something else."""
    if "ImageExposureTime" not in description and "beam_center" not in description:
        return SeriesMetadata(), []
    try:
        items: Any = yaml.load(description, Loader=_PlainLoader)  # a SafeLoader
    except yaml.YAMLError:
        items = None
    if not isinstance(items, dict):
        return SeriesMetadata(), ["the YAML in the TIFF descriptions cannot be read"]
    exposure: Any = items.get("ImageExposureTime")
    centre = items.get("beam_center")
    notes = []
    beam_centre = None
    if isinstance(centre, list) and len(centre) == 2 and all(map(_is_number, centre)):
        # the numbers instamatic also writes in SMV headers, where they count from the corner
        beam_centre = centre_from_corner(float(centre[1]), float(centre[0]))
    elif centre is not None:
        notes.append("beam_center in the TIFF descriptions is not two numbers and was not used")
    return SeriesMetadata(
        exposure_s=float(exposure) if _is_number(exposure) and exposure > 0 else None,
        beam_centre_px=beam_centre,
    ), notes


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and bool(np.isfinite(value))


def write_tiff(series: RotationSeries, path: str | Path) -> WriteReport:
    """Write the frames as they are: a file each in a folder, or one stack ``*.tif(f)``.

    TIFF holds no geometry: write an XDS.INP beside it.

    Raises
    ------
    UserError : the folder cannot be written or holds frames; a stack of a broken series.
    """
    path = Path(path)
    if path.suffix.lower() in READER.suffixes:
        notes = numbered_from_one(series)
        with new_folder(path.parent, path.name), tifffile.TiffWriter(path, bigtiff=True) as tiff:
            for _, block in blocks(series):
                for pixels in block:
                    tiff.write(pixels, contiguous=False, metadata=None)
        return WriteReport((path,), notes=tuple(notes))
    files = []
    with new_folder(path, ".tiff"):
        names = frame_names(series, ".tiff")
        for start, block in blocks(series):
            for i, pixels in enumerate(block, start):
                files.append(path / names[i])
                tifffile.imwrite(files[-1], pixels, metadata=None)
    return WriteReport(tuple(files))


READER = Reader("TIFF", (".tif", ".tiff"), sniff, read_header, read_pixels)
WRITER = Writer("TIFF", ".tiff", write_tiff)
