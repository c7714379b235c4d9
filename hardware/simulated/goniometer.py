"""The goniometer: where the specimen truly is, and what the read-out says (docs/twin.md)."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat

from ..protocols import StagePosition
from .travel import Axis
from .view import Pose

Floats = NDArray[np.float64]
AXES = ("x_um", "y_um", "z_um", "alpha_deg", "beta_deg")
Setting = Literal["ideal", "well_set", "usual", "badly_set"]


class GoniometerOptions(BaseModel):
    """How good a goniometer is. Lengths marked (+-) are drawn with either sign from the seed.

    Attributes
    ----------
    speed_um_per_s, speed_z_um_per_s, speed_deg_per_s, speed_beta_deg_per_s : where no speed is
        asked for.
    max_speed_deg_per_s : refused above.
    speed_error : relative error of a rotation speed asked for (+-).
    ramp_s : time from rest to the default speed; it sets the acceleration.
    play_um, play_z_um, play_deg : backlash of x and y, of z, of alpha and beta.
    axis_height_um : height of the tilt axis above the eucentric plane at stage x = y = 0 (+-).
    axis_slope : change of that height with x and with y, um per um (+-).
    axis_offset_um : of the tilt axis from the optical axis, across (+-).
    runout_um, runout_period_deg : harmonic wander.
    wander_um : amplitude of the smooth random wander over alpha.
    wander_reversible : share of it that comes back when alpha does.
    wobble_deg, wobble_period_deg : of the tilt axis out of the plane.
    stage_scale, stage_skew : errors of the stage's x and y (+-).
    readout_error_deg, readout_period_deg : sine of the alpha read-out.
    readout_noise_um, readout_noise_deg : standard deviations.
    readout_step_um, readout_step_deg : what the read-out is rounded to; 0: not.
    drift_um_per_min : of the specimen (+-).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    speed_um_per_s: PositiveFloat = 25.0
    speed_z_um_per_s: PositiveFloat = 5.0
    speed_deg_per_s: PositiveFloat = 5.0
    speed_beta_deg_per_s: PositiveFloat = 2.0
    max_speed_deg_per_s: PositiveFloat = 20.0
    speed_error: NonNegativeFloat = 0.005
    ramp_s: PositiveFloat = 0.2
    play_um: NonNegativeFloat = 0.4
    play_z_um: NonNegativeFloat = 0.15
    play_deg: NonNegativeFloat = 0.08
    axis_height_um: NonNegativeFloat = 1.0
    axis_slope: NonNegativeFloat = 0.002
    axis_offset_um: NonNegativeFloat = 1.0
    runout_um: NonNegativeFloat = 0.15
    runout_period_deg: PositiveFloat = 70.0
    wander_um: NonNegativeFloat = 0.3
    wander_reversible: float = Field(default=0.7, ge=0, le=1)
    wobble_deg: NonNegativeFloat = 0.03
    wobble_period_deg: PositiveFloat = 120.0
    stage_scale: NonNegativeFloat = 0.01
    stage_skew: NonNegativeFloat = 0.02
    readout_error_deg: NonNegativeFloat = 0.05
    readout_period_deg: PositiveFloat = 10.0
    readout_noise_um: NonNegativeFloat = 0.002
    readout_noise_deg: NonNegativeFloat = 0.002
    readout_step_um: NonNegativeFloat = 0.001
    readout_step_deg: NonNegativeFloat = 0.01
    drift_um_per_min: NonNegativeFloat = 0.005


def preset(setting: Setting) -> GoniometerOptions:
    """A goniometer as the service left it, as one usually finds it, or in need of the service.

    Over +-50 degrees at the eucentric height of the origin, `usual` drifts by one or two um, and
    `badly_set` by up to 10; `ideal` has no error at all.
    """
    if setting == "ideal":
        wrong = {
            name: 0.0
            for name in GoniometerOptions.model_fields
            if name.startswith(("play", "axis_", "readout_error", "readout_noise", "readout_step"))
            or name in ("speed_error", "runout_um", "wander_um", "wobble_deg")
            or name in ("stage_scale", "stage_skew", "drift_um_per_min")
        }
        return GoniometerOptions(**wrong)
    if setting == "well_set":
        return GoniometerOptions(
            axis_height_um=0.3, axis_slope=0.0005, axis_offset_um=0.3, runout_um=0.05,
            wander_um=0.1, wobble_deg=0.02, play_um=0.2, play_z_um=0.05, play_deg=0.03,
        )  # fmt: skip
    if setting == "badly_set":
        return GoniometerOptions(
            axis_height_um=6.0, axis_slope=0.01, axis_offset_um=3.0, runout_um=0.6,
            wander_um=1.2, wander_reversible=0.5, wobble_deg=0.1, play_um=1.0, play_z_um=0.5,
            play_deg=0.2, readout_error_deg=0.08, drift_um_per_min=0.02,
        )  # fmt: skip
    return GoniometerOptions()


class Goniometer:
    """Commands in; true poses and read-outs out, at any time of the recent past.

    Times are the stage's own: a hung stage is one whose time stands still.

    Parameters
    ----------
    options : see there.
    axis : tilt axis, unit vector in the detector plane, lab frame.
    seed : of everything random about this goniometer.
    """

    def __init__(self, options: GoniometerOptions, axis: ArrayLike, seed: int) -> None:
        o, rng = options, np.random.default_rng([seed, 0x60])
        self.options = o

        def either(size: float) -> float:
            return float(size * rng.uniform(0.6, 1.0) * rng.choice((-1.0, 1.0)))

        a1, a2, a3 = (float(v) for v in np.asarray(axis, float))
        if abs(a3) > 1e-9:
            raise ValueError(f"axis: found {axis!r}, expected one in the detector plane")
        self.axis = (a1, a2)
        linear, turning = o.speed_um_per_s, o.speed_deg_per_s
        self._motion = {
            "x_um": Axis(0.0, linear / o.ramp_s, o.play_um),
            "y_um": Axis(0.0, linear / o.ramp_s, o.play_um),
            "z_um": Axis(0.0, o.speed_z_um_per_s / o.ramp_s, o.play_z_um),
            "alpha_deg": Axis(0.0, turning / o.ramp_s, o.play_deg),
            "beta_deg": Axis(0.0, o.speed_beta_deg_per_s / o.ramp_s, o.play_deg),
        }
        self._default_speed = (
            linear, linear, o.speed_z_um_per_s, turning, o.speed_beta_deg_per_s,
        )  # fmt: skip
        self.speed_factor = 1.0 + either(o.speed_error)
        self.axis_height_um = either(o.axis_height_um)
        self.axis_slope = (either(o.axis_slope), either(o.axis_slope))
        self.axis_offset_um = either(o.axis_offset_um)
        self.stage_matrix = np.array(  # x stays along the axis
            [[1.0 + either(o.stage_scale), either(o.stage_skew)], [0, 1.0 + either(o.stage_scale)]]
        )
        self._drift = (either(o.drift_um_per_min) / 60, either(o.drift_um_per_min) / 60)
        self._phase = rng.uniform(0, 2 * math.pi, 4)
        self._runout = (either(o.runout_um), either(o.runout_um))
        self._wander = tuple(
            _Smooth(share * o.wander_um, rng)
            for share in (o.wander_reversible, o.wander_reversible,
                          1 - o.wander_reversible, 1 - o.wander_reversible)
        )  # fmt: skip
        self._noise = np.random.default_rng([seed, 0x61])

    def command(self, t: float, target: dict[str, float], speed_deg_per_s: float | None) -> None:
        """Start towards `target`; a move under way is braked on all axes."""
        self.stop(t)
        for name, default in zip(AXES, self._default_speed, strict=True):
            if name in target:
                speed = default
                if name == "alpha_deg" and speed_deg_per_s is not None:
                    speed = speed_deg_per_s * self.speed_factor
                self._motion[name].go(t, target[name], speed)

    def stop(self, t: float, *, frozen: bool = False) -> None:
        """Brake all axes; `frozen`: they stand still already."""
        for axis in self._motion.values():
            if axis.at_rest_from() > t:
                (axis.freeze if frozen else axis.stop)(t)

    def is_moving(self, t: float) -> bool:
        """Whether any motor turns."""
        return any(axis.at_rest_from() > t for axis in self._motion.values())

    def motors(self, t: float) -> tuple[float, ...]:
        """x, y, z, alpha, beta of the motors, um and degrees."""
        return tuple(axis.motor(t) for axis in self._motion.values())

    def followers(self, t: float) -> tuple[float, ...]:
        """The same on the specimen's side of the play."""
        return tuple(axis.follower(t)[0] for axis in self._motion.values())

    def position(self, t: float) -> StagePosition:
        """The read-out: of the motors, with its errors."""
        o = self.options
        x, y, z, alpha, beta = self.motors(t)
        alpha += o.readout_error_deg * math.sin(
            2 * math.pi * alpha / o.readout_period_deg + self._phase[0]
        )
        n = self._noise.standard_normal(5).tolist()
        um, deg = o.readout_noise_um, o.readout_noise_deg
        return StagePosition(
            _rounded(x + um * n[0], o.readout_step_um),
            _rounded(y + um * n[1], o.readout_step_um),
            _rounded(z + um * n[2], o.readout_step_um),
            _rounded(alpha + deg * n[3], o.readout_step_deg),
            _rounded(beta + deg * n[4], o.readout_step_deg),
        )

    def axis_height(self, x_um: float, y_um: float) -> float:
        """Height of the tilt axis above the eucentric plane at a stage position."""
        return self.axis_height_um + self.axis_slope[0] * x_um + self.axis_slope[1] * y_um

    def pose(self, t: float, clock_s: float, moved_um: tuple[float, float] = (0.0, 0.0)) -> Pose:
        """Where the specimen is at the stage's time `t` and the clock's `clock_s`.

        ``r_lab = R (E s + r - c) + c + wander``, see docs/twin.md.
        """
        m = self._motion
        sx, sy = m["x_um"].follower(t)[0], m["y_um"].follower(t)[0]
        sz, beta = m["z_um"].follower(t)[0], m["beta_deg"].follower(t)[0]
        alpha, path = m["alpha_deg"].follower(t)
        rotation = self._rotation(alpha, beta)
        ax, ay = self.axis  # v = z x a = (-ay, ax)
        s = self.stage_matrix
        along, across = s[0, 0] * sx + s[0, 1] * sy, s[1, 1] * sy
        height, off = self.axis_height(sx, sy), self.axis_offset_um
        cx, cy = -ay * off, ax * off
        dx = along * ax - across * ay - cx
        dy = along * ay + across * ax - cy
        dz = sz - height
        wx, wy = self.wander(alpha, path)
        wx += moved_um[0] + self._drift[0] * clock_s
        wy += moved_um[1] + self._drift[1] * clock_s
        r = rotation
        return Pose(
            np.array(r),
            np.array(
                [
                    r[0][0] * dx + r[0][1] * dy + r[0][2] * dz + cx + wx,
                    r[1][0] * dx + r[1][1] * dy + r[1][2] * dz + cy + wy,
                    r[2][0] * dx + r[2][1] * dy + r[2][2] * dz + height,
                ]
            ),
        )

    def wander(self, alpha_deg: float, path_deg: float) -> tuple[float, float]:
        """Run-out and random wander, lab (x, y) in um, zero at the very beginning."""
        phase = 2 * math.pi * alpha_deg / self.options.runout_period_deg
        x = self._runout[0] * (math.sin(phase + self._phase[1]) - math.sin(self._phase[1]))
        y = self._runout[1] * (math.sin(phase + self._phase[2]) - math.sin(self._phase[2]))
        w = self._wander
        return x + w[0](alpha_deg) + w[2](path_deg), y + w[1](alpha_deg) + w[3](path_deg)

    def _rotation(self, alpha_deg: float, beta_deg: float) -> list[list[float]]:
        o = self.options
        tilt = math.radians(o.wobble_deg) * math.sin(
            2 * math.pi * alpha_deg / o.wobble_period_deg + self._phase[3]
        )
        c, s = math.cos(tilt), math.sin(tilt)
        ax, ay = self.axis
        turned = _turn(ax * c, ay * c, s, alpha_deg)
        if beta_deg == 0.0:
            return turned
        second = _turn(-ay, ax, 0.0, beta_deg)
        return [
            [sum(turned[i][k] * second[k][j] for k in range(3)) for j in range(3)] for i in range(3)
        ]


class _Smooth:
    """A smooth random function of an angle: sines of periods 30 to 180 degrees, 0 at 0."""

    def __init__(self, amplitude: float, rng: np.random.Generator, n: int = 6) -> None:
        period = np.exp(np.linspace(math.log(30.0), math.log(180.0), n))
        size = rng.normal(size=n) * np.sqrt(period)
        size *= amplitude / max(float(np.sqrt(np.sum(size**2) / 2)), 1e-12)
        phase = rng.uniform(0, 2 * math.pi, n)
        self._terms = [
            (float(a), 2 * math.pi / float(p), float(f))
            for a, p, f in zip(size, period, phase, strict=True)
        ]
        self._at_0 = sum(a * math.sin(f) for a, _, f in self._terms)

    def __call__(self, angle_deg: float) -> float:
        return sum(a * math.sin(k * angle_deg + f) for a, k, f in self._terms) - self._at_0


def _turn(x: float, y: float, z: float, angle_deg: float) -> list[list[float]]:
    """`lib.geometry.rotation_about` in plain floats: ten times as fast for a single matrix."""
    angle = math.radians(angle_deg)
    c, s = math.cos(angle), math.sin(angle)
    t = 1 - c
    return [
        [c + t * x * x, t * x * y - s * z, t * x * z + s * y],
        [t * x * y + s * z, c + t * y * y, t * y * z - s * x],
        [t * x * z - s * y, t * y * z + s * x, c + t * z * z],
    ]


def _rounded(value: float, step: float) -> float:
    # round() again: 3.14, and not 3.1400000000000001
    return round(round(value / step) * step, 9) if step else value
