"""XSCALE, where it is installed, on the XSCALE.INP that a merge leaves: a second opinion."""

from __future__ import annotations

from pathlib import Path

from ..errors import UserError
from ..reduction.engines.programs import find_program, run_program
from .xscale import Xscale, read_xscale

LOG = "XSCALE.LP"
# The parallel one first.
PROGRAMS = ("xscale_par", "xscale")


def run_xscale(
    folder: Path, *, programs: tuple[str, ...] = PROGRAMS, limit_s: float = 600.0
) -> Xscale | None:
    """Run XSCALE in a folder with an XSCALE.INP and read its log; None where it is not installed.

    Parameters
    ----------
    folder : with XSCALE.INP and its inputs.
    programs : names on PATH, or paths; the first that is there runs.
    limit_s : wall time after which it is stopped.

    Raises
    ------
    UserError : it fails, runs into the time limit, or leaves no XSCALE.LP.
    """
    found = next((where for name in programs if (where := find_program(name))), None)
    if found is None:
        return None
    (folder / LOG).unlink(missing_ok=True)
    ended = run_program([found], folder, folder / "xscale.log", limit_s=limit_s)
    if not (folder / LOG).exists():
        raise UserError(folder, f"{found.name}: {ended.why}", "an XSCALE.LP", "see xscale.log")
    log = read_xscale(folder / LOG)
    if log.errors:
        first = log.errors[0].headline
        raise UserError(folder / LOG, first, "a log without errors", "see the log")
    return log
