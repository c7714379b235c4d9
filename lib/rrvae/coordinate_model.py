"""The paper's rrVAE: a decoder that is a function of turned coordinates.

Oxley et al. (2021), npj Comput. Mater. 7, 65, after Bepler et al. (2019), NeurIPS 32: an encoder
of two layers of 128 tanh neurons gives mean and spread of an angle and of the content z; the
decoder, two layers of 128 as well, gives the value of a pixel from its coordinates, turned back
by the angle, and z. The angle is Gaussian and its mean is free, as in the program that the paper
used: only its spread is held to a prior; or, if so chosen, atan2 of two outputs with a uniform
prior. The weight of reconstruction is 1 / (2 variance) of each pixel.

What makes it fast without changing it: coordinates are not turned, the first layer's two rows of
weights are, once per pattern; only pixels of the disc are looked at; in each step a few of them,
drawn anew, stand for all, which leaves the gradient's mean as it is; and the products of the
decoder are taken in bfloat16.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .config import CoordinateConfig
from .elbo import Posterior, Terms, kl_normal, kl_uniform_angle
from .harmonics import radial_noise, used_pixels
from .patterns import Patterns

LOWEST, HIGHEST = -8.0, 2.0  # logarithms of spreads


@dataclass(frozen=True)
class CoordinateModel:
    """What the network is between: pixels, their noise, sizes.

    Attributes
    ----------
    pixels : (P,) int64, those of the disc, in a flattened pattern.
    place : (P, 3) float32, row and column from the centre over the disc's radius, and 1.
    sigma : (P,) float32, noise of the pixels, electrons.
    scale : root of the mean square of the patterns over their noise.
    shape, centre_px : of the patterns.
    latents, hidden : sizes.
    drawn : pixels per step.
    angle, angle_prior_sd, half_precision : as in `CoordinateConfig`.
    """

    pixels: NDArray[np.int64]
    place: NDArray[np.float32]
    sigma: NDArray[np.float32]
    scale: float
    shape: tuple[int, int]
    centre_px: tuple[float, float]
    latents: int
    hidden: int
    drawn: int
    angle: str
    angle_prior_sd: float
    half_precision: bool

    @classmethod
    def of(cls, patterns: Patterns, config: CoordinateConfig) -> CoordinateModel:
        """A model for these patterns; raises UserError if they have no pixels to look at."""
        pixels, radius, turn = used_pixels(patterns)
        if patterns.disc_radius_px is not None:
            inside = radius <= patterns.disc_radius_px + 1
            pixels, radius, turn = pixels[inside], radius[inside], turn[inside]
        sigma = radial_noise(patterns, pixels, radius).astype(np.float32)
        flat = patterns.data.reshape(len(patterns), -1)[:, pixels] / sigma
        place = np.stack([radius * np.cos(turn), radius * np.sin(turn), np.full(len(radius), 1.0)])
        place[:2] /= radius.max()
        return cls(
            pixels=pixels,
            place=np.ascontiguousarray(place.T, np.float32),
            sigma=sigma,
            scale=float(np.sqrt(np.mean(flat**2, dtype=np.float64))),
            shape=patterns.shape,
            centre_px=patterns.centre_px,
            latents=config.latents,
            hidden=config.hidden,
            drawn=min(config.pixels, len(pixels)),
            angle=config.angle,
            angle_prior_sd=config.angle_prior_sd,
            half_precision=config.half_precision,
        )

    def inputs(self, patterns: Patterns) -> Tensor:
        """(n, P) float32, patterns over their noise and `scale`."""
        flat = patterns.data.reshape(len(patterns), -1)[:, self.pixels]
        flat /= self.sigma * np.float32(self.scale)
        return torch.from_numpy(flat)

    def start(self, seed: int) -> dict[str, Tensor]:
        """Weights to begin with."""
        generator = torch.Generator().manual_seed(seed)

        def draw(rows: int, columns: int, fan_in: int | None = None) -> Tensor:
            # uniform, as linear layers of the reference programs begin
            reach = 1 / math.sqrt(fan_in or rows)
            return (2 * torch.rand(rows, columns, generator=generator) - 1) * reach

        wide, h, k = len(self.pixels), self.hidden, self.latents
        out = 2 * k + (2 if self.angle == "gaussian" else 3)
        return {
            "in": draw(wide, h),
            "in_bias": draw(1, h, wide),
            "middle": draw(h, h),
            "middle_bias": draw(1, h, h),
            "out": draw(h, out),
            "out_bias": draw(1, out, h),
            "place": draw(2, h),
            "content": draw(k, h),
            "place_bias": draw(1, h, 2),
            "deep": draw(h, h),
            "deep_bias": draw(1, h, h),
            "value": draw(h, 1),
            "value_bias": draw(1, 1, h),
        }

    def encode(self, weights: dict[str, Tensor], inputs: Tensor) -> Posterior:
        """Posterior of inputs (S, n, P) under weights with a leading axis (S)."""
        h = torch.tanh(torch.baddbmm(weights["in_bias"], inputs, weights["in"]))
        h = torch.tanh(torch.baddbmm(weights["middle_bias"], h, weights["middle"]))
        out = torch.baddbmm(weights["out_bias"], h, weights["out"])
        k = self.latents
        angle, log_sd, mean, content = torch.split(out, [out.shape[-1] - 2 * k - 1, 1, k, k], -1)
        turn = (
            angle[..., 0] if self.angle == "gaussian" else torch.atan2(angle[..., 1], angle[..., 0])
        )
        return Posterior(
            turn, log_sd[..., 0].clamp(LOWEST, HIGHEST), mean, content.clamp(LOWEST, HIGHEST)
        )

    def terms(
        self, weights: dict[str, Tensor], inputs: Tensor, generator: torch.Generator | None = None
    ) -> Terms:
        """The evidence lower bound, one draw of the latents and of the pixels.

        Without a generator all pixels are looked at and the latents' draw is the same in every
        call: epochs are compared by it.
        """
        count = len(self.pixels) if generator is None else self.drawn
        if generator is None:
            generator = torch.Generator(inputs.device).manual_seed(0)
        q = self.encode(weights, inputs)
        shape, k = q.angle.shape, self.latents
        noise = torch.randn(*shape, k + 1, generator=generator, device=inputs.device)
        angle = q.angle + q.angle_log_sd.exp() * noise[..., k]
        content = q.mean + q.log_sd.exp() * noise[..., :k]
        drawn = torch.randperm(len(self.pixels), generator=generator, device=inputs.device)[:count]
        found = self._values(weights, angle, content, self._place(inputs)[drawn])
        missed = inputs[..., drawn] - found
        weight = 0.5 * self.scale**2 * len(self.pixels) / len(drawn)
        if self.angle == "gaussian":
            ratio = q.angle_log_sd - math.log(self.angle_prior_sd)
            kl_angle = 0.5 * (torch.exp(2 * ratio) - 1) - ratio
        else:
            kl_angle = kl_uniform_angle(q.angle_log_sd)
        return Terms(weight * missed.square().sum(-1), kl_angle, kl_normal(q.mean, q.log_sd))

    def whitened(self, data: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, P) patterns (n, rows, columns) over their noise, at the pixels used."""
        return data.reshape(len(data), -1)[:, self.pixels] / self.sigma

    def nothing(self, inputs: Tensor) -> Tensor:
        """(S, n) the loss of inputs (S, n, features) if the mean pattern is all one knows."""
        return 0.5 * self.scale**2 * inputs.square().sum(-1)

    def decode(self, weights: dict[str, Tensor], angle: Tensor, content: Tensor) -> Tensor:
        """(S, n, P) patterns over their noise, of angles (S, n) and latents (S, n, k)."""
        place = self._place(angle)
        parts = [
            self._values(weights, angle[:, i : i + 32], content[:, i : i + 32], place)
            for i in range(0, angle.shape[1], 32)
        ]
        return torch.cat(parts, dim=1) * self.scale

    def _place(self, like: Tensor) -> Tensor:
        return torch.from_numpy(self.place).to(like)

    def _values(
        self, weights: dict[str, Tensor], angle: Tensor, content: Tensor, place: Tensor
    ) -> Tensor:
        """(S, n, p) values at places (p, 3) of patterns with angles (S, n), contents (S, n, k)."""
        seeds, n, p, h = *angle.shape, len(place), self.hidden
        cos, sin = torch.cos(angle)[..., None], torch.sin(angle)[..., None]
        row, column = weights["place"][:, :1], weights["place"][:, 1:]
        rest = torch.baddbmm(weights["place_bias"], content, weights["content"])
        turned = torch.stack([cos * row - sin * column, sin * row + cos * column, rest], dim=2)
        deep, value = weights["deep"], weights["value"]
        if self.half_precision:
            turned, deep, place = turned.bfloat16(), deep.bfloat16(), place.bfloat16()
        first = torch.bmm(place.expand(seeds * n, p, 3), turned.view(seeds * n, 3, h))
        first = torch.tanh(first).view(seeds, n * p, h)
        second = torch.baddbmm(weights["deep_bias"].to(deep.dtype), first, deep)
        second = torch.tanh(second)
        out = torch.bmm(second, value.to(second.dtype)).float() + weights["value_bias"]
        return out.view(seeds, n, p)
