"""The fit of a binned scan: the steps in their order."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from . import bootstrap, drift
from .begin import (
    COARSER,
    FIRST_DAMPING,
    MARGIN_PX,
    MOST_PX,
    NOTHING_MOVES,
    Begun,
    NotCalibratedError,
    Tell,
    Vectors,
    middle_of,
    travel,
)
from .binning import BinnedScan
from .config import OverfocusConfig
from .descan import (
    DescanFit,
    edge_flux,
    filled,
    fit_descan,
    ring_of,
    sectors_apart,
    told_apart,
)
from .disc import Disc
from .gauss_newton import (
    Frames,
    Step,
    compared,
    information_of_movement,
    newton_step,
)
from .object_grid import Floats
from .start import Start
from .static_layer import update_layer

#: A fit has converged when the scan's outermost frame would yet move by less, binned pixels; what
#: is left is told from how much shorter the steps become.
CONVERGED_PX, CONVERGED_SIGMA = 0.004, 0.1
MOST_STEPS = 24
#: and the static layer when it changes by less, relative r.m.s.
SETTLED = 5e-4
#: A step that moves the outermost frame by more, in binned pixels, changes the information.
STALE_PX = 0.3
#: Grid points per pixel, how large the grid may get, and how many frames must see a grid point.
FINER, MOST_GRID, LEAST_SEEN = 3, 1200, 12
#: Times that the aperture of a slow shadow is told from the specimen.
TOLD_APART = 2
#: Grid points along a radius that suffice.
FINE_RADIUS_PX = 80.0
#: Share of G that a fit may move it by before it is given up.
RAN_AWAY = 0.4
#: Frames that a fit needs.
LEAST_FRAMES = 9
MOST_TRIED = 3


@dataclass
class Fit:
    """A calibration with what it was made of; lengths in binned pixels.

    Attributes
    ----------
    state : the frames, the static layer and intensities.
    movement : (2, 2) G, or with the coefficients of a drift (2, 2 + degrees).
    step, information : the last comparison, and the information on `movement`.
    descan : the edge's fit; None if no edge was seen.
    disc : in the frames.
    start : where the fit began.
    middle : (2,) mean scan position of the frames, from the middle of the scan.
    sectors_apart : difference of D from two halves of the aperture's edge.
    slow : the shadow moves by less than the disc's radius over the scan.
    """

    state: Frames
    movement: Vectors
    step: Step
    information: Vectors
    descan: DescanFit | None
    disc: Disc
    start: Start
    middle: Vectors
    sectors_apart: float
    slow: bool = False

    @property
    def descan_matrix(self) -> Vectors:
        """(2, 2) D."""
        return self.descan.descan if self.descan is not None else np.full((2, 2), np.nan)


def fit_binned(
    binned: BinnedScan, begin: Begun, config: OverfocusConfig, tell: Tell | None = None
) -> Fit:
    """All of the fit; uses up what it begins with.

    Raises
    ------
    NotCalibratedError : with the reason.
    """
    say = tell or (lambda line: None)
    disc, bad, start = begin.disc, begin.bad, begin.start
    try:
        state, summed = _within_grid(begin.state, start.movements[0], begin.summed)
        start, (found, step, information) = _first_to_converge(state, start, summed)
        if config.drift != "none":
            found, step, information = _with_drift(
                binned, state, found, step, information, summed, say
            )
    except np.linalg.LinAlgError:
        raise NotCalibratedError(NOTHING_MOVES) from None
    reach = float(np.abs(state.scan[:, :2] @ begin.descan.T).max())
    ring = ring_of(disc, state.mask.shape, bad, max(2.5, reach + MARGIN_PX))
    aperture = filled(state.weight, disc, bad)
    flux = edge_flux(state, ring, aperture, step)
    fitted = fit_descan(flux, state.scan[:, :2], state.beam)
    slow = travel(state, found[:, :2]) < disc.radius
    for _ in range(TOLD_APART if slow else 0):
        if fitted is not None:
            bare = told_apart(state, ring, aperture, step, fitted.descan)
            flux = edge_flux(state, ring, bare, step)
            fitted = fit_descan(flux, state.scan[:, :2], state.beam)
    apart = sectors_apart(flux, state.scan[:, :2], state.beam)
    middle = (np.array(binned.scan_shape) - 1) / 2
    return Fit(
        state,
        found,
        step,
        information,
        fitted,
        disc,
        start,
        middle_of(binned) - middle,
        apart,
        slow,
    )


def _within_grid(state: Frames, movement: Vectors, summed: Floats) -> tuple[Frames, Floats]:
    """The frames about the middle of the scan that an object of `MOST_GRID` pixels has room for.

    Only where the movement is large; so far apart frames then have nothing in common.
    """
    near = np.asarray((np.abs(state.scan[:, :2] @ movement.T) < MOST_GRID / 2).all(1))
    if near.all():
        return state, summed
    if near.sum() < LEAST_FRAMES:
        raise NotCalibratedError(
            "the frames seem to share a movement so large that hardly two have anything in common"
        )
    part = state.some(near)
    height, width = state.mask.shape
    y, x = state.corner
    layer = np.zeros_like(summed)
    for i in range(0, len(part.use), 256):
        cut = part.frames[part.use[i : i + 256], y : y + height, x : x + width]
        layer += cut.sum(0)
    return part, layer


def _first_to_converge(
    state: Frames, start: Start, summed: Floats
) -> tuple[Start, tuple[Vectors, Step, Vectors]]:
    """The fit from the likeliest movement that it does not run away from."""
    weight, beam = state.weight.copy(), state.beam.copy()
    for n in range(len(start.movements)):
        try:
            done = _converged(state, start.movements[n], summed)
        except (NotCalibratedError, np.linalg.LinAlgError):
            if n + 1 == min(len(start.movements), MOST_TRIED):
                raise
            state.weight, state.beam = weight.copy(), beam.copy()
        else:
            return replace(start, movements=start.movements[n:], snr=start.snr[n:]), done
    raise AssertionError("a start has movements")


def _converged(
    state: Frames, movement: Vectors, summed: Floats, wide: int = 1
) -> tuple[Vectors, Step, Vectors]:
    """Gauss-Newton with the static layer alternated, the first `wide` steps on a smooth object."""
    far = np.abs(state.scan).max(0)
    finer = _finer(state, movement)
    information, stale = np.eye(0), True
    first, previous = movement[:, :2], np.inf
    damping, last = 1.0, np.zeros_like(movement)
    for n in range(MOST_STEPS):
        step = compared(state, movement, min(finer, COARSER) if n < wide else finer)
        if stale:
            information = information_of_movement(state, step)
        change = newton_step(state, step, information)
        change *= FIRST_DAMPING if n <= wide else damping
        if n > wide and np.vdot(change, last) < -0.25 * np.vdot(last, last):
            damping *= 0.5
            change *= 0.5
        last = change
        moved = float(np.abs(change * far).sum(1).max())
        enough = max(CONVERGED_PX, CONVERGED_SIGMA * _error_px(information, far))
        if not np.isfinite(moved):
            raise np.linalg.LinAlgError
        change *= min(1.0, MOST_PX / max(moved, 1e-9))
        movement = movement + change
        away = np.linalg.norm(movement[:, :2] - first) > RAN_AWAY * np.linalg.norm(first)
        if away or np.abs(movement[:, 2:]).max(initial=0) > drift.MOST_PX:
            raise NotCalibratedError(
                "the fit ran away from the movement that the frames seemed to share: no specimen,"
                " or too few electrons"
            )
        settled = update_layer(state, step, summed)
        stale = n < wide or moved > STALE_PX
        shorter = min(moved / max(previous, 1e-9), 0.95)
        previous = moved
        still = moved < enough and moved * shorter < enough * (1 - shorter)
        if n > wide and still and settled < SETTLED:
            break
    return movement, step, information


def _finer(state: Frames, movement: Vectors) -> int:
    """Grid points per pixel: as many as memory and the frames that see a point allow."""
    far = np.abs(state.scan[:, :2]).max(0)
    extent = float(np.abs(movement[:, :2] * 2 * far).sum(1).max())
    step = max(abs(float(np.linalg.det(movement[:, :2]))), 1e-9)
    seen = min(float(state.mask.sum()) / step, len(state.use))
    # a disc of many pixels has features of many
    radius = float(np.sqrt(state.mask.sum() / np.pi))
    finer = min(FINER, max(1, round(FINE_RADIUS_PX / radius)))
    while finer > 1 and (finer * extent > MOST_GRID or seen < LEAST_SEEN * finer**2):
        finer -= 1
    return finer


def _error_px(information: Vectors, far: Vectors) -> float:
    """Standard error of the outermost frame's place by the counts, pixels; 0 if not known."""
    variance = np.diag(np.linalg.inv(information)).reshape(2, -1)[:, :2]
    return float(np.sqrt(np.maximum(variance @ far[:2] ** 2, 0).max()))


def _with_drift(
    binned: BinnedScan,
    state: Frames,
    movement: Vectors,
    step: Step,
    information: Vectors,
    summed: Floats,
    say: Tell,
) -> tuple[Vectors, Step, Vectors]:
    """The fit with a drift beside G if one is seen, else as it was."""
    rows, columns = binned.scan_shape
    if binned.recorded.any(1).sum() < 12:
        return movement, step, information
    time = drift.polynomials(state.use, (rows, columns))
    bare = state.scan
    state.scan = np.hstack([bare, time])
    more = information_of_movement(state, step)
    change = newton_step(state, step, more)[:, 2:]
    region = bootstrap.regions(bare, 6)
    each = -(step.scores[:, :, None] * state.scan[:, None, :]).reshape(len(bare), -1)
    blocks = bootstrap.summed_by(region, each)
    inverse = np.linalg.inv(more)
    errors = np.sqrt(np.diag(inverse @ (blocks.T @ blocks) @ inverse)).reshape(2, -1)[:, 2:]
    if not drift.is_drifting(change, errors):
        state.scan = bare
        return movement, step, information
    weight, beam = state.weight.copy(), state.beam.copy()
    try:
        found = _converged(state, np.hstack([movement, np.zeros_like(change)]), summed, wide=0)
    except NotCalibratedError:  # what seemed to be a drift is none
        state.scan, state.weight, state.beam = bare, weight, beam
        return movement, step, information
    curve = found[0][:, 2:] @ state.scan[:, 2:].T * binned.binning
    say(f"the specimen drifted by up to {np.hypot(*curve).max():.2f} px besides a steady drift")
    return found
