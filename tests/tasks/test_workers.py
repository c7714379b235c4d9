"""Work handed to other processes: what dies is replaced, what cannot go on says so in one line."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import dask.system
import distributed.system
import psutil
import pytest

from ewaldflow.lib.artefacts.code_version import CodeVersion, code_version
from ewaldflow.lib.errors import UserError
from ewaldflow.tasks import workers as module
from ewaldflow.tasks.progress import listening
from ewaldflow.tasks.workers import carried_out, carry_out, carry_out_each, workers


@pytest.fixture(scope="module")
def pair() -> Iterator[str]:
    """Two workers on this machine."""
    with workers(2) as address:
        assert address is not None
        yield address


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CONNECT_S", 2.0)
    monkeypatch.setattr(module, "_PAUSE_S", 0.5)
    monkeypatch.setattr(module, "_CONNECTIONS", 3)
    monkeypatch.setattr(module, "LOOK_S", 0.5)


def dies(times: int, marks: Path) -> Callable[[], int]:
    """Work that kills its process so many times, and then gives its number."""
    folder = str(marks)

    def work() -> int:
        import os
        import signal
        import time

        time.sleep(0.1)
        if len(os.listdir(folder)) < times:
            open(f"{folder}/{os.getpid()}", "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
        return os.getpid()

    return work


def one_line(error: pytest.ExceptionInfo[UserError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    assert "found" in text
    return text


def test_none_are_started_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with workers(1) as address:
        assert address is None
        assert carry_out(address, os.getpid) == os.getpid()
        assert list(carried_out(address, divmod, [(7, 2), (9, 4)])) == [(0, (3, 1)), (1, (2, 1))]
    with pytest.raises(UserError, match=r"scheduler: found 'slrum', expected local, .* or slurm"):
        workers(1, "slrum").__enter__()


def test_there_are_never_more_than_cores_and_they_share_the_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dask.system, "CPU_COUNT", 2)
    monkeypatch.setattr(distributed.system, "MEMORY_LIMIT", 4 * 2**30)
    with workers(50) as address, distributed.Client(address, set_as_default=False) as client:
        found = client.scheduler_info(n_workers=-1)["workers"].values()
        assert [one["nthreads"] for one in found] == [1, 1]
        assert sum(one["memory_limit"] for one in found) == pytest.approx(0.9 * 4 * 2**30, abs=2)


def test_many_items_come_back_in_order_and_are_counted(pair: str) -> None:
    told: list[int] = []
    found = carry_out_each(pair, divmod, [(n, 7) for n in range(60)], told.append)
    assert found == [divmod(n, 7) for n in range(60)]
    assert told == list(range(1, 61))


def test_what_the_work_raises_is_raised_here(pair: str) -> None:
    with pytest.raises(FileNotFoundError):
        carry_out(pair, os.stat, "/no/such/file")
    with pytest.raises(ZeroDivisionError):
        carry_out_each(pair, divmod, [(1, 1), (1, 0)])


def test_work_is_done_in_the_same_folder(
    pair: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert carry_out(pair, os.getcwd) == str(tmp_path)
    tmp_path.rmdir()
    monkeypatch.setattr(os, "getcwd", lambda: str(tmp_path))
    with pytest.raises(UserError, match="work on a file system that all of them share"):
        carry_out(pair, os.getpid)


def test_a_killed_worker_is_replaced_and_the_work_done_again(pair: str, tmp_path: Path) -> None:
    assert carry_out(pair, dies(1, tmp_path)) not in {int(one.name) for one in tmp_path.iterdir()}
    assert len(list(tmp_path.iterdir())) == 1


def test_work_that_kills_workers_is_one_line_and_other_work_goes_on(
    pair: str, tmp_path: Path
) -> None:
    def good(n: int) -> int:
        import time

        time.sleep(0.05)
        return n

    with ThreadPoolExecutor(4) as threads:
        bad = threads.submit(carry_out, pair, dies(99, tmp_path))
        others = [threads.submit(carry_out, pair, good, n) for n in range(20)]
        with pytest.raises(UserError, match="work: found a worker process that died") as error:
            bad.result()
        assert [one.result() for one in others] == list(range(20))
    one_line(error)
    assert len(list(tmp_path.iterdir())) == module.RUNS


def test_too_much_memory_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed.system, "MEMORY_LIMIT", 400 * 2**20)
    monkeypatch.setattr(module, "RUNS", 1)

    def greedy() -> int:
        import time

        held = bytearray(500 * 2**20)
        held[::4096] = b"x" * len(held[::4096])
        time.sleep(20)
        return len(held)

    with workers(1, apart=True) as address:
        with pytest.raises(UserError, match=r"greedy: found \d\.\d GB in a worker") as error:
            carry_out(address, greedy)
        assert "at most 0.4 GB" in one_line(error)
        assert carry_out(address, divmod, 7, 2) == (3, 1)


@contextmanager
def killing(most: int) -> Iterator[list[int]]:
    """Kill the processes that this one starts, so many, as soon as they are seen."""
    before = {one.pid for one in psutil.Process().children(recursive=True)}
    killed: list[int] = []
    over = threading.Event()

    def kill() -> None:
        while not over.is_set() and len(killed) < most:
            for one in psutil.Process().children(recursive=True):
                with_code = [part for part in _command(one) if "spawn_main" in part]
                if one.pid not in before and with_code and len(killed) < most:
                    before.add(one.pid)
                    killed.append(one.pid)
                    os.kill(one.pid, signal.SIGKILL)
            time.sleep(0.002)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield killed
    finally:
        over.set()
        thread.join()


def _command(process: psutil.Process) -> list[str]:
    try:
        found: list[str] = process.cmdline()
    except psutil.Error:
        return []
    return found


def test_a_worker_killed_while_it_starts_is_started_again() -> None:
    with killing(1) as killed, workers(2) as address:
        assert carry_out(address, divmod, 7, 2) == (3, 1)
    assert len(killed) == 1


def test_workers_that_never_start_are_one_line() -> None:
    with (
        killing(99) as killed,
        pytest.raises(UserError, match="worker processes: found 2 that ended") as error,
        workers(2),
    ):
        pass
    one_line(error)
    assert len(killed) >= 3


class Outside:
    """A Dask scheduler and its worker, processes of somebody else."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.address = f"tcp://127.0.0.1:{self.port}"
        self._folder = folder
        self._running: list[subprocess.Popen[bytes]] = []

    def start(self, worker: bool = True) -> None:
        host = ["--host", "127.0.0.1", "--no-dashboard"]
        self._run("dask_scheduler", *host, "--port", str(self.port))
        self._wait()
        if worker:
            self._run("dask_worker", self.address, *host, "--nthreads", "1")
            with distributed.Client(self.address, timeout=60, set_as_default=False) as client:
                client.wait_for_workers(1, timeout=60)

    def _wait(self) -> None:
        """Until the scheduler answers."""
        for _ in range(300):
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                time.sleep(0.1)
            else:
                return

    def _run(self, program: str, *given: str) -> None:
        command = [sys.executable, "-m", f"distributed.cli.{program}", *given]
        self._running.append(
            subprocess.Popen(
                command, cwd=self._folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        )  # fmt: skip

    def kill(self) -> None:
        for one in self._running:
            os.killpg(one.pid, signal.SIGKILL)
            one.wait()
        self._running.clear()


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Outside]:
    code_version.cache_clear()  # as it stands now: so its worker will see it
    made = Outside(tmp_path)
    yield made
    made.kill()


def test_an_existing_scheduler_works_and_may_be_started_again(
    outside: Outside, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PAUSE_S", 0.5)
    outside.start()
    with workers(1, outside.address) as address, ThreadPoolExecutor(1) as threads:
        assert address == outside.address
        assert carry_out(address, os.getpid) != os.getpid()
        mark = str(tmp_path / "begun")

        def long() -> int:
            import pathlib
            import time

            again = pathlib.Path(mark).exists()
            pathlib.Path(mark).touch()
            time.sleep(0 if again else 60)
            return 5

        running = threads.submit(carry_out, address, long)
        while not Path(mark).exists():
            time.sleep(0.05)
        outside.kill()
        outside.start()
        assert running.result() == 5


def test_a_lost_scheduler_is_one_line(outside: Outside, request: pytest.FixtureRequest) -> None:
    outside.start()
    with workers(1, outside.address) as address, ThreadPoolExecutor(1) as threads:
        request.getfixturevalue("impatient")
        running = threads.submit(carry_out, address, time.sleep, 60)
        time.sleep(0.5)
        outside.kill()
        with pytest.raises(UserError, match=f"sleep: scheduler {address}: found it lost") as error:
            running.result()
        one_line(error)


@pytest.mark.usefixtures("impatient")
def test_a_scheduler_that_cannot_be_used_is_one_line(outside: Outside) -> None:
    for wrong in (outside.address, "tcp://no.such.host.invalid:8786", "carrier-pigeon://x"):
        with pytest.raises(UserError, match="found no answer") as error:
            workers(1, wrong).__enter__()
        one_line(error)
    outside.start(worker=False)
    with pytest.raises(UserError, match=r"found no workers.* --nthreads 1"):
        workers(1, outside.address).__enter__()
    outside._run("dask_worker", outside.address, "--host", "127.0.0.1", "--no-nanny",
                 "--no-dashboard", "--nthreads", "2")  # fmt: skip
    assert "workers of 2 threads" in _refused(outside)


def test_workers_of_other_code_are_refused(
    outside: Outside, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside.start()

    def by_process() -> CodeVersion:
        return CodeVersion(version="0.0.1", digest=str(os.getpid()))

    monkeypatch.setattr("ewaldflow.lib.artefacts.code_version.code_version", by_process)
    assert "other code of ewaldflow 0.0.1 on 1 of 1 workers" in _refused(outside)


def _refused(outside: Outside) -> str:
    """Why, once its worker is there."""
    for _ in range(5):
        with pytest.raises(UserError) as error:
            workers(1, outside.address).__enter__()
        if "no workers" not in one_line(error):
            break
    return str(error.value)


def test_what_workers_tell_of_their_progress_is_heard_here(pair: str) -> None:
    heard: list[tuple[str, str, float]] = []

    def work(name: str) -> int:
        from ewaldflow.tasks.progress import tell

        tell(name, "begin", 0.0)
        tell(name, "done", 1.0)
        return 1

    with listening(lambda *told: heard.append(told)):
        assert carry_out(pair, work, "gold") == 1
        assert heard == [("gold", "begin", 0.0), ("gold", "done", 1.0)]
        assert carry_out_each(pair, work, [("a",), ("b",)]) == [1, 1]
    assert {name for name, _, _ in heard[2:]} == {"a", "b"}
