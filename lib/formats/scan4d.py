"""From files of any known kind to a `Scan4D`, whose frames are read when they are needed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np

from ..artefacts.in_threads import in_threads
from ..errors import UserError
from ..series.rotation_series import SourceFile
from ..stem4d.lazy_scan import LazyScan
from ..stem4d.metadata import ScanMetadata, from_file
from ..stem4d.rows import Decoded, chunk_reader
from ..stem4d.scan import Scan4D
from . import scan_arrays, scan_dm, scan_empad, scan_frames, scan_hdf5, scan_mib
from .scan_source import RawScan

_READERS: dict[tuple[str, ...], Callable[[Path, str | None], RawScan]] = {
    (".npy",): scan_arrays.read_npy,
    (".zarr", ".zspy"): scan_arrays.read_zarr,
    (".mib",): scan_mib.read_mib,
    (".h5", ".hdf5", ".hspy", ".emd", ".nxs"): scan_hdf5.read_hdf5,
    (".blo", ".tvips", ".ser", ".mrc", ".mrcs", ".tif", ".tiff"): scan_frames.read_frames,
    (".dm3", ".dm4"): scan_dm.read_dm,
    (".raw",): scan_empad.read_empad,
}
SUFFIXES = tuple(suffix for suffixes in _READERS for suffix in suffixes)
_INSIDE = "::"  # between a file and the name of a data set in it


def read_scan(
    path: str | Path,
    *,
    stated: ScanMetadata | None = None,
    name: str | None = None,
    digest: bool = True,
) -> Scan4D:
    """Read a 4D-STEM scan; nothing is written, and everything decided is in its notes.

    Parameters
    ----------
    path : a file, or a zarr folder; ``file::data/set`` where a file holds several scans.
    stated : wins over what the files say; the scan's shape must be given where a file holds but
        a stack of frames.
    name : of the scan, instead of that of its file.
    digest : whether the raw files are digested, which reads them once; else `digested` does it.

    Returns
    -------
    The scan; its frames are read from the files when needed, so these must stay.

    Raises
    ------
    UserError : no such file, an unknown suffix, a damaged file, no scan in it, several, a stack
        whose shape nobody states, or a value that cannot be.
    """
    given, _, inside = str(path).partition(_INSIDE)
    file = Path(given)
    raw = _read(file, inside or None)
    said, notes = from_file(file.name, raw.fields)
    known = (stated or ScanMetadata()).over(said)
    scan_shape = _scan_shape(file, raw, known.scan_shape)
    frames: Any = raw.stacks[0]
    if not (len(frames.shape) == 4 and isinstance(chunk_reader(frames), Decoded)):
        frames = LazyScan(raw.stacks, scan_shape, file)
    shape = int(frames.shape[2]), int(frames.shape[3])
    missing = np.zeros(scan_shape, bool) if raw.missing is None else raw.missing.copy()
    lacking = missing.size - raw.count
    if lacking > 0:
        missing.ravel()[raw.count :] = True
        notes.append(f"{file.name} ends {lacking} frames before the scan does; they are missing")
    sources = tuple(SourceFile(str(one.absolute()), "") for one in raw.files)
    return Scan4D(
        name=name or raw.name or file.stem,
        frames=frames,
        mask=np.zeros(shape, bool) if raw.mask is None else raw.mask,
        missing=missing,
        wavelength_A=known.wavelength_A or raw.wavelength_A,
        pixel_size_mm=known.pixel_size_mm,
        camera_length_mm=known.camera_length_mm,
        scan_step_nm=known.scan_step_nm,
        convergence_mrad=known.convergence_mrad,
        gain=known.gain,
        pedestal=known.pedestal or 0.0,
        saturation=known.saturation,
        instrument=raw.instrument,
        notes=(*raw.notes, *notes),
        sources=digested(sources) if digest else sources,
    )


def digested(sources: Iterable[SourceFile], stop: Event | None = None) -> tuple[SourceFile, ...]:
    """Raw files with their SHA-256; that of a folder is of the names and digests of its files.

    Parameters
    ----------
    sources : files as `read_scan` names them.
    stop : ends it, with nothing, when set.

    Raises
    ------
    UserError : a file cannot be read.
    """
    known: list[SourceFile] = []
    for one in sources:
        path = Path(one.path)
        try:
            files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
            each = in_threads(lambda file: _sha256(file, stop), files)
        except OSError as error:
            found = str(error.strerror)
            raise UserError(path, found, "a readable file", "check the disk") from None
        if stop and stop.is_set():
            return ()
        total = each[0] if path.is_file() else ""
        if not path.is_file():
            pairs = zip(files, each, strict=True)
            lines = (f"{file.relative_to(path).as_posix()}\0{sha}\n" for file, sha in pairs)
            total = hashlib.sha256("".join(lines).encode()).hexdigest()
        known.append(SourceFile(one.path, total))
    return tuple(known)


def _read(file: Path, inside: str | None) -> RawScan:
    if not file.exists():
        raise UserError(file, "no such file or folder", "a 4D-STEM scan", "check the path")
    reader = next((r for suffixes, r in _READERS.items() if file.suffix.lower() in suffixes), None)
    if reader is None and file.is_dir():
        reader = scan_arrays.read_zarr
    if reader is None:
        suffix = f"suffix '{file.suffix}'"
        raise UserError(file, suffix, ", ".join(SUFFIXES), "give a 4D-STEM scan")
    try:
        raw = reader(file, inside)
    except UserError:
        raise
    except Exception as error:  # any fault of a foreign file
        found = " ".join(f"{type(error).__name__}: {error}".split())[:160]
        raise UserError(
            file, found, f"a {file.suffix.lower() or 'zarr'} file of a scan",
            "check the file, or copy it again from where it was taken",
        ) from error  # fmt: skip
    kind = np.dtype(raw.stacks[0].dtype)
    if kind.kind not in "uif":
        raise UserError(file, f"values of type {kind}", "counts", "give a 4D-STEM scan")
    return raw


def _scan_shape(file: Path, raw: RawScan, stated: tuple[int, int] | None) -> tuple[int, int]:
    """The scan's shape, into which frames may have to be put."""
    first = raw.stacks[0]
    axes = len(first.shape)
    if axes == 4:
        held = int(first.shape[0]), int(first.shape[1])
        if stated is None or stated == held:
            return held
        raise UserError(
            f"{file}: scan_shape", f"{stated[0]} x {stated[1]} stated",
            f"{held[0]} x {held[1]}, as in the file", "leave it out",
        )  # fmt: skip
    if axes == 2 or (axes == 3 and raw.count == 1):
        rows, columns = first.shape[-2:]
        raise UserError(
            file, f"one image of {rows} x {columns}", "a 4D-STEM scan", "give another file"
        )
    if axes != 3:
        raise UserError(
            file, f"data of {axes} axes", "four (scan row, scan column, row, column)",
            "give a 4D-STEM scan",
        )  # fmt: skip
    n = raw.count
    if stated is None:
        raise UserError(
            file, f"{n} frames in a row", "the scan's rows and columns, which nothing states",
            "give them (--scan-shape ROWS COLUMNS)",
        )  # fmt: skip
    rows, columns = stated
    if n > rows * columns or 2 * n < rows * columns:
        raise UserError(
            f"{file}: scan_shape", f"{n} frames", f"{rows * columns} for {rows} x {columns}",
            "state the scan's rows and columns, with frames of the flyback",
        )  # fmt: skip
    return stated


def _sha256(path: Path, stop: Event | None) -> str:
    total, buffer = hashlib.sha256(), bytearray(2**20)
    with path.open("rb", buffering=0) as file:
        while (n := file.readinto(buffer)) and not (stop and stop.is_set()):
            total.update(memoryview(buffer)[:n])
    return total.hexdigest()
