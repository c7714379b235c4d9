"""Steps from frame to frame: their scatter, two kinds of them, and the slack of the gear."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..crystal.cell import Floats
from .lomb_scargle import excess_variance

#: The rare kind of steps lies so many spreads of the usual kind off it.
ASUNDER = 5.0


@dataclass(frozen=True)
class StepSpread:
    """Steps between neighbouring frames, degrees.

    Attributes
    ----------
    mean : of the steps.
    observed_sd : their scatter as found.
    estimation_sd : what the errors of the orientations contribute, covariance of neighbours
        included where it was given.
    true_sd : what is left for the goniometer: ``sqrt(observed^2 - estimation^2)``, 0 if nothing is.
    half_set_sd : the same from two halves of the reflections, whose errors are independent:
        ``sqrt(cov(step_1, step_2))``; NaN without them.
    n : steps.
    """

    mean: float
    observed_sd: float
    estimation_sd: float
    true_sd: float
    half_set_sd: float
    n: int


@dataclass(frozen=True)
class StepClusters:
    """A series of fine beam-tilt steps between coarse steps of the goniometer.

    Attributes
    ----------
    period : frames from one goniometer step to the next.
    at_goniometer : (steps,) True where the goniometer moved (and the beam tilt went back).
    beam_tilt_deg, beam_tilt_sd_deg : mean and scatter of the fine steps.
    combined_deg, combined_sd_deg : of the steps at which the goniometer moved.
    goniometer_deg, goniometer_sd_deg : rotation from the middle of one period to that of the next,
        where the beam tilt is the same: what the goniometer alone did.
    """

    period: int
    at_goniometer: NDArray[np.bool_]
    beam_tilt_deg: float
    beam_tilt_sd_deg: float
    combined_deg: float
    combined_sd_deg: float
    goniometer_deg: float
    goniometer_sd_deg: float


def spread_of_steps(
    steps: Floats, expected: Floats, variance: Floats, halves: tuple[Floats, Floats] | None
) -> StepSpread:
    """Scatter of the steps about what the read-out makes them, with and without errors."""
    n = len(steps)
    if n < 2:
        nan = float("nan")
        return StepSpread(nan, nan, nan, nan, nan, n)
    off = steps - expected
    observed = float(np.var(off, ddof=1))
    estimation = float(np.mean(variance))
    half = float("nan")
    if halves is not None:
        both = np.isfinite(halves[0]) & np.isfinite(halves[1])
        if both.sum() > 2:
            half = float(np.sqrt(max(np.cov(halves[0][both], halves[1][both])[0, 1], 0.0)))
    return StepSpread(
        mean=float(np.mean(steps)),
        observed_sd=float(np.sqrt(observed)),
        estimation_sd=float(np.sqrt(max(estimation, 0.0))),
        true_sd=float(np.sqrt(max(observed - estimation, 0.0))),
        half_set_sd=half,
        n=n,
    )


def step_clusters(
    step_deg: Floats, step_frame: NDArray[np.int64], rotation_deg: Floats, frame: NDArray[np.int64]
) -> StepClusters | None:
    """Two kinds of steps, where there are two that alternate regularly; else None.

    Parameters
    ----------
    step_deg, step_frame : (m,) rotation between frames that follow each other, and the earlier one.
    rotation_deg, frame : (n,) rotation on each frame.
    """
    n = len(step_deg)
    if n < 12:
        return None
    rare = _rare_kind(step_deg)
    if rare.sum() < 3:
        return None
    many, few = step_deg[~rare], step_deg[rare]
    gaps = np.diff(step_frame[rare])
    period = int(np.median(gaps))
    regular = np.mean(np.abs((gaps + period // 2) % period - period // 2) <= max(period // 20, 0))
    asunder = abs(float(np.median(many) - np.median(few)))
    mixed = asunder < max(ASUNDER * _robust_sd(many), 2 * _robust_sd(few))
    if mixed or period < 3 or regular < 0.8:
        return None
    # frames midway between two goniometer steps have the same beam tilt
    phase = int(np.bincount(step_frame[rare] % period).argmax())
    middle = (frame - phase - 1) % period == period // 2
    at, angle = frame[middle], rotation_deg[middle]
    coarse = np.diff(angle)[np.diff(at) == period]
    many_ones = len(coarse) > 1
    return StepClusters(
        period=period,
        at_goniometer=rare,
        beam_tilt_deg=float(np.mean(many)),
        beam_tilt_sd_deg=float(np.std(many, ddof=1)),
        combined_deg=float(np.mean(few)),
        combined_sd_deg=float(np.std(few, ddof=1)),
        goniometer_deg=float(np.mean(coarse)) if len(coarse) else float("nan"),
        goniometer_sd_deg=float(np.std(coarse, ddof=1)) if many_ones else float("nan"),
    )


def _rare_kind(steps: Floats) -> NDArray[np.bool_]:
    """(n,) True for the rarer of two kinds of steps.

    The first cut leaves the least scatter on both sides (Otsu's); then two normal distributions,
    whose widths may differ, are fitted by turns, as the goniometer is less exact than the beam.
    """
    n = len(steps)
    ordered = np.sort(steps)
    count = np.arange(1, n)
    total, square = np.cumsum(ordered)[:-1], np.cumsum(ordered**2)[:-1]
    left = square - total**2 / count
    right = (np.sum(ordered**2) - square) - (np.sum(ordered) - total) ** 2 / (n - count)
    cut = int(np.argmin(left + right))
    second = steps > 0.5 * (ordered[cut] + ordered[cut + 1])
    least = 1e-3 * float(np.ptp(steps)) + 1e-12
    for _ in range(20):
        cost = []
        for kind in (~second, second):
            if kind.sum() < 2:
                return np.zeros(n, bool)
            sd = max(float(np.std(steps[kind])), least)
            cost.append(
                0.5 * ((steps - np.mean(steps[kind])) / sd) ** 2 + np.log(sd) - np.log(kind.mean())
            )
        again = cost[1] < cost[0]
        if np.array_equal(again, second):
            break
        second = again
    rare: NDArray[np.bool_] = second if second.sum() <= n / 2 else ~second
    return rare


def _robust_sd(values: Floats) -> float:
    return 1.4826 * float(np.median(np.abs(values - np.median(values))))


def dead_travel(read_out_deg: Floats, in_plane_deg: Floats, sd_deg: Floats) -> tuple[float, float]:
    """Backlash and its error: read-out travelled at the start while the crystal stands still.

    ``in_plane = c + m angle + max(backlash - travelled, 0)`` with the sense of travel; scanned over
    the first third of the series. (0, its error) where no value does better than none.
    """
    travelled = np.abs(read_out_deg - read_out_deg[0])
    sense = float(np.sign(read_out_deg[-1] - read_out_deg[0])) or 1.0
    sd = np.sqrt(sd_deg**2 + excess_variance(in_plane_deg, sd_deg))
    basis = np.stack([np.ones(len(travelled)), travelled], axis=1) / sd[:, None]
    projector = basis @ np.linalg.pinv(basis)
    y = in_plane_deg / sd
    y = y - projector @ y
    tried = np.linspace(0, travelled.max() / 3, 151)
    curves = sense * np.maximum(tried[:, None] - travelled, 0) / sd
    curves = curves - curves @ projector.T
    chi2 = np.sum((y - curves) ** 2, axis=1)
    best = int(np.argmin(chi2))
    near = tried[chi2 < chi2[best] + max(1.0, chi2[best] / max(len(y) - 3, 1))]
    error = max(float(np.ptp(near)) / 2, float(tried[1]) / 2)
    # a gain that two more parameters would bring by chance is none
    if chi2[0] - chi2[best] < 9 * max(1.0, chi2[best] / max(len(y) - 3, 1)):
        return 0.0, max(error, float(tried[best]))
    return float(tried[best]), error
