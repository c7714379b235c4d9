"""Calibration by an overfocused scan, with no start value: the steps in their order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError
from ..stem4d.rows import for_each_rows
from ..stem4d.scan import Scan4D
from . import bootstrap, drift
from .binning import RADIUS_BINNED_PX, BinnedScan, Binner, bin_frames
from .calibration import NOT_CALIBRATED, Quality, ScanCalibration
from .config import OverfocusConfig
from .descan import DescanFit, edge_flux, fit_descan, ring_of
from .disc import Disc, find_disc
from .gauss_newton import (
    DAMPING,
    Frames,
    Step,
    clearest,
    compared,
    information_of_movement,
    newton_step,
)
from .start import Start, anisotropy, first_movement
from .static_layer import mean_layer, update_layer
from .verdict import Evidence, judge

Vectors = NDArray[np.float64]
Tell = Callable[[str], None]

#: Width of the aperture's edge kept out of the fit, binned pixels.
MARGIN_PX = 1.5
#: A fit has converged when the scan's outermost frame moves by less, binned pixels.
CONVERGED_PX = 0.004
MOST_STEPS = 10
#: Grid points per pixel, and how large the grid may get.
FINER, MOST_GRID = 3, 4500
#: A second choice of movements is tried out if it is so likely against the first.
RIVAL = 0.8


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
    """

    state: Frames
    movement: Vectors
    step: Step
    information: Vectors
    descan: DescanFit | None
    disc: Disc
    start: Start

    @property
    def descan_matrix(self) -> Vectors:
        """(2, 2) D."""
        return self.descan.descan if self.descan is not None else np.full((2, 2), np.nan)


def calibrate(
    scan: Scan4D, config: OverfocusConfig | None = None, tell: Tell | None = None
) -> ScanCalibration:
    """The map between scan and detector from one overfocused scan, read once.

    Parameters
    ----------
    tell : called with a line on each step.

    Returns a calibration whose verdict is "not calibrated", with reasons and NaN where there is no
    number, if the scan does not tell.

    Raises
    ------
    UserError : frames too small to be binned, or unreadable.
    """
    config = config or OverfocusConfig()
    return calibrate_binned(bin_scan(scan, config), config, tell)


def bin_scan(scan: Scan4D, config: OverfocusConfig, threads: int = 2) -> BinnedScan:
    """One pass over a scan, binned so that the disc's radius is about `RADIUS_BINNED_PX`."""
    rows, columns = scan.scan_shape
    if rows * columns == 0:
        raise UserError(scan.name, f"{rows} x {columns} scan points", "a scan", "read it again")
    binner = Binner(
        scan, config.binning or choose_binning(scan, np.asarray(scan.frames[rows // 2]))
    )
    for_each_rows(scan, binner.add, threads)
    return binner.finish()


def choose_binning(scan: Scan4D, frames: NDArray[np.generic]) -> int:
    """Detector px per binned px, from some frames (n, row, column)."""
    few = np.asarray(frames[:: max(1, len(frames) // 16)], float)
    mean = np.nan_to_num(few.mean(0) - scan.pedestal)
    rough = max(1, round(min(scan.shape) / 128))
    height, width = (n // rough for n in scan.shape)
    small = np.empty((1, height, width), np.float32)
    bin_frames(mean[None], rough, 0.0, small)
    bad = scan.mask[: height * rough, : width * rough].reshape(height, rough, width, rough)
    disc = find_disc(small[0], bad.any((1, 3)))
    radius = disc.radius * rough if disc else min(scan.shape) / 3
    return int(max(1, min(radius // RADIUS_BINNED_PX, min(scan.shape) // 8)))


def calibrate_binned(
    binned: BinnedScan,
    config: OverfocusConfig,
    tell: Tell | None = None,
    movement: Vectors | None = None,
) -> ScanCalibration:
    """As `calibrate`, of binned frames; `movement` (2, 2): a first G in detector px, if known."""
    try:
        fit = fit_binned(binned, config, tell, movement)
        return described(binned, fit, config)
    except NotCalibratedError as error:
        return not_calibrated(binned, str(error), config)


def not_calibrated(binned: BinnedScan, reason: str, config: OverfocusConfig) -> ScanCalibration:
    """A calibration that is none."""
    nan = np.full((2, 2), np.nan)
    return ScanCalibration(
        binned.name, binned.scan_shape, binned.shape, nan, nan.copy(), (np.nan, np.nan), np.nan,
        overfocused=config.overfocused, verdict=NOT_CALIBRATED, reasons=(reason,),
    )  # fmt: skip


def fit_binned(
    binned: BinnedScan,
    config: OverfocusConfig,
    tell: Tell | None = None,
    movement: Vectors | None = None,
) -> Fit:
    """All of the fit.

    Raises
    ------
    NotCalibratedError : with the reason.
    """
    say = tell or (lambda line: None)
    state, disc, bad, descan = prepared(binned)
    b = binned.binning
    say(f"aperture of radius {disc.radius * b:.1f} px; {len(state.use)} frames, binned by {b}")
    if movement is None:
        start = first_movement(state, binned.recorded, disc.radius, descan)
        if start.missing:
            raise NotCalibratedError(
                f"no two frames are neighbours along the scan's {start.missing}: its"
                " movement cannot be seen"
            )
        if not len(start.movements):
            raise NotCalibratedError(
                "no common movement stands out of the frames: no specimen, or in focus"
            )
    else:
        known = movement / b
        start = Start(known[None], np.full(1, np.inf), np.inf)
    say(f"first movement {(start.movements[0] * b).round(3).tolist()} px, SNR {start.snr[0]:.1f}")
    summed = np.asarray(state.weight * state.beam.sum(), np.float32)
    try:
        start = _tried_out(state, start)
        found, step, information = _converged(state, start.movements[0], summed)
        if config.drift != "none":
            found, step, information = _with_drift(
                binned, state, found, step, information, summed, say
            )
    except np.linalg.LinAlgError:
        raise NotCalibratedError("the frames hold no structure that moves: no specimen") from None
    reach = float(np.abs(state.scan[:, :2] @ descan.T).max())
    ring = ring_of(disc, state.mask.shape, bad, max(2.5, reach + MARGIN_PX))
    fitted = fit_descan(edge_flux(state, ring, state.weight, step), state.scan[:, :2], state.beam)
    return Fit(state, found, step, information, fitted, disc, start)


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
    rows, columns = binned.scan_shape
    scan = np.column_stack([use // columns - (rows - 1) / 2, use % columns - (columns - 1) / 2])
    state = Frames(
        flat, corner, use, scan, np.ones(bad.shape, np.float32), np.ascontiguousarray(mean[cut]),
        np.ones(len(use), np.float32),
    )  # fmt: skip
    ring = ring_of(disc, bad.shape, bad, 3.5)
    bare = fit_descan(edge_flux(state, ring, state.weight, None), scan, state.beam)
    descan = bare.descan if bare is not None else np.zeros((2, 2))
    reach = float(np.abs(scan @ descan.T).max())
    inside = disc.distance(bad.shape) < disc.radius - MARGIN_PX - reach
    state.mask = (inside & ~bad).astype(np.float32)
    if state.mask.sum() < 50:
        raise NotCalibratedError(
            f"only {int(state.mask.sum())} binned pixels stay inside the disc over the scan"
        )
    return state, disc, bad, descan


def _tried_out(state: Frames, start: Start) -> Start:
    """The start with that movement first under which the frames agree best, of likely ones."""
    rivals = np.flatnonzero(start.snr > RIVAL * start.snr[0])
    if len(rivals) < 2:
        return start
    gains = []
    for n in rivals:
        trial, movement = state.some(np.ones(len(state.use), bool)), start.movements[n]
        for _ in range(2):
            step = compared(trial, movement, 1, 3)
            movement = movement + DAMPING * newton_step(
                trial, step, information_of_movement(trial, step)
            )
        gains.append(sharpness_of(trial, compared(trial, movement, 1)))
    # equals, as of a periodic specimen, keep the order of z
    best = rivals[int(np.argmax(np.array(gains) > 0.97 * max(gains)))]
    order = np.r_[best, np.delete(np.arange(len(start.movements)), best)]
    return replace(start, movements=start.movements[order], snr=start.snr[order])


def _converged(
    state: Frames, movement: Vectors, summed: NDArray[np.float32], wide: int = 1
) -> tuple[Vectors, Step, Vectors]:
    """Gauss-Newton with the static layer alternated, the first `wide` steps on a smooth object."""
    far = np.abs(state.scan).max(0)
    finer = FINER
    while finer > 1 and finer * np.abs(movement * 2 * far).sum(1).max() > MOST_GRID:
        finer -= 1
    smooth, damping, last = 0, DAMPING, np.zeros_like(movement)
    for n in range(MOST_STEPS):
        if n < wide:
            step = compared(state, movement, 1, 3)
        elif not smooth:
            smooth, step = clearest(state, movement, finer)
        else:
            step = compared(state, movement, finer, smooth)
        information = information_of_movement(state, step)
        change = damping * newton_step(state, step, information)
        if n > wide and np.vdot(change, last) < -0.25 * np.vdot(last, last):
            damping *= 0.5
            change *= 0.5
        last = change
        moved = float(np.abs(change * far).sum(1).max())
        if not np.isfinite(moved):
            raise np.linalg.LinAlgError
        change *= min(1.0, 4.0 / max(moved, 1e-9))
        movement = movement + change
        update_layer(state, step, summed)
        if n > wide and moved < CONVERGED_PX:
            break
    return movement, step, information


def _with_drift(
    binned: BinnedScan,
    state: Frames,
    movement: Vectors,
    step: Step,
    information: Vectors,
    summed: NDArray[np.float32],
    say: Tell,
) -> tuple[Vectors, Step, Vectors]:
    """The fit with a drift beside G if one is seen, else as it was."""
    rows, columns = binned.scan_shape
    if binned.recorded.any(1).sum() < 12:
        return movement, step, information
    time = drift.polynomials(state.use // columns * 1.0, state.use % columns * 1.0, (rows, columns))
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
    found = _converged(state, np.hstack([movement, np.zeros_like(change)]), summed, wide=0)
    curve = found[0][:, 2:] @ state.scan[:, 2:].T * binned.binning
    say(f"the specimen drifted by up to {np.hypot(*curve).max():.2f} px besides a steady drift")
    return found


def sharpness_of(state: Frames, step: Step) -> float:
    """Variance of the object, weighted by coverage, over that of counting noise."""
    q = step.shifts.finer
    one, other = step.grids
    coverage = one.coverage.astype(float) + other.coverage
    seen = coverage > 0.05 * coverage.max()
    weight = coverage[seen]
    mean = np.average(one.shadow[seen], weights=weight)
    variance = np.average((one.shadow[seen] - mean) * (other.shadow[seen] - mean), weights=weight)
    brightness = float(state.weight[state.mask > 0].mean())
    # of a triangular kernel q points wide along both axes
    kernel = ((2 * q**2 + 1) / (3 * q**3)) ** 2
    noise = mean * q**2 * kernel * len(weight) / weight.sum() / max(brightness, 1e-9)
    return float(variance / max(noise, 1e-12))


def _halves_apart(fit: Fit) -> float:
    """Relative difference of G fitted to two interleaved halves of the scan."""
    state, found = fit.state, []
    region = bootstrap.regions(state.scan, 4)
    for half in (0, 1):
        part = state.some((region // 4 + region) % 2 == half)
        step = compared(part, fit.movement, 1 if fit.step.shifts.finer == 1 else 2)
        found.append(newton_step(part, step, information_of_movement(part, step))[:, :2])
    return float(np.linalg.norm(found[0] - found[1]) / np.linalg.norm(fit.movement[:, :2]))


def described(binned: BinnedScan, fit: Fit, config: OverfocusConfig) -> ScanCalibration:
    """The calibration of a fit in detector pixels, with covariance and verdict."""
    b, state = binned.binning, fit.state
    movement, descan = fit.movement[:, :2] * b, fit.descan_matrix * b
    a = descan - movement
    columns = binned.scan_shape[1]
    drift_px = (0.0, 0.0)
    try:
        covariance, residual = _covariance(fit, config)
        apart = _halves_apart(fit)
    except np.linalg.LinAlgError:
        covariance, residual, apart = np.full((8, 8), np.nan), np.nan, np.nan
    if config.drift == "all" and np.isfinite(a).all():
        a, steady = drift.steady_drift(a, columns)
        drift_px = (float(steady[0]), float(steady[1]))
    covariance = covariance * b * b
    size = float(np.sqrt(abs(np.linalg.det(a)))) if np.isfinite(a).all() else np.nan
    quality = Quality(
        anisotropy=anisotropy(a) if np.isfinite(a).all() else np.nan,
        lag_snr=float(fit.start.snr[0]),
        sharpness=sharpness_of(state, fit.step),
        bootstrap_spread=float(np.sqrt(np.trace(covariance[:4, :4]) / 2) / size),
        predictive_residual_px=residual * b,
    )
    extent = np.ptp(state.scan[:, :2], axis=0)
    evidence = Evidence(
        travel_px=float(np.min(np.linalg.norm(movement, axis=0) * extent)),
        walk=float(np.linalg.norm(movement / b - fit.start.movements[0]) * b
                   / max(np.linalg.norm(movement), 1e-9)),
        halves_snr=fit.start.halves_snr, disagreement=apart,
        saturated=binned.saturated, binning=b, descan_known=fit.descan is not None,
    )  # fmt: skip
    verdict, reasons = judge(quality, evidence, config)
    y, x = (
        float((c + k) * b + binned.origin_px)
        for c, k in zip(fit.disc.centre, state.corner, strict=True)
    )
    return ScanCalibration(
        binned.name, binned.scan_shape, binned.shape, a, descan, (y, x), fit.disc.radius * b,
        drift_px, covariance, config.overfocused, quality, verdict, reasons,
    )  # fmt: skip


def _covariance(fit: Fit, config: OverfocusConfig) -> tuple[Vectors, float]:
    """(8, 8) covariance of A and D, binned pixels, and the r.m.s. movement left in regions."""
    state = fit.state
    region = np.unique(bootstrap.regions(state.scan, config.blocks), return_inverse=True)[1]
    count = int(region.max()) + 1
    draws = bootstrap.draw_regions(count, config.resamplings, config.seed)
    moved = bootstrap.resampled_movement(
        fit.step.scores, state.scan, fit.information, region, draws
    )
    if fit.descan is not None:
        shifted = bootstrap.resampled_descan(fit.descan.normal, fit.descan.right, region, draws)
    else:
        shifted = np.full((len(draws), 4), np.nan)
    force = bootstrap.summed_by(region, fit.step.scores)
    stiffness = bootstrap.summed_by(region, fit.step.information)
    weight = np.maximum(stiffness[:, 0, 0] + stiffness[:, 1, 1], 0)
    # regions that show little must not rule
    left = np.linalg.solve(stiffness + 0.25 * weight.mean() * np.eye(2), force[..., None])[..., 0]
    return (
        bootstrap.covariance_of(moved, shifted),
        float(np.sqrt(np.average((left**2).sum(1), weights=weight))),
    )
