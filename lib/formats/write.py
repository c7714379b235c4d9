"""What all writers of frames share: pixels in blocks, and an account of what was changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError
from ..series.rotation_series import RotationSeries
from .source import block_frames


@dataclass(frozen=True)
class WriteReport:
    """What a writer wrote, and every pixel value it could not keep.

    Attributes
    ----------
    files : in the order of the frames.
    pedestal_added : counts added to every pixel so that none is below zero.
    n_clipped_low, n_clipped_high : pixels beyond what the format can hold, now at its limits.
    n_rounded : pixels whose fraction was lost.
    n_not_finite : pixels that were not a number, now at zero (before the pedestal).
    notes : what the format cannot hold, one sentence each.
    """

    files: tuple[Path, ...]
    pedestal_added: float = 0.0
    n_clipped_low: int = 0
    n_clipped_high: int = 0
    n_rounded: int = 0
    n_not_finite: int = 0
    notes: tuple[str, ...] = ()

    @property
    def lossless(self) -> bool:
        """Whether every pixel is as it was, but for the pedestal."""
        return not any((self.n_clipped_low, self.n_clipped_high, self.n_rounded, self.n_not_finite))


@dataclass(frozen=True)
class Writer:
    """One format to write a series in.

    Attributes
    ----------
    name : as people call it.
    suffix : of its frames' files.
    write : ``write(series, folder)``, a file per frame; or all that the program needs.
    complete : whether `write` makes all that the program needs, with its own names for folders.
    """

    name: str
    suffix: str
    write: Callable[[RotationSeries, Path], WriteReport]
    complete: bool = False


class PixelCast:
    """Casts blocks of frames to another pixel type and counts what that costs."""

    def __init__(self, dtype: np.dtype[Any], pedestal: float = 0.0) -> None:
        self.dtype, self.pedestal = dtype, pedestal
        self.n_clipped_low = self.n_clipped_high = self.n_rounded = self.n_not_finite = 0

    def __call__(self, block: NDArray[Any]) -> NDArray[Any]:
        """`block` plus the pedestal in the new type."""
        if block.dtype == self.dtype and not self.pedestal:
            return block
        values = block.astype(np.float64)  # exact to 2**53
        finite = np.isfinite(values)
        self.n_not_finite += int(np.sum(~finite))
        values[~finite] = 0
        values += self.pedestal
        if self.dtype.kind in "ui":
            rounded = np.rint(values)
            self.n_rounded += int(np.sum(rounded != values))
            limits = np.iinfo(self.dtype)
            self.n_clipped_low += int(np.sum(rounded < limits.min))
            self.n_clipped_high += int(np.sum(rounded > limits.max))
            return np.clip(rounded, limits.min, limits.max).astype(self.dtype)
        cast = values.astype(self.dtype)
        self.n_rounded += int(np.sum(cast != values))
        return cast

    def report(self, files: list[Path], notes: list[str]) -> WriteReport:
        """The account of all blocks cast, with notes on what was changed."""
        for n, words in (
            (self.n_clipped_low, f"pixel(s) below the lowest value of {self.dtype} were clipped"),
            (self.n_clipped_high, f"pixel(s) above the highest value of {self.dtype} were clipped"),
            (self.n_rounded, f"pixel(s) were rounded to {self.dtype}"),
            (self.n_not_finite, "pixel(s) were not a number and were set to zero"),
        ):
            if n:
                notes = [*notes, f"{n} {words}"]
        if self.pedestal:
            notes = [*notes, f"a pedestal of {self.pedestal:g} was added to every pixel"]
        return WriteReport(
            tuple(files),
            self.pedestal,
            self.n_clipped_low,
            self.n_clipped_high,
            self.n_rounded,
            self.n_not_finite,
            tuple(notes),
        )


def blocks(series: RotationSeries) -> Iterator[tuple[int, NDArray[Any]]]:
    """(position of the first frame, block of frames) after each other, a few in memory."""
    step = block_frames(series.shape, np.dtype(series.frames.dtype).itemsize)
    for start in range(0, len(series), step):
        yield start, np.asarray(series.frames[start : start + step])


def extremes(series: RotationSeries) -> tuple[float, float]:
    """Lowest and highest finite pixel value of a series (0, 0 if there is none)."""
    lowest, highest = np.inf, -np.inf
    for _, block in blocks(series):
        values = block[np.isfinite(block)] if block.dtype.kind == "f" else block
        if values.size:
            lowest = min(lowest, float(values.min()))
            highest = max(highest, float(values.max()))
    return (lowest, highest) if lowest <= highest else (0.0, 0.0)


def frame_names(series: RotationSeries, suffix: str) -> list[str]:
    """File names of the frames: their numbers, five digits or as many as are needed."""
    digits = max(5, len(str(int(series.frame_number[-1])))) if len(series) else 5
    if len(series) and series.frame_number[0] < 0:
        raise UserError(
            series.name, f"frame number {series.frame_number[0]}", "0 or more", "renumber"
        )
    return [f"{number:0{digits}d}{suffix}" for number in series.frame_number.tolist()]


def frame_template(series: RotationSeries, suffix: str) -> str:
    """The names of `frame_names` with ``?`` for every digit."""
    return "?" * len(Path(frame_names(series, "")[0]).name) + suffix


def numbered_from_one(series: RotationSeries) -> list[str]:
    """Notes on putting the frames in one file, where numbers are lost.

    Raises
    ------
    UserError : frames are missing in between, and their place would be lost too.
    """
    if np.any(np.diff(series.frame_number) != 1):
        raise UserError(
            series.name,
            "missing frames",
            "an unbroken series in a stack, which numbers its frames itself",
            "write a folder of frames",
        )
    first = int(series.frame_number[0])
    return [] if first == 1 else [f"frame {first} is number 1 in the stack"]


def even_step_deg(series: RotationSeries) -> float:
    """The one angle per frame number that other programs take: the mean over the series.

    Raises
    ------
    UserError : nothing rotates.
    """
    step = float(np.median(series.angle_width_deg)) if len(series) else 0.0
    if len(series) > 1:
        turned = series.angle_start_deg[-1] - series.angle_start_deg[0]
        step = float(turned / (series.frame_number[-1] - series.frame_number[0]))
    if step == 0:
        raise UserError(series.name, "no rotation", "frames that rotate", "use others")
    return step


def untold(series: RotationSeries, program: str) -> list[str]:
    """What another program cannot be told about a series in its input file."""
    geometry, notes = series.geometry, []
    if geometry.distortion.ratio != 1:
        notes.append(
            f"the elliptical distortion (ratio {geometry.distortion.ratio:.5f}, major axis at "
            f"{geometry.distortion.azimuth_deg:.2f} degrees) is not corrected in {program}"
        )
    if geometry.radial_per_mm2:
        notes.append(
            f"the radial distortion ({geometry.radial_per_mm2:.3g} per mm^2) is not corrected in "
            f"{program}"
        )
    if series.beam_centres_px is not None:
        notes.append(f"the beam centre moves from frame to frame; {program} is told one")
    return notes


@contextmanager
def new_folder(folder: Path, suffix: str) -> Iterator[None]:
    """Make a folder that holds no such frames yet. Turns file-system faults into UserError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.glob(f"*{suffix}")):
            raise UserError(folder, f"{suffix} files", "none yet", "write to another folder")
        yield
    except OSError as error:
        raise UserError(
            folder, str(error.strerror or error), "a folder with room to write in", "choose another"
        ) from None
