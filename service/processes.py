"""Long-lived programs of the service: started apart, found again by a file, ended by their id."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import psutil


@dataclass(frozen=True)
class Program:
    """One long-lived program of a service.

    Attributes
    ----------
    name : for people, and of its files.
    command : to run.
    home : folder of its process file and log.
    variables : of its environment, besides those of this process.
    """

    name: str
    command: Sequence[str]
    home: Path
    variables: Mapping[str, str]

    @property
    def log(self) -> Path:
        """What it says."""
        return self.home / f"{self.name}.log"

    @property
    def _file(self) -> Path:
        return self.home / f"{self.name}.pid"

    def process(self) -> psutil.Process | None:
        """The running program; None if there is none, however it ended."""
        try:
            pid, created = json.loads(self._file.read_text(encoding="utf-8"))
            found = psutil.Process(pid)
            # a number is used again for another process some day; its time of birth is not
            if found.create_time() == created and found.status() != psutil.STATUS_ZOMBIE:
                return found
        except (OSError, ValueError, psutil.Error):
            pass
        return None

    def start(self) -> psutil.Process:
        """Start it, unless it runs; two who do so at once start one."""
        with self._locked(), self.log.open("ab") as log:
            return self.process() or self._started(log)

    def claim(self) -> bool:
        """Be the program, however this process was started; False if another one is."""
        with self._locked():
            running = self.process()
            if running is None:
                self._note(psutil.Process())
            return running is None or running.pid == os.getpid()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.home.mkdir(parents=True, exist_ok=True)
        with self._file.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _started(self, log: BinaryIO) -> psutil.Process:
        child = subprocess.Popen(
            list(self.command),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, **self.variables},
            cwd=self.home,
            start_new_session=True,  # Ctrl-C and the end of a terminal are not for it
        )
        started = psutil.Process(child.pid)
        self._note(started)
        return started

    def _note(self, process: psutil.Process) -> None:
        draft = self._file.with_suffix(".tmp")
        draft.write_text(json.dumps([process.pid, process.create_time()]), encoding="utf-8")
        draft.replace(self._file)

    def stop(self, patience_s: float = 20.0) -> bool:
        """End it and what it started; False if it did not run."""
        running = self.process()
        if running is None:
            self._file.unlink(missing_ok=True)
            return False
        family = [running, *_children(running)]
        with suppress(psutil.Error):  # it ended by itself
            running.terminate()
        _, left = psutil.wait_procs(family, timeout=patience_s)
        for one in left:
            with suppress(psutil.Error):
                one.kill()
        psutil.wait_procs(left, timeout=5)
        self._file.unlink(missing_ok=True)
        return True


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        found: list[psutil.Process] = process.children(recursive=True)
    except psutil.Error:
        return []
    return found
