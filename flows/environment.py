"""Where Prefect keeps its records when nobody has said so. Imports no Prefect: it comes first."""

from __future__ import annotations

import os
from pathlib import Path

# Prefect reads its settings once, when it is imported.
_QUIET = {
    # a loaded machine takes longer than the 20 s that Prefect waits for its own server
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    # our progress bar and tables tell what happens
    "PREFECT_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_SERVER_LEVEL": "CRITICAL",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
}


def prepare_prefect(store: Path) -> None:
    """Have flows of this process run by themselves, quietly, with Prefect's records in `store`.

    Whatever the user has set stands: a server (PREFECT_API_URL in the environment or in a
    profile) or a folder (PREFECT_HOME).

    Parameters
    ----------
    store : root of an artefact store that exists.
    """
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    if "PREFECT_HOME" in os.environ or "PREFECT_API_URL" in os.environ or _profile_has_server():
        return
    os.environ["PREFECT_HOME"] = str(store.absolute() / ".prefect")


def _profile_has_server() -> bool:
    try:
        text = (Path.home() / ".prefect" / "profiles.toml").read_text(encoding="utf-8")
    except (OSError, RuntimeError):
        return False
    return "PREFECT_API_URL" in text
