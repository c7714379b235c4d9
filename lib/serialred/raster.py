"""Raster of a scan area: serpentine stage positions whose fields of view cover it.

A field of view is the camera's picture brought into stage coordinates by the stage calibration
(full 2 x 2: scale, rotation, shear), so it is a parallelogram there; positions lie in rows along
its edges. A screw has play, so a position is true only if each axis arrives from the same side
every time: where a move would not, it goes through an approach point first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Annotated, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, model_validator

from ..errors import UserError

Floats = NDArray[np.float64]
Point = tuple[float, float]

# Corners of the polygon drawn about a circle.
CIRCLE_CORNERS = 180

# Of a field of view: its neighbour may cover this much of it.
LARGEST_OVERLAP = 0.75

# Of a field of view: rounding must not add a row to an area that fits exactly.
TINY = 1e-9


class _Area(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Circle(_Area):
    """A disc in stage coordinates."""

    kind: Literal["circle"] = "circle"
    centre_um: Point = (0.0, 0.0)
    radius_um: PositiveFloat

    @property
    def outline_um(self) -> Floats:
        """(n, 2) corners (x, y) of a polygon drawn about it, starting at its largest x."""
        angle = 2 * np.pi * np.arange(CIRCLE_CORNERS) / CIRCLE_CORNERS
        radius = self.radius_um / np.cos(np.pi / CIRCLE_CORNERS)
        return np.array(self.centre_um) + radius * np.stack([np.cos(angle), np.sin(angle)], 1)

    @property
    def extremes_um(self) -> Floats:
        """(4, 2) its outermost points (x, y)."""
        steps = np.array([[1, 0], [0, 1], [-1, 0], [0, -1]])
        return np.array(self.centre_um) + self.radius_um * steps


class Box(_Area):
    """A rectangle along the stage's axes."""

    kind: Literal["box"] = "box"
    x_um: tuple[float, float]
    y_um: tuple[float, float]

    @model_validator(mode="after")
    def _ordered(self) -> Box:
        for low, high in (self.x_um, self.y_um):
            if not low < high:
                raise ValueError("expected [lowest, highest]")
        return self

    @property
    def outline_um(self) -> Floats:
        """(4, 2) corners (x, y)."""
        (x0, x1), (y0, y1) = self.x_um, self.y_um
        return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])

    @property
    def extremes_um(self) -> Floats:
        """(4, 2) corners (x, y)."""
        return self.outline_um


class Polygon(_Area):
    """Any polygon that does not cross itself; the last corner is joined to the first."""

    kind: Literal["polygon"] = "polygon"
    corners_um: tuple[Point, ...] = Field(min_length=3)

    @model_validator(mode="after")
    def _has_area(self) -> Polygon:
        x, y = np.array(self.corners_um).T
        if abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) < 2e-6:
            raise ValueError("expected corners that enclose an area")
        return self

    @property
    def outline_um(self) -> Floats:
        """(n, 2) corners (x, y)."""
        return np.array(self.corners_um)

    @property
    def extremes_um(self) -> Floats:
        """(n, 2) corners (x, y)."""
        return self.outline_um


ScanArea = Annotated[Circle | Box | Polygon, Field(discriminator="kind")]


@dataclass(frozen=True)
class RasterPosition:
    """Where the stage goes to look.

    Attributes
    ----------
    x_um, y_um : of the stage.
    approach_um : (x, y) to go to before, so that both axes arrive from their side; None where
        the move from the position before does so by itself.
    """

    x_um: float
    y_um: float
    approach_um: Point | None


def raster(
    area: Circle | Box | Polygon,
    *,
    shape: tuple[int, int],
    px_per_um: ArrayLike,
    overlap_um: float = 0.0,
    backlash_um: float = 0.0,
    x_limits_um: tuple[float, float] = (-np.inf, np.inf),
    y_limits_um: tuple[float, float] = (-np.inf, np.inf),
) -> list[RasterPosition]:
    """Positions, in serpentine order, whose fields of view cover the area.

    Parameters
    ----------
    area : to be seen.
    shape : (rows, columns) of the picture.
    px_per_um : (2, 2) stage calibration in imaging: px (row, column) = px_per_um @ (x, y) um.
    overlap_um : by which neighbouring views overlap. A crystal that needs so much room, its
        margin included, is whole in one of them.
    backlash_um : length of an approach; 0: positions are gone to directly. The side from which
        both axes arrive is the one that needs the fewest approaches.
    x_limits_um, y_limits_um : of the stage.

    Raises
    ------
    UserError : the area, a position or an approach lies outside the limits (names the corner);
        the overlap is not smaller than the field of view.
    """
    limits = np.array([x_limits_um, y_limits_um], float)
    _within(area.extremes_um, limits, f"scan area: corner of the {area.kind}")
    um_per_px = np.linalg.inv(np.asarray(px_per_um, float))
    edges = um_per_px * np.array(shape)  # columns: down the rows, along a row of the picture
    lengths = np.linalg.norm(edges, axis=0)
    # the overlap is measured across an edge: heights of the parallelogram
    heights = abs(np.linalg.det(edges)) / lengths[::-1]
    if not 0 <= overlap_um <= LARGEST_OVERLAP * heights.min():
        raise UserError(
            "scan area: overlap_um",
            f"{overlap_um:g}",
            f"0 to {LARGEST_OVERLAP * heights.min():.3g} um, three quarters of the field of view",
            "choose a smaller overlap or a lower magnification",
        )
    steps = edges * (1 - overlap_um / heights)
    # rows of positions along either edge of the picture: the way with the fewest moves
    ways = [_way(area.outline_um, order, backlash_um) for order in (steps, steps[:, ::-1])]
    positions, approaches = min(ways, key=lambda way: (len(way[0]), _number(way[1])))
    _within(positions, limits, "scan area: position that sees its edge")
    there = [one for one in approaches if one is not None]
    _within(np.array(there).reshape(-1, 2), limits, "scan area: approach to a position")
    return [
        RasterPosition(float(x), float(y), approach)
        for (x, y), approach in zip(positions, approaches, strict=True)
    ]


def _within(points: Floats, limits: Floats, what: str) -> None:
    """Raise `UserError` naming the point (x, y) that lies farthest outside, if one does."""
    if not len(points):
        return
    outside = np.maximum(limits[:, 0] - points, points - limits[:, 1]).max(axis=1)
    worst = int(np.argmax(outside))
    if outside[worst] > 0:
        (x0, x1), (y0, y1) = limits
        x, y = points[worst]
        raise UserError(
            what,
            f"({x:.4g}, {y:.4g}) um",
            f"x within {x0:g} to {x1:g} and y within {y0:g} to {y1:g} um (stage limits)",
            "choose an area within; nothing was moved",
        )


def _way(
    outline: Floats, steps: Floats, backlash_um: float
) -> tuple[Floats, Sequence[Point | None]]:
    """Positions (n, 2) um and their approaches, in rows along the second column of `steps`."""
    middle = 0.5 * (outline.min(axis=0) + outline.max(axis=0))
    tiles = _cover((outline - middle) @ np.linalg.inv(steps).T)
    positions = tiles @ steps.T + middle
    return positions, _approaches(positions, backlash_um)


def _number(approaches: Sequence[Point | None]) -> int:
    return sum(one is not None for one in approaches)


def _cover(outline: Floats) -> Floats:
    """Centres (n, 2) of unit squares that cover a polygon, in serpentine order.

    Squares lie in rows along the second coordinate; each row is centred on what it covers.
    """
    starts, ends = outline, np.roll(outline, -1, axis=0)
    centres: list[Floats] = []
    low, high = outline[:, 0].min(), outline[:, 0].max()
    for i, first in enumerate(_intervals(low, high)):
        inside = _clipped(starts, ends, 0, first - 0.5, first + 0.5)
        along = np.concatenate([one[:, 1] for one in inside])
        row = [
            np.array([first, second])
            for second in _intervals(along.min(), along.max())
            if _meets(starts, ends, np.array([first, second]))
        ]
        centres += row[::-1] if i % 2 else row
    return np.array(centres)


def _intervals(low: float, high: float) -> Floats:
    """Centres of the fewest unit intervals that cover low..high, spread evenly about it."""
    number = max(1, int(np.ceil(high - low - TINY)))
    return np.asarray(0.5 * (low + high) + np.arange(number) - 0.5 * (number - 1), np.float64)


def _clipped(
    starts: Floats, ends: Floats, axis: int, low: float, high: float
) -> tuple[Floats, Floats]:
    """The parts of edges (n, 2) with low <= coordinate <= high; those without are left out."""
    begin, along = starts[:, axis], ends[:, axis] - starts[:, axis]
    safe = np.where(np.abs(along) < 1e-300, 1e-300, along)
    t = np.sort(np.stack([(low - begin) / safe, (high - begin) / safe]), axis=0)
    enter, leave = np.clip(t[0], 0, 1), np.clip(t[1], 0, 1)
    flat = np.abs(along) < TINY
    enter, leave = np.where(flat, 0.0, enter), np.where(flat, 1.0, leave)
    seen = (np.minimum(begin, begin + along) < high) & (np.maximum(begin, begin + along) > low)
    direction = (ends - starts)[seen]
    return (
        starts[seen] + enter[seen, None] * direction,
        starts[seen] + leave[seen, None] * direction,
    )


def _meets(starts: Floats, ends: Floats, centre: Floats) -> bool:
    """Whether a polygon, by its edges (n, 2), has a part of a unit square about `centre`."""
    half = 0.5 - TINY
    a, b = _clipped(starts, ends, 0, centre[0] - half, centre[0] + half)
    a, b = _clipped(a, b, 1, centre[1] - half, centre[1] + half)
    if len(a):
        return True
    # no edge comes in: the square is wholly inside or wholly outside (even-odd rule)
    crossing = (starts[:, 0] > centre[0]) != (ends[:, 0] > centre[0])
    s, e = starts[crossing], ends[crossing]
    at = s[:, 1] + (centre[0] - s[:, 0]) / (e[:, 0] - s[:, 0]) * (e[:, 1] - s[:, 1])
    return bool(np.count_nonzero(at > centre[1]) % 2)


def _approaches(positions: Floats, backlash_um: float) -> Sequence[Point | None]:
    """For each position (n, 2) where to go before, from the side that needs this least often."""
    if backlash_um <= 0:
        return [None] * len(positions)
    sides = [np.array(side, float) for side in product((1, -1), repeat=2)]
    choices = [_from_side(positions, side, backlash_um) for side in sides]
    return min(choices, key=_number)


def _from_side(positions: Floats, side: Floats, backlash_um: float) -> Sequence[Point | None]:
    """Approaches so that both axes arrive moving along `side` (2,) of +-1.

    An axis that moves along its side, or rests where it arrived so, needs none. The first
    position always does: where the stage comes from is not known.
    """
    approaches: list[Point | None] = []
    for i, position in enumerate(positions):
        move = np.full(2, -np.inf) if i == 0 else (position - positions[i - 1]) * side
        wrong = move < -TINY
        if not wrong.any():
            approaches.append(None)
            continue
        before = position - np.where(wrong, backlash_um, 0.0) * side
        approaches.append((float(before[0]), float(before[1])))
    return approaches
