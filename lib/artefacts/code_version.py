"""Which code is running: a digest of its sources, and what else a reader wants to know."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import subprocess
from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from ... import __version__

_PACKAGES = (
    *("numpy", "scipy", "numba", "scikit-image", "torch", "zarr", "numcodecs", "dask"),
    *("distributed", "prefect", "pydantic", "gemmi", "pyFAI"),
    *("fabio", "tifffile", "mrcfile", "rosettasciio"),
)


class CodeVersion(BaseModel):
    """The code that made an artefact.

    Attributes
    ----------
    version : of the package.
    digest : of the package's version and of every source file of `ewaldflow.lib`. This is
        what enters the key: an editable install has edits that no commit knows.
    git_commit, git_dirty : of the checkout, for people; None where it is none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: str
    digest: str
    git_commit: str | None = None
    git_dirty: bool | None = None


@cache
def code_version() -> CodeVersion:
    """The version of the code of this process, as it stood when first asked."""
    library = Path(__file__).resolve().parents[1]
    commit, dirty = _git_state(library.parent)
    digest = hashlib.sha256(f"{__version__}\n{source_digest(library)}".encode()).hexdigest()
    return CodeVersion(version=__version__, digest=digest, git_commit=commit, git_dirty=dirty)


def source_digest(folder: Path) -> str:
    """SHA-256 over the relative path and bytes of each Python file below `folder`."""
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        total.update(f"{path.relative_to(folder).as_posix()}\0{content}\n".encode())
    return total.hexdigest()


def _git_state(folder: Path) -> tuple[str | None, bool | None]:
    # The folder must itself be the checkout: an installed package may lie inside another's.
    def git(*words: str) -> str:
        return subprocess.run(
            ["git", "-C", str(folder), *words],
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
            # merely looking must not take the lock that someone's commit needs
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
        ).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != folder:
            return None, None
        return git("rev-parse", "HEAD"), bool(git("status", "--porcelain"))
    except (OSError, subprocess.SubprocessError):
        return None, None


@cache
def environment() -> tuple[str, dict[str, str]]:
    """The version of Python, and those of the packages that results may depend on."""
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # not every stage's packages are installed everywhere
    return platform.python_version(), versions
