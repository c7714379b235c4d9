"""Keeping the beam on a crystal that wanders while it is rotated.

A tracker says where the beam should be at an angle, and learns from where the crystal was seen.
Trackers are values: `observed` returns a new one. Everything is in um of the specimen, counted
from where the beam was at the start, along the tilt axis and across it.

The predictive one is a Kalman filter on what a goniometer does (after the swinging model of the
thesis): with alpha the tilt, per direction
``position(alpha) = c + a sin(alpha) + b (1 - cos(alpha)) + m(alpha)``.
A crystal h above the tilt axis swings with a = -h across it; b is its distance from the axis in the
plane; m is a Matern process of order 5/2 (Hartikainen & Sarkka, IEEE MLSP 2010), which stands for
bearings and drift and lets the filter follow a slope that the swing does not explain.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .settings import RobustSettings, RotationSettings, SwingSettings
from .shadow import Sighting

Floats = NDArray[np.float64]

# Where the crystal is at first: it was brought into the beam, but the beam's place is not exact.
START_UM = 1.0
# No measured offset is better than this.
LEAST_SIGMA_UM = 0.005
# Length of the state, and of its part for one direction.
HALF, SIZE = 6, 12


@dataclass(frozen=True)
class Observation:
    """Where the crystal was.

    Attributes
    ----------
    alpha_deg : at the middle of the exposure.
    beam_um : (2,) where the beam was.
    offset_um : (2,) crystal minus beam.
    sigma_um : standard deviation of a component.
    """

    alpha_deg: float
    beam_um: Floats
    offset_um: Floats
    sigma_um: float

    @property
    def crystal_um(self) -> Floats:
        """(2,) where the crystal was."""
        return self.beam_um + self.offset_um


@dataclass(frozen=True)
class Verdict:
    """What a tracker made of an observation.

    Attributes
    ----------
    accepted : whether it counts.
    innovation_um : distance of the crystal from the prediction.
    sigmas : the same in standard deviations (Mahalanobis distance).
    note : one phrase.
    """

    accepted: bool
    innovation_um: float
    sigmas: float
    note: str


class Tracker(Protocol):
    """What trackers have in common."""

    @property
    def name(self) -> str:
        """As in `RotationSettings.tracking`."""
        ...

    def beam_um(self, alpha_deg: float) -> Floats:
        """(2,) where the beam should be at that angle."""
        ...

    def sigma_um(self, alpha_deg: float) -> float:
        """Standard deviation of the crystal's place there, in the worse direction."""
        ...

    def observed(self, seen: Observation) -> tuple[Tracker, Verdict]:
        """The tracker that has learned from it."""
        ...


@dataclass(frozen=True)
class Still:
    """No tracking: the beam stays."""

    name: Literal["none"] = "none"

    def beam_um(self, alpha_deg: float) -> Floats:
        """(2,) zero."""
        return np.zeros(2)

    def sigma_um(self, alpha_deg: float) -> float:
        """Not known."""
        return math.nan

    def observed(self, seen: Observation) -> tuple[Still, Verdict]:
        """Itself."""
        return self, _verdict(True, float(np.linalg.norm(seen.offset_um)), math.nan, "not used")


@dataclass(frozen=True)
class Plain:
    """The thesis's tracking: the beam goes where the crystal was last seen."""

    at_um: Floats
    name: Literal["plain"] = "plain"

    def beam_um(self, alpha_deg: float) -> Floats:
        """(2,) where the crystal was last seen."""
        return self.at_um

    def sigma_um(self, alpha_deg: float) -> float:
        """Not known."""
        return math.nan

    def observed(self, seen: Observation) -> tuple[Plain, Verdict]:
        """Go there."""
        size = float(np.linalg.norm(seen.offset_um))
        return replace(self, at_um=seen.crystal_um), _verdict(True, size, math.nan, "taken")


@dataclass(frozen=True)
class Predictive:
    """Kalman filter on swing and wander; see the module.

    Attributes
    ----------
    settings : what it expects.
    alpha_deg : at which state and covariance hold.
    state : (12,) c, a, b, m and its first two derivatives (per degree) along the axis, then
        across it.
    covariance : (12, 12).
    suspect : an observation that fell outside the gate and awaits confirmation.
    """

    settings: SwingSettings
    alpha_deg: float
    state: Floats
    covariance: Floats
    suspect: Observation | None = None
    name: Literal["predictive"] = "predictive"

    @classmethod
    def at(cls, alpha_deg: float, settings: SwingSettings) -> Predictive:
        """Before anything was seen."""
        covariance = np.zeros((SIZE, SIZE))
        for first, swing in ((0, settings.along_um), (HALF, settings.across_um)):
            covariance[first, first] = START_UM**2 + swing**2
            covariance[first + 1, first + 1] = covariance[first + 2, first + 2] = swing**2
            wander = slice(first + 3, first + HALF)
            covariance[wander, wander] = _stationary(settings)
        return cls(settings, alpha_deg, np.zeros(SIZE), covariance)

    def beam_um(self, alpha_deg: float) -> Floats:
        """(2,) where the crystal is expected."""
        state, _ = self._moved(alpha_deg)
        return _seen_at(alpha_deg) @ state

    def sigma_um(self, alpha_deg: float) -> float:
        """Of what is expected."""
        _, covariance = self._moved(alpha_deg)
        h = _seen_at(alpha_deg)
        return float(math.sqrt(np.linalg.eigvalsh(h @ covariance @ h.T)[-1]))

    def observed(self, seen: Observation) -> tuple[Predictive, Verdict]:
        """Kalman update, unless it falls outside the gate and nothing confirms it."""
        state, covariance = self._moved(seen.alpha_deg)
        here = replace(self, alpha_deg=seen.alpha_deg, state=state, covariance=covariance)
        h = _seen_at(seen.alpha_deg)
        innovation = seen.crystal_um - h @ state
        noise = max(seen.sigma_um, LEAST_SIGMA_UM) ** 2 * np.eye(2)
        spread = h @ covariance @ h.T + noise
        size = float(np.linalg.norm(innovation))
        sigmas = float(math.sqrt(innovation @ np.linalg.solve(spread, innovation)))
        note = "taken"
        if sigmas > self.settings.gate_sigmas:
            if self.suspect is None or not here._confirms(self.suspect, seen, innovation):
                verdict = _verdict(False, size, sigmas, "outside the gate, not confirmed")
                return replace(here, suspect=seen), verdict
            note = "a jump, confirmed"
            covariance = covariance.copy()
            for first in (0, HALF):  # the place is new, the swing is not
                covariance[first, first] += size**2
                wander = slice(first + 3, first + HALF)
                covariance[wander, wander] += _stationary(self.settings)
            spread = h @ covariance @ h.T + noise
        gain = np.linalg.solve(spread, h @ covariance).T
        rest = np.eye(SIZE) - gain @ h
        learned = replace(
            here,
            state=state + gain @ innovation,
            covariance=rest @ covariance @ rest.T + gain @ noise @ gain.T,
            suspect=None,
        )
        return learned, _verdict(True, size, sigmas, note)

    def _confirms(self, suspect: Observation, seen: Observation, innovation: Floats) -> bool:
        """Whether an earlier surprise was the same one."""
        before = suspect.crystal_um - self.beam_um(suspect.alpha_deg)
        slack = 3 * math.hypot(suspect.sigma_um, seen.sigma_um) + 0.15 * self.settings.wander_um
        return bool(np.linalg.norm(innovation - before) < slack)

    def _moved(self, alpha_deg: float) -> tuple[Floats, Floats]:
        """State and covariance at another angle; forwards in the rotation or back."""
        away = abs(alpha_deg - self.alpha_deg)
        sign = 1.0 if alpha_deg >= self.alpha_deg else -1.0
        rate = math.sqrt(5) / self.settings.wander_length_deg
        x, d = rate * away, away
        step = math.exp(-x) * np.array(
            [
                [1 + x + x * x / 2, sign * d * (1 + x), d * d / 2],
                [-sign * rate**3 * d * d / 2, 1 + x - x * x, sign * d * (1 - x / 2)],
                [rate**3 * d * (x / 2 - 1), sign * rate * x * (x - 3), 1 - 2 * x + x * x / 2],
            ]
        )
        still = _stationary(self.settings)
        added = still - step @ still @ step.T
        f, q = np.eye(SIZE), np.zeros((SIZE, SIZE))
        for first in (0, HALF):
            wander = slice(first + 3, first + HALF)
            f[wander, wander] = step
            q[wander, wander] = added
        return f @ self.state, f @ self.covariance @ f.T + q


def _stationary(settings: SwingSettings) -> Floats:
    """(3, 3) covariance of the Matern process and its derivatives, at any angle."""
    variance, rate2 = settings.wander_um**2, 5 / settings.wander_length_deg**2
    slope = rate2 * variance / 3
    return np.array([[variance, 0, -slope], [0, slope, 0], [-slope, 0, rate2**2 * variance]])


def _seen_at(alpha_deg: float) -> Floats:
    """(2, 12) from the state to the place."""
    alpha = math.radians(alpha_deg)
    h = np.zeros((2, SIZE))
    h[0, :4] = h[1, HALF : HALF + 4] = [1.0, math.sin(alpha), 1 - math.cos(alpha), 1.0]
    return h


def _verdict(accepted: bool, size: float, sigmas: float, note: str) -> Verdict:
    return Verdict(accepted, size, sigmas, note)


def new_tracker(settings: RotationSettings, alpha_deg: float) -> Tracker:
    """The tracker that the settings name, at the start of a series."""
    if settings.tracking == "none":
        return Still()
    if settings.tracking == "plain":
        return Plain(np.zeros(2))
    return Predictive.at(alpha_deg, settings.swing)


def search_places(radius_um: float, towards: Floats) -> Floats:
    """(6, 2) places around the prediction to look for a lost crystal, the likeliest first.

    A hexagon at 1.3 radii: with the beam's disc at each, all within 2.2 radii is seen.

    Parameters
    ----------
    towards : (2,) the direction in which the crystal was last seen to leave.
    """
    first = math.atan2(float(towards[1]), float(towards[0])) if np.any(towards) else 0.0
    return hexagon(1.3 * radius_um, first)


def hexagon(distance_um: float, first: float = 0.0) -> Floats:
    """(6, 2) places at a distance, the first at an angle (radians), then those beside it."""
    turns = np.array([0, 1, -1, 2, -2, 3]) * math.pi / 3 + first
    return distance_um * np.column_stack([np.cos(turns), np.sin(turns)])


@dataclass(frozen=True)
class Pace:
    """How often the crystal is looked at: every `interval` exposures, or the robust mode's two.

    A series begins robust, until `interval` exposures are over, as in the thesis's program.

    Attributes
    ----------
    interval : the normal one; 0: never.
    settings : of the robust mode.
    variance, mean : of the reference image.
    robust : whether the mode is on.
    calm : tracking images in a row within bounds.
    n_robust : tracking images in a row with the mode on.
    why : what put it on, with its numbers.
    """

    interval: int
    settings: RobustSettings
    variance: float
    mean: float
    robust: bool = True
    calm: int = 0
    n_robust: int = 0
    why: str = "the series begins"

    @property
    def every(self) -> int:
        """The interval in force."""
        return min(self.settings.interval, self.interval) if self.robust else self.interval

    def after(self, sighting: Sighting, verdict: Verdict | None) -> Pace:
        """After one more tracking image."""
        why = self._out_of_bounds(sighting, verdict)
        if why:
            n = self.n_robust + 1 if self.robust else 1
            if n > self.settings.new_reference_after and math.isfinite(sighting.variance):
                return replace(
                    self, robust=True, calm=0, n_robust=1, why=why,
                    variance=sighting.variance, mean=sighting.mean,
                )  # fmt: skip
            return replace(self, robust=True, calm=0, n_robust=n, why=why)
        calm = self.calm + 1
        if self.robust and calm >= self.settings.images:
            return replace(self, robust=False, calm=calm, n_robust=0, why="")
        return replace(self, calm=calm, n_robust=self.n_robust + int(self.robust))

    def _out_of_bounds(self, sighting: Sighting, verdict: Verdict | None) -> str:
        s = self.settings
        if not sighting.found:
            return "the crystal was not seen"
        if sighting.confidence < s.least_confidence:
            return f"confidence {sighting.confidence:.2f} below {s.least_confidence:g}"
        if verdict is not None and not verdict.accepted:
            return f"{verdict.innovation_um:.2f} um from the prediction ({verdict.note})"
        for name, now, then, bounds in (
            ("variance", sighting.variance, self.variance, s.variance_ratio),
            ("mean", sighting.mean, self.mean, s.mean_ratio),
        ):
            ratio = now / then if then > 0 else math.nan
            if not bounds[0] <= ratio <= bounds[1]:
                return f"{name} {ratio:.2f} of the reference, not {bounds[0]:g} to {bounds[1]:g}"
        return ""


def specimen_um_per_unit(stage_px_per_um: ArrayLike, beam_px_per_unit: ArrayLike) -> Floats:
    """(2, 2) um of the specimen (along the tilt axis, across it) per unit of beam shift.

    From the calibrations of stage and beam shift in imaging. The stage's x is along the tilt
    axis; its motion takes the specimen with it, which is why there is no sign here: what counts
    is where the beam is among things that the stage moves.
    """
    matrix: Floats = np.linalg.solve(
        np.asarray(stage_px_per_um, float), np.asarray(beam_px_per_unit, float)
    )
    return matrix
