"""orient: reduced series become orientations of every frame, and a study of the goniometer."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from ..lib.artefacts import ArtefactStore
from ..lib.errors import UserError
from ..lib.orientation.config import OrientationConfig
from ..tasks.journal import say
from ..tasks.live import series_progress
from ..tasks.orient import integrate_again, study_sessions
from ..tasks.orient import orient as orient_one
from ..tasks.progress import tell
from ..tasks.workers import workers
from .forms import described
from .reduce import _THREADS, _each, _fault

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class OrientOutcome:
    """What became of one reduction.

    Attributes
    ----------
    reduction : reference given.
    final : reference of the reduction integrated again, or the one given.
    orientation : reference of the artefact; "" where it failed.
    reason : one line, why it failed; "" where it did not.
    """

    reduction: str
    final: str = ""
    orientation: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Oriented:
    """What `orient` did.

    Attributes
    ----------
    outcomes : of each reduction, in order.
    study : reference of the `goniometer` artefact; "" if nothing could be refined.
    """

    outcomes: tuple[OrientOutcome, ...]
    study: str


@flow(name="orient", flow_run_name="orient {name}", persist_result=False, task_runner=_THREADS)
@described
def orient(
    reductions: Sequence[str],
    store: Path,
    config: OrientationConfig | None = None,
    n_workers: int = 1,
    name: str = "goniometer",
    scheduler: str | None = None,
) -> Oriented:
    """Refine the orientations of reduced series, and compare the goniometer over them.

    Parameters
    ----------
    reductions : references of `reduction` artefacts.
    store : root of the artefact store.
    config : choices; None for the defaults.
    n_workers : series to refine at once.
    scheduler : where they run: this machine if empty; ``tcp://HOST:PORT`` of a Dask scheduler; or
        a batch system, as in configs/schedulers.
    name : of the study.
    """
    with series_progress(f"orient {name}", reductions), workers(n_workers, scheduler) as address:
        outcomes = _each(one_reduction, [(ref, store, config, address) for ref in reductions],
                         address)  # fmt: skip
    for one in outcomes:
        say(one.reason or f"{one.reduction} became {one.orientation}")
    good = [one.orientation for one in outcomes if one.orientation]
    failed = {one.reduction: one.reason for one in outcomes if one.reason}
    study = study_sessions(good, store, name, failed) if good else ""
    return Oriented(outcomes, study)


@task(task_run_name="{reduction}", cache_policy=NO_CACHE, persist_result=False)
def one_reduction(
    reduction: str, store: Path, config: OrientationConfig | None, workers: str | None
) -> OrientOutcome:
    """One reduction, all the way; whatever goes wrong with it stays with it."""
    try:
        final = ArtefactStore(store).get(reduction).ref
        for _ in range((config or OrientationConfig()).iterate):
            final = integrate_again(final, store, config, workers)
        return OrientOutcome(reduction, final, orient_one(final, store, config, workers))
    except UserError as error:
        return OrientOutcome(reduction, reason=str(error))
    except Exception as error:
        return OrientOutcome(reduction, reason=_fault(reduction, error))
    finally:
        tell(reduction, "done", 1.0)
