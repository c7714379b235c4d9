r"""The default rrVAE: circular harmonics in and out, rotation an exact phase.

A pattern's coefficients c_k of order m_k are taken as a turned affine picture of few latents,

    c_k = exp(-i m_k φ) [b_k + Σ_j W_kj z_j] + noise of variance 1,
    z ~ N(0, 1),  φ uniform on the circle.

The encoder gets the pattern turned upright by the phase of its reference component, and gives the
two numbers whose atan2 is what is left of the angle, its spread s, and mean and spread of z. So
it is equivariant by construction. With a wrapped normal for the angle, <exp(imφ)> is
exp(-m²s²/2) exp(im<φ>), and with an affine decoder the mean over z is known as well: the evidence
lower bound (Kingma & Welling, 2014) is a closed form and nothing is drawn in training.

Why affine: a decoder that may bend is paid, by the KL term, for bending any distribution of the
content into the normal one, and the latents stop being linear in anything measurable as training
goes on ("too many iterations"). An affine one finds the principal axes of the upright patterns
(Lucas et al., 2019, NeurIPS 32; Tipping & Bishop, 1999, J. R. Stat. Soc. B 61, 611).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .config import HarmonicConfig
from .elbo import Posterior, Terms, kl_normal, kl_uniform_angle
from .harmonics import HarmonicBasis, harmonic_basis
from .patterns import Patterns

# logarithms of spreads are kept where float32 can hold their exponentials' squares
LOWEST, HIGHEST = -8.0, 2.0


@dataclass(frozen=True)
class HarmonicModel:
    """What the network is between: a basis, sizes, and the scale of its inputs.

    Attributes
    ----------
    basis : the circular harmonics.
    latents, hidden : sizes.
    scale : root of the mean |c|² of the patterns that the model was made for.
    """

    basis: HarmonicBasis
    latents: int
    hidden: int
    scale: float

    @classmethod
    def of(cls, patterns: Patterns, config: HarmonicConfig) -> HarmonicModel:
        """A model for these patterns; raises UserError if nothing stands out of their noise."""
        basis = harmonic_basis(
            patterns, config.highest_order, config.ring_px, config.most_components
        )
        scale = float(np.sqrt(basis.eigenvalue.sum()))
        return cls(basis, config.latents, config.hidden, scale)

    @property
    def turning(self) -> int:
        """How many components turn, those of order > 0; they come after the others."""
        return int((self.basis.order > 0).sum())

    @property
    def features(self) -> int:
        """Length of the inputs: real parts, imaginary parts of what turns, the upright angle."""
        return len(self.basis.order) + self.turning + 1

    def inputs(self, patterns: Patterns) -> Tensor:
        """(n, features) float32."""
        found = [
            self._features(patterns.data[start : start + 4096])
            for start in range(0, len(patterns), 4096)
        ]
        return torch.from_numpy(np.concatenate(found))

    def _features(self, data: np.ndarray) -> np.ndarray:
        upright, angle = self.basis.upright(self.basis.coefficients(data))
        turning = upright.imag[:, self.basis.order > 0]
        return np.concatenate([upright.real, turning, angle[:, None]], axis=1, dtype=np.float32)

    def start(self, seed: int) -> dict[str, Tensor]:
        """Weights to begin with."""
        generator = torch.Generator().manual_seed(seed)

        def draw(rows: int, columns: int, gain: float = 1.0) -> Tensor:
            return torch.randn(rows, columns, generator=generator) * (gain / math.sqrt(rows))

        wide, k, out = self.features - 1, self.latents, 3 + 2 * self.latents
        last = torch.zeros(1, out)
        last[0, 0] = 1.0  # atan2(0, 1): at first the reference alone decides
        last[0, 2], last[0, 3 + k :] = -1.0, -1.0
        return {
            "in": draw(wide, self.hidden),
            "in_bias": torch.zeros(1, self.hidden),
            "middle": draw(self.hidden, self.hidden),
            "middle_bias": torch.zeros(1, self.hidden),
            "out": draw(self.hidden, out, 0.1),
            "past": draw(wide, out, 0.1),
            "out_bias": last,
            "decoder": draw(k, wide, 0.1),
            "decoder_bias": torch.zeros(1, wide),
        }

    def encode(self, weights: dict[str, Tensor], inputs: Tensor) -> Posterior:
        """Posterior of inputs (S, n, features) under weights with a leading axis (S)."""
        x = inputs[..., :-1] / self.scale
        h = torch.tanh(torch.baddbmm(weights["in_bias"], x, weights["in"]))
        h = torch.tanh(torch.baddbmm(weights["middle_bias"], h, weights["middle"]))
        out = torch.baddbmm(weights["out_bias"], h, weights["out"])
        out = torch.baddbmm(out, x, weights["past"])
        uv, spread, mean, sd = torch.split(out, [2, 1, self.latents, self.latents], dim=-1)
        return Posterior(
            angle=torch.atan2(uv[..., 1], uv[..., 0]) + inputs[..., -1],
            angle_log_sd=spread[..., 0].clamp(LOWEST, HIGHEST),
            mean=mean,
            log_sd=sd.clamp(LOWEST, HIGHEST),
        )

    def terms(
        self, weights: dict[str, Tensor], inputs: Tensor, generator: torch.Generator | None = None
    ) -> Terms:
        """The evidence lower bound of inputs (S, n, features), exact."""
        q = self.encode(weights, inputs)
        x = inputs[..., :-1]
        decoder = weights["decoder"] * self.scale
        picture = torch.baddbmm(weights["decoder_bias"] * self.scale, q.mean, decoder)
        spread = torch.bmm(torch.exp(2 * q.log_sd), decoder.square().sum(-1, keepdim=True))
        half = 0.5 * (
            x.square().sum(-1) + picture.square().sum(-1) + spread[..., 0]
        ) - self._overlap(x, picture, q.angle - inputs[..., -1], q.angle_log_sd)
        return Terms(half, kl_uniform_angle(q.angle_log_sd), kl_normal(q.mean, q.log_sd))

    def _overlap(self, x: Tensor, picture: Tensor, angle: Tensor, log_sd: Tensor) -> Tensor:
        """Mean over the angle of the product of a pattern and its turned picture, (S, n)."""
        fixed, turning = len(self.basis.order) - self.turning, self.turning
        x0, xr, xi = torch.split(x, [fixed, turning, turning], dim=-1)
        g0, gr, gi = torch.split(picture, [fixed, turning, turning], dim=-1)
        order = torch.from_numpy(self.basis.order[fixed:]).to(x)
        turned = angle[..., None] * order
        kept = torch.exp(-0.5 * torch.exp(2 * log_sd)[..., None] * order.square())
        along, across = xr * gr + xi * gi, xr * gi - xi * gr
        overlap = (kept * (along * torch.cos(turned) + across * torch.sin(turned))).sum(-1)
        return overlap + (x0 * g0).sum(-1)

    def decode(self, weights: dict[str, Tensor], angle: Tensor, content: Tensor) -> Tensor:
        """(S, n, P) patterns over their noise, of angles (S, n) and latents (S, n, k)."""
        picture = self.scale * torch.baddbmm(weights["decoder_bias"], content, weights["decoder"])
        fixed, turning = len(self.basis.order) - self.turning, self.turning
        g0, gr, gi = torch.split(picture, [fixed, turning, turning], dim=-1)
        order = torch.from_numpy(self.basis.order).to(picture)
        real = torch.cat([g0, gr], dim=-1)
        whole = torch.complex(real, torch.cat([torch.zeros_like(g0), gi], dim=-1))
        turned = whole * torch.polar(torch.ones_like(real), -angle[..., None] * order)
        functions = torch.from_numpy(self.basis.functions).to(turned)
        return torch.matmul(turned, functions).real
