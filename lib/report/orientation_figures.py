"""Figures of frame orientations and of the goniometer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..crystal.cell import Floats
from ..orientation.goniometer import GoniometerStudy
from ..orientation.hand_over import principal_errors, zone_axes
from ..orientation.lomb_scargle import Periodogram
from ..orientation.series import OrientedLattice
from .frame_figures import tidy
from .html import BLUE, GREEN, LATTICE_COLOURS, ORANGE, PURPLE, VERMILION

GREY = "#8a949e"


def deviations(lattice: OrientedLattice) -> Figure:
    """How each frame is off the smooth rotation, along and perpendicular to it."""
    found, angle = lattice.found, lattice.angle_deg
    drawing = Figure(figsize=(10, 5.2), layout="constrained")
    panels = drawing.subplots(2, 1, sharex=True)
    sd = np.sqrt(np.maximum(found.covariance_unshrunk_deg2[:, [0, 1], [0, 1]], 0))
    for k, (panel, name) in enumerate(zip(panels, ("along", "out of plane"), strict=True)):
        panel.errorbar(
            angle, found.small_unshrunk_deg[:, k], sd[:, k], fmt=".", ms=3, lw=0.6, color=GREY,
            ecolor="#cfd6dc", label="each frame alone",
        )  # fmt: skip
        panel.plot(angle, found.small_deg[:, k], "-", lw=1.3, color=BLUE, label="with prior")
        _shade_flagged(panel, lattice)
        _robust_limits(panel, found.small_unshrunk_deg[:, k])
        panel.set_ylabel(f"{name} / °")
        tidy(panel)
    panels[0].legend(frameon=False, fontsize=8.5, ncols=2)
    panels[1].set_xlabel("goniometer angle as read out / °")
    return drawing


def frame_quality(lattice: OrientedLattice) -> Figure:
    """Errors, rotation about the beam, scale and spots of each frame."""
    found, angle = lattice.found, lattice.angle_deg
    drawing = Figure(figsize=(10, 7.4), layout="constrained")
    errors, turn, scale, spots = drawing.subplots(4, 1, sharex=True)
    sd, _ = principal_errors(found.covariance_deg2)
    alone, _ = principal_errors(found.covariance_unshrunk_deg2)
    errors.semilogy(angle, alone[:, 0], ":", lw=1.1, color=VERMILION, label="worst, frame alone")
    errors.semilogy(angle, sd[:, 0], "-", lw=1.3, color=VERMILION, label="worst direction")
    errors.semilogy(angle, sd[:, 1], "--", lw=1.3, color=BLUE, label="best direction")
    errors.set_ylabel("error / °")
    errors.legend(frameon=False, fontsize=8.5, ncols=3)
    turn.errorbar(
        angle, found.about_beam_deg, found.about_beam_sd_deg, fmt=".", ms=3, lw=0.6, color=PURPLE,
        ecolor="#e6d3df",
    )  # fmt: skip
    _robust_limits(turn, found.about_beam_deg)
    turn.set_ylabel("about the beam / °")
    scale.plot(angle, found.frame_scale, "-", lw=1.2, color=GREEN)
    scale.set(ylabel="relative scale", ylim=(0, None))
    spots.bar(angle, found.n_spots, width=_width(angle), color=ORANGE)
    spots.set(ylabel="spots", xlabel="goniometer angle as read out / °")
    for panel in (errors, turn, scale, spots):
        _shade_flagged(panel, lattice)
        tidy(panel)
    drawing.align_ylabels()
    return drawing


def beam_path(lattice: OrientedLattice) -> Figure:
    """Where the beam's direction [uvw] runs over the crystal, in stereographic projection."""
    drawing = Figure(figsize=(4.6, 4.4), layout="constrained")
    panel = drawing.subplots()
    uvw = zone_axes(lattice.found, lattice.reciprocal_basis)
    real = np.linalg.inv(lattice.reciprocal_basis).T
    direction = uvw @ real.T
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    flip = np.where(np.nanmedian(direction[:, 2]) < 0, -1.0, 1.0)
    direction = direction * flip
    x, y = (direction[:, k] / (1 + direction[:, 2]) for k in (0, 1))
    dots = panel.scatter(x, y, c=lattice.angle_deg, s=6, lw=0, cmap="viridis")
    drawing.colorbar(dots, ax=panel, shrink=0.75, label="angle / °")
    turn = np.linspace(0, 2 * np.pi, 200)
    panel.plot(np.cos(turn), np.sin(turn), color=GREY, lw=0.8)
    panel.set(aspect="equal", xlim=(-1.1, 1.1), ylim=(-1.1, 1.1))
    panel.text(1.02, 0, "a", va="center")
    panel.set_axis_off()
    return drawing


def step_histogram(study: GoniometerStudy) -> Figure:
    """Steps from frame to frame, beside what the errors alone would scatter."""
    drawing = Figure(figsize=(10, 3.4), layout="constrained")
    left, right = drawing.subplots(1, 2, width_ratios=(3, 2))
    left.errorbar(
        study.read_out_deg[np.searchsorted(study.frame, study.step_frame)], study.step_deg,
        study.step_sd_deg, fmt=".", ms=3, lw=0.6, color=BLUE, ecolor="#c8d9e6",
    )  # fmt: skip
    _robust_limits(left, study.step_deg)
    left.set(xlabel="goniometer angle as read out / °", ylabel="step / °")
    low, high = left.get_ylim()
    inside = study.step_deg[(study.step_deg > low) & (study.step_deg < high)]
    bins = np.histogram_bin_edges(inside, bins=min(60, max(10, len(inside) // 6)))
    right.hist(inside, bins=bins, color="#c9d3dc", label="steps")
    spread = study.spread
    for sd, colour, style, name in (
        (spread.estimation_sd, ORANGE, "--", "errors alone"),
        (spread.true_sd, VERMILION, "-", "errors taken off"),
    ):
        if sd > 0 and len(inside):
            x = np.linspace(bins[0], bins[-1], 400)
            area = spread.n * (bins[1] - bins[0]) / np.sqrt(2 * np.pi)
            curve = area / sd * np.exp(-0.5 * ((x - spread.mean) / sd) ** 2)
            right.plot(x, curve, style, color=colour, lw=1.3, label=f"{name}: {sd:.4f}°")
            right.set_ylim(top=1.6 * max(np.histogram(inside, bins)[0].max(), 1))
    right.set(xlabel="step / °", ylabel="number")
    right.legend(frameon=False, fontsize=8.5)
    tidy(left)
    tidy(right)
    return drawing


def read_out_curves(study: GoniometerStudy) -> Figure:
    """Fitted, read-out and equal steps against one another; and out of the plane."""
    drawing = Figure(figsize=(10, 5.4), layout="constrained")
    above, below = drawing.subplots(2, 1, sharex=True)
    x = study.read_out_deg
    above.plot(x, study.fitted_deg - x, ".", ms=3, color=BLUE, label="found − read out")
    above.plot(
        x, x - study.expected_deg, "--", lw=1.2, color=ORANGE, label="read out − equal steps"
    )
    above.plot(
        x, (study.scale - 1) * (x - np.mean(x)), "-", lw=1.0, color=VERMILION,
        label=f"scale {study.scale:.4f}",
    )  # fmt: skip
    above.set_ylabel("difference / °")
    above.legend(frameon=False, fontsize=8.5, ncols=3)
    below.errorbar(
        x, study.out_of_plane_deg, study.out_of_plane_sd_deg, fmt=".", ms=3, lw=0.6, color=GREEN,
        ecolor="#cfe6dd",
    )  # fmt: skip
    _robust_limits(below, study.out_of_plane_deg)
    below.set(xlabel="goniometer angle as read out / °", ylabel="out of plane / °")
    for panel in (above, below):
        panel.axhline(0, color=GREY, lw=0.7)
        tidy(panel)
    return drawing


def periodograms(study: GoniometerStudy) -> Figure:
    """Amplitude of waves over their period, in and out of the plane."""
    drawing = Figure(figsize=(10, 3.2), layout="constrained")
    panels = drawing.subplots(1, 2)
    names = ("in plane", "out of plane")
    for panel, name, one in zip(panels, names, (study.in_plane, study.out_of_plane), strict=True):
        _periodogram(panel, one)
        panel.set_title(name, fontsize=10)
    return drawing


def _periodogram(panel: Axes, one: Periodogram) -> None:
    if len(one.period):
        panel.semilogx(one.period, one.amplitude, "-", lw=0.9, color=BLUE)
        best = one.best
        panel.errorbar(
            [best.period], [best.amplitude], [best.amplitude_sd], fmt="o", ms=5, color=VERMILION,
            capsize=3,
        )  # fmt: skip
    panel.set(xlabel="period / °", ylabel="amplitude / °", ylim=(0, None))
    tidy(panel)


def drift(
    labels: Sequence[str], series: Sequence[Sequence[float]], errors: Sequence[Sequence[float]],
    names: Sequence[str],
) -> Figure:  # fmt: skip
    """One panel for each quantity (`names`), a point for each visit, oldest first.

    Parameters
    ----------
    labels : of the visits.
    series, errors : for each quantity, a value and an error for each visit; NaN where unknown.
    """
    n = len(names)
    drawing = Figure(figsize=(10, 1.0 + 1.9 * n), layout="constrained")
    panels = drawing.subplots(n, 1, sharex=True, squeeze=False)[:, 0]
    x = np.arange(len(labels))
    for k, (panel, name) in enumerate(zip(panels, names, strict=True)):
        colour = LATTICE_COLOURS[k % len(LATTICE_COLOURS)]
        values, sd = np.asarray(series[k], float), np.nan_to_num(np.asarray(errors[k], float))
        panel.errorbar(x, values, sd, fmt="-o", ms=5, lw=1, capsize=3, color=colour)
        middle = float(np.nanmedian(values)) if np.isfinite(values).any() else 0.0
        panel.axhline(middle, color=GREY, lw=0.8, ls=":")
        panel.set_ylabel(name)
        tidy(panel)
    panels[-1].set_xticks(x, labels, rotation=30, ha="right", fontsize=8)
    drawing.align_ylabels()
    return drawing


def _robust_limits(panel: Axes, values: Floats) -> None:
    """Room for 99 % of the values; the few beyond are cut."""
    known = values[np.isfinite(values)]
    if len(known):
        low, high = np.quantile(known, [0.005, 0.995])
        room = 0.25 * max(high - low, 1e-3)
        panel.set_ylim(low - room, high + room)


def _shade_flagged(panel: Axes, lattice: OrientedLattice) -> None:
    half = 0.5 * _width(lattice.angle_deg)
    for angle, used in zip(lattice.angle_deg, lattice.used, strict=True):
        if not used:
            panel.axvspan(angle - half, angle + half, color="#eceff2", lw=0, zorder=0)


def _width(angle: Floats) -> float:
    return float(np.median(np.abs(np.diff(angle)))) if len(angle) > 1 else 1.0
