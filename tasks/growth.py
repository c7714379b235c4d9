"""How far the phases of a session are, for who watches it grow: a table, bars, and pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from prefect.artifacts import create_progress_artifact, create_table_artifact

from ..lib.artefacts import ArtefactStore
from ..lib.report.outcome import PhaseOutcome
from .merged import KIND as MERGE
from .pictures import Picture, artifact_key, looking_on, show_pictures
from .report import INDEX, cells_of
from .running import flow_run_id

# of one phase: (series merged, completeness 0..1), in the order of the merges
Growth = Sequence[tuple[int, float]]


def show_phases(session: str, phases: Sequence[PhaseOutcome], found: str, store: Path) -> None:
    """Show what was merged so far in Prefect's pages; nothing outside of a flow run.

    Parameters
    ----------
    session : name of the session.
    phases : as merged just now.
    found : reference of the `phases` artefact.
    store : root of the artefact store.
    """
    if flow_run_id() is None or not found:
        return
    with looking_on(f"how far {session} is"):
        if phases:
            create_table_artifact(
                [one.row() for one in phases],
                key=artifact_key(f"phases-{session}"),
                description=f"Phases of {session}",
            )
        for one in phases:
            if completeness(one) is not None:
                create_progress_artifact(
                    progress=round(100 * (completeness(one) or 0.0), 1),
                    key=artifact_key(f"completeness-{session}-{one.name}"),
                    description=f"{session}, {one.name}: {complete_in_words(one)}",
                )
        _show_pictures(session, phases, found, ArtefactStore(store))


def completeness(phase: PhaseOutcome) -> float | None:
    """Of a merged phase to its resolution, 0..1; None where it was not merged."""
    value = phase.figures.get("completeness")
    return None if value is None else float(value)


def complete_in_words(phase: PhaseOutcome) -> str:
    """Such as "87 % complete to 0.83 Å from 12 series"."""
    if completeness(phase) is None:
        return phase.reason or "not merged"
    f = phase.figures
    return (
        f"{100 * float(f['completeness']):.0f} % complete to {f['d_min_A']:.2f} Å "
        f"from {f['series']} series"
    )


def growth_of(phases: Sequence[PhaseOutcome], store: ArtefactStore) -> dict[str, Growth]:
    """By phase, how complete each of its merges was; phases are followed by name."""
    found: dict[str, Growth] = {}
    for one in phases:
        if not one.merge:
            continue
        name = one.merge.partition("/")[2].partition("@")[0]
        known: dict[int, float] = {}
        for version in store.versions(MERGE, name):
            figures = store.get(f"{MERGE}/{name}@v{version:04d}").manifest.figures_of_merit
            series, complete = figures.get("series"), figures.get("completeness")
            if isinstance(series, int) and isinstance(complete, float):
                known[series] = complete
        found[one.name] = sorted(known.items())
    return found


def _show_pictures(
    session: str, phases: Sequence[PhaseOutcome], found: str, store: ArtefactStore
) -> None:
    from ..lib.report.growth_figures import completeness_by_series
    from ..lib.report.phase_figures import cell_dendrogram

    cells = cells_of(store, found)
    pictures = [
        Picture(
            cell_dendrogram(cells),
            "tree of the series by their cells",
            f"Cells joined by likeness. Cut: {cells.cut_reason}.",
        )
    ]
    if growth := growth_of(phases, store):
        pictures.append(
            Picture(
                completeness_by_series(growth),
                "completeness of each phase against the series merged",
                "Completeness of each phase to its resolution, merge by merge.",
            )
        )
    pages: Mapping[str, Path] = {
        one.name: store.folder(one.page) / "files" / INDEX for one in phases if one.page
    }
    lines = "\n".join(f"- {one.name}: {complete_in_words(one)}" for one in phases)
    show_pictures(f"session-{session}", f"Phases of {session}", pictures, pages, lines)
