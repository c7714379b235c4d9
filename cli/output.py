"""What commands print: tables on stdout, progress on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from ..lib.report.outcome import PhaseOutcome, SeriesOutcome

# The part of a series' time that each step takes, roughly: start and length.
_STEPS = {
    "read frames": (0.0, 0.1),
    "find spots": (0.1, 0.3),
    "index": (0.4, 0.25),
    "integrate": (0.65, 0.2),
    "write report": (0.85, 0.15),
    "finished": (1.0, 0.0),
}


def console(stderr: bool = False) -> Console:
    """Where results go (or progress); wide enough, when it is no terminal, not to break paths."""
    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, width=None if stream.isatty() else 200, highlight=False)


def table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()
) -> Table:
    """A plain table; columns in `right` are set to the right."""
    made = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for i, name in enumerate(columns):
        made.add_column(name, justify="right" if i in right else "left", overflow="fold")
    for row in rows:
        made.add_row(*row)
    return made


def outcome_table(outcomes: Sequence[SeriesOutcome], links: Sequence[str]) -> Table:
    """One row a series, with the path of its report or why there is none."""
    rows = []
    for one, link in zip(outcomes, links, strict=True):
        *cells, remark = one.row().values()
        rows.append([*cells, remark if one.reason else link])
    *columns, _ = outcomes[0].row()
    return table([*columns, "report"], rows, right=(4, 5, 6))


def phase_table(phases: Sequence[PhaseOutcome], links: Sequence[str]) -> Table:
    """One row a phase, with the path of its page or why there is none."""
    rows = [[*one.row().values(), link] for one, link in zip(phases, links, strict=True)]
    return table([*phases[0].row(), "report"], rows, right=(1, 4, 5, 6, 7))


def of_series(step: str, fraction: float) -> float | None:
    """How far a series is, 0 to 1, by the step it is in; None for a step that says nothing."""
    if step not in _STEPS:
        return None
    start, length = _STEPS[step]
    return start + length * fraction


def of_scan(step: str, fraction: float) -> float | None:
    """How far a scan is: as far as its task says."""
    return fraction


@contextmanager
def progress(n: int, share: Callable[[str, float], float | None] = of_series) -> Iterator[None]:
    """A bar over all series, or scans, while tasks of this process tell how far they are."""
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from ..tasks.progress import listening

    done: dict[str, float] = {}
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        console=console(stderr=True),
        transient=True,
    ) as bar:
        line = bar.add_task("start Prefect", total=n)

        def listen(what: str, step: str, fraction: float) -> None:
            far = share(step, fraction)
            if far is not None:
                done[what] = max(done.get(what, 0.0), far)
            bar.update(line, description=f"{Path(what).name}: {step}", completed=sum(done.values()))

        with listening(listen):
            yield


@contextmanager
def acquisition_progress(wanted: int | None) -> Iterator[None]:
    """Two lines while a session runs: what the instrument does, and what is reduced."""
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from ..tasks.progress import listening

    reduced: dict[str, float] = {}
    taken: set[str] = set()
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        TimeElapsedColumn(),
        console=console(stderr=True),
        transient=True,
    ) as bar:
        instrument = bar.add_task("open the instrument", total=100)
        reduction = bar.add_task("reduce", total=wanted or 1)

        def listen(what: str, step: str, fraction: float) -> None:
            if what in ("acquire", "calibrate"):
                bar.update(instrument, description=f"{what}: {step}", completed=100 * fraction)
                return
            taken.add(what)
            if step == "done":
                reduced[what] = 1.0
            bar.update(
                reduction,
                description=f"reduce: {what}, {step}",
                completed=sum(reduced.values()),
                total=max(wanted or 1, len(taken)),
            )

        with listening(listen):
            yield
