"""The folder of one acquired series: frames as they come, and a record of every decision.

::

    crystal-0007/
        frames/00001.img     diffraction frames, SMV; a number not there was spent on tracking
        tracking/00010.tif   defocused images
        views/*.tif          the crystal in imaging mode, its diffraction snapshot
        tracking.jsonl       one line per exposure, decision, setting; the first tells what it is

Frames and lines reach the disk one by one: a crash loses at most the frame being taken.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from ..errors import UserError
from ..formats.series_record import FRAMES
from ..formats.series_record import NAME as RECORD
from ..formats.smv import frame_header
from ..geometry import Geometry
from ..instrument import SeriesMetadata

TRACKING, VIEWS = "tracking", "views"
Counts = NDArray[Any]


class SeriesFolder:
    """Writes the folder of one series.

    Parameters
    ----------
    folder : made here; must not exist.
    geometry : nominal, for the headers of the frames.
    metadata : what the series' frames share, as far as the instrument knows it.
    saturation : counts at which a pixel is overloaded, or None.
    about : anything to remember of the crystal, plain types.

    Raises
    ------
    UserError : the folder exists, or the disk is full or cannot be written.
    """

    def __init__(
        self,
        folder: Path,
        geometry: Geometry,
        metadata: SeriesMetadata,
        saturation: float | None = None,
        about: dict[str, Any] | None = None,
    ) -> None:
        self.folder, self.geometry, self.saturation = folder, geometry, saturation
        self.n_frames = 0
        self.ends_deg: tuple[float, float] | None = None  # first start, last end
        with _disk(folder):
            if folder.exists():
                raise UserError(folder, "a folder", "none yet", "name the session anew")
            for part in (FRAMES, TRACKING, VIEWS):
                (folder / part).mkdir(parents=True)
            self._record = (folder / RECORD).open("a", encoding="utf-8")
        shared = metadata.model_dump(mode="json", exclude_none=True)
        self.line("series", name=folder.name, metadata=shared, **(about or {}))

    def line(self, event: str, **fields: Any) -> None:
        """Add a line to the record; numpy numbers and arrays are taken too."""
        with _disk(self.folder):
            self._record.write(json.dumps({"event": event, **fields}, default=_plain) + "\n")
            self._record.flush()

    def frame(
        self,
        number: int,
        counts: Counts,
        alpha_start_deg: float,
        alpha_end_deg: float,
        exposure_s: float,
        **fields: Any,
    ) -> None:
        """Keep a diffraction frame: counts (rows, columns), at most 65535."""
        highest = int(counts.max(initial=0))
        if highest > 65535:
            raise UserError(
                f"{self.folder}: frame {number}",
                f"a count of {highest}",
                "at most 65535",
                "set the camera to 16 bits",
            )
        path = self.folder / FRAMES / f"{number:05d}.img"
        header = frame_header(
            self.geometry,
            (counts.shape[0], counts.shape[1]),
            alpha_start_deg,
            alpha_end_deg - alpha_start_deg,
            exposure_s=exposure_s,
            saturation=self.saturation,
        )
        with _disk(path):
            draft = path.with_suffix(".part")
            draft.write_bytes(header + counts.astype("<u2").tobytes())
            draft.replace(path)
        self.n_frames += 1
        first = alpha_start_deg if self.ends_deg is None else self.ends_deg[0]
        self.ends_deg = (first, alpha_end_deg)
        self.line(
            "exposure",
            role="diffraction",
            number=number,
            file=f"{FRAMES}/{path.name}",
            alpha_start_deg=alpha_start_deg,
            alpha_end_deg=alpha_end_deg,
            exposure_s=exposure_s,
            **fields,
        )

    def image(self, part: str, name: str, counts: Counts, **fields: Any) -> None:
        """Keep any other image: `part` is `TRACKING` or `VIEWS`."""
        path = self.folder / part / f"{name}.tif"
        with _disk(path):
            tifffile.imwrite(path, counts, compression=None)
        self.line("exposure", file=f"{part}/{path.name}", **fields)

    def close(self, **fields: Any) -> None:
        """The last line, and all of it on the disk."""
        self.line("end", n_frames=self.n_frames, **fields)
        with _disk(self.folder):
            os.fsync(self._record.fileno())
            self._record.close()


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} in the record")


class _disk:
    """Turns file-system faults into one line."""

    def __init__(self, where: Path) -> None:
        self.where = where

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            raise UserError(
                self.where,
                str(error.strerror or error),
                "a disk that takes the frames",
                "make room or choose another folder; what is there is whole",
            ) from None
