"""Run the gateway: ``python -m ewaldflow.service.serve_gateway SETTINGS``."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any
from uuid import UUID

import uvicorn
from prefect.client.orchestration import PrefectClient, get_client
from prefect.exceptions import ObjectNotFound

from .gateway import gateway
from .settings import load_settings


class Runs:
    """Starts runs of deployments; one connection for all, as making one takes longer than its use.

    SQLite takes one writer at a time: many who wait for it are slower than a few in a queue.
    """

    def __init__(self) -> None:
        self._few = asyncio.Semaphore(4)
        self._client: PrefectClient | None = None
        self._deployments: dict[str, UUID] = {}

    async def start(self, deployment: str, parameters: dict[str, Any], key: str) -> str:
        """Start a run of a deployment once for each key; returns its id."""
        async with self._few:
            if self._client is None:
                self._client = await get_client().__aenter__()
            try:
                return await self._started(self._client, deployment, parameters, key)
            except ObjectNotFound:  # the records were made anew
                self._deployments.clear()
                return await self._started(self._client, deployment, parameters, key)

    async def _started(
        self, client: PrefectClient, deployment: str, parameters: dict[str, Any], key: str
    ) -> str:
        if deployment not in self._deployments:
            found = await client.read_deployment_by_name(deployment)
            self._deployments[deployment] = found.id
        run = await client.create_flow_run_from_deployment(
            self._deployments[deployment],
            parameters=parameters,
            idempotency_key=key,
            name=parameters["name"],
        )
        return str(run.id)


def main(file: Path) -> None:
    """Serve until told to end."""
    settings = load_settings(file)
    uvicorn.run(
        gateway(settings, Runs().start),
        host=settings.gateway_host,
        port=settings.gateway_port,
        log_level="warning",
        limit_concurrency=256,
        timeout_keep_alive=5,
        # what a proxy says of the sender counts only where the proxy is this machine
        forwarded_allow_ips="127.0.0.1",
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
