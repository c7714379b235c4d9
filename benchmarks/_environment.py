"""Environments of peers, apart from our own; made once, below the checkout."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from _table import say

ENVIRONMENTS = Path(__file__).resolve().parents[1] / ".benchmarks-env"


def environment(peer: str, requirements: Sequence[str]) -> Path:
    """The python of a peer's environment; made if it is not there (a minute or two).

    Raises
    ------
    subprocess.CalledProcessError : it could not be installed.
    """
    folder = ENVIRONMENTS / peer
    python = folder / "bin" / "python"
    if not python.exists():
        say(f"installing {' '.join(requirements)}")
        try:
            subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
            install(python, requirements)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)  # half of one would pass for a whole one
            raise
    return python


def install(python: Path, requirements: Sequence[str], *options: str) -> None:
    """Install into an environment.

    Raises
    ------
    subprocess.CalledProcessError : it could not be installed.
    """
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, *options, *requirements], check=True)
