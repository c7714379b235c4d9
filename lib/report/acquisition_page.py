"""The page of an acquisition session: where was looked, what was taken and why the rest was not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure

from ..phases.phases import Phases
from ..serialred.acquisition import STATUS, Acquisition, CrystalOutcome, Status
from . import html
from .html import BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILION, Safe
from .outcome import PhaseOutcome, SeriesOutcome
from .session_page import cells_section, phases_table

COLOURS: dict[Status, str] = {
    "taken": GREEN,
    "short": ORANGE,
    "refused": BLUE,
    "lost": PURPLE,
    "failed": VERMILION,
    "left": SKY,
}
# shapes too, for those who see no colours
MARKERS: dict[Status, str] = {
    "taken": "o",
    "short": "D",
    "refused": "x",
    "lost": "v",
    "failed": "s",
    "left": "+",
}


def acquisition_page(
    done: Acquisition,
    outcomes: Mapping[str, SeriesOutcome],
    phases: Sequence[PhaseOutcome],
    cells: Phases | None,
    links: Mapping[str, str],
    version: str,
) -> str:
    """The page as HTML text.

    Parameters
    ----------
    done : the session.
    outcomes : what the reduction made of each series, by its name.
    phases : what was merged of them.
    cells : how the cells were sorted; None if there were none.
    links : where each report lies, relative to the page, by its reference.
    version : of the code.
    """
    counts = Counter(one.status for one in done.crystals)
    reduced = [one for one in outcomes.values() if one.headline and one.headline.n_lattices]
    large = {
        "Views": len(done.views),
        "Particles": len(done.crystals),
        "Series": len(done.taken),
        "Whole range": counts["taken"],
        "Indexed": len(reduced),
        "Phases": len(phases),
        "Instrument time": _hours(done.duration_s),
    }
    headings = {"phases": "Phases"} if phases else {}
    headings |= {"map": "The grid", "series": "Series", "ranges": "Ranges", "rest": "Not taken"}
    headings |= {"cells": "Cells"} if cells and cells.records else {}
    merged = html.section("phases", "Phases", phases_table(phases, links)) if phases else Safe("")
    sorted_cells = (
        html.section("cells", "Cells", cells_section(cells))
        if (cells and cells.records)
        else Safe("")
    )
    return html.page(
        title=done.session,
        over=f"Acquisition on {done.instrument}",
        lead=f"{len(done.taken)} series from {len(done.crystals)} particles. {done.ended}",
        body=[
            html.facts(large),
            html.contents(headings),
            merged,
            html.section(
                "map",
                "The grid",
                html.figure(
                    grid_map(done),
                    "map of the grid with views and particles",
                    "Fields of view and the particles found, in stage coordinates. "
                    + " ".join(f"{s}: {text}." for s, text in STATUS.items() if counts[s]),
                ),
            ),
            html.section("series", "Series", _series(done, outcomes, links)),
            html.section(
                "ranges",
                "Ranges",
                html.figure(
                    ranges(done),
                    "collected range of each series",
                    "Goniometer angles collected of each series, in the order taken.",
                ),
            ),
            html.section("rest", "Not taken", _rest(done)),
            sorted_cells,
        ],
        footer=f"Made by Ewaldflow {version}. This page needs no network.",
    )


def grid_map(done: Acquisition) -> Figure:
    """Views as outlines and particles as marks, in stage coordinates."""
    drawing = Figure(figsize=(9.5, 7.5), layout="constrained")
    axes = drawing.subplots()
    axes.add_collection(
        PolyCollection(
            [np.array(view.corners_um) for view in done.views],
            facecolor="#f4f6f8",
            edgecolor="#b8c4cf",
            linewidth=0.6,
        )
    )
    for status, colour in COLOURS.items():
        here = [one for one in done.crystals if one.status == status]
        if here:
            axes.scatter(
                [one.x_um for one in here],
                [one.y_um for one in here],
                s=[14 + 18 * min(one.area_um2, 4.0) for one in here],
                marker=MARKERS[status],
                facecolor="none" if MARKERS[status] not in "x+" else colour,
                edgecolor=None if MARKERS[status] in "x+" else colour,
                label=f"{status} ({len(here)})",
                linewidth=1.2,
            )
    for one in done.taken:
        axes.annotate(
            str(one.number),
            (one.x_um, one.y_um),
            xytext=(5, 4),
            textcoords="offset points",
            fontsize=8,
        )
    axes.autoscale_view()
    axes.set(xlabel="stage x / µm", ylabel="stage y / µm", aspect="equal")
    if done.crystals:
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False)
    return drawing


def ranges(done: Acquisition) -> Figure:
    """A bar per series from its first to its last angle."""
    series = done.taken
    drawing = Figure(figsize=(9.5, 1.2 + 0.24 * max(len(series), 1)), layout="constrained")
    axes = drawing.subplots()
    for k, one in enumerate(series):
        low, high = sorted((one.alpha_start_deg or 0.0, one.alpha_end_deg or 0.0))
        axes.barh(k, high - low, left=low, color=COLOURS[one.status], height=0.65)
    axes.set_yticks(range(len(series)), [one.name for one in series], fontsize=8)
    axes.invert_yaxis()
    axes.set(xlabel="alpha / °")
    return drawing


def _series(
    done: Acquisition,
    outcomes: Mapping[str, SeriesOutcome],
    links: Mapping[str, str],
) -> Safe:
    if not done.taken:
        return html.paragraph("No series was taken.", warn=True)
    rows = []
    for one in done.taken:
        outcome = outcomes.get(one.name)
        head = outcome.headline if outcome else None
        link = links.get(outcome.report, "") if outcome else ""
        name = html.escape(one.name)
        rows.append(
            [
                Safe(f'<a href="{html.escape(link)}">{name}</a>') if link else name,
                outcome.phase if outcome else "",
                f"{one.range_deg:.1f}",
                one.n_frames,
                "" if one.quality is None else f"{one.quality:.2f}",
                "" if one.height_um is None else f"{one.height_um:+.2f}",
                f"{one.beam_s:.0f}" if one.dose_e_per_A2 is None else f"{one.dose_e_per_A2:.2f}",
                head.lattice if head else "",
                head.cell if head else "",
                f"{head.indexed_percent:.0f}" if head and head.n_lattices else "",
                ((outcome.reason or outcome.left) if outcome else "") or one.reason,
            ]
        )
    dose = "dose / e Å⁻²" if done.taken[0].dose_e_per_A2 is not None else "beam / s"
    return html.table(
        [
            *("series", "phase", "range / °", "frames", "quality", "height / µm", dose),
            *("lattice", "cell", "indexed / %", "remark"),
        ],
        rows,
        numeric=(2, 3, 4, 5, 6, 9),
        row_classes=["" if one.status == "taken" else "failed" for one in done.taken],
        caption="Quality is the lattice-likeness of the snapshot, 0 to 1; height the change of z.",
    )


def _rest(done: Acquisition) -> Safe:
    rest = [one for one in done.crystals if not one.folder]
    if not rest:
        return html.paragraph("Every particle was taken.")
    reasons = Counter((one.status, _kind(one)) for one in rest)
    summary = html.table(
        ["status", "reason", "particles"],
        [(status, kind, n) for (status, kind), n in reasons.most_common()],
        numeric=(2,),
    )
    each = html.table(
        ["particle", "x / µm", "y / µm", "area / µm²", "status", "reason"],
        [
            (o.number, f"{o.x_um:.2f}", f"{o.y_um:.2f}", f"{o.area_um2:.2f}", o.status, o.reason)
            for o in rest
        ],
        numeric=(0, 1, 2, 3),
    )
    return Safe(summary + html.details("each of them", each))


def _kind(one: CrystalOutcome) -> str:
    """A reason without its numbers, to count by: what stands before the colon."""
    return one.reason.partition(":")[0]


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 5400 else f"{seconds / 60:.0f} min"
