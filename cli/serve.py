"""ewaldflow serve, status, stop."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..lib.errors import UserError
from .output import console, table

if TYPE_CHECKING:
    from ..service.settings import ServiceSettings

SETTINGS = Path("ewaldflow-serve.yaml")
Settings = Annotated[Path, typer.Option("--settings", metavar="FILE", help="See docs/serving.md.")]
_LIMIT_S = 240.0
_END_LIMIT_S = 170.0


def serve(
    settings: Settings = SETTINGS,
    foreground: Annotated[
        bool, typer.Option("--foreground", help="Stay, for systemd or a container.")
    ] = False,
) -> int:
    """Start what is missing of the server: Prefect, workers, the door for instruments, all flows.

    The first time, settings are written with a password made up. Can be called at any time: what
    runs already is left alone. What dies is started again.

    **Examples**

    - `ewaldflow serve`
    - `ewaldflow status` and `ewaldflow stop`
    """
    from ..lib.artefacts import ArtefactStore
    from ..service.settings import load_settings, write_first_settings

    file = settings.absolute()
    if not file.exists() and settings == SETTINGS:
        write_first_settings(file, os.cpu_count() or 1)
        console().print(f"settings: {file}")
    chosen = load_settings(file)
    chosen.home.mkdir(parents=True, exist_ok=True)
    chosen.home.chmod(0o700)
    ArtefactStore(chosen.store).create()
    if foreground:
        from ..service.keeper import main

        main(file)
        return 0
    from ..service import programs

    program = programs.keeper(chosen, file)
    if program.process() is None:
        (chosen.home / "ready").unlink(missing_ok=True)
        program.start()
    with console().status("starting"):
        _wait(chosen, program.log, lambda: program.process() is not None)
    return status(settings)


def _wait(settings: ServiceSettings, log: Path, running: object) -> None:
    until = time.monotonic() + _LIMIT_S
    while not (settings.home / "ready").exists():
        if callable(running) and not running():
            raise UserError(
                log, "that the service ended", "it to start", "read the end of this file"
            )
        if time.monotonic() > until:
            raise UserError(
                log, f"no server after {_LIMIT_S:.0f} s", "it to be ready",
                "read the end of this file and of server.log beside it",
            )  # fmt: skip
        time.sleep(0.5)


def status(settings: Settings = SETTINGS) -> int:
    """Say which parts of the server run and where they are. Exit code 1 if one does not."""
    from ..service import programs
    from ..service.keeper import answers
    from ..service.settings import load_settings

    file = settings.absolute()
    chosen = load_settings(file)
    rows, whole = [], True
    for program in programs.all_programs(chosen, file):
        process = program.process()
        whole = whole and process is not None
        rows.append((program.name, "runs" if process else "does not run", str(program.log)))
    out = console()
    out.print(table(("program", "state", "log"), rows))
    if not answers(chosen):
        whole = False
        out.print("Prefect does not answer.")
    else:
        out.print(
            f"pages: {chosen.ui_url} (user {chosen.user}, password in {file})", soft_wrap=True
        )
        out.print(
            f"instruments announce sessions at http://{chosen.gateway_host}:{chosen.gateway_port}",
            soft_wrap=True,
        )
    return 0 if whole else 1


def stop(settings: Settings = SETTINGS) -> int:
    """End the server and all flows on it; nothing that is finished is lost."""
    from ..service import programs
    from ..service.settings import load_settings

    file = settings.absolute()
    chosen = load_settings(file)
    every = programs.all_programs(chosen, file)
    ended = [one.name for one in every if one.process() is not None]
    for one in every:  # the keeper comes first and ends the others
        one.stop(_END_LIMIT_S)
    (chosen.home / "ready").unlink(missing_ok=True)
    console().print("ended: " + ", ".join(ended) if ended else "nothing ran")
    return 0
