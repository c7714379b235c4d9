"""What the fit of a binned scan begins with: disc, mask, a first descan and first movements."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .binning import BinnedScan
from .config import OverfocusConfig
from .descan import edge_flux, even_layer, filled, fit_descan, ring_of
from .disc import Disc, find_disc
from .gauss_newton import Frames, Step, compared, information_of_movement, newton_step
from .object_grid import Floats
from .sharpness import Unexplained, sharpness_of, unexplained_of
from .start import CLEAR_SNR, Start, first_movement, slow_movement
from .static_layer import mean_layer

Vectors = NDArray[np.float64]
Tell = Callable[[str], None]

#: Width of the aperture's edge kept out of the fit, binned pixels.
MARGIN_PX = 1.5
#: Grid points per pixel in first comparisons.
COARSER = 2
#: Of the first steps: an object blurred by a wrong G has too small slopes, so steps are too long.
FIRST_DAMPING = 0.6
#: How far a step may move the outermost frame, binned pixels.
MOST_PX = 2.0
#: A second choice of movements is tried out if its z is so large against the first's.
RIVAL = 0.6
#: and its share of contrast that does not move with it is not more than this, or twice the least.
LEFT = 0.1
#: A shadow that moves by less over the scan, in disc radii, leaves its image in the mean frame.
SLOW = 0.5

NOTHING_MOVES = "the frames hold no structure that moves: no specimen"


class NotCalibratedError(Exception):
    """No fit was possible; the text is the reason."""


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
        return travel(self.state, self.start.movements[0])


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
        if travel(state, start.movements[0]) < SLOW * disc.radius:
            state.weight = even_layer(state.weight, disc, bad, _inner(state, disc, descan))
    else:
        try:
            start = _started(state, binned, disc, bad, descan, config)
        except np.linalg.LinAlgError:
            raise NotCalibratedError(NOTHING_MOVES) from None
    say(f"first movement {(start.movements[0] * b).round(3).tolist()} px,"
        f" SNR {start.snr[0]:.1f}")  # fmt: skip
    return Begun(state, disc, bad, descan, summed, start)


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
    scan = np.column_stack([use // columns, use % columns]) - middle_of(binned)
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
    if doubtful or travel(state, start.movements[0]) < SLOW * disc.radius:
        inner = _inner(state, disc, descan)
        even = replace(state, weight=even_layer(state.weight, disc, bad, inner))
        slow = slow_movement(even, binned.recorded, disc.radius, descan)
        clear = len(slow.snr) and slow.snr[0] >= config.min_lag_snr
        if clear and travel(state, slow.movements[0]) < SLOW * disc.radius:
            state.weight = even.weight
            return slow
    if snr < config.min_lag_snr:
        raise NotCalibratedError(
            f"no common movement stands out of the frames (signal to noise {snr:.1f}, needs"
            f" {config.min_lag_snr:g}): no specimen, in focus, or too few electrons"
        )
    return _tried_out(state, start)


def travel(state: Frames, movement: Vectors) -> float:
    """Movement of the shadow over the scan, along the axis along which it is more."""
    return float((np.hypot(*movement[:, :2]) * np.ptp(state.scan[:, :2], axis=0)).max())


def middle_of(binned: BinnedScan) -> Vectors:
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
