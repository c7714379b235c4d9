"""Figures of merged data: quality by resolution, where reciprocal space was recorded."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..merging.coverage import OrientationCoverage
from ..merging.merging_statistics import MergingStatistics
from .frame_figures import tidy
from .html import BLUE, GREEN, ORANGE, PURPLE, VERMILION


def quality_by_resolution(statistics: MergingStatistics) -> Figure:
    """Completeness, multiplicity, CC1/2, R_meas, R_pim and I/sigma by shell."""
    shells = statistics.shells
    x = [0.5 * (s.d_max_A**-2 + s.d_min_A**-2) for s in shells]
    drawing = Figure(figsize=(10, 6.0), layout="constrained")
    complete, agree, times, strength = drawing.subplots(2, 2).ravel()
    complete.plot(x, [100 * s.completeness for s in shells], "-o", ms=3, color=BLUE)
    complete.set(ylim=(0, 105), ylabel="completeness / %")
    times.plot(x, [s.multiplicity for s in shells], "-o", ms=3, color=PURPLE)
    times.set(ylim=(0, None), ylabel="multiplicity")
    agree.plot(x, [s.cc_half for s in shells], "-o", ms=3, color=BLUE, label="CC1/2")
    agree.plot(x, [s.r_meas for s in shells], "--s", ms=3, color=VERMILION, label="R_meas")
    agree.plot(x, [s.r_pim for s in shells], ":^", ms=3, color=ORANGE, label="R_pim")
    agree.set(ylim=(0, 1.05), ylabel="CC1/2, R")
    agree.legend(frameon=False, fontsize=9)
    strength.semilogy(x, [max(s.i_over_sigma, 1e-2) for s in shells], "-o", ms=3, color=GREEN)
    strength.axhline(1, color="#888888", lw=0.7)
    strength.set(ylabel="mean I/σ, merged")
    for panel in (complete, agree, times, strength):
        ticks = panel.get_xticks()
        shown = [t for t in ticks if 0 < t <= max(x) * 1.05]
        panel.set_xticks(shown, [f"{t**-0.5:.2f}" for t in shown])
        panel.set_xlabel("d / Å (even in 1/d²)")
        tidy(panel)
    return drawing


def coverage_stereogram(coverage: OrientationCoverage) -> Figure:
    """How often directions of reciprocal space were recorded, and the beam's paths."""
    drawing = Figure(figsize=(9, 4.2), layout="constrained")
    left, right = drawing.subplots(1, 2)
    x, y = _stereographic(coverage.directions)
    most = int(coverage.times.max(initial=0))
    met = coverage.times > 0
    left.scatter(
        x[~met], y[~met], s=9, lw=0.5, marker="x", color="#8a949e", rasterized=True,
        label="never recorded",
    )  # fmt: skip
    dots = left.scatter(
        x[met], y[met], c=np.minimum(coverage.times[met], 20), s=9, lw=0, cmap="viridis", vmin=1,
        vmax=min(max(most, 2), 20), rasterized=True,
    )  # fmt: skip
    bar = drawing.colorbar(dots, ax=left, shrink=0.8, label="series", location="left")
    bar.locator = MaxNLocator(integer=True)
    bar.update_ticks()
    if most > 20:
        bar.set_label("series (20: or more)")
    if not met.all():
        left.legend(loc="lower left", bbox_to_anchor=(-0.05, -0.1), frameon=False, fontsize=8.5)
    left.set_title(f"reciprocal space at {coverage.d_A:.2f} Å", fontsize=10)
    for beam in coverage.beam:
        if len(beam):
            bx, by = _stereographic(beam)
            right.plot(bx, by, ".", ms=1.5, color=BLUE, alpha=0.6)
    right.set_title("beam in the crystals", fontsize=10)
    turn = np.linspace(0, 2 * np.pi, 200)
    for panel in (left, right):
        panel.plot(np.cos(turn), np.sin(turn), color="#888888", lw=0.8)
        panel.set(aspect="equal", xlim=(-1.08, 1.08), ylim=(-1.08, 1.08))
        panel.set_axis_off()
        panel.text(1.0, -0.04, "a", ha="left", va="top")
        panel.text(0.0, 0.0, "c*", ha="center", va="center", color="#555555")
    return drawing


def _stereographic(directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Projection from the south pole; directions below the equator by their opposite."""
    up = directions * np.where(directions[:, 2:] < 0, -1.0, 1.0)
    return up[:, 0] / (1 + up[:, 2]), up[:, 1] / (1 + up[:, 2])
