r"""The gradient of the default model's bound, written out.

What a step of training costs is not arithmetic but the many small operations of `terms` and, more
than twice as many, of automatic differentiation; here each is done once, and nothing is recorded.
`HarmonicModel.terms` stays the definition: a test differentiates it and compares.

With x a pattern and g its picture over the noise, φ the angle left after turning upright and s its
spread, the overlap is x₀·g₀ + Σ e^{-m²s²/2} Re(x* g e^{imφ}) = y·g, y being the pattern turned and
damped; so ∂half/∂g = g - y, and of the rest each term's derivative is elementary.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .elbo import kl_uniform_angle_and_slope
from .harmonic_model import HIGHEST, LOWEST, HarmonicModel


class HarmonicGradient:
    """Loss and gradient of an ensemble, into tensors that are made once.

    Parameters
    ----------
    model : the architecture.
    weights, gradient : by name, (S, ...) each, the first as they will be when it is called and
        the second to write into: views of what an optimiser updates.
    """

    def __init__(
        self, model: HarmonicModel, weights: dict[str, Tensor], gradient: dict[str, Tensor]
    ) -> None:
        self.weights, self.gradient, self.latents = weights, gradient, model.latents
        self.fixed, self.turning = model.fixed, model.turning
        some = weights["misfit"]
        self.order = torch.from_numpy(model.basis.order[model.fixed :]).to(some)
        self.minus_half_square = -0.5 * self.order.square()
        self.real = model.gauge().to(some)
        self.scale = model.scale
        dims = torch.ones_like(some[:1])
        dims[..., model.fixed :] = 2.0
        self.half_dims = 0.5 * dims

    @torch.no_grad()
    def __call__(self, inputs: Tensor) -> Tensor:
        """(S,) mean loss of inputs (S, n, features); its gradient is written."""
        w, into, k = self.weights, self.gradient, self.latents
        fixed, turning, n = self.fixed, self.turning, inputs.shape[1]
        parts = [fixed, turning, turning]
        seen = inputs[..., :-1]

        # the encoder
        first = torch.baddbmm(w["in_bias"], seen, w["in"]).tanh_()
        second = torch.baddbmm(w["middle_bias"], first, w["middle"]).tanh_()
        out = torch.baddbmm(w["out_bias"], second, w["out"]).baddbmm_(seen, w["past"])
        uv, mu, free = torch.split(out, [2, k, 1 + k], dim=-1)
        u, v = uv[..., 0], uv[..., 1]
        log_sd = free.clamp(LOWEST, HIGHEST)
        variance = torch.exp(2 * log_sd)
        angle_variance, content_variance = variance[..., :1], variance[..., 1:]

        # pictures over the noise
        softplus = torch.nn.functional.softplus(w["misfit"])
        over_squared = (1 + softplus).reciprocal_()
        over = over_squared.sqrt()
        over = torch.cat([over, over[..., fixed:]], dim=-1)
        shown = self.real * over
        mean = w["decoder_bias"] * shown
        free_axes = w["decoder"] * shown
        axes, steps = _orthogonal(free_axes)
        lengths = axes.square().sum(-1)[:, None]
        x = seen * (over * self.scale)
        g = torch.baddbmm(mean, mu, axes)

        # the overlap of patterns and pictures
        x0, xr, xi = torch.split(x, parts, dim=-1)
        g0, gr, gi = torch.split(g, parts, dim=-1)
        turned = torch.atan2(v, u)[..., None] * self.order
        damp = torch.exp(angle_variance * self.minus_half_square)
        cos, sin = torch.cos(turned).mul_(damp), torch.sin(turned).mul_(damp)
        along = (xr * gr).addcmul_(xi, gi)
        across = (xr * gi).addcmul_(xi, gr, value=-1)
        overlaps = (cos * along).addcmul_(sin, across)  # (S, n, T)
        twist = (cos * across).addcmul_(sin, along, value=-1)

        # loss
        kl_angle, kl_slope = kl_uniform_angle_and_slope(log_sd[..., 0])
        x_squares = x.square().sum(1)  # (S, D)
        contents = content_variance * (lengths + 1) + mu.square()
        loss = 0.5 * (x_squares.sum(-1) + g.square().sum((-1, -2)) + contents.sum((-1, -2)))
        fixed_overlaps = x0 * g0
        loss -= overlaps.sum((-1, -2)) + fixed_overlaps.sum((-1, -2))
        loss += kl_angle.sum(-1) - log_sd[..., 1:].sum((-1, -2))
        loss = loss / n - 0.5 * k
        loss -= (self.half_dims * torch.log(over_squared)).sum((-1, -2))

        # back through pictures; every derivative by what is of one pattern is over n
        y = torch.cat(
            [x0, (cos * xr).addcmul_(sin, xi, value=-1), (cos * xi).addcmul_(sin, xr)], dim=-1
        )
        d_g = torch.sub(g, y).div_(n)
        d_out = torch.empty_like(out)
        torch.baddbmm(mu, d_g, axes.mT, beta=1 / n, out=d_out[..., 2 : 2 + k])
        d_sd = torch.cat(
            [
                kl_slope[..., None]
                - 2 * angle_variance * (overlaps @ self.minus_half_square)[..., None],
                content_variance * (lengths + 1) - 1,
            ],
            dim=-1,
        )
        torch.mul(d_sd, (free == log_sd) / n, out=d_out[..., 2 + k :])
        d_angle = (twist @ self.order) / (u.square().addcmul_(v, v) * -n)
        torch.mul(d_angle, -v, out=d_out[..., 0])
        torch.mul(d_angle, u, out=d_out[..., 1])

        d_mean = d_g.sum(1, keepdim=True)
        d_axes = torch.baddbmm(axes * (content_variance.sum(1) / n)[..., None], mu.mT, d_g)
        d_free_axes = _orthogonal_back(axes, steps, d_axes)
        torch.mul(d_mean, shown, out=into["decoder_bias"])
        torch.mul(d_free_axes, shown, out=into["decoder"])
        by_feature = x_squares[:, None] / n + d_mean * mean
        by_feature += (d_free_axes * free_axes).sum(1, keepdim=True)
        per = by_feature[..., : fixed + turning].clone()
        per[..., fixed:] += by_feature[..., fixed + turning :]
        per[..., :fixed] -= fixed_overlaps.sum(1, keepdim=True) / n
        per[..., fixed:] -= overlaps.sum(1, keepdim=True) / n
        d_log_variance = self.half_dims - 0.5 * per
        d_log_variance *= over_squared
        torch.mul(d_log_variance, torch.sigmoid(w["misfit"]), out=into["misfit"])

        # back through the encoder
        torch.bmm(seen.mT, d_out, out=into["past"])
        torch.bmm(second.mT, d_out, out=into["out"])
        torch.sum(d_out, 1, keepdim=True, out=into["out_bias"])
        d_second = torch.bmm(d_out, w["out"].mT)
        d_second.addcmul_(d_second * second, second, value=-1)
        torch.bmm(first.mT, d_second, out=into["middle"])
        torch.sum(d_second, 1, keepdim=True, out=into["middle_bias"])
        d_first = torch.bmm(d_second, w["middle"].mT)
        d_first.addcmul_(d_first * first, first, value=-1)
        torch.bmm(seen.mT, d_first, out=into["in"])
        torch.sum(d_first, 1, keepdim=True, out=into["in_bias"])
        return loss


Step = tuple[Tensor, Tensor, Tensor]  # an axis before it is made orthogonal, along, length squared


def _orthogonal(free: Tensor) -> tuple[Tensor, list[list[Step]]]:
    """Axes (S, k, D) made orthogonal one after the other, and what was done to each."""
    rows: list[Tensor] = []
    steps: list[list[Step]] = []
    for axis in torch.unbind(free, dim=1):
        done: list[Step] = []
        for before in rows:
            square = before.square().sum(-1, keepdim=True)
            along = (axis * before).sum(-1, keepdim=True) / square
            done.append((axis, along, square))
            axis = torch.addcmul(axis, before, along, value=-1)
        rows.append(axis)
        steps.append(done)
    return torch.stack(rows, dim=1), steps


def _orthogonal_back(axes: Tensor, steps: list[list[Step]], slope: Tensor) -> Tensor:
    """The derivative by the free axes from that by the orthogonal ones."""
    slopes = list(torch.unbind(slope, dim=1))
    rows = torch.unbind(axes, dim=1)
    for j in range(len(rows) - 1, 0, -1):
        for i in range(j - 1, -1, -1):
            axis, along, square = steps[j][i]
            by_along = -(slopes[j] * rows[i]).sum(-1, keepdim=True) / square
            slopes[i] = slopes[i] - along * slopes[j] + by_along * (axis - 2 * along * rows[i])
            slopes[j] = slopes[j] + by_along * rows[i]
    return torch.stack(slopes, dim=1)
