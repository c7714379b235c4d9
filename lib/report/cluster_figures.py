"""Figures of clusters: the matrix of correlations, the dendrogram, what each data set does."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from scipy.cluster.hierarchy import dendrogram as scipy_dendrogram

from ..merging.delta_cc_half import DeltaCCHalf
from ..merging.hca import Clusters
from ..merging.pairwise import Pairwise
from .frame_figures import tidy
from .html import BLUE, LATTICE_COLOURS, VERMILION

# More names than this are not legible along an axis.
_MOST_NAMES = 60
# Nor more numbers in a row of the matrix.
_MOST_NUMBERS = 14
_GREY = "#8a949e"


def correlation_matrix(pairwise: Pairwise, clusters: Clusters) -> Figure:
    """All CCs, data sets in the order of the tree; absent pairs are hatched, clusters framed."""
    order = leaf_order(clusters)
    n = len(order)
    size = float(np.clip(0.18 * n + 2.2, 4.2, 9.0))
    drawing = Figure(figsize=(size + 0.9, size), layout="constrained")
    panel = drawing.subplots()
    panel.set_facecolor("#f1f3f5")
    panel.patch.set_hatch("////")
    panel.patch.set_edgecolor("#cfd6dc")
    cc = np.ma.masked_invalid(pairwise.cc[np.ix_(order, order)])
    # a diagonal of ones would only dazzle
    cc[np.arange(n), np.arange(n)] = np.ma.masked
    # where all agree, what is left of the range would be one colour
    worst = float(cc.min()) if cc.count() else 0.0
    low = next((low for low in (0.9, 0.5) if worst >= low), 0.0)
    image = panel.imshow(cc, cmap="viridis", vmin=low, vmax=1, interpolation="nearest")
    if n <= _MOST_NUMBERS:
        for (i, j), one in np.ndenumerate(cc.filled(np.nan)):
            if np.isfinite(one):
                dark = one < 0.5 * (low + 1)
                panel.text(
                    j, i, f"{one:.2f}", ha="center", va="center", fontsize=7,
                    color="white" if dark else "black",
                )  # fmt: skip
    place = np.empty(n, np.int64)
    place[order] = np.arange(n)
    for number, members in enumerate(clusters.members):
        at = np.sort(place[list(members)])
        if len(at) and at[-1] - at[0] == len(at) - 1:  # else no rectangle is only theirs
            panel.add_patch(
                Rectangle((at[0] - 0.5, at[0] - 0.5), len(at), len(at), fill=False, lw=2,
                          ec=_colour(number))
            )  # fmt: skip
    if n <= _MOST_NAMES:
        names = [pairwise.names[i] for i in order]
        panel.set_xticks(np.arange(n), labels=names, rotation=90, fontsize=6.5)
        panel.set_yticks(np.arange(n), labels=names, fontsize=6.5)
    else:
        panel.set(xlabel="data sets, in the order of the tree")
    panel.spines[:].set_visible(False)
    bar = drawing.colorbar(image, ax=panel, shrink=0.7, aspect=28, pad=0.02, extend="min")
    bar.set_label("CC of common reflections")
    return drawing


def dendrogram(clusters: Clusters) -> Figure:
    """The tree with its cut; branches that no pair joins are drawn dashed to the top."""
    n = len(clusters.names)
    drawing = Figure(figsize=(float(np.clip(0.2 * n + 2, 5, 10)), 3.8), layout="constrained")
    panel = drawing.subplots()
    if n < 2:
        panel.text(0.5, 0.5, "one data set", ha="center", va="center", transform=panel.transAxes)
        panel.set_axis_off()
        return drawing
    finite = clusters.heights[np.isfinite(clusters.heights)]
    top = 1.12 * max(float(finite.max(initial=0.0)), min(clusters.cut, 2.0), 0.05)
    tree = clusters.linkage.copy()
    tree[np.isinf(tree[:, 2]), 2] = top
    drawn = scipy_dendrogram(tree, no_plot=True)
    labels = clusters.labels[drawn["leaves"]]
    for x, y in zip(drawn["icoord"], drawn["dcoord"], strict=True):
        # leaves stand at 5, 15, 25 ...
        under = labels[int(np.ceil((min(x) - 5) / 10)) : int((max(x) - 5) // 10) + 1]
        inside = y[1] < clusters.cut and len(set(under.tolist())) == 1 and under[0] >= 0
        panel.plot(
            x, y, color=_colour(int(under[0])) if inside else _GREY, lw=1.3,
            ls="--" if y[1] >= top else "-", solid_joinstyle="miter",
        )  # fmt: skip
    if clusters.cut < top:
        panel.axhline(clusters.cut, color=VERMILION, lw=1, ls=":")
        panel.annotate(
            f"cut {clusters.cut:.2f}", (1, clusters.cut), xycoords=("axes fraction", "data"),
            ha="right", va="bottom", fontsize=8.5, color=VERMILION,
        )  # fmt: skip
    panel.set(xlim=(0, 10 * n), ylim=(0, top), ylabel="distance √(1 − CC²)")
    if n <= _MOST_NAMES:
        names = [clusters.names[i] for i in drawn["leaves"]]
        panel.set_xticks(5 + 10 * np.arange(n), labels=names, rotation=90, fontsize=6.5)
    else:
        panel.set_xticks([])
        panel.set_xlabel(f"{n} data sets")
    tidy(panel)
    panel.grid(False, axis="x")
    if n <= _MOST_NAMES:
        panel.tick_params(axis="x", labelsize=6.5, length=0)
    return drawing


def delta_cc_half(found: DeltaCCHalf) -> Figure:
    """What each data set adds to CC1/2, in the order given; harm is in red."""
    n = len(found.names)
    drawing = Figure(figsize=(float(np.clip(0.2 * n + 2, 5, 10)), 3.0), layout="constrained")
    panel = drawing.subplots()
    colours = [BLUE if one >= 0 else VERMILION for one in np.nan_to_num(found.delta)]
    panel.bar(np.arange(n), 100 * np.nan_to_num(found.delta), width=0.8, color=colours)
    panel.axhline(0, color="#888888", lw=0.8)
    panel.set(xlim=(-0.7, n - 0.3), ylabel="ΔCC½ / %")
    if n <= _MOST_NAMES:
        panel.set_xticks(np.arange(n), labels=list(found.names), rotation=90)
    else:
        panel.set_xlabel("data sets")
    tidy(panel)
    if n <= _MOST_NAMES:
        panel.tick_params(axis="x", labelsize=6.5, length=0)
    panel.grid(False, axis="x")
    return drawing


def leaf_order(clusters: Clusters) -> NDArray[np.int64]:
    """(n,) numbers of the data sets along the foot of the tree."""
    if len(clusters.linkage) == 0:
        return np.arange(len(clusters.names))
    tree = clusters.linkage.copy()
    finite = clusters.heights[np.isfinite(clusters.heights)]
    tree[np.isinf(tree[:, 2]), 2] = 1 + finite.max(initial=1.0)
    return np.array(scipy_dendrogram(tree, no_plot=True)["leaves"], np.int64)


def _colour(number: int) -> str:
    return LATTICE_COLOURS[number % len(LATTICE_COLOURS)]
