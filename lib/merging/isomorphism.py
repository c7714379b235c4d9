"""One phase or several behind one cell: told by intensities, with nothing to configure.

Noise lowers correlations as much as another structure does; `division` tells the two apart. What
correlates with nothing is set aside first, parts are divided until no division stands, and at
last each data set has to fit its group as well as its noise lets expect.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from ..crystal.cell import Floats
from .cut import qualities
from .division import Contrast, divide
from .hca import Unassigned, labels_of
from .pairwise import Pairwise, strangers

# A data set has to fit its group so well, beside what its noise lets expect: the first in any
# case, the second where the others scatter so little that it is an outlier.
MIN_FIT, GOOD_FIT = 0.6, 0.85
# Sigmas may be too small by this factor before a weak data set is said not to fit.
SIGMAS_TOO_SMALL = 1.25


@dataclass(frozen=True)
class IsomorphousGroups:
    """Data sets of one cell, by structure.

    Attributes
    ----------
    names : (n) of the data sets.
    groups : numbers of the data sets of each structure, the largest group first.
    unassigned : the others, each with its reason.
    contrasts : every division that was tried, with its evidence; the last of each branch did not
        stand.
    quality : (n,) q, square root of the CC that two such data sets of one structure have; NaN
        for data sets without a correlation.
    why : a sentence.
    """

    names: tuple[str, ...]
    groups: tuple[tuple[int, ...], ...]
    unassigned: tuple[Unassigned, ...]
    contrasts: tuple[Contrast, ...]
    quality: Floats
    why: str

    @property
    def labels(self) -> NDArray[np.int64]:
        """(n,) number of the group, -1 for none."""
        return labels_of(self.groups, len(self.names))


def isomorphous_groups(pairwise: Pairwise, *, seed: int = 0) -> IsomorphousGroups:
    """Groups of data sets of one structure each.

    Parameters
    ----------
    pairwise : correlations of data sets of one cell, their indexing ambiguity resolved.
    seed : of the noise that judges divisions.

    One data set is a group. Data sets that correlate with nothing, fit worse than their noise
    explains, or share too few reflections are unassigned.
    """
    n = len(pairwise)
    if n == 1:
        quality = np.full(1, np.nan)
        return IsomorphousGroups(pairwise.names, ((0,),), (), (), quality, "there is one data set")
    rng = np.random.default_rng(seed)
    contrasts: list[Contrast] = []
    found: list[NDArray[np.int64]] = []
    left = strangers(pairwise)
    friends = np.array([i for i in range(n) if i not in left], np.int64)
    _, component = connected_components(
        csr_array(pairwise.known[np.ix_(friends, friends)]), directed=False
    )
    waiting = [friends[component == part] for part in np.unique(component)]
    while waiting:
        mine = waiting.pop()
        contrast = divide(pairwise, mine, rng)
        if contrast is not None:
            contrasts.append(contrast)
        if contrast is not None and contrast.separate:
            waiting += [np.array(contrast.first), np.array(contrast.second)]
        else:
            found.append(mine)
    quality = np.full(n, np.nan)
    groups = []
    for mine in found:
        kept, reasons, q = _purge(pairwise, mine)
        quality[mine] = q
        left |= reasons
        if len(kept):
            groups.append(tuple(int(i) for i in kept))
    groups.sort(key=lambda g: (-len(g), g[0]))
    return IsomorphousGroups(
        names=pairwise.names,
        groups=tuple(groups),
        unassigned=tuple(Unassigned(i, pairwise.names[i], left[i]) for i in sorted(left)),
        contrasts=tuple(contrasts),
        quality=quality,
        why=_sentence(groups, left, contrasts, n),
    )


def _sentence(
    groups: Sequence[tuple[int, ...]], left: dict[int, str], contrasts: list[Contrast], n: int
) -> str:
    sizes = " + ".join(str(len(g)) for g in groups)
    said = f"{n} data sets: {len(groups)} structure{'' if len(groups) == 1 else 's'}"
    said += f" of {sizes}" if groups else ""
    said += f", {len(left)} unassigned" if left else ""
    stood = [c for c in contrasts if c.separate]
    if stood:
        worst = max(stood, key=lambda c: c.ratio)
        said += (
            f"; the most alike two have CC {worst.cc_between:.2f} between them, "
            f"{min(worst.cc_first, worst.cc_second):.2f} or more inside: {worst.ratio:.2f} "
            f"corrected for noise, {worst.significance:.0f} standard deviations below chance"
        )
    elif contrasts:
        best = min(contrasts, key=lambda c: c.ratio)
        said += (
            f"; the best division has CC {best.cc_between:.2f} between its parts, {best.ratio:.2f} "
            f"corrected for noise, {best.significance:.1f} standard deviations below chance"
        )
    return said


# --- who belongs -----------------------------------------------------------------------------


def _purge(
    pairwise: Pairwise, members: NDArray[np.int64]
) -> tuple[NDArray[np.int64], dict[int, str], Floats]:
    """Members of a group that fit it, the reasons of the others, and q of all."""
    part = pairwise.select(members)
    n = len(members)
    known, weight = part.known, np.where(part.known, np.maximum(part.n_effective - 3, 1), 0.0)
    keep, reasons = np.ones(n, bool), {}
    z = np.where(known, part.z, 0.0)
    while True:
        q = qualities(part, np.where(keep, 0, -1))
        # those left out are measured against those kept
        q_all = np.where(keep, q, _quality_beside(part, q, keep))
        w = weight * keep
        mean_cc = np.tanh(np.sum(w * z, axis=1) / np.maximum(w.sum(axis=1), 1e-12))
        strength = np.sum(w * z, axis=1) / np.sqrt(np.maximum(w.sum(axis=1), 1e-12))
        noise = 1 / np.sqrt(np.maximum(w.sum(axis=1), 1.0))
        root = np.sqrt(np.where(part.reliability > 0.01, part.reliability, np.nan))
        sound = keep & np.isfinite(root)
        typical = float(np.median((q_all / root)[sound])) if sound.any() else 1.0
        middle = float(np.median(q_all[keep]))
        expected = np.where(np.isfinite(root), typical * root, middle)
        fit = q_all / expected
        lone = keep & (strength < 3)
        scatter = 1.4826 * float(np.median(np.abs(fit[keep] - np.median(fit[keep]))))
        bar = MIN_FIT if keep.sum() < 5 else float(np.clip(1 - 4 * scatter, MIN_FIT, GOOD_FIT))
        # pairs of two share what they lack
        # sigmas that are too small are no misfit
        least = np.where(np.isfinite(root), typical * _root_of(part.reliability), middle)
        poor = keep & (q_all < bar * least) & (least - q_all > 3 * noise) & (keep.sum() > 2)
        drop = lone | poor
        if not drop.any():
            break
        worst = int(np.argmin(np.where(drop, fit, np.inf)))
        every = np.flatnonzero(lone) if lone.sum() == keep.sum() else [worst]
        for i in every:
            common = int(part.n_common[i][known[i] & keep].sum())
            reasons[int(members[i])] = (
                f"correlates {mean_cc[i]:.2f} with the others ({common} common reflections), "
                + (
                    "no more than chance"
                    if lone[i]
                    else f"{fit[i]:.2f} of what its sigmas let expect"
                )
            )
            keep[i] = False
        if keep.sum() == 1:
            i = int(np.flatnonzero(keep)[0])
            reasons[int(members[i])] = "none of the others fits it, so that it confirms nothing"
            keep[i] = False
        if not keep.any():
            break
    return members[keep], reasons, q_all


def _root_of(reliability: Floats) -> Floats:
    """Square root of the reliability if the sigmas were `SIGMAS_TOO_SMALL`."""
    noise = SIGMAS_TOO_SMALL**2 * (1 - np.nan_to_num(reliability))
    root: Floats = np.sqrt(np.clip(1 - noise, 0, 1))
    return root


def _quality_beside(part: Pairwise, q: Floats, keep: NDArray[np.bool_]) -> Floats:
    weight = np.where(part.known, np.maximum(part.n_effective - 3, 1), 0.0) * keep
    top = (weight * np.where(part.known, part.cc, 0.0)) @ q
    beside: Floats = np.clip(top / np.maximum(weight @ q**2, 1e-12), 0.0, 0.9999)
    return beside
