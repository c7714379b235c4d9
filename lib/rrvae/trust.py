"""Whether to believe a trained ensemble, without knowing the truth.

Four questions, each with a threshold (see docs/rrvae_method.md for the data they were set on, and
others that they were checked on):

- Do held-out patterns gain from the model? Their evidence lower bound over that of the mean
  pattern, with no latents.
- Is the angle an angle? Patterns are turned by known angles and given independent noise:
  |<exp i(φ(Rx + noise) - φ(x + noise') - α)>|.
- Is the content independent of rotation and noise? The correlation of the leading content
  variable of the same two copies.
- Do seeds agree? The mean of squared similarity of their contents after the best rotation
  (Procrustes analysis).

The two copies come from one pattern by Gaussian data fission (Leiner et al., 2025, J. Am. Stat.
Assoc. 120, 135): x + e and x - e, with e of the noise's own variance, have independent noise, each
as if half of the electrons had been recorded. They also tell whether the centre of mass (COM)
would do better: which of the two, content or COM, measured on one half, foretells the magnitude
of the COM of the other?
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .patterns import Patterns
from .train import Ensemble, Latents
from .turn import turned

Floats = NDArray[np.float64]

LEAST_GAIN = 0.5  # nats per pattern
LEAST_ANGLE = 0.60  # of the copies' angles, which have twice the noise
LEAST_CONTENT = 0.50  # correlation of the copies' content
LEAST_AGREEMENT = 0.80
COM_AHEAD = 0.005  # of the correlations by which the COM may lead before it is called better
LEAST_R = 0.92  # estimated correlation with the magnitude of the COM
LOOKED_AT = 4096  # patterns at most

TRUSTED = "trusted"
COM_BETTER = "the COM is better here"
FAILED = "failed"


@dataclass(frozen=True)
class Trust:
    """What speaks for an ensemble and against it.

    Attributes
    ----------
    gain : (seeds,) nats per held-out pattern over the mean pattern alone.
    equivariance : (seeds,) without noise added, |<exp i(φ(Rx) - φ(x) - α)>|.
    angle_agreement : (seeds,) the same with independent noise.
    content_agreement : (seeds,) correlation of the leading content of turned, noisy copies.
    seed_agreement : (seeds,) median similarity with the other seeds; 1 if there is one only.
    com_r : estimated correlation of the COM's magnitude with what it would be without noise.
    content_r : (seeds,) the same of the leading content; NaN if the COM has no signal.
    angle_accepted, content_accepted : (seeds,) bool.
    verdict : `TRUSTED`, `COM_BETTER` or `FAILED`.
    reasons : one sentence each.
    """

    gain: Floats
    equivariance: Floats
    angle_agreement: Floats
    content_agreement: Floats
    seed_agreement: Floats
    com_r: float
    content_r: Floats
    angle_accepted: NDArray[np.bool_]
    content_accepted: NDArray[np.bool_]
    verdict: str
    reasons: tuple[str, ...]

    @property
    def best(self) -> int:
        """The accepted seed that has most agreement; the first by gain if none is accepted."""
        score = np.where(self.content_accepted, 1e6, 0.0) + np.where(self.angle_accepted, 1e5, 0.0)
        return int(np.argmax(score + self.gain))


def noisy_copies(patterns: Patterns, seed: int) -> tuple[Patterns, Patterns]:
    """Two versions of patterns with independent noise of twice the variance each."""
    random = np.random.default_rng(seed)
    sd = np.sqrt(patterns.variance) * ~patterns.mask
    first = random.standard_normal(patterns.data.shape, np.float32) * sd
    if patterns.choices.get("pseudo_dose"):  # there is no noise yet that could be divided
        second = random.standard_normal(patterns.data.shape, np.float32) * sd
        first, second = np.sqrt(2) * first, np.sqrt(2) * second
    else:
        second = -first
    variance = 2 * patterns.variance
    return (
        patterns.with_(data=(patterns.data + first).astype(np.float32), variance=variance),
        patterns.with_(data=(patterns.data + second).astype(np.float32), variance=variance),
    )


def moments(patterns: Patterns) -> NDArray[np.complex128]:
    """(n,) COM of each pattern less that of the mean, px: row + i column."""
    rows, columns = patterns.shape
    y = np.arange(rows)[:, None] - patterns.centre_px[0]
    x = np.arange(columns)[None] - patterns.centre_px[1]
    place = ((y + 1j * x) * ~patterns.mask).ravel()
    flat = patterns.data.reshape(len(patterns), -1)
    found = flat @ np.stack([place.real, place.imag], axis=1).astype(np.float32)
    return np.asarray((found[:, 0] + 1j * found[:, 1]) / patterns.dose, complex)


def procrustes(a: Floats, b: Floats) -> float:
    """Similarity of two contents (n, k), 0 to 1, after the best shift, rotation and scale."""
    a, b = a - a.mean(0), b - b.mean(0)
    size = np.linalg.norm(a) * np.linalg.norm(b)
    if size == 0:
        return 0.0
    return float((np.linalg.svd(a.T @ b, compute_uv=False).sum() / size) ** 2)


def assess(ensemble: Ensemble, patterns: Patterns, seed: int = 0) -> Trust:
    """Judge an ensemble by the patterns that it was trained on."""
    if len(patterns) > LOOKED_AT:
        chosen = np.random.default_rng([seed, 1]).choice(len(patterns), LOOKED_AT, replace=False)
        chosen.sort()
        held_out, patterns = ensemble.held_out[chosen], patterns.select(chosen)
    else:
        held_out = ensemble.held_out
    gain = held_out_gain(ensemble, patterns.select(held_out) if held_out.any() else patterns)
    one, two = noisy_copies(patterns, seed)
    angles = _angles(one, seed)
    first = ensemble.encode(one)
    around = [ensemble.encode(turned(two, angle)) for angle in angles]
    clean = ensemble.encode(patterns)
    clean_around = [ensemble.encode(turned(patterns, angle)) for angle in angles]

    fold = getattr(getattr(ensemble.model, "basis", None), "fold", 1)
    angle_agreement = _angle_agreement(first, around, angles, fold)
    content_agreement = np.mean([_correlation(first, one) for one in around], axis=0)
    content = clean.content * np.sqrt(clean.influence)[:, None]
    size = len(content)
    seed_agreement = np.ones(size)
    if size > 1:
        alike = np.array([[procrustes(a, b) for b in content] for a in content])
        seed_agreement = np.array([np.median(np.delete(alike[i], i)) for i in range(size)])

    com = np.abs(moments(one)), np.abs(moments(two))
    com_half = _pearson(*com)
    other = ensemble.encode(two)
    cross = np.array([
        0.5 * (abs(_pearson(a, com[1])) + abs(_pearson(b, com[0])))
        for a, b in zip(
            _leading(first, first.leading), _leading(other, first.leading), strict=True
        )
    ])  # fmt: skip
    own = np.array([
        _pearson(a, b)
        for a, b in zip(
            _leading(first, first.leading), _leading(other, first.leading), strict=True
        )
    ])  # fmt: skip
    com_r, content_r = _estimated(com_half, own, cross)
    angle_ok = (angle_agreement >= LEAST_ANGLE) & (gain >= LEAST_GAIN)
    content_ok = (
        (content_agreement >= LEAST_CONTENT)
        & (gain >= LEAST_GAIN)
        & (seed_agreement >= LEAST_AGREEMENT)
    )
    ahead = com_half - cross > COM_AHEAD * np.sqrt(max(com_half, 1e-12))
    unlike = ~(content_r >= LEAST_R)
    verdict, reasons = _verdict(angle_ok, content_ok, ahead | unlike, com_r, content_r)
    return Trust(
        gain, _angle_agreement(clean, clean_around, angles, fold), angle_agreement,
        content_agreement, seed_agreement, com_r, content_r, angle_ok,
        content_ok & ~ahead & ~unlike, verdict, reasons,
    )  # fmt: skip


def held_out_gain(ensemble: Ensemble, patterns: Patterns) -> Floats:
    """(seeds,) nats per pattern that a reconstruction explains, less its divergences' cost."""
    import torch

    inputs = ensemble.model.inputs(patterns)
    parts = []
    with torch.no_grad():
        for part in inputs.split(64):
            shown = part.expand(ensemble.seeds, -1, -1)
            told = (
                ensemble.model.nothing(shown) - ensemble.model.terms(ensemble.weights, shown).loss
            )
            parts.append(told)
    return np.asarray(torch.cat(parts, dim=1).mean(1).numpy(), float)


def _angles(patterns: Patterns, seed: int) -> list[float]:
    """Degrees: right angles where these are exact, else any."""
    rows, columns = patterns.shape
    if rows == columns and patterns.centre_px == ((rows - 1) / 2, (columns - 1) / 2):
        return [90.0, 180.0, 270.0]
    return [float(a) for a in np.random.default_rng([seed, 2]).uniform(20, 340, 3)]


def _angle_agreement(
    before: Latents, after: list[Latents], angles_deg: list[float], fold: int
) -> Floats:
    """(seeds,) whichever way the angle is counted; modulo 360/fold degrees."""
    both = []
    for sign in (1, -1):
        sums = [
            np.exp(1j * fold * (one.angle_rad - before.angle_rad - sign * np.deg2rad(angle)))
            for one, angle in zip(after, angles_deg, strict=True)
        ]
        both.append(np.abs(np.mean(sums, axis=(0, 2))))
    return np.asarray(np.maximum(*both))


def _leading(latents: Latents, which: NDArray[np.int64]) -> Floats:
    return np.take_along_axis(latents.content, which[:, None, None], axis=2)[..., 0]


def _correlation(first: Latents, second: Latents) -> Floats:
    a, b = _leading(first, first.leading), _leading(second, first.leading)
    return np.array([_pearson(u, v) for u, v in zip(a, b, strict=True)])


def _pearson(a: Floats, b: Floats) -> float:
    u, v = a - a.mean(), b - b.mean()
    size = np.linalg.norm(u) * np.linalg.norm(v)
    return float(u @ v / size) if size > 0 else 0.0


def _estimated(com_half: float, own: Floats, cross: Floats) -> tuple[float, Floats]:
    """Correlations with the COM's magnitude without noise, of the COM and of contents.

    Spearman (1910), Brown (1910): measured with all electrons the reliability p of a half becomes
    2p / (1 + p); a correlation is divided by the square roots of reliabilities to take the noise
    out, and multiplied by them to put it in.
    """
    if com_half <= 0:
        return 0.0, np.full(len(cross), np.nan)
    own = np.clip(own, 1e-6, 1)
    without = np.minimum(cross / np.sqrt(own * com_half), 1.0)
    return float(np.sqrt(2 * com_half / (1 + com_half))), without * np.sqrt(2 * own / (1 + own))


def _verdict(
    angle_ok: NDArray[np.bool_],
    content_ok: NDArray[np.bool_],
    com: NDArray[np.bool_],
    com_r: float,
    content_r: Floats,
) -> tuple[str, tuple[str, ...]]:
    size, reasons = len(angle_ok), []
    if not angle_ok.all():
        reasons.append(f"the angle of {int((~angle_ok).sum())} of {size} seeds is no rotation")
    if not content_ok.all():
        reasons.append(
            f"the content of {int((~content_ok).sum())} of {size} seeds changes with rotation, "
            "noise or seed"
        )
    good = content_ok & ~com
    told = f"r {np.nanmedian(content_r):.3f} against its own {com_r:.3f}"
    if good.any():
        return TRUSTED, (*reasons, f"leading content and noise-free COM magnitude: {told}")
    if com_r > 0 and (content_ok.any() or np.isfinite(content_r).any()):
        reasons.append(f"the content tells no more of the COM's magnitude than the COM: {told}")
        return (COM_BETTER if com_r >= LEAST_CONTENT else FAILED), tuple(reasons)
    return FAILED, (*reasons, "neither the model nor the COM finds a signal")
