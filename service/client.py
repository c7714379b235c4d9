"""Speaking to the server of a laboratory from the command line."""

from __future__ import annotations

import os
from uuid import UUID

from ..lib.errors import UserError
from . import programs
from .settings import ServiceSettings


def start_again(run: str, settings: ServiceSettings) -> str:
    """Have a run of the server done again; what it finished is kept. Returns what to tell.

    Parameters
    ----------
    run : id of the run, or its name: the latest of that name.
    settings : where the server is.

    Raises
    ------
    UserError : no such run, or it is still at work, or the server does not answer.
    """
    os.environ.update(programs.variables(settings))  # Prefect reads them when it is imported
    import httpx
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId, FlowRunFilterName
    from prefect.client.schemas.objects import State
    from prefect.client.schemas.sorting import FlowRunSort
    from prefect.states import Scheduled

    try:
        wanted = FlowRunFilter(id=FlowRunFilterId(any_=[UUID(run)]))
    except ValueError:
        wanted = FlowRunFilter(name=FlowRunFilterName(any_=[run]))
    try:
        with get_client(sync_client=True) as client:
            found = client.read_flow_runs(
                flow_run_filter=wanted, sort=FlowRunSort.START_TIME_DESC, limit=1
            )
            if not found:
                raise UserError(
                    run, "no such run", "the id or name of a run",
                    f"{settings.ui_url}/runs lists them",
                )  # fmt: skip
            (one,) = found
            if one.state is not None and not one.state.is_final():
                return f"{one.name} is {one.state.type.value.lower()}; nothing to do"
            again: State[object] = Scheduled(name="AwaitingRetry", message="taken up again")
            client.set_flow_run_state(one.id, again, force=True)
    except (httpx.HTTPError, RuntimeError) as error:
        raise UserError(
            settings.api_url, f"no answer ({type(error).__name__})", "the server",
            "start it with `ewaldflow serve`",
        ) from None  # fmt: skip
    return f"{one.name} goes on: {settings.ui_url}/runs/flow-run/{one.id}"
