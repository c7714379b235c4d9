"""A single diffraction image with what its file says of it: powder rings, a pattern to recentre.

Series of frames have `read_series`; this is for one image of any format that they have, and of
those in which calibration images are kept (DM3, DM4, EMD).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError
from .inspect import fault, not_what_it_says, read_block
from .registry import HEAD_BYTES, READERS, reader_of_suffix
from .source import sound_header


@dataclass(frozen=True)
class DiffractionImage:
    """One image; None stands for what its file does not say.

    Attributes
    ----------
    name : of the image, usually the stem of its file.
    pixels : (rows, columns), as stored, in any real dtype.
    wavelength_A : electron wavelength, from the accelerating voltage where that is stated.
    pixel_size_mm : edge of a detector pixel, binning included.
    camera_length_mm : camera length stated by the file.
    per_A_per_px : calibrated reciprocal-space size of a pixel stated by the file.
    saturation : counts at and above which a pixel is overloaded.
    exposure_s : exposure.
    camera : name of the detector.
    path : the file it came from.
    sha256 : digest of the file.
    notes : what the reader had to decide, one sentence each.
    """

    name: str
    pixels: NDArray[Any]
    wavelength_A: float | None = None
    pixel_size_mm: float | None = None
    camera_length_mm: float | None = None
    per_A_per_px: float | None = None
    saturation: float | None = None
    exposure_s: float | None = None
    camera: str = ""
    path: str = ""
    sha256: str = ""
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if np.ndim(self.pixels) != 2:
            raise ValueError(f"pixels: found {np.shape(self.pixels)}, expected (rows, columns)")

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        rows, columns = self.pixels.shape
        return rows, columns


def read_image(path: str | Path, frame: int | None = None) -> DiffractionImage:
    """Read one image with what its file says of it.

    Parameters
    ----------
    path : a file of any format that frames are read from: SMV, TIFF, MRC, CBF, DM3, DM4, EMD.
    frame : its number in a stack, counting from 1; needed if there is more than one.

    Raises
    ------
    UserError : no such file, an unknown or wrong suffix, a damaged or truncated file, no such
        frame, or a stack and no `frame`.
    """
    path = Path(path)
    reader = reader_of_suffix(path)
    if reader is None:
        suffixes = ", ".join(suffix for one in READERS for suffix in one.suffixes)
        raise UserError(path, f"suffix '{path.suffix}'", suffixes, "give an image of these formats")
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(path, str(error.strerror), "a readable image", "check the path") from None
    if not reader.sniff(head):
        raise not_what_it_says(path, reader, head)
    try:
        header = sound_header(reader, path)
    except Exception as error:  # any fault of a foreign file
        raise fault(path, error) from error
    if frame is None and header.n_frames > 1:
        raise UserError(
            path, f"a stack of {header.n_frames} frames", "one image",
            f"choose a frame, from 1 to {header.n_frames}",
        )  # fmt: skip
    frame = frame or 1
    if not 1 <= frame <= header.n_frames:
        raise UserError(
            f"{path}: frame", f"{frame}", f"1 to {header.n_frames}", "choose one of these"
        )
    pixels = read_block(reader, [(path, header, frame - 1)], header.shape)[0]
    said = header.metadata
    return DiffractionImage(
        name=path.stem if header.n_frames == 1 else f"{path.stem}_{frame}",
        pixels=pixels,
        wavelength_A=said.exact_wavelength_A,
        pixel_size_mm=said.pixel_size_mm,
        camera_length_mm=said.camera_length_mm or said.distance_mm,
        per_A_per_px=said.per_A_per_px,
        saturation=said.saturation,
        exposure_s=said.exposure_s,
        camera=header.camera,
        path=str(path),
        sha256=digest,
        notes=header.notes,
    )
