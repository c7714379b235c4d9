"""sort: the `reduction` artefacts of a session become a `phases` artefact."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import task

from ..lib.artefacts import ArtefactStore, Input, Recipe
from ..lib.merging.config import MergingConfig
from .progress import tell
from .running import TASK_OPTIONS, flow_run_id
from .workers import carry_out

if TYPE_CHECKING:
    from ..lib.phases.sorting import ReducedSeries

KIND = "phases"
CELLS = "cells.yaml"


@dataclass(frozen=True)
class KnownCell:
    """A phase's cell, to reduce a series with again."""

    phase: str
    cell: tuple[float, float, float, float, float, float]
    bravais: str


@task(task_run_name="compare cells", **TASK_OPTIONS)
def compare_cells(
    reductions: Mapping[str, str], store: Path, config: MergingConfig, workers: str | None = None
) -> dict[str, tuple[KnownCell, ...]]:
    """Which series should be reduced again, and with which cells.

    Parameters
    ----------
    reductions : by name of the series, reference of its reduction.
    store : root of the artefact store.
    config : choices of sorting.
    workers : address of worker processes, or None.
    """
    tell("phases", "compare cells")
    return carry_out(workers, known_cells_wanted, dict(reductions), store, config)


def known_cells_wanted(
    reductions: Mapping[str, str], store: Path, config: MergingConfig
) -> dict[str, tuple[KnownCell, ...]]:
    """What `compare_cells` does, without Prefect."""
    from ..lib.phases.sorting import phases_of, reductions_wanted

    series = [_series(ArtefactStore(store), name, ref) for name, ref in reductions.items()]
    wanted = reductions_wanted(series, phases_of(series, config))
    return {
        name: tuple(KnownCell(phase.name, phase.cell, phase.bravais) for phase in some)
        for name, some in wanted.items()
    }


@task(task_run_name="sort {session}", **TASK_OPTIONS)
def sort(
    reductions: Mapping[str, str],
    again: Mapping[str, Mapping[str, str]],
    store: Path,
    session: str,
    config: MergingConfig,
    workers: str | None = None,
) -> str:
    """Sort the series of a session into phases, by cell and by intensities.

    Parameters
    ----------
    reductions : by name of the series, reference of its first reduction.
    again : by name of the series and of the phase, further reductions with the phase's cell.
    store : root of the artefact store.
    session : name of the session.
    config : choices of sorting.
    workers : address of worker processes, or None.

    Returns
    -------
    Reference of the artefact, an older one if the same was made before. Its files are cells.yaml
    and cells.xlsx.
    """
    tell("phases", "sort into phases", 0.5)
    plain = {name: dict(some) for name, some in again.items()}
    return carry_out(
        workers, phases_artefact, dict(reductions), plain, store, session, config, flow_run_id()
    )


def phases_artefact(
    reductions: Mapping[str, str],
    again: Mapping[str, Mapping[str, str]],
    store: Path,
    session: str,
    config: MergingConfig,
    flow_run: str | None = None,
) -> str:
    """What `sort` does, without Prefect."""
    kept = ArtefactStore(store)
    every = [*reductions.values(), *(ref for some in again.values() for ref in some.values())]
    recipe = Recipe(
        kind=KIND,
        name=session,
        inputs=tuple(
            Input.from_artefact("reduction", kept.get(ref)) for ref in dict.fromkeys(every)
        ),
        configuration=config.model_dump(mode="json"),
        seeds={"noise that judges divisions": config.seed},
    )
    if found := kept.find(recipe):
        return found.ref
    from ..lib.artefacts.records import write_record
    from ..lib.phases.cells_file import write_cells, write_cells_xlsx
    from ..lib.phases.sorting import phases_of, sort_session

    series = [_series(kept, name, ref) for name, ref in reductions.items()]
    more = {
        name: {phase: _series(kept, name, ref) for phase, ref in some.items()}
        for name, some in again.items()
    }
    with kept.draft(recipe, flow_run_id=flow_run) as draft:
        phases = phases_of(series, config)
        done = sort_session(series, more, phases, config)
        write_record(draft.arrays, done)
        if phases.records:
            write_cells(draft.files / CELLS, phases.records, phases)
            write_cells_xlsx(draft.files / "cells.xlsx", phases)
        draft.figures_of_merit = {
            "structures": {one.name: len(one.members) for one in done.structures},
            "left": dict(done.left),
            "cells": phases.cut_reason,
        }
        return draft.publish().ref


def _series(store: ArtefactStore, name: str, ref: str) -> ReducedSeries:
    from ..lib.phases.sorting import reduced_series
    from ..lib.reduction.storage import read_reduction

    artefact = store.get(ref)
    return reduced_series(name, read_reduction(artefact.arrays), artefact.ref)


def structures_of(ref: str, store: Path) -> tuple[str, ...]:
    """Names of the structures that a `phases` artefact holds."""
    figures: dict[str, Any] = ArtefactStore(store).get(ref).manifest.figures_of_merit
    return tuple(figures["structures"])


def left_of(ref: str, store: Path) -> dict[str, str]:
    """Series that are in no structure of a `phases` artefact, and why."""
    figures: dict[str, Any] = ArtefactStore(store).get(ref).manifest.figures_of_merit
    return dict(figures["left"])


def members_of(ref: str, store: Path) -> dict[str, tuple[str, str]]:
    """By name of the series, its structure in a `phases` artefact and the reduction used."""
    from ..lib.artefacts.records import read_record
    from ..lib.phases.sorting import SortedSession

    session = read_record(ArtefactStore(store).get(ref).arrays, SortedSession)
    return {
        member.name: (structure.name, member.source)
        for structure in session.structures
        for member in structure.members
    }
