"""Figures of the phases of a session: the dendrogram of cells and histograms of them."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy.cluster.hierarchy import dendrogram as scipy_dendrogram

from ..crystal.cell import Floats
from ..phases.phases import Phase, Phases
from .frame_figures import tidy
from .html import BLUE, GREEN, ORANGE, PURPLE, VERMILION

PHASE_COLOURS = (BLUE, VERMILION, GREEN, ORANGE, PURPLE)
OUTLIER = "#9aa5b1"
_MARKS = ("o", "s", "^", "D", "v")

# Names of more series than this cannot be read.
MOST_NAMES = 80


def colour_of(phases: Phases) -> dict[str, str]:
    """The colour of every series, grey for outliers; after five phases they come again."""
    colours = {record.name: OUTLIER for record in phases.records}
    for k, phase in enumerate(phases.phases):
        colours.update(dict.fromkeys(phase.names, PHASE_COLOURS[k % len(PHASE_COLOURS)]))
    return colours


def cell_dendrogram(phases: Phases) -> Figure:
    """The tree of cells with the cut, branches in the colours of their phases."""
    n = len(phases.records)
    drawing = Figure(figsize=(10, 4.2), layout="constrained")
    panel = drawing.subplots()
    strain = phases.metric == "lattice"
    factor = 100.0 if strain else 1.0
    tidy(panel)
    panel.set_ylabel("distance / % of strain" if strain else "distance / Å and degrees")
    if n < 2:
        panel.text(0.5, 0.5, "fewer than two cells", ha="center", transform=panel.transAxes)
        panel.set_xticks([])
        return drawing
    colours = colour_of(phases)
    names = [record.name for record in phases.records]
    below: dict[int, set[str]] = {i: {colours[name]} for i, name in enumerate(names)}
    for k, (i, j) in enumerate(phases.tree[:, :2].astype(int)):
        below[n + k] = below[i] | below[j]
    plan = scipy_dendrogram(
        _scaled(phases.tree, factor), no_plot=True, labels=names,
        link_color_func=lambda k: next(iter(below[k])) if len(below[k]) == 1 else "#4a5560",
    )  # fmt: skip
    for x, y, colour in zip(plan["icoord"], plan["dcoord"], plan["color_list"], strict=True):
        panel.plot(x, y, color=colour, lw=1.3)
    panel.axhline(factor * phases.cut, color="#222222", lw=0.9, ls="--")
    panel.text(
        10 * n, factor * phases.cut, f" cut {factor * phases.cut:.3g}", ha="right", va="bottom",
        fontsize=8.5,
    )  # fmt: skip
    panel.set(xlim=(0, 10 * n), ylim=(0, None))
    if n <= MOST_NAMES:
        panel.set_xticks(
            10 * np.arange(n) + 5, labels=plan["ivl"], rotation=90, fontsize=8 if n <= 45 else 6
        )
        for tick in panel.get_xticklabels():
            tick.set_color(colours[tick.get_text()])
    else:
        panel.set_xticks([])
        panel.set_xlabel(f"{n} series")
    return drawing


def cell_histograms(phases: Phases, bins: int = 60) -> Figure:
    """Parameters of all reduced cells, stacked by phase (thesis, Figure 19)."""
    drawing = Figure(figsize=(10, 5.0), layout="constrained")
    panels = drawing.subplots(2, 3).ravel()
    groups = [([m.niggli for m in p.members], c) for p, c in _coloured(phases)]
    left = [o.record.niggli for o in phases.outliers]
    if left:
        groups.append((left, OUTLIER))
    for k, (panel, name) in enumerate(zip(panels, ("a", "b", "c", "α", "β", "γ"), strict=True)):
        values = [np.array([cell[k] for cell in cells]) for cells, _ in groups]
        if values:
            every = np.concatenate(values)
            # A bin is no finer than cells are measured.
            least = 0.1 if k < 3 else 0.5
            low, high = float(every.min()) - least, float(every.max()) + least
            number = int(np.clip(np.ceil((high - low) / least), 3, bins))
            panel.hist(
                values, bins=number, range=(low, high), stacked=True,
                color=[colour for _, colour in groups],
            )  # fmt: skip
        panel.yaxis.get_major_locator().set_params(integer=True)
        panel.set_xlabel(f"{name} / {'Å' if k < 3 else '°'} (reduced cell)")
        tidy(panel)
    panels[0].set_ylabel("series")
    panels[3].set_ylabel("series")
    entries = [f"{p.name} ({len(p.members)})" for p in phases.phases]
    entries += [f"outliers ({len(left)})"] if left else []
    for entry, (_, colour) in zip(entries, groups, strict=True):
        panels[2].bar([np.nan], [0], color=colour, label=entry)
    if entries:
        panels[2].legend(frameon=False, fontsize=8)
    return drawing


def cell_scatter(phases: Phases) -> Figure:
    """Every parameter of the reduced cells against every other: a phase is a cloud.

    Phases differ in colour and in the shape of their marks.
    """
    drawing = Figure(figsize=(10, 9.4), layout="constrained")
    panels = drawing.subplots(5, 5, sharex="col", sharey="row")
    groups = [
        (np.array([m.niggli for m in phase.members]), colour, _MARKS[k % len(_MARKS)],
         f"{phase.name} ({len(phase.members)})")
        for k, (phase, colour) in enumerate(_coloured(phases))
    ]  # fmt: skip
    if phases.outliers:
        left = np.array([o.record.niggli for o in phases.outliers])
        groups.append((left, OUTLIER, "x", f"outliers ({len(left)})"))
    names = [f"{name} / {'Å' if k < 3 else '°'}" for k, name in enumerate("abcαβγ")]
    for row, column in np.ndindex(5, 5):
        panel = panels[row, column]
        if column > row:
            panel.set_axis_off()
            continue
        tidy(panel)
        panel.tick_params(labelsize=7.5)
        for cells, colour, mark, _ in groups:
            panel.plot(
                cells[:, column], cells[:, row + 1], mark, ms=4, mew=0.8, mfc="none", mec=colour
            )
        # angles that do not differ beyond what is measured are no spread
        for axis, k in ((panel.xaxis, column), (panel.yaxis, row + 1)):
            low, high = axis.get_view_interval()
            least = 0.1 if k < 3 else 0.5
            if high - low < least:
                axis.set_view_interval((low + high - least) / 2, (low + high + least) / 2, True)
            axis.get_major_locator().set_params(nbins=4)
        if row == 4:
            panel.set_xlabel(names[column])
        if column == 0:
            panel.set_ylabel(names[row + 1])
    drawing.align_ylabels()
    handles = [
        Line2D([], [], ls="", marker=mark, mfc="none", mec=colour, label=entry)
        for _, colour, mark, entry in groups
    ]
    if handles:
        panels[0, 2].legend(handles=handles, loc="upper left", frameon=False, fontsize=10)
    return drawing


def _coloured(phases: Phases) -> list[tuple[Phase, str]]:
    return [(p, PHASE_COLOURS[k % len(PHASE_COLOURS)]) for k, p in enumerate(phases.phases)]


def _scaled(tree: Floats, factor: float) -> Floats:
    scaled = tree.copy()
    scaled[:, 2] *= factor
    return scaled
