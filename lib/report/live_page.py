"""A page that a browser reloads by itself while something is measured or computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from . import html
from .html import Safe
from .overfocus_figures import picture

RELOAD_S = 1


def live_page(
    name: str,
    over: str,
    step: str,
    facts: Mapping[str, object],
    images: Mapping[str, NDArray[np.float64]],
    lines: Sequence[str] = (),
    final: str = "",
    drawings: Sequence[tuple[Figure, str]] = (),
) -> str:
    """The page as HTML text.

    Parameters
    ----------
    name, over, step : title, what is above it, and what happens now.
    facts : numbers so far, by name.
    images : by title, side by side.
    lines : what happened so far, the latest first.
    final : path of the page to go to when all is done; the page is then no longer reloaded.
    drawings : figures below the images, with what they show.
    """
    body: list[str] = []
    if final:
        body.append(Safe(f'<p><a href="{html.escape(final)}">The report of the result</a></p>'))
    else:
        body.append(Safe(f'<meta http-equiv="refresh" content="{RELOAD_S}">'))
    if facts:
        body.append(html.facts(facts))
    if images:
        body.append(html.figure(_side_by_side(images), step, step, raster=True))
    body += [html.figure(drawing, what, what) for drawing, what in drawings]
    body.append(html.bullets(lines))
    return html.page(name, over, step, body, "This page reloads itself while the work goes on.")


def _side_by_side(images: Mapping[str, NDArray[np.float64]]) -> Figure:
    drawing = Figure(figsize=(3.6 * len(images), 3.9), layout="constrained")
    panels = np.atleast_1d(drawing.subplots(1, len(images)))
    for panel, (title, image) in zip(panels, images.items(), strict=True):
        picture(panel, np.asarray(image, float))
        panel.set_title(title, fontsize=10)
    return drawing
