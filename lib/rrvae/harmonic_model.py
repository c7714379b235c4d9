r"""The default rrVAE: circular harmonics in and out, rotation an exact phase.

A pattern's coefficients c_k of order m_k are taken as a turned affine picture of few latents,

    c_k = exp(-i m_k φ) [b_k + Σ_j W_kj z_j] + noise of variance 1 + τ_k,
    z ~ N(0, 1),  φ uniform on the circle.

The 1 is counting noise; τ_k is learned: what the picture leaves out, as in factor analysis.
Without it patterns of a high dose, in which everything is significant, would be turned and
described by whatever the few latents cannot express.

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
from numpy.typing import NDArray
from torch import Tensor

from .config import HarmonicConfig
from .elbo import Posterior, Terms, kl_normal, kl_uniform_angle
from .harmonics import HarmonicBasis, harmonic_basis
from .patterns import Patterns

# logarithms of spreads are kept where float32 can hold their exponentials' squares
LOWEST, HIGHEST = -8.0, 2.0
START = 0.1  # of the random weights that are added to the linear solution


@dataclass(frozen=True)
class Linear:
    """Principal components of upright patterns, where training begins.

    Attributes
    ----------
    mean : (D,) the mean upright pattern's features, over the noise.
    axes : (k, D) what latents of variance 1 do.
    gains : (k, D) find them in a feature less the mean.
    misfit : (K,) variance per component that they leave, less that of noise; at least 0.05.
    """

    mean: NDArray[np.float32]
    axes: NDArray[np.float32]
    gains: NDArray[np.float32]
    misfit: NDArray[np.float32]


@dataclass(frozen=True)
class HarmonicModel:
    """What the network is between: a basis, sizes, and the scale of its inputs.

    Attributes
    ----------
    basis : the circular harmonics.
    latents, hidden : sizes.
    scale : root of the mean |c|² of the patterns that the model was made for.
    linear : mean, axes and gains of the principal components of the upright patterns; training
        begins there.
    """

    basis: HarmonicBasis
    latents: int
    hidden: int
    scale: float
    linear: Linear

    @classmethod
    def of(cls, patterns: Patterns, config: HarmonicConfig) -> HarmonicModel:
        """A model for these patterns; raises UserError if nothing stands out of their noise."""
        basis = harmonic_basis(
            patterns, config.highest_order, config.ring_px, config.most_components
        )
        scale = float(np.sqrt(basis.eigenvalue.sum()))
        upright, _ = basis.upright(basis.coefficients(patterns.data))
        seen = np.concatenate([upright.real, upright.imag[:, basis.order > 0]], axis=1)
        fixed = int((basis.order == 0).sum())
        return cls(
            basis, config.latents, config.hidden, scale, _linear(seen, config.latents, fixed)
        )

    @property
    def pixels(self) -> NDArray[np.int64]:
        """(P,) the pixels used, in a flattened pattern."""
        return self.basis.pixels

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns) of a pattern."""
        return self.basis.shape

    @property
    def centre_px(self) -> tuple[float, float]:
        """(row, column) about which patterns are turned."""
        return self.basis.centre_px

    @property
    def turning(self) -> int:
        """How many components turn, those of order > 0; they come after the others."""
        return int((self.basis.order > 0).sum())

    @property
    def fixed(self) -> int:
        """How many components do not turn, those of order 0."""
        return len(self.basis.order) - self.turning

    @property
    def features(self) -> int:
        """Length of the inputs: real parts, imaginary parts of what turns, the upright angle.

        The parts are over `scale`.
        """
        return len(self.basis.order) + self.turning + 1

    def inputs(self, patterns: Patterns) -> Tensor:
        """(n, features) float32."""
        found = [
            self._features(patterns.data[start : start + 4096])
            for start in range(0, len(patterns), 4096)
        ]
        return torch.from_numpy(np.concatenate(found))

    def _features(self, data: NDArray[np.float32]) -> NDArray[np.float32]:
        upright, angle = self.basis.upright(self.basis.coefficients(data))
        turning = upright.imag[:, self.basis.order > 0]
        seen = np.concatenate([upright.real, turning], axis=1) / self.scale
        return np.concatenate([seen, angle[:, None]], axis=1, dtype=np.float32)

    def start(self, seed: int) -> dict[str, Tensor]:
        """Weights to begin with: those of `linear`, and random ones that add little at first."""
        generator = torch.Generator().manual_seed(seed)

        def draw(rows: int, columns: int, gain: float = 1.0) -> Tensor:
            return torch.randn(rows, columns, generator=generator) * (gain / math.sqrt(rows))

        wide, k, out = self.features - 1, self.latents, 3 + 2 * self.latents
        mean, axes, gains, misfit = (
            torch.from_numpy(getattr(self.linear, one))
            for one in ("mean", "axes", "gains", "misfit")
        )
        past, last = draw(wide, out, START), torch.zeros(1, out)
        past[:, 2 : 2 + k] += gains.T * self.scale
        last[0, 0] = 1.0  # atan2(0, 1): at first the reference alone decides
        last[0, 2 : 2 + k] = -gains @ mean
        last[0, 2 + k] = -1.0
        last[0, 3 + k :] = -0.5 * torch.log1p(axes.square().sum(1))
        return {
            "in": draw(wide, self.hidden),
            "in_bias": torch.zeros(1, self.hidden),
            "middle": draw(self.hidden, self.hidden),
            "middle_bias": torch.zeros(1, self.hidden),
            "out": draw(self.hidden, out, START),
            "past": past,
            "out_bias": last,
            "decoder": axes / self.scale,
            "decoder_bias": mean[None] / self.scale,
            "misfit": (misfit + torch.log(-torch.expm1(-misfit)))[None],
        }

    def pictures(self, weights: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Mean picture (S, 1, D), axes (S, k, D), logarithm of the variance (S, 1, K).

        Gauge: the reference of a picture is real, so that the angle is the reference's and no
        axis is a small rotation; the axes are orthogonal over the noise, so that they are the
        principal ones.
        """
        log_variance = torch.nn.functional.softplus(weights["misfit"]).log1p()
        over = self._over(log_variance)
        real = self.gauge().to(over)
        rows: list[Tensor] = []
        for axis in torch.unbind(weights["decoder"] * (real * over), dim=1):
            for before in rows:
                along = (axis * before).sum(-1, keepdim=True)
                axis = axis - before * (along / before.square().sum(-1, keepdim=True))
            rows.append(axis)
        return weights["decoder_bias"] * real, torch.stack(rows, dim=1) / over, log_variance

    def gauge(self) -> Tensor:
        """(D,) `scale`, but 0 for the imaginary part of the reference."""
        real = torch.full((self.features - 1,), self.scale)
        real[len(self.basis.order) + self.basis.reference - self.fixed] = 0.0
        return real

    def _over(self, log_variance: Tensor) -> Tensor:
        """(S, 1, D): one over the spread of each feature."""
        return torch.exp(-0.5 * torch.cat([log_variance, log_variance[..., self.fixed :]], dim=-1))

    def encode(self, weights: dict[str, Tensor], inputs: Tensor) -> Posterior:
        """Posterior of inputs (S, n, features) under weights with a leading axis (S)."""
        x = inputs[..., :-1]
        h = torch.tanh(torch.baddbmm(weights["in_bias"], x, weights["in"]))
        h = torch.tanh(torch.baddbmm(weights["middle_bias"], h, weights["middle"]))
        out = torch.baddbmm(weights["out_bias"], h, weights["out"])
        out = torch.baddbmm(out, x, weights["past"])
        uv, mean, log_sd = torch.split(out, [2, self.latents, 1 + self.latents], dim=-1)
        log_sd = log_sd.clamp(LOWEST, HIGHEST)
        return Posterior(
            angle=torch.atan2(uv[..., 1], uv[..., 0]) + inputs[..., -1],
            angle_log_sd=log_sd[..., 0],
            mean=mean,
            log_sd=log_sd[..., 1:],
        )

    def terms(
        self, weights: dict[str, Tensor], inputs: Tensor, generator: torch.Generator | None = None
    ) -> Terms:
        """The evidence lower bound of inputs (S, n, features), exact."""
        q = self.encode(weights, inputs)
        x = inputs[..., :-1]
        mean, axes, log_variance = self.pictures(weights)
        # patterns and pictures over the noise: of counting, and of what pictures leave out
        over = self._over(log_variance)
        x, axes = x * (over * self.scale), axes * over
        picture = torch.baddbmm(mean * over, q.mean, axes)
        spread = torch.bmm(torch.exp(2 * q.log_sd), axes.square().sum(-1, keepdim=True))
        squares = x.square().sum(-1) + picture.square().sum(-1) + spread[..., 0]
        overlap = self._overlap(x, picture, q.angle - inputs[..., -1], q.angle_log_sd)
        volume = 0.5 * (log_variance.sum(-1) + log_variance[..., self.fixed :].sum(-1))
        half = 0.5 * squares - overlap + volume
        return Terms(half, kl_uniform_angle(q.angle_log_sd), kl_normal(q.mean, q.log_sd))

    def _overlap(self, x: Tensor, picture: Tensor, angle: Tensor, log_sd: Tensor) -> Tensor:
        """Mean over the angle of the product of a pattern and its turned picture, (S, n)."""
        fixed, turning = self.fixed, self.turning
        x0, xr, xi = torch.split(x, [fixed, turning, turning], dim=-1)
        g0, gr, gi = torch.split(picture, [fixed, turning, turning], dim=-1)
        order = torch.from_numpy(self.basis.order[fixed:]).to(x)
        turned = angle[..., None] * order
        kept = torch.exp(-0.5 * torch.exp(2 * log_sd)[..., None] * order.square())
        along, across = xr * gr + xi * gi, xr * gi - xi * gr
        overlap = (kept * (along * torch.cos(turned) + across * torch.sin(turned))).sum(-1)
        return overlap + (x0 * g0).sum(-1)

    def whitened(self, data: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, P) patterns (n, rows, columns) over their noise, at the pixels used."""
        return self.basis.whitened(data)

    def nothing(self, inputs: Tensor) -> Tensor:
        """(S, n) the loss of inputs (S, n, features) if the mean pattern is all one knows."""
        return 0.5 * self.scale**2 * inputs[..., :-1].square().sum(-1)

    def decode(self, weights: dict[str, Tensor], angle: Tensor, content: Tensor) -> Tensor:
        """(S, n, P) patterns over their noise, of angles (S, n) and latents (S, n, k)."""
        mean, axes, _ = self.pictures(weights)
        picture = torch.baddbmm(mean, content, axes)
        fixed, turning = self.fixed, self.turning
        g0, gr, gi = torch.split(picture, [fixed, turning, turning], dim=-1)
        order = torch.from_numpy(self.basis.order).to(picture)
        real = torch.cat([g0, gr], dim=-1)
        whole = torch.complex(real, torch.cat([torch.zeros_like(g0), gi], dim=-1))
        turned = whole * torch.polar(torch.ones_like(real), -angle[..., None] * order)
        functions = torch.from_numpy(self.basis.functions).to(turned)
        return torch.matmul(turned, functions).real


def _linear(seen: NDArray[np.floating], latents: int, fixed: int) -> Linear:
    """Probabilistic principal components of features (n, D) over their noise."""
    mean = seen.mean(0, dtype=float)
    covariance = np.cov(seen.T.astype(float)).reshape(len(mean), len(mean))
    values, vectors = np.linalg.eigh(covariance)
    values, vectors = values[::-1][:latents], vectors.T[::-1][:latents]
    if len(values) < latents:
        more = latents - len(values)
        values = np.append(values, np.zeros(more))
        vectors = np.vstack([vectors, np.full((more, len(mean)), 1 / np.sqrt(len(mean)))])
    signal = np.sqrt(np.maximum(values - 1, 0.01))
    axes = signal[:, None] * vectors
    gains = axes / (1 + signal**2)[:, None]
    left = np.diag(covariance) - (values[:, None] * vectors**2).sum(0)
    turning = (len(left) - fixed) // 2
    imaginary = left[fixed + turning :]
    per_component = np.append(left[:fixed], (left[fixed : fixed + turning] + imaginary) / 2)
    misfit = np.maximum(per_component - 1, 0.05)
    return Linear(*(one.astype(np.float32) for one in (mean, axes, gains, misfit)))
