"""Whatever is killed, whenever: sessions complete, nothing is lost, nothing is done twice."""

from __future__ import annotations

import json
import random
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from typing import Any

import psutil
import pytest
from laboratory import Laboratory, running, small_series, until

from ewaldflow.lib.series import RotationSeries
from ewaldflow.lib.series.announced import series_below
from ewaldflow.service.keeper import answers

pytestmark = pytest.mark.long
VICTIMS = (
    "flow",
    "worker-compute",
    "worker-compute and flow",
    "Dask worker",
    "gateway",
    "server",
    "keeper",
    "everything",
)
KILLS_PER_SESSION = 8
LONGEST_WAIT_S = 12.0
# generous: what counts is that all is well in the end, also on a busy machine
BACK_LIMIT_S, END_LIMIT_S = 900.0, 1800.0


@pytest.fixture(scope="module")
def frames() -> dict[str, RotationSeries]:
    return {f"crystal_{number}": small_series(number, frames=12) for number in (1, 2)}


@pytest.fixture(scope="module")
def laboratory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laboratory]:
    yield from running(tmp_path_factory.mktemp("chaos"), compute_slots=1, attempts=20)


def flow_of(laboratory: Laboratory, run: str) -> list[psutil.Process]:
    """The process of a flow itself."""
    found = []
    for process in laboratory.processes_of(run):
        with suppress(psutil.Error):
            if "prefect.engine" in process.cmdline():
                found.append(process)
    return found


def dask_of(laboratory: Laboratory, run: str) -> list[psutil.Process]:
    """Worker processes of Dask: they have no children but are children of the flow."""
    found = []
    for flow in flow_of(laboratory, run):
        with suppress(psutil.Error):
            found += [
                one for one in flow.children() if "multiprocessing.spawn" in " ".join(one.cmdline())
            ]
    return found


def kill(laboratory: Laboratory, victim: str, run: str) -> dict[str, list[psutil.Process]]:
    """SIGKILL; what was killed and must come back. Empty if there was nothing to kill."""
    programs = laboratory.programs()
    names = {
        "worker-compute and flow": ["worker-compute", "flow"],
        "everything": [*programs, "flow"],
    }.get(victim, [victim])
    killed: dict[str, list[psutil.Process]] = {}
    for name in names:
        if name == "flow":
            processes = flow_of(laboratory, run)
        elif name == "Dask worker":
            processes = dask_of(laboratory, run)[:1]
        else:
            running = programs[name].process()
            processes = [] if running is None else [running]
        for one in processes:
            with suppress(psutil.Error):
                one.kill()
                killed.setdefault(name, []).append(one)
    return killed


def back(laboratory: Laboratory, killed: dict[str, list[psutil.Process]], run: str) -> bool:
    """Whether what was killed runs again, or the run needs it no more."""
    programs = laboratory.programs()
    for name, old in killed.items():
        if name == "Dask worker":
            new = dask_of(laboratory, run)
        elif name == "flow":
            new = flow_of(laboratory, run)
        else:
            one = programs[name].process()
            ready = name != "server" or answers(laboratory.settings)
            new = [one] if one is not None and ready else []
        if not [one for one in new if one not in old] and (
            name not in ("flow", "Dask worker") or not completed(laboratory, run)
        ):
            return False
    return True


def noticed_s(laboratory: Laboratory, name: str, killed: dict[str, Any], at: float) -> float | None:
    """Seconds until the keeper wrote that all of it is dead; None where it need not say."""
    lines = (laboratory.settings.home / "keeper.log").read_text(encoding="utf-8").splitlines()
    words = [f"start {one}" for one in killed if one in laboratory.programs() and one != "keeper"]
    words += [f"day-{name} is started anew"] if "flow" in killed else []
    found = []
    for word in words:
        for line in lines:
            with suppress(ValueError):  # what others write there has no date before it
                when = datetime.strptime(line[:23], "%Y-%m-%d %H:%M:%S,%f").timestamp()
                if when >= at and word in line:
                    found.append(when - at)
                    break
    return max(found) if words and len(found) == len(words) else None


def completed(laboratory: Laboratory, run: str) -> bool:
    if laboratory.programs()["server"].process() is None:
        return False
    return bool(laboratory.run(run)["state_type"] == "COMPLETED")


def begin(laboratory: Laboratory, name: str, frames: Any, workers: int) -> str:
    """Announce a session, or where it is to have workers of its own start it; its run."""
    session = laboratory.session(f"day/{name}", frames)
    if workers == 1:
        assert laboratory.notify(session, spool=name).returncode == 0
        (reply,) = (laboratory.folder / name / "sent").glob("*.reply.txt")
        return str(json.loads(reply.read_text())["run"])
    parameters = {
        "folder": str(session),
        "series": [one.model_dump() for one in series_below(session)],
        "name": f"day-{name}",
        "n_workers": workers,
    }
    return str(laboratory.start("session/session", parameters, f"day-{name}"))


def test_sessions_complete_whatever_is_killed(
    laboratory: Laboratory, frames: dict[str, RotationSeries], trials: int
) -> None:
    chance = random.Random(9)
    order = [VICTIMS[k % len(VICTIMS)] for k in range(trials)]
    chance.shuffle(order)
    waits: dict[str, list[float]] = defaultdict(list)
    notices: dict[str, list[float]] = defaultdict(list)
    done, number, problems = 0, 0, list[str]()
    while done < trials:
        number += 1
        coming = order[done : done + KILLS_PER_SESSION]
        name = f"session_{number}"
        run = begin(laboratory, name, frames, 2 if "Dask worker" in coming else 1)
        until(lambda run=run: laboratory.run(run)["state_type"] == "RUNNING", BACK_LIMIT_S, "start")
        for victim in coming:
            if victim == "Dask worker":  # they take a while to be there
                with suppress(AssertionError):
                    until(lambda run=run: dask_of(laboratory, run), 30, "Dask worker")
            time.sleep(chance.uniform(0, LONGEST_WAIT_S))
            at = time.time()
            killed = kill(laboratory, victim, run)
            if not killed:  # the session was faster
                break
            if "keeper" in killed:  # systemd does this
                assert laboratory.ewaldflow("serve").returncode == 0
            until(
                lambda killed=killed, run=run: back(laboratory, killed, run),
                BACK_LIMIT_S,
                f"new {victim}",
            )
            waits[victim].append(time.time() - at)
            noticed = noticed_s(laboratory, name, killed, at)
            if noticed is not None:
                notices[victim].append(noticed)
            done += 1
            told = "" if noticed is None else f"noticed after {noticed:.1f} s, "
            print(
                f"{done:3d} {name} {victim}: {told}at work after {waits[victim][-1]:.1f} s",
                flush=True,
            )
        ended = laboratory.ended(run, END_LIMIT_S)
        said = f"{name} {ended['state_type']} after {ended['run_count']} attempts"
        if ended["state_type"] == "COMPLETED":
            check(laboratory, f"day-{name}")
        else:  # the other trials go on
            problems.append(f"{said}: {ended['state']['message']}")
        print(said, flush=True)
    print(f"{done} kills in {number} sessions; seconds until the keeper noticed, until at work:")
    for victim, some in waits.items():
        print(f"  {victim:24s} {len(some):2d} x  {_times(notices[victim])}  {_times(some)}")
    assert problems == []
    assert len(laboratory.runs()) == number
    assert not list(laboratory.store.verify())


def _times(some: list[float]) -> str:
    if not some:
        return f"{'':28s}"
    return f"median {statistics.median(some):5.1f}, longest {max(some):5.1f}"


def check(laboratory: Laboratory, name: str) -> None:
    """Everything of a session is there, once, and as it was written."""
    counted = {one: n for one, n in laboratory.versions().items() if f"/{name}" in one}
    for kind in ("series", "arrival", "reduction", "report"):
        for crystal in ("crystal_1", "crystal_2"):
            assert f"{kind}/{name}-{crystal}" in counted, (kind, crystal)
    assert f"session/{name}" in counted
    assert set(counted.values()) == {1}, counted


def test_messages_that_find_no_server_arrive_once(
    laboratory: Laboratory, frames: dict[str, RotationSeries], away_s: float
) -> None:
    """Ten messages while the server is away: ten runs when it is back."""
    before = len(laboratory.runs())
    one = {"crystal_1": frames["crystal_1"]}
    sessions = [laboratory.session(f"away/{k}", one) for k in range(10)]
    began = time.monotonic()
    for name in ("keeper", "server"):  # the door is left, and can only say that it takes nothing
        killed = laboratory.programs()[name].process()
        assert killed is not None
        killed.kill()
    sent = [
        laboratory.notify(session, "--give-up", "3600", spool=f"away {session.name}", wait=False)
        for session in sessions[:5]
    ]
    # two whose instrument is switched off meanwhile: they wait in its spool
    for session in sessions[5:7]:
        assert laboratory.notify(session, "--give-up", "1", spool="switched off").returncode == 1
    assert laboratory.ewaldflow("stop").returncode == 0
    sent += [
        laboratory.notify(session, "--give-up", "3600", spool=f"away {session.name}", wait=False)
        for session in sessions[7:]
    ]
    time.sleep(max(0.0, away_s - (time.monotonic() - began)))
    assert [process.poll() for process in sent] == [None] * len(sent)
    waiting = [len(list(one.glob("*.json"))) for one in sorted(laboratory.folder.glob("away *"))]
    assert waiting == [1] * len(sent)
    assert laboratory.ewaldflow("serve").returncode == 0
    away = time.monotonic() - began
    began = time.monotonic()
    assert [process.wait(END_LIMIT_S) for process in sent] == [0] * len(sent)
    # the first message of an instrument that is switched on again brings those that wait
    again = laboratory.notify(sessions[6], spool="switched off")
    assert again.returncode == 0
    taken = time.monotonic() - began
    runs = laboratory.runs()[before:]
    assert sorted(run["name"] for run in runs) == [f"away-{k}" for k in range(10)]
    for run in runs:
        assert laboratory.ended(run["id"], END_LIMIT_S)["state_type"] == "COMPLETED"
        assert laboratory.store.versions("session", run["name"]) == [1]
    assert len(laboratory.runs()) == before + 10
    print(
        f"10 messages while the server was away for {away:.0f} s: all taken {taken:.0f} s after it "
        f"was back, all processed after {time.monotonic() - began:.0f} s, once"
    )
