"""Figures of a rotationally invariant autoencoder: maps, curves, what the latents mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.colors import LinearSegmentedColormap, LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from numpy.typing import NDArray

from ..rrvae.result import Agreement, Curves, DosePoint, Manifold, Maps, Prepared
from .frame_figures import tidy
from .html import BLUE, GREEN, LATTICE_COLOURS, ORANGE, PURPLE, VERMILION

Floats = NDArray[np.float64]

# Blue, white, orange, black and back: opposite angles differ in lightness or along blue and orange,
# which people with any form of colour blindness tell apart (after Kovesi, arXiv:1509.03700).
CYCLIC = LinearSegmentedColormap.from_list(
    "rotation", ["#2b6fc2", "#f3efe6", "#e08a1e", "#1b1512", "#2b6fc2"], N=512
)
_NONE = "#dfe5ea"


def aligned(angle_rad: Floats, to: Agreement) -> Floats:
    """Angles with the offset and sense taken out by which they differ from the COM's."""
    turned = to.sense * (angle_rad - to.offset_rad)
    return np.asarray((turned + np.pi) % (2 * np.pi) - np.pi)


def sign_of(mine: Agreement) -> float:
    """By which a content rises with the magnitude of the COM; its own sign means nothing."""
    return -1.0 if mine.pearson < 0 else 1.0


def beside_baselines(
    maps: Maps, content: Floats, best: int, mine: Agreement, others: Sequence[Agreement], unit: str
) -> Figure:
    """Magnitudes above, angles below: network, centre of mass, and both baselines."""
    sign = sign_of(mine)
    columns: tuple[tuple[str, Floats, Floats], ...] = (
        ("rrVAE", sign * content, aligned(maps.angle_rad[best], mine)),
        ("centre of mass", maps.com_magnitude, maps.com_angle_rad),
        (
            "first circular harmonic",
            maps.harmonic_modulus,
            aligned(maps.harmonic_angle_rad, others[0]),
        ),
        ("components' leading pair", maps.pair_modulus, aligned(maps.pair_angle_rad, others[1])),
    )
    height = _height(maps.com_magnitude, 2.65)
    drawing = Figure(figsize=(11, 2 * height + 0.75), layout="constrained")
    panels = drawing.subplots(2, 4)
    for number, (title, size, angle) in enumerate(columns):
        upper, lower = panels[:, number]
        quantity = ("leading content", f"magnitude / {unit}", "modulus / noise", "modulus / noise")
        shown(drawing, upper, size, "cividis", quantity[number])
        upper.set_title(title, fontsize=10.5)
        wheel(lower, angle)
    panels[0, 0].set_ylabel("magnitude", fontsize=10)
    panels[1, 0].set_ylabel("angle", fontsize=10)
    _key(drawing, panels[1])
    return drawing


def content_and_angle(content: Floats, angle_rad: Floats) -> Figure:
    """The two maps alone, while a network is trained."""
    drawing = Figure(figsize=(9, _height(content, 4.3) + 0.3), layout="constrained")
    left, right = drawing.subplots(1, 2)
    shown(drawing, left, content, "cividis", "leading content")
    wheel(right, angle_rad)
    _bar(drawing, right, shrink=0.86, pad=0.02, aspect=28).set_label("angle / °", fontsize=8.5)
    return drawing


def latent_maps(content: Floats, share: Floats, angle_sd_rad: Floats, sign: float = 1.0) -> Figure:
    """Every content variable, the strongest first and times `sign`; the angle's own error."""
    order = np.argsort(share)[::-1]
    count = len(order) + 1
    height = _height(angle_sd_rad, 11 / max(count, 3) * 0.92)
    drawing = Figure(figsize=(11 * min(1.0, count / 3), height + 0.55), layout="constrained")
    panels = drawing.subplots(1, count)
    for panel, number in zip(panels, order, strict=False):
        values = (sign if number == order[0] else 1.0) * content[..., number]
        shown(drawing, panel, values, "cividis", "standard normal")
        told = f"content {number + 1}: {share[number]:.1%} of what content changes"
        panel.set_title(told, fontsize=9.5)
    shown(drawing, panels[-1], np.rad2deg(angle_sd_rad), "magma", "°")
    panels[-1].set_title("error of the angle, by the network itself", fontsize=9.5)
    return drawing


def deflection(maps: Maps, unit: str, step_known: bool) -> Figure:
    """Centre of mass: magnitude, its error, direction, divergence and curl."""
    height = _height(maps.com_magnitude, 2.0)
    drawing = Figure(figsize=(11, height + 0.4), layout="constrained")
    panels = drawing.subplots(1, 5)
    per = f"{unit} / {'nm' if step_known else 'point'}"
    shown(drawing, panels[0], maps.com_magnitude, "cividis", unit)
    shown(drawing, panels[1], maps.com_magnitude_sigma, "magma", unit)
    wheel(panels[2], maps.com_angle_rad)
    _bar(drawing, panels[2], shrink=0.86, pad=0.02, aspect=28).set_label("°", fontsize=8.5)
    both = np.concatenate([maps.divergence.ravel(), maps.curl.ravel()])
    known = np.abs(both[np.isfinite(both)])
    limit = float(np.percentile(known, 99.5)) if known.size else 1.0
    for panel, values in ((panels[3], maps.divergence), (panels[4], maps.curl)):
        shown(drawing, panel, values, "PuOr_r", per, (-limit, limit))
    names = ("magnitude", "counting error", "direction", "divergence", "curl")
    for panel, name in zip(panels, names, strict=True):
        panel.set_title(name, fontsize=10)
    return drawing


def correlations(
    content: Floats, angle_rad: Floats, maps: Maps, mine: Agreement, unit: str
) -> Figure:
    """Leading content against the COM's magnitude, and the difference of the angles."""
    drawing = Figure(figsize=(11, 3.6), layout="constrained")
    left, right = drawing.subplots(1, 2)
    sign = sign_of(mine)
    x, y = maps.com_magnitude.ravel(), sign * content.ravel()
    good = np.isfinite(x) & np.isfinite(y)
    if good.any():
        many = left.hexbin(
            x[good], y[good], gridsize=44, cmap="Blues", mincnt=1, lw=0.1, norm=LogNorm()
        )
        drawing.colorbar(many, ax=left, label="patterns")
    left.set(xlabel=f"magnitude of the centre of mass / {unit}", ylabel="leading content")
    left.set_title(f"|r| {abs(mine.pearson):.4f}, Spearman {abs(mine.spearman):.4f}", fontsize=10)
    off = np.rad2deg(aligned(angle_rad, mine) - maps.com_angle_rad).ravel()
    off = (off + 180) % 360 - 180
    right.hist(off[np.isfinite(off)], bins=np.arange(-180, 181, 5), color=BLUE, alpha=0.85)
    right.set(xlabel="angle of the rrVAE less that of the centre of mass / °", ylabel="patterns")
    right.set_title(f"R {mine.circular_R:.4f}", fontsize=10)
    right.set_xticks(range(-180, 181, 60))
    tidy(left)
    tidy(right)
    return drawing


def residuals(maps: Maps, places: Sequence[tuple[int, int]], found_sigma: float) -> Figure:
    """What is left unexplained, its significance and probability, with defects circled."""
    height = _height(maps.residual_chi2, 3.5)
    drawing = Figure(figsize=(11, height + 0.6), layout="constrained")
    panels = drawing.subplots(1, 3)
    shown(drawing, panels[0], maps.residual_chi2, "cividis", "per pixel")
    panels[0].set_title("squared residual over the noise", fontsize=10)
    known = maps.residual_sigma[np.isfinite(maps.residual_sigma)]
    top = max(found_sigma, float(known.max())) if known.size else found_sigma
    shown(drawing, panels[1], maps.residual_sigma, "viridis", "σ", (-3.0, top))
    panels[1].set_title("significance", fontsize=10)
    with np.errstate(divide="ignore"):
        log_p = np.log10(np.maximum(maps.residual_p, 1e-300))
    lowest = float(np.nanmin(log_p)) if np.isfinite(log_p).any() else -1.0
    shown(drawing, panels[2], log_p, "viridis_r", "log₁₀ p", (min(lowest, -6.0), 0.0))
    panels[2].set_title("probability by chance, point by point", fontsize=10)
    radius = max(1.5, 0.045 * min(maps.residual_chi2.shape))
    for row, column in places:
        for panel in panels:
            panel.add_patch(Circle((column, row), radius, fill=False, ec=VERMILION, lw=1.6))
    return drawing


def training(curves: Curves) -> Figure:
    """Training and held-out ELBO, equivariance and invariance of each seed."""
    drawing = Figure(figsize=(11, 3.5), layout="constrained")
    panels = drawing.subplots(1, 3)
    seeds = curves.loss.shape[1]
    colours = [LATTICE_COLOURS[i % len(LATTICE_COLOURS)] for i in range(seeds)]
    for i, colour in enumerate(colours):
        panels[0].plot(curves.epoch, -curves.loss[:, i], ":", color=colour, lw=1.1)
        label = f"seed {i}" if seeds <= 8 else None
        panels[0].plot(curves.epoch, -curves.held_out_loss[:, i], color=colour, lw=1.4, label=label)
        where = int(np.argmin(np.abs(curves.epoch - curves.kept[i])))
        panels[0].plot(curves.kept[i], -curves.held_out_loss[where, i], "o", color=colour, ms=4.5)
        panels[1].plot(curves.epoch, curves.equivariance[:, i], color=colour, lw=1.3)
        panels[2].plot(curves.epoch, curves.invariance[:, i], color=colour, lw=1.3)
    # the first epochs would swallow the scale
    low, high = _limits(-np.concatenate([curves.loss.ravel(), curves.held_out_loss.ravel()]))
    panels[0].set(title="ELBO / nats per pattern", xlabel="epoch", ylim=(low, high))
    panels[1].set(title="equivariance of the angle", xlabel="epoch", ylim=(-0.03, 1.05))
    panels[2].set(title="content before and after turns, r", xlabel="epoch", ylim=(-0.1, 1.05))
    if seeds <= 8:
        panels[0].legend(fontsize=8, frameon=False, loc="lower right", ncols=2)
    for panel in panels:
        panel.title.set_fontsize(10)
        tidy(panel)
    return drawing


def manifold(made: Manifold, sign: float = 1.0) -> Figure:
    """Patterns that the decoder makes along its latents, the leading one times `sign`."""
    rows, columns = made.pictures.shape[:2]
    upwards = slice(None) if sign < 0 else slice(None, None, -1)  # the largest above
    known = np.abs(made.pictures[np.isfinite(made.pictures)])
    limit = max(float(np.percentile(known, 99.5)) if known.size else 1.0, 1e-12)
    whole = _tiled(made.pictures[upwards])
    width = 7.6
    drawing = Figure(
        figsize=(width + 1.2, width * whole.shape[0] / whole.shape[1] + 0.1), layout="constrained"
    )
    panel = drawing.subplots()
    colours = colormaps["PuOr_r"].with_extremes(bad="white")
    image = panel.imshow(whole, cmap=colours, vmin=-limit, vmax=limit, interpolation="nearest")
    drawing.colorbar(image, ax=panel, label="difference from the mean pattern / noise", shrink=0.7)
    tall, wide = whole.shape[0] / rows, whole.shape[1] / columns
    panel.set_yticks(
        (np.arange(rows) + 0.5) * tall - 0.5, [f"{v:+.1f}" for v in (sign * made.rows)[upwards]]
    )
    form = "{:.0f}°" if made.column_name == "angle" else "{:+.1f}"
    panel.set_xticks(
        (np.arange(columns) + 0.5) * wide - 0.5, [form.format(v) for v in made.columns]
    )
    panel.set_ylabel("leading content / standard deviations")
    panel.set_xlabel(
        "angle" if made.column_name == "angle" else "second content / standard deviations"
    )
    panel.tick_params(length=0, labelsize=9)
    panel.spines[:].set_visible(False)
    return drawing


def dose_curve(points: Sequence[DosePoint]) -> Figure:
    """Correlations of network and centre of mass against electrons in a pattern."""
    drawing = Figure(figsize=(11, 3.4), layout="constrained")
    left, right = drawing.subplots(1, 2)
    points = sorted(points, key=lambda one: one.electrons)
    dose = [one.electrons for one in points]
    for panel, ours, com in ((left, "content_r", "com_r"), (right, "angle_R", "com_R")):
        panel.plot(dose, [getattr(p, ours) for p in points], "o-", color=BLUE, label="rrVAE")
        panel.plot(dose, [getattr(p, com) for p in points], "s--", color=ORANGE, label="COM")
        panel.set(xscale="log", xlabel="electrons in a pattern", ylim=(-0.03, 1.04))
        panel.legend(frameon=False, fontsize=9, loc="lower right")
        tidy(panel)
    left.set_title("magnitude, |r|", fontsize=10)
    right.set_title("angle, R", fontsize=10)
    return drawing


def preparation(prepared: Prepared) -> Figure:
    """Mean pattern, noise, and the pattern that is deflected most."""
    height = _height(prepared.mean, 3.5)
    drawing = Figure(figsize=(11, height + 0.6), layout="constrained")
    panels = drawing.subplots(1, 3)
    hide = prepared.mask
    limit = float(np.percentile(np.abs(prepared.example[~hide]), 99.5)) or 1.0
    shown(drawing, panels[0], np.where(hide, np.nan, prepared.mean), "gray", "electrons")
    shown(drawing, panels[1], np.where(hide, np.nan, prepared.noise), "magma", "electrons")
    shown(
        drawing, panels[2], np.where(hide, np.nan, prepared.example), "PuOr_r", "electrons",
        (-limit, limit),
    )  # fmt: skip
    titles = ("mean pattern", "noise of a pixel", "most deflected pattern, less the mean")
    for panel, title in zip(panels, titles, strict=True):
        panel.set_title(title, fontsize=10)
    if prepared.disc_radius_px is not None:
        y, x = prepared.centre_px
        edge = Circle((x, y), prepared.disc_radius_px, fill=False, ec=ORANGE, lw=1.1)
        panels[0].add_patch(edge)
    return drawing


def sweep(names: Sequence[str], values: Mapping[str, Sequence[float]]) -> Figure:
    """Correlations of each point of a sweep, network beside centre of mass."""
    drawing = Figure(figsize=(11, 0.36 * len(names) + 1.3), layout="constrained")
    panel = drawing.subplots()
    place = np.arange(len(names))
    marks = zip(values.items(), "osDv^x", (BLUE, ORANGE, GREEN, PURPLE, VERMILION), strict=False)
    for (label, numbers), mark, colour in marks:
        panel.plot(numbers, place, mark, color=colour, label=label, ms=6)
    panel.set_yticks(place, names)
    panel.invert_yaxis()
    panel.legend(frameon=False, fontsize=8.5, loc="center left", bbox_to_anchor=(1.01, 0.5))
    tidy(panel)
    return drawing


def shown(
    drawing: Figure,
    panel: Axes,
    image: Floats,
    cmap: str,
    unit: str,
    limits: tuple[float, float] | None = None,
) -> None:
    """A map with its scale, not swallowed by a few points."""
    known = image[np.isfinite(image)]
    low, high = limits or _limits(known, 0.5)
    colours = colormaps[cmap].with_extremes(bad=_NONE)
    drawn = panel.imshow(image, cmap=colours, vmin=low, vmax=high, interpolation="nearest")
    panel.set(xticks=[], yticks=[])
    panel.spines[:].set_color("#c6d0d9")
    if known.size:
        bar = drawing.colorbar(drawn, ax=panel, location="bottom", shrink=0.86, pad=0.02, aspect=28)
        bar.set_label(unit, fontsize=8.5, labelpad=1)
        bar.ax.tick_params(labelsize=7.5)
        bar.outline.set_visible(False)
        bar.ax.locator_params(nbins=5)
    else:
        panel.text(0.5, 0.5, "not known", ha="center", va="center", transform=panel.transAxes)


def wheel(panel: Axes, angle_rad: Floats) -> None:
    """A map of angles in cyclic colours."""
    panel.imshow(
        angle_rad, cmap=CYCLIC.with_extremes(bad=_NONE), vmin=-np.pi, vmax=np.pi,
        interpolation="nearest",
    )  # fmt: skip
    panel.set(xticks=[], yticks=[])
    panel.spines[:].set_color("#c6d0d9")


def _key(drawing: Figure, panels: Sequence[Axes]) -> None:
    """The colours of all directions, below the maps of angles."""
    bar = _bar(drawing, list(panels), shrink=0.42, pad=0.03, aspect=45)
    bar.set_label("direction / °: 0 along columns (right), 90 along rows (down)", fontsize=8.5)


def _bar(drawing: Figure, panels: Axes | list[Axes], **layout: Any) -> Colorbar:
    bar = drawing.colorbar(
        ScalarMappable(Normalize(-180, 180), CYCLIC), ax=panels, location="bottom",
        ticks=(-180, -90, 0, 90, 180), **layout,
    )  # fmt: skip
    bar.ax.tick_params(labelsize=7.5)
    bar.outline.set_visible(False)
    return bar


def _limits(values: Floats, tail: float = 2.0) -> tuple[float, float]:
    known = values[np.isfinite(values)]
    if not known.size:
        return 0.0, 1.0
    low, high = (float(v) for v in np.percentile(known, (tail, 100 - tail)))
    if tail >= 2:  # of curves: their best ends whole, with some room
        high = float(known.max())
        room = 0.05 * (high - low)
        low, high = low - room, high + room
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def _height(image: Floats, width: float) -> float:
    """Of a map that is `width` wide, within what a page can take."""
    rows, columns = image.shape[:2]
    return float(np.clip(width * rows / columns, 0.6, 2.2 * width)) + 0.5


def _tiled(pictures: Floats) -> Floats:
    """(m, n, rows, columns) beside and above each other, a line apart."""
    m, n, rows, columns = pictures.shape
    out = np.full((m, rows + 2, n, columns + 2), np.nan)
    out[:, 1:-1, :, 1:-1] = pictures.transpose(0, 2, 1, 3)
    return out.reshape(m * (rows + 2), n * (columns + 2))


def where(places: Floats, title: str) -> Figure:
    """A map of yes (1) and no (0)."""
    height = _height(places, 4.0)
    drawing = Figure(figsize=(4.2, height), layout="constrained")
    panel = drawing.subplots()
    colours = colormaps["Blues"].with_extremes(bad=_NONE)
    panel.imshow(places, cmap=colours, vmin=0, vmax=1.15, interpolation="nearest")
    panel.set(xticks=[], yticks=[])
    panel.set_title(title, fontsize=10)
    panel.spines[:].set_color("#c6d0d9")
    return drawing
