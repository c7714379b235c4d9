"""Figures of merged data: quality by resolution, where reciprocal space was recorded."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from ..merging.coverage import OrientationCoverage
from ..merging.merging_statistics import MergingStatistics
from .frame_figures import tidy
from .html import BLUE, GREEN, ORANGE, VERMILION


def quality_by_resolution(statistics: MergingStatistics) -> Figure:
    """Completeness, CC1/2, R_meas, R_pim and I/sigma by shell."""
    shells = statistics.shells
    x = [0.5 * (s.d_max_A**-2 + s.d_min_A**-2) for s in shells]
    drawing = Figure(figsize=(10, 3.3), layout="constrained")
    left, middle, right = drawing.subplots(1, 3)
    left.plot(x, [100 * s.completeness for s in shells], "-o", ms=3, color=BLUE)
    left.set(ylim=(0, 105), ylabel="completeness / %")
    middle.plot(x, [s.cc_half for s in shells], "-o", ms=3, color=BLUE, label="CC1/2")
    middle.plot(x, [s.r_meas for s in shells], "--s", ms=3, color=VERMILION, label="R_meas")
    middle.plot(x, [s.r_pim for s in shells], ":^", ms=3, color=ORANGE, label="R_pim")
    middle.set(ylim=(0, 1.05))
    middle.legend(frameon=False, fontsize=9)
    right.semilogy(x, [max(s.i_over_sigma, 1e-2) for s in shells], "-o", ms=3, color=GREEN)
    right.axhline(1, color="#888888", lw=0.7)
    right.set(ylabel="mean I/σ, merged")
    for panel in (left, middle, right):
        ticks = panel.get_xticks()
        shown = [t for t in ticks if 0 < t <= max(x) * 1.05]
        panel.set_xticks(shown, [f"{t**-0.5:.2f}" for t in shown])
        panel.set_xlabel("d / Å")
        tidy(panel)
    return drawing


def coverage_stereogram(coverage: OrientationCoverage) -> Figure:
    """How often directions of reciprocal space were recorded, and the beam's paths."""
    drawing = Figure(figsize=(9, 4.2), layout="constrained")
    left, right = drawing.subplots(1, 2)
    x, y = _stereographic(coverage.directions)
    dots = left.scatter(
        x, y, c=np.minimum(coverage.times, 20), s=7, lw=0, cmap="viridis", rasterized=True
    )
    drawing.colorbar(dots, ax=left, shrink=0.8, label="series (20 or more)")
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
