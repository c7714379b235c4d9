"""acquire: crystals are collected and reduced one after the other, and merged every few series."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar, cast

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.exceptions import TerminationSignal
from prefect.futures import PrefectFuture
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from ..hardware.guard import guarded
from ..hardware.lab import Lab, open_lab
from ..hardware.serialred.acquire import Session, begin, crystals, refuse_impossible
from ..lib.artefacts import ArtefactStore
from ..lib.errors import UserError
from ..lib.merging.config import MergingConfig
from ..lib.reduction.config import ReductionConfig
from ..lib.report.outcome import PhaseOutcome, SeriesOutcome
from ..lib.sample import load_sample
from ..lib.serialred.acquisition import Acquisition
from ..lib.serialred.calibration import CalibrationSet
from ..lib.serialred.session import SessionConfig, Stop
from ..tasks.acquire import (
    acquisition_artefact,
    calibrate,
    keep_acquisition,
    kept_calibrations,
    latest_calibration,
    next_crystal,
    show_grid,
)
from ..tasks.growth import completeness
from ..tasks.journal import say
from ..tasks.live import prefect_progress
from ..tasks.progress import tell
from ..tasks.workers import workers
from .forms import described
from .reduce import finish_session, one_series
from .turn import turn

# They only wait for the workers.
_THREADS = cast("TaskRunner[PrefectFuture[Any]]", ThreadPoolTaskRunner(max_workers=64))
T = TypeVar("T")
_log = logging.getLogger(__name__)
_COLLECTING = 0.9  # part of a session that is over when the last series is collected


@dataclass(frozen=True)
class Acquired:
    """What `acquire` did.

    Attributes
    ----------
    acquisition : reference of the artefact; its page lists all series and why the rest was left.
    done : the same as data.
    outcomes : of the reduction of each series.
    phases : of each phase, largest first.
    failure : one line, if something on the instrument ended the session; "" otherwise.
    """

    acquisition: str
    done: Acquisition
    outcomes: tuple[SeriesOutcome, ...]
    phases: tuple[PhaseOutcome, ...]
    failure: str = ""


@flow(
    name="acquire",
    flow_run_name="acquire {session.name}",
    persist_result=False,
    task_runner=_THREADS,
)
@described
def acquire(
    session: SessionConfig,
    store: Path,
    calibration: str | None = None,
    calibrate_first: bool = False,
    config: ReductionConfig | None = None,
    n_workers: int = 1,
    merging: MergingConfig | None = None,
    merge_every: int = 4,
    scheduler: str | None = None,
) -> Acquired:
    """Run a SerialRED session.

    Whatever happens, the guard leaves the instrument safe, and what was collected is reduced.

    Parameters
    ----------
    session : see configs/sessions.
    store : root of the artefact store; raw frames go to ``raw/NAME`` in it.
    calibration : reference of the deflector calibrations; None takes the instrument's latest.
    calibrate_first : measure them now instead.
    config : choices of the reduction engine.
    n_workers : processes that reduce series meanwhile.
    scheduler : where they run: this machine if empty; ``tcp://HOST:PORT`` of a Dask scheduler; or
        a batch system, as in configs/schedulers.
    merging : choices of sorting and merging.
    merge_every : series after which all so far are merged, for who looks on and for
        `stop.completeness`; the collecting goes on meanwhile.

    Raises
    ------
    UserError : the session is impossible on this instrument; nothing was moved.
    """
    # takes a while; not when somebody cancels and waits
    import_module("..lib.report.acquisition_page", __package__)
    ArtefactStore(store).create()
    raw = _new_folder(store / "raw" / session.name)
    sample = load_sample(session.sample) if session.sample else None
    failure = ""
    running: list[PrefectFuture[SeriesOutcome]] = []
    hunt: Session | None = None

    def part_done(_: float) -> float:
        return 0.0 if hunt is None else _COLLECTING * hunt.part_done()

    def keep(how: str) -> None:
        if hunt is not None and calibration is not None:
            done = replace(hunt.acquisition(), ended=how)
            acquisition_artefact(done, session, (), store, calibration)

    with (
        _kept_if_ended(keep),  # last of all: the instrument and the workers cannot wait
        workers(n_workers, scheduler, apart=True) as address,
        prefect_progress("acquire", f"acquire {session.name}", part_done),
    ):
        merges = Merges(session, store, merge_every, config, merging, address)
        try:
            with _own(session, "acquire") as safe:
                refuse_impossible(safe, session)
                if calibrate_first:
                    calibration = calibrate(safe, session, store)
                elif calibration is None:
                    calibration = latest_calibration(safe.instrument.name, store)
                hunt = begin(safe, session, kept_calibrations(calibration, store), raw)
                series = crystals(hunt, lambda what, k, n: tell("acquire", what, k / max(n, 1)))
                while (one := next_crystal(series)) is not None:
                    name, frames = f"{session.name}-{one.name}", Path(one.folder)
                    say(f"{name} collected over {one.range_deg:.1f}°, {one.status}: {one.reason}")
                    running.append(
                        one_series.submit(
                            name, frames, store, session.instrument, None, config, address
                        )
                    )
                    if why := merges.after(running):
                        hunt.ended = why
                    show_grid(hunt.acquisition())
        except UserError as error:
            if hunt is None:
                raise
            failure = str(error)
            _log.error("%s", failure)
        except KeyboardInterrupt:
            # a terminal sends it to Prefect's server too: nothing is asked of it any more, and
            # what it and the workers say while they end is of no use to anybody
            logging.disable(logging.CRITICAL)
            raise
        if not failure:
            say(hunt.ended)
        merges.wait()
        tell("acquire", "finish reductions", 1.0)
        outcomes = tuple(one.result() for one in running)
        outcomes, phases, found = finish_session(
            outcomes, store, session.name, config, merging, sample, address
        )
        assert calibration is not None  # or the session would not have begun
        done = hunt.acquisition()
        if failure:
            done = replace(done, ended=failure)
        kept = keep_acquisition(done, session, outcomes, store, calibration, phases, found)
        tell("acquire", "done", 1.0)
    return Acquired(kept, done, outcomes, phases, failure)


class Merges:
    """What was collected so far, merged every few series beside the collecting.

    Parameters
    ----------
    session : its name, and the rule by which it stops.
    store : root of the artefact store.
    every : series after which is merged.
    config, merging, workers : as of `finish_session`.
    """

    def __init__(
        self,
        session: SessionConfig,
        store: Path,
        every: int,
        config: ReductionConfig | None,
        merging: MergingConfig | None,
        workers: str | None,
    ) -> None:
        self._session, self._every, self._rest = session, every, (config, merging, workers)
        self._store, self._merged = store, 0
        self._running: PrefectFuture[tuple[PhaseOutcome, ...]] | None = None

    def after(self, series: Sequence[PrefectFuture[SeriesOutcome]]) -> str:
        """Begin the next merge if it is due; why the session is complete, "" while it is not.

        Never waits: what a merge found counts when the next series has been collected.
        """
        if self._running is not None:
            found = _if_over(self._running)
            if found is None:
                return ""
            self._running = None
            if ended := complete(self._session.stop, found):
                return ended
        if len(series) >= self._merged + self._every:
            outcomes = [one for future in series if (one := _if_over(future))]
            reduced = sum(bool(one.reduction) for one in outcomes)
            if reduced >= self._merged + self._every:
                self._merged = reduced
                self._running = merged_so_far.submit(
                    self._session.name, outcomes, self._store, *self._rest
                )
        return ""

    def wait(self) -> None:
        """Wait for the merge that is running, if one is."""
        if self._running is not None:
            self._running.wait()


def _if_over(future: PrefectFuture[T]) -> T | None:
    """The result, if there is one by now."""
    try:
        return future.result(timeout=0)
    except TimeoutError:
        return None


@task(task_run_name="merge {session} so far", cache_policy=NO_CACHE, persist_result=False)
def merged_so_far(
    session: str,
    outcomes: Sequence[SeriesOutcome],
    store: Path,
    config: ReductionConfig | None,
    merging: MergingConfig | None,
    workers: str | None,
) -> tuple[PhaseOutcome, ...]:
    """The phases of what is reduced; whatever goes wrong, the collecting goes on."""
    try:
        _, phases, _ = finish_session(outcomes, store, session, config, merging, None, workers)
    except Exception as error:
        line = f"{session} was not merged so far: {type(error).__name__}: {error}"
        _log.warning("%s", line.split("\n")[0])
        return ()
    return phases


def complete(stop: Stop, phases: Sequence[PhaseOutcome]) -> str:
    """Why the session is complete by what was merged, one line; "" while it is not."""
    known = {
        one.name: (int(one.figures["series"]), value)
        for one in phases
        if (value := completeness(one)) is not None
    }
    return stop.complete(known)


@contextmanager
def _kept_if_ended(keep: Callable[[str], None]) -> Iterator[None]:
    """Keep what there is, told how it ended, when the block is ended from outside."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit, TerminationSignal) as end:
        keep("Ended by Ctrl-C." if isinstance(end, KeyboardInterrupt) else "Cancelled.")
        raise


@contextmanager
def _own(session: SessionConfig, flow: str) -> Iterator[Lab]:
    """The session's instrument, to itself and safe."""
    # nothing is connected to before it is our turn: another session may be using it
    with (
        turn(session.instrument, flow),
        guarded(open_lab(session.instrument, **session.options)) as safe,
    ):
        yield safe


def _new_folder(wanted: Path) -> Path:
    """`wanted`, or with a number behind it, not there yet: no session overwrites another."""
    folder, number = wanted, 1
    while True:
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            number += 1
            folder = wanted.with_name(f"{wanted.name}-{number}")
        except OSError as error:
            raise UserError(
                folder, error.strerror or str(error), "a folder to write frames in",
                "choose another --store",
            ) from None  # fmt: skip


@flow(name="calibrate", flow_run_name="calibrate {session.instrument}", persist_result=False)
@described
def calibrate_only(session: SessionConfig, store: Path) -> tuple[str, CalibrationSet]:
    """Measure the deflector calibrations that a session needs, and keep them.

    Parameters
    ----------
    session : the conditions to calibrate in; see configs/sessions.
    store : root of the artefact store.

    Returns
    -------
    Reference of the artefact, and what is in it.
    """
    ArtefactStore(store).create()
    with (
        prefect_progress("calibrate", f"calibrate {session.instrument}"),
        _own(session, "calibrate") as lab,
    ):
        refuse_impossible(lab, session)
        ref = calibrate(lab, session, store)
        tell("calibrate", "done", 1.0)
    return ref, kept_calibrations(ref, store)
