"""What comes of learning from a scan, as it is kept: maps, figures, and what was judged."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .residual import Defect
from .train import Look
from .trust import Trust

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Maps:
    """Maps over the scan, (scan row, scan column) last or, of vectors, before the last axis.

    NaN where there is no pattern. Angles of the network and of the components have an arbitrary
    offset, and sense; `Agreement` has them. Those of the centre of mass are from the scan's column
    axis towards its row axis (the detector's, without a calibration).

    Attributes
    ----------
    angle_rad, angle_sd_rad : (seeds, scan row, scan column), the network's, and its own spread.
    content, content_sd : (seeds, scan row, scan column, latents).
    com_row, com_column, com_magnitude, com_magnitude_sigma : deflection and counting error, mrad
        or px.
    com_angle_rad : its direction.
    divergence, curl : of the deflection, per nm or per scan point.
    harmonic_modulus, harmonic_angle_rad : the first circular harmonic.
    pair_modulus, pair_angle_rad : the leading pair of principal components.
    residual_chi2 : what the best seed leaves unexplained, squared over the noise.
    residual_sigma, residual_p : its significance in standard deviations, and probability.
    """

    angle_rad: Floats
    angle_sd_rad: Floats
    content: Floats
    content_sd: Floats
    com_row: Floats
    com_column: Floats
    com_magnitude: Floats
    com_magnitude_sigma: Floats
    com_angle_rad: Floats
    divergence: Floats
    curl: Floats
    harmonic_modulus: Floats
    harmonic_angle_rad: Floats
    pair_modulus: Floats
    pair_angle_rad: Floats
    residual_chi2: Floats
    residual_sigma: Floats
    residual_p: Floats


@dataclass(frozen=True)
class Agreement:
    """How a magnitude and an angle of every pattern agree with the centre of mass.

    Attributes
    ----------
    what : whose magnitude and angle.
    pearson, spearman : of the magnitudes; the sign of a latent means nothing. NaN where one does
        not vary.
    circular_R : of the angles, up to an offset and a sense.
    sense, offset_rad : the angle is ``sense * (COM's angle) + offset``.
    """

    what: str
    pearson: float
    spearman: float
    circular_R: float
    sense: int
    offset_rad: float


@dataclass(frozen=True)
class Curves:
    """How training went.

    Attributes
    ----------
    epoch : (looks,).
    loss, held_out_loss : (looks, seeds), negative evidence lower bound in nats per pattern.
    equivariance, invariance : (looks, seeds) of angle and content under right angles.
    kept : (seeds,) the epoch whose weights were kept.
    """

    epoch: NDArray[np.int64]
    loss: Floats
    held_out_loss: Floats
    equivariance: Floats
    invariance: Floats
    kept: NDArray[np.int64]


@dataclass(frozen=True)
class Manifold:
    """Patterns that the best seed makes of values of its latents.

    Attributes
    ----------
    rows : (m,) the leading content in standard deviations from its mean, of each row of pictures.
    columns : (n,) the same of the second content, or angles in degrees if there is but one.
    column_name : which of the two.
    pictures : (m, n, rows, columns), over the noise; NaN at pixels that are not used.
    """

    rows: Floats
    columns: Floats
    column_name: str
    pictures: Floats


@dataclass(frozen=True)
class DosePoint:
    """The same with fewer electrons: correlations with the COM of the other electrons.

    Attributes
    ----------
    electrons : in a pattern.
    content_r, angle_R : of the best seed of an ensemble trained at this dose.
    com_r, com_R : of the centre of mass.
    verdict : of that ensemble.
    """

    electrons: float
    content_r: float
    angle_R: float
    com_r: float
    com_R: float
    verdict: str


@dataclass(frozen=True)
class Prepared:
    """What was learned from.

    Attributes
    ----------
    patterns : how many.
    repeated : how many of them repeat another.
    dose : electrons in a pattern.
    pixel_mrad, disc_radius_px, centre_px : of prepared patterns.
    mean : (rows, columns), electrons.
    noise : (rows, columns), its standard deviation.
    mask : (rows, columns) bool.
    example : (rows, columns), the pattern that is deflected most, less the mean.
    com_unit : "mrad" or "px".
    com_calibrated : whether directions are those of the scan.
    scan_step_nm : (row, column); None if unknown.
    warning : why a rotation map may mean nothing, whatever network it is of; "" if it may.
    """

    patterns: int
    repeated: int
    dose: float
    pixel_mrad: float | None
    disc_radius_px: float | None
    centre_px: tuple[float, float]
    mean: Floats
    noise: Floats
    mask: NDArray[np.bool_]
    example: Floats
    com_unit: str
    com_calibrated: bool
    scan_step_nm: tuple[float, float] | None
    warning: str = ""


@dataclass(frozen=True)
class RrvaeResult:
    """A trained ensemble's scores.

    Attributes
    ----------
    name : of the scan.
    model : "harmonic" or "coordinate".
    best : the seed (its position) that maps are shown of.
    leading : (seeds,) its content variable that changes patterns most, of each seed.
    share : (seeds, latents) of what the content changes in patterns.
    trust : verdict and reasons.
    agreements : of every seed, by position, with the centre of mass; then the baselines'.
    explained : part of the variance, over the noise, that each baseline holds.
    fold : angles are known modulo 360/fold degrees.
    """

    name: str
    model: str
    best: int
    leading: NDArray[np.int64]
    share: Floats
    trust: Trust
    agreements: tuple[Agreement, ...]
    baselines: tuple[Agreement, ...]
    explained: tuple[float, ...]
    fold: int
    curves: Curves
    manifold: Manifold
    defects: tuple[Defect, ...]
    dose_curve: tuple[DosePoint, ...]
    prepared: Prepared
    notes: tuple[str, ...] = ()


def curves_of(looks: Sequence[Look]) -> Curves:
    """Curves of a training so far, of one look at least."""

    def of(name: str) -> Floats:
        return np.array([getattr(one, name) for one in looks], float)

    epoch, held = np.array([one.epoch for one in looks], np.int64), of("held_out_loss")
    kept = epoch[held.argmin(axis=0)]
    return Curves(epoch, of("loss"), held, of("equivariance"), of("invariance"), kept)


def figures_of(result: RrvaeResult) -> dict[str, Any]:
    """The few numbers that stand for a training in a table."""
    mine, trust, best = result.agreements[result.best], result.trust, result.best
    return _finite({
        "verdict": trust.verdict,
        "model": result.model,
        "patterns": result.prepared.patterns,
        "dose": result.prepared.dose,
        "best_seed": best,
        "leading": int(result.leading[best]),
        "content_accepted": int(trust.content_accepted.sum()),
        "angle_accepted": int(trust.angle_accepted.sum()),
        "seeds": len(trust.gain),
        "pearson": abs(mine.pearson),
        "spearman": abs(mine.spearman),
        "circular_R": mine.circular_R,
        "harmonic_pearson": abs(result.baselines[0].pearson),
        "harmonic_circular_R": result.baselines[0].circular_R,
        "pair_pearson": abs(result.baselines[1].pearson),
        "pair_circular_R": result.baselines[1].circular_R,
        "content_r": float(trust.content_r[best]),
        "com_r": float(trust.com_r),
        "equivariance": float(trust.equivariance[best]),
        "held_out_gain": float(trust.gain[best]),
        "epoch": int(result.curves.kept[best]),
        "defects": len(result.defects),
        "warning": result.prepared.warning or None,
        "largest_sigma": max((one.sigma for one in result.defects), default=None),
    })  # fmt: skip


def scores_of(result: RrvaeResult) -> dict[str, Any]:
    """All scores as plain numbers and words, for a YAML."""
    trust = result.trust
    seeds = [
        {
            "gain_nats": float(trust.gain[i]),
            "equivariance": float(trust.equivariance[i]),
            "angle_agreement": float(trust.angle_agreement[i]),
            "content_agreement": float(trust.content_agreement[i]),
            "seed_agreement": float(trust.seed_agreement[i]),
            "content_r": float(trust.content_r[i]),
            "angle_accepted": bool(trust.angle_accepted[i]),
            "content_accepted": bool(trust.content_accepted[i]),
            "epoch": int(result.curves.kept[i]),
            "with_com": _agreement(result.agreements[i]),
        }
        for i in range(len(trust.gain))
    ]
    return {
        "name": result.name,
        "verdict": trust.verdict,
        "reasons": list(trust.reasons),
        "best_seed": result.best,
        "com_r": float(trust.com_r),
        "warning": result.prepared.warning or None,
        "seeds": [_finite(one) for one in seeds],
        "baselines": {
            one.what: _finite({**_agreement(one), "explained": explained})
            for one, explained in zip(result.baselines, result.explained, strict=True)
        },
        "defects": [vars(one) for one in result.defects],
        "dose_curve": [_finite(vars(one)) for one in result.dose_curve],
        "notes": list(result.notes),
    }


def _agreement(one: Agreement) -> dict[str, Any]:
    return _finite({name: value for name, value in vars(one).items() if name != "what"})


def _finite(values: Mapping[str, Any]) -> dict[str, Any]:
    """NaN and infinite numbers as None."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in values.items()
    }
