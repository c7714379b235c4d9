"""One session at a time holds an instrument: a file lock that dies with those who hold it."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType

from ...lib.errors import UserError


def state_folder() -> Path:
    """Where what must outlive a session is kept: $EWALDFLOW_STATE, else in the home folder."""
    if chosen := os.environ.get("EWALDFLOW_STATE"):
        folder = Path(chosen)
    else:
        base = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
        folder = Path(base).expanduser() / "ewaldflow"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


class InstrumentLock:
    """Held from `__enter__` until every process that has `fileno` is gone or has let it go.

    Raises
    ------
    UserError : another session holds the instrument.
    """

    def __init__(self, instrument: str) -> None:
        self.instrument = instrument
        self.path = state_folder() / f"{instrument}.lock"
        self._file: int | None = None

    @property
    def fileno(self) -> int:
        """For processes that share the lock."""
        if self._file is None:
            raise ValueError("the lock is not held")
        return self._file

    def __enter__(self) -> InstrumentLock:
        file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.read(file, 100).decode("ascii", "replace").strip() or "unknown"
            os.close(file)
            raise UserError(
                f"instrument {self.instrument}",
                f"held by process {holder}",
                "an instrument nobody drives",
                "wait until it ends (its guard makes the instrument safe), or end it",
            ) from None
        os.ftruncate(file, 0)
        os.pwrite(file, str(os.getpid()).encode(), 0)
        self._file = file
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            os.close(self._file)  # a watcher that still works keeps it locked
            self._file = None
