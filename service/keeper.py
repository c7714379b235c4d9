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
from pathlib import Path

import httpx

from ..lib.errors import UserError
from . import programs
from .processes import Program
from .revival import Revival
from .settings import ServiceSettings, load_settings

_LOOK_S = 2.0
_REVIVE_EVERY_S = 4.0
_START_LIMIT_S = 180.0
_LOOK_LIMIT_S = 30.0  # a busy server must not keep it from all else
_PATIENCE_S = 40.0  # a flow on an instrument leaves it safe first
_log = logging.getLogger("ewaldflow.keeper")


def main(file: Path) -> None:
    """Keep the service running until told to end, by SIGTERM or SIGINT.

    Raises
    ------
    UserError : another keeper is at it.
    """
    logging.basicConfig(format="%(asctime)s %(message)s")
    _log.setLevel(logging.INFO)
    settings = load_settings(file)
    if not programs.keeper(settings, file).claim():
        raise UserError(
            settings.home, "a service that runs", "one keeper", "end it with `ewaldflow stop`"
        )
    os.environ.update(programs.variables(settings))  # Prefect reads them when it is imported
    ending = False

    def end(*_: object) -> None:
        nonlocal ending
        ending = True

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    registered, revived = False, 0.0
    others = (programs.gateway(settings, file), *programs.workers(settings))
    server, revival = programs.server(settings), Revival(settings)
    while not ending:
        _keep(server)
        if not wait_until_ready(settings, lambda: ending or server.process() is None):
            if not ending and server.process() is not None:
                _log.warning("the server does not answer; it is started anew")
                server.stop()
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
                asyncio.run(asyncio.wait_for(revival.look(), _LOOK_LIMIT_S))
        except _away() as error:  # the server went away between two calls: try again
            _log.warning("%s: %s", type(error).__name__, str(error).splitlines()[:1])
        time.sleep(_LOOK_S)
    for program in (*others, server):
        program.stop(_PATIENCE_S)
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


def _keep(program: Program) -> None:
    if program.process() is None:
        _log.info("start %s", program.name)
        program.start()


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except UserError as error:
        sys.exit(str(error))
