"""The arrays of a draft, digested and held by the disk while others are still being written."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from zarr.core.buffer import Buffer
from zarr.storage import LocalStore

from .durable import settle
from .in_threads import THREADS

_LARGE = 2**18  # bytes; attributes, which are written several times, wait for the end
_State = tuple[int, int, int]


class DraftFiles(LocalStore):
    """A folder of zarr files that begins early with what publishing must wait for.

    Each large file is digested and flushed in the background as soon as it is written.
    """

    def __init__(self, root: Path, *, read_only: bool = False) -> None:
        super().__init__(root, read_only=read_only)
        self._pool = ThreadPoolExecutor(THREADS)
        self._begun: dict[str, tuple[_State, Future[str]]] = {}

    async def set(self, key: str, value: Buffer) -> None:
        """Write a file, whole or not at all."""
        await super().set(key, value)
        if len(value) >= _LARGE:
            path = self.root / key
            self._begun[key] = _state(path), self._pool.submit(settle, path)

    def digest(self, key: str) -> str:
        """SHA-256 of a file, which the disk then holds.

        Raises
        ------
        OSError : the disk refuses.
        """
        path = self.root / key
        state, digest = self._begun.get(key, (None, None))
        if digest is not None and _state(path) == state:  # not written since by anybody
            return digest.result()
        return settle(path)

    def close(self) -> None:
        """End what goes on in the background."""
        self._pool.shutdown(cancel_futures=True)
        super().close()

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return LocalStore, (self.root,)  # elsewhere it is a folder like any other


def _state(path: Path) -> _State:
    found = os.stat(path)
    return found.st_ino, found.st_mtime_ns, found.st_size
