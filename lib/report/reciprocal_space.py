"""Reciprocal space to turn about: strong spots by the lattice that indexes them, and its axes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..crystal.cell import reciprocal_basis
from ..reduction.result import FrameTable, Lattice, Reduction
from . import html
from .diffraction import observed_in_crystal, spots_in_crystal
from .html import BLUE, GREEN, LATTICE_COLOURS, PURPLE, VERMILION, Safe
from .summary import strongest_first

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Still
    from plotly.graph_objects import Figure

Floats = NDArray[np.float64]

# More points than this make a page slow, and show nothing more.
MOST_POINTS = 5000
_SYMBOLS = ("circle", "diamond", "square", "circle-open")
_AXIS_COLOURS = (VERMILION, GREEN, BLUE)
_NONE_COLOUR = "#333333"

# Each button turns the figure that follows it.
_TURN = r"""
for (const button of document.querySelectorAll("button[data-camera]"))
  button.addEventListener("click", () => {
    const plot = button.closest(".views").nextElementSibling.querySelector(".live");
    Plotly.relayout(plot, {"scene.camera": JSON.parse(button.dataset.camera)});
  });
"""


def viewer(reduction: Reduction, seed: int = 0, still: Still | None = None) -> Safe:
    """The strong spots in reciprocal space, with buttons that look along a*, b* and c*.

    They lie in the Cartesian frame of the first lattice (a along x, b in the xy plane).

    Parameters
    ----------
    reduction : with a lattice at least.
    seed : of the choice of points, where there are more than `MOST_POINTS`.
    still : what is printed in its place.
    """
    first = reduction.lattices[0]
    n = sum(len(points) for _, points in _points(reduction))
    words = "spots" if reduction.spots is not None else "reflections with I/σ > 5"
    some = f" ({MOST_POINTS} of {n} are drawn)" if n > MOST_POINTS else ""
    buttons = "".join(
        f"<button type=button data-camera='{json.dumps(camera)}'>{label}</button> "
        for label, camera in cameras(first).items()
    )
    shown = html.interactive(
        scene(reduction, seed),
        f"{n} strong {words} in reciprocal space by the lattice that indexes them, with the axes "
        "a*, b*, c* and the cell of the first lattice",
        f"Strong {words} turned back into the crystal{some}. Lines: a*, b*, c* and the edges of "
        "the reciprocal cell. Spots of a good lattice stand in rows from every side; spots of no "
        "lattice that stand in rows of their own are another crystal.",
        still=still,
    )
    return Safe(f'<p class="views">View: {buttons}</p>{shown}{html.script(_TURN)}')


def scene(reduction: Reduction, seed: int = 0) -> Figure:
    """The plotly figure of `viewer`."""
    import plotly.graph_objects as go

    lattice = reduction.lattices[0]
    groups = _points(reduction)
    n = sum(len(points) for _, points in groups)
    rng = np.random.default_rng(seed)
    reach = 0.0
    traces: list[Any] = []
    for number, (name, points) in enumerate(groups):
        kept = points[rng.random(len(points)) < MOST_POINTS / n] if n > MOST_POINTS else points
        kept = np.round(kept, 4)
        reach = max(reach, float(np.abs(kept).max(initial=0.0)))
        none = name == _NO_LATTICE
        hkl = kept @ np.linalg.inv(reciprocal_basis(lattice.cell)).T
        traces.append(
            go.Scatter3d(
                x=kept[:, 0], y=kept[:, 1], z=kept[:, 2], mode="markers", name=name,
                customdata=np.round(hkl, 2),
                hovertemplate="h %{customdata[0]}, k %{customdata[1]}, l %{customdata[2]}"
                f"<extra>{name}</extra>",
                marker={
                    "size": 4 if none else 1.7,
                    "symbol": "diamond-open" if none else _SYMBOLS[number % len(_SYMBOLS)],
                    "color": _NONE_COLOUR if none else LATTICE_COLOURS[number % 6],
                },
            )
        )  # fmt: skip
    traces += _axes(lattice, 1.12 * reach)
    room = {"visible": False, "range": [-1.12 * reach, 1.12 * reach]}
    return go.Figure(
        traces,
        {
            "scene": {
                "xaxis": room, "yaxis": room, "zaxis": room,
                "aspectmode": "manual", "aspectratio": {"x": 1.9, "y": 1.9, "z": 1.9},
                "camera": cameras(lattice)["from the side"],
            },
            "margin": {"l": 0, "r": 0, "t": 0, "b": 0},
            "legend": {"itemsizing": "constant", "x": 0, "y": 1, "bgcolor": "rgba(255,255,255,.8)"},
            "hoverlabel": {"font": {"size": 12}},
        },
    )  # fmt: skip


_NO_LATTICE = "of no lattice"


def _points(reduction: Reduction) -> list[tuple[str, Floats]]:
    """By name, where spots lie in the frame of the first lattice."""
    first, frames, spots = reduction.lattices[0], reduction.frames, reduction.spots
    several = len(reduction.lattices) > 1
    names = [f"of lattice {i}" if several else "indexed"
             for i in range(1, len(reduction.lattices) + 1)]  # fmt: skip
    if spots is not None:
        q = spots_in_crystal(first, frames, spots)
        groups = [(name, q[spots.lattice == i]) for i, name in enumerate(names, 1)]
        return [*groups, (_NO_LATTICE, q[spots.lattice == 0])]
    return [
        (name, _in_the_first(one, first, frames))
        for name, one in zip(names, reduction.lattices, strict=True)
    ]


def _in_the_first(lattice: Lattice, first: Lattice, frames: FrameTable) -> Floats:
    q = observed_in_crystal(lattice, frames, strongest_first(lattice, at_least=5))
    turn = lattice.orientation @ np.linalg.inv(reciprocal_basis(lattice.cell))
    back = first.orientation @ np.linalg.inv(reciprocal_basis(first.cell))
    turned: Floats = q @ turn.T @ back
    return turned


def _axes(lattice: Lattice, length_per_A: float) -> list[Any]:
    """Three arms with their names, and the edges of the cell."""
    import plotly.graph_objects as go

    star = reciprocal_basis(lattice.cell)
    arms = []
    for i, (letter, colour) in enumerate(zip("abc", _AXIS_COLOURS, strict=True)):
        end = star[:, i] / np.linalg.norm(star[:, i]) * length_per_A
        length = float(np.linalg.norm(star[:, i]))
        arms.append(
            go.Scatter3d(
                x=[0, end[0]], y=[0, end[1]], z=[0, end[2]], mode="lines+text",
                text=["", f"<b>{letter}*</b>"], textfont={"color": colour, "size": 16},
                line={"color": colour, "width": 4}, name=f"{letter}*", showlegend=False,
                hovertemplate=f"{letter}* {length:.4f} Å⁻¹<extra></extra>",
            )
        )  # fmt: skip
    corners = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)])
    path: list[list[float | None]] = [[], [], []]
    for m, one in enumerate(corners):
        for other in corners[m + 1 :]:
            if np.abs(one - other).sum() == 1:
                for axis, (a, b) in enumerate(zip(star @ one, star @ other, strict=True)):
                    path[axis] += [round(float(a), 5), round(float(b), 5), None]
    cell = go.Scatter3d(
        x=path[0], y=path[1], z=path[2], mode="lines", line={"color": PURPLE, "width": 3},
        name="reciprocal cell", hoverinfo="skip",
    )  # fmt: skip
    return [*arms, cell]


def cameras(lattice: Lattice) -> dict[str, dict[str, Any]]:
    """Plotly cameras by label: along each reciprocal axis, and from the side."""
    star = reciprocal_basis(lattice.cell)
    found = {f"along {'abc'[i]}*": _camera(star[:, i], star[:, (i + 2) % 3]) for i in range(3)}
    found["from the side"] = _camera(np.array([1.0, 0.8, 0.5]), np.array([0.0, 0.0, 1.0]))
    return found


def _camera(towards: Floats, up: Floats) -> dict[str, Any]:
    eye = 1.8 * towards / np.linalg.norm(towards)
    up = up - (up @ towards) * towards / (towards @ towards)
    up = up / np.linalg.norm(up)

    def point(v: Floats) -> dict[str, float]:
        return {axis: round(float(x), 5) for axis, x in zip("xyz", v, strict=True)}

    return {"eye": point(eye), "up": point(up), "projection": {"type": "orthographic"}}
