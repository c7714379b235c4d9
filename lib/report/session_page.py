"""The page of a session: every series that was processed together, the failed ones too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ..artefacts.manifest import Manifest
from ..phases.phases import Phases
from . import html, phase_figures
from .html import Safe
from .outcome import COLUMNS, PHASE_COLUMNS, PhaseOutcome, SeriesOutcome
from .provenance import provenance_section

# From here on a phase counts as complete; so many names are spelt out.
_COMPLETE, _NAMED = 0.9, 3


def session_page(
    title: str,
    outcomes: Sequence[SeriesOutcome],
    phases: Sequence[PhaseOutcome],
    cells: Phases | None,
    links: Mapping[str, str],
    version: str,
    provenance: Sequence[Manifest] = (),
) -> str:
    """The page as HTML text.

    Parameters
    ----------
    title : of the session.
    outcomes : in the order to list them.
    phases : what was merged.
    cells : how the cells were sorted; None if there were none.
    links : where each report lies, relative to the page, by its reference.
    version : of the code.
    provenance : manifests of all it came from, raw side first.
    """
    failed = [o for o in outcomes if o.reason]
    bare = [o for o in outcomes if o.headline and not o.headline.n_lattices]
    indexed = len(outcomes) - len(failed) - len(bare)
    merged = sum(bool(o.phase) for o in outcomes)
    counts = {
        "Series": len(outcomes), "Indexed": indexed, "No lattice": len(bare),
        "Failed": len(failed), "Phases": len(phases), "Merged": merged,
    }  # fmt: skip
    if failed:
        lead = f"{len(failed)} of {len(outcomes)} series could not be processed; see the remarks."
    else:
        lead = f"{indexed} of {len(outcomes)} series indexed and integrated."
    if phases:
        lead += f" {merged} merged in {len(phases)} phase{'s' * (len(phases) != 1)}."
    headings = {"phases": "Phases"} if phases else {}
    headings |= {"series": "Series"} | ({"cells": "Cells"} if cells and cells.records else {})
    headings |= {"provenance": "Provenance"} if provenance else {}
    parts = {
        "phases": lambda: phases_table(phases, links),
        "series": lambda: series_table(outcomes, links),
        "cells": lambda: cells_section(cells) if cells else Safe(""),
        "provenance": lambda: provenance_section(provenance),
    }
    return html.page(
        title=title,
        over="Session",
        lead=lead,
        body=[
            html.facts(counts),
            html.advice(next_steps(outcomes, phases)),
            html.contents(headings),
            *(html.section(name, heading, parts[name]()) for name, heading in headings.items()),
        ],
        footer=f"Made by Ewaldflow {version}. This page needs no network.",
    )


def next_steps(outcomes: Sequence[SeriesOutcome], phases: Sequence[PhaseOutcome]) -> Iterator[str]:
    """What a scientist would do next, the most urgent first."""
    both: list[SeriesOutcome | PhaseOutcome] = [*outcomes, *phases]
    failed = [one for one in both if one.reason]
    if failed:
        yield (
            f"{_named(failed)} failed: do what the remark says and run the same command again; "
            "what is finished is kept."
        )
    bare = [one for one in outcomes if one.headline and not one.headline.n_lattices]
    if bare:
        yield (
            f"No lattice in {_named(bare)}: look at the frames on the page of the series. If they "
            "show spots, check centre, camera length and rotation axis, or name the cell; if not, "
            "leave the series out."
        )
    if left := [one for one in outcomes if one.left]:
        yield f"{_named(left)} went into no phase: the remarks say why."
    for one in phases:
        if one.reason:
            continue
        complete = one.figures.get("completeness")
        if complete is not None and complete < _COMPLETE:
            yield (
                f"{one.name} is {100 * complete:.0f} % complete: collect crystals that lie "
                "otherwise; its page shows which directions are missing."
            )
        elif one.verdict.startswith("solved"):
            yield f"{one.name} is solved: refine it from the files on its page."
        elif one.verdict.startswith("not tried"):
            yield f"The structure of {one.name} was {one.verdict.rstrip('.')}."
        else:
            yield (
                f"The structure of {one.name} is {one.verdict}: look at its page, then try with "
                "better data, another composition or another space group."
            )
    if outcomes and not phases and not failed and not bare:
        yield "Nothing was merged: two series or more of one structure are needed."


def _named(some: Sequence[SeriesOutcome | PhaseOutcome]) -> str:
    if len(some) <= _NAMED:
        return ", ".join(one.name for one in some)
    return f"{some[0].name} and {len(some) - 1} more"


def phases_table(phases: Sequence[PhaseOutcome], links: Mapping[str, str]) -> Safe:
    """A row for each phase, with a link to its page."""
    return html.table(
        [name[0].upper() + name[1:] for name in PHASE_COLUMNS],
        [_linked(one.row(), "phase", links.get(one.page, "")) for one in phases],
        numeric=(1, 4, 5, 6, 7),
        row_classes=["failed" if one.reason else "" for one in phases],
        caption="Merged data. Completeness from the lattice's lowest reflection to the finest.",
    )


def series_table(outcomes: Sequence[SeriesOutcome], links: Mapping[str, str]) -> Safe:
    """A row for each series, with a link to its report."""
    return html.table(
        [name[0].upper() + name[1:] for name in COLUMNS],
        [_linked(one.row(), "series", links.get(one.report, "")) for one in outcomes],
        numeric=(4, 5, 6),
        row_classes=["failed" if one.reason or one.left else "" for one in outcomes],
        caption="Cell of the strongest lattice; resolution where the mean I/σ falls below 1.",
    )


def cells_section(cells: Phases) -> Safe:
    """How the cells were sorted into phases."""
    outliers = html.table(
        ["In no phase", "why"], [[one.record.name, one.reason] for one in cells.outliers]
    )
    return Safe(
        html.figure(
            phase_figures.cell_dendrogram(cells),
            "tree of the series by their cells",
            f"Cells joined by likeness, {cells.linkage} linkage. Cut: {cells.cut_reason}.",
        )
        + html.figure(
            phase_figures.cell_histograms(cells),
            "histograms of cell parameters",
            "Cell parameters of all series, by phase.",
        )
        + html.figure(
            phase_figures.cell_scatter(cells),
            "scatter matrix of cell parameters",
            "Each parameter of the reduced cells against each other: a phase is a cloud, and a "
            "long cloud says that errors of the parameters go together.",
        )
        + (outliers if cells.outliers else "")
    )


def _linked(row: Mapping[str, object], column: str, link: str) -> list[object]:
    cells = dict(row)
    if link:
        name = html.escape(cells[column])
        cells[column] = Safe(f'<a href="{html.escape(link)}">{name}</a>')
    return list(cells.values())
