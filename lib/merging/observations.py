"""The observations of many data sets as one table, and data sets that are copies of others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from ..crystal.cell import Floats, Integers
from ..reduction.result import Flag
from ..reduction.statistics import equivalents, reflection_keys
from .data_set import DataSet

# Two series do not measure this part of their reflections alike to the last digit by chance.
_COPIED = 0.5


@dataclass(frozen=True)
class Observations:
    """One row for each observation of all data sets, set after set.

    Attributes
    ----------
    member : (n,) number of the data set.
    group : (n,) number of the unique reflection.
    intensity, sigma, frame : (n,).
    s2 : (n,) 1 / (4 d^2), in 1/Å^2.
    saturated, rejected : (n,) bool, from the flags; the latter were outliers in their series.
    n_frames, range_deg : of each data set.
    """

    member: Integers
    group: Integers
    intensity: Floats
    sigma: Floats
    frame: Floats
    s2: Floats
    saturated: NDArray[np.bool_]
    rejected: NDArray[np.bool_]
    n_frames: Integers
    range_deg: Floats

    @property
    def n_sets(self) -> int:
        """Number of data sets."""
        return len(self.n_frames)

    @property
    def n_groups(self) -> int:
        """Number of unique reflections."""
        return int(self.group.max(initial=-1)) + 1

    @property
    def bounds(self) -> Integers:
        """(sets + 1,) first row of each data set, and the end."""
        counts = np.bincount(self.member, minlength=self.n_sets)
        return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def observations(data_sets: Sequence[DataSet], operators: ArrayLike) -> Observations:
    """The table of some data sets under rotations (m, 3, 3) and Friedel's law."""
    flags = np.concatenate([d.flags for d in data_sets])
    return Observations(
        member=np.repeat(np.arange(len(data_sets)), [len(d) for d in data_sets]),
        group=equivalents(np.concatenate([d.hkl for d in data_sets]), operators),
        intensity=np.concatenate([d.intensity for d in data_sets]).astype(float),
        sigma=np.concatenate([d.sigma for d in data_sets]).astype(float),
        frame=np.concatenate([d.frame for d in data_sets]).astype(float),
        s2=0.25 / np.concatenate([d.d_A for d in data_sets]).astype(float) ** 2,
        saturated=(flags & np.uint32(Flag.SATURATED)) != 0,
        rejected=(flags & np.uint32(Flag.OUTLIER)) != 0,
        n_frames=np.array([d.n_frames for d in data_sets], np.int64),
        range_deg=np.array([d.range_deg for d in data_sets], float),
    )


def find_copies(data_sets: Sequence[DataSet], operators: ArrayLike) -> dict[int, int]:
    """Data sets that repeat another: number of the copy -> number of the original.

    A copy has half of its intensities (of the smaller set's) in common with another data set to
    seven digits, as they are or up to one factor. The original is the largest, or else the first,
    of those that belong together.
    """
    n = len(data_sets)
    if n < 2:
        return {}
    size = np.array([len(d) for d in data_sets])
    linked = coo_matrix((n, n))
    for relative in (False, True):
        pairs = _shared(data_sets, operators, relative)
        count = coo_matrix((np.ones(len(pairs)), pairs.T), shape=(n, n)).tocsr().tocoo()
        real = count.data > _COPIED * np.minimum(size[count.row], size[count.col])
        linked = linked + coo_matrix(
            (count.data[real], (count.row[real], count.col[real])), shape=(n, n)
        )
    label = connected_components(linked, directed=False)[1]
    first: dict[int, int] = {}
    for i in np.argsort(-size, kind="stable"):
        first.setdefault(int(label[i]), int(i))
    return {i: first[int(label[i])] for i in range(n) if first[int(label[i])] != i}


def _shared(data_sets: Sequence[DataSet], operators: ArrayLike, relative: bool) -> Integers:
    """(k, 2) data sets of successive observations with equal reflection and intensity."""
    keys, values, members = [], [], []
    for i, d in enumerate(data_sets):
        some = d.intensity != 0
        largest = float(np.abs(d.intensity).max(initial=0.0)) if relative else 1.0
        # seven digits: sums in another order differ in the sixteenth
        mantissa, exponent = np.frexp(d.intensity[some] / largest)
        values.append(np.rint(mantissa * 2**24) * 2.0**11 + exponent)
        keys.append(reflection_keys(d.hkl[some], operators))
        members.append(np.full(int(some.sum()), i))
    key, value, member = (np.concatenate(x) for x in (keys, values, members))
    order = np.lexsort((member, value, key))
    key, value, member = key[order], value[order], member[order]
    same = (key[1:] == key[:-1]) & (value[1:] == value[:-1]) & (member[1:] != member[:-1])
    return np.stack([member[:-1][same], member[1:][same]], axis=1).astype(np.int64)
