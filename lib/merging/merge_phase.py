"""One phase, from the data sets of its crystals to merged intensities and a space group.

The order, and why: the symmetry that single crystals show (no setting or scale needed); the
settings that bring the crystals together; which of them are one structure; scales; what spoils
the rest; the symmetry of everything together. Where this last one is another than the first, all
is done again in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import permutations

import gemmi
import numpy as np

from ..crystal.cell import Integers
from ..crystal.lattice_symmetry import candidate_operators
from ..reduction.laue_symmetry import generated_group, laue_verdict
from ..space_group.ranked import determine_space_group
from ..space_group.verdict import SpaceGroupVerdict
from .ambiguity import Ambiguity, resolve_ambiguity
from .config import MergingConfig
from .data_set import DataSet
from .delta_cc_half import Rejection, reject_by_delta_cc_half
from .hca import Clusters, cluster
from .isomorphism import IsomorphousGroups, isomorphous_groups
from .merge import merge_scaled
from .merged_reflections import MergedReflections
from .merging_statistics import MergingStatistics, merging_statistics
from .pairwise import Pairwise, pairwise_correlations
from .saturation import SaturatedChoice, SaturatedEvidence, saturated_evidence
from .scaling import Scaled, scale_data_sets

# Fewer pairs of one crystal say nothing of a rotation.
_MIN_PAIRS = 10
# Data are merged to where CC1/2 of a twentieth of reciprocal space falls below this.
LEAST_CC_HALF = 0.3
_LIMIT_SHELLS, _LIMIT_PAIRS = 20, 20


@dataclass(frozen=True)
class SettledPhase:
    """How the data sets of one cell come into one setting, and which are one structure.

    Attributes
    ----------
    rotations : (m, 3, 3) of the Laue class that they were compared in.
    ambiguity : how the settings were chosen; its `apply` brings the data sets into them.
    pairwise : their correlations.
    clusters : tree and cut of hierarchical clustering.
    groups : numbers of the data sets of each structure, largest first.
    isomorphism : how they were told apart, unless a cut was asked for: then `clusters` counts.
    left : by name, data sets of no group, and why.
    """

    rotations: Integers
    ambiguity: Ambiguity
    pairwise: Pairwise
    clusters: Clusters
    groups: tuple[tuple[int, ...], ...]
    isomorphism: IsomorphousGroups
    left: Mapping[str, str]


@dataclass(frozen=True)
class MergedPhase:
    """One structure's merged data, and everything that led to it.

    Attributes
    ----------
    name : of the phase.
    merged : unique reflections.
    statistics : of them.
    scaled : the observations behind them, in the setting of the space group.
    rejection : what delta CC1/2 took out.
    saturated : what became of saturated reflections.
    symmetry : Laue group, absences, ranked space groups.
    pairwise, clusters : of the data sets that were merged.
    left : by name, data sets not merged, and why.
    notes : choices made, one sentence each.
    """

    name: str
    merged: MergedReflections
    statistics: MergingStatistics
    scaled: Scaled
    rejection: Rejection
    saturated: SaturatedEvidence
    symmetry: SpaceGroupVerdict
    pairwise: Pairwise
    clusters: Clusters
    left: Mapping[str, str]
    notes: tuple[str, ...]


def symmetry_of_single_crystals(data_sets: Sequence[DataSet]) -> Integers:
    """(m, 3, 3) the rotations that most single crystals show by themselves.

    Every crystal votes on every rotation of the lattice with its number of pairs: for what it
    shows, against what it contradicts. Settings may differ from crystal to crystal.
    """
    lattice = candidate_operators(data_sets[0].bravais)
    ballot = np.zeros(len(lattice))
    index = {rotation.tobytes(): i for i, rotation in enumerate(lattice)}
    for one in data_sets:
        if len(one) < _MIN_PAIRS:
            continue
        verdict = laue_verdict(one.hkl, one.intensity, one.sigma, one.d_A, lattice)
        for c, seen, no in zip(
            verdict.correlations, verdict.seen, verdict.contradicted, strict=True
        ):
            ballot[index[c.operator.tobytes()]] += c.n_pairs * (float(seen) - float(no))
    return generated_group(lattice, lattice[ballot > 0])


def settle_phase(data_sets: Sequence[DataSet], config: MergingConfig | None = None) -> SettledPhase:
    """Bring the data sets of one cell into one setting, and sort them by structure.

    Parameters
    ----------
    data_sets : in the phase's setting, up to what its cell leaves open.
    config : choices.

    Raises
    ------
    ValueError : without data sets.
    """
    config = config or MergingConfig()
    rotations = symmetry_of_single_crystals(data_sets)
    ambiguity = resolve_ambiguity(
        data_sets, rotations, min_common=config.min_common, seed=config.seed
    )
    data = ambiguity.apply(data_sets)
    pairwise = pairwise_correlations(data, rotations, min_common=config.min_common)
    clusters = cluster(pairwise, method=config.linkage, cut=config.cut, seed=config.seed)
    isomorphism = isomorphous_groups(pairwise, seed=config.seed)
    if config.cut is None:
        groups, unassigned = isomorphism.groups, isomorphism.unassigned
    else:
        groups, unassigned = clusters.members, clusters.unassigned
    left = {one.name: one.reason for one in unassigned}
    if not groups:  # crystals that cannot be compared: each is merged with none
        groups = ((int(np.argmax([len(one) for one in data])),),)
        left.pop(data[groups[0][0]].name, None)
    return SettledPhase(rotations, ambiguity, pairwise, clusters, groups, isomorphism, left)


def merge_group(
    name: str,
    data_sets: Sequence[DataSet],
    rotations: Integers,
    config: MergingConfig | None = None,
    left: Mapping[str, str] | None = None,
    composition: Mapping[str, float] | None = None,
) -> MergedPhase:
    """Scale, reject, find the symmetry and merge the crystals of one structure.

    Parameters
    ----------
    name : of the phase.
    data_sets : in one setting.
    rotations : (m, 3, 3) to scale in at first.
    config : choices.
    left : data sets left out before, by name, with reasons.
    composition : atoms in the cell, for the Wilson plot.

    Raises
    ------
    UserError : no observation is left.
    """
    config = config or MergingConfig()
    left = dict(left or {})
    notes: list[str] = []
    data = tuple(data_sets)
    scaled = scale_data_sets(data, rotations)
    symmetry = determine_space_group(list(scaled.data), seed=config.seed)
    if _another(symmetry, data[0], rotations):
        notes.append(
            f"all crystals together show Laue class {symmetry.laue.laue_class}, "
            "others than single ones do: settings and scales were found again in it"
        )
        data = resolve_ambiguity(
            [symmetry.reindexed(one) for one in data],
            symmetry.operators,
            min_common=config.min_common,
            seed=config.seed,
        ).apply([symmetry.reindexed(one) for one in data])
        rotations = symmetry.operators
        scaled = scale_data_sets(data, rotations)
    rejection = reject_by_delta_cc_half(scaled.data, rotations, max_sd=config.max_sd)
    left |= dict(scaled.excluded)
    if rejection.rejected:
        gone = {one.name: one.reason for one in rejection.rejected}
        left |= gone
        data = tuple(one for one in data if one.name not in gone)
        scaled = scale_data_sets(data, rotations)
    symmetry = determine_space_group(list(scaled.data), seed=config.seed)
    turn = _to_standard_axes(symmetry)
    if turn is not None:
        notes.append(
            f"axes put into the order of the standard setting: {symmetry.space_group} is "
            f"{symmetry.ranked[0].standard_symbol}"
        )
        scaled = _turned(scaled, turn)
        rotations = scaled.operators
        symmetry = determine_space_group(list(scaled.data), seed=config.seed)
    evidence = saturated_evidence(scaled)
    choice = evidence.choice if config.saturated == "auto" else config.saturated
    group: str | None = config.space_group or symmetry.space_group
    if _another(symmetry, data[0], rotations):
        # seen only now: it is told, not acted on a third time
        notes.append(
            f"the merged data would allow Laue class {symmetry.laue.laue_class} as well; "
            "they stay merged in the class that they were scaled in"
        )
        group = config.space_group
    d_min_A = config.d_min_A or resolution_limit_A(scaled, choice, config.seed)
    notes.append(
        f"merged to {d_min_A:.2f} Å, as asked for"
        if config.d_min_A
        else f"merged to {d_min_A:.2f} Å: beyond it CC1/2 is below {LEAST_CC_HALF} or by chance"
        if d_min_A
        else "merged to the finest observation"
    )
    merged = merge_scaled(scaled, space_group=group, saturated=choice, d_min_A=d_min_A)
    statistics = merging_statistics(
        scaled,
        d_min_A=d_min_A,
        space_group=merged.space_group,
        saturated=choice,
        composition=dict(composition or {}),
        seed=config.seed,
    )
    pairwise = pairwise_correlations(scaled.data, rotations, min_common=config.min_common)
    return MergedPhase(
        name,
        merged,
        statistics,
        scaled,
        rejection,
        replace(evidence, choice=choice),
        symmetry,
        pairwise,
        cluster(pairwise, method=config.linkage, cut=config.cut, seed=config.seed),
        left,
        (*notes, *scaled.notes, evidence.reason, rejection.why, *symmetry.notes),
    )


def resolution_limit_A(
    scaled: Scaled, saturated: SaturatedChoice = "keep", seed: int = 0
) -> float | None:
    """Where halves of the data stop to agree: CC1/2 below 0.3, or not beyond chance.

    None if they agree to the end, or if too few reflections were measured twice to tell.
    """
    shells = merging_statistics(
        scaled, n_shells=_LIMIT_SHELLS, saturated=saturated, seed=seed
    ).shells
    told = [one for one in shells if one.cc_half_n >= _LIMIT_PAIRS]
    for number, one in enumerate(told):
        if one.cc_half < LEAST_CC_HALF or not one.significant:
            # the lowest shell cannot be the limit: with no agreement at all, all is kept and told
            return one.d_max_A if number else None
    return None


def _another(symmetry: SpaceGroupVerdict, data: DataSet, rotations: Integers) -> bool:
    """Whether the symmetry found is another than the one scaled in, or of another setting."""
    if not symmetry.laue.decided:
        return False
    same_setting = np.allclose(symmetry.transform, np.eye(3)) and symmetry.bravais == data.bravais
    mine = {rotation.tobytes() for rotation in np.asarray(rotations, np.int64)}
    found = {rotation.tobytes() for rotation in np.asarray(symmetry.operators, np.int64)}
    return not (same_setting and mine == found)


def _to_standard_axes(symmetry: SpaceGroupVerdict) -> Integers | None:
    """(3, 3) the order of the axes that makes the space group standard; None to leave them.

    Only orthorhombic axes are exchanged: those of other systems are a choice of cell, which is
    left as it was measured.
    """
    group = symmetry.group
    standard = gemmi.find_spacegroup_by_number(group.number)
    if not symmetry.decided or symmetry.bravais[0] != "o" or group == standard:
        return None
    wanted = {op.triplet() for op in standard.operations()}
    for order in permutations(range(3)):
        axes = np.eye(3, dtype=np.int64)[:, list(order)]
        axes *= round(np.linalg.det(axes))
        found = {_in_axes(op, axes).wrap().triplet() for op in group.operations()}
        if found == wanted:
            return axes
    return None


def _in_axes(op: gemmi.Op, axes: Integers) -> gemmi.Op:
    """An operation for the real basis ``basis @ axes``."""
    back = np.rint(np.linalg.inv(axes)).astype(np.int64)
    turned = gemmi.Op()
    turned.rot = (back @ np.array(op.rot) @ axes).tolist()
    turned.tran = (back @ np.array(op.tran)).tolist()
    return turned


def _turned(scaled: Scaled, axes: Integers) -> Scaled:
    """Scaled data on the real basis ``basis @ axes``."""
    back = np.rint(np.linalg.inv(axes)).astype(np.int64)
    # indices go like the axes, h' = axes^T h, so R' = axes^T R axes^-T
    operators = np.einsum("ji,njk,lk->nil", axes, scaled.operators, back)
    return replace(
        scaled, data=tuple(one.reindexed(axes) for one in scaled.data), operators=operators
    )
