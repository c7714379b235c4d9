"""A series of frames before anything was found in it: a few frames, and what is known of them."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from ..series import RotationSeries
from . import html
from .artefact_page import Part
from .html import Safe

_SHOWN = 6


def series_part(series: RotationSeries) -> Part:
    """Thumbnails of frames evenly over the series, and its geometry."""
    picks = np.unique(np.linspace(0, len(series) - 1, min(_SHOWN, len(series))).astype(int))
    drawing = Figure(figsize=(10.4, 2.1), layout="constrained")
    panels = np.atleast_1d(drawing.subplots(1, len(picks)))
    for panel, k in zip(panels, picks, strict=True):
        image = np.sqrt(np.maximum(np.asarray(series.frames[int(k)], float), 0))
        step = max(1, image.shape[0] // 256)
        shown = image[::step, ::step]
        panel.imshow(shown, cmap="gray_r", vmax=max(float(np.quantile(shown, 0.998)), 1.0))
        panel.set_title(f"{series.frame_number[k]}", fontsize=9)
        panel.set_axis_off()
    geometry, shape = series.geometry, series.mask.shape
    rows: list[list[object]] = [
        ["frames", len(series)],
        ["rotation / °", f"{float(series.angle_width_deg.sum()):.2f}"],
        ["pixels", f"{shape[0]} × {shape[1]}"],
        ["wavelength / Å", html.Exact(f"{geometry.wavelength_A:.5f}", geometry.wavelength_A)],
        ["camera length / mm", html.Exact(f"{geometry.distance_mm:.2f}", geometry.distance_mm)],
    ]
    return Part(
        "frames",
        "Frames",
        Safe(
            html.figure(
                drawing,
                f"{len(picks)} frames, evenly over the series",
                "Counts on a square-root scale; the number is that of the frame.",
                raster=True,
            )
            + html.table(["What", "value"], rows)
        ),
    )
