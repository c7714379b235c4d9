"""The one program that starts all others and starts them again: ``python -m ... SETTINGS``.

It is not needed for the others to go on: when it dies they do not, and the next one finds them.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from . import programs
from .processes import Program
from .settings import ServiceSettings, load_settings

_LOOK_S = 2.0
_REVIVE_EVERY_S = 10.0
_START_LIMIT_S = 180.0
_PENDING_LIMIT_S = 90.0  # a worker that takes a run starts its process in seconds
_log = logging.getLogger("ewaldflow.keeper")


def main(file: Path) -> None:
    """Keep the service running until told to end, by SIGTERM or SIGINT."""
    logging.basicConfig(format="%(asctime)s %(message)s")
    _log.setLevel(logging.INFO)
    settings = load_settings(file)
    os.environ.update(programs.variables(settings))  # Prefect reads them when it is imported
    ending = False

    def end(*_: object) -> None:
        nonlocal ending
        ending = True

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    registered, revived = False, 0.0
    others = (programs.gateway(settings, file), *programs.workers(settings))
    server = programs.server(settings)
    while not ending:
        _keep(server)
        if not wait_until_ready(settings, lambda: ending):
            continue
        try:
            if not registered:
                names = asyncio.run(_register(settings))
                registered = True
                _log.info("ready: %s", ", ".join(names))
                (settings.home / "ready").touch()
            for program in others:
                _keep(program)
            if time.monotonic() - revived > _REVIVE_EVERY_S:
                revived = time.monotonic()
                asyncio.run(revive(settings))
        except _away() as error:  # the server went away between two calls: try again
            _log.warning("%s: %s", type(error).__name__, str(error).splitlines()[:1])
        time.sleep(_LOOK_S)
    for program in (*others, server):
        program.stop()
    (settings.home / "ready").unlink(missing_ok=True)


def wait_until_ready(settings: ServiceSettings, give_up: object = None) -> bool:
    """Wait until the server answers; False if it does not in time or `give_up()` is true."""
    until = time.monotonic() + _START_LIMIT_S
    while time.monotonic() < until and not (callable(give_up) and give_up()):
        if answers(settings):
            return True
        time.sleep(0.5)
    return False


def answers(settings: ServiceSettings) -> bool:
    """Whether Prefect's server answers."""
    try:
        return httpx.get(f"{settings.api_url}/health", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def _away() -> tuple[type[Exception], ...]:
    """What Prefect's client raises when its server is away or busy."""
    from prefect.exceptions import PrefectHTTPStatusError

    return (httpx.HTTPError, PrefectHTTPStatusError, OSError)


async def _register(settings: ServiceSettings) -> tuple[str, ...]:
    from .registration import register

    return await register(settings)


async def revive(settings: ServiceSettings) -> int:
    """Start runs that died anew, as often as the settings allow; returns how many.

    Dead are those that crashed, and those that a worker took and never began. What they had
    finished is kept, so they go on rather than begin again. Only flows that compute: whether an
    instrument may go on is for a person to say.
    """
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import (
        FlowRunFilter,
        FlowRunFilterState,
        FlowRunFilterStateType,
        WorkPoolFilter,
        WorkPoolFilterName,
    )
    from prefect.client.schemas.objects import State, StateType
    from prefect.states import Scheduled

    done = 0
    async with get_client() as client:
        runs = await client.read_flow_runs(
            flow_run_filter=FlowRunFilter(
                state=FlowRunFilterState(
                    type=FlowRunFilterStateType(any_=[StateType.CRASHED, StateType.PENDING])
                )
            ),
            work_pool_filter=WorkPoolFilter(
                name=WorkPoolFilterName(any_=[programs.COMPUTE_POOL])
            ),
        )  # fmt: skip
        for run in runs:
            state = run.state
            if state is None or run.deployment_id is None:
                continue
            age = datetime.now(UTC) - state.timestamp
            if state.type == StateType.PENDING and age < timedelta(seconds=_PENDING_LIMIT_S):
                continue
            if run.run_count >= settings.attempts:
                continue
            again: State[Any] = Scheduled(
                name="AwaitingRetry", message="it died and is started anew"
            )
            await client.set_flow_run_state(run.id, again, force=True)
            _log.info("%s is started anew (%s, attempt %d)", run.name, state.name, run.run_count)
            done += 1
    return done


def _keep(program: Program) -> None:
    if program.process() is None:
        _log.info("start %s", program.name)
        program.start()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
