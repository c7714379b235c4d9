"""What a person watches while a scan is read and calibrated: a page, and Prefect's own progress."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact

from .progress import listening, tell
from .running import flow_run_id

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..lib.overfocus.config import OverfocusConfig
    from ..lib.stem4d.scan import Scan4D

FOLDER = ".live"
OVERFOCUS = "Calibration by an overfocused scan"
_ANSWERS = (0.25, 0.5, 0.75)  # parts of the scan after which it is calibrated
_SUPERPOSED_BYTES = 2**30  # larger scans are not superposed while they are read
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
        at_once: bool = False,
        draw: Callable[[], Sequence[tuple[Figure, str]]] = tuple,
    ) -> None:
        """Show where things stand, unless that was done a moment ago; from any thread.

        `draw` makes figures, and what each shows, if there is to be a page.
        """
        with self._lock:
            if at_once or final or not step.startswith("row "):
                self._lines = [step, *self._lines[: _LINES - 1]]
            if time.monotonic() < self._next and not (final or at_once):
                return
            from ..lib.report.live_page import live_page

            text = live_page(
                self._name, self._over, step, facts or {}, images or {}, self._lines, final, draw()
            )
            self.path.parent.mkdir(exist_ok=True)
            beside = self.path.with_suffix(".part")
            beside.write_text(text, encoding="utf-8")
            beside.replace(self.path)
            self._next = time.monotonic() + _PAGE_S


class LiveReading:
    """First answers from the rows of an overfocused scan while the others are read.

    Parameters
    ----------
    store : root of the artefact store.
    scan : whose rows come; its frames are not read here.
    config : of the calibration.
    """

    def __init__(self, store: Path, scan: Scan4D, config: OverfocusConfig) -> None:
        import numpy as np

        from ..lib.overfocus.streaming import LiveCalibration

        self._scan, self._calibration = scan, LiveCalibration(scan, config)
        self._page = LivePage(store, scan.name, OVERFOCUS)
        self._image = np.full(scan.scan_shape, np.nan)
        size = np.prod(scan.frames.shape, dtype=float) * scan.frames.dtype.itemsize
        kept = size <= _SUPERPOSED_BYTES
        self._held = np.zeros(scan.frames.shape, scan.frames.dtype) if kept else None
        rows = scan.scan_shape[0]
        self._marks = {max(3, round(part * rows)) - 1 for part in _ANSWERS}

    def row(self, number: int, frames: Any) -> None:
        """The next scan row, (scan_column, row, column)."""
        self._calibration.add_row(number, frames)
        self._image[number] = frames[:, ::4, ::4].mean(axis=(1, 2))
        if self._held is not None:
            self._held[number] = frames
        rows = self._scan.scan_shape[0]
        if number in self._marks and number < rows - 1:
            self._answer(number + 1)
        else:
            self._page.show(
                f"row {number + 1} of {rows} read", images={"brightness of frames": self._image}
            )

    def _answer(self, rows: int) -> None:
        from ..lib.overfocus.calibration import CALIBRATED
        from ..lib.overfocus.model import matrices_of_calibration
        from ..lib.overfocus.superposition import superpose
        from ..lib.report.overfocus_page import headline

        found = self._calibration.current()
        text = f"first {rows} of {self._scan.scan_shape[0]} rows: {headline(found)}"
        tell(self._scan.name, text, 0.0)
        images = {"brightness of frames": self._image}
        if found.verdict == CALIBRATED and self._held is not None:
            missing = self._scan.missing.copy()
            missing[rows:] = True
            arrived = self._scan.with_(frames=self._held, missing=missing)
            images["superposition so far"] = superpose(arrived, matrices_of_calibration(found))
        self._page.show(text, {"Verdict so far": found.verdict}, images, at_once=True)


@contextmanager
def prefect_progress(name: str) -> Iterator[None]:
    """A progress artifact of the running flow that follows what is told of `name`."""
    if flow_run_id() is None:
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
