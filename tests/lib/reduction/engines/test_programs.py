from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ewaldflow.lib.errors import UserError
from ewaldflow.lib.reduction.engines.programs import Ended, find_program, run_program

Script = Callable[..., Path]

# a child that ignores SIGTERM and has left the program's session, and one of its own
SURVIVORS = """
    trap '' TERM HUP INT
    setsid sh -c 'trap "" TERM HUP; echo $$ >> pids; sleep 1000 & echo $! >> pids; wait' &
    sh -c 'trap "" TERM; echo $$ >> pids; while :; do sleep 1000; done' &
    echo $$ >> pids
    while [ $(wc -l < pids) -lt 4 ]; do sleep 0.02; done
    touch ready
"""


def alive(pids: list[int]) -> list[int]:
    found = []
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):
            os.kill(pid, 0)
            if "State:\tZ" not in Path(f"/proc/{pid}/status").read_text():
                found.append(pid)
    return found


def pids_of(folder: Path) -> list[int]:
    return [int(line) for line in (folder / "pids").read_text().split()]


def gone(pids: list[int], within_s: float = 10) -> bool:
    end = time.monotonic() + within_s
    while alive(pids) and time.monotonic() < end:
        time.sleep(0.05)
    return not alive(pids)


def wait_for(path: Path, within_s: float = 20) -> None:
    end = time.monotonic() + within_s
    while not path.exists():
        assert time.monotonic() < end, f"{path} did not appear"
        time.sleep(0.02)


def run(command: list[str | Path], folder: Path, **choices: object) -> Ended:
    return run_program(command, folder, folder / "log.txt", **choices)  # type: ignore[arg-type]


def test_what_it_prints_goes_to_the_log(tmp_path: Path, script: Script) -> None:
    ended = run([script("p", "echo out; echo err >&2; pwd"), "x"], tmp_path)
    assert ended.good
    assert ended.why == ""
    assert ended.text().split() == ["out", "err", str(tmp_path)]


def test_a_second_run_is_added_to_the_log(tmp_path: Path, script: Script) -> None:
    program = script("p", "echo $1")
    run([program, "one"], tmp_path)
    assert run([program, "two"], tmp_path).text().split() == ["one", "two"]


def test_it_gets_no_keyboard_and_our_environment(tmp_path: Path, script: Script) -> None:
    program = script("p", 'cat; echo "$COLOUR $HOME"')
    ended = run([program], tmp_path, environment={"COLOUR": "green"}, limit_s=20)
    assert ended.text().split() == ["green", os.environ["HOME"]]


def test_its_exit_code_and_last_words_are_told(tmp_path: Path, script: Script) -> None:
    ended = run([script("p", "echo first; echo cannot go on; exit 3")], tmp_path)
    assert (ended.code, ended.good) == (3, False)
    assert ended.why == "p ended with exit code 3: cannot go on"


def test_a_crash_is_told_by_its_signal(tmp_path: Path, script: Script) -> None:
    ended = run([script("p", "kill -SEGV $$")], tmp_path)
    assert ended.why == "p crashed with signal 11"


def test_a_missing_program_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such program"):
        run(["no-such-program-here"], tmp_path)


def test_a_file_that_is_no_program_is_a_user_error(tmp_path: Path) -> None:
    path = tmp_path / "xds_par"
    path.write_text("#!/bin/sh\n")
    with pytest.raises(UserError, match="cannot be executed"):
        run([path], tmp_path)


def test_a_program_for_another_machine_is_a_user_error(tmp_path: Path) -> None:
    path = tmp_path / "xds_par"
    path.write_bytes(b"\x7fELF" + bytes(60))
    path.chmod(0o755)
    with pytest.raises(UserError, match="a program for this machine"):
        run([path], tmp_path)


def test_at_the_time_limit_nothing_of_it_survives(tmp_path: Path, script: Script) -> None:
    ended = run([script("p", SURVIVORS + "\nsleep 1000")], tmp_path, limit_s=2)
    assert ended.by == "time limit"
    assert "stopped at the time limit" in ended.why
    assert len(pids_of(tmp_path)) == 4
    assert alive(pids_of(tmp_path)) == []


def test_what_it_leaves_behind_is_killed(tmp_path: Path, script: Script) -> None:
    ended = run([script("p", SURVIVORS + "\nexit 0")], tmp_path)
    assert ended.good
    assert alive(pids_of(tmp_path)) == []


def test_an_interrupt_kills_it_all(tmp_path: Path, script: Script) -> None:
    program = script("p", SURVIVORS + "\nsleep 1000")
    # a shell's background ignores it
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    interrupt = threading.Thread(
        target=lambda: (
            wait_for(tmp_path / "ready"),
            signal.raise_signal(signal.SIGINT),
        )
    )
    interrupt.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            run([program], tmp_path)
    finally:
        signal.signal(signal.SIGINT, before)
    interrupt.join()
    assert alive(pids_of(tmp_path)) == []


def test_it_dies_with_a_parent_that_is_killed(tmp_path: Path, script: Script) -> None:
    program = script("p", SURVIVORS + "\nsleep 1000")
    code = (
        "import sys; from pathlib import Path; "
        "from ewaldflow.lib.reduction.engines.programs import run_program; "
        "folder = Path(sys.argv[2]); run_program([sys.argv[1]], folder, folder / 'log.txt')"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(program), str(tmp_path)])
    wait_for(tmp_path / "ready")
    pids = pids_of(tmp_path)
    assert len(alive(pids)) == 4
    parent.kill()
    parent.wait()
    assert gone(pids)


def test_endless_printing_is_stopped(tmp_path: Path, script: Script) -> None:
    ended = run([script("p", "yes")], tmp_path, log_bytes=100_000, limit_s=60)
    assert ended.by == "output limit"
    assert "printed without end" in ended.why


def test_a_file_cannot_grow_without_end(tmp_path: Path, script: Script) -> None:
    ended = run(
        [script("p", "exec dd if=/dev/zero of=big bs=1000 count=1000 2>/dev/null")],
        tmp_path, file_bytes=100_000,
    )  # fmt: skip
    assert not ended.good
    assert "a file grew without end" in ended.why
    assert (tmp_path / "big").stat().st_size <= 100_000


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    ended = Ended("xds_par", "itself", 1, 2.0, tmp_path / "log.txt", disk_full=True)
    assert ended.why == "xds_par failed: the disk is full"


def test_programs_are_found_by_name_and_by_path(tmp_path: Path, script: Script) -> None:
    assert find_program("sh") is not None
    assert find_program("no-such-program-here") is None
    program = script("mine", "exit 0")
    assert find_program(program) == program
