"""From a scan to maps that one can judge: centre of mass, baselines, network, verdict, residual."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..overfocus.calibration import ScanCalibration
from ..rings.calibration import RingCalibration
from ..stem4d.com import CentreOfMass, centre_of_mass, curl_and_divergence
from ..stem4d.scan import Scan4D
from .apply import Applied, apply
from .baselines import Baseline, first_harmonic, rotational_pair
from .checkpoint import Made, made_for
from .correlate import circular_correlation, pearson, spearman
from .patterns import Patterns
from .plan import Plan
from .preprocess import prepare
from .preprocess_config import PreprocessConfig
from .repeats import repeats
from .residual import Defect, Residual, residual
from .result import (
    Agreement,
    DosePoint,
    Manifold,
    Maps,
    Prepared,
    RrvaeResult,
    curves_of,
)
from .thin import thinned
from .train import Ensemble, Latents, Look, train
from .trust import assess, moments

Floats = NDArray[np.float64]
Say = Callable[[str, float], None]
OnLook = Callable[[Look, Callable[[], Latents], Patterns], Any]

STEPS = 7  # values of a latent that the manifold is shown at
REACH = 2.0  # standard deviations to either side
LINE = 0.1  # minor over major variance of deflections that lie along a line
FEWEST_TURNED = 20  # patterns to tell it by


@dataclass(frozen=True)
class Learned:
    """All that comes of a training.

    Attributes
    ----------
    ensemble, made : for `checkpoint.save`.
    maps : over the scan.
    result : scores, curves and what was judged.
    choices : what `prepare` was told and what the data decided.
    """

    ensemble: Ensemble
    made: Made
    maps: Maps
    result: RrvaeResult
    choices: dict[str, Any]


@dataclass(frozen=True)
class Mapped:
    """A scan mapped by an ensemble that was trained on another.

    Attributes
    ----------
    maps : over the scan.
    applied : with the verdict.
    unlike : (scan row, scan column), 1 where the pattern is explained worse than in training.
    agreements : of every seed with the centre of mass.
    baselines : theirs.
    defects : of the residual.
    prepared : what was mapped.
    notes : what was odd, one sentence each.
    """

    maps: Maps
    applied: Applied
    unlike: Floats
    agreements: tuple[Agreement, ...]
    baselines: tuple[Agreement, ...]
    defects: tuple[Defect, ...]
    prepared: Prepared
    notes: tuple[str, ...]


def learn(
    scan: Scan4D,
    plan: Plan | None = None,
    *,
    calibration: ScanCalibration | None = None,
    rings: RingCalibration | None = None,
    spool: Path | None = None,
    threads: int = 1,
    say: Say = lambda step, fraction: None,
    on_look: OnLook = lambda look, encode, patterns: None,
) -> Learned:
    """Train an ensemble on a scan and judge it, beside what needs no network.

    Parameters
    ----------
    calibration, rings, spool, threads : as of `prepare`.
    say : told each step and the fraction done.
    on_look : called at each look into the training, see `train`; also with the patterns.

    Raises
    ------
    UserError : a scan that nothing can be learned from.
    """
    plan = plan or Plan()
    com, patterns, notes = _seen(scan, plan, calibration, rings, spool, threads, say)
    same = len(patterns) - len(np.unique(repeats(patterns)))
    if same:
        notes.append(f"{same} of {len(patterns)} patterns repeat another")
    say("train", 0.3)

    def look_in(look: Look, encode: Callable[[], Latents]) -> None:
        last = plan.model.epochs
        say(f"epoch {look.epoch} of {last}", 0.3 + 0.5 * look.epoch / last)
        on_look(look, encode, patterns)

    ensemble = train(patterns, plan.model, look_in)
    say("judge it", 0.8)
    trust = assess(ensemble, patterns, plan.seed)
    latents = ensemble.encode(patterns)
    best = trust.best
    left = residual(ensemble, patterns, best, _step_A(scan))
    fold = _fold(ensemble)
    pairs = baselines_of(patterns)
    say("dose curve" if plan.dose_curve else "manifold", 0.85)
    result = RrvaeResult(
        name=scan.name,
        model=plan.model.model,
        best=best,
        leading=latents.leading,
        share=latents.influence / np.maximum(latents.influence.sum(1, keepdims=True), 1e-30),
        trust=trust,
        agreements=_with_com(latents, patterns, com, fold),
        baselines=_baselines_with_com(pairs, patterns, com),
        explained=tuple(one.explained for one in pairs),
        fold=fold,
        curves=curves_of(ensemble.history),
        manifold=manifold(ensemble, latents, best),
        defects=left.defects,
        dose_curve=tuple(_dose_point(patterns, dose, plan) for dose in plan.dose_curve),
        prepared=_prepared(scan, patterns, com, same, calibration),
        notes=tuple(notes),
    )
    maps = _maps(latents, patterns, com, pairs, left, scan)
    return Learned(ensemble, made_for(ensemble, patterns), maps, result, dict(patterns.choices))


def map_scan(
    scan: Scan4D,
    ensemble: Ensemble,
    made: Made,
    preparation: PreprocessConfig,
    best: int = 0,
    *,
    calibration: ScanCalibration | None = None,
    rings: RingCalibration | None = None,
    spool: Path | None = None,
    threads: int = 1,
    say: Say = lambda step, fraction: None,
) -> Mapped:
    """Map a scan with an ensemble that was trained on another.

    Parameters
    ----------
    ensemble, made : from `checkpoint.load`.
    preparation : as in training.
    best : position of the seed that the residual is of.
    calibration, rings, spool, threads, say : as of `learn`.

    Raises
    ------
    UserError : a scan that cannot be prepared, or to which the model says nothing: of another
        camera length, aperture or shape.
    """
    plan = Plan(prepare=preparation)
    com, patterns, notes = _seen(scan, plan, calibration, rings, spool, threads, say)
    say("map", 0.6)
    found = apply(ensemble, made, patterns)
    left = residual(ensemble, patterns, best, _step_A(scan))
    pairs = baselines_of(patterns)
    return Mapped(
        maps=_maps(found.latents, patterns, com, pairs, left, scan),
        applied=found,
        unlike=patterns.map_of(found.unlike.astype(float)),
        agreements=_with_com(found.latents, patterns, com, _fold(ensemble)),
        baselines=_baselines_with_com(pairs, patterns, com),
        defects=left.defects,
        prepared=_prepared(scan, patterns, com, 0, calibration),
        notes=tuple(notes),
    )


def _seen(
    scan: Scan4D,
    plan: Plan,
    calibration: ScanCalibration | None,
    rings: RingCalibration | None,
    spool: Path | None,
    threads: int,
    say: Say,
) -> tuple[CentreOfMass, Patterns, list[str]]:
    """Centres of mass of raw counts, and prepared patterns."""
    how = plan.prepare
    raw = scan if how.pedestal is None else scan.with_(pedestal=how.pedestal)
    say("centres of mass", 0.0)
    com = centre_of_mass(
        raw, calibration, reference=plan.com_reference, gain=how.gain,
        excess_noise=how.excess_noise, read_noise_e=how.read_noise_e, threads=threads,
    )  # fmt: skip
    say("prepare patterns", 0.15)
    patterns = prepare(
        scan, how, calibration=calibration, rings=rings, spool=spool, threads=threads
    )
    return com, patterns, [*scan.notes, *com.notes, *patterns.notes]


def baselines_of(patterns: Patterns) -> tuple[Baseline, Baseline]:
    """The first circular harmonic, and the leading pair of principal components."""
    return first_harmonic(patterns), rotational_pair(patterns)


def agreement(
    what: str, magnitude: Floats, angle_rad: Floats, com: CentreOfMass, index: Any, fold: int = 1
) -> Agreement:
    """How values of patterns (n,) agree with the centre of mass at their places `index` (n,)."""
    length, direction = com.magnitude.ravel()[index], com.angle_rad.ravel()[index]
    try:
        straight, ranks = pearson(magnitude, length), spearman(magnitude, length)
    except ValueError:  # one of them does not vary
        straight = ranks = float("nan")
    try:
        turn = circular_correlation(fold * angle_rad, fold * direction)
    except ValueError:
        return Agreement(what, straight, ranks, float("nan"), 1, 0.0)
    return Agreement(what, straight, ranks, turn.R, turn.sense, turn.offset_rad / fold)


def one_line(com: CentreOfMass) -> str:
    """A sentence where the deflections lie along one line, as those of patterns that do not turn.

    Minor over major variance of the deflection, without that of counting; "" where they turn.
    """
    seen = np.isfinite(com.shift_px).all(-1)
    shift, noise = com.shift_px[seen], com.sigma_px[seen]
    if len(shift) < FEWEST_TURNED:
        return ""
    counting = np.diag(np.nan_to_num((noise**2).mean(0)))
    minor, major = np.linalg.eigvalsh(np.cov(shift.T) - counting)
    if major <= 0 or minor > LINE * major:
        return ""
    return (
        "the deflections lie along one line, as those of patterns that do not turn: angles tell "
        "on which side of the mean a pattern is, not how it is turned"
    )


def manifold(ensemble: Ensemble, latents: Latents, seed: int) -> Manifold:
    """What one seed makes of values of its two strongest contents, or of content and angle."""
    one, content = ensemble.seed(seed), latents.content[seed]
    middle, spread = content.mean(0), content.std(0)
    order = np.argsort(latents.influence[seed])[::-1]
    values = np.linspace(-REACH, REACH, STEPS)
    shown = np.broadcast_to(middle, (STEPS, STEPS, len(middle))).copy()
    shown[..., order[0]] += values[:, None] * spread[order[0]]
    angle = np.zeros((STEPS, STEPS))
    columns, name = values, "content"
    if len(order) > 1:
        shown[..., order[1]] += values * spread[order[1]]
    else:
        columns, name = np.arange(STEPS) * 360.0 / STEPS, "angle"
        angle = angle + np.deg2rad(columns)
    flat = shown.reshape(1, STEPS**2, -1)
    asked = Latents(
        angle.reshape(1, -1), np.zeros((1, STEPS**2)), flat, np.zeros_like(flat),
        latents.influence[seed : seed + 1],
    )  # fmt: skip
    rows, width = one.model.shape
    pictures = np.full((STEPS**2, rows * width), np.nan)
    pictures[:, one.model.pixels] = one.decode(asked)[0]
    return Manifold(values, columns, name, pictures.reshape(STEPS, STEPS, rows, width))


def _fold(ensemble: Ensemble) -> int:
    return int(getattr(getattr(ensemble.model, "basis", None), "fold", 1))


def _step_A(scan: Scan4D) -> tuple[float, float] | None:
    if scan.scan_step_nm is None:
        return None
    return 10 * scan.scan_step_nm[0], 10 * scan.scan_step_nm[1]


def _with_com(
    latents: Latents, patterns: Patterns, com: CentreOfMass, fold: int
) -> tuple[Agreement, ...]:
    return tuple(
        agreement(f"seed {i}", content, angle, com, patterns.index, fold)
        for i, (content, angle) in enumerate(
            zip(latents.leading_content, latents.angle_rad, strict=True)
        )
    )


def _baselines_with_com(
    pairs: tuple[Baseline, ...], patterns: Patterns, com: CentreOfMass
) -> tuple[Agreement, ...]:
    return tuple(
        agreement(one.name, one.modulus, one.angle_rad, com, patterns.index) for one in pairs
    )


def _dose_point(patterns: Patterns, electrons: float, plan: Plan) -> DosePoint:
    """An ensemble trained on fewer electrons, and their COM, against the COM of the others."""
    few, rest = thinned(patterns, electrons, plan.seed)
    ensemble = train(few, plan.model)
    trust, latents = assess(ensemble, few, plan.seed), ensemble.encode(few)
    truth, seen, best, fold = moments(rest), moments(few), trust.best, _fold(ensemble)
    return DosePoint(
        electrons,
        abs(pearson(latents.leading_content[best], np.abs(truth))),
        circular_correlation(fold * latents.angle_rad[best], fold * np.angle(truth)).R,
        pearson(np.abs(seen), np.abs(truth)),
        circular_correlation(np.angle(seen), np.angle(truth)).R,
        trust.verdict,
    )


def _prepared(
    scan: Scan4D,
    patterns: Patterns,
    com: CentreOfMass,
    repeated: int,
    calibration: ScanCalibration | None,
) -> Prepared:
    farthest = int(np.nanargmax(com.magnitude.ravel()[patterns.index]))
    return Prepared(
        patterns=len(patterns),
        repeated=repeated,
        dose=patterns.dose,
        pixel_mrad=patterns.pixel_mrad,
        disc_radius_px=patterns.disc_radius_px,
        centre_px=patterns.centre_px,
        mean=np.asarray(patterns.mean, float),
        noise=np.sqrt(patterns.variance.mean(0, dtype=float)),
        mask=patterns.mask,
        example=patterns.data[farthest].astype(float),
        com_unit="px" if com.pixel_mrad is None else "mrad",
        com_calibrated=calibration is not None,
        scan_step_nm=scan.scan_step_nm,
        warning=one_line(com),
    )


def _maps(
    latents: Latents,
    patterns: Patterns,
    com: CentreOfMass,
    pairs: tuple[Baseline, Baseline],
    left: Residual,
    scan: Scan4D,
) -> Maps:
    def maps(values: Floats) -> Floats:
        """(seeds, n, ...) as (seeds, scan row, scan column, ...)."""
        return np.stack([patterns.map_of(one) for one in values])

    flat = min(scan.scan_shape) < 2  # a single row has no curl
    none = np.full(scan.scan_shape, np.nan)
    curl, divergence = (
        (none, none)
        if flat
        else curl_and_divergence(com.deflection, scan.scan_step_nm or (1.0, 1.0))
    )
    harmonic, pair = pairs
    return Maps(
        angle_rad=maps(latents.angle_rad),
        angle_sd_rad=maps(latents.angle_sd_rad),
        content=maps(latents.content),
        content_sd=maps(latents.content_sd),
        com_row=com.deflection[..., 0],
        com_column=com.deflection[..., 1],
        com_magnitude=com.magnitude,
        com_magnitude_sigma=com.magnitude_sigma,
        com_angle_rad=com.angle_rad,
        divergence=divergence,
        curl=curl,
        harmonic_modulus=patterns.map_of(harmonic.modulus),
        harmonic_angle_rad=patterns.map_of(harmonic.angle_rad),
        pair_modulus=patterns.map_of(pair.modulus),
        pair_angle_rad=patterns.map_of(pair.angle_rad),
        residual_chi2=left.chi2,
        residual_sigma=left.sigma,
        residual_p=left.p,
    )
