"""Series that instruments announced: whole on this machine, and what became of each.

What became of a series is an `arrival` artefact named after session and series, so that a session
that is announced again, or taken up after a crash, goes on where it was.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..lib.artefacts import ArtefactStore, Input, Recipe
from ..lib.errors import UserError
from ..lib.report.outcome import SeriesOutcome, headline_from
from ..lib.series.announced import AnnouncedSeries, digest_of_frames, frames_below
from .progress import tell

KIND = "arrival"
_LOOK_S = 2.0


def wait_for(folder: Path, series: AnnouncedSeries, limit_s: float) -> None:
    """Wait until the frames of a series are whole on this machine.

    Raises
    ------
    UserError : they are not after `limit_s` seconds without change, or they are others.
    """
    place = folder / series.folder
    before, quiet_since = None, time.monotonic()
    while True:
        frames = frames_below(place, deep=series.folder != ".")
        state = (len(frames), sum(size for _, size in frames))
        if state == (series.files, series.bytes):
            break
        if state != before:
            before, quiet_since = state, time.monotonic()
        if time.monotonic() - quiet_since > limit_s:
            raise UserError(
                place, f"{state[0]} files of {state[1]} bytes", f"{series.files} files of "
                f"{series.bytes} bytes, as announced", "copy them whole and announce them again",
            )  # fmt: skip
        time.sleep(min(_LOOK_S, limit_s / 4 + 0.01))
    if digest_of_frames(place, frames) != series.digest:
        raise UserError(
            place, "other bytes than announced", "the frames as they were on the instrument",
            "copy them again and announce them again",
        )  # fmt: skip


def known_outcome(
    session: str, name: str, digest: str, choices: dict[str, Any], store: Path
) -> SeriesOutcome | None:
    """What became of a series of these frames and choices before, if it did."""
    found = ArtefactStore(store).find(_recipe(session, name, digest, choices))
    return None if found is None else _outcome(dict(found.manifest.figures_of_merit))


def keep_outcome(
    outcome: SeriesOutcome, session: str, digest: str, choices: dict[str, Any], store: Path
) -> None:
    """Keep what became of a series."""
    kept = ArtefactStore(store)
    with kept.draft(_recipe(session, outcome.name, digest, choices)) as draft:
        draft.figures_of_merit = {
            "session": session,
            "name": outcome.name,
            "source": outcome.source,
            "headline": None
            if outcome.headline is None
            else {k: None if v != v else v for k, v in vars(outcome.headline).items()},
            "verdict": outcome.verdict,
            "reduction": outcome.reduction,
            "report": outcome.report,
            "reason": outcome.reason,
        }
        draft.publish()
    tell(outcome.name, "kept", 1.0)


def outcomes_of(session: str, store: Path) -> tuple[SeriesOutcome, ...]:
    """The latest outcome of every series of a session, by name."""
    return _latest(store, lambda name: name == session)


def outcomes_of_project(project: str, store: Path) -> tuple[SeriesOutcome, ...]:
    """The same of all sessions whose names begin with `project`."""
    return _latest(store, lambda name: name.startswith(project))


def _latest(store: Path, wanted: Callable[[str], bool]) -> tuple[SeriesOutcome, ...]:
    latest: dict[str, SeriesOutcome] = {}
    for one in ArtefactStore(store).list(KIND):  # sorted: later versions win
        figures: dict[str, Any] = dict(one.manifest.figures_of_merit)
        if wanted(figures["session"]):
            latest[figures["name"]] = _outcome(figures)
    return tuple(latest[name] for name in sorted(latest))


def merge_is_due(outcomes: Sequence[SeriesOutcome], merged: int, every: int) -> bool:
    """Whether enough series were reduced since so many were `merged`."""
    return sum(bool(one.reduction) for one in outcomes) >= merged + every


def _recipe(session: str, name: str, digest: str, choices: dict[str, Any]) -> Recipe:
    return Recipe(
        kind=KIND,
        name=name,
        inputs=(Input(role="raw", digest=digest, path=name),),
        configuration={"session": session, **choices},
    )


def _outcome(figures: dict[str, Any]) -> SeriesOutcome:
    head = figures.pop("headline")
    figures.pop("session")
    outcome = SeriesOutcome(**figures)
    return outcome if head is None else replace(outcome, headline=headline_from(head))
