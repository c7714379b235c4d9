"""The tilt at any time of a rotation at constant speed, from few slow read-outs."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

# of one read-out (its periodic error)
READ_SIGMA_DEG = 0.06
# Tables turn some 10 % faster or slower than asked; more than 40 % is a stall.
SPEED_SIGMA, SPEED_LIMIT = 0.1, 0.4


@dataclass(frozen=True)
class AlphaLine:
    """``alpha(t) = alpha_0 + speed t`` through time-stamped read-outs; a value.

    Attributes
    ----------
    times_s, alphas_deg : the read-outs; at least one before it can be asked.
    asked_deg_per_s : signed speed asked for, which counts as a measurement of 10 %, and the
        line's is within 40 % of it; None: unknown, then two read-outs are needed.
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

    def sigma_deg(self, t_s: float) -> float:
        """Standard deviation of a read-out then about the line, as it is known; inf before."""
        if self.asked_deg_per_s is None and len(self.times_s) < 2:
            return math.inf
        t = np.array(self.times_s)
        known = READ_SIGMA_DEG**2 * (1 + 1 / t.size)
        return math.sqrt(known + (t_s - float(t.mean())) ** 2 / self._information(t))

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
        weighted = float(np.sum((t - middle) * (a - mean))) / READ_SIGMA_DEG**2
        asked = self.asked_deg_per_s
        if asked:
            weighted += asked / (SPEED_SIGMA * asked) ** 2
        information = self._information(t)
        speed = weighted / information if information > 0 else 0.0
        if asked:
            slow, fast = sorted((asked * (1 - SPEED_LIMIT), asked * (1 + SPEED_LIMIT)))
            speed = min(max(speed, slow), fast)
        return middle, mean, speed

    def _information(self, t: NDArray[np.float64]) -> float:
        """Of the speed, (degrees/s)^-2."""
        information = float(np.sum((t - t.mean()) ** 2)) / READ_SIGMA_DEG**2
        if self.asked_deg_per_s:
            information += 1 / (SPEED_SIGMA * self.asked_deg_per_s) ** 2
        return information
