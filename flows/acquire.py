"""acquire: crystals are collected and reduced one after the other, and merged at the end."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from prefect import flow
from prefect.futures import PrefectFuture
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from ..hardware.guard import guarded
from ..hardware.lab import Lab, open_lab
from ..hardware.serialred.acquire import begin, crystals, refuse_impossible
from ..lib.artefacts import ArtefactStore
from ..lib.errors import UserError
from ..lib.merging.config import MergingConfig
from ..lib.reduction.config import ReductionConfig
from ..lib.report.outcome import PhaseOutcome, SeriesOutcome
from ..lib.sample import load_sample
from ..lib.serialred.acquisition import Acquisition
from ..lib.serialred.calibration import CalibrationSet
from ..lib.serialred.session import SessionConfig
from ..tasks.acquire import (
    acquisition_artefact,
    calibrate,
    keep_acquisition,
    kept_calibrations,
    latest_calibration,
    next_crystal,
)
from ..tasks.progress import tell
from ..tasks.workers import workers
from .reduce import finish_session, one_series
from .turn import turn

# They only wait for the workers.
_THREADS = cast("TaskRunner[PrefectFuture[Any]]", ThreadPoolTaskRunner(max_workers=64))
_log = logging.getLogger(__name__)


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
def acquire(
    session: SessionConfig,
    store: Path,
    calibration: str | None = None,
    calibrate_first: bool = False,
    config: ReductionConfig | None = None,
    n_workers: int = 1,
    merging: MergingConfig | None = None,
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
    merging : choices of sorting and merging.

    Raises
    ------
    UserError : the session is impossible on this instrument; nothing was moved.
    """
    ArtefactStore(store).create()
    raw = _new_folder(store / "raw" / session.name)
    sample = load_sample(session.sample) if session.sample else None
    failure = ""
    running: list[PrefectFuture[SeriesOutcome]] = []
    hunt = None
    with workers(n_workers, apart=True) as address:
        try:
            with _own(session) as safe:
                refuse_impossible(safe, session)
                if calibrate_first:
                    calibration = calibrate(safe, session, store)
                elif calibration is None:
                    calibration = latest_calibration(safe.instrument.name, store)
                hunt = begin(safe, session, kept_calibrations(calibration, store), raw)
                series = crystals(hunt, lambda what, k, n: tell("acquire", what, k / max(n, 1)))
                while (one := next_crystal(series)) is not None:
                    name, frames = f"{session.name}-{one.name}", Path(one.folder)
                    running.append(
                        one_series.submit(
                            name, frames, store, session.instrument, None, config, address
                        )
                    )
        except UserError as error:
            if hunt is None:
                raise
            failure = str(error)
            _log.error("%s", failure)
        except KeyboardInterrupt:
            # a terminal sends it to Prefect's server too: nothing is asked of it any more, and
            # what it and the workers say while they end is of no use to anybody
            logging.disable(logging.CRITICAL)
            if hunt is not None and calibration is not None:
                done = replace(hunt.acquisition(), ended="Ended by Ctrl-C.")
                acquisition_artefact(done, session, (), store, calibration)
            raise
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
    return Acquired(kept, done, outcomes, phases, failure)


@contextmanager
def _own(session: SessionConfig) -> Iterator[Lab]:
    """The session's instrument, to itself and safe."""
    # nothing is connected to before it is our turn: another session may be using it
    with (
        turn(session.instrument),
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
def calibrate_only(session: SessionConfig, store: Path) -> tuple[str, CalibrationSet]:
    """Measure the deflector calibrations that a session needs, and keep them.

    Returns
    -------
    Reference of the artefact, and what is in it.
    """
    ArtefactStore(store).create()
    with _own(session) as lab:
        refuse_impossible(lab, session)
        ref = calibrate(lab, session, store)
    return ref, kept_calibrations(ref, store)
