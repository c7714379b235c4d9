"""Figures of the frames themselves: pictures with markers, and what happened along the series."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle
from numpy.typing import NDArray

from ..reduction.result import FrameTable, Lattice, Reduction, Reflections, StrongSpots
from ..series import RotationSeries
from .diffraction import excitation_error_per_A, rocking_width_per_A
from .html import BLUE, GREEN, LATTICE_COLOURS, ORANGE, PURPLE, VERMILION
from .summary import usable

Floats = NDArray[np.float64]

# In all its frames, about.
SPOT_PIXELS = 50


def montage(series: RotationSeries, reduction: Reduction, n: int = 6) -> Figure:
    """`n` frames across the series: predictions circled, strong spots of no lattice in diamonds.

    The circle of a weak reflection is dotted; observed centroids are crossed.
    """
    kept = np.flatnonzero(~reduction.frames.blank)
    if len(kept) == 0:
        kept = np.arange(len(series))
    places = np.unique(kept[np.linspace(0, len(kept) - 1, min(n, len(kept))).round().astype(int)])
    columns = min(3, len(places))
    rows = -(-len(places) // columns)
    height, width = series.shape
    drawing = Figure(figsize=(10, 10 / columns * rows * height / width + 0.4), layout="constrained")
    panels = drawing.subplots(rows, columns, squeeze=False).ravel()
    for panel in panels[len(places) :]:
        panel.set_axis_off()
    for panel, k in zip(panels, places, strict=False):
        _picture(panel, series, int(k))
        for lattice, colour in zip(reduction.lattices, LATTICE_COLOURS, strict=False):
            _marks(panel, lattice, reduction.frames, int(k), colour)
        if reduction.spots is not None:
            _unpredicted(panel, reduction.spots, int(k))
        angle = reduction.frames.angle_deg[k]
        panel.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
        panel.set_title(f"frame {series.frame_number[k]}, {angle:.2f}°", fontsize=9)
        panel.set_xticks([])
        panel.set_yticks([])
    if reduction.lattices:
        _legend(drawing, reduction)
    return drawing


def _picture(panel: Axes, series: RotationSeries, k: int) -> None:
    counts = np.asarray(series.frames[k], float) - series.pedestal
    shown = np.where(series.mask, np.nan, np.sqrt(np.clip(counts, 0, None)))
    # A beam centre or a few strong spots must not swallow the greys.
    top = np.nanpercentile(shown, 99.7) if np.isfinite(shown).any() else 1.0
    step = max(1, max(series.shape) // 1024)
    rows, columns = series.shape
    panel.imshow(
        shown[::step, ::step],
        cmap="gray_r",
        vmin=0,
        vmax=max(float(top), 1.0),
        extent=(-0.5, columns - 0.5, rows - 0.5, -0.5),
        interpolation="none",
    )
    panel.set_facecolor("#e8edf2")


def _marks(panel: Axes, lattice: Lattice, frames: FrameTable, k: int, colour: str) -> None:
    r = lattice.reflections[np.abs(lattice.reflections.frame - k) < 30]
    angle = np.full(len(r), frames.angle_deg[k])
    error = excitation_error_per_A(lattice, r.hkl, angle) / rocking_width_per_A(lattice, r.d_A)
    here = (np.abs(error) < 2) | (np.abs(r.frame - k) <= 0.5)
    strong = here & usable(r) & seen_by_counting(r)
    radius = max(panel.get_xlim()[1], panel.get_ylim()[0]) / 75
    # told apart by their lines, too
    for chosen, line, size in ((here & ~strong, (0, (1, 1.6)), 0.75), (strong, "-", 1.0)):
        rings = [
            Circle((x, y), size * radius)
            for x, y in zip(r.column[chosen], r.row[chosen], strict=True)
        ]
        panel.add_collection(
            PatchCollection(
                rings, facecolor="none", edgecolor=colour, linewidth=0.8, linestyle=line
            )
        )
    panel.plot(
        r.observed_column[strong], r.observed_row[strong], "+", color=BLUE, markersize=3.5, mew=0.7
    )


def seen_by_counting(r: Reflections) -> NDArray[np.bool_]:
    """(n,) True where a spot stands out of its background by three times what counting scatters.

    Not by its sigma: that of a strong reflection tells how equivalents differ, not what is seen.
    """
    electrons = r.intensity * r.lorentz
    noise = np.sqrt(np.maximum(electrons, 0) + SPOT_PIXELS * r.background)
    seen: NDArray[np.bool_] = electrons > 3 * np.where(
        np.isfinite(noise), noise, r.sigma * r.lorentz
    )
    return seen


def _unpredicted(panel: Axes, spots: StrongSpots, k: int) -> None:
    """Diamonds about strong spots that no lattice explains."""
    here = (np.abs(spots.frame - k) <= 1.0) & (spots.lattice == 0)
    panel.plot(
        spots.column[here], spots.row[here], "D", mfc="none", mec=GREEN, ms=8, mew=1.1
    )  # fmt: skip


def _legend(drawing: Figure, reduction: Reduction) -> None:
    panel = drawing.axes[0]
    handles: list[Artist] = []
    for i, colour in enumerate(LATTICE_COLOURS[: len(reduction.lattices)], 1):
        which = f" by lattice {i}" if len(reduction.lattices) > 1 else ""
        for line, size, what in (("-", 80, "strong"), ((0, (1, 1.6)), 50, "weak")):
            handles.append(
                panel.scatter([], [], s=size, facecolors="none", edgecolors=colour,
                              linewidths=0.9, linestyles=[line], label=f"predicted{which}, {what}")
            )  # fmt: skip
    handles.append(Line2D([], [], ls="", marker="+", mec=BLUE, ms=6, label="observed centroid"))
    if reduction.spots is not None:
        handles.append(
            Line2D([], [], ls="", marker="D", mfc="none", mec=GREEN, ms=8,
                   label="strong spot of no lattice")
        )  # fmt: skip
    drawing.legend(
        handles=handles, loc="outside lower center", ncols=min(len(handles), 4), fontsize=9,
        frameon=False,
    )  # fmt: skip


def along_the_series(frames: FrameTable, rms_px: Sequence[tuple[str, Floats]] = ()) -> Figure:
    """Beam position, scale, spots, background of each frame, and how well spots fit there.

    `rms_px`: by name of the lattice, (frames,) r.m.s. of observed about predicted positions.
    """
    known = [(name, rms) for name, rms in rms_px if np.isfinite(rms).any()]
    n = 5 if known else 4
    drawing = Figure(figsize=(10, 1.8 * n), layout="constrained")
    beam, scale, spots, background, *fit = drawing.subplots(n, 1, sharex=True)
    number = frames.frame_number
    lit = ~frames.blank
    for values, colour, name in (
        (frames.beam_row, BLUE, "row"),
        (frames.beam_column, ORANGE, "column"),
    ):
        middle = float(np.nanmedian(values)) if np.isfinite(values).any() else 0.0
        label = f"{name} − {middle:.2f} px"
        beam.plot(number, values - middle, "-", color=colour, lw=1.4, label=label)
    beam.set_ylabel("beam drift / px")
    low, high = beam.get_ylim()
    beam.set_ylim(low, high + 0.3 * (high - low))  # room for the legend
    scale.plot(
        number, frames.profile_ratio, "-", color="#a9b4be", lw=0.9, label="observed / expected"
    )
    scale.plot(number, frames.scale, "-", color=GREEN, lw=1.4, label="scale")
    scale.set_ylabel("relative scale")
    scale.set_ylim(bottom=0)
    # one outline for all: a bar for each of a thousand frames takes seconds
    at = np.repeat(number, 2) + np.tile([-0.5, 0.5], len(number))
    for count, colour, name in (
        (frames.n_spots, "#c9d3dc", "not indexed"),
        (frames.n_indexed, VERMILION, "indexed"),
    ):
        spots.fill_between(at, np.repeat(count, 2), color=colour, lw=0, label=name)
    spots.set_ylabel("strong spots")
    spots.set_ylim(0, 1.3 * max(int(frames.n_spots.max()), 1))
    background.plot(number[lit], frames.background[lit], "-", color=PURPLE, lw=1.2)
    background.set_ylabel("background\n/ counts per px")
    background.set_ylim(bottom=0)
    panels = [beam, scale, spots, background, *fit]
    for (name, rms), colour in zip(known, LATTICE_COLOURS, strict=False):
        fit[0].plot(number, rms, ".", ms=3, color=colour, alpha=0.6)
        fit[0].plot(number, _smooth(rms), "-", lw=1.4, color=colour, label=name)
    if fit:
        fit[0].set_ylabel("r.m.s. obs. − pred.\n/ px")
        fit[0].set_ylim(bottom=0)
        if len(known) > 1:
            fit[0].legend(loc="upper right", fontsize=8, frameon=False, ncols=2)
    panels[-1].set_xlabel("frame number")
    for panel in (beam, scale, spots):
        panel.legend(loc="upper right", fontsize=8, frameon=False, ncols=2)
    for panel in panels:
        tidy(panel)
        for blank in number[frames.blank]:
            panel.axvspan(blank - 0.5, blank + 0.5, color="#000000", alpha=0.06, lw=0)
    drawing.align_ylabels()
    return drawing


def _smooth(values: Floats, half: int = 8) -> Floats:
    """(n,) running median; NaN where nothing is known."""
    padded = np.pad(values, half, constant_values=np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1)
    smooth = np.full(len(values), np.nan)
    known = np.isfinite(windows).any(axis=1)
    smooth[known] = np.nanmedian(windows[known], axis=1)
    return smooth


def tidy(panel: Axes) -> None:
    """The look that all plots share."""
    panel.spines[["top", "right"]].set_visible(False)
    panel.grid(True, color="#e6eaee", lw=0.6)
    panel.set_axisbelow(True)
    panel.tick_params(labelsize=8.5)
