"""Runs our jobs that need cctbx, each in a process of its own (see `charge_flipping_job`)."""

from __future__ import annotations

import json
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..reduction.engines.programs import Ended, run_program

_THREADS = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}


def cctbx_installed() -> bool:
    """Whether cctbx-base is there; looks without importing it."""
    return find_spec("smtbx") is not None and find_spec("cctbx") is not None


def run_job(
    module: str, request: dict[str, Any], *, limit_s: float
) -> tuple[dict[str, Any] | None, Ended]:
    """Run a job of this package on a request; what it answered (None: nothing), how it ended.

    Parameters
    ----------
    module : of this package, to be executed.
    request : what JSON can hold.
    limit_s : wall time after which it is killed; what it had answered by then is returned.

    Raises
    ------
    UserError : cctbx is not installed.
    """
    if not cctbx_installed():
        raise UserError("structure", "no cctbx", "cctbx-base", "pip install 'ewaldflow[solve]'")
    with tempfile.TemporaryDirectory(prefix="ewaldflow-structure-") as folder:
        asked, answered = Path(folder, "request.json"), Path(folder, "answer.json")
        asked.write_text(json.dumps(request, allow_nan=False))
        ended = run_program(
            [sys.executable, "-m", f"{__package__}.{module}", str(asked), str(answered)],
            Path(folder),
            Path(folder, "log"),
            limit_s=limit_s,
            environment=_THREADS,
        )
        answer = json.loads(answered.read_text()) if answered.exists() else None
        if answer is None and ended.by == "itself" and not ended.good:
            raise RuntimeError(f"{module}: {ended.why}\n{ended.text()[-2000:]}")
    return answer, ended
