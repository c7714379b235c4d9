"""Where to cut a tree of data sets.

Of all heights between two merges, that with the best mean silhouette (Rousseeuw, 1987, J. Comput.
Appl. Math. 20, 53). It stands only if it is beyond what noise makes of one cluster: each
data set is given the quality q that its pairs within its cluster show (CC = q_i q_j), all are
taken as isomorphous, and the tree and its best cut are made again from coefficients drawn
about q_i q_j with Fisher's uncertainty and the scatter that pairs within clusters show beside it.
Where the true silhouette is not above all of these, and three of their standard deviations above
their mean, or where the clusters' CC corrected for noise, CC_ij / q_i q_j between them, is 0.9 or
more, there is one cluster. (The idea of the gap statistic, Tibshirani, Walther & Hastie,
2001, J. R. Stat. Soc. B63, 411, with the noise known.)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..crystal.cell import Floats
from .linkage import Linkage, labels_at, linkage_of
from .pairwise import Pairwise

# Trees drawn from noise alone, to judge the cut.
N_NULL = 19
# Their standard deviations by which the true silhouette must lie above their mean.
MIN_SIGNIFICANCE = 3.0
# Structures whose noise-free intensities correlate better than this are taken as one.
MAX_RATIO = 0.9


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
    distance: Floats, tree: Floats, friends: NDArray[np.int64], n_tried: int = 40
) -> tuple[float, NDArray[np.int64], float]:
    """(height, labels, silhouette) of the best cut between two of the upper merges.

    Labels are -1 but for `friends`, by which the cut is judged.
    """
    n = len(distance)
    heights = tree[:, 2]
    edges = heights[np.isfinite(heights)]
    best = (np.inf, _only(np.zeros(n, np.int64), friends), -1.0)
    among = distance[np.ix_(friends, friends)]
    tried = 0
    for lower, upper in zip(edges[-2::-1], edges[:0:-1], strict=True):
        if upper <= lower:
            continue
        middle = float((lower + upper) / 2)
        labels = labels_at(tree, middle)
        if len(np.unique(labels[friends])) < 2:
            continue
        found = silhouette(among, labels[friends])
        if found > best[2]:
            best = (middle, _only(labels, friends), found)
        tried += 1
        if tried == n_tried:
            break
    return best


def _only(labels: NDArray[np.int64], friends: NDArray[np.int64]) -> NDArray[np.int64]:
    kept = np.full(len(labels), -1, np.int64)
    kept[friends] = labels[friends]
    return kept


def choose_cut(
    pairwise: Pairwise,
    distance: Floats,
    tree: Floats,
    friends: NDArray[np.int64],
    method: Linkage,
    seed: int,
) -> tuple[float, NDArray[np.int64], float, str]:
    """(height, labels, silhouette, why) of the cut; labels are -1 but for `friends`."""
    n = len(pairwise)
    finite = tree[np.isfinite(tree[:, 2]), 2] if len(tree) else np.zeros(0)
    top = float(finite.max()) * 1.001 + 1e-6 if len(finite) else 1.0
    whole = _only(labels_at(tree, top), friends)
    parts = len(np.unique(whole[friends]))
    apart = f"; {parts} parts share too few reflections to be compared" if parts > 1 else ""
    if n == 1:
        return 1.0, whole, float("nan"), "there is one data set"
    if len(friends) < 3:
        return (
            top,
            whole,
            float("nan"),
            f"too few data sets to tell clusters apart{apart}",
        )
    cut, labels, found = _best_cut(distance, tree, friends)
    if not np.isfinite(cut):
        return top, whole, float("nan"), f"no cut parts them{apart}"
    noise = _noise_silhouettes(pairwise.select(friends), labels[friends], method, seed)
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
    between &= (labels[:, None] >= 0) & (labels >= 0)
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
        found[k] = _best_cut(d, linkage_of(d, method), np.arange(len(d)))[2]
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
