"""What all tasks share: when to try again, and the flow run they belong to."""

from __future__ import annotations

from typing import Any

from prefect import Task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.runtime import flow_run


def disk_faltered(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
    """Whether it failed for the file system's sake, as network drives do: worth another try.

    What the user must mend is a `UserError`, and tried once.
    """
    return isinstance(state.result(raise_on_failure=False), OSError)


# The store decides what need not run again. Prefect's own cache would not see changed code.
TASK_OPTIONS: dict[str, Any] = {
    "cache_policy": NO_CACHE,
    "persist_result": False,
    "retries": 2,
    "retry_delay_seconds": [2, 10],
    "retry_condition_fn": disk_faltered,
}


def flow_run_id() -> str | None:
    """The flow run this is called in, for the manifests; None outside of one."""
    found: str | None = flow_run.id
    return found
