"""Eucentric height: from how far a particle swings when the stage tilts.

With the stage's x along the tilt axis, a point at height h above the axis (along the beam) and d
beside it is seen at

    across(alpha) = c + d cos(alpha) - h sin(alpha)        (right-handed rotation, um)

along the stage's y. Two ways to find h, as pure step functions: they say where to tilt or by how
much to move z, and are told what was seen; `EmpiricalHeight` is the thesis's, `FittedHeight`
measures a whole swing and knows its error. A driver does

    state, action = way.begin(alpha_deg)
    while not isinstance(action, Done | GaveUp):
        ...  # do it; a Tilt is answered by what was seen, a MoveZ by None
        state, action = way.step(state, seen)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat

Floats = NDArray[np.float64]
Sense = Literal[1, -1]

# A point so many standard deviations off its swing is a lost particle.
LOST_SIGMA = 4.0

# With residuals this many times larger than the errors the points are no swing.
NO_SWING_CHI2 = 100.0


def across_um(shift_px: ArrayLike, px_per_um: ArrayLike) -> Floats:
    """(...,) displacement across the tilt axis for shifts (..., 2) of the picture.

    `px_per_um` is the stage calibration in imaging, whose y is across the axis.
    """
    um = np.asarray(shift_px, float) @ np.linalg.inv(np.asarray(px_per_um, float)).T
    return np.asarray(um[..., 1])


@dataclass(frozen=True)
class SwingFit:
    """Height from a measured swing.

    Attributes
    ----------
    height_um, esd_um : above the tilt axis, along the beam; NaN and infinite if it cannot be told.
    across_um, across_esd_um : of the particle beside the axis; little more than its prior for
        small tilts.
    used : (n,) points that were not taken for lost.
    chi2 : of the points used, per degree of freedom; NaN if none is free.
    problem : why it cannot be told; empty if it can.
    """

    height_um: float
    esd_um: float
    across_um: float
    across_esd_um: float
    used: NDArray[np.bool_]
    chi2: float
    problem: str = ""


def fit_swing(
    alpha_deg: ArrayLike,
    across: ArrayLike,
    sigma_um: ArrayLike = 0.01,
    *,
    beside_um: float = 5.0,
    smallest_range_deg: float = 2.0,
) -> SwingFit:
    """Weighted least squares of the swing; robust to lost points (up to a quarter of them).

    Parameters
    ----------
    alpha_deg : (n,) any tilts, in any order.
    across : (n,) displacement at each, um, from whatever common zero; NaN where not measured.
    sigma_um : its standard deviation, (n,) or one for all.
    beside_um : standard deviation expected of the particle's distance from the axis: tilts of
        one sign alone hardly tell it from a height.
    smallest_range_deg : of tilts that tell anything.
    """
    alpha = np.deg2rad(np.asarray(alpha_deg, float))
    y = np.asarray(across, float)
    sigma = np.broadcast_to(np.asarray(sigma_um, float), y.shape)
    used = np.isfinite(y) & np.isfinite(sigma) & (sigma > 0)
    n_seen = int(used.sum())

    def cannot(why: str) -> SwingFit:
        return SwingFit(np.nan, np.inf, np.nan, np.inf, used, np.nan, why)

    if n_seen < 3:
        return cannot(f"seen at {n_seen} tilts, at least 3 are needed")
    if np.ptp(np.rad2deg(alpha[used])) < smallest_range_deg:
        span = np.ptp(np.rad2deg(alpha[used]))
        return cannot(f"tilted by {span:.2g} degrees, at least {smallest_range_deg:g} are needed")
    design = np.stack([np.ones_like(alpha), np.cos(alpha) - 1, -np.sin(alpha)], axis=1)
    # where a particle may lie although the plain swing of the start knows no distance beside
    allowed = np.hypot(sigma, beside_um * np.ptp(design[used, 1]))
    off = np.abs(y - design[:, [0, 2]] @ _plain_swing(design[:, 2], y, used))
    kept = used & (off <= LOST_SIGMA * np.maximum(allowed, 1.4826 * np.median(off[used])))
    for _ in range(4):
        values, covariance = _weighted(design, y, sigma, kept, beside_um)
        off = np.abs(y - design @ values)
        typical = max(1.0, 1.4826 * float(np.median(off[kept] / sigma[kept])))
        again = used & (off <= LOST_SIGMA * typical * sigma)
        if np.array_equal(again, kept):
            break
        kept = again
        if kept.sum() < 3:
            break
    n_lost, seen, used = n_seen - int(kept.sum()), n_seen, kept
    if used.sum() < 3 or n_lost > max(1, seen // 4):
        return cannot(f"{n_lost} of {seen} points lie off any swing")
    freedom = int(used.sum()) - 2  # the distance beside is mostly the prior
    chi2 = float(np.sum((off[used] / sigma[used]) ** 2) / freedom)
    if chi2 > NO_SWING_CHI2:
        return cannot(f"the points are no swing: chi-square {chi2:.0f} per degree of freedom")
    covariance = covariance * max(1.0, chi2)
    esd = np.sqrt(np.diag(covariance))
    return SwingFit(
        height_um=float(values[2]),
        esd_um=float(esd[2]),
        across_um=float(values[1]),
        across_esd_um=float(esd[1]),
        used=used,
        chi2=chi2,
    )


def _plain_swing(slope: Floats, y: Floats, used: NDArray[np.bool_]) -> Floats:
    """(offset, height) by the median of the slopes between all pairs (Theil and Sen)."""
    s, v = slope[used], y[used]
    pairs = [
        (v[j] - v[i]) / (s[j] - s[i])
        for i, j in combinations(range(len(s)), 2)
        if abs(s[j] - s[i]) > 1e-6
    ]
    height = float(np.median(pairs))
    return np.array([np.median(v - height * s), height])


def _weighted(
    design: Floats, y: Floats, sigma: Floats, kept: NDArray[np.bool_], beside_um: float
) -> tuple[Floats, Floats]:
    weighted = design[kept] / sigma[kept, None]
    normal = weighted.T @ weighted
    normal[1, 1] += 1 / beside_um**2
    covariance = np.linalg.inv(normal)
    return np.asarray(covariance @ weighted.T @ (y[kept] / sigma[kept])), np.asarray(covariance)


@dataclass(frozen=True)
class Tilt:
    """Tilt to there and take a picture; as `reference`, it is the zero of those that follow."""

    alpha_deg: float
    reference: bool = False


@dataclass(frozen=True)
class MoveZ:
    """Move the stage's z by so much."""

    by_um: float


@dataclass(frozen=True)
class Done:
    """The particle is at eucentric height, to within an error where it is known.

    Attributes
    ----------
    moved_um : of the stage's z, in all.
    left_um, esd_um : height that is left; NaN if the method cannot know.
    sense : +1 if raising the stage's z raised the particle, -1 if it lowered it.
    """

    moved_um: float
    left_um: float = np.nan
    esd_um: float = np.nan
    sense: Sense = 1


@dataclass(frozen=True)
class GaveUp:
    """The height was not found; z stands `moved_um` from where it was."""

    why: str
    moved_um: float


Action = Tilt | MoveZ | Done | GaveUp


@dataclass(frozen=True)
class Seen:
    """What a picture showed.

    Attributes
    ----------
    alpha_deg : tilt read from the stage.
    across_um : displacement of the particle from the reference, across the axis; None if it was
        not recognised. 0 for the reference itself.
    sigma_um : its standard deviation.
    """

    alpha_deg: float
    across_um: float | None
    sigma_um: float = 0.01


class _Way(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True)
class EmpiricalState:
    """Where `EmpiricalHeight` stands: end of the rotation, reference tilt, moves, losses."""

    end_deg: float
    reference_deg: float
    moved_um: float = 0.0
    n_moves: int = 0
    n_lost: int = 0


class EmpiricalHeight(_Way):
    """The thesis's method: during one rotation, whenever the particle has moved, z is stepped.

    A rotation of 15 degrees is ordered at a new position, the shift is measured every 2 degrees,
    and a change of 1 um in z is decided on to minimise it (Bin Wang, thesis, 4.2.3). It needs to
    know what raising z does, and cannot tell how near it came.

    Attributes
    ----------
    range_deg, every_deg : of the rotation, and between pictures.
    step_um : of z.
    tolerance_um : a smaller shift asks for no move.
    sense : +1 if raising the stage's z raises the particle (along the beam), -1 if it lowers it.
    most_moves : after so many it gives up.
    """

    range_deg: float = 15.0
    every_deg: PositiveFloat = 2.0
    step_um: PositiveFloat = 1.0
    tolerance_um: PositiveFloat = 0.06
    sense: Sense = 1
    most_moves: int = Field(default=15, ge=1)

    def begin(self, alpha_deg: float) -> tuple[EmpiricalState, Action]:
        """Start where the stage is tilted now."""
        state = EmpiricalState(end_deg=alpha_deg + self.range_deg, reference_deg=alpha_deg)
        return state, Tilt(alpha_deg, reference=True)

    def step(self, state: EmpiricalState, seen: Seen | None) -> tuple[EmpiricalState, Action]:
        """What to do next; `seen` is None after a move of z."""
        if seen is None:  # z was moved: the particle has too, so count from here
            return state, Tilt(state.reference_deg, reference=True)
        if seen.across_um is None:
            if state.n_lost == 1:
                why = f"particle lost at {seen.alpha_deg:.1f} degrees"
                return state, GaveUp(why, state.moved_um)
            return self._onwards(replace(state, n_lost=1), seen.alpha_deg)
        state = replace(state, n_lost=0)
        swung = np.sin(np.deg2rad(seen.alpha_deg)) - np.sin(np.deg2rad(state.reference_deg))
        if abs(seen.across_um) <= self.tolerance_um or swung == 0:
            return self._onwards(state, seen.alpha_deg)
        if state.n_moves >= self.most_moves:
            why = f"the particle still moves after {state.n_moves} steps of z"
            return state, GaveUp(why, state.moved_um)
        height = -seen.across_um / swung
        by_um = float(-np.sign(height) * self.sense * self.step_um)
        state = replace(
            state,
            reference_deg=seen.alpha_deg,
            moved_um=state.moved_um + by_um,
            n_moves=state.n_moves + 1,
        )
        return state, MoveZ(by_um)

    def _onwards(self, state: EmpiricalState, alpha_deg: float) -> tuple[EmpiricalState, Action]:
        way = np.sign(self.range_deg)
        if way * (state.end_deg - alpha_deg) < 0.25 * self.every_deg:
            return state, Done(state.moved_um, sense=self.sense)
        following = alpha_deg + way * self.every_deg
        return state, Tilt(float(way * min(way * following, way * state.end_deg)))


@dataclass(frozen=True)
class FittedState:
    """Where `FittedHeight` stands.

    Attributes
    ----------
    tilts_deg : still to be visited in this swing.
    swing : those to be visited in the next one.
    seen : in this swing.
    moved_um, sense, n_swings : so far.
    last : fit of the swing before and the move of z that followed.
    """

    tilts_deg: tuple[float, ...]
    swing: tuple[float, ...]
    seen: tuple[Seen, ...] = ()
    moved_um: float = 0.0
    sense: Sense = 1
    n_swings: int = 0
    last: tuple[float, float] | None = None


class FittedHeight(_Way):
    """Height fitted to a whole swing, corrected, and checked by another.

    Attributes
    ----------
    tilts_deg : of a swing, from where the stage is tilted at the start.
    aim_um : done when the height left is smaller than this, and known to within it.
    sense : as for `EmpiricalHeight`; if the first move shows it wrong, it is turned.
    beside_um : as for `fit_swing`.
    most_um : largest single move of z; a height beyond is approached in several.
    most_swings : after so many it gives up.
    """

    tilts_deg: tuple[float, ...] = Field(default=(-9, -6, -3, 0, 3, 6, 9), min_length=3)
    aim_um: PositiveFloat = 0.2
    sense: Sense = 1
    beside_um: PositiveFloat = 5.0
    most_um: PositiveFloat = 50.0
    most_swings: int = Field(default=5, ge=1)

    def begin(self, alpha_deg: float) -> tuple[FittedState, Action]:
        """Start where the stage is tilted now."""
        tilts = tuple(alpha_deg + one for one in self.tilts_deg)
        state = FittedState(tilts_deg=tilts[1:], swing=tilts[::-1], sense=self.sense)
        return state, Tilt(tilts[0], reference=True)

    def step(self, state: FittedState, seen: Seen | None) -> tuple[FittedState, Action]:
        """What to do next; `seen` is None after a move of z."""
        if seen is None:  # the next swing goes back the same way
            first, *rest = state.swing
            state = replace(state, tilts_deg=tuple(rest), swing=state.swing[::-1], seen=())
            return state, Tilt(first, reference=True)
        state = replace(state, seen=(*state.seen, seen))
        if state.tilts_deg:
            first, *rest = state.tilts_deg
            return replace(state, tilts_deg=tuple(rest)), Tilt(first)
        return self._decide(replace(state, n_swings=state.n_swings + 1))

    def _decide(self, state: FittedState) -> tuple[FittedState, Action]:
        fit = fit_swing(
            [one.alpha_deg for one in state.seen],
            [np.nan if one.across_um is None else one.across_um for one in state.seen],
            [one.sigma_um for one in state.seen],
            beside_um=self.beside_um,
        )
        if fit.problem:
            return state, GaveUp(f"height: {fit.problem}", state.moved_um)
        if state.last is not None:
            before, by_um = state.last
            if (fit.height_um - before) * by_um * state.sense < 0 and abs(by_um) > 4 * fit.esd_um:
                state = replace(state, sense=-1 if state.sense == 1 else 1)
        if abs(fit.height_um) <= self.aim_um and fit.esd_um <= self.aim_um:
            return state, Done(state.moved_um, fit.height_um, fit.esd_um, state.sense)
        if state.n_swings >= self.most_swings or abs(fit.height_um) < 0.5 * fit.esd_um:
            why = f"height {fit.height_um:.2f} um, e.s.d. {fit.esd_um:.2f}, after "
            why += f"{state.n_swings} swings (aim {self.aim_um:g})"
            return state, GaveUp(why, state.moved_um)
        by_um = float(np.clip(-state.sense * fit.height_um, -self.most_um, self.most_um))
        state = replace(state, moved_um=state.moved_um + by_um, last=(fit.height_um, by_um))
        return state, MoveZ(by_um)
