"""Long-lived programs: started once, found again, ended with what they started."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from ewaldflow.service.processes import Program

SLEEPS = "import time; print('here', flush=True); time.sleep(60)"
PARENT = f"""
import subprocess, sys, time
subprocess.Popen([sys.executable, '-c', {SLEEPS!r}])
time.sleep(60)
"""
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('here', flush=True); time.sleep(60)"  # noqa: E501


def made(home: Path, code: str) -> Program:
    return Program("sleeper", (sys.executable, "-c", code), home, {"SAID": "so"})


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "home"
    made(tmp_path / "home", SLEEPS).stop(0.1)


def wait_for(found: object) -> None:
    end = time.monotonic() + 20
    while not (callable(found) and found()):
        assert time.monotonic() < end
        time.sleep(0.02)


def test_started_once_and_found_by_others(home: Path) -> None:
    one = made(home, SLEEPS)
    assert one.process() is None
    started = one.start()
    assert one.start().pid == started.pid
    other = made(home, SLEEPS)  # another program that asks for it
    found = other.process()
    assert found == started
    assert started.environ()["SAID"] == "so"
    wait_for(lambda: other.log.read_text() == "here\n")
    assert other.stop()
    assert not started.is_running()
    assert other.process() is None
    assert not other.stop()


def test_two_who_start_at_once_start_one(home: Path) -> None:
    pids: list[int] = []
    threads = [
        threading.Thread(target=lambda: pids.append(made(home, SLEEPS).start().pid))
        for _ in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(pids) == 5
    assert len(set(pids)) == 1


CLAIMS = """
import sys, time
from pathlib import Path
from ewaldflow.service.processes import Program
if Program("sleeper", (), Path(sys.argv[1]), {}).claim():
    print("mine", flush=True)
    time.sleep(60)
"""


def test_only_one_of_several_is_the_program_however_they_were_started(home: Path) -> None:
    command = [sys.executable, "-c", CLAIMS, str(home)]
    three = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    wait_for(lambda: sum(one.poll() is None for one in three) == 1)
    (alive,) = (one for one in three if one.poll() is None)
    assert alive.stdout is not None
    assert alive.stdout.readline() == "mine\n"
    found = made(home, SLEEPS)
    assert found.start().pid == alive.pid  # seen by who would start it
    assert found.stop()
    assert not psutil.pid_exists(alive.pid)


def test_a_killed_one_is_not_taken_for_alive_and_starts_again(home: Path) -> None:
    one = made(home, SLEEPS)
    first = one.start()
    first.kill()
    wait_for(lambda: one.process() is None)  # a zombie, for its parent still is there
    second = one.start()
    assert second.pid != first.pid


def test_another_process_with_its_number_is_not_it(home: Path) -> None:
    one = made(home, SLEEPS)
    running = one.start()
    file = home / "sleeper.pid"
    right = file.read_text()
    file.write_text(json.dumps([running.pid, running.create_time() - 100]))
    assert one.process() is None
    for broken in ("", "[1", "[1]", '"x"'):
        file.write_text(broken)
        assert one.process() is None
    file.write_text(right)
    assert one.process() == running


def test_children_end_with_it(home: Path) -> None:
    one = made(home, PARENT)
    parent = one.start()
    wait_for(lambda: parent.children())
    (child,) = parent.children()
    assert one.stop(patience_s=0.5)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_one_that_does_not_listen_is_killed(home: Path) -> None:
    one = made(home, DEAF)
    running = one.start()
    wait_for(lambda: one.log.read_text() == "here\n")
    began = time.monotonic()
    assert one.stop(patience_s=0.5)
    assert time.monotonic() - began < 10
    assert not running.is_running()
