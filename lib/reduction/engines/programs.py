"""Running a program of others: in a folder of its own, with limits, and never outliving us.

Between this process and the program stands a small supervisor (`supervisor.py`), which kills
the program with all its descendants when the time is up, when the log runs away, when this
process is interrupted, and also when this process is killed by SIGKILL and can do nothing more.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ...errors import UserError

_SUPERVISOR = Path(__file__).with_name("supervisor.py")
_BEAT_S = 0.2  # how soon an interrupt is seen that only raises between bytecodes
_MOST_LOG_BYTES = 64 * 2**20
_MOST_FILE_BYTES = 16 * 2**30
_FULL_DISK_BYTES = 2**20  # less is left: what fails then fails for that

Ending = Literal["itself", "time limit", "output limit"]


@dataclass(frozen=True)
class Ended:
    """How a program ended.

    Attributes
    ----------
    program : its name.
    by : itself, or the limit at which it was killed.
    code : its exit code; negative for the signal that ended it.
    seconds : wall time.
    log : the file with what it printed.
    disk_full : hardly any room was left on the disk it worked on.
    """

    program: str
    by: Ending
    code: int
    seconds: float
    log: Path
    disk_full: bool

    @property
    def good(self) -> bool:
        """It came to its end by itself, with exit code 0."""
        return self.by == "itself" and self.code == 0

    @property
    def why(self) -> str:
        """What was wrong, in a phrase; empty if nothing was."""
        if self.by == "time limit":
            return f"{self.program} was stopped at the time limit, after {self.seconds:.0f} s"
        if self.by == "output limit":
            return f"{self.program} was stopped: it printed without end"
        if self.code == 0:
            return ""
        if self.disk_full:
            return f"{self.program} failed: the disk is full"
        if self.code == -signal.SIGXFSZ:
            return f"{self.program} was stopped: a file grew without end"
        if self.code < 0:
            return f"{self.program} crashed with signal {-self.code}"
        lines = [line.strip() for line in self.text().splitlines() if line.strip()]
        said = f": {lines[-1][:200]}" if lines else ""
        return f"{self.program} ended with exit code {self.code}{said}"

    def text(self) -> str:
        """All that it printed."""
        try:
            return self.log.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return ""


def find_program(name: str | Path) -> Path | None:
    """Where a program is: a name looked up on PATH, or the path of a file; None if absent."""
    found = shutil.which(str(name))
    return None if found is None else Path(found).absolute()


def run_program(
    command: Sequence[str | Path],
    folder: Path,
    log: Path,
    *,
    limit_s: float | None = None,
    environment: Mapping[str, str] | None = None,
    log_bytes: int = _MOST_LOG_BYTES,
    file_bytes: int = _MOST_FILE_BYTES,
) -> Ended:
    """Run a program to its end, or to its limits.

    Parameters
    ----------
    command : the program and its arguments; no shell is between.
    folder : where it runs.
    log : file that everything it prints is appended to.
    limit_s : wall time after which it is killed; None: never.
    environment : variables besides our own.
    log_bytes, file_bytes : what it may print, and the largest file it may write.

    Raises
    ------
    UserError : the program is missing or cannot be executed.
    """
    program = find_program(command[0])
    if program is None:
        there = Path(command[0]).exists()
        raise UserError(
            command[0], "a file that cannot be executed" if there else "no such program",
            "a program to run", "install it, or give its path",
        )  # fmt: skip
    choices = {
        "log": str(log), "limit_s": limit_s, "log_bytes": log_bytes, "file_bytes": file_bytes,
        "parent": os.getpid(),
    }  # fmt: skip
    supervisor = subprocess.Popen(
        [sys.executable, "-ISs", _SUPERVISOR, json.dumps(choices), program, *command[1:]],
        cwd=folder,
        env=os.environ | (environment or {}),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,  # an interrupt from the keyboard is ours to handle
    )
    assert supervisor.stdin is not None
    assert supervisor.stdout is not None
    told = b""
    told_something = select.poll()
    told_something.register(supervisor.stdout)
    try:
        while True:
            if told_something.poll(1000 * _BEAT_S):
                part = os.read(supervisor.stdout.fileno(), 4096)
                if not part:
                    break
                told += part
    finally:
        supervisor.stdin.close()  # if it still runs, it now kills everything and ends
        supervisor.wait()
        supervisor.stdout.close()
    if not told:
        raise RuntimeError(f"{program.name}: its supervisor died with code {supervisor.returncode}")
    by, code, seconds = json.loads(told)
    full = shutil.disk_usage(folder).free < _FULL_DISK_BYTES
    ended = Ended(program.name, by, code, seconds, log, full)
    if code == 127 and ended.text().rstrip().endswith(("Exec format error", "Permission denied")):
        raise UserError(
            program, "a file that cannot be executed", "a program for this machine", "mend it"
        )
    return ended
