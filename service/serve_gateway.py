"""Run the gateway: ``python -m ewaldflow.service.serve_gateway SETTINGS``."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import uvicorn
from prefect.client.orchestration import get_client

from .gateway import gateway
from .settings import load_settings

# SQLite takes one writer at a time: many who wait for it are slower than a few in a queue
_few = asyncio.Semaphore(4)


async def start_run(deployment: str, parameters: dict[str, Any], key: str) -> str:
    """Start a run of a deployment once for each key; returns its id."""
    async with _few, get_client() as client:
        found = await client.read_deployment_by_name(deployment)
        run = await client.create_flow_run_from_deployment(
            found.id, parameters=parameters, idempotency_key=key, name=parameters["name"]
        )
    return str(run.id)


def main(file: Path) -> None:
    """Serve until told to end."""
    settings = load_settings(file)
    uvicorn.run(
        gateway(settings, start_run),
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
