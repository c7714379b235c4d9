"""Stage B: all rocking curves of a scan at once, with two small rotations for every frame.

``minimise sum rho((I - k_f A_h W(s_hf))^2 / v) + sum eps_f^T Lambda eps_f + sum ln(k_f)^2 / tau^2``

over the smooth rotation, the deviations eps of every frame from it, the frame scales k, the
amplitudes A and the width and shape of the rocking curve. The prior widths (Lambda, tau) are not
chosen: MacKay's updates find those under which the data are most probable, so that a goniometer
without jitter comes out smooth, and one with jitter keeps it. Model and weights are in
`bundle_model`, the linear algebra in `bundle_band`, the curve in `bundle_profile`.

Steps are Gauss-Newton's: first with a Gaussian curve, whose width is fitted along; then the width
is frozen and a non-negative mixture takes over (left free, the two drift); then the frames without
prior; then the half-set test, by which the errors are scaled; then the frames with prior again, as
the prior's width depends on what the errors are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..crystal.cell import Floats
from .bundle_band import Solution
from .bundle_model import Rows, proportional_error, width_equations
from .bundle_profile import GAUSSIAN, RockingShape, fit_mixture
from .bundle_state import Bundle, Misfit, State, View, first_shape
from .geometry import N_TANGENTS, SmoothRotation, displaced, small_angles
from .half_sets import error_factor, halves

#: sd of the deviations in the solution without prior, deg: keeps frames without spots finite.
WIDE_DEG = 0.2
#: sd at which fits begin, and bounds of it: along, perp (rad), ln of the scale.
FIRST_SD = np.array([np.deg2rad(0.03), np.deg2rad(0.03), 0.05])
#: sd of slow deviations at which they begin, rad.
FIRST_DRIFT = np.deg2rad(0.01)
LEAST_SD = np.array([np.deg2rad(1e-5), np.deg2rad(1e-5), 1e-4])
MOST_SD = np.array([np.deg2rad(0.5), np.deg2rad(0.5), 0.7])
GAUSSIAN_STEPS, MIXTURE_STEPS, FREE_STEPS, LAST_STEPS = 9, 5, 3, 15
HALF_STEPS, WIDTH_STEPS = 3, 6
#: Step from which passages may be shifted: frames come first, as both move the curves.
FIRST_SHIFT = 5
#: A prior of no width is preferred unless one with width is e^2 times as probable.
OCCAM = 2.0


@dataclass(frozen=True)
class BundleFit:
    """What stage B found.

    Attributes
    ----------
    smooth : the smooth rotation.
    small, small_unshrunk : (frames, 2) deviations along and perp from `smooth`, rad.
    covariance, covariance_unshrunk : (frames, 2, 2) of the frames' directions, rad^2; the smooth
        part's own error included, scaled by the half-set test.
    frame_scale : (frames,).
    shape : of the rocking curves.
    kappa : proportional error of a row.
    shift_sd : found sd of the passages' shifts, in units of their widths; 0: none needed.
    sd_deg : (3,) found sd of deviations along and perp in deg, and of ln of the frame scale.
    drift_sd_deg : (2,) found sd of slow deviations along and perp; 0: none.
    chi_square : median squared residual over its expectation, strong rows.
    half_set_factor : errors by the half-set test over those by the model, along and perp.
    smooth_factor : (2,) the same of the smooth rotation, 1 or more.
    amplitude : (pieces,) of the passages, 0 where insignificant.
    frame_chi_square : (frames,) mean weighted squared residual; NaN without rows.
    spots : (frames,) rows above three sigma.
    """

    smooth: SmoothRotation
    small: Floats
    small_unshrunk: Floats
    covariance: Floats
    covariance_unshrunk: Floats
    frame_scale: Floats
    shape: RockingShape
    kappa: float
    shift_sd: float
    sd_deg: Floats
    drift_sd_deg: Floats
    chi_square: float
    half_set_factor: Floats
    smooth_factor: Floats
    amplitude: Floats
    frame_chi_square: Floats
    spots: NDArray[np.int64]


def fit_bundle(
    rows: Rows,
    start: SmoothRotation,
    angle_deg: Floats,
    exposure_deg: Floats,
    wavelength_A: float,
    seed: int = 0,
) -> BundleFit:
    """Refine `start` (of stage A, to a fraction of the rocking width) with all rocking curves.

    Parameters
    ----------
    rows : observations.
    angle_deg, exposure_deg : (frames,) read-out at mid-exposure, rotation during it.
    seed : of the division into half-sets.
    """
    bundle = Bundle(rows, angle_deg, exposure_deg, wavelength_A)
    state = State(
        start, np.zeros((bundle.n, 2)), np.zeros(bundle.n), RockingShape(2e-3, 5e-4, GAUSSIAN),
        0.1, 1 / (rows.background + np.maximum(rows.intensity, 0) * rows.gain),
        np.zeros(len(rows.bounds) - 1), FIRST_SD, np.zeros(len(rows.bounds) - 1), 0.0,
        np.zeros((2, bundle.splines.shape[1])), np.zeros(2),
    )  # fmt: skip
    view = bundle.view(state)
    state = replace(state, shape=first_shape(rows, view.s, view.delta))

    for step in range(GAUSSIAN_STEPS + MIXTURE_STEPS):
        state, view, misfit = bundle.looked(state)
        if step >= GAUSSIAN_STEPS and step % 2 == GAUSSIAN_STEPS % 2:
            state, view, misfit = _reshaped(bundle, state, view)
        if step >= 2:
            state = _with_kappa(bundle, state, view, misfit)
        if step >= FIRST_SHIFT:
            state = replace(state, shift_sd=_lean(state, misfit))
        band, right = bundle.equations(state, view, misfit)
        if step < GAUSSIAN_STEPS:
            state = replace(state, shape=_wider(bundle, state, view, misfit.residual))
        solution = bundle.solution(state, band, right, state.sd)
        state = bundle.stepped(state, solution, misfit)
        if step >= 2:
            state = _mackay(bundle, state, solution)

    free, free_solution, chi_square, factor = _without_prior(bundle, state, seed)
    temper = max(1.0, chi_square) * max(1.0, float(np.mean(factor**2)))
    for step in range(LAST_STEPS):
        state, view, misfit = bundle.looked(state)
        band, right = bundle.equations(state, view, misfit)
        band, right = band / temper, right / temper
        if step == 0:
            state = _with_widths(bundle, state, band, right, misfit)
        solution = bundle.solution(state, band, right, state.sd)
        state = bundle.stepped(state, solution, misfit)
        if step >= 2 and _settled(bundle, state, solution):
            break
    smooth_factor = _smooth_factor(bundle, state, temper, seed)

    state, view, misfit = bundle.looked(state)
    residual = misfit.residual
    reference = state.smooth.directions(angle_deg)
    free_e = displaced(free.smooth.directions(angle_deg), free.smooth.axis, free.small)
    number = np.bincount(rows.frame, minlength=bundle.n)
    with np.errstate(invalid="ignore", divide="ignore"):
        per_frame = np.bincount(rows.frame, state.weight * residual**2, minlength=bundle.n) / number
    noise = rows.background + rows.gain * np.maximum(rows.intensity, 0)
    clear = rows.intensity > 3 * np.sqrt(noise)
    widened = np.sqrt(max(1.0, chi_square)) * np.maximum(factor, 1.0)
    return BundleFit(
        state.smooth,
        state.small,
        small_angles(free_e, reference, state.smooth.axis),
        solution.total[:, :2, :2]
        + (np.outer(smooth_factor, smooth_factor) - 1) * solution.of_smooth[:, :2, :2],
        free_solution.total[:, :2, :2] * np.outer(widened, widened),
        np.exp(state.log_scale),
        state.shape,
        state.kappa,
        state.shift_sd,
        np.array([*np.rad2deg(state.sd[:2]), state.sd[2]]),
        np.rad2deg(state.drift_sd),
        chi_square,
        factor,
        smooth_factor,
        state.amplitude,
        per_frame,
        np.bincount(rows.frame[clear], minlength=bundle.n),
    )


def _settled(bundle: Bundle, state: State, solution: Solution) -> bool:
    """Whether a step moved frames by less than a twentieth of their errors."""
    moved = solution.frame[:, :2] + bundle.tangents(state) @ solution.smooth
    sd = np.sqrt(np.diagonal(solution.total, axis1=1, axis2=2)[:, :2])
    return bool((np.abs(moved) < 0.05 * sd)[bundle.observed].all())


def _wider(bundle: Bundle, state: State, view: View, residual: Floats) -> RockingShape:
    """Width and mosaic spread after one step, at most a factor of 1.4."""
    rows, shape = bundle.rows, state.shape
    part = (shape.mosaic_rad * rows.length / view.sigma) ** 2
    normal, right = width_equations(
        rows.bounds, rows.frame, view.curve, view.width_slope, part, view.scale,
        state.amplitude, state.weight, residual,
    )  # fmt: skip
    ridge = 1e-3 * np.trace(normal) * np.eye(2) + 1e-12 * np.eye(2)
    step = np.clip(np.linalg.solve(normal + ridge, right), -0.35, 0.35)
    return replace(
        shape,
        size_per_A=float(np.clip(shape.size_per_A * np.exp(step[0]), 5e-5, 3e-2)),
        mosaic_rad=float(np.clip(shape.mosaic_rad * np.exp(step[1]), 2e-5, 3e-2)),
    )


def _lean(state: State, misfit: Misfit) -> float:
    """sd of the passages' shifts, in units of their widths; 0 if the data do not ask for any.

    From zero it starts only if the scores are larger than by chance (a score test); then it follows
    MacKay's updates.
    """
    score, information = misfit.score, misfit.information
    some = information > 0
    if not some.any():
        return 0.0
    score, information = score[some], information[some]
    if state.shift_sd == 0:
        excess = float(np.sum(score**2 - information))
        if excess < 4 * np.sqrt(2 * np.sum(information**2)):
            return 0.0
        return float(np.clip(np.sqrt(excess / np.sum(information**2)), 0.02, 0.5))
    gamma = np.sum(information / (information + 1 / state.shift_sd**2))
    sd = np.sqrt(np.sum(state.shift[some] ** 2) / max(gamma, 1e-9))
    return float(np.clip(sd, max(state.shift_sd / 3, 1e-3), min(state.shift_sd * 3, 1.0)))


def _mackay(bundle: Bundle, state: State, solution: Solution) -> State:
    """Widths of the priors anew: ``sd^2 <- sum eps^2 / gamma``, ``gamma = sum (1 - C / sd^2)``.

    gamma is the number of well-determined deviations (MacKay, Neural Computation 4 (1992) 415).
    """
    quick = state.small - bundle.splines @ state.drift.T
    eps = np.column_stack([quick, state.log_scale])[bundle.observed]
    variance = np.diagonal(solution.deviation, axis1=1, axis2=2)[bundle.observed]
    gamma = np.maximum(np.sum(1 - variance / state.sd**2, axis=0), 1e-3 * len(eps))
    sd = np.sqrt(np.sum(eps**2, axis=0) / gamma)
    # not more than threefold at once: early steps are far from where they lead
    sd = np.clip(np.clip(sd, state.sd / 3, state.sd * 3), LEAST_SD, MOST_SD)
    drift_sd = state.drift_sd.copy()
    slow = drift_sd > 0
    if slow.any():
        variance = np.diag(solution.smooth_covariance)[N_TANGENTS:].reshape(slow.sum(), -1)
        wide = drift_sd[slow]
        gamma = np.maximum(np.sum(1 - variance / wide[:, None] ** 2, axis=1), 1e-2)
        new = np.sqrt(np.sum(state.drift[slow] ** 2, axis=1) / gamma)
        drift_sd[slow] = np.clip(np.clip(new, wide / 3, wide * 3), LEAST_SD[0], MOST_SD[0])
    return replace(state, sd=sd, drift_sd=drift_sd)


def _with_widths(
    bundle: Bundle, state: State, band: Floats, right: Floats, misfit: Misfit
) -> State:
    """The state with the widths of all priors found anew, from one set of equations.

    Robust weights and shrinkage feed on each other if widths are sought while frames move: what is
    shrunk fits worse, counts less, and is shrunk more.
    """
    if bundle.splines.shape[1]:
        state = replace(state, drift_sd=np.full(2, FIRST_DRIFT))
    for more in (True, False):
        for _ in range(WIDTH_STEPS):
            solution = bundle.solution(state, band, right, state.sd)
            there = _mackay(bundle, bundle.stepped(state, solution, misfit), solution)
            state = replace(state, sd=there.sd, drift_sd=there.drift_sd)
        if more:
            state = _without_needless_width(bundle, state, band, right)
    return state


def _without_needless_width(bundle: Bundle, state: State, band: Floats, right: Floats) -> State:
    """The state with those widths made zero, one after the other, that evidence does not ask for.

    MacKay's update stands still where the width that is best is zero; the evidence does not.
    """

    def evidence(one: State) -> float:
        return bundle.solution(one, band, right, one.sd, covariances=False).log_evidence

    best = evidence(state)
    while True:
        fewer = []
        # slow deviations are to be expected of a goniometer: they need no more than even odds
        for k in np.flatnonzero(state.drift_sd > 0):
            drift_sd = state.drift_sd.copy()
            drift_sd[k] = 0.0
            fewer.append((replace(state, drift_sd=drift_sd), 0.0))
        for k in np.flatnonzero(state.sd > LEAST_SD):
            sd = state.sd.copy()
            sd[k] = LEAST_SD[k]
            fewer.append((replace(state, sd=sd), OCCAM))
        gain = [evidence(one) + bonus - best for one, bonus in fewer]
        if not gain or max(gain) < 0:
            return state
        state, bonus = fewer[int(np.argmax(gain))]
        best += max(gain) - bonus


def _reshaped(bundle: Bundle, state: State, view: View) -> tuple[State, View, Misfit]:
    """The state with the curve's mixture anew, and how it looks then."""
    rows = bundle.rows
    top = np.repeat(state.amplitude, np.diff(rows.bounds)) * view.scale[rows.frame]
    mixture = fit_mixture(
        view.s, view.delta, view.sigma, state.weight, rows.intensity, top, view.curve,
        state.shape.mixture, rows.bounds,
    )  # fmt: skip
    return bundle.looked(replace(state, shape=replace(state.shape, mixture=mixture)))


def _with_kappa(bundle: Bundle, state: State, view: View, misfit: Misfit) -> State:
    model, variance = bundle.model(state, view)
    return replace(
        state, kappa=proportional_error(misfit.residual, misfit.leverage, variance, model)
    )


def _smooth_factor(bundle: Bundle, state: State, temper: float, seed: int) -> Floats:
    """Errors of the smooth rotation by two halves over those expected, (2,), 1 or more.

    It is a mean over all frames, where errors that many frames share (of the curve's shape, of the
    cell) count and those of single frames do not; so it has factors of its own, along and perp.
    """
    first = halves(bundle.rows.hkl, seed)
    answers, expected = [], []
    for pieces in (first, ~first):
        half, there = bundle.part(state, pieces)
        for step in range(HALF_STEPS + 2):
            there, view, misfit = half.looked(there)
            if step % 2 == 0 and (state.shape.mixture != GAUSSIAN).any():
                there, view, misfit = _reshaped(half, there, view)
            there = _with_kappa(half, there, view, misfit)
            band, right = half.equations(there, view, misfit)
            found = half.solution(there, band / temper, right / temper, there.sd, False)
            there = half.stepped(there, found, misfit)
        slow = bundle.splines @ there.drift.T
        answers.append(
            displaced(there.smooth.directions(bundle.angle_deg), there.smooth.axis, slow)
        )
        expected.append(found.smooth_covariance)
    difference = small_angles(answers[0], answers[1], state.smooth.axis)
    tangents = bundle.tangents(state)
    variance = np.sum(tangents @ (expected[0] + expected[1]) * tangents, axis=2)
    ratio = np.sum(difference**2, axis=0) / np.maximum(np.sum(variance, axis=0), 1e-300)
    factor: Floats = np.sqrt(np.maximum(ratio, 1.0))
    return factor


def _without_prior(
    bundle: Bundle, state: State, seed: int
) -> tuple[State, Solution, float, Floats]:
    """The frames each on its own, chi-square, and the half-set factor (2,) there."""
    sd = np.array([np.deg2rad(WIDE_DEG), np.deg2rad(WIDE_DEG), state.sd[2]])
    state = replace(state, drift=0 * state.drift, drift_sd=np.zeros(2))
    for step in range(FREE_STEPS):
        state, view, misfit = bundle.looked(state)
        band, right = bundle.equations(state, view, misfit)
        solution = bundle.solution(state, band, right, sd, step == FREE_STEPS - 1)
        state = bundle.stepped(state, solution, misfit)
    residual, leverage = misfit.residual, misfit.leverage
    model, variance = bundle.model(state, view)
    variance = variance + (state.kappa * np.maximum(model, 0)) ** 2
    strong = (model > 2 * np.sqrt(variance)) & (leverage < 0.8)
    chi_square = 1.0
    if strong.sum() >= 30:
        z2 = residual[strong] ** 2 / (1 - leverage[strong]) / variance[strong]
        chi_square = float(np.median(z2)) / 0.4549
    first = halves(bundle.rows.hkl, seed)
    scaled = max(1.0, chi_square)
    answers, expected = [], []
    for pieces in (first, ~first):
        half, there = bundle.part(state, pieces)
        for step in range(HALF_STEPS):
            there, view, misfit = half.looked(there)
            band, right = half.equations(there, view, misfit)
            found = half.solution(there, band / scaled, right / scaled, sd, step == HALF_STEPS - 1)
            there = half.stepped(there, found, misfit)
        answers.append(
            displaced(there.smooth.directions(bundle.angle_deg), there.smooth.axis, there.small)
        )
        expected.append(np.diagonal(found.total, axis1=1, axis2=2)[:, :2])
    difference = small_angles(answers[0], answers[1], state.smooth.axis)
    factor = error_factor(difference, expected[0], expected[1], np.deg2rad(WIDE_DEG))
    return state, solution, chi_square, factor
