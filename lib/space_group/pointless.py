"""POINTLESS, where it is installed, on a file of unmerged reflections: a second opinion."""

from __future__ import annotations

from pathlib import Path

from ..errors import UserError
from ..reduction.engines.programs import find_program, run_program
from ..xds.pointless import Pointless, read_pointless

LOG = "pointless.log"


def run_pointless(
    reflections: str | Path,
    folder: Path,
    *,
    program: str | Path = "pointless",
    chiral: bool = False,
    limit_s: float = 600.0,
) -> Pointless | None:
    """Run POINTLESS and read its log; None where it is not installed.

    Parameters
    ----------
    reflections : XDS_ASCII or unmerged MTZ.
    folder : where it runs and leaves its files; made if absent.
    program : its name on PATH, or its path.
    chiral : only groups of proper rotations; all by default, as crystals of this size need.
    limit_s : wall time after which it is stopped.

    Raises
    ------
    UserError : it fails, runs into the time limit, or its log is not one.
    """
    where = find_program(program)
    if where is None:
        return None
    source = Path(reflections).absolute()
    kind = "HKLIN" if source.suffix.lower() == ".mtz" else "XDSIN"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "keywords").write_text(
        "SETTING SYMMETRY-BASED\n" + ("" if chiral else "CHIRALITY NONCHIRAL\n") + "END\n"
    )
    log = folder / LOG
    log.unlink(missing_ok=True)
    # it reads its keywords from standard input
    command: list[str | Path] = ["sh", "-c", 'exec "$0" "$@" < keywords', where, kind, source]
    ended = run_program(command, folder, log, limit_s=limit_s)
    if not ended.good:
        why = ended.why.replace("sh ", "it ", 1)
        raise UserError(log, f"{where.name}: {why}", "a result", "see the log")
    return read_pointless(log)
