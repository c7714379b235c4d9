"""report: a `reduction` artefact becomes a `report` artefact, and many a `session` page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from prefect import task
from prefect.artifacts import create_table_artifact

from ..lib.artefacts import Artefact, ArtefactStore, Input, Manifest, Recipe
from ..lib.report.outcome import OUTCOMES, PhaseOutcome, SeriesOutcome, outcomes_text
from .pictures import artifact_key, looking_on
from .progress import tell
from .running import TASK_OPTIONS, flow_run_id
from .workers import carry_out

if TYPE_CHECKING:
    from ..lib.phases.phases import Phases

PAGE = "report.html"
INDEX = "index.html"
SECTIONS = "sections"


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
    Reference of the artefact, an older one if the same was made before. Its files are
    report.html and sections/, planes of reciprocal space as 32-bit TIFF.
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
    from ..lib.reduction.sections import sections, write_section
    from ..lib.reduction.storage import read_reduction
    from ..lib.report.reduction_page import reduction_page
    from ..lib.series.storage import read_series

    reduction, series = read_reduction(source.arrays), read_series(series_artefact.arrays)
    with kept.draft(recipe, flow_run_id=flow_run) as draft:
        planes = [sections(series, one, reduction.frames, reduction.gain)
                  for one in reduction.lattices]  # fmt: skip
        for number, some in enumerate(planes, 1):
            (draft.files / SECTIONS).mkdir(exist_ok=True)
            for one in some:
                write_section(draft.files / SECTIONS / f"lattice-{number}-{one.name}.tif", one)
        page = reduction_page(
            reduction, series, kept.ancestors(series_artefact.ref, source.ref), planes
        )
        (draft.files / PAGE).write_text(page, encoding="utf-8")
        return draft.publish().ref


# Hand-over files of a merge, and what they are for.
_FILES = {
    "merged.mtz": "merged intensities: H K L IMEAN SIGIMEAN NOBS",
    "merged.cif": "the same as mmCIF",
    "unmerged.mtz": "scaled observations, a batch for each frame",
    "shelx.hkl": "merged intensities for SHELX (HKLF 4)",
    "shelx.ins": "SHELX instructions with electron scattering factors",
    "statistics.txt": "the table by resolution, as text",
    "xscale/XSCALE.INP": "input of XSCALE for the unscaled series beside it",
}


@task(task_run_name="report {merge}", **TASK_OPTIONS)
def report_phase(
    merge: str,
    solution: str,
    verdict: str,
    reports: Mapping[str, str],
    store: Path,
    workers: str | None = None,
) -> str:
    """Make the page of a phase.

    Parameters
    ----------
    merge, solution : references of the artefacts; the latter "" if there is none.
    verdict : then, why.
    reports : by name of the series, references of their reports.
    store : root of the artefact store.
    workers : address of worker processes, or None.

    Returns
    -------
    Reference of the artefact, an older one if the same was made before. Its file is index.html.
    """
    tell(merge, "write report")
    return carry_out(
        workers, phase_report_artefact, merge, solution, verdict, dict(reports), store,
        flow_run_id(),
    )  # fmt: skip


def phase_report_artefact(
    merge_ref: str,
    solution_ref: str,
    verdict: str,
    reports: Mapping[str, str],
    store: Path,
    flow_run: str | None = None,
) -> str:
    """What `report_phase` does, without Prefect."""
    kept = ArtefactStore(store)
    merged = kept.get(merge_ref)
    sources = [kept.get(ref) for ref in (merge_ref, solution_ref) if ref]
    members = list(_members(merged.manifest))
    shown = {name: kept.get(reports[name]) for name in members if name in reports}
    recipe = Recipe(
        kind="phase-report",
        name=merged.manifest.name,
        inputs=(
            *(Input.from_artefact("merge" if i == 0 else "solution", one)
              for i, one in enumerate(sources)),
            *(Input.from_artefact("report", one) for one in shown.values()),
        ),
        configuration={"verdict": verdict},
    )  # fmt: skip
    if found := kept.find(recipe):
        return found.ref
    from ..lib.artefacts.records import read_record
    from ..lib.merging.merge_phase import MergedPhase
    from ..lib.merging.part import branches
    from ..lib.report.phase_page import phase_page
    from ..lib.structure.solution import ChargeFlipping
    from .merged import data_of_merge, seed_of

    flipped = read_record(sources[1].arrays, ChargeFlipping) if solution_ref else None
    up = "../../../../"  # the page lies in ROOT/phase-report/NAME/VERSION/files
    files = {
        f"{up}{below(kept, merged)}/files/{name}": what
        for name, what in _FILES.items()
        if (merged.files / name).exists()
    }
    if solution_ref and (sources[1].files / "solution.cif").exists():
        path = f"{up}{below(kept, sources[1])}/files/solution.cif"
        files[path] = "atoms as charge flipping and composition give them, not refined"
    whole = read_record(merged.arrays, MergedPhase)
    with kept.draft(recipe, flow_run_id=flow_run) as draft:
        page = phase_page(
            whole,
            flipped,
            f"Structure {verdict}.",
            {name: f"{up}{below(kept, one)}/files/{PAGE}" for name, one in shown.items()},
            files,
            kept.ancestors(*(one.ref for one in sources)),
            branches(whole, data_of_merge(kept, whole), seed_of(merged)),
            merged.ref,
        )
        (draft.files / INDEX).write_text(page, encoding="utf-8")
        return draft.publish().ref


def _members(manifest: Manifest) -> Iterator[str]:
    """Names of the series that a merge was made from."""
    for item in manifest.inputs:
        if item.role == "reduction" and item.artefact:
            yield item.artefact.partition("/")[2].partition("@")[0]


@task(task_run_name="summarise {session}", **TASK_OPTIONS)
def summarise(
    outcomes: Sequence[SeriesOutcome],
    store: Path,
    session: str = "session",
    phases: Sequence[PhaseOutcome] = (),
    sorted_into: str = "",
) -> str:
    """Make the page that lists series reduced together, the failed ones too, and their phases.

    Parameters
    ----------
    outcomes : of the series, in the order to list them.
    store : root of the artefact store.
    session : name of the session.
    phases : what was merged.
    sorted_into : reference of the `phases` artefact, "" if there is none.

    Returns
    -------
    Reference of the `session` artefact, an older one if the same was made before. Its file is
    index.html.
    """
    made = summarise_artefacts(outcomes, store, session, phases, sorted_into, flow_run_id())
    show_series(session, outcomes, ArtefactStore(store).folder(made) / "files" / INDEX)
    return made


def show_series(session: str, outcomes: Sequence[SeriesOutcome], page: Path) -> None:
    """A table in Prefect's pages; nothing outside of a flow run.

    Parameters
    ----------
    session : name of the session.
    outcomes : of its series.
    page : that shows more.
    """
    if flow_run_id() is not None:
        with looking_on(f"the table of {session}"):
            create_table_artifact(
                [one.row() for one in outcomes],
                key=artifact_key(f"series-{session}"),
                description=f"Series of {session}. Page: `{page}`",
            )


def summarise_artefacts(
    outcomes: Sequence[SeriesOutcome],
    store: Path,
    session: str,
    phases: Sequence[PhaseOutcome] = (),
    sorted_into: str = "",
    flow_run: str | None = None,
) -> str:
    """What `summarise` does, without Prefect."""
    kept = ArtefactStore(store)
    reports = [kept.get(one.report) for one in outcomes if one.report]
    pages = [kept.get(one.page) for one in phases if one.page]
    recipe = Recipe(
        kind="session",
        name=session,
        inputs=(
            *(Input.from_artefact("report", one) for one in reports),
            *(Input.from_artefact("phase-report", one) for one in pages),
            *([Input.from_artefact("phases", kept.get(sorted_into))] if sorted_into else []),
        ),
        configuration={
            "failed": [
                *({"name": o.name, "reason": o.reason} for o in outcomes if o.reason),
                *({"name": p.name, "reason": p.reason} for p in phases if p.reason),
            ],
        },
    )
    if found := kept.find(recipe):
        return found.ref
    from ..lib.report.session_page import session_page

    with kept.draft(recipe, flow_run_id=flow_run) as draft:
        # The page lies in ROOT/session/NAME/VERSION/files: four steps below the root.
        links = {one.ref: f"../../../../{below(kept, one)}/files/{PAGE}" for one in reports}
        links |= {one.ref: f"../../../../{below(kept, one)}/files/{INDEX}" for one in pages}
        cells = cells_of(kept, sorted_into) if sorted_into else None
        (draft.files / OUTCOMES).write_text(outcomes_text(outcomes, phases), encoding="utf-8")
        page = session_page(
            session,
            outcomes,
            phases,
            cells,
            links,
            kept.running_code.version,
            kept.ancestors(*(one.artefact for one in recipe.inputs if one.artefact)),
        )
        (draft.files / INDEX).write_text(page, encoding="utf-8")
        return draft.publish().ref


def cells_of(store: ArtefactStore, ref: str) -> Phases:
    """The cells in a `phases` artefact, sorted."""
    from ..lib.artefacts.records import read_record
    from ..lib.phases.sorting import SortedSession

    return read_record(store.get(ref).arrays, SortedSession).phases


def made_from(store: ArtefactStore, artefact: Artefact, role: str) -> Artefact:
    """The artefact that another was made from."""
    return store.get(_input(artefact.manifest, role))


def _input(manifest: Manifest, role: str) -> str:
    (ref,) = (item.artefact for item in manifest.inputs if item.role == role and item.artefact)
    return ref


def below(store: ArtefactStore, artefact: Artefact) -> str:
    """Where an artefact lies, relative to the store's root."""
    return artefact.path.relative_to(store.root).as_posix()
