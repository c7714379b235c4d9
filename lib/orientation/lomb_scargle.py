"""Periods in unevenly sampled angles: the weighted Lomb-Scargle periodogram with a floating mean.

At each frequency ``y = c + a cos + b sin`` is fitted by weighted least squares (Zechmeister &
Kürster, Astron. Astrophys. 496 (2009) 577); the power is the part of chi-square that it takes off.
How often chance does as well is told by permuting the residuals.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..crystal.cell import Floats

#: Frequencies per 1/range.
OVERSAMPLING = 5
#: A period longer than this part of the range is a drift rather than a wave.
LONGEST = 1.0
_LEAST = 8


@dataclass(frozen=True)
class Wave:
    """The strongest sinusoid in a curve; NaN throughout where there are too few points.

    Attributes
    ----------
    period : in units of x.
    amplitude, amplitude_sd : in units of y; the error follows from the scatter about the wave.
    phase_deg : y = mean + amplitude cos(2 pi (x - x_middle) / period - phase).
    power : part of the scatter that it explains, 0 to 1.
    p_value : how often permuted points give as strong a wave at any period, at least 1 in the
        number of permutations and one.
    """

    period: float
    amplitude: float
    amplitude_sd: float
    phase_deg: float
    power: float
    p_value: float


@dataclass(frozen=True)
class Periodogram:
    """Amplitudes over periods, and the strongest.

    Attributes
    ----------
    period : (k,) falling.
    amplitude : (k,) of the sinusoid fitted at each.
    power : (k,) 0 to 1.
    best : the wave of largest power.
    """

    period: Floats
    amplitude: Floats
    power: Floats
    best: Wave


NO_WAVE = Wave(*(float("nan"),) * 6)


def lomb_scargle(
    x: Floats, y: Floats, sd: Floats, *, permutations: int = 300, seed: int = 0
) -> Periodogram:
    """Sinusoids in y(x).

    Parameters
    ----------
    x, y, sd : (n,) where, what, and its error; points that are not finite are left out.
    permutations : for the p-value.
    seed : of the permutations.
    """
    good = np.isfinite(x) & np.isfinite(y) & np.isfinite(sd) & (sd > 0)
    x, y, sd = x[good], y[good], sd[good]
    n = len(x)
    if n < _LEAST or np.ptp(x) <= 0:
        none = np.zeros(0)
        return Periodogram(none, none, none, NO_WAVE)
    middle = 0.5 * (x.min() + x.max())
    x = x - middle
    # what the errors do not account for is noise too
    sd = np.sqrt(sd**2 + excess_variance(y, sd))
    span = float(np.ptp(x))
    spacing = float(np.median(np.diff(np.sort(x))))
    highest = 0.5 / spacing if spacing > 0 else 0.5 * n / span
    frequency = np.arange(1 / (LONGEST * span), highest, 1 / (OVERSAMPLING * span))
    weight = sd**-2 / np.sum(sd**-2)
    fit = _Fit(frequency, x, weight)
    power, a, b = (one[:, 0] for one in fit(y[:, None]))
    best = int(np.argmax(power))
    rng = np.random.default_rng(seed)
    scaled = (y - y @ weight) / sd
    as_strong, left = 0, permutations
    while left > 0:  # a few at a time, for memory
        m = min(left, 50)
        shuffled = np.stack([sd * rng.permutation(scaled) for _ in range(m)], axis=1)
        as_strong += int(np.sum(fit(shuffled)[0].max(axis=0) >= power[best]))
        left -= m
    # the top lies between the frequencies tried
    finer = frequency[best] + np.linspace(-1, 1, 41) / (OVERSAMPLING * span)
    finer = finer[finer > 0]
    fine_power, fine_a, fine_b = (one[:, 0] for one in _Fit(finer, x, weight)(y[:, None]))
    top = int(np.argmax(fine_power))
    at, cosine, sine = float(finer[top]), float(fine_a[top]), float(fine_b[top])
    return Periodogram(
        1 / frequency,
        np.hypot(a, b),
        power,
        Wave(
            period=1 / at,
            amplitude=float(np.hypot(cosine, sine)),
            amplitude_sd=_amplitude_sd(x, y, sd, at, cosine, sine),
            phase_deg=float(np.rad2deg(np.arctan2(sine, cosine))),
            power=float(fine_power[top]),
            p_value=(as_strong + 1) / (permutations + 1),
        ),
    )


class _Fit:
    """Sinusoids of given frequencies at points x with weights that sum to 1."""

    def __init__(self, frequency: Floats, x: Floats, weight: Floats) -> None:
        angle = 2 * np.pi * frequency[:, None] * x
        self.weight = weight
        self.cosine, self.sine = np.cos(angle), np.sin(angle)
        self.cosine -= (self.cosine @ weight)[:, None]
        self.sine -= (self.sine @ weight)[:, None]
        self.cc = (self.cosine**2 @ weight)[:, None]
        self.ss = (self.sine**2 @ weight)[:, None]
        self.cs = ((self.cosine * self.sine) @ weight)[:, None]

    def __call__(self, values: Floats) -> tuple[Floats, Floats, Floats]:
        """Power, and the two amplitudes, at each frequency, of values (n, m): (k, m) each."""
        centred = values - self.weight @ values
        moved = centred * self.weight[:, None]
        yc, ys = self.cosine @ moved, self.sine @ moved
        det = np.maximum(self.cc * self.ss - self.cs**2, 1e-12)
        a = (self.ss * yc - self.cs * ys) / det
        b = (self.cc * ys - self.cs * yc) / det
        total = self.weight @ centred**2
        return (a * yc + b * ys) / np.maximum(total, 1e-300), a, b


def excess_variance(y: Floats, sd: Floats) -> float:
    """Variance of y that its errors do not account for, robustly; at least 0."""
    if not len(y):
        return 0.0
    spread = 1.4826 * float(np.median(np.abs(y - np.median(y))))
    return max(spread**2 - float(np.median(sd**2)), 0.0)


def _amplitude_sd(x: Floats, y: Floats, sd: Floats, frequency: float, a: float, b: float) -> float:
    """Error of the amplitude, scaled by the scatter about the wave."""
    angle = 2 * np.pi * frequency * x
    basis = np.stack([np.ones(len(x)), np.cos(angle), np.sin(angle)], axis=1)
    weighted = basis / sd[:, None]
    covariance = np.linalg.pinv(weighted.T @ weighted)
    left = y / sd - weighted @ (covariance @ (weighted.T @ (y / sd)))
    covariance *= float(left @ left) / max(len(x) - 3, 1)
    amplitude = np.hypot(a, b)
    slope = np.array([0.0, a, b]) / max(amplitude, 1e-300)
    return float(np.sqrt(max(slope @ covariance @ slope, 0.0)))
