"""Some of a phase's series merged by themselves, to be held against the whole.

Scales, outliers and error models are theirs alone. What would make figures of merit of two parts
another matter is held: the Laue class, the space group, the resolution and what becomes of
saturated reflections are those of the whole, and no series is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..errors import UserError
from ..space_group.ranked import determine_space_group
from .data_set import DataSet
from .delta_cc_half import Rejection, delta_cc_half
from .hca import cluster
from .merge import merge_scaled
from .merge_phase import MergedPhase
from .merging_statistics import MergingStatistics, merging_statistics
from .pairwise import pairwise_correlations
from .scaling import Scaled, scale_data_sets
from .shell_statistics import MergingShell

# Observations that are scaled, in all branches of a tree together, before the rest is left: about
# a minute.
MOST_OBSERVATIONS = 1_500_000


@dataclass(frozen=True)
class Branch:
    """A branch of the tree of a phase, merged.

    Attributes
    ----------
    members : numbers of its data sets.
    names : of them.
    height : at which they are joined; infinite where no pair joins them.
    statistics : figures of merit over the phase's range of resolution; None where there are none,
        and `why`.
    """

    members: tuple[int, ...]
    names: tuple[str, ...]
    height: float
    statistics: MergingShell | None
    why: str = ""


def in_the_setting_of(data: DataSet, merged: DataSet) -> DataSet:
    """Unscaled data of a series, indexed as in the merged data that it went into.

    Raises
    ------
    ValueError : the two are not of one lattice.
    """
    if data.orientation is None or merged.orientation is None:
        raise ValueError(f"{data.name}: an orientation is needed to tell its setting")
    transform = (np.linalg.inv(merged.orientation) @ data.orientation).T
    # centred cells have halves and thirds
    return data.reindexed(np.rint(12 * transform) / 12, merged.bravais)


def branches(
    whole: MergedPhase,
    data_sets: Sequence[DataSet],
    seed: int = 0,
    most: int = MOST_OBSERVATIONS,
) -> tuple[Branch, ...]:
    """Every branch of the tree of a phase with its figures of merit, in the order of its joins.

    Parameters
    ----------
    whole : the phase.
    data_sets : unscaled, in its setting, in the order of ``whole.scaled.data``.
    seed : of random halves.
    most : observations to scale, in all branches together; the largest branches are left first.
    """
    n = len(data_sets)
    below: list[tuple[int, ...]] = [(i,) for i in range(n)]
    for a, b in whole.clusters.linkage[:, :2].astype(int):
        below.append(tuple(sorted(below[a] + below[b])))
    joined = below[n:]
    size = np.array([sum(len(data_sets[i]) for i in members) for members in joined], np.int64)
    spent = np.zeros(len(joined), np.int64)
    spent[np.argsort(size, kind="stable")] = np.cumsum(np.sort(size, kind="stable"))
    found = []
    for members, height, cost in zip(joined, whole.clusters.heights, spent, strict=True):
        some = [data_sets[i] for i in members]
        statistics, why = None, "too many observations to be worked out for a page"
        if cost <= most:
            try:
                statistics, why = part_statistics(whole, some, seed)[1].overall, ""
            except (UserError, ValueError) as error:  # the other branches stand
                why = str(error)
        names = tuple(one.name for one in some)
        found.append(Branch(members, names, float(height), statistics, why))
    return tuple(found)


def part_statistics(
    whole: MergedPhase, data_sets: Sequence[DataSet], seed: int = 0
) -> tuple[Scaled, MergingStatistics]:
    """Some series scaled by themselves, and their figures of merit over the range of the whole."""
    scaled = scale_data_sets(data_sets, whole.scaled.operators)
    return scaled, merging_statistics(
        scaled,
        d_min_A=whole.statistics.overall.d_min_A,
        space_group=whole.merged.space_group,
        saturated=whole.saturated.choice,
        composition=whole.statistics.wilson.composition,
        seed=seed,
    )


def merge_part(
    whole: MergedPhase, data_sets: Sequence[DataSet], names: Sequence[str], seed: int = 0
) -> MergedPhase:
    """Merge the series of a phase that are named, by themselves.

    Parameters
    ----------
    whole : the phase.
    data_sets : unscaled, in its setting.
    names : of some of them.
    seed : of random halves and pairs.

    Raises
    ------
    UserError : a name of none of them, or none is named.
    """
    known = [one.name for one in data_sets]
    for name in names:
        if name not in known:
            raise UserError(
                f"series of {whole.name}", f"'{name}'", f"one of {', '.join(known)}",
                "name series that were merged",
            )  # fmt: skip
    chosen = [one for one in data_sets if one.name in set(names)]
    if not chosen:
        raise UserError(f"series of {whole.name}", "none", "one or more", "name some")
    scaled, statistics = part_statistics(whole, chosen, seed)
    symmetry = determine_space_group(list(scaled.data), seed=seed)
    pairwise = pairwise_correlations(
        scaled.data, scaled.operators, min_common=whole.pairwise.min_common
    )
    why = f"the {len(chosen)} series named were merged, whatever they do to CC1/2"
    return replace(
        whole,
        merged=merge_scaled(
            scaled,
            space_group=whole.merged.space_group,
            saturated=whole.saturated.choice,
            d_min_A=whole.statistics.overall.d_min_A,
        ),
        statistics=statistics,
        scaled=scaled,
        rejection=Rejection(
            tuple(range(len(scaled.data))), (), (delta_cc_half(scaled.data, scaled.operators),), why
        ),
        symmetry=symmetry,
        pairwise=pairwise,
        clusters=cluster(pairwise, method=whole.clusters.method, seed=seed),
        left={
            **{name: "not among those named" for name in known if name not in names},
            **scaled.excluded,
        },
        notes=(
            f"{len(chosen)} of {len(known)} series of {whole.name}, scaled by themselves; space "
            "group, resolution and saturated reflections as there",
            *scaled.notes, why, *symmetry.notes,
        ),
    )  # fmt: skip
