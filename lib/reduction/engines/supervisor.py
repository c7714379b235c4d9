"""Runs one program and sees to it that nothing of it survives: executed, never imported.

``python supervisor.py CHOICES COMMAND...`` with CHOICES in JSON. The program runs in a session
of its own; this process is a "subreaper" (prctl(2)), to which whatever the program leaves
behind is handed, even a child that started a session of its own. All of it is killed, with
SIGKILL, which nothing can ignore: when the program ends, at the time limit, when the log grows
too long, when standard input closes or the parent is gone, however it died. The last line of
standard output is how it ended, in JSON. Only Linux has subreapers; elsewhere the program's
process group is killed and no more.
"""

import contextlib
import ctypes
import json
import os
import resource
import signal
import sys
import time
from typing import Any

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
BEAT_S = 0.05


def prctl(option: int, value: int) -> None:
    """Set an attribute of this process, where the system knows of it."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def start(command: list[str], log: str, file_bytes: int) -> int:
    """Fork and execute; an `exec` that fails exits with 127 and says why in the log."""
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setsid()
        for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them
            signal.signal(number, signal.SIG_DFL)
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        # a limit that is already lower may not be raised
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        most = file_bytes if hard == resource.RLIM_INFINITY else min(file_bytes, hard)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(out, 1)
        os.dup2(out, 2)
        os.execvp(command[0], command)
    except OSError as error:
        os.write(2, f"{command[0]}: {error.strerror}\n".encode())
    finally:
        os._exit(127)


def children() -> list[int]:
    """Processes whose parent is this one."""
    try:
        with open(f"/proc/self/task/{os.getpid()}/children") as file:
            return [int(word) for word in file.read().split()]
    except OSError:
        return []


def kill_all(program: int) -> None:
    """Kill the program's group, then whatever falls to this process, until nothing does."""
    with contextlib.suppress(OSError):
        os.killpg(program, signal.SIGKILL)
    while True:
        for pid in children():
            for kill in (os.killpg, os.kill):
                with contextlib.suppress(OSError):
                    kill(pid, signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def watch(program: int, parent: int, choices: dict[str, Any]) -> tuple[str, int]:
    """Wait for the end: why it came, and the exit status where the program came to it itself."""
    began = time.monotonic()
    os.set_blocking(0, False)
    while True:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == program:
            return "itself", os.waitstatus_to_exitcode(status)
        if pid:
            continue
        if choices["limit_s"] is not None and time.monotonic() - began > choices["limit_s"]:
            return "time limit", -signal.SIGKILL
        try:
            if os.stat(choices["log"]).st_size > choices["log_bytes"]:
                return "output limit", -signal.SIGKILL
        except OSError:
            pass
        try:
            orphaned = os.getppid() != parent or os.read(0, 1) == b""
        except BlockingIOError:
            orphaned = False
        if orphaned:
            return "cancel", -signal.SIGKILL
        time.sleep(BEAT_S)


def main() -> None:
    """Run the program of the command line under its choices."""
    choices, command = json.loads(sys.argv[1]), sys.argv[2:]
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    began = time.monotonic()
    program = start(command, choices["log"], choices["file_bytes"])
    try:
        why, code = watch(program, choices["parent"], choices)
    finally:
        kill_all(program)
    print(json.dumps([why, code, time.monotonic() - began]), flush=True)


if __name__ == "__main__":
    main()
