"""One Prefect server for all flows under test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from uuid import UUID

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    LogFilter,
    LogFilterFlowRunId,
)
from prefect.client.schemas.objects import Artifact
from prefect.logging.handlers import APILogHandler
from prefect.testing.utilities import prefect_test_harness

Shown = Callable[[str | None], dict[str, Artifact]]


@pytest.fixture(scope="session")
def prefect() -> Iterator[None]:
    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture
def artifacts_of(prefect: None) -> Shown:
    """What a flow run shows in Prefect's pages, by key; the last of each."""

    def artifacts(run: str | None) -> dict[str, Artifact]:
        wanted = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[UUID(run)]))
        with get_client(sync_client=True) as client:
            found = client.read_artifacts(artifact_filter=wanted, limit=200)
        found.sort(key=lambda one: str(one.created))
        return {str(one.key): one for one in found}

    return artifacts


@pytest.fixture
def said(prefect: None) -> Callable[[str | None], str]:
    """The log of a flow run in Prefect's pages."""

    def log(run: str | None) -> str:
        APILogHandler().flush()  # lines go there in bunches, a while after they are said
        wanted = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[UUID(run)]))
        with get_client(sync_client=True) as client:
            return "\n".join(one.message for one in client.read_logs(wanted, limit=200))

    return log
