"""Which programs a service consists of."""

from __future__ import annotations

import sys
from pathlib import Path

from .processes import Program
from .settings import ServiceSettings

INSTRUMENT_POOL, COMPUTE_POOL = "instrument", "compute"


def variables(settings: ServiceSettings) -> dict[str, str]:
    """Environment of all programs, and of whoever wants to speak to the server."""
    found = {
        "PREFECT_HOME": str(settings.home / "prefect"),
        "PREFECT_API_URL": settings.api_url,
        "PREFECT_API_AUTH_STRING": settings.auth,
        "PREFECT_SERVER_API_AUTH_STRING": settings.auth,
        "PREFECT_SERVER_API_HOST": settings.prefect_host,
        "PREFECT_SERVER_API_PORT": str(settings.prefect_port),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        # kept in memory, a slot would stay taken if its holder and the server died together
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": (
            "prefect.server.concurrency.lease_storage.filesystem"
        ),
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(settings.heartbeat_s),
        "PREFECT_CLIENT_MAX_RETRIES": "20",  # SQLite answers 503 while it is busy
        "PREFECT_WORKER_QUERY_SECONDS": "2",  # a run that is announced begins soon
        "PREFECT_LOGGING_LEVEL": "WARNING",
        # what flows warn of, such as for whom they wait, belongs to their runs' logs
        "PREFECT_LOGGING_EXTRA_LOGGERS": "ewaldflow",
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
        "DO_NOT_TRACK": "1",
        "EWALDFLOW_STORE": str(settings.store),
    }
    if settings.database:
        found["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = settings.database
    return found


def server(settings: ServiceSettings) -> Program:
    """Prefect's own server, with its pages."""
    command = (sys.executable, "-m", "prefect", "server", "start")
    return Program("server", command, settings.home, variables(settings))


def gateway(settings: ServiceSettings, file: Path) -> Program:
    """The door for instruments."""
    command = (sys.executable, "-m", "ewaldflow.service.serve_gateway", str(file))
    # it does not wait for a server that is away: who sends a message tries again
    less = {"PREFECT_CLIENT_MAX_RETRIES": "3"}
    return Program("gateway", command, settings.home, variables(settings) | less)


def workers(settings: ServiceSettings) -> tuple[Program, ...]:
    """What runs the flows."""
    return instrument_worker(settings), compute_worker(settings)


def instrument_worker(settings: ServiceSettings) -> Program:
    """Runs flows on instruments; which of them has a microscope is for them to settle."""
    return _worker(settings, INSTRUMENT_POOL, 4)


def compute_worker(settings: ServiceSettings) -> Program:
    """Runs the flows that compute."""
    return _worker(settings, COMPUTE_POOL, settings.compute_slots)


def _worker(settings: ServiceSettings, pool: str, limit: int) -> Program:
    return Program(
        f"worker-{pool}",
        (
            sys.executable, "-m", "prefect", "worker", "start", "--pool", pool,
            "--type", "process", "--limit", str(limit), "--name", f"{pool} worker",
        ),
        settings.home,
        variables(settings),
    )  # fmt: skip


def keeper(settings: ServiceSettings, file: Path) -> Program:
    """What starts all others, and starts them again."""
    command = (sys.executable, "-m", "ewaldflow.service.keeper", str(file))
    return Program("keeper", command, settings.home, variables(settings))


def all_programs(settings: ServiceSettings, file: Path) -> tuple[Program, ...]:
    """Every program, in the order to end them in."""
    return (
        keeper(settings, file),
        gateway(settings, file),
        *workers(settings),
        server(settings),
    )
