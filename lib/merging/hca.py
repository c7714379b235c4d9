"""Hierarchical cluster analysis of data sets by the correlation of their intensities.

Data sets that correlate with no other beyond chance are in no cluster. The others are joined into a
tree (`linkage`) and parted at a height that is chosen from the data (`cut`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..crystal.cell import Floats
from .cut import choose_cut, silhouette
from .linkage import LINKAGES, Linkage, distances, labels_at, linkage_of
from .pairwise import Pairwise, strangers


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
    alone: dict[int, str] = {}
    if cut is not None:
        labels = labels_at(tree, cut)
        quality, criterion = silhouette(d, labels), "given"
        why = f"cut at the height of {cut:.3f} that was given"
    else:
        alone = strangers(pairwise) if n > 1 else alone
        friends = np.array([i for i in range(n) if i not in alone], np.int64)
        cut, labels, quality, why = choose_cut(pairwise, d, tree, friends, method, seed)
        criterion = "silhouette beyond noise"
    groups = [np.flatnonzero(labels == g) for g in np.unique(labels) if g >= 0]
    # by size, then by the first member
    kept = sorted((g for g in groups if len(g) >= min_size), key=lambda g: (-len(g), g[0]))
    left = sorted(set(range(n)) - {int(i) for g in kept for i in g})
    return Clusters(
        names=pairwise.names,
        method=method,
        linkage=tree,
        cut=float(cut),
        criterion=criterion,
        members=tuple(tuple(int(i) for i in g) for g in kept),
        unassigned=tuple(
            Unassigned(i, pairwise.names[i], alone.get(i) or _reason(pairwise, i, min_size))
            for i in left
        ),
        silhouette=quality if len(groups) > 1 else float("nan"),
        why=f"{len(kept)} cluster{'' if len(kept) == 1 else 's'} of {n} data sets: {why}",
    )


def _reason(pairwise: Pairwise, i: int, min_size: int) -> str:
    if not pairwise.known[i].any():
        return strangers(pairwise)[i]
    best = int(np.nanargmax(np.where(pairwise.known[i], pairwise.cc[i], np.nan)))
    return (
        f"in no cluster of {min_size} or more at this cut: its best CC is "
        f"{pairwise.cc[i, best]:.2f}, with {pairwise.names[best]} "
        f"({pairwise.n_common[i, best]} reflections)"
    )
