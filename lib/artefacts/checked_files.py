"""Reading the arrays of an artefact so that damage is an error, never a wrong number."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path
from typing import Any

import zarr
from zarr.abc.store import (
    ByteRequest,
    OffsetByteRequest,
    RangeByteRequest,
    Store,
    SuffixByteRequest,
)
from zarr.core.buffer import Buffer, BufferPrototype, default_buffer_prototype

from ..errors import UserError
from .artefact import damaged
from .manifest import FileRecord


def open_checked(folder: Path, records: Mapping[str, FileRecord]) -> zarr.Group:
    """The zarr group in `folder`, whose files are exactly `records` (by path below it)."""
    if not records:
        raise UserError(folder, "no arrays", "an artefact that holds arrays", "use its files")
    return zarr.open_group(CheckedFiles(folder, records), mode="r", zarr_format=3)


class CheckedFiles(Store):
    """A read-only zarr store of the files a manifest names, and no others.

    A file is digested when it is first read; later reads rely on its size and on the checksum
    within each chunk.
    """

    supports_writes = False
    supports_deletes = False
    supports_listing = True

    def __init__(self, folder: Path, records: Mapping[str, FileRecord]) -> None:
        super().__init__(read_only=True)
        self.folder, self.records = folder, dict(records)
        self._digested: set[str] = set()

    def _read(self, key: str, wanted: ByteRequest | None) -> bytes | None:
        record = self.records.get(key)
        if record is None:
            return None
        path = self.folder / key
        start, stop = _span(wanted, record.size)
        try:
            size = path.stat().st_size
            if size != record.size:
                raise damaged(path, size, record)
            if key in self._digested:
                with path.open("rb") as file:
                    file.seek(start)
                    return file.read(stop - start)
            content = path.read_bytes()
        except FileNotFoundError as error:
            raise damaged(path, None, record) from error
        except OSError as error:
            reason = str(error.strerror).lower()
            raise UserError(path, reason, "a readable file", "check the disk") from error
        if hashlib.sha256(content).hexdigest() != record.sha256:
            raise damaged(path, len(content), record)
        self._digested.add(key)
        return content[start:stop]

    async def get(
        self,
        key: str,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """The bytes of a file, or a range of them; None for a name the manifest lacks."""
        content = await asyncio.to_thread(self._read, key, byte_range)
        buffer = (prototype or default_buffer_prototype()).buffer
        return None if content is None else buffer.from_bytes(content)

    async def get_partial_values(
        self,
        prototype: BufferPrototype,
        key_ranges: Iterable[tuple[str, ByteRequest | None]],
    ) -> list[Buffer | None]:
        """Several ranges, each as `get` reads it."""
        return [await self.get(key, prototype, wanted) for key, wanted in key_ranges]

    async def exists(self, key: str) -> bool:
        """Whether the manifest names the file."""
        return key in self.records

    async def list(self) -> AsyncIterator[str]:
        """Every file."""
        for key in self.records:
            yield key

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """Every file whose path starts with `prefix`."""
        for key in self.records:
            if key.startswith(prefix):
                yield key

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Names of the files and folders in the folder `prefix`."""
        start = f"{prefix.rstrip('/')}/" if prefix else ""
        inside = [key.removeprefix(start) for key in self.records if key.startswith(start)]
        for name in dict.fromkeys(key.split("/")[0] for key in inside):
            yield name

    async def set(self, key: str, value: Buffer) -> None:
        """Refused: a published artefact never changes."""
        self._check_writable()

    async def delete(self, key: str) -> None:
        """Refused: a published artefact never changes."""
        self._check_writable()

    def with_read_only(self, read_only: bool = False) -> CheckedFiles:
        """Itself; it cannot be made writable."""
        if not read_only:
            raise ValueError("a published artefact never changes: its arrays are read-only")
        return self

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, CheckedFiles):
            return NotImplemented
        return self.folder == other.folder and self.records == other.records

    __hash__ = None  # type: ignore[assignment]

    def __str__(self) -> str:
        return f"file://{self.folder.as_posix()}"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_digested": set()}  # another process looks for itself


def _span(wanted: ByteRequest | None, size: int) -> tuple[int, int]:
    match wanted:
        case None:
            return 0, size
        case RangeByteRequest(start, end):
            return start, end
        case OffsetByteRequest(offset):
            return offset, size
        case SuffixByteRequest(suffix):
            return max(0, size - suffix), size
    raise ValueError(f"unexpected byte range {wanted}")
