"""The evidence lower bound of an autoencoder with an angle, term by term."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

PER_UNIT = 512  # of the table
NARROW = 0.75  # radians: below, a wrapped normal is a normal to 1e-4


@dataclass(frozen=True)
class Posterior:
    """What an encoder says of patterns.

    Attributes
    ----------
    angle : (S, n) radians, from the row axis to the column axis.
    angle_log_sd : (S, n) logarithm of its standard deviation.
    mean, log_sd : (S, n, k) of the content.
    """

    angle: Tensor
    angle_log_sd: Tensor
    mean: Tensor
    log_sd: Tensor


@dataclass(frozen=True)
class Terms:
    """The negative evidence lower bound in nats per pattern, (S, n) each.

    Attributes
    ----------
    reconstruction : Σ over pixels of (pattern - reconstruction)² / (2 variance), its mean over
        the posterior; the constants of the Gaussian are left out.
    angle, content : Kullback-Leibler divergences from the priors.
    """

    reconstruction: Tensor
    angle: Tensor
    content: Tensor

    @property
    def loss(self) -> Tensor:
        """(S, n) the negative bound."""
        return self.reconstruction + self.angle + self.content


def kl_normal(mean: Tensor, log_sd: Tensor, prior_sd: float = 1.0) -> Tensor:
    """(...) KL of normals (..., k) from N(0, prior_sd²), summed over the last axis."""
    ratio = torch.exp(2 * log_sd) + mean.square()
    return (0.5 * (ratio / prior_sd**2 - 1) - log_sd + math.log(prior_sd)).sum(-1)


def kl_uniform_angle(log_sd: Tensor) -> Tensor:
    """KL of a wrapped normal from the uniform circle, of any shape, for -9 <= log_sd <= 3.

    From a table, with straight lines between: within 1e-5 of `wrapped_normal_kl`, and a few
    operations instead of many in each step of a training.
    """
    return kl_uniform_angle_and_slope(log_sd)[0]


def kl_uniform_angle_and_slope(log_sd: Tensor) -> tuple[Tensor, Tensor]:
    """The same and its derivative by log_sd."""
    value, slope = _table(log_sd.device)
    at = (log_sd.detach() + 9.0) * PER_UNIT
    index = at.long().clamp_(0, len(slope) - 1)
    steep = slope[index]
    return value[index] + steep * (log_sd - (index / PER_UNIT - 9.0)), steep


@cache
def _table(device: torch.device) -> tuple[Tensor, Tensor]:
    grid = torch.linspace(-9, 3, 12 * PER_UNIT + 1, dtype=torch.float64)
    value = wrapped_normal_kl(grid)
    slope = value.diff() * PER_UNIT
    return value.float().to(device), slope.float().to(device)


def wrapped_normal_kl(log_sd: Tensor) -> Tensor:
    """The same, exactly.

    With q = exp(-sd²): ln Π(1 - qⁿ) - 2 Σ (-1)ⁿ q^(n(n+1)/2) / (n (1 - qⁿ)) (Mardia & Jupp, 2000,
    Directional Statistics); for narrow ones ln(2π) less the entropy of the normal.
    """
    narrow = 0.5 * math.log(2 * math.pi / math.e) - log_sd
    variance = torch.exp(2 * log_sd.clamp(min=math.log(NARROW)))[..., None]
    n = torch.arange(1, 61, dtype=log_sd.dtype, device=log_sd.device)
    left = -torch.expm1(-n * variance)  # 1 - qⁿ
    alternating = torch.where(n % 2 == 0, -2 / n, 2 / n)
    wide = (torch.log(left) + alternating * torch.exp(-0.5 * n * (n + 1) * variance) / left).sum(-1)
    return torch.where(log_sd < math.log(NARROW), narrow, wide)
