"""Figures of calibration by powder rings, and of what comes after it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ..formats.image import DiffractionImage
from ..rings.calibrate import RingPoints
from ..rings.calibration import RingCalibration
from ..rings.camera_lengths import CameraLengths
from ..rings.pixel_map import map_of, ring_curve
from .frame_figures import tidy
from .html import BLUE, GREEN, LATTICE_COLOURS, ORANGE, VERMILION

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

GREY = "#8a949e"
_PAPER = "#e8edf2"
_POLAR_AZIMUTHS, _POLAR_RADII = 720, 640


def rings_over_image(image: DiffractionImage, calibration: RingCalibration, good: Mask) -> Figure:
    """The image with the calibrated rings over two of its quadrants, bare in the others."""
    rows, columns = image.shape
    drawing = Figure(figsize=(9, 0.3 + 9 * min(rows / columns, 1.2)), layout="constrained")
    panel = drawing.subplots()
    shown = np.where(good, image.pixels.astype(float), np.nan)
    step = max(1, max(rows, columns) // 1024)
    extent = (-0.5, columns - 0.5, rows - 0.5, -0.5)
    panel.imshow(
        _binned(shown, step), cmap="gray_r", norm=_grey(shown), extent=extent,
        interpolation="antialiased",
    )  # fmt: skip
    panel.set_facecolor(_PAPER)
    centre_row, centre_column = calibration.beam_centre_px
    for k, ring in enumerate(calibration.rings):
        row, column = ring_curve(calibration, ring.d_A, 721)
        bare = (row < centre_row) != (column < centre_column)
        colour = LATTICE_COLOURS[k % len(LATTICE_COLOURS)]
        panel.plot(
            np.where(bare, np.nan, column), np.where(bare, np.nan, row), "-", color=colour, lw=1.1
        )
    _name_rings(panel, calibration, image.shape)
    panel.plot(centre_column, centre_row, "+", color=VERMILION, ms=13, mew=1.6)
    panel.set(xlim=(-0.5, columns - 0.5), ylim=(rows - 0.5, -0.5), xlabel="column", ylabel="row")
    panel.tick_params(labelsize=8.5)
    return drawing


def _name_rings(panel: Axes, calibration: RingCalibration, shape: tuple[int, int]) -> None:
    """Indices where the rings cross the upper left diagonal."""
    last = -np.inf
    for k, ring in enumerate(calibration.rings):
        row, column = ring_curve(calibration, ring.d_A, 721)
        at = int(np.argmin(np.abs(np.linspace(-180, 180, 721) + 135)))
        apart = float(np.hypot(row[at] - calibration.beam_centre_px[0],
                               column[at] - calibration.beam_centre_px[1]))  # fmt: skip
        inside = 0 < row[at] < shape[0] and 0 < column[at] < shape[1]
        if not inside or apart - last < 0.028 * max(shape):
            continue
        last = apart
        panel.annotate(
            "".join(str(i) for i in ring.hkl), (column[at], row[at]), fontsize=8, ha="center",
            va="center", color=LATTICE_COLOURS[k % len(LATTICE_COLOURS)],
            bbox={"boxstyle": "round,pad=0.12", "fc": "white", "ec": "none", "alpha": 0.85},
        )  # fmt: skip


def polar_views(image: DiffractionImage, calibration: RingCalibration, good: Mask) -> Figure:
    """Azimuth against radius, as recorded and without distortion and tilt."""
    plain = map_of(calibration)
    bare = plain.with_(
        stretch=(0.0, 0.0), rot1_rad=0.0, rot2_rad=0.0, three_fold_per_px=(0.0, 0.0),
        radial_per_px2=0.0,
    )  # fmt: skip
    outermost = _radius_px(calibration, min(ring.d_A for ring in calibration.rings))
    innermost = _radius_px(calibration, max(ring.d_A for ring in calibration.rings))
    radius = np.linspace(0.75 * innermost, 1.04 * outermost, _POLAR_RADII)
    azimuth = np.linspace(-180, 180, _POLAR_AZIMUTHS, endpoint=False)
    drawing = Figure(figsize=(10, 5.6), layout="constrained")
    panels = drawing.subplots(1, 2, sharey=True)
    shown = np.where(good, image.pixels.astype(float), np.nan)
    for panel, pixel_map, title in (
        (panels[0], bare, "as recorded"),
        (panels[1], plain, "without distortion"),
    ):
        rho, turn = np.meshgrid(radius, np.deg2rad(azimuth), indexing="ij")
        row, column = pixel_map.to_pixel(rho, turn)
        view = _looked_up(shown, row, column)
        panel.imshow(
            view, cmap="gray_r", norm=_grey(view), aspect="auto", origin="lower",
            extent=(-180, 180, radius[0], radius[-1]), interpolation="antialiased",
        )  # fmt: skip
        panel.set_facecolor(_PAPER)
        for k, ring in enumerate(calibration.rings):
            r = _radius_px(calibration, ring.d_A)
            colour = LATTICE_COLOURS[k % len(LATTICE_COLOURS)]
            panel.axhline(r, color=colour, lw=0.9, ls=(0, (2, 5)))
        panel.set(title=title, xlabel="azimuth / °", xticks=np.arange(-180, 181, 60))
        panel.set(ylim=(radius[0], radius[-1]))
        panel.tick_params(labelsize=8.5)
        panel.title.set_fontsize(10)
    panels[0].set_ylabel("radius / px")
    return drawing


def residuals_of_rings(points: RingPoints, calibration: RingCalibration, image: int) -> Figure:
    """What each point is off its ring, around the azimuth, and each ring's mean and scatter."""
    mine = points.image == image
    drawing = Figure(figsize=(10, 4.8), layout="constrained")
    around, summary = drawing.subplots(1, 2, width_ratios=(2.2, 1))
    numbers = np.unique(points.ring[mine])
    used = mine & points.used
    reach = 3.5 * float(np.std(points.residual_px[used])) if used.any() else 1.0
    reach = max(reach, 0.02)
    for k, number in enumerate(numbers):
        colour = LATTICE_COLOURS[k % len(LATTICE_COLOURS)]
        here = used & (points.ring == number)
        around.plot(points.azimuth_deg[here], points.residual_px[here], ".", ms=4.5, color=colour,
                    alpha=0.6, mew=0)  # fmt: skip
    left_out = mine & ~points.used
    around.plot(
        points.azimuth_deg[left_out], np.clip(points.residual_px[left_out], -reach, reach), "x",
        ms=3.5, mew=0.6, color=GREY, label=f"left out ({int(left_out.sum())})",
    )  # fmt: skip
    centres, means = _running_mean(
        points.azimuth_deg[used], points.residual_px[used], points.sigma_px[used] ** -2.0
    )
    around.plot(centres, means, "-", color="#1c2530", lw=1.5, label="mean over rings")
    around.axhline(0, color=GREY, lw=0.8)
    around.set(xlim=(-180, 180), ylim=(-reach, reach), xticks=np.arange(-180, 181, 60),
               xlabel="azimuth / °", ylabel="observed − calculated radius / px")  # fmt: skip
    around.legend(frameon=False, fontsize=8.5, loc="upper right", ncols=2)
    names = ["".join(str(i) for i in ring.hkl) for ring in calibration.rings]
    place = np.arange(len(names))
    colours = [LATTICE_COLOURS[k % len(LATTICE_COLOURS)] for k in place]
    for x, ring, colour in zip(place, calibration.rings, colours, strict=True):
        summary.errorbar(
            ring.mean_px, x, xerr=ring.residual_px, fmt="o", ms=5, color=colour, lw=1.4
        )
    summary.axvline(0, color=GREY, lw=0.8)
    summary.set_yticks(place, names)
    summary.set(xlabel="mean ± r.m.s. / px", ylim=(len(names) - 0.5, -0.5))
    for panel in (around, summary):
        tidy(panel)
    return drawing


def _running_mean(
    azimuth: Floats, value: Floats, weight: Floats, n: int = 36
) -> tuple[Floats, Floats]:
    edges = np.linspace(-180, 180, n + 1)
    where = np.clip(np.digitize((azimuth + 180) % 360 - 180, edges) - 1, 0, n - 1)
    total = np.bincount(where, weight, minlength=n)
    mean = np.bincount(where, weight * value, minlength=n) / np.where(total > 0, total, np.nan)
    return 0.5 * (edges[1:] + edges[:-1]), mean


def radial_profiles(image: DiffractionImage, calibration: RingCalibration, good: Mask) -> Figure:
    """Mean around the beam against scattering vector, with and without the distortion."""
    drawing = Figure(figsize=(10, 3.6), layout="constrained")
    panel = drawing.subplots()
    rows, columns = np.nonzero(good)
    step = max(1, len(rows) // 2_000_000)
    rows, columns = rows[::step], columns[::step]
    counts = image.pixels[rows, columns].astype(float)
    exact = map_of(calibration)
    top = 1.06 / min(ring.d_A for ring in calibration.rings)
    bottom = 0.6 / max(ring.d_A for ring in calibration.rings)
    edges = np.linspace(bottom, top, 900)
    apart = np.hypot(rows - calibration.beam_centre_px[0], columns - calibration.beam_centre_px[1])
    rho, _ = exact.to_ideal(rows, columns)
    for radius, colour, name, width in (
        (apart, ORANGE, "circles", 1.0), (rho, BLUE, "with distortion", 1.4),
    ):  # fmt: skip
        where = np.digitize(_d_star(radius, calibration), edges)
        number = np.bincount(where, minlength=len(edges) + 1)[1 : len(edges)]
        total = np.bincount(where, counts, minlength=len(edges) + 1)[1 : len(edges)]
        mean = np.where(number > 0, total / np.maximum(number, 1), np.nan)
        panel.plot(0.5 * (edges[1:] + edges[:-1]), mean, "-", lw=width, color=colour, label=name)
    for ring in calibration.rings:
        panel.axvline(1 / ring.d_A, color=VERMILION, lw=0.7, ls=":", zorder=0)
    # a square root, as counting errors go: weak rings beside strong ones
    panel.set_yscale("function", functions=(_root, np.square))
    panel.set(xlim=(bottom, top), ylim=(0, None), xlabel="1/d / Å⁻¹", ylabel="mean counts per px")
    panel.legend(frameon=False, fontsize=8.5)
    tidy(panel)
    return drawing


def drift_over_time(
    times: Sequence[datetime],
    values: Sequence[Sequence[float]],
    errors: Sequence[Sequence[float]],
    names: Sequence[str],
    limits: Sequence[float],
) -> Figure:
    """One panel a quantity, a point a calibration; shaded: what no one is warned of.

    Parameters
    ----------
    times : of the calibrations, oldest first.
    values, errors : for each quantity, one for each calibration; NaN errors are unknown.
    limits : half height of the band about the calibration before the last; NaN for none.
    """
    n = len(names)
    drawing = Figure(figsize=(10, 0.8 + 1.75 * n), layout="constrained")
    panels = drawing.subplots(n, 1, sharex=True, squeeze=False)[:, 0]
    # evenly, for calibrations come in bursts; the dates stand below
    x = np.arange(len(times))
    for k, (panel, name) in enumerate(zip(panels, names, strict=True)):
        colour = (BLUE, ORANGE, GREEN, VERMILION)[k % 4]
        value = np.asarray(values[k], float)
        panel.errorbar(x, value, np.nan_to_num(np.asarray(errors[k], float)), fmt="-o", ms=5, lw=1,
                       capsize=3, color=colour)  # fmt: skip
        if len(value) > 1 and np.isfinite(limits[k]):
            before = value[-2]
            panel.axhspan(before - limits[k], before + limits[k], color=colour, alpha=0.10, lw=0)
        panel.set_ylabel(name)
        panel.ticklabel_format(axis="y", useOffset=False)
        tidy(panel)
    dates = [f"{one:%Y-%m-%d\n%H:%M}" for one in times]
    every = max(1, len(dates) // 12)
    panels[-1].set_xticks(x[::every], dates[::every], fontsize=8)
    panels[-1].set_xlim(-0.5, len(times) - 0.5)
    drawing.align_ylabels()
    return drawing


def camera_length_factors(table: CameraLengths) -> Figure:
    """Effective over nominal camera length, with the interpolation and its error between."""
    drawing = Figure(figsize=(10, 3.4), layout="constrained")
    panel = drawing.subplots()
    factor = table.distance_mm / table.nominal_mm
    if len(factor) > 1:
        at = np.geomspace(table.nominal_mm[0], table.nominal_mm[-1], 300)
        distance, sd = np.array([table.at(float(one)) for one in at]).T
        panel.fill_between(at, (distance - sd) / at, (distance + sd) / at, color=BLUE, alpha=0.15,
                           lw=0, label="interpolated, ± one standard error")  # fmt: skip
        panel.plot(at, distance / at, "-", color=BLUE, lw=1.2)
    panel.errorbar(table.nominal_mm, factor, table.sd_mm / table.nominal_mm, fmt="o", ms=6,
                   color=VERMILION, capsize=3, label="calibrated")  # fmt: skip
    panel.set(xlabel="camera length displayed / mm", ylabel="effective / displayed", xscale="log")
    panel.set_xticks(table.nominal_mm, [f"{one:g}" for one in table.nominal_mm])
    panel.minorticks_off()
    panel.legend(frameon=False, fontsize=8.5)
    tidy(panel)
    return drawing


def centres_of_images(
    row: Floats, column: Floats, sd_row: Floats, sd_column: Floats, first: tuple[float, float]
) -> Figure:
    """Where the beam was on each image, in order, and over the detector.

    Parameters
    ----------
    row, column, sd_row, sd_column : (n,) NaN where it was not found.
    first : (row, column) of the calibration.
    """
    drawing = Figure(figsize=(10, 4.6), layout="constrained")
    shapes = drawing.subplot_mosaic([["row", "plane"], ["column", "plane"]], width_ratios=(1.7, 1))
    number = np.arange(1, len(row) + 1)
    for name, value, sd, colour in (
        ("row", row, sd_row, BLUE), ("column", column, sd_column, ORANGE),
    ):  # fmt: skip
        panel = shapes[name]
        panel.errorbar(number, value, sd, fmt="o", ms=3.5, lw=0.9, color=colour)
        panel.axhline(first[0 if name == "row" else 1], color=GREY, lw=0.9, ls=":")
        panel.set_ylabel(f"{name} / px")
        panel.ticklabel_format(axis="y", useOffset=False)
        tidy(panel)
    shapes["column"].set_xlabel("image")
    shapes["row"].tick_params(labelbottom=False)
    plane = shapes["plane"]
    plane.plot(column, row, "-", color="#cfd6dc", lw=0.8)
    plane.plot(column, row, "o", ms=3.5, color=GREEN)
    plane.plot(first[1], first[0], "+", ms=12, mew=1.6, color=VERMILION, label="calibration")
    plane.set(xlabel="column / px", ylabel="row / px", aspect="equal", adjustable="datalim")
    plane.ticklabel_format(useOffset=False)
    plane.invert_yaxis()
    plane.legend(frameon=False, fontsize=8.5)
    tidy(plane)
    return drawing


def _radius_px(calibration: RingCalibration, d_A: float) -> float:
    """Undistorted radius of a ring, px."""
    angle = 2 * np.arcsin(calibration.wavelength_A / (2 * d_A))
    return float(calibration.distance_mm / calibration.pixel_size_mm * np.tan(angle))


def _d_star(radius: Floats, calibration: RingCalibration) -> Floats:
    """1/d of radii in px, the curvature of the Ewald sphere included."""
    angle = np.arctan(radius * calibration.pixel_size_mm / calibration.distance_mm)
    return np.asarray(2 * np.sin(angle / 2) / calibration.wavelength_A)


def _root(counts: Floats) -> Floats:
    return np.sqrt(np.maximum(counts, 0))


def _grey(shown: Floats) -> PowerNorm:
    """Greys in which a beam centre or hot pixels do not swallow the rings."""
    known = shown[np.isfinite(shown)]
    if not known.size:
        return PowerNorm(0.5, 0, 1)
    low, high = np.percentile(known[:: max(1, known.size // 500_000)], [1, 99.5])
    return PowerNorm(0.5, float(low), float(max(high, low + 1e-9)), clip=True)


def _binned(shown: Floats, step: int) -> Floats:
    """Means over step x step pixels, masked ones left out."""
    if step == 1:
        return shown
    rows, columns = (n // step * step for n in shown.shape)
    blocks = shown[:rows, :columns].reshape(rows // step, step, columns // step, step)
    known = np.isfinite(blocks)
    number = known.sum(axis=(1, 3))
    total = np.where(known, blocks, 0.0).sum(axis=(1, 3))
    return np.where(number > 0, total / np.maximum(number, 1), np.nan)


def _looked_up(shown: Floats, row: Floats, column: Floats) -> Floats:
    """The nearest pixel of each position; NaN off the image."""
    r, c = np.rint(row).astype(int), np.rint(column).astype(int)
    inside = (r >= 0) & (r < shown.shape[0]) & (c >= 0) & (c < shown.shape[1])
    view = np.full(row.shape, np.nan)
    view[inside] = shown[r[inside], c[inside]]
    return view
