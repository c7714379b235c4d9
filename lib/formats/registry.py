"""The formats frames are read from and written in: one module each, and a line here."""

from __future__ import annotations

from pathlib import Path

from . import (
    blo,
    cbf,
    crysalis,
    dm,
    emd,
    hspy,
    mib,
    mrc,
    nexus,
    nxmx,
    pets,
    redp,
    ser,
    smv,
    tiff,
    tvips,
)
from .gz import gzipped
from .source import Reader
from .write import Writer

READERS: tuple[Reader, ...] = (
    smv.READER,
    tiff.READER,
    mrc.READER,
    cbf.READER,
    dm.READER,
    emd.READER,
    mib.READER,
    tvips.READER,
    ser.READER,
    blo.READER,
    nexus.READER,
    hspy.READER,
)
WRITERS: tuple[Writer, ...] = (
    smv.WRITER,
    tiff.WRITER,
    mrc.WRITER,
    cbf.WRITER,
    nxmx.WRITER,
    pets.WRITER,
    redp.WRITER,
    crysalis.WRITER,
)

HEAD_BYTES = 1024  # enough for every reader to sniff


def reader_of_suffix(path: Path) -> Reader | None:
    """The reader that claims a file's suffix; ``.gz`` after it is unpacked as it is read."""
    suffix = path.suffix.lower()
    if suffix == ".gz":
        packed = reader_of_suffix(path.with_suffix(""))
        return None if packed is None else gzipped(packed)
    return next((reader for reader in READERS if suffix in reader.suffixes), None)


def reader_of_content(head: bytes) -> Reader | None:
    """The reader that knows the first bytes of a file."""
    return next((reader for reader in READERS if reader.sniff(head)), None)
