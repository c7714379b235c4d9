"""Sessions that grow: how far each is merged, and who works on what."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..lib.artefacts import ArtefactStore

KIND = "session"


def merged_series(name: str, store: Path) -> int:
    """How many series the latest page of a session lists; 0 if there is none."""
    kept = ArtefactStore(store)
    versions = kept.versions(KIND, name)
    if not versions:
        return 0
    latest = kept.get(f"{KIND}/{name}@v{versions[-1]:04d}")
    return sum(one.role == "report" for one in latest.manifest.inputs)


@contextmanager
def holding(name: str, store: Path, *, wait: bool) -> Iterator[bool]:
    """Hold the lock of a name among the processes of this machine; False if it is not to be had.

    The lock ends with its holder, however that ends. With `wait` it is always had in the end.
    """
    folder = store / ".locks"
    folder.mkdir(exist_ok=True)
    with (folder / f"{name}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
        else:
            yield True
