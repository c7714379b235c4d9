"""One flow at a time has a microscope: the others wait, and say for what."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from prefect.client.orchestration import get_client
from prefect.concurrency.sync import concurrency
from prefect.exceptions import ObjectNotFound
from prefect.runtime import flow_run
from prefect.variables import Variable

from ..tasks.progress import tell

_log = logging.getLogger(__name__)


def microscope_limit(instrument: str) -> str:
    """Name of the global limit of one flow for an instrument."""
    return f"microscope-{instrument}"


@contextmanager
def turn(instrument: str) -> Iterator[None]:
    """Have the microscope to oneself among the flows of a server.

    Without a server, or where it knows no limit for the instrument, there is nothing to wait for:
    the guard's own lock then refuses a second session.
    """
    name = microscope_limit(instrument)
    if _slots_taken(name):
        holder = Variable.get(_holder(name), default="another session")
        line = f"waits for the microscope {instrument}, which {holder} has"
        _log.warning("%s", line)
        tell("acquire", line)
    with concurrency(name, occupy=1, strict=False):
        if _known(name):
            Variable.set(_holder(name), str(flow_run.name or "a session"), overwrite=True)
        yield


def _known(name: str) -> bool:
    with get_client(sync_client=True) as client:
        try:
            client.read_global_concurrency_limit_by_name(name)
        except ObjectNotFound:
            return False
    return True


def _slots_taken(name: str) -> bool:
    with get_client(sync_client=True) as client:
        try:
            limit = client.read_global_concurrency_limit_by_name(name)
        except ObjectNotFound:
            return False
    return limit.active_slots >= limit.limit


def _holder(name: str) -> str:
    return name.replace("-", "_") + "_holder"
