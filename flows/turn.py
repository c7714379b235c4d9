"""One flow at a time has a microscope: the others wait, and say for what."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
from prefect.client.schemas.objects import State, StateType
from prefect.client.schemas.responses import GlobalConcurrencyLimitResponse
from prefect.concurrency.sync import concurrency
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from prefect.runtime import flow_run
from prefect.settings import get_current_settings
from prefect.variables import Variable

from ..lib.instrument import load_instrument
from ..tasks.journal import say
from ..tasks.progress import tell

_LOOK_S, _ENTER_S = 2.0, 5.0
_log = logging.getLogger(__name__)


def microscope_limit(instrument: str) -> str:
    """Name of the global limit of one flow for an instrument, given by its name or its YAML."""
    return f"microscope-{_word(load_instrument(instrument).name, '-')}"


@contextmanager
def turn(instrument: str, flow: str) -> Iterator[None]:
    """Have the microscope to oneself among the flows of a server.

    Without a server there is nothing to wait for: the guard's own lock then refuses a second
    session.

    Parameters
    ----------
    instrument : its name or its YAML.
    flow : whose progress shows for what it waits.
    """
    if get_current_settings().api.url is None:
        yield
        return
    name = microscope_limit(instrument)
    with ExitStack() as stack:
        waited = ""
        while True:
            waited = _wait(name, load_instrument(instrument).name, flow) or waited
            with suppress(TimeoutError):  # another that waits was faster
                stack.enter_context(concurrency(name, occupy=1, timeout_seconds=_ENTER_S))
                break
        if waited:
            say(f"has the microscope {load_instrument(instrument).name} now")
            with get_client(sync_client=True) as client:
                _state(client, "Running", "")
        Variable.set(_holder(name), str(flow_run.name or "a session"), overwrite=True)
        yield


def _wait(name: str, instrument: str, flow: str) -> str:
    """Wait until a microscope is free; for what, "" if not at all.

    Asked every few seconds: Prefect's own waiting does not end when the flow is cancelled.
    """
    said = ""
    with get_client(sync_client=True) as client:
        while (limit := _limit(client, name)).active_slots >= limit.limit:
            holder = Variable.get(_holder(name), default="another session")
            line = f"waits for the microscope {instrument}, which {holder} has"
            if line != said:
                said = line
                _log.warning("%s", line)
                tell(flow, line)
                _state(client, "Waiting", line)
            time.sleep(_LOOK_S)
    return said


def _limit(client: SyncPrefectClient, name: str) -> GlobalConcurrencyLimitResponse:
    """The limit, made if nobody did: instruments have YAML files anywhere."""
    with suppress(ObjectNotFound):
        return client.read_global_concurrency_limit_by_name(name)
    with suppress(ObjectAlreadyExists):  # another was faster
        client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=name, limit=1))
    return client.read_global_concurrency_limit_by_name(name)


def _state(client: SyncPrefectClient, name: str, line: str) -> None:
    """What the pages say of this run."""
    if flow_run.id:
        state: State[object] = State(type=StateType.RUNNING, name=name, message=line)
        client.set_flow_run_state(UUID(flow_run.id), state, force=True)


def _holder(limit: str) -> str:
    return f"{_word(limit, '_')}_holder"


def _word(name: str, between: str) -> str:
    """As Prefect takes names."""
    return re.sub(r"[^a-z0-9]+", between, name.lower()).strip(between)
