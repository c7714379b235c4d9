"""Which files of a folder are the frames of a series, and which stand beside them."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from ..errors import UserError
from .cred_log import NAME as CRED_LOG
from .cred_log import read_cred_log
from .registry import READERS, reader_of_suffix
from .series_record import FRAMES, read_series_record
from .series_record import NAME as SERIES_RECORD
from .source import Reader, Sidecar
from .xds_inp import NAME as XDS_INP
from .xds_inp import read_xds_inp

# Where instamatic puts its frames, the ones that say most of themselves first.
_INSTAMATIC = ("SMV/data", "RED", "tiff", "mrc")
_ALIEN_FRACTION = 0.1
_NOT_A_NAME = {"smv", "data", "tiff", "tif", "red", "mrc", "diff", "frames", "images", "img"}


@dataclass(frozen=True)
class FrameFile:
    """A file of frames and the number its name gives it."""

    path: Path
    number: int


@dataclass(frozen=True)
class Found:
    """The frame files of one series, in the order of their numbers.

    Attributes
    ----------
    folder : where they are.
    reader : of the format their suffix names.
    files : the files; a single one may be a stack.
    notes : what was passed over.
    """

    folder: Path
    reader: Reader
    files: tuple[FrameFile, ...]
    notes: tuple[str, ...] = ()


def find_frames(path: Path) -> Found:
    """The frame files in a folder, in its only subfolder of frames, or a stack file itself.

    Raises
    ------
    UserError : nothing there, no frames, or more than one series.
    """
    if path.is_file():
        reader = reader_of_suffix(path)
        if reader is None:
            raise UserError(path, f"suffix '{path.suffix}'", _suffixes(), "give frames or a stack")
        if reader.is_part(path):
            raise UserError(
                path, "a file that continues another", "the file that the frames begin with",
                "give the _000 of a .tvips, the _master of an .h5",
            )  # fmt: skip
        return Found(path.parent, reader, (FrameFile(path, 1),))
    if not path.is_dir():
        raise UserError(path, "no such file or folder", "frames", "check the path")
    here = _frames_in(path)
    if here is not None:
        return here
    if (path / SERIES_RECORD).is_file() and (found := _frames_in(path / FRAMES)):
        return found
    for name in _INSTAMATIC:
        if (path / name).is_dir() and (found := _frames_in(path / name)):
            return found
    below = [found for one in _folders(path) if (found := _frames_in(one))]
    if any(len(found.files) > 1 for found in below):  # single images beside a series are not it
        below = [found for found in below if len(found.files) > 1]
    if not below:
        raise UserError(path, "no frames", f"files of {_suffixes()}", "check the path")
    if len(below) > 1:
        names = " and ".join(found.folder.name for found in below)
        raise UserError(path, f"frames in {names}", "one series", "give one of these folders")
    return below[0]


def series_name(found: Found) -> str:
    """What people call a series: its file or the first folder with a name of its own."""
    if len(found.files) == 1:
        path = found.files[0].path
        stem = Path(path.stem).stem if path.suffix.lower() == ".gz" else path.stem
        return re.sub(r"(_master|_000)$", "", stem) or stem
    folders = [found.folder, *found.folder.parents]
    named = (folder.name for folder in folders if folder.name.lower() not in _NOT_A_NAME)
    return next(named, "") or found.folder.name


def find_sidecars(found: Found) -> tuple[list[Sidecar], list[str]]:
    """Record, cRED_log.txt and XDS.INP of a series, and notes on those passed over.

    Looked for beside the frames, one and two folders up, and (XDS.INP) in a folder ``xds``
    next to theirs. An XDS.INP further up that is about frames elsewhere is another's.
    """
    folder = found.folder.resolve()
    places = [folder, *list(folder.parents)[:2]]
    neighbours = [one for one in _folders(folder.parent) if one.name.lower() == "xds"]
    notes: list[str] = []
    sidecars: list[Sidecar] = []
    for place in places[:2]:
        if (place / SERIES_RECORD).is_file():
            sidecars.append(read_series_record(place / SERIES_RECORD))
            break
    for place in places:
        if (place / CRED_LOG).is_file():
            sidecars.append(read_cred_log(place / CRED_LOG))
            break
    for place in [*places[:1], *neighbours, *places[1:]]:
        if not (place / XDS_INP).is_file():
            continue
        sidecar = read_xds_inp(place / XDS_INP)
        about = _about(sidecar)
        if about is not None and about != folder and about.is_dir():
            notes.append(f"{sidecar.path} was passed over: it is about frames in {about}")
            continue
        sidecars.append(sidecar)
        break
    return sidecars, notes


def _about(sidecar: Sidecar) -> Path | None:
    if sidecar.template is None:
        return None
    return (sidecar.path.parent / sidecar.template.replace("\\", "/")).parent.resolve()


def _folders(path: Path) -> list[Path]:
    try:
        return sorted(one for one in path.iterdir() if one.is_dir())
    except OSError:
        return []


def _suffixes() -> str:
    return ", ".join(suffix for reader in READERS for suffix in reader.suffixes)


def _frames_in(folder: Path) -> Found | None:
    """The series in a folder, or None if it holds no frames."""
    try:
        listing = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise UserError(folder, str(error.strerror), "a readable folder", "check it") from None
    known = [path for path in listing if path.is_file() and _begins(path)]
    groups: dict[tuple[str, ...], list[Path]] = defaultdict(list)
    for path in known:
        parts = tuple(re.split(r"\d+", path.stem))
        if len(parts) > 1:
            groups[(path.suffix.lower(), *parts)].append(path)
    series = [files for group in groups.values() for files in _one_number(group)]
    if not series:
        if len(known) == 1:  # a stack, whose name need not have a number
            reader = reader_of_suffix(known[0])
            assert reader is not None
            return Found(folder, reader, (FrameFile(known[0], 1),))
        return None
    series.sort(key=len, reverse=True)
    chosen = series[0]
    taken = {file.path for file in chosen}
    others = [path for path in known if path not in taken]
    if len(series) > 1 and len(series[1]) > max(1, _ALIEN_FRACTION * len(chosen)):
        raise UserError(
            folder,
            f"several series, of names like {chosen[0].path.name} and {series[1][0].path.name}",
            "one series in a folder",
            "move the others to folders of their own",
        )
    reader = reader_of_suffix(chosen[0].path)
    assert reader is not None
    notes = []
    if others:
        names = ", ".join(path.name for path in others[:3]) + (" ..." if len(others) > 3 else "")
        notes.append(
            f"{len(others)} file(s) not named like {chosen[0].path.name} were passed over: {names}"
        )
    return Found(folder, reader, tuple(chosen), tuple(notes))


def _begins(path: Path) -> bool:
    reader = reader_of_suffix(path)
    return reader is not None and not reader.is_part(path)


def _one_number(paths: list[Path]) -> list[list[FrameFile]]:
    """Files whose names differ in digits only, as series that differ in one number only."""
    digits = [re.findall(r"\d+", path.stem) for path in paths]
    varying = [i for i in range(len(digits[0])) if len({row[i] for row in digits}) > 1]
    column = varying[-1] if varying else len(digits[0]) - 1
    series: dict[tuple[str, ...], list[FrameFile]] = defaultdict(list)
    for path, row in zip(paths, digits, strict=True):
        rest = (*row[:column], *row[column + 1 :])
        series[rest].append(FrameFile(path, int(row[column])))
    return [sorted(files, key=lambda file: file.number) for files in series.values()]
