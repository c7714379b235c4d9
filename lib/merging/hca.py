"""Hierarchical cluster analysis of data sets by the correlation of their intensities.

Distance of two data sets: ``d = sqrt(1 - CC^2)`` (Giordano et al., 2012, Acta Cryst. D68, 649;
B. Wang, thesis, eq. 7), and 1 where the CC is negative: anticorrelation is no likeness.

Pairs without a coefficient are absent. The distance of two clusters is the mean (average
linkage), least (single) or largest (complete) over the pairs between them that there are;
clusters without any such pair are joined last, at an infinite height, and never share a cluster.

Cut: of all heights between two merges, that with the best mean silhouette (Rousseeuw, 1987, J.
Comput. Appl. Math. 20, 53). It stands only if it is beyond what noise makes of one cluster: each
data set is given the quality q that its pairs within its cluster show (CC = q_i q_j), all are
taken as isomorphous, and the tree and its best cut are made again from coefficients drawn
about q_i q_j with Fisher's uncertainty and the scatter that pairs within clusters show beside it.
Where the true silhouette is not above all of these, and three of their standard deviations above
their mean, or where the clusters' CC corrected for noise, CC_ij / q_i q_j between them, is 0.9 or
more, there is one cluster. (The idea of the gap statistic, Tibshirani, Walther & Hastie,
2001, J. R. Stat. Soc. B63, 411, with the noise known.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster
from scipy.cluster.hierarchy import linkage as scipy_linkage
from scipy.spatial.distance import squareform

from ..crystal.cell import Floats
from .pairwise import Pairwise

Linkage = Literal["average", "single", "complete"]
LINKAGES: tuple[Linkage, ...] = ("average", "single", "complete")
# Trees drawn from noise alone, to judge the cut.
N_NULL = 19
# Their standard deviations by which the true silhouette must lie above their mean.
MIN_SIGNIFICANCE = 3.0
# Structures whose noise-free intensities correlate better than this are taken as one.
MAX_RATIO = 0.9


@dataclass(frozen=True)
class Unassigned:
    """A data set outside all clusters: its number in the input, its name and the reason."""

    index: int
    name: str
    reason: str


@dataclass(frozen=True)
class Clusters:
    """Clusters of data sets, and how they came about.

    Attributes
    ----------
    names : (n) of the data sets.
    method : linkage.
    linkage : (n - 1, 4), as `scipy.cluster.hierarchy.linkage`; a height is infinite where no
        pair joins the branches.
    cut : height below which merges count, and the `criterion` by which it was chosen.
    members : numbers of the data sets of each cluster, the largest cluster first.
    unassigned : the others, each with its reason.
    silhouette : mean over the data sets at the cut; NaN with one cluster.
    why : how many clusters, in a sentence.
    """

    names: tuple[str, ...]
    method: Linkage
    linkage: Floats
    cut: float
    criterion: str
    members: tuple[tuple[int, ...], ...]
    unassigned: tuple[Unassigned, ...]
    silhouette: float
    why: str

    @property
    def heights(self) -> Floats:
        """(n - 1,) of the merges, ascending."""
        heights: Floats = self.linkage[:, 2]
        return heights

    @property
    def labels(self) -> NDArray[np.int64]:
        """(n,) number of the cluster, -1 for none."""
        return labels_of(self.members, len(self.names))


def labels_of(members: Sequence[Sequence[int]], n: int) -> NDArray[np.int64]:
    """(n,) number of the group that each belongs to, -1 for none."""
    labels = np.full(n, -1, np.int64)
    for number, group in enumerate(members):
        labels[list(group)] = number
    return labels


def distances(pairwise: Pairwise) -> Floats:
    """(n, n) sqrt(1 - CC^2), 1 for a negative CC, 0 on the diagonal; NaN where there is no CC."""
    d: Floats = np.sqrt(1 - np.maximum(pairwise.cc, 0) ** 2)
    np.fill_diagonal(d, 0)
    return d


def cluster(
    pairwise: Pairwise,
    *,
    method: Linkage = "average",
    cut: float | None = None,
    min_size: int = 2,
    seed: int = 0,
) -> Clusters:
    """Clusters of data sets.

    Parameters
    ----------
    pairwise : correlations.
    method : linkage.
    cut : height to cut at; by default chosen as the module says.
    min_size : smaller clusters are taken apart.
    seed : of the noise that judges the cut.

    Raises
    ------
    ValueError : for an unknown linkage, a `cut` that is not positive, or a `min_size` below 1.
    """
    if method not in LINKAGES:
        raise ValueError(f"method: found {method!r}, expected one of {', '.join(LINKAGES)}")
    if cut is not None and not cut > 0:
        raise ValueError(f"cut: found {cut}, expected a positive height")
    if min_size < 1:
        raise ValueError(f"min_size: found {min_size}, expected 1 or more")
    n = len(pairwise)
    d = distances(pairwise)
    tree = linkage_of(d, method)
    if cut is not None:
        labels = _labels_at(tree, cut)
        quality, criterion = silhouette(d, labels), "given"
        why = f"cut at the height of {cut:.3f} that was given"
    else:
        cut, labels, quality, why = _choose_cut(pairwise, d, tree, method, seed)
        criterion = "silhouette beyond noise"
    groups = [np.flatnonzero(labels == g) for g in np.unique(labels)]
    # by size, then by the first member
    kept = sorted((g for g in groups if len(g) >= min_size), key=lambda g: (-len(g), g[0]))
    left = sorted(int(i) for g in groups if len(g) < min_size for i in g)
    return Clusters(
        names=pairwise.names,
        method=method,
        linkage=tree,
        cut=float(cut),
        criterion=criterion,
        members=tuple(tuple(int(i) for i in g) for g in kept),
        unassigned=tuple(
            Unassigned(i, pairwise.names[i], _reason(pairwise, i, min_size)) for i in left
        ),
        silhouette=quality if len(groups) > 1 else float("nan"),
        why=f"{len(kept)} cluster{'' if len(kept) == 1 else 's'} of {n} data sets: {why}",
    )


def _reason(pairwise: Pairwise, i: int, min_size: int) -> str:
    known = pairwise.known[i]
    if not np.isfinite(pairwise.cc[i, i]):
        return "its intensities do not vary"
    if not known.any():
        most = int(np.max(np.delete(pairwise.n_common[i], i), initial=0))
        return (
            f"shares {most} reflections with others at most, {pairwise.min_common} are needed "
            "for a correlation"
        )
    best = int(np.nanargmax(np.where(known, pairwise.cc[i], np.nan)))
    return (
        f"in no cluster of {min_size} or more at this cut: its best CC is "
        f"{pairwise.cc[i, best]:.2f}, with {pairwise.names[best]} "
        f"({pairwise.n_common[i, best]} reflections)"
    )


# --- the tree --------------------------------------------------------------------------------


def linkage_of(distance: Floats, method: Linkage = "average") -> Floats:
    """Linkage matrix (n - 1, 4) of a square matrix of distances, NaN where they are unknown.

    A merge never lies lower than what it merges, also where unknown pairs would have it so.
    """
    n = len(distance)
    if n < 2:
        return np.zeros((0, 4))
    pairs = squareform(distance, checks=False)
    if np.isfinite(pairs).all():
        tree: Floats = scipy_linkage(pairs, method)
        return tree
    return _linkage_of_some(distance, method)


def _linkage_of_some(distance: Floats, method: Linkage) -> Floats:
    n = len(distance)
    known = np.isfinite(distance)
    np.fill_diagonal(known, False)
    # average: sums and numbers of the pairs; else the extreme one, and whether there is any
    total, count = np.where(known, distance, 0.0), known.astype(float)
    link = np.where(known, distance, np.inf)
    name, size, height = np.arange(n), np.ones(n), np.zeros(n)
    alive = np.ones(n, bool)
    tree = np.zeros((n - 1, 4))
    for step in range(n - 1):
        a, b = sorted(int(i) for i in np.unravel_index(np.argmin(link), link.shape))
        lowest = link[a, b]
        if not np.isfinite(lowest):
            a, b = (int(i) for i in np.flatnonzero(alive)[:2])
        # a and b become one, in the place of a
        height[a] = max(lowest, height[a], height[b])
        size[a] += size[b]
        tree[step] = (*sorted((name[a], name[b])), height[a], size[a])
        name[a] = n + step
        if method == "average":
            for sums in (total, count):
                sums[a] += sums[b]
                sums[:, a] = sums[a]
            with np.errstate(invalid="ignore"):
                row = np.where(count[a] > 0, total[a] / count[a], np.inf)
        else:
            one, two = link[a], link[b]
            if method == "single":
                row = np.minimum(one, two)
            else:  # the largest of those there are
                row = np.where(
                    np.isinf(one), two, np.where(np.isinf(two), one, np.maximum(one, two))
                )
        alive[b] = False
        row = np.where(alive, row, np.inf)
        row[a] = np.inf
        link[a], link[:, a] = row, row
        link[b], link[:, b] = np.inf, np.inf
    return tree


def _labels_at(tree: Floats, cut: float) -> NDArray[np.int64]:
    if len(tree) == 0:
        return np.zeros(1, np.int64)
    finite = tree.copy()
    # above every cut, as `fcluster` takes no infinite ones
    finite[np.isinf(tree[:, 2]), 2] = 1e9
    return np.asarray(fcluster(finite, min(cut, 1e8), criterion="distance"), np.int64)


# --- where to cut ----------------------------------------------------------------------------


def silhouette(distance: Floats, labels: NDArray[np.int64]) -> float:
    """Mean silhouette over the known pairs: (b - a) / max(a, b), 0 for one alone in its cluster.

    a : mean distance to the others of the cluster; b : to those of the nearest other one. NaN
    with one cluster.
    """
    number = np.unique(labels, return_inverse=True)[1].reshape(-1)
    k, n = int(number.max()) + 1, len(number)
    if k < 2:
        return float("nan")
    known = np.isfinite(distance)
    np.fill_diagonal(known, False)
    member = np.zeros((n, k))
    member[np.arange(n), number] = 1
    total, count = np.where(known, distance, 0.0) @ member, known @ member
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = total / count
    rows = np.arange(n)
    a = mean[rows, number]
    mean[rows, number] = np.nan
    b = np.where(np.isnan(mean), np.inf, mean).min(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        s = np.where(np.isfinite(a) & np.isfinite(b), (b - a) / np.maximum(a, b), 0.0)
    return float(np.nan_to_num(s).mean())


def _best_cut(
    distance: Floats, tree: Floats, n_tried: int = 40
) -> tuple[float, NDArray[np.int64], float]:
    """(height, labels, silhouette) of the best cut between two of the upper merges."""
    n = len(distance)
    heights = tree[:, 2]
    edges = heights[np.isfinite(heights)]
    best = (np.inf, np.zeros(n, np.int64), -1.0)
    for lower, upper in zip(edges[-2::-1][:n_tried], edges[:0:-1][:n_tried], strict=True):
        if upper <= lower:
            continue
        middle = float((lower + upper) / 2)
        labels = _labels_at(tree, middle)
        found = silhouette(distance, labels)
        if found > best[2]:
            best = (middle, labels, found)
    return best


def _choose_cut(
    pairwise: Pairwise, distance: Floats, tree: Floats, method: Linkage, seed: int
) -> tuple[float, NDArray[np.int64], float, str]:
    n = len(pairwise)
    finite = tree[np.isfinite(tree[:, 2]), 2] if len(tree) else np.zeros(0)
    top = float(finite.max()) * 1.001 + 1e-6 if len(finite) else 1.0
    whole = _labels_at(tree, top)
    parts = len(np.unique(whole))
    apart = f"; {parts} parts share too few reflections to be compared" if parts > 1 else ""
    if n == 1:
        return 1.0, whole, float("nan"), "there is one data set"
    if len(finite) < 2:
        return top, whole, float("nan"), f"too few pairs to tell clusters apart{apart}"
    cut, labels, found = _best_cut(distance, tree)
    noise = _noise_silhouettes(pairwise, labels, method, seed)
    bar = float(max(noise.max(), noise.mean() + MIN_SIGNIFICANCE * noise.std(ddof=1)))
    said = f"the best cut, at {cut:.3f}, has a mean silhouette of {found:.2f}"
    noise_said = f"noise alone makes up to {bar:.2f} of one cluster{apart}"
    if found <= bar:
        return top, whole, float("nan"), f"{said}, but {noise_said}"
    ratio = _corrected_between(pairwise, labels)
    ratio_said = f"corrected for noise the CC between clusters is {ratio:.2f}"
    if ratio >= MAX_RATIO:
        return top, whole, float("nan"), f"{said}, but {ratio_said}{apart}"
    return cut, labels, found, f"{said}; {noise_said}; {ratio_said}"


def _corrected_between(pairwise: Pairwise, labels: NDArray[np.int64]) -> float:
    q = qualities(pairwise, labels)
    between = pairwise.known & (labels[:, None] != labels)
    expected = np.outer(q, q)[between]
    weight = np.maximum(pairwise.n_effective[between] - 3, 1)
    return float(np.sum(weight * pairwise.cc[between] * expected) / np.sum(weight * expected**2))


def _noise_silhouettes(
    pairwise: Pairwise, labels: NDArray[np.int64], method: Linkage, seed: int
) -> Floats:
    """(`N_NULL`,) best silhouettes if all data sets were isomorphous and as noisy as they are."""
    quality = qualities(pairwise, labels)
    expected = np.arctanh(np.clip(np.outer(quality, quality), 0, 0.9999))
    known, sd = pairwise.known, pairwise.z_sd
    inside = np.triu(known & (labels[:, None] == labels), 1)
    if inside.any():
        pull = np.quantile(np.abs(pairwise.z - expected)[inside], 0.68)
        sd = np.sqrt(sd**2 + max(pull**2 - float(np.median(sd[inside])) ** 2, 0.0))
    rng = np.random.default_rng(seed)
    found = np.zeros(N_NULL)
    for k in range(N_NULL):
        noise = np.triu(rng.normal(size=known.shape), 1)
        drawn = np.tanh(expected + np.where(known, sd, 0.0) * (noise + noise.T))
        d = np.where(known, np.sqrt(1 - np.maximum(drawn, 0) ** 2), np.nan)
        np.fill_diagonal(d, 0)
        found[k] = _best_cut(d, linkage_of(d, method))[2]
    return found


def qualities(pairwise: Pairwise, labels: NDArray[np.int64], rounds: int = 50) -> Floats:
    """(n,) q of each data set, such that CC = q_i q_j within the clusters; 0 to 1.

    Weighted least squares over the pairs whose labels are equal. A data set without such a pair
    gets the median of the others.
    """
    known = pairwise.known & (labels[:, None] == labels[None]) & (labels >= 0)[:, None]
    weight = np.where(known, np.maximum(pairwise.n_effective - 3, 1), 0.0)
    cc = np.where(known, pairwise.cc, 0.0)
    has = known.any(axis=1)
    if not has.any():
        return np.full(len(labels), 0.5)
    mean = float((weight * cc).sum() / weight.sum())
    q = np.full(len(labels), np.sqrt(max(mean, 0.01)))
    for _ in range(rounds):
        below = weight @ (q**2)
        new = np.clip((weight * cc) @ q / np.maximum(below, 1e-12), 0.02, 0.9999)
        # alternating steps would swing where clusters are pairs
        q = np.where(has, np.sqrt(q * new), q)
    return np.where(has, q, np.median(q[has]))
