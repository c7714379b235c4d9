"""Figures of one lattice: reciprocal space, residuals, rocking curve and intensities."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ..crystal.cell import reciprocal_basis
from ..reduction.result import FrameTable, Lattice
from .diffraction import (
    RockingCurve,
    RockingCurves,
    at_frame,
    excitation_error_per_A,
    observed_in_crystal,
    rocking_width_per_A,
)
from .frame_figures import tidy
from .html import BLUE, ORANGE, VERMILION
from .summary import Shells

Floats = NDArray[np.float64]


def reciprocal_projections(
    lattice: Lattice, frames: FrameTable, chosen: NDArray[np.int64]
) -> Figure:
    """Observed reflections seen along a*, b* and c*; shade is I/sigma."""
    q = observed_in_crystal(lattice, frames, chosen)
    r = lattice.reflections[chosen]
    star = reciprocal_basis(lattice.cell)
    shade = np.log10(np.clip(r.intensity / r.sigma, 1, 100))
    reach = 1.05 * float(np.abs(q).max()) if len(q) else 1.0
    drawing = Figure(figsize=(10, 3.7), layout="constrained")
    panels = drawing.subplots(1, 3)
    dots = None
    for i, (panel, along) in enumerate(zip(panels, "abc", strict=True)):
        # Across the page the next reciprocal axis, as far as it is normal to the view.
        j, k = (i + 1) % 3, (i + 2) % 3
        view = star[:, i] / np.linalg.norm(star[:, i])
        right = star[:, j] - (star[:, j] @ view) * view
        right /= np.linalg.norm(right)
        up = np.cross(view, right)
        dots = panel.scatter(
            q @ right, q @ up, c=shade, s=2.2, lw=0, cmap="viridis_r", vmin=0, vmax=2,
            rasterized=True,
        )  # fmt: skip
        for axis, colour in ((j, VERMILION), (k, BLUE)):
            x, y = star[:, axis] @ right, star[:, axis] @ up
            stretch = 0.5 * reach / np.hypot(x, y)
            panel.plot([0, x * stretch], [0, y * stretch], color=colour, lw=1.1)
            panel.text(
                1.1 * x * stretch, 1.1 * y * stretch, f"{'abc'[axis]}*", color=colour,
                ha="center", va="center", weight="bold",
            )  # fmt: skip
        panel.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
        panel.set_title(f"along {along}*", fontsize=10)
        panel.set_xlabel("1/Å")
        tidy(panel)
    if dots is not None:
        bar = drawing.colorbar(dots, ax=panels, shrink=0.8, aspect=24, pad=0.01)
        bar.set_ticks([0, 1, 2], labels=["1", "10", "≥ 100"])
        bar.set_label("I / σ")
    return drawing


def residuals(lattice: Lattice, chosen: NDArray[np.int64]) -> Figure:
    """Observed minus predicted position: on the detector, against resolution, along the series."""
    r = lattice.reflections[chosen]
    down, right = r.observed_row - r.row, r.observed_column - r.column
    drawing = Figure(figsize=(10, 3.4), layout="constrained")
    cloud, resolution, series = drawing.subplots(1, 3)
    reach = 1.2 * max(float(np.percentile(np.hypot(down, right), 98)), 0.2) if len(r) else 1.0
    cloud.scatter(right, down, s=3, lw=0, color=BLUE, alpha=0.35, rasterized=True)
    cloud.axhline(0, color="#888888", lw=0.7)
    cloud.axvline(0, color="#888888", lw=0.7)
    cloud.set(xlim=(-reach, reach), ylim=(reach, -reach), aspect="equal")
    cloud.set(xlabel="column, obs. − pred. / px", ylabel="row, obs. − pred. / px")
    cloud.set_title(f"r.m.s. {lattice.rms_px:.2f} px", fontsize=10)
    x, y = _running_median(1 / r.d_A, np.hypot(down, right))
    resolution.plot(x, y, "-", color=BLUE, lw=1.3)
    resolution.set_ylim(bottom=0)
    resolution.set(xlabel="1/d / Å⁻¹", ylabel="median distance / px")
    for values, colour, name in ((down, BLUE, "row"), (right, ORANGE, "column")):
        x, y = _running_median(r.frame, values)
        series.plot(x, y, "-", color=colour, lw=1.3, label=name)
    series.set_ylim(-reach / 2, reach / 2)
    series.axhline(0, color="#888888", lw=0.7)
    series.set(xlabel="frame position in the series", ylabel="median residual / px")
    series.legend(frameon=False, fontsize=8, loc="upper right")
    for panel in (cloud, resolution, series):
        tidy(panel)
    return drawing


def _running_median(x: Floats, y: Floats, n: int = 40) -> tuple[Floats, Floats]:
    if len(x) == 0:
        return x, y
    order = np.argsort(x)
    parts = np.array_split(order, max(1, min(n, len(x) // 10)))
    middles = np.array([[np.median(x[part]), np.median(y[part])] for part in parts])
    return middles[:, 0], middles[:, 1]


def rocking(curve: RockingCurve) -> Figure:
    """The mean rocking curve with the Gaussian fitted, and residuals in rotation angle."""
    drawing = Figure(figsize=(10, 3.4), layout="constrained")
    panel, turn = drawing.subplots(1, 2)
    x = np.linspace(-4, 4, 201)
    panel.plot(x, np.exp(-0.5 * x**2) / np.sqrt(2 * np.pi), color=VERMILION, lw=1.5, label="model")
    panel.errorbar(
        curve.x, curve.mean, curve.spread, fmt="o", ms=3.5, lw=1, color=BLUE,
        label=f"mean of {curve.n_reflections}",
    )  # fmt: skip
    panel.set(xlabel="excitation error / fitted standard deviation", ylabel="normalised intensity")
    panel.legend(frameon=False, fontsize=8, loc="upper right")
    found = curve.turn_deg
    limit = 1.1 * max(float(np.percentile(np.abs(found), 98)), 1e-3) if len(found) else 1.0
    turn.hist(np.clip(found, -limit, limit), bins=41, range=(-limit, limit), color="#8fb8d4")
    turn.set(xlabel="rotation, obs. − pred. / °", ylabel="reflections")
    if len(found):
        robust = 1.4826 * float(np.median(np.abs(found)))
        turn.set_title(f"r.m.s. (robust) {robust:.3f}°", fontsize=10)
    for one in (panel, turn):
        tidy(one)
    return drawing


def rocking_examples(
    lattice: Lattice, frames: FrameTable, curves: RockingCurves, shown: NDArray[np.int64]
) -> Figure:
    """Single rocking curves (`shown` of `curves`) against rotation, with the model's Gaussian."""
    across = min(4, max(len(shown), 1))
    down = -(-len(shown) // across)
    drawing = Figure(figsize=(10, 1.9 * down + 0.5), layout="constrained")
    panels = drawing.subplots(down, across, squeeze=False).ravel()
    for panel in panels[len(shown) :]:
        panel.set_axis_off()
    for panel, j in zip(panels, shown, strict=False):
        r = lattice.reflections[curves.chosen[j : j + 1]]
        read = curves.read[:, j]
        turn, seen = curves.turn_deg[read, j], curves.electrons[read, j]
        reach = 1.05 * max(float(np.abs(turn).max()), 1e-3)
        fine = np.linspace(-reach, reach, 121)
        angle = float(at_frame(frames.angle_deg, r.frame)[0])
        x = excitation_error_per_A(lattice, np.repeat(r.hkl, len(fine), axis=0), angle + fine)
        curve = np.exp(-0.5 * (x / rocking_width_per_A(lattice, r.d_A)) ** 2)
        expected = np.exp(-0.5 * curves.x[read, j] ** 2)
        height = max(float(seen @ expected / (expected @ expected)), 0.0)
        panel.plot(fine, height * curve, color=VERMILION, lw=1.4)
        panel.plot(turn, seen, "o", ms=3, color=BLUE)
        panel.axhline(0, color="#888888", lw=0.6)
        h, k, l = (f"{v}".replace("-", "−") for v in r.hkl[0])  # noqa: E741
        panel.set_title(
            f"{h} {k} {l}   {r.d_A[0]:.2f} Å   I/σ {(r.intensity / r.sigma)[0]:.0f}", fontsize=8.5
        )
        panel.set_xlim(-reach, reach)
        tidy(panel)
        panel.tick_params(labelsize=7.5)
    drawing.supxlabel("rotation from the predicted angle / °", fontsize=9.5)
    drawing.supylabel("electrons above background", fontsize=9.5)
    return drawing


def intensities(shells: Shells) -> Figure:
    """I/sigma and number against resolution, and a Wilson-like plot."""
    drawing = Figure(figsize=(10, 3.4), layout="constrained")
    quality, wilson = drawing.subplots(1, 2)
    x = shells.d_A**-2
    width = np.diff(np.stack([shells.d_max_A, shells.d_min_A]) ** -2, axis=0)[0]
    count = quality.twinx()
    count.bar(x, shells.count, width=0.92 * width, color="#dfe6ec")
    count.set_ylabel("reflections", color="#6b7885")
    count.tick_params(labelsize=8.5, colors="#6b7885")
    count.spines[["top", "left"]].set_visible(False)
    quality.set_zorder(count.get_zorder() + 1)
    quality.patch.set_visible(False)
    quality.plot(x, shells.i_over_sigma, "o-", color=BLUE, ms=4, lw=1.4)
    quality.axhline(1, color=VERMILION, lw=0.9, ls="--")
    quality.set_ylim(bottom=0)
    quality.set_ylabel("mean I / σ", color=BLUE)
    positive = shells.mean_intensity > 0
    wilson.plot(
        x[positive], np.log(shells.mean_intensity[positive]), "o-", color=BLUE, ms=4, lw=1.4
    )
    wilson.set_ylabel("ln (mean I)")
    for panel in (quality, wilson):
        tidy(panel)
        panel.set_xlabel("resolution d / Å (even in 1/d²)")
        low, high = panel.get_xlim()
        ticks = np.linspace(max(low, x.min()) if len(x) else 0.1, high, 6)
        panel.set_xticks(ticks, labels=[f"{t**-0.5:.2f}" for t in ticks])
    return drawing
