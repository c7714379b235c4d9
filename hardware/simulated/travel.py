"""One axis of the goniometer: a motor with finite speed and ramps, and play behind it."""

from __future__ import annotations

import math
from bisect import bisect_right
from typing import NamedTuple

# legs kept: enough for every exposure that may still ask where the axis was
KEPT_LEGS = 400


class Leg(NamedTuple):
    """A stretch of constant acceleration in one direction, until the next leg begins.

    Attributes
    ----------
    t : when it begins.
    motor, velocity, acceleration : of the motor at `t`.
    follower : where the specimen's side of the axis is at `t`.
    path : way that the follower went until `t`, never falling.
    """

    t: float
    motor: float
    velocity: float
    acceleration: float
    follower: float
    path: float


class Axis:
    """Trapezoidal moves of a motor; the follower lags by half the play, as it was pushed.

    A motor position m moves the follower q to ``min(max(q, m - w/2), m + w/2)`` (play of width
    w): after moves upwards q = m - w/2, after moves downwards q = m + w/2, and it rests while
    the motor crosses the play.

    Parameters
    ----------
    at : position of motor and follower at the beginning.
    acceleration : of all ramps, per second squared.
    play : width w.
    """

    def __init__(self, at: float, acceleration: float, play: float) -> None:
        self._acceleration, self._half = acceleration, play / 2
        self._legs = [Leg(-math.inf, at, 0.0, 0.0, at, 0.0)]
        self._times = [-math.inf]

    def motor(self, t: float) -> float:
        """Where the motor is."""
        return _advance(self._leg(t), t)[0]

    def follower(self, t: float) -> tuple[float, float]:
        """Where the specimen's side is, and the way it went."""
        leg = self._leg(t)
        return self._followed(leg, _advance(leg, t)[0])

    def at_rest_from(self) -> float:
        """When the last move ends."""
        return self._times[-1]

    def go(self, t: float, target: float, speed: float) -> None:
        """Brake if moving, then go to `target`."""
        now = self._brake(t)
        way = target - now.motor
        if way == 0:
            return
        sign, a = math.copysign(1.0, way), self._acceleration
        top = min(speed, math.sqrt(abs(way) * a))
        ramp = top / a
        cruise = max((abs(way) - top * ramp) / top, 0.0)
        begin = now.t
        self._append(begin, now.motor, 0.0, sign * a)
        self._append(begin + ramp, now.motor + sign * top * ramp / 2, sign * top, 0.0)
        if cruise > 0:
            slow = begin + ramp + cruise
            self._append(slow, target - sign * top * ramp / 2, sign * top, -sign * a)
        else:  # no time at full speed
            self._replace_last(acceleration=-sign * a)
        self._append(begin + 2 * ramp + cruise, target, 0.0, 0.0)
        self._prune()

    def stop(self, t: float) -> None:
        """Brake to rest as fast as the ramp allows."""
        self._brake(t)

    def freeze(self, t: float) -> None:
        """Be at rest at once: for a motor that stands still already, hung amid a move."""
        leg = self._leg(t)
        motor = _advance(leg, t)[0]
        follower, path = self._followed(leg, motor)
        n = bisect_right(self._times, t)
        del self._legs[n:], self._times[n:]
        self._add(Leg(t, motor, 0.0, 0.0, follower, path))

    def _leg(self, t: float) -> Leg:
        return self._legs[max(bisect_right(self._times, t) - 1, 0)]

    def _brake(self, t: float) -> Leg:
        """Forget what is planned after `t` and come to rest; the leg of rest."""
        n = bisect_right(self._times, t)
        motor, velocity = _advance(self._legs[n - 1], t)
        follower, path = self._followed(self._legs[n - 1], motor)
        del self._legs[n:], self._times[n:]
        if velocity:
            a = self._acceleration
            self._add(Leg(t, motor, velocity, -math.copysign(a, velocity), follower, path))
            needed = abs(velocity) / a
            self._append(t + needed, motor + velocity * needed / 2, 0.0, 0.0)
            return self._legs[-1]
        return Leg(t, motor, 0.0, 0.0, follower, path)

    def _append(self, t: float, motor: float, velocity: float, acceleration: float) -> None:
        follower, path = self._followed(self._legs[-1], motor)
        self._add(Leg(t, motor, velocity, acceleration, follower, path))

    def _add(self, leg: Leg) -> None:
        self._legs.append(leg)
        self._times.append(leg.t)

    def _replace_last(self, acceleration: float) -> None:
        self._legs[-1] = self._legs[-1]._replace(acceleration=acceleration)

    def _followed(self, leg: Leg, motor: float) -> tuple[float, float]:
        q = leg.follower
        if q < motor - self._half:
            q = motor - self._half
        elif q > motor + self._half:
            q = motor + self._half
        return q, leg.path + abs(q - leg.follower)

    def _prune(self) -> None:
        if len(self._legs) > 2 * KEPT_LEGS:
            del self._legs[:-KEPT_LEGS], self._times[:-KEPT_LEGS]


def _advance(leg: Leg, t: float) -> tuple[float, float]:
    """Position and velocity of the motor at `t` within a leg."""
    if leg.velocity == 0.0 and leg.acceleration == 0.0:
        return leg.motor, 0.0
    dt = t - leg.t
    return (
        leg.motor + dt * (leg.velocity + 0.5 * leg.acceleration * dt),
        leg.velocity + leg.acceleration * dt,
    )
