"""The log of a flow run as a scientist reads it: what became of what, a line each."""

from __future__ import annotations

import logging

from prefect.logging.handlers import APILogHandler

from .running import flow_run_id


def _logger() -> logging.Logger:
    """Goes to Prefect's pages alone: a terminal has the bar and the tables."""
    found = logging.getLogger("ewaldflow.journal")
    found.setLevel(logging.INFO)
    found.propagate = False
    found.addHandler(APILogHandler())
    return found


_log = _logger()


def say(line: str, level: int = logging.INFO) -> None:
    """A line in the log of the running flow; nothing outside of one."""
    if flow_run_id() is not None:
        _log.log(level, "%s", line)
