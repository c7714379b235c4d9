"""ewaldflow session."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..lib.errors import UserError
from . import options
from .output import console, progress
from .reduce import STORE, Store, conclude, prepare
from .serve import SETTINGS, Settings


def session(
    folder: Annotated[
        Path | None, typer.Argument(metavar="FOLDER", help="Of a session; a folder per series.")
    ] = None,
    store: Store = STORE,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of the session; else its folder's.")
    ] = None,
    instrument: Annotated[str | None, typer.Option(metavar="NAME|FILE")] = None,
    sample: Annotated[str | None, typer.Option(metavar="NAME|FILE")] = None,
    workers: options.Workers = 1,
    scheduler: options.Scheduler = None,
    unfinished: Annotated[
        bool, typer.Option("--unfinished", help="More series will come: merge every few.")
    ] = False,
    resume: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Take a run of the server up again: its id or name."),
    ] = None,
    settings: Settings = SETTINGS,
) -> int:
    """Reduce and merge a session, or go on where it was left: only what is missing is done.

    The same as what happens on the server when an instrument announces a session.

    **Examples**

    - `ewaldflow session data/2026-11-21/grid_2 --instrument my-microscope`
    - `ewaldflow session --resume 0f3c...` starts a run of the server anew
    """
    if (folder is None) == (resume is None):
        raise UserError("session", "both or none", "a FOLDER or --resume ID", "give one of them")
    if resume is not None:
        from ..service.client import start_again
        from ..service.settings import load_settings

        console().print(start_again(resume, load_settings(settings.absolute())))
        return 0
    assert folder is not None
    place = folder.absolute()
    if not place.is_dir():
        raise UserError(place, "no folder", "the folder of a session", "check the path")
    prepare(store)
    from ..lib.series.announced import FRAMES, series_below

    series = series_below(place)
    if not series:
        expected = "frames in it or in its folders: " + " ".join(sorted(FRAMES))
        raise UserError(place, "no frames", expected, "give the folder of a session")
    with progress(len(series)):
        from ..flows.session import session as flow

        done = flow(
            place, series, store.absolute(), name or place.name, closed=not unfinished,
            instrument=instrument, sample=sample, n_workers=min(workers, len(series)),
            scheduler=scheduler,
        )  # fmt: skip
    return conclude(done, store)
