"""From a fit to a calibration: detector pixels, covariance, quality and verdict."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from . import bootstrap, drift
from .begin import COARSER
from .binning import BinnedScan
from .calibration import Quality, ScanCalibration
from .config import OverfocusConfig
from .fit import Fit
from .gauss_newton import compared, information_of_movement, newton_step
from .sharpness import sharpness_of, unexplained_of
from .start import anisotropy
from .verdict import Evidence, judge

Vectors = NDArray[np.float64]


def _halves_apart(fit: Fit) -> float:
    """Relative difference of G fitted to two interleaved halves of the scan."""
    state, found = fit.state, []
    region = bootstrap.regions(state.scan, 4)
    for half in (0, 1):
        part = state.some((region // 4 + region) % 2 == half)
        step = compared(part, fit.movement, COARSER)
        found.append(newton_step(part, step, information_of_movement(part, step))[:, :2])
    return float(np.linalg.norm(found[0] - found[1]) / np.linalg.norm(fit.movement[:, :2]))


def _relative_error(a: Vectors, covariance: Vectors) -> float:
    """Standard error of A's scale, relative, or of its rotation, radians: the larger."""
    if not np.isfinite(a).all():
        return float("nan")
    inverse = np.linalg.inv(a)
    turn = np.array([[0.0, -1.0], [1.0, 0.0]])
    # d log scale = tr(A^-1 dA) / 2, d angle = tr((J A)^-1 dA) / 2
    along = np.array([0.5 * one.T.ravel() for one in (inverse, inverse @ turn.T)])
    return float(np.sqrt(np.einsum("ni,ij,nj->n", along, covariance, along).max()))


def described(binned: BinnedScan, fit: Fit, config: OverfocusConfig) -> ScanCalibration:
    """The calibration of a fit in detector pixels, with covariance and verdict."""
    b, state = binned.binning, fit.state
    movement, descan = fit.movement[:, :2] * b, fit.descan_matrix * b
    a = descan - movement
    columns = binned.scan_shape[1]
    drift_px = (0.0, 0.0)
    try:
        covariance, residual = _covariance(fit, config)
        counted = _covariance_of_counts(fit) * b * b
        apart = _halves_apart(fit)
    except np.linalg.LinAlgError:
        covariance, residual, apart = np.full((8, 8), np.nan), np.nan, np.nan
        counted = covariance[:4, :4]
    if config.drift == "all" and np.isfinite(a).all():
        a, steady = drift.steady_drift(a, columns)
        drift_px = (float(steady[0]), float(steady[1]))
    covariance = covariance * b * b
    size = float(np.sqrt(abs(np.linalg.det(a)))) if np.isfinite(a).all() else np.nan
    quality = Quality(
        anisotropy=anisotropy(a) if np.isfinite(a).all() else np.nan,
        lag_snr=float(fit.start.snr[0]),
        sharpness=sharpness_of(state, fit.step),
        bootstrap_spread=max(_relative_error(a, covariance[:4, :4]), _relative_error(a, counted)),
        predictive_residual_px=residual * b,
    )
    extent = np.ptp(state.scan[:, :2], axis=0)
    evidence = Evidence(
        travel_px=float(np.amin(np.hypot(*movement) * extent)),
        walk=float(np.linalg.norm(movement / b - fit.start.movements[0]) * b
                   / max(float(np.linalg.norm(movement)), 1e-9)),
        halves_snr=fit.start.halves_snr, disagreement=apart,
        saturated=binned.saturated, binning=b, descan_known=fit.descan is not None,
        sectors_apart=fit.sectors_apart * b / size,
        unexplained=unexplained_of(state, fit.step).share, slow=fit.slow,
    )  # fmt: skip
    verdict, reasons = judge(quality, evidence, config)
    here = (np.array(fit.disc.centre) + state.corner) * b + binned.origin_px
    y, x = (float(one) for one in here - np.nan_to_num(descan) @ fit.middle)
    return ScanCalibration(
        binned.name, binned.scan_shape, binned.shape, a, descan, (y, x), fit.disc.radius * b,
        drift_px, covariance, config.overfocused, quality, verdict, reasons,
    )  # fmt: skip


def _covariance_of_counts(fit: Fit) -> Vectors:
    """(4, 4) covariance of G that counting alone gives, binned pixels."""
    n = fit.state.scan.shape[1]
    whole = np.linalg.inv(fit.information).reshape(2, n, 2, n)
    return np.asarray(whole[:, :2, :, :2].reshape(4, 4))


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
    if weight.sum() <= 0:
        raise np.linalg.LinAlgError("no region tells anything")
    # regions that show little must not rule
    left = np.linalg.solve(stiffness + 0.25 * weight.mean() * np.eye(2), force[..., None])[..., 0]
    return (
        bootstrap.covariance_of(moved, shifted),
        float(np.sqrt(np.average((left**2).sum(1), weights=weight))),
    )
