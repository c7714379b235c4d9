"""The tilt at any time of a rotation at constant speed, from few slow read-outs."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

# of one read-out (its periodic error), and of the speed asked for, relative
READ_SIGMA_DEG, SPEED_SIGMA = 0.06, 0.02


@dataclass(frozen=True)
class AlphaLine:
    """``alpha(t) = alpha_0 + speed t`` through time-stamped read-outs; a value.

    Attributes
    ----------
    times_s, alphas_deg : the read-outs; at least one before it can be asked.
    asked_deg_per_s : signed speed asked for, which counts as a measurement of 2 %; None: unknown,
        then two read-outs are needed.
    """

    times_s: tuple[float, ...] = ()
    alphas_deg: tuple[float, ...] = ()
    asked_deg_per_s: float | None = None

    def read(self, t_s: float, alpha_deg: float) -> AlphaLine:
        """With one more read-out."""
        return replace(self, times_s=(*self.times_s, t_s), alphas_deg=(*self.alphas_deg, alpha_deg))

    @property
    def speed_deg_per_s(self) -> float:
        """Signed speed."""
        return self._fit()[2]

    def at(self, t_s: float) -> float:
        """The tilt at a time."""
        middle, alpha, speed = self._fit()
        return alpha + speed * (t_s - middle)

    @property
    def rms_deg(self) -> float:
        """Of the read-outs about the line."""
        off = [a - self.at(t) for t, a in zip(self.times_s, self.alphas_deg, strict=True)]
        return float(math.sqrt(np.mean(np.square(off)))) if off else math.nan

    def _fit(self) -> tuple[float, float, float]:
        t, a = np.array(self.times_s), np.array(self.alphas_deg)
        if t.size == 0:
            raise ValueError("the stage was never read")
        middle, mean = float(t.mean()), float(a.mean())
        information = float(np.sum((t - middle) ** 2)) / READ_SIGMA_DEG**2
        weighted = float(np.sum((t - middle) * (a - mean))) / READ_SIGMA_DEG**2
        if self.asked_deg_per_s:
            prior = 1 / (SPEED_SIGMA * self.asked_deg_per_s) ** 2
            information, weighted = information + prior, weighted + prior * self.asked_deg_per_s
        return middle, mean, weighted / information if information > 0 else 0.0
