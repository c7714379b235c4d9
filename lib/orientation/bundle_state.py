"""Where stage B stands, and how it looks at its rows from there."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import BSpline

from ..crystal.cell import Floats
from .bundle_band import PER_FRAME, Solution, solve
from .bundle_model import Rows, band_width, normal_equations, some_of, weigh
from .bundle_profile import GAUSSIAN, RockingShape, averaged
from .geometry import N_TANGENTS, SmoothRotation, along_perp, displaced, excitation

#: Distance of the knots of slow deviations.
KNOT_DEG = 5.0
#: Largest step of a frame per iteration, rad.
LONGEST_STEP = np.deg2rad(0.08)


@dataclass(frozen=True)
class State:
    """Where a fit stands.

    Attributes
    ----------
    smooth : the smooth rotation.
    small : (frames, 2) deviations from it, slow ones and those of single frames, rad.
    log_scale : (frames,) ln k.
    shape : of the rocking curves.
    kappa : proportional error of a row.
    weight : (n,) of the rows.
    amplitude, shift : (pieces,) A, and shift of the curve in units of its width.
    sd : (3,) of the priors: along, perp (rad), ln k.
    shift_sd : of the prior of the shifts; 0: there are none.
    drift : (2, splines) coefficients of the slow deviations along and perp, rad.
    drift_sd : (2,) of their prior; 0: there are none.
    """

    smooth: SmoothRotation
    small: Floats
    log_scale: Floats
    shape: RockingShape
    kappa: float
    weight: Floats
    amplitude: Floats
    sd: Floats
    shift: Floats
    shift_sd: float
    drift: Floats
    drift_sd: Floats


@dataclass(frozen=True)
class View:
    """Rows as a state sees them."""

    s: Floats
    small_slope: Floats
    delta: Floats
    sigma: Floats
    curve: Floats
    curve_slope: Floats
    shift_slope: Floats
    width_slope: Floats
    scale: Floats


@dataclass(frozen=True)
class Misfit:
    """Residuals, their leverage, and score and information of the shifts (`weigh`)."""

    residual: Floats
    leverage: Floats
    score: Floats
    information: Floats


class Bundle:
    """Rows and scan of one fit."""

    def __init__(
        self, rows: Rows, angle_deg: Floats, exposure_deg: Floats, wavelength_A: float
    ) -> None:
        self.rows, self.angle_deg, self.wavelength_A = rows, angle_deg, wavelength_A
        self.exposure_deg = np.asarray(exposure_deg, float)
        self.half_exposure = np.deg2rad(self.exposure_deg) / 2
        self.n = len(angle_deg)
        self.width = band_width(rows)
        self.observed = np.bincount(rows.frame, minlength=self.n) > 0
        self.splines = _splines(self.angle_deg)

    def part(self, state: State, pieces: NDArray[np.bool_]) -> tuple[Bundle, State]:
        """The fit of some of the pieces (pieces,) alone, and the state of these."""
        keep = np.repeat(pieces, np.diff(self.rows.bounds))
        fewer = Bundle(
            some_of(self.rows, pieces), self.angle_deg, self.exposure_deg, self.wavelength_A
        )
        return fewer, replace(
            state,
            weight=state.weight[keep],
            amplitude=state.amplitude[pieces],
            shift=state.shift[pieces],
        )

    def view(self, state: State) -> View:
        """Excitation errors and curves of all rows."""
        rows = self.rows
        reference = state.smooth.directions(self.angle_deg)
        e = displaced(reference, state.smooth.axis, state.small)
        t1, t2 = along_perp(e, state.smooth.axis)
        s, small_slope = excitation(rows.points, rows.frame, e, t1, t2, 1 / self.wavelength_A)
        sine = np.linalg.norm(np.cross(state.smooth.axis, e), axis=1)
        turn = self.half_exposure * abs(state.smooth.scale) * sine
        delta = np.abs(small_slope[:, 0]) * turn[rows.frame]
        sigma = state.shape.sigma(rows.length)
        s = s + np.repeat(state.shift, np.diff(rows.bounds)) * sigma
        curve, slope, width = averaged(s, delta, sigma, state.shape.table)
        scale = np.exp(state.log_scale)
        return View(s, small_slope, delta, sigma, curve, slope, slope * sigma, width, scale)

    def weighed(self, state: State, view: View) -> tuple[State, Misfit]:
        """The state with weights and amplitudes anew, and what the residuals are."""
        rows = self.rows
        amplitude, weight, *misfit = weigh(
            rows.bounds, rows.frame, rows.intensity, rows.background, rows.gain, state.kappa,
            view.curve, view.shift_slope, view.scale, state.weight, state.shift, state.shift_sd,
        )  # fmt: skip
        return replace(state, amplitude=amplitude, weight=weight), Misfit(*misfit)

    def looked(self, state: State) -> tuple[State, View, Misfit]:
        """View and weights anew, in one."""
        view = self.view(state)
        state, misfit = self.weighed(state, view)
        return state, view, misfit

    def model(self, state: State, view: View) -> tuple[Floats, Floats]:
        """Expected intensities (n,) and their variance from counting (n,)."""
        rows = self.rows
        top = np.repeat(state.amplitude, np.diff(rows.bounds)) * view.scale[rows.frame]
        model = top * view.curve
        return model, rows.gain * np.maximum(model, 0) + rows.background

    def equations(self, state: State, view: View, misfit: Misfit) -> tuple[Floats, Floats]:
        """Normal equations of the frames: S as a band, and b."""
        rows = self.rows
        return normal_equations(
            rows.bounds, rows.frame, view.curve, view.curve_slope, view.shift_slope,
            view.small_slope, view.scale, state.amplitude, state.weight, misfit.residual,
            state.shift, state.shift_sd, self.n, self.width,
        )  # fmt: skip

    def solution(
        self, state: State, band: Floats, right: Floats, sd: Floats, covariances: bool = True
    ) -> Solution:
        """The step they ask for under priors of widths `sd` (3,)."""
        there = self.tangents(state)
        tangents = np.zeros((self.n, PER_FRAME, there.shape[2]))
        tangents[:, :2] = there
        drift = state.drift[state.drift_sd > 0]
        wide = np.repeat(state.drift_sd[state.drift_sd > 0], self.splines.shape[1])
        free = np.zeros(N_TANGENTS)
        slow = self.splines @ state.drift.T
        deviation = np.column_stack([state.small - slow, state.log_scale]).ravel()
        return solve(
            band, right, tangents.reshape(PER_FRAME * self.n, -1), np.tile(1 / sd**2, self.n),
            deviation, np.r_[free, 1 / wide**2], np.r_[free, drift.ravel()], covariances,
        )  # fmt: skip

    def tangents(self, state: State) -> Floats:
        """(frames, 2, m) T: the smooth rotation's five, then slow deviations there are."""
        out = [state.smooth.tangents(self.angle_deg)]
        for k in np.flatnonzero(state.drift_sd > 0):
            slow = np.zeros((self.n, 2, self.splines.shape[1]))
            slow[:, k] = self.splines
            out.append(slow)
        return np.concatenate(out, axis=2)

    def stepped(self, state: State, solution: Solution, misfit: Misfit) -> State:
        """The state after that step, as far as it is not too long to be believed."""
        if state.shift_sd > 0:
            precision = misfit.information + 1 / state.shift_sd**2
            shift = (misfit.score - state.shift / state.shift_sd**2) / precision
            state = replace(state, shift=np.clip(state.shift + np.clip(shift, -0.3, 0.3), -2, 2))
        step = solution.frame
        limit = min(1.0, LONGEST_STEP / max(1e-12, float(np.abs(solution.smooth).max())))
        small = np.clip(step[:, :2], -LONGEST_STEP, LONGEST_STEP)
        drift = np.zeros_like(state.drift)
        drift[state.drift_sd > 0] = limit * solution.smooth[N_TANGENTS:].reshape(-1, drift.shape[1])
        return replace(
            state,
            smooth=state.smooth.moved(limit * solution.smooth[:N_TANGENTS]),
            small=state.small + small + self.splines @ drift.T,
            drift=state.drift + drift,
            log_scale=np.clip(state.log_scale + np.clip(step[:, 2], -0.3, 0.3), -3, 3),
        )


def _splines(angle_deg: Floats) -> Floats:
    """(frames, k) cubic B-splines over the scan, a knot every `KNOT_DEG`; k = 0 for short ones."""
    span = float(np.ptp(angle_deg))
    pieces = min(int(span / KNOT_DEG), len(angle_deg) // 8)
    if pieces < 2:
        return np.zeros((len(angle_deg), 0))
    low, high = float(angle_deg.min()), float(angle_deg.max())
    knots = np.r_[[low] * 3, np.linspace(low, high, pieces + 1), [high] * 3]
    return BSpline.design_matrix(angle_deg, knots, 3).toarray()


def first_shape(bundle_rows: Rows, s: Floats, delta: Floats) -> RockingShape:
    """The Gaussian of one width for all that fits best at excitation errors s, from a grid."""
    rows, best, found = bundle_rows, np.inf, 2e-3
    weight = 1 / (rows.background + np.maximum(rows.intensity, 0) * rows.gain)
    ones = np.ones(int(rows.frame.max()) + 1)
    for size in np.geomspace(2e-4, 8e-3, 9):
        shape = RockingShape(size, 2e-4, GAUSSIAN)
        curve = averaged(s, delta, shape.sigma(rows.length), shape.table)[0]
        none = np.zeros(len(rows.bounds) - 1)
        _, _, residual, *_ = weigh(
            rows.bounds, rows.frame, rows.intensity, rows.background, rows.gain, 0.2,
            curve, curve, ones, weight, none, 0.0,
        )  # fmt: skip
        cost = float(np.sum(np.log1p(residual**2 * weight / 4)))
        if cost < best:
            best, found = cost, float(size)
    return RockingShape(found, 5e-4, GAUSSIAN)
