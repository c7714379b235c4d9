"""Figures of sections of reciprocal space: hk0 and its like, with rings and lattice points."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, Patch
from numpy.typing import NDArray
from scipy.spatial import KDTree

from ..reduction.sections import Section, plane_of
from .html import BLUE, VERMILION

Floats = NDArray[np.float64]

_RINGS_A = (5.0, 3.0, 2.0, 1.5, 1.2, 1.0, 0.8, 0.7, 0.6, 0.5, 0.4)
_NOT_RECORDED = "#e3eaf0"
# Rings closer together than this, in parts of the reach, would hide what they measure.
_LEAST_APART = 0.17


# Width of a panel, about.
_PANEL_POINTS = 72 * 4.4


def section_figure(sections: Sequence[Section]) -> Figure:
    """The sections, two in a row, without their radial background; dark is strong.

    Lattice points are ringed in the right half only, so that the left shows what is there.
    """
    across = min(2, len(sections))
    down = -(-len(sections) // across)
    drawing = Figure(figsize=(10, 10 / across * down), layout="constrained")
    panels = drawing.subplots(down, across, squeeze=False).ravel()
    for panel, section in zip(panels, sections, strict=False):
        _draw(panel, section)
    for panel in panels[len(sections) :]:
        panel.set_axis_off()
        panel.legend(
            handles=[
                Line2D([], [], ls="", marker="o", mfc="none", mec=VERMILION, ms=6, mew=0.6,
                       label="points of the lattice (right half only)"),
                Line2D([], [], color=BLUE, lw=0.8, ls=(0, (4, 3)), label="resolution"),
                Patch(fc=_NOT_RECORDED, label="not recorded"),
            ],
            loc="center left", frameon=False, fontsize=10,
        )  # fmt: skip
    return drawing


def _draw(panel: Axes, section: Section) -> None:
    reach = section.reach_per_A
    edge = reach + 0.5 * section.step_per_A
    shown = np.sqrt(np.clip(above_radial_median(section), 0, None))
    recorded = np.isfinite(shown)
    top = float(np.percentile(shown[recorded], 99.7)) if recorded.any() else 1.0
    panel.set_facecolor(_NOT_RECORDED)
    panel.imshow(
        shown, cmap="gray_r", vmin=0, vmax=max(top, 1e-6), extent=(-edge, edge, -edge, edge),
        interpolation="nearest",
    )  # fmt: skip
    for d_A in rings(reach):
        radius = np.sqrt(max(d_A**-2 - section.height_per_A**2, 0.0))
        panel.add_patch(Circle((0, 0), radius, fill=False, ec=BLUE, lw=0.6, ls=(0, (4, 3))))
        panel.text(
            -0.7071 * radius, 0.7071 * radius, f"{d_A:g} Å", fontsize=7, color=BLUE, ha="center",
            va="center", bbox={"fc": "white", "ec": "none", "pad": 0.6, "alpha": 0.75},
        )  # fmt: skip
    at = section.place(section.reflections())
    row, column = np.rint(at).astype(int).T
    middle = section.image.shape[0] // 2
    there = recorded[row, column] & (column > middle)
    right, up = (at[there, 1] - middle, middle - at[there, 0])
    panel.plot(
        right * section.step_per_A, up * section.step_per_A, "o", mfc="none", mec=VERMILION,
        ms=_mark_points(at[there], section.image.shape[0]), mew=0.5,
    )  # fmt: skip
    _axes(panel, section)
    panel.set(xlim=(-edge, edge), ylim=(-edge, edge), aspect="equal")
    panel.set_title(section.name, fontsize=11)
    panel.set_xlabel("1/Å")
    panel.set_ylabel("1/Å")
    panel.tick_params(labelsize=7.5)


def _mark_points(at: Floats, n: int) -> float:
    """Diameter of a mark, in points: most of the way to the next of `n` px, but not too large."""
    if len(at) < 2:
        return 6.0
    nearest = float(np.median(KDTree(at).query(at, k=2)[0][:, 1]))
    return float(np.clip(0.6 * nearest / n * _PANEL_POINTS, 1.5, 9.0))


def _axes(panel: Axes, section: Section) -> None:
    """The two reciprocal axes, from the origin outwards."""
    fixed, _ = plane_of(section.name)
    for index in (i for i in range(3) if i != fixed):
        x, y = section.star[:2, index] * 0.84 * section.reach_per_A / np.hypot(
            *section.star[:2, index]
        )  # fmt: skip
        panel.annotate(
            "", (x, y), (0, 0), arrowprops={"arrowstyle": "->", "color": "#222222", "lw": 0.8}
        )
        panel.text(
            1.06 * x, 1.06 * y, f"{'abc'[index]}*", ha="center", va="center", weight="bold",
            fontsize=9,
        )  # fmt: skip


def rings(reach_per_A: float) -> tuple[float, ...]:
    """Resolutions in Å of rings that are drawn up to a reach."""
    chosen: list[float] = []
    last = 0.0
    for d_A in _RINGS_A:
        if 1 / d_A <= 1.2 * reach_per_A and 1 / d_A - last >= _LEAST_APART * reach_per_A:
            chosen.append(d_A)
            last = 1 / d_A
    return tuple(chosen)


def above_radial_median(section: Section) -> Floats:
    """The image less its median at the same distance from the origin; NaN stays."""
    n = section.image.shape[0]
    offset = np.arange(n) - n // 2
    radius = np.hypot(offset[:, None], offset[None, :]).astype(int)
    recorded = np.isfinite(section.image)
    order = np.argsort(radius[recorded], kind="stable")
    values, at = section.image[recorded][order], radius[recorded][order]
    starts = np.flatnonzero(np.diff(at, prepend=-1))
    median = np.zeros(radius.max() + 1)
    for group, first in zip(np.split(values, starts[1:]), starts, strict=True):
        if len(group):
            median[at[first]] = np.median(group)
    result: Floats = section.image - median[radius]
    return result
