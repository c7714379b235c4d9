"""The fit of a binned scan: the steps in their order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from . import bootstrap, drift
from .binning import BinnedScan
from .config import OverfocusConfig
from .descan import (
    DescanFit,
    edge_flux,
    even_layer,
    filled,
    fit_descan,
    ring_of,
    sectors_apart,
    told_apart,
)
from .disc import Disc, find_disc
from .gauss_newton import (
    Frames,
    Step,
    compared,
    information_of_movement,
    newton_step,
)
from .object_grid import Floats
from .sharpness import Unexplained, sharpness_of, unexplained_of
from .start import CLEAR_SNR, Start, first_movement, slow_movement
from .static_layer import mean_layer, update_layer

Vectors = NDArray[np.float64]
Tell = Callable[[str], None]

#: Width of the aperture's edge kept out of the fit, binned pixels.
MARGIN_PX = 1.5
#: A fit has converged when the scan's outermost frame would yet move by less, binned pixels; what
#: is left is told from how much shorter the steps become.
CONVERGED_PX, CONVERGED_SIGMA = 0.004, 0.1
MOST_STEPS = 24
#: and the static layer when it changes by less, relative r.m.s.
SETTLED = 5e-4
#: A step that moves the outermost frame by more, in binned pixels, changes the information.
STALE_PX = 0.3
#: Of the first steps: an object blurred by a wrong G has too small slopes, so steps are too long.
FIRST_DAMPING = 0.6
#: How far a step may move the outermost frame, binned pixels.
MOST_PX = 2.0
#: Grid points per pixel, how large the grid may get, and how many frames must see a grid point.
FINER, COARSER, MOST_GRID, LEAST_SEEN = 3, 2, 1200, 12
#: Times that the aperture of a slow shadow is told from the specimen.
TOLD_APART = 2
#: Grid points along a radius that suffice.
FINE_RADIUS_PX = 80.0
#: Share of G that a fit may move it by before it is given up.
RAN_AWAY = 0.4
#: A second choice of movements is tried out if its z is so large against the first's.
RIVAL = 0.6
#: and its share of contrast that does not move with it is not more than this, or twice the least.
LEFT = 0.1
#: Frames that a fit needs.
LEAST_FRAMES = 9
#: A shadow that moves by less over the scan, in disc radii, leaves its image in the mean frame.
SLOW = 0.5
MOST_TRIED = 3


_NOTHING_MOVES = "the frames hold no structure that moves: no specimen"


class NotCalibratedError(Exception):
    """No fit was possible; the text is the reason."""


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


@dataclass
class Begun:
    """What a fit begins with; lengths in binned pixels.

    Attributes
    ----------
    state, disc, bad : frames, disc, and bad pixels about the disc.
    descan : (2, 2) a first D, from the bare edge flux.
    summed : (row, column) sum of the frames in use.
    start : first movements.
    """

    state: Frames
    disc: Disc
    bad: NDArray[np.bool_]
    descan: Vectors
    summed: Floats
    start: Start

    @property
    def travel_px(self) -> float:
        """How far the shadow moves along the scan axis along which it moves more."""
        return _travel(self.state, self.start.movements[0])


def begun(
    binned: BinnedScan,
    config: OverfocusConfig,
    tell: Tell | None = None,
    movement: Vectors | None = None,
) -> Begun:
    """The first G, or what `movement` states, in detector px.

    Raises
    ------
    NotCalibratedError : with the reason.
    """
    say = tell or (lambda line: None)
    state, disc, bad, descan = prepared(binned)
    b = binned.binning
    say(f"aperture of radius {disc.radius * b:.1f} px; {len(state.use)} frames, binned by {b}")
    summed = np.asarray(state.weight * state.beam.sum(), np.float32)
    if movement is not None:
        start = Start(np.asarray(movement, float)[None] / b, np.full(1, np.inf), np.inf)
        if _travel(state, start.movements[0]) < SLOW * disc.radius:
            state.weight = even_layer(state.weight, disc, bad, _inner(state, disc, descan))
    else:
        try:
            start = _started(state, binned, disc, bad, descan, config)
        except np.linalg.LinAlgError:
            raise NotCalibratedError(_NOTHING_MOVES) from None
    say(f"first movement {(start.movements[0] * b).round(3).tolist()} px,"
        f" SNR {start.snr[0]:.1f}")  # fmt: skip
    return Begun(state, disc, bad, descan, summed, start)


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
        raise NotCalibratedError(_NOTHING_MOVES) from None
    reach = float(np.abs(state.scan[:, :2] @ begin.descan.T).max())
    ring = ring_of(disc, state.mask.shape, bad, max(2.5, reach + MARGIN_PX))
    aperture = filled(state.weight, disc, bad)
    flux = edge_flux(state, ring, aperture, step)
    fitted = fit_descan(flux, state.scan[:, :2], state.beam)
    slow = _travel(state, found[:, :2]) < disc.radius
    for _ in range(TOLD_APART if slow else 0):
        if fitted is not None:
            bare = told_apart(state, ring, aperture, step, fitted.descan)
            flux = edge_flux(state, ring, bare, step)
            fitted = fit_descan(flux, state.scan[:, :2], state.beam)
    apart = sectors_apart(flux, state.scan[:, :2], state.beam)
    middle = (np.array(binned.scan_shape) - 1) / 2
    return Fit(
        state, found, step, information, fitted, disc, start, _middle(binned) - middle, apart, slow
    )


def prepared(binned: BinnedScan) -> tuple[Frames, Disc, NDArray[np.bool_], Vectors]:
    """First state, disc and bad pixels about the disc, and a first D from the bare edge flux."""
    recorded = binned.recorded
    present = recorded.any(1).sum(), recorded.any(0).sum()
    if min(present) < 3:
        raise NotCalibratedError(
            f"{present[0]} x {present[1]} scan points hold frames, at least 3 x 3 are needed"
        )
    height, width = binned.frames.shape[2:]
    flat = binned.frames.reshape(-1, height, width)
    use = np.flatnonzero(recorded)
    bad = binned.bad_px()
    mean = mean_layer(flat, use, np.ones(len(use), np.float32))
    disc = find_disc(mean, bad)
    if disc is None:
        raise NotCalibratedError("no disc with an edge in the mean frame")
    distance = disc.distance((height, width))
    plateau = float(np.median(mean[(distance < 0.8 * disc.radius) & ~bad]))
    # quadrants and lines that report nothing, though no mask says so
    bad |= (distance < disc.radius - MARGIN_PX) & (mean < 0.02 * plateau)
    cut = tuple(
        slice(max(0, int(c - disc.radius - 4)), min(n, int(c + disc.radius + 6)))
        for c, n in zip(disc.centre, (height, width), strict=True)
    )
    corner = (cut[0].start, cut[1].start)
    disc = replace(disc, centre=(disc.centre[0] - corner[0], disc.centre[1] - corner[1]))
    bad = bad[cut]
    columns = binned.scan_shape[1]
    # of a scan in progress, the disc is where it is at the middle of the frames so far
    scan = np.column_stack([use // columns, use % columns]) - _middle(binned)
    state = Frames(
        flat, corner, use, scan, np.ones(bad.shape, np.float32), np.ascontiguousarray(mean[cut]),
        np.ones(len(use), np.float32),
    )  # fmt: skip
    ring = ring_of(disc, bad.shape, bad, 3.5)
    bare = fit_descan(
        edge_flux(state, ring, filled(state.weight, disc, bad), None), scan, state.beam
    )
    descan = bare.descan if bare is not None else np.zeros((2, 2))
    reach = float(np.abs(scan @ descan.T).max())
    state.mask = ((disc.distance(bad.shape) < _inner(state, disc, descan)) & ~bad).astype(
        np.float32
    )
    state.lit = disc.distance(bad.shape) < disc.radius + max(2.5, reach + MARGIN_PX) + 1.5
    if state.mask.sum() < 50:
        raise NotCalibratedError(
            f"only {int(state.mask.sum())} binned pixels stay inside the disc over the scan"
        )
    return state, disc, bad, descan


def _inner(state: Frames, disc: Disc, descan: Vectors) -> float:
    """Radius within which the aperture's edge never comes."""
    return disc.radius - MARGIN_PX - float(np.abs(state.scan[:, :2] @ descan.T).max())


def _started(
    state: Frames, binned: BinnedScan, disc: Disc, bad: NDArray[np.bool_], descan: Vectors,
    config: OverfocusConfig,
) -> Start:  # fmt: skip
    """The likeliest start; of a slow movement the static layer is made free of the specimen."""
    start = first_movement(state, binned.recorded, disc.radius, descan)
    if start.missing:
        raise NotCalibratedError(
            f"no two frames are neighbours along the scan's {start.missing}: its"
            " movement cannot be seen"
        )
    snr = float(start.snr[0]) if len(start.snr) else 0.0
    doubtful = snr < CLEAR_SNR or start.snr[1:].max(initial=0) > RIVAL * snr
    if doubtful or _travel(state, start.movements[0]) < SLOW * disc.radius:
        inner = _inner(state, disc, descan)
        even = replace(state, weight=even_layer(state.weight, disc, bad, inner))
        slow = slow_movement(even, binned.recorded, disc.radius, descan)
        clear = len(slow.snr) and slow.snr[0] >= config.min_lag_snr
        if clear and _travel(state, slow.movements[0]) < SLOW * disc.radius:
            state.weight = even.weight
            return slow
    if snr < config.min_lag_snr:
        raise NotCalibratedError(
            f"no common movement stands out of the frames (signal to noise {snr:.1f}, needs"
            f" {config.min_lag_snr:g}): no specimen, in focus, or too few electrons"
        )
    return _tried_out(state, start)


def _travel(state: Frames, movement: Vectors) -> float:
    """Movement of the shadow over the scan, along the axis along which it is more."""
    return float((np.hypot(*movement[:, :2]) * np.ptp(state.scan[:, :2], axis=0)).max())


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


def _middle(binned: BinnedScan) -> Vectors:
    """(2,) mean row and column of the recorded scan points."""
    return np.asarray(np.argwhere(binned.recorded).mean(0))


def _tried_out(state: Frames, start: Start) -> Start:
    """The start with that movement first under which the frames agree best, of likely ones."""
    rivals = np.flatnonzero(start.snr > RIVAL * start.snr[0])
    if len(rivals) < 2:
        return start
    gains, left = [], []
    for n in rivals:
        try:
            trial = state.some(np.ones(len(state.use), bool))
            step = _trial(trial, start.movements[n])
            gains.append(sharpness_of(trial, step))
            left.append(unexplained_of(trial, step))
        except np.linalg.LinAlgError:
            gains.append(0.0)
            left.append(Unexplained(np.inf, 0.0))
    # what a wrong movement superposes may be sharp, but much of it does not move so
    least = min(one.share for one in left)
    fine = [one.share - 4 * one.error < max(LEFT, 2 * least) for one in left]
    sharp = np.where(fine, gains, 0.0)
    # equals, as of a periodic specimen, keep the order of z
    best = rivals[int(np.argmax(sharp > 0.97 * sharp.max()))]
    order = np.r_[best, np.delete(np.arange(len(start.movements)), best)]
    return replace(start, movements=start.movements[order], snr=start.snr[order])


def _trial(trial: Frames, movement: Vectors) -> Step:
    """The comparison after two steps from a movement."""
    far = np.abs(trial.scan).max(0)
    for _ in range(2):
        step = compared(trial, movement, COARSER)
        change = newton_step(trial, step, information_of_movement(trial, step))
        moved = float(np.abs(change * far).sum(1).max())
        movement = movement + min(FIRST_DAMPING, MOST_PX / max(moved, 1e-9)) * change
    return compared(trial, movement, COARSER)


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
