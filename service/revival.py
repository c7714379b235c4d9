"""Flows that died go on: who is dead is seen by the processes of this machine.

The workers of a service run on its own machine, and each flow run is a process of its own whose
environment names the run. A run that should be at work and has no process is dead; what Prefect
itself notices (a worker that sees its child end, signs of life that stay away) comes on top. A run
is taken for dead if it had no process at two looks and its state was the same at both, so that one
that ends this moment is never mistaken.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psutil

from . import programs
from .settings import ServiceSettings

_RUN = "PREFECT__FLOW_RUN_ID"
_ENGINE = "prefect.engine"
_PENDING_LIMIT_S = 90.0  # a worker that takes a run starts its process in seconds
_log = logging.getLogger("ewaldflow.keeper")


def processes_of_runs(api_url: str) -> dict[str, list[psutil.Process]]:
    """The processes of this machine that belong to a flow run of a server, by the run's id."""
    found: dict[str, list[psutil.Process]] = {}
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):  # it ended, or is another user's
            variables = process.environ()
            if _RUN in variables and variables.get("PREFECT_API_URL") == api_url:
                found.setdefault(variables[_RUN], []).append(process)
    return found


def flow_among(processes: Sequence[psutil.Process]) -> list[psutil.Process]:
    """The flow itself, if it lives, among the processes of a run: not what it started."""
    found = []
    for process in processes:
        with suppress(psutil.Error, OSError):
            if _ENGINE in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


@dataclass
class Revival:
    """Starts flows that died anew; what they had finished is kept, so they go on.

    Only flows that compute: whether an instrument may go on is for a person to say, so those that
    drove one are only told of as crashed. Those that were cancelled end also where the worker that
    should tell them died.

    Attributes
    ----------
    settings : of the server.
    missing : states of runs that had no process at the last look.
    told : states of cancelled runs that were told to end.
    """

    settings: ServiceSettings
    missing: set[UUID] = field(default_factory=set)
    told: set[UUID] = field(default_factory=set)

    async def look(self) -> int:
        """Look once; returns how many runs were started anew. To be called every few seconds."""
        from prefect.client.orchestration import get_client
        from prefect.client.schemas.filters import (
            FlowRunFilter,
            FlowRunFilterState,
            FlowRunFilterStateType,
            WorkPoolFilter,
            WorkPoolFilterName,
        )
        from prefect.client.schemas.objects import State, StateType
        from prefect.client.schemas.sorting import FlowRunSort
        from prefect.states import Cancelled, Crashed, Scheduled

        seen = processes_of_runs(self.settings.api_url)  # before the states are read
        missing_before, self.missing = self.missing, set()
        done = 0
        async with get_client() as client:
            runs = await client.read_flow_runs(
                flow_run_filter=FlowRunFilter(
                    state=FlowRunFilterState(
                        type=FlowRunFilterStateType(
                            any_=[
                                StateType.CRASHED,
                                StateType.PENDING,
                                StateType.RUNNING,
                                StateType.CANCELLING,
                            ]
                        )
                    )
                ),
                sort=FlowRunSort.EXPECTED_START_TIME_DESC,  # the oldest have used their attempts up
                work_pool_filter=WorkPoolFilter(
                    name=WorkPoolFilterName(any_=[programs.COMPUTE_POOL, programs.INSTRUMENT_POOL])
                ),
            )
            for run in runs:
                state = run.state
                if state is None or run.deployment_id is None:
                    continue
                left = seen.get(str(run.id), [])
                if flow := flow_among(left):
                    if state.type == StateType.CANCELLING and self._nobody_tells(flow, state.id):
                        _end(flow)
                    continue
                if run.work_pool_name != programs.COMPUTE_POOL and (
                    state.type in (StateType.CRASHED, StateType.PENDING)
                ):
                    continue
                self.missing.add(state.id)
                if state.id not in missing_before:  # it ends this moment, or is told of twice
                    continue
                if state.type == StateType.PENDING and self._may_begin(state.timestamp):
                    continue
                if run.work_pool_name == programs.COMPUTE_POOL:  # not what guards an instrument
                    _end(left)
                if state.type == StateType.CANCELLING:
                    await client.set_flow_run_state(run.id, Cancelled(), force=True)
                    continue
                if run.work_pool_name != programs.COMPUTE_POOL:
                    why = "it died; see whether the instrument is well before another begins"
                    await client.set_flow_run_state(run.id, Crashed(message=why), force=True)
                    continue
                if run.run_count >= self.settings.attempts:
                    continue
                again: State[Any] = Scheduled(
                    name="AwaitingRetry", message="it died and is started anew"
                )
                await client.set_flow_run_state(run.id, again, force=True)
                _log.info(
                    "%s is started anew (%s, attempt %d)", run.name, state.name, run.run_count
                )
                done += 1
        return done

    def _nobody_tells(self, flow: Sequence[psutil.Process], state: UUID) -> bool:
        """Whether the worker that started a flow died, so that it does not hear of its end."""
        alive = {one.process() for one in programs.workers(self.settings)}
        with suppress(psutil.Error):
            if flow[0].parent() in alive or state in self.told:
                return False  # it may be making an instrument safe: once is enough
            self.told.add(state)
            return True
        return False

    def _may_begin(self, taken: datetime) -> bool:
        """Whether the worker that took a run then may still start its process."""
        if datetime.now(UTC) - taken > timedelta(seconds=_PENDING_LIMIT_S):
            return False
        worker = programs.compute_worker(self.settings).process()
        return worker is None or worker.create_time() < taken.timestamp()


def _end(processes: Sequence[psutil.Process]) -> None:
    """End a flow, or what a dead one left behind."""
    for process in processes:
        with suppress(psutil.Error):
            process.terminate()
