"""Training of an ensemble: all seeds as one batched network, on CPU and GPU alike.

Weights of all seeds lie in one tensor (seeds, weights), so Adam (Kingma & Ba, 2015) is one
operation and each seed is as it would be alone: its weights, its order of patterns and its noise
come from generators of its own. Of each seed the weights are kept that gave held-out patterns the
best evidence lower bound.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import UserError
from .config import CoordinateConfig, HarmonicConfig
from .coordinate_model import CoordinateModel
from .elbo import Posterior, Terms
from .harmonic_gradient import HarmonicGradient
from .harmonic_model import HarmonicModel
from .patterns import Patterns
from .sound import check, split

Floats = NDArray[np.float64]
AT_ONCE = 1024  # patterns encoded in one go
LOOKED_AT = 512  # held-out patterns at most, in each look


class Model(Protocol):
    """What training asks of a model."""

    @property
    def latents(self) -> int:
        """How many content variables."""

    def inputs(self, patterns: Patterns) -> Tensor:
        """(n, features) float32, what the encoder is shown."""

    def start(self, seed: int) -> dict[str, Tensor]:
        """Weights to begin with."""

    def encode(self, weights: dict[str, Tensor], inputs: Tensor) -> Posterior:
        """Posterior of inputs (S, n, features) under weights with a leading axis (S)."""

    def terms(
        self, weights: dict[str, Tensor], inputs: Tensor, generator: torch.Generator | None = None
    ) -> Terms:
        """The evidence lower bound; without a generator that of the posterior's mean."""

    def nothing(self, inputs: Tensor) -> Tensor:
        """(S, n) the loss of inputs (S, n, features) if the mean pattern is all one knows."""

    def decode(self, weights: dict[str, Tensor], angle: Tensor, content: Tensor) -> Tensor:
        """(S, n, P) patterns over their noise, of angles (S, n) and latents (S, n, k)."""


@dataclass(frozen=True)
class Latents:
    """What an ensemble says of patterns.

    Attributes
    ----------
    angle_rad, angle_sd_rad : (seeds, n), from the row axis to the column axis, within ±π.
    content, content_sd : (seeds, n, k).
    influence : (seeds, k) mean square of what a standard deviation of each content variable does
        to a pattern, over the noise and per pixel.
    """

    angle_rad: Floats
    angle_sd_rad: Floats
    content: Floats
    content_sd: Floats
    influence: Floats

    def part(self, seed: int, which: slice) -> Latents:
        """Some of the patterns, of one seed."""
        one = slice(seed, seed + 1)
        return Latents(
            self.angle_rad[one, which],
            self.angle_sd_rad[one, which],
            self.content[one, which],
            self.content_sd[one, which],
            self.influence[one],
        )

    @property
    def leading(self) -> NDArray[np.int64]:
        """(seeds,) the content variable that changes patterns most: no label chooses it."""
        return np.asarray(self.influence.argmax(axis=1), np.int64)

    @property
    def leading_content(self) -> Floats:
        """(seeds, n) of it."""
        return np.take_along_axis(self.content, self.leading[:, None, None], axis=2)[..., 0]


@dataclass(frozen=True)
class Look:
    """A look at the ensemble in training, for live curves.

    Attributes
    ----------
    epoch : passes through the patterns so far.
    loss, held_out_loss : (seeds,) negative evidence lower bound, nats per pattern.
    equivariance : (seeds,) |<exp i(φ(Rx) - φ(x) - α)>| over three right angles α.
    invariance : (seeds,) Pearson correlation of the leading content before and after them.
    best : (seeds,) whether this is the best held-out loss so far.
    """

    epoch: int
    loss: Floats
    held_out_loss: Floats
    equivariance: Floats
    invariance: Floats
    best: NDArray[np.bool_]


@dataclass(frozen=True)
class Ensemble:
    """Trained models, one per seed.

    Attributes
    ----------
    model : the architecture, with what it learned to see before training.
    weights : by name, each with a leading axis of seeds, float32, on the CPU.
    config : the choices it was trained with.
    history : the looks, in order.
    epoch : (seeds,) the epoch that was kept.
    held_out : (n,) bool, the patterns never trained on.
    """

    model: HarmonicModel | CoordinateModel
    weights: dict[str, Tensor]
    config: HarmonicConfig | CoordinateConfig
    history: tuple[Look, ...] = ()
    epoch: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    held_out: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))

    @property
    def seeds(self) -> int:
        """How many."""
        return len(next(iter(self.weights.values())))

    def encode(self, patterns: Patterns) -> Latents:
        """Angles and content of patterns prepared as those that it was trained on."""
        return encode(self.model, self.weights, self.model.inputs(patterns))

    def decode(self, latents: Latents) -> NDArray[np.float32]:
        """(seeds, n, P) reconstructions over the noise, at the pixels that the model uses."""
        with torch.no_grad():
            angle = torch.from_numpy(latents.angle_rad.astype(np.float32))
            content = torch.from_numpy(latents.content.astype(np.float32))
            found: NDArray[np.float32] = self.model.decode(self.weights, angle, content).numpy()
        return found

    def seed(self, number: int) -> Ensemble:
        """One of them alone."""
        weights = {name: one[number : number + 1] for name, one in self.weights.items()}
        epoch = self.epoch[number : number + 1]
        return Ensemble(self.model, weights, self.config, self.history, epoch, self.held_out)


def encode(model: Model, weights: dict[str, Tensor], inputs: Tensor) -> Latents:
    """Angles and content of inputs (n, features) under each seed's weights."""
    seeds = len(next(iter(weights.values())))
    parts = []
    with torch.no_grad():
        for start in range(0, len(inputs), AT_ONCE):
            part = inputs[start : start + AT_ONCE].to(next(iter(weights.values())).device)
            q = model.encode(weights, part.expand(seeds, -1, -1))
            parts.append((q.angle, q.angle_log_sd.exp(), q.mean, q.log_sd.exp()))
    angle, angle_sd, mean, sd = (
        torch.cat(one, dim=1).cpu().numpy().astype(float) for one in zip(*parts, strict=True)
    )
    influence = _influence(model, weights, mean.mean(1), mean.std(1))
    return Latents((angle + np.pi) % (2 * np.pi) - np.pi, angle_sd, mean, sd, influence)


def _influence(model: Model, weights: dict[str, Tensor], mean: Floats, sd: Floats) -> Floats:
    """(S, k) mean square change of a pattern from a standard deviation below the mean to above."""
    steps = sd[:, None] * np.eye(sd.shape[1])
    points = np.concatenate([mean[:, None] + steps, mean[:, None] - steps], axis=1)
    content = torch.from_numpy(points.astype(np.float32)).to(next(iter(weights.values())).device)
    with torch.no_grad():
        shown = model.decode(weights, torch.zeros_like(content[..., 0]), content)
    above, below = torch.chunk(shown, 2, dim=1)
    return np.asarray((0.25 * (above - below).square()).mean(-1).cpu().numpy(), float)


def train(
    patterns: Patterns,
    config: HarmonicConfig | CoordinateConfig | None = None,
    on_look: Callable[[Look, Callable[[], Latents]], Any] | None = None,
) -> Ensemble:
    """Train one model per seed on prepared patterns.

    Parameters
    ----------
    patterns : with the mean pattern subtracted; their variance is the weight of reconstruction.
    config : the model and its choices; the harmonic one if None.
    on_look : called at each look with it and a function that encodes all patterns as things are.

    Raises
    ------
    UserError : for patterns that nothing can be learned from: too few, all alike, not numbers,
        or without a signal above their noise; or if there is no GPU though one is asked for.
    """
    config = config or HarmonicConfig()
    check(patterns)
    if config.device == "cuda" and not torch.cuda.is_available():
        raise UserError("device", "no GPU", "one for device: cuda", "say device: cpu")
    if isinstance(config, HarmonicConfig):
        model: HarmonicModel | CoordinateModel = HarmonicModel.of(patterns, config)
    else:
        model = CoordinateModel.of(patterns, config)
    held_out = split(patterns, config.held_out, config.seeds[0])
    run = _Run(model, patterns, config, held_out)
    for epoch in range(1, config.epochs + 1):
        loss = run.epoch(epoch)
        if epoch % config.look_every and epoch != config.epochs:
            continue
        look = run.look(epoch, loss)
        if on_look is not None:
            on_look(look, run.encode_all)
        if run.waited >= config.patience:
            break
    best = {name: one.detach().cpu().clone() for name, one in run.named(run.best).items()}
    return Ensemble(model, best, config, tuple(run.history), run.best_epoch, held_out)


class _Run:
    """The state of a training."""

    def __init__(
        self,
        model: HarmonicModel | CoordinateModel,
        patterns: Patterns,
        config: HarmonicConfig | CoordinateConfig,
        held_out: NDArray[np.bool_],
    ) -> None:
        self.model, self.config = model, config
        device = torch.device(config.device)
        self.inputs = model.inputs(patterns).to(device)
        self.learned = torch.from_numpy(np.flatnonzero(~held_out)).to(device)
        random = np.random.default_rng(config.seeds[0])
        shown = np.sort(random.permutation(np.flatnonzero(held_out))[:LOOKED_AT])
        self.held = self.inputs[torch.from_numpy(shown).to(device)]
        self.turned = [model.inputs(one).to(device) for one in right_turns(patterns.select(shown))]
        starts = [model.start(seed) for seed in config.seeds]
        self.shapes = {name: one.shape for name, one in starts[0].items()}
        flat = torch.stack([torch.cat([v.reshape(-1) for v in one.values()]) for one in starts])
        self.flat = flat.to(device).requires_grad_()
        self.optimizer = torch.optim.Adam([self.flat], lr=config.learning_rate, fused=True)
        self.generators = [torch.Generator().manual_seed(2**32 + seed) for seed in config.seeds]
        self.drawing = torch.Generator(device).manual_seed(2**33 + config.seeds[0])
        self.gradient: Callable[[Tensor], Tensor] = self.differentiated
        if isinstance(model, HarmonicModel):
            self.flat.grad = torch.zeros_like(self.flat)
            weights, gradient = self.named(self.flat.detach()), self.named(self.flat.grad)
            self.gradient = HarmonicGradient(model, weights, gradient)
        self.best = self.flat.detach().clone()
        self.best_loss = np.full(len(starts), np.inf)
        self.best_epoch = np.zeros(len(starts), np.int64)
        self.waited = 0
        self.history: list[Look] = []

    def named(self, flat: Tensor) -> dict[str, Tensor]:
        """The weights (S, ...) by name, views of a tensor (S, weights)."""
        parts = torch.split(flat, [math.prod(shape) for shape in self.shapes.values()], dim=1)
        return {
            name: part.view(len(flat), *shape)
            for (name, shape), part in zip(self.shapes.items(), parts, strict=True)
        }

    def differentiated(self, inputs: Tensor) -> Tensor:
        """(S,) mean loss of inputs (S, n, features); its gradient is that of the weights."""
        loss = self.model.terms(self.named(self.flat), inputs, self.drawing).loss.mean(1)
        self.optimizer.zero_grad(set_to_none=True)
        loss.sum().backward()
        return loss.detach()

    def epoch(self, epoch: int) -> Floats:
        """One pass through the patterns; returns the mean loss of each seed."""
        n, batch = len(self.learned), min(self.config.batch, len(self.learned))
        orders = torch.stack([torch.randperm(n, generator=one) for one in self.generators])
        orders = self.learned[orders.to(self.learned.device)]
        total = torch.zeros(len(self.flat), device=self.flat.device)
        steps = n // batch  # what is left over has its turn in another order
        for step in range(steps):
            if self.config.falls:
                done = (epoch - 1 + step / steps) / self.config.epochs
                rate = 0.5 * self.config.learning_rate * (1 + math.cos(math.pi * done))
                self.optimizer.param_groups[0]["lr"] = rate
            inputs = self.inputs[orders[:, step * batch : (step + 1) * batch]]
            total += self.gradient(inputs)
            self.optimizer.step()
        return (total / steps).cpu().numpy().astype(float)

    def look(self, epoch: int, loss: Floats) -> Look:
        """How the held-out patterns fare; keeps the weights of seeds that are at their best."""
        weights = self.named(self.flat.detach())
        with torch.no_grad():
            parts = [
                self.model.terms(weights, part.expand(len(self.flat), -1, -1)).loss
                for part in self.held.split(64)
            ]
            held = torch.cat(parts, dim=1).mean(1).cpu().numpy().astype(float)
        before = encode(self.model, weights, self.held)
        after = [encode(self.model, weights, one) for one in self.turned]
        better = held < self.best_loss
        self.best_loss = np.where(better, held, self.best_loss)
        self.best_epoch = np.where(better, epoch, self.best_epoch)
        self.best[torch.from_numpy(better)] = self.flat.detach()[torch.from_numpy(better)]
        self.waited = 0 if better.any() else self.waited + 1
        if not np.isfinite(loss).all():
            raise UserError(
                "learning_rate", f"a loss that is no number in epoch {epoch}", "a finite one",
                "take a smaller learning rate",
            )  # fmt: skip
        angles = np.array([0.5, 1.0, 1.5]) * np.pi
        e, i = equivariance(before, after, angles), invariance(before, after)
        self.history.append(Look(epoch, loss, held, e, i, better))
        return self.history[-1]

    def encode_all(self) -> Latents:
        """All patterns, as things are."""
        return encode(self.model, self.named(self.flat.detach()), self.inputs)


def right_turns(patterns: Patterns) -> list[Patterns]:
    """The patterns turned by 90, 180 and 270 degrees about their centre."""
    from .turn import turned

    return [turned(patterns, 90.0 * quarter) for quarter in (1, 2, 3)]


def equivariance(before: Latents, after: list[Latents], angles_rad: Floats) -> Floats:
    """(seeds,) |<exp i(φ(Rx) - φ(x) - α)>|, whichever way the angle is counted."""
    both = []
    for sign in (1, -1):
        sums = [
            np.exp(1j * (one.angle_rad - before.angle_rad - sign * angle))
            for one, angle in zip(after, angles_rad, strict=True)
        ]
        both.append(np.abs(np.mean(sums, axis=(0, 2))))
    return np.asarray(np.maximum(*both))


def invariance(before: Latents, after: list[Latents]) -> Floats:
    """(seeds,) mean Pearson correlation of the leading content with that of turned patterns."""
    found = []
    for one in after:
        for a, z, zt in zip(before.leading, before.content, one.content, strict=True):
            u, v = z[:, a] - z[:, a].mean(), zt[:, a] - zt[:, a].mean()
            found.append((u * v).sum() / max(np.sqrt((u * u).sum() * (v * v).sum()), 1e-30))
    return np.reshape(found, (len(after), -1)).mean(0)
