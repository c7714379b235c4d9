"""What orchestration costs: a session announced to a server against the same functions called.

One run. The functions of the flow `session` are called one after the other in a process of their
own, without any of Prefect. The same frames are announced to a server as an instrument does it.
Both work in turn, a few seconds each while the other is stopped (SIGSTOP), so that whatever else
loads the machine slows both alike; the time of each is that of its own turns. The announced
session's counts from the announcement to the end of its run, with the start of its process; that
of the direct calls from the first call. CPU time of the announced session is that of all programs
of the server, what they spend on waiting included.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from datetime import datetime
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil
from _table import Table, options, say, work_folder

TURN_S, LOOK_S, LIMIT_S = 8.0, 0.2, 3600.0
FINAL = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")

# A plain call in place of each task, and nothing in place of what is shown in Prefect's pages.
_DIRECT = """
import json, sys, time
import prefect, prefect.artifacts
for name in dir(prefect.artifacts):
    if name.startswith(("create_", "update_")):
        setattr(prefect.artifacts, name, lambda *_, **__: None)
prefect.Task.__call__ = lambda task, *a, **k: task.fn(*a, **k)
from pathlib import Path
from ewaldflow.flows.session import session
from ewaldflow.lib.series.announced import series_below
folder, store, told = map(Path, sys.argv[1:])
told.with_suffix(".ready").touch()
sys.stdin.readline()
cpu_s = time.process_time()
done = session.fn(folder, series_below(folder), store, "session")
draft = told.with_suffix(".part")
draft.write_text(json.dumps({
    "ended": time.time(),
    "cpu_s": time.process_time() - cpu_s,
    "reduced": sum(bool(one.reduction) for one in done.outcomes),
}))
draft.rename(told)
"""


class Side:
    """One of the two that work in turn.

    Attributes
    ----------
    turns_s : of its own turns so far.
    began, ended : when it did, as `time.time`; None before.
    """

    def __init__(self) -> None:
        self.turns_s = 0.0
        self.began: float | None = None
        self.ended: float | None = None

    def turn(self) -> None:
        """Let it work for a turn, or to its end; the first turn begins it."""
        began = time.time()
        if self.began is not None:
            self._send(signal.SIGCONT)
        else:
            self.began = began
            self.begin()
        while self.ended is None:
            time.sleep(LOOK_S)
            self.ended = self.look()
            if time.time() - began > LIMIT_S:
                raise SystemExit(f"no end after {LIMIT_S:.0f} s")
            if time.time() - began > TURN_S and self.ended is None and self.processes():
                self._send(signal.SIGSTOP)
                break
        self.turns_s += (self.ended or time.time()) - began

    def begin(self) -> None:
        """Start the work."""
        raise NotImplementedError

    def look(self) -> float | None:
        """When it ended, if it has."""
        raise NotImplementedError

    def processes(self) -> list[psutil.Process]:
        """Those that work."""
        raise NotImplementedError

    def _send(self, number: int) -> None:
        for one in self.processes():
            with suppress(psutil.Error):
                one.send_signal(number)


class Direct(Side):
    """The functions, called in a process of their own."""

    def __init__(self, frames: Path, store: Path) -> None:
        super().__init__()
        self.told = store.with_suffix(".json")
        self._process = subprocess.Popen(
            [sys.executable, "-c", _DIRECT, str(frames), str(store), str(self.told)],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env=os.environ | {"COLUMNS": "80"},
        )  # fmt: skip
        while not self.told.with_suffix(".ready").exists():  # what it needs is imported
            self._check()
            time.sleep(LOOK_S)

    def begin(self) -> None:
        """Call the functions."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()

    def look(self) -> float | None:
        """When they had returned."""
        self._check()
        return self.figures()["ended"] if self.told.exists() else None

    def processes(self) -> list[psutil.Process]:
        """The one."""
        return [psutil.Process(self._process.pid)]

    def figures(self) -> dict[str, float]:
        """What it told at its end."""
        found: dict[str, float] = json.loads(self.told.read_text())
        return found

    def _check(self) -> None:
        if self._process.poll() not in (None, 0):
            raise SystemExit("the direct calls failed")


class Announced(Side):
    """The same, announced to a server as an instrument does it."""

    def __init__(self, here: Any, frames: Path) -> None:
        super().__init__()
        self.run: dict[str, Any] = {}
        self.own_cpu_s = 0.0  # of the process of the flow
        self._here, self._frames, self._asked = here, frames, 0.0
        self._cpu_before_s = _cpu_s(here)

    def begin(self) -> None:
        """Announce it."""
        self._here.notify(self._frames, spool=f"spool of {self._frames.name}", wait=False)

    def look(self) -> float | None:
        """When the run ended."""
        if time.time() - self._asked < 1.0:  # to ask costs the server time too
            return None
        self._asked = time.time()
        named = [one for one in self._here.runs() if one["name"] == self._frames.name]
        self.run = named[0] if named else {}
        self.own_cpu_s = max(self.own_cpu_s, _cpu_of(self.processes()))
        if self.run.get("state_type") not in FINAL:
            return None
        return datetime.fromisoformat(self.run["end_time"]).timestamp()

    def processes(self) -> list[psutil.Process]:
        """Of the run; the server has its own life."""
        found: list[psutil.Process] = self._here.processes_of(self.run["id"]) if self.run else []
        return found

    def cpu_s(self) -> float:
        """Of all programs since the announcement; to be asked when it has ended."""
        while self.processes():  # what it did is its worker's once it is gone
            time.sleep(LOOK_S)
        time.sleep(2.0)
        return _cpu_s(self._here) - self._cpu_before_s


def _cpu_s(here: Any) -> float:
    """CPU seconds of all processes of a server so far, and of those that they saw end."""
    return _cpu_of(here.everything())


def _cpu_of(processes: list[psutil.Process]) -> float:
    spent = 0.0
    for one in processes:
        with suppress(psutil.Error):
            spent += sum(one.cpu_times()[:4])
    return spent


def _laboratory() -> ModuleType:
    file = Path(__file__).parents[1] / "tests" / "service" / "laboratory.py"
    spec = spec_from_file_location("laboratory", file)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules["laboratory"] = module
    spec.loader.exec_module(module)
    return module


def main() -> int:
    """Measure and show; 1 if orchestration costs too much."""
    parser = options(__doc__.splitlines()[0])
    parser.add_argument("--series", type=int, default=12)
    parser.add_argument("--frames", type=int, default=60)
    chosen = parser.parse_args()
    n_series, n_frames = (3, 20) if chosen.quick else (chosen.series, chosen.frames)
    os.environ["OMP_NUM_THREADS"] = "1"
    laboratory = _laboratory()
    with work_folder(chosen.work) as folder:
        say("the server starts")
        for here in laboratory.running(folder / "laboratory", compute_slots=1):
            say("frames are simulated")
            few = here.session(
                "few", {f"crystal_{k}": laboratory.small_series(k, 20) for k in (1, 2)}
            )
            frames = here.session(
                "session",
                {
                    f"crystal_{k:02d}": laboratory.small_series(k, n_frames)
                    for k in range(1, n_series + 1)
                },
            )
            say("a small session, so that all is compiled")
            first = Direct(few, folder / "few")
            while first.ended is None:
                first.turn()
            say("direct calls and the announced session in turn")
            direct, announced = Direct(frames, folder / "direct"), Announced(here, frames)
            while working := [one for one in (announced, direct) if one.ended is None]:
                for one in working:
                    one.turn()
                say(f"direct {direct.turns_s:.0f} s, announced {announced.turns_s:.0f} s")
            run, told = announced.run, direct.figures()
            assert run["state_type"] == "COMPLETED", run["state"]
            announced_cpu_s = announced.cpu_s()
            tasks = here.ask("task_runs/count", {"flow_runs": {"id": {"any_": [run["id"]]}}})
            reduced = sum(one.startswith("reduction/session-") for one in here.versions())
    table = Table(f"Orchestration of {n_series} series of {n_frames} frames of 258 x 258 pixels")
    start_s = datetime.fromisoformat(run["start_time"]).timestamp() - (announced.began or 0.0)
    table.tell("direct calls, s", f"{direct.turns_s:.1f}")
    table.tell("announced to reported, s", f"{announced.turns_s:.1f}")
    table.tell("  until the flow began (turns of the other included), s", f"{start_s:.1f}")
    table.check(
        "cost of orchestration, % of wall time",
        100 * (announced.turns_s / direct.turns_s - 1), at_most=10.0, form=".1f",
    )  # fmt: skip
    table.tell("direct calls, s of CPU", f"{told['cpu_s']:.1f}")
    table.tell(f"process of the flow, {tasks} tasks, s of CPU", f"{announced.own_cpu_s:.1f}")
    table.tell("all programs of the server, s of CPU", f"{announced_cpu_s:.1f}")
    table.check("series reduced, of the direct ones, %", 100 * reduced / told["reduced"],
                at_least=100.0, form=".0f")  # fmt: skip
    return table.show()


if __name__ == "__main__":
    sys.exit(main())
