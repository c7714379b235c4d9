"""report: a `reduction` artefact becomes a `report` artefact, and many a `session` page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from prefect import task
from prefect.artifacts import create_table_artifact

from ..lib.artefacts import Artefact, ArtefactStore, Input, Manifest, Recipe
from ..lib.report.outcome import SeriesOutcome
from .progress import tell
from .running import TASK_OPTIONS, flow_run_id
from .workers import carry_out

PAGE = "report.html"
INDEX = "index.html"


@task(task_run_name="report {reduction}", **TASK_OPTIONS)
def report(reduction: str, store: Path, workers: str | None = None) -> str:
    """Make the page of a reduction.

    Parameters
    ----------
    reduction : reference of the reduction artefact.
    store : root of the artefact store.
    workers : address of worker processes, or None.

    Returns
    -------
    Reference of the artefact, an older one if the same was made before. Its file is
    report.html.
    """
    tell(reduction, "write report")
    return carry_out(workers, report_artefact, reduction, store, flow_run_id())


def report_artefact(reduction_ref: str, store: Path, flow_run: str | None = None) -> str:
    """What `report` does, without Prefect."""
    kept = ArtefactStore(store)
    source = kept.get(reduction_ref)
    series_artefact = made_from(kept, source, "series")
    recipe = Recipe(
        kind="report",
        name=source.manifest.name,
        inputs=(
            Input.from_artefact("reduction", source),
            Input.from_artefact("series", series_artefact),
        ),
        # Equal results of other settings are other reports, since these tell the settings.
        configuration={"reduction_key": source.manifest.key},
    )
    if found := kept.find(recipe):
        return found.ref
    from ..lib.reduction.storage import read_reduction
    from ..lib.report.reduction_page import reduction_page
    from ..lib.series.storage import read_series

    with kept.draft(recipe, flow_run_id=flow_run) as draft:
        page = reduction_page(
            read_reduction(source.arrays),
            read_series(series_artefact.arrays),
            [series_artefact.manifest, source.manifest],
        )
        (draft.files / PAGE).write_text(page, encoding="utf-8")
        return draft.publish().ref


@task(task_run_name="summarise {session}", **TASK_OPTIONS)
def summarise(outcomes: Sequence[SeriesOutcome], store: Path, session: str = "session") -> str:
    """Make the page that lists the series processed together, the failed ones too.

    Parameters
    ----------
    outcomes : of the series, in the order to list them.
    store : root of the artefact store.
    session : name of the session.

    Returns
    -------
    Reference of the `session` artefact, an older one if the same was made before. Its file is
    index.html.
    """
    create_table_artifact(
        [one.row() for one in outcomes], key="series", description=f"Series of {session}"
    )
    return summarise_artefacts(outcomes, store, session, flow_run_id())


def summarise_artefacts(
    outcomes: Sequence[SeriesOutcome], store: Path, session: str, flow_run: str | None = None
) -> str:
    """What `summarise` does, without Prefect."""
    kept = ArtefactStore(store)
    reports = [kept.get(one.report) for one in outcomes if one.report]
    recipe = Recipe(
        kind="session",
        name=session,
        inputs=tuple(Input.from_artefact("report", one) for one in reports),
        configuration={
            "failed": [{"name": one.name, "reason": one.reason} for one in outcomes if one.reason],
        },
    )
    if found := kept.find(recipe):
        return found.ref
    from ..lib.report.session_page import session_page

    with kept.draft(recipe, flow_run_id=flow_run) as draft:
        # The page lies in ROOT/session/NAME/VERSION/files: four steps below the root.
        links = {one.ref: f"../../../../{_below(kept, one)}/files/{PAGE}" for one in reports}
        page = session_page(session, outcomes, links, kept.running_code.version)
        (draft.files / INDEX).write_text(page, encoding="utf-8")
        return draft.publish().ref


def made_from(store: ArtefactStore, artefact: Artefact, role: str) -> Artefact:
    """The artefact that another was made from."""
    return store.get(_input(artefact.manifest, role))


def _input(manifest: Manifest, role: str) -> str:
    (ref,) = (item.artefact for item in manifest.inputs if item.role == role and item.artefact)
    return ref


def _below(store: ArtefactStore, artefact: Artefact) -> str:
    return artefact.path.relative_to(store.root).as_posix()
