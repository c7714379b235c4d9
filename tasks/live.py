"""What a person watches while a scan is read and calibrated: a page, and Prefect's own progress."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact

from .pictures import artifact_key, looking_on
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
_BEFORE_MERGING = 0.9  # part of a flow over many series that the series themselves are


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
def prefect_progress(
    name: str, title: str = "", part: Callable[[float], float] = lambda told: told
) -> Iterator[None]:
    """A progress artifact of the running flow that follows what is told of `name`.

    Parameters
    ----------
    name : as told.
    title : for people; the same if not given.
    part : of the whole that is done, from the fraction that is told; until "done" is.
    """
    shown = title or name
    with _artifact(shown) as update:

        def listen(series: str, step: str, fraction: float) -> None:
            if series == name:
                update(1.0 if step == "done" else part(fraction), f"{shown}: {step}")

        with listening(listen):
            yield


@contextmanager
def series_progress(title: str, names: Collection[str]) -> Iterator[None]:
    """A progress artifact of the running flow that counts `names` as each is told to be done.

    What else is told, such as the merging after them, is said without a fraction of its own.
    """
    done: set[str] = set()
    with _artifact(title) as update:

        def listen(series: str, step: str, fraction: float) -> None:
            if series in names and fraction >= 1:
                done.add(series)
            part = _BEFORE_MERGING * len(done) / max(len(names), 1)
            line = f"{len(done)} of {len(names)} done; {series}: {step}"
            update(part, f"{title}: {line}")

        with listening(listen):
            yield
        update(1.0, f"{title}: done")


@contextmanager
def _artifact(title: str) -> Iterator[Callable[[float, str], None]]:
    """A progress artifact, and what to tell it: the part done and a line; from any thread."""
    if flow_run_id() is None:
        yield lambda part, line: None
        return
    made: Any = None
    with looking_on(f"progress of {title}"):
        key = artifact_key(f"progress-{title}")
        made = create_progress_artifact(progress=0.0, key=key, description=title)
    lock, following, shown = threading.Lock(), 0.0, (0.0, title)

    def update(part: float, line: str) -> None:
        nonlocal following, shown
        now = (round(100 * min(max(part, 0.0), 1.0), 1), line)
        with lock:
            due = part >= 1 or time.monotonic() >= following
            if not (due and now != shown and isinstance(made, UUID)):
                return
            following, shown = time.monotonic() + _PREFECT_S, now
        with looking_on(f"progress of {title}"):
            update_progress_artifact(made, progress=now[0], description=line)

    yield update
