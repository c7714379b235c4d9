"""Series as an instrument announces them: which frames, how many bytes, and the digest of all."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath

from pydantic import BaseModel, ConfigDict, Field, field_validator

from ..artefacts.durable import sha256_file

# suffixes of what deploy/instrument/notify.py counts as frames
FRAMES = {".img", ".smv", ".tif", ".tiff", ".mrc", ".mrcs", ".cbf", ".dm3", ".dm4", ".emd"}


def path_inside(value: str) -> str:
    """A path that stays below the folder it is added to. Raises ValueError for another."""
    path = PurePosixPath(value)
    if path.is_absolute() or ".." in path.parts or "\\" in value or "\0" in value:
        raise ValueError("expected a path below, with / and without ..")
    return path.as_posix()


class AnnouncedSeries(BaseModel):
    """A series as an instrument announced it.

    Attributes
    ----------
    folder : below that of the session; "." for the session's own.
    files, bytes, digest : number of frames, bytes in all, and the SHA-256 over the lines
        "sha256 size name" of the frames, sorted by their path below the series.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    folder: str = Field(max_length=500)
    files: int = Field(ge=1, le=1_000_000)
    bytes: int = Field(ge=0)
    digest: str = Field(pattern=r"^[0-9a-f]{64}$")

    @field_validator("folder")
    @classmethod
    def _inside(cls, value: str) -> str:
        return path_inside(value)


def frames_below(place: Path, deep: bool) -> list[tuple[str, int]]:
    """(path below `place`, bytes) of the frames in it, and with `deep` in the folders below."""
    found = []
    for folder, subfolders, names in os.walk(place):
        subfolders[:] = [name for name in subfolders if deep and not name.startswith(".")]
        for name in names:
            file = Path(folder, name)
            if file.suffix.lower() in FRAMES:
                with suppress(OSError):  # it went away between two looks
                    found.append((file.relative_to(place).as_posix(), file.stat().st_size))
    return sorted(found)


def digest_of_frames(place: Path, frames: Sequence[tuple[str, int]]) -> str:
    """SHA-256 over the lines "sha256 size name" of frames as `frames_below` lists them."""
    whole = hashlib.sha256()
    for name, size in frames:
        whole.update(f"{sha256_file(place / name)} {size} {name}\n".encode())
    return whole.hexdigest()


def series_below(session: Path) -> tuple[AnnouncedSeries, ...]:
    """The series of a session as its instrument would announce them.

    A series is a folder of the session with frames anywhere in it; the session itself, if frames
    lie beside its folders.
    """
    places = [(".", session)] if frames_below(session, deep=False) else [
        (one.name, one)
        for one in sorted(session.iterdir())
        if one.is_dir() and not one.name.startswith(".")
    ]  # fmt: skip
    found = []
    for name, place in places:
        frames = frames_below(place, deep=name != ".")
        if frames:
            size = sum(length for _, length in frames)
            digest = digest_of_frames(place, frames)
            found.append(AnnouncedSeries(folder=name, files=len(frames), bytes=size, digest=digest))
    return tuple(found)
