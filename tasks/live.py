"""What a person watches while a scan is read and calibrated: a page, and Prefect's own progress."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.context import FlowRunContext

from .progress import listening

FOLDER = ".live"
_PAGE_S = 0.5  # no more often: drawing must not take the time of what is drawn
_PREFECT_S = 2.0
_LINES = 30


class LivePage:
    """The page ``.live/NAME.html`` of a store; written whole or not at all, a few times a second.

    Parameters
    ----------
    store : root of the artefact store.
    name, over : title of the page, and what is above it.
    """

    def __init__(self, store: Path, name: str, over: str) -> None:
        self.path = Path(store) / FOLDER / f"{name}.html"
        self._name, self._over = name, over
        self._next = 0.0
        self._lines: list[str] = []
        self._lock = threading.Lock()

    def show(
        self,
        step: str,
        facts: Mapping[str, object] | None = None,
        images: Mapping[str, Any] | None = None,
        final: str = "",
    ) -> None:
        """Show where things stand, unless that was done a moment ago; from any thread."""
        with self._lock:
            if not self._lines or self._lines[0] != step:
                self._lines = [step, *self._lines[: _LINES - 1]]
            if time.monotonic() < self._next and not final:
                return
            from ..lib.report.live_page import live_page

            text = live_page(
                self._name, self._over, step, facts or {}, images or {}, self._lines, final
            )
            self.path.parent.mkdir(exist_ok=True)
            beside = self.path.with_suffix(".part")
            beside.write_text(text, encoding="utf-8")
            beside.replace(self.path)
            self._next = time.monotonic() + _PAGE_S


@contextmanager
def prefect_progress(name: str) -> Iterator[None]:
    """A progress artifact of the running flow that follows what is told of `name`."""
    if FlowRunContext.get() is None:
        yield
        return
    key = re.sub(r"[^a-z0-9]+", "-", f"progress-{name}".lower()).strip("-")
    made = create_progress_artifact(progress=0.0, key=key, description=name)
    state = {"next": 0.0, "told": -1.0}

    def listen(series: str, step: str, fraction: float) -> None:
        now = time.monotonic()
        if series != name or (now < state["next"] and fraction < 1):
            return
        state["next"] = now + _PREFECT_S
        percent = round(100 * min(max(fraction, 0.0), 1.0), 1)
        if percent != state["told"]:
            state["told"] = percent
            _update(made, percent, f"{name}: {step}")

    with listening(listen):
        yield


def _update(made: Any, percent: float, description: str) -> None:
    if isinstance(made, UUID):
        update_progress_artifact(made, progress=percent, description=description)
