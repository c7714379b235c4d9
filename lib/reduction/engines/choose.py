"""Which engine reduces a series, and the one call that does it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

from ...errors import UserError
from ...series import RotationSeries
from ..config import ReductionConfig
from .builtin import Builtin
from .dials import Dials
from .protocol import LIMIT_S, Engine, EngineRun, Progress
from .xds import Xds
from .xds_run import PROGRAM

EngineName = Literal["auto", "builtin", "xds", "dials"]
ENGINES: tuple[EngineName, ...] = ("auto", "builtin", "xds", "dials")


def choose_engine(
    name: str = "auto",
    *,
    xds_path: str | Path | None = None,
    xds_input: Path | None = None,
    processors: int = 1,
) -> tuple[Engine, str]:
    """The engine to use, and why it was chosen, in a sentence.

    Parameters
    ----------
    name : one of `ENGINES`; auto takes XDS if it is there, licensed and runs, else ours.
    xds_path : the program of XDS, if it is not `xds_par` on PATH.
    xds_input : an XDS.INP of the user's own, for XDS alone.
    processors : that a program of others may use.

    Raises
    ------
    UserError : an unknown name, or an engine asked for by name that cannot run.
    """
    xds = Xds(xds_path or PROGRAM, xds_input, processors)
    if name == "auto":
        why = xds.available()
        if why is None:
            return xds, f"engine auto: XDS, since {xds.program} is licensed and runs"
        return Builtin(), f"engine auto: the built-in one, since XDS cannot be used ({why})"
    engines: dict[str, Engine] = {"builtin": Builtin(), "xds": xds, "dials": Dials(processors)}
    if name not in engines:
        raise UserError("engine", f"'{name}'", f"one of {', '.join(ENGINES)}", "name one of these")
    engine = engines[name]
    if (why := engine.available()) is not None:
        raise UserError(f"engine {name}", why, "a program that runs", "install it, or choose auto")
    return engine, f"engine {name}: as asked for"


def run_engine(
    series: RotationSeries,
    config: ReductionConfig,
    engine: str | Engine,
    scratch: Path,
    *,
    progress: Progress | None = None,
    limit_s: float | None = LIMIT_S,
    xds_path: str | Path | None = None,
    xds_input: Path | None = None,
    processors: int = 1,
) -> EngineRun:
    """Choose an engine and reduce one series with it.

    Parameters
    ----------
    engine : a name of `ENGINES`, or an engine that was chosen before (for many series XDS need
        not be probed each time).
    scratch : an existing folder; the engine works in a new, empty one below it, which the caller
        removes with it.
    limit_s : wall time that programs of others may take; None: any.
    progress, xds_path, xds_input, processors : as in `choose_engine` and `reduce_series`.

    Returns
    -------
    The run; why this engine, what it is and what it tried stand first in the reduction's notes.

    Raises
    ------
    UserError : as `choose_engine` and the engine.
    """
    if isinstance(engine, str):
        chosen, why = choose_engine(
            engine, xds_path=xds_path, xds_input=xds_input, processors=processors
        )
    else:
        chosen, why = engine, f"engine {engine.name}: as asked for"
    folder = _new_folder(scratch, chosen.name)
    run = chosen.reduce(series, config, folder, progress, limit_s)
    told = [why]
    if run.engine != "builtin":
        told += [f"reduced by {run.version}", *(f"tried: {one}" for one in run.tries)]
    notes = (*told, *run.reduction.notes)
    return replace(run, reduction=replace(run.reduction, notes=notes))


def _new_folder(scratch: Path, name: str) -> Path:
    for number in range(1, 10_000):
        folder = scratch / (name if number == 1 else f"{name}_{number}")
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        except OSError as error:
            raise UserError(
                scratch, str(error.strerror), "a folder to work in", "choose another"
            ) from None
        return folder
    raise UserError(scratch, "thousands of runs", "an emptier folder", "remove what is old")
