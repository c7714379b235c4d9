"""Figures of a session that grows: how complete its phases are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .frame_figures import tidy
from .phase_figures import PHASE_COLOURS


def completeness_by_series(growth: Mapping[str, Sequence[tuple[int, float]]]) -> Figure:
    """A line for each phase: completeness against the number of series merged.

    Parameters
    ----------
    growth : by name of the phase, (series merged, completeness 0..1) in rising order.
    """
    drawing = Figure(figsize=(10, 3.4), layout="constrained")
    panel = drawing.subplots()
    for number, (name, points) in enumerate(growth.items()):
        series = [n for n, _ in points]
        complete = [100 * c for _, c in points]
        panel.plot(
            series, complete, "-o", ms=5, color=PHASE_COLOURS[number % len(PHASE_COLOURS)],
            label=f"{name}: {complete[-1]:.0f} %" if complete else name,
        )  # fmt: skip
    panel.set(xlabel="series merged", ylabel="completeness / %", ylim=(0, 105), xlim=(0, None))
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    tidy(panel)
    if growth:
        panel.legend(frameon=False, fontsize=9, loc="lower right")
    return drawing
