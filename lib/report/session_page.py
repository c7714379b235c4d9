"""The page of a session: every series that was processed together, the failed ones too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..phases.phases import Phases
from . import html, phase_figures
from .html import Safe
from .outcome import COLUMNS, PHASE_COLUMNS, PhaseOutcome, SeriesOutcome


def session_page(
    title: str,
    outcomes: Sequence[SeriesOutcome],
    phases: Sequence[PhaseOutcome],
    cells: Phases | None,
    links: Mapping[str, str],
    version: str,
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
    parts = {
        "phases": lambda: phases_table(phases, links),
        "series": lambda: series_table(outcomes, links),
        "cells": lambda: cells_section(cells) if cells else Safe(""),
    }
    return html.page(
        title=title,
        over="Session",
        lead=lead,
        body=[
            html.facts(counts),
            html.contents(headings),
            *(html.section(name, heading, parts[name]()) for name, heading in headings.items()),
        ],
        footer=f"Made by Ewaldflow {version}. This page needs no network.",
    )


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
        + (outliers if cells.outliers else "")
    )


def _linked(row: Mapping[str, object], column: str, link: str) -> list[object]:
    cells = dict(row)
    if link:
        name = html.escape(cells[column])
        cells[column] = Safe(f'<a href="{html.escape(link)}">{name}</a>')
    return list(cells.values())
