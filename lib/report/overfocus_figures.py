"""Figures of a calibration by an overfocused scan, after Figs. 5 to 9 of Weber et al."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, Polygon
from numpy.typing import NDArray

from ..overfocus.calibration import ScanCalibration
from ..overfocus.views import Stage, Views
from .frame_figures import tidy
from .html import BLUE, GREEN, ORANGE, VERMILION

Floats = NDArray[np.float64]

_COLUMNS = (
    ("point", "one detector pixel"),
    ("selected", "one frame, in scan coordinates"),
    ("shifted_sum", "superposition of all frames"),
    ("sum", "sum of frames"),
    ("transformed_sum", "sum, turned and flipped"),
)

_SURFACE = 8  # points that a surface needs at least


def stages(shown: Sequence[Stage]) -> Figure:
    """The control images, a row of five for each stage."""
    drawing = Figure(figsize=(11, 2.25 * len(shown) + 0.35), layout="constrained")
    panels = drawing.subplots(len(shown), len(_COLUMNS), squeeze=False)
    for row, stage in zip(panels, shown, strict=True):
        for panel, (name, title) in zip(row, _COLUMNS, strict=True):
            picture(panel, getattr(stage.images, name))
            if stage is shown[0]:
                panel.set_title(title, fontsize=9)
        row[0].set_ylabel(_folded(stage.title), fontsize=9)
        row[2].set_xlabel(f"blur {stage.blur:.3f}", fontsize=9)
    return drawing


def beside_bright_field(views: Views, step_nm: tuple[float, float] | None) -> Figure:
    """Virtual bright field, superposition and coverage, on the same grid."""
    drawing = Figure(figsize=(11, 3.95), layout="constrained")
    panels = drawing.subplots(1, 3)
    normalised = sharp(views)
    shown = {
        "virtual bright field": views.bright_field,
        "superposition, over its coverage": normalised,
        "coverage / pixels": np.where(views.coverage > 0, views.coverage, np.nan),
    }
    for panel, (title, image) in zip(panels, shown.items(), strict=True):
        picture(panel, image, cmap="viridis" if title.startswith("coverage") else "gray")
        panel.set_title(title, fontsize=10)
    if step_nm is not None:
        _scale_bar(panels[0], views.bright_field.shape, step_nm[1])
    return drawing


def bright_field(views: Views, step_nm: tuple[float, float] | None) -> Figure:
    """Virtual bright field alone."""
    drawing = Figure(figsize=(4.2, 4.0), layout="constrained")
    panel = drawing.subplots()
    picture(panel, views.bright_field)
    if step_nm is not None:
        _scale_bar(panel, views.bright_field.shape, step_nm[1])
    return drawing


def sharp(views: Views) -> Floats:
    """The superposition over its coverage; NaN where few frames overlap."""
    enough = views.coverage > 0.1 * views.coverage.max(initial=1.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        out: Floats = np.where(enough, views.superposition / views.coverage, np.nan)
    return out


def on_the_detector(views: Views, calibration: ScanCalibration) -> Figure:
    """Mean frame with the beam's disc and the scan's axes, and a few frames by themselves."""
    n = len(views.frames)
    drawing = Figure(figsize=(11, 4.0 if n < 3 else 3.0), layout="constrained")
    panels = np.atleast_1d(drawing.subplots(1, n + 1))
    picture(panels[0], views.mean)
    panels[0].set_title("mean frame, with the scan's axes", fontsize=9.5)
    _axes_of_scan(panels[0], calibration)
    for panel, frame, (row, column) in zip(panels[1:], views.frames, views.places, strict=True):
        picture(panel, frame)
        panel.set_title(f"frame at scan row {row}, column {column}", fontsize=9.5)
    return drawing


def _axes_of_scan(panel: Axes, calibration: ScanCalibration) -> None:
    y, x = calibration.centre_px
    radius = calibration.disc_radius_px
    if not np.isfinite([y, x, radius]).all():
        return
    panel.add_patch(Circle((x, y), radius, fill=False, ec=ORANGE, lw=1.2))
    a = calibration.scan_to_detector
    if not np.isfinite(a).all() or not np.any(a):
        return
    corners = np.array([(-1, -1), (-1, 1), (1, 1), (1, -1)]) * (
        np.array(calibration.scan_shape) / 2
    )
    outline = corners @ a.T
    size = np.abs(outline).max()
    limit = 0.47 * min(calibration.shape)
    if size > limit:  # the outline of the scan in the specimen's shadow, made to fit
        outline = outline * limit / size
    panel.add_patch(
        Polygon(outline[:, ::-1] + (x, y), closed=True, fill=False, ec="white", lw=0.9, ls=":")
    )
    length = 0.8 * radius / np.linalg.norm(a, axis=0).max()
    for k, (colour, name) in enumerate(((VERMILION, "next row"), (GREEN, "next column"))):
        tip = length * a[:, k]
        panel.add_patch(
            FancyArrowPatch(
                (x, y), (x + tip[1], y + tip[0]), color=colour, lw=2, arrowstyle="-|>",
                mutation_scale=13, shrinkA=0, shrinkB=0,
            )
        )  # fmt: skip
        panel.plot([], [], color=colour, lw=2, label=name)
    panel.legend(
        fontsize=8, loc="lower left", framealpha=0.85, borderpad=0.3, handlelength=1.4, ncols=2
    )


def search_path(path: Floats, start: tuple[float, float], end: tuple[float, float]) -> Figure:
    """The published search: the surface of the loss by what it tried, and how the blur fell.

    Parameters
    ----------
    path : (evaluations, 3) rotation in degrees, overfocus in metres, loss.
    start, end : (rotation in degrees, overfocus in metres).
    """
    drawing = Figure(figsize=(10, 3.6), layout="constrained")
    left, right = drawing.subplots(1, 2)
    limits = {"cmap": "viridis_r", "vmin": path[:, 2].min(), "vmax": path[:, 2].max()}
    if _spread_out(path[:, :2]):
        left.tricontourf(path[:, 0], path[:, 1] * 1e6, path[:, 2], levels=14, alpha=0.45, **limits)
    dots = left.scatter(
        path[:, 0], path[:, 1] * 1e6, c=path[:, 2], s=22, lw=0.4, edgecolors="white", **limits
    )
    drawing.colorbar(dots, ax=left, label="blur")
    for (turn, height), mark, name in ((start, "s", "start"), (end, "*", "end")):
        left.plot(turn, height * 1e6, mark, mfc="none", mec=VERMILION, ms=11, mew=1.4, label=name)
    left.set(xlabel="scan rotation / °", ylabel="overfocus / µm")
    left.legend(frameon=False, fontsize=8.5)
    right.plot(np.arange(1, len(path) + 1), path[:, 2], ".", color="#9fb4c6", label="tried")
    lowest = np.minimum.accumulate(path[:, 2])
    right.step(np.arange(1, len(path) + 1), lowest, color=BLUE, where="post", label="lowest")
    right.set(xlabel="evaluation", ylabel="blur of the superposition")
    right.legend(frameon=False, fontsize=8.5)
    tidy(left)
    tidy(right)
    return drawing


def _spread_out(points: Floats) -> bool:
    """Whether a surface can be drawn through points (n, 2): enough of them, not all on a line."""
    distinct = np.unique(points, axis=0)
    if len(distinct) < _SURFACE or not np.ptp(distinct, axis=0).all():
        return False
    scaled = (distinct - distinct.mean(0)) / distinct.std(0)
    return bool(np.linalg.svd(scaled, compute_uv=False)[1] > 1e-3 * len(scaled) ** 0.5)


def picture(panel: Axes, image: Floats, cmap: str = "gray") -> None:
    """An image without ticks, its greys not swallowed by a few pixels."""
    known = image[np.isfinite(image)]
    low, high = np.percentile(known, (0.5, 99.5)) if known.size else (0.0, 1.0)
    if high <= low:
        low, high = low - 0.5, low + 0.5
    colours = colormaps[cmap].with_extremes(bad="#dfe5ea")
    panel.imshow(image, cmap=colours, vmin=low, vmax=high, interpolation="nearest")
    panel.set(xticks=[], yticks=[])
    panel.spines[:].set_color("#c6d0d9")


def _scale_bar(panel: Axes, shape: tuple[int, ...], step_nm: float) -> None:
    """A bar of a round length along the lower edge."""
    wanted = shape[1] * step_nm / 4
    power = 10 ** np.floor(np.log10(wanted))
    length = max(p for p in (power, 2 * power, 5 * power) if p <= wanted)
    y, x = 0.94 * shape[0], 0.05 * shape[1]
    panel.plot([x, x + length / step_nm], [y, y], color="white", lw=4, solid_capstyle="butt")
    panel.plot([x, x + length / step_nm], [y, y], color="black", lw=2, solid_capstyle="butt")
    text = f"{length:g} nm" if length < 1000 else f"{length / 1000:g} µm"
    panel.text(
        x, y - 0.03 * shape[0], text, fontsize=9, va="bottom",
        bbox={"fc": "white", "alpha": 0.75, "lw": 0, "pad": 1.5},
    )  # fmt: skip


def _folded(text: str) -> str:
    """In lines short enough for the side of a picture."""
    lines = [""]
    for word in text.split():
        if len(lines[-1]) + len(word) > 18:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)
