"""Systematic absences where multiple scattering fills them.

In electron diffraction an extinguished reflection has intensity: beams diffracted twice end up
in it (19 % of the mean in a real garnet). So two hypotheses are weighed for every class of
reflections that some space group extinguishes, both of unknown mean intensity:

- extinguished: a fraction, `leakage`, of the geometric mean of two intensities: that of all
  reflections at the same resolution, and that of the neighbours, which are the reflections
  of the same row or plane that nothing extinguishes. The fraction is about the same for all
  classes of the crystal, with an exponential prior;
- there: about as strong as the neighbours, within a factor of two, rarely less.

Only the level tells them apart, so that both have the same distribution about it, one between
the centric and the acentric law, convolved with the errors. Both are summed over their
unknowns, and one reflection alone decides nothing. A set of absences has the product over the
classes that it extinguishes, summed over the common leakage. With no reflections measured
nothing follows: it stays equally probable with and without.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..crystal.cell import Floats, Integers
from .groups import Booleans, Element, Extinction, possible_groups
from .intensities import log_density, mean_at_resolution
from .verdict import Absences

_LEAKAGE = np.array([0.01, 0.03, 0.06, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5])
_LOG_MEAN = np.linspace(-5.0, 2.5, 61)
# Means of rows and planes scatter about their expectation like this (ln); a tenth of them are
# far off, where atoms in special positions all but extinguish a class.
_LOG_MEAN_SD, _FAR_SD, _FAR_SHARE = 0.6, 1.5, 0.1
# What leaks into one class scatters about what leaks into all like this (ln).
_LEAKAGE_SD = 0.3
# Neighbours count for as much as this many reflections of the general mean.
_PRIOR_NEIGHBOURS = 5


@dataclass(frozen=True)
class AbsenceEvidence:
    """Probabilities of the sets of absences that the Laue group allows.

    Attributes
    ----------
    extinctions : the sets, with their space groups.
    probability : (k,) of each; they sum to one, and are equal where nothing was measured.
    elements : evidence for each screw axis and glide plane, in the order that
        `Extinction.elements` counts in.
    leakage, leakage_sd : of the most probable set; NaN if it extinguishes nothing measured.
    """

    extinctions: tuple[Extinction, ...]
    probability: Floats
    elements: tuple[Absences, ...]
    leakage: float
    leakage_sd: float


def absence_evidence(
    hkl: Integers,
    intensity: Floats,
    sigma: Floats,
    d_A: Floats,
    operators: Integers,
    bravais: str,
    *,
    scatter: Floats | None = None,
    expected_leakage: float = 0.15,
    chiral: bool = False,
) -> AbsenceEvidence:
    """Which screw axes and glide planes the merged intensities show.

    Parameters
    ----------
    hkl, intensity, sigma, d_A : (n, 3), (n,), (n,), (n,) unique reflections, merged under
        `operators`; none absent by the lattice.
    operators, bravais : of the Laue group, as `possible_groups`.
    scatter : (n,) r.m.s. deviation of the equivalents over their sigmas, NaN where unknown.
    expected_leakage : mean of the prior of the leakage.
    chiral : only groups of proper rotations.
    """
    extinctions, elements = possible_groups(operators, bravais)
    if chiral:
        proper = [tuple(g for g in e.groups if g.is_sohncke()) for e in extinctions]
        extinctions = tuple(
            replace(e, groups=groups)
            for e, groups in zip(extinctions, proper, strict=True)
            if groups
        )
    hkl = np.asarray(hkl, np.int64).reshape(-1, 3)
    zone = _zones(hkl, operators)
    general = zone == 0
    if general.sum() < 20:
        general = np.ones(len(hkl), bool)
    mean = mean_at_resolution(d_A[general], intensity[general], d_A)
    x, s = intensity / mean, sigma / mean
    if len(x) == 0 or not np.any(intensity > 3 * sigma):
        x, s = np.zeros(len(hkl)), np.full(len(hkl), np.inf)  # nothing is known of any

    absent = np.array([one.absent(hkl) for one in extinctions]).reshape(len(extinctions), -1)
    ever: Booleans = np.asarray(absent.any(axis=0), bool)
    log_prior = np.log(_leakage_prior(expected_leakage))
    log_ratio = np.tile(log_prior, (len(extinctions), 1))
    for members in _classes(absent, zone):
        if not np.all(np.isfinite(s[members])):
            continue
        beside = ~ever & (zone == zone[members[0]])
        gain = _gain(x[members], s[members], _reference(x[beside]))
        log_ratio[absent[:, members[0]]] += gain
    log_p = np.logaddexp.reduce(log_ratio, axis=1)
    probability: Floats = np.exp(log_p - log_p.max())
    probability /= probability.sum()

    best = int(np.argmax(probability))
    leakage = leakage_sd = float("nan")
    if absent[best].any() and np.all(np.isfinite(s)):
        weight = np.exp(log_ratio[best] - log_ratio[best].max())
        weight /= weight.sum()
        leakage = float(weight @ _LEAKAGE)
        leakage_sd = float(np.sqrt(weight @ (_LEAKAGE - leakage) ** 2))
    spread = np.full(len(hkl), np.nan) if scatter is None else scatter
    described = tuple(
        _describe(
            element.extinguishes(hkl), element, x, intensity, sigma, spread, ever, zone,
            _marginal(i, extinctions, probability),
        )
        for i, element in enumerate(elements)
    )  # fmt: skip
    return AbsenceEvidence(extinctions, probability, described, leakage, leakage_sd)


def general_e_squared(
    hkl: Integers, intensity: Floats, sigma: Floats, d_A: Floats, operators: Integers
) -> tuple[Floats, Floats]:
    """E^2 and its sigma of the reflections on no symmetry axis or plane, (k,) each.

    Parameters as `absence_evidence`. Empty where intensities are no signal.
    """
    general = _zones(np.asarray(hkl, np.int64).reshape(-1, 3), operators) == 0
    i, s = intensity[general], sigma[general]
    if not np.any(i > 3 * s):
        return np.zeros(0), np.zeros(0)
    mean = mean_at_resolution(d_A[general], i)
    return i / mean, s / mean


def _marginal(i: int, extinctions: tuple[Extinction, ...], probability: Floats) -> float:
    return float(sum(p for e, p in zip(extinctions, probability, strict=True) if i in e.elements))


def _zones(hkl: Integers, operators: Integers) -> NDArray[np.int64]:
    """(n,) number of the kind of position, equal for equivalent rows and planes; 0 if general.

    A kind is the set of rotations and inverted rotations that leave a reflection where it is,
    one of those that are conjugate standing for all.
    """
    ops = np.asarray(operators, np.int64)
    signed = np.concatenate([ops, -ops])
    index = {m.tobytes(): i for i, m in enumerate(signed)}
    inverses = np.rint(np.linalg.inv(ops)).astype(np.int64)
    conjugate = [
        [index[(g @ m @ inverse).tobytes()] for m in signed]
        for g, inverse in zip(ops, inverses, strict=True)
    ]
    fixed = np.array([np.all(hkl @ m.T == hkl, axis=1) for m in signed]).T.reshape(-1, len(signed))
    kinds, number = np.unique(fixed, axis=0, return_inverse=True)
    names = [
        min(tuple(sorted(line[i] for i in np.flatnonzero(kind))) for line in conjugate)
        for kind in kinds
    ]
    order = sorted(set(names), key=lambda name: (len(name), name))
    first = 0 if order and len(order[0]) == 1 else 1  # only the identity: a general reflection
    return np.array([order.index(name) + first for name in names], np.int64)[number.reshape(-1)]


def _classes(absent: Booleans, zone: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Reflections that the same sets extinguish, if any does."""
    ever = np.flatnonzero(absent.any(axis=0))
    if len(ever) == 0:
        return []
    signature = np.concatenate([absent[:, ever], zone[None, ever]]).T
    number = np.unique(signature, axis=0, return_inverse=True)[1].reshape(-1)
    return [ever[number == k] for k in range(number.max() + 1)]


def _reference(neighbours: Floats) -> float:
    """Mean of the neighbours, drawn towards one where they are few."""
    total = np.minimum(neighbours, 10.0).sum() + _PRIOR_NEIGHBOURS
    return max(float(total) / (len(neighbours) + _PRIOR_NEIGHBOURS), 0.3)


def _leakage_prior(expected: float) -> Floats:
    edges = np.r_[0.0, (_LEAKAGE[1:] + _LEAKAGE[:-1]) / 2, 0.6]
    weight: Floats = np.diff(1 - np.exp(-edges / max(expected, 1e-3)))
    prior: Floats = np.maximum(weight / weight.sum(), 1e-12)
    return prior


def _gain(x: Floats, s: Floats, reference: float) -> Floats:
    """ln p(class | extinguished) for each leakage, less ln p(class | there)."""
    # on a grid of ln mean that both hypotheses share; what leaks scatters from class to class
    leaked = np.log(_LEAKAGE * np.sqrt(max(reference, 1.0)))
    weight = np.exp(-0.5 * ((_LOG_MEAN - leaked[:, None]) / _LEAKAGE_SD) ** 2)
    weight /= weight.sum(axis=1, keepdims=True)
    there = np.array([log_density(x, s, m).sum() for m in np.exp(_LOG_MEAN)])
    z = _LOG_MEAN - np.log(reference)
    prior = (1 - _FAR_SHARE) / _LOG_MEAN_SD * np.exp(-0.5 * (z / _LOG_MEAN_SD) ** 2)
    prior += _FAR_SHARE / _FAR_SD * np.exp(-0.5 * (z / _FAR_SD) ** 2)
    extinguished = np.logaddexp.reduce(there + np.log(weight + 1e-300), axis=1)
    gain: Floats = extinguished - np.logaddexp.reduce(there + np.log(prior / prior.sum()))
    return gain


def _describe(
    mine: Booleans, element: Element, x: Floats, intensity: Floats, sigma: Floats,
    scatter: Floats, ever: Booleans, zone: NDArray[np.int64], probability: float,
) -> Absences:  # fmt: skip
    n = int(mine.sum())
    beside = ~ever & np.isin(zone, zone[mine])
    nan = float("nan")
    return Absences(
        name=element.name,
        condition=element.condition,
        n=n,
        i_over_sigma=float(np.mean(intensity[mine] / sigma[mine])) if n else nan,
        n_above_3_sigma=int(np.sum(intensity[mine] > 3 * sigma[mine])),
        ratio=float(np.mean(x[mine])) if n else nan,
        ratio_neighbours=float(np.mean(x[beside])) if n and beside.any() else nan,
        n_neighbours=int(beside.sum()) if n else 0,
        spread=_spread(mine, ever, intensity, scatter) if n else nan,
        probability=probability if n else nan,
    )


def _spread(mine: Booleans, ever: Booleans, intensity: Floats, scatter: Floats) -> float:
    """Median scatter of the equivalents over that of other reflections as strong."""
    known = np.isfinite(scatter)
    if np.sum(mine & known) < 3:
        return float("nan")
    low, high = np.percentile(intensity[mine & known], [25, 75])
    others = known & ~ever & (intensity >= low) & (intensity <= high)
    if others.sum() < 3:
        return float("nan")
    middle = float(np.median(scatter[others]))
    return float(np.median(scatter[mine & known])) / middle if middle > 0 else float("nan")
