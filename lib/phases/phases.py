"""Phases: series whose cells are the same lattice, with the mean cell and who is left out why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..crystal.cell import Cell, Floats, cell_from_real_basis, orthogonalisation
from ..crystal.lattice_symmetry import BRAVAIS, lattice_candidates
from ..errors import UserError
from .cell_record import CellRecord
from .distance import (
    SCALE_WEIGHT,
    Metric,
    best_transforms,
    lattice_distance,
    lattice_distances,
    rms_strain,
    strains,
    thesis_distances,
)
from .hca import Linkage, automatic_cut, build_tree, clusters_below, noise_floor
from .sublattices import relation_in_words


@dataclass(frozen=True)
class Phase:
    """Series of one lattice.

    Attributes
    ----------
    name : ``phase 1`` is the one with the most series.
    cell : mean conventional cell, with the symmetry of its lattice imposed.
    bravais : lattice type by the members' vote, weighted.
    spread : standard deviation of the members' cells about the mean, in its setting.
    members : by name as given.
    transforms : (3, 3) each, what takes the member's conventional basis (columns a, b, c) to the
        phase's setting: ``DataSet.reindexed(transform, phase.bravais)``.
    strain : (n,) relative strain of each member from the mean cell, its scale included.
    vote : weight of every lattice type the members were indexed as.
    """

    name: str
    cell: Cell
    bravais: str
    spread: Cell
    members: tuple[CellRecord, ...]
    transforms: tuple[Floats, ...]
    strain: Floats
    vote: dict[str, float]

    @property
    def record(self) -> CellRecord:
        """The mean cell as a record."""
        return CellRecord(self.name, self.cell, self.bravais)

    @property
    def niggli(self) -> Cell:
        """Reduced cell of the mean."""
        return self.record.niggli

    @property
    def names(self) -> tuple[str, ...]:
        """Of the members."""
        return tuple(member.name for member in self.members)


@dataclass(frozen=True)
class Outlier:
    """A series of no phase, and why."""

    record: CellRecord
    reason: str


@dataclass(frozen=True)
class Phases:
    """What the cells of a session tell.

    Attributes
    ----------
    phases : by falling number of members.
    outliers : series whose cells fit no phase.
    records : all series, in the order of `distances` and of the tree's leaves.
    distances : (n, n).
    tree : (n - 1, 4) linkage matrix as of scipy.
    cut : height at which the tree was cut; `cut_reason` says why there.
    metric, linkage : as asked for.
    """

    phases: tuple[Phase, ...]
    outliers: tuple[Outlier, ...]
    records: tuple[CellRecord, ...]
    distances: Floats
    tree: Floats
    cut: float
    cut_reason: str
    metric: Metric
    linkage: Linkage

    def phase_of(self, name: str) -> Phase | None:
        """The phase a series belongs to, None for an outlier."""
        return next((phase for phase in self.phases if name in phase.names), None)


def find_phases(
    records: Sequence[CellRecord],
    metric: Metric = "lattice",
    linkage: Linkage = "average",
    cut: float | None = None,
    *,
    min_members: int = 2,
    scale_weight: float = SCALE_WEIGHT,
) -> Phases:
    """Sort series into phases by their cells.

    Parameters
    ----------
    records : one per series, names unique.
    metric : "lattice" (`lattice_distances`, relative strain) or "thesis" (`thesis_distances`, Å
        and degrees).
    linkage : of the tree.
    cut : height to cut at, in the metric's unit; None chooses it (see `hca`).
    min_members : a smaller cluster is no phase and its series are outliers, unless no cluster
        is larger: then every one is a phase.
    scale_weight : weight of a common scale of all lengths in the metric "lattice".

    Raises
    ------
    UserError : if two records have one name, or `cut` is not positive.
    """
    _check(records, cut)
    bases = [record.niggli_basis for record in records]
    distances = (
        lattice_distances(bases, scale_weight) if metric == "lattice" else thesis_distances(bases)
    )
    tree = build_tree(distances, linkage)
    if cut is None:
        esds = [e for e in (record.strain_esd for record in records) if e is not None]
        floor = noise_floor(distances, metric, float(np.median(esds)) if esds else None)
        chosen = automatic_cut(tree, floor, metric)
        cut, reason = chosen.height, chosen.reason
    else:
        reason = "as asked for"
    labels = clusters_below(tree, cut, len(records))
    groups = [np.flatnonzero(labels == k).tolist() for k in range(int(labels.max(initial=-1)) + 1)]
    if all(len(group) < min_members for group in groups):
        large, small = groups, []
    else:
        large = [group for group in groups if len(group) >= min_members]
        small = [group for group in groups if len(group) < min_members]
    phases = tuple(
        mean_phase(f"phase {k}", [records[i] for i in group], scale_weight=scale_weight)
        for k, group in enumerate(large, 1)
    )
    outliers = tuple(
        Outlier(records[i], _why_outside(records[i], len(group), phases, scale_weight))
        for group in small
        for i in group
    )
    return Phases(
        phases, outliers, tuple(records), distances, tree, cut, reason, metric, linkage
    )  # fmt: skip


def _check(records: Sequence[CellRecord], cut: float | None) -> None:
    names = [record.name for record in records]
    twice = sorted({name for name in names if names.count(name) > 1}) if names else []
    if twice:
        raise UserError("records", f"{twice[0]} twice", "names used once", "rename one of them")
    if cut is not None and not cut > 0:
        raise UserError("cut", f"{cut:g}", "a positive height", "choose one off the dendrogram")


def mean_phase(
    name: str,
    members: Sequence[CellRecord],
    *,
    bravais: str | None = None,
    scale_weight: float = SCALE_WEIGHT,
) -> Phase:
    """The phase that series of one lattice make up.

    Reduced bases are brought onto that of the member with the most reflections, the metric
    tensors averaged by weight, and the lattice type chosen by vote among those the mean allows.

    Parameters
    ----------
    bravais : the lattice type to impose, None for the vote.

    Raises
    ------
    ValueError : without members, or if the mean does not allow the lattice type asked for.
    """
    if not members:
        raise ValueError("members: found none, expected at least one")
    weight = np.array([max(member.weight, 1e-9) for member in members])
    central = members[int(np.argmax(weight))]
    bases = np.array([_onto(central, m.niggli_basis, scale_weight) for m in members])
    metrics = bases.transpose(0, 2, 1) @ bases
    mean = np.linalg.cholesky(np.average(metrics, axis=0, weights=weight)).T
    vote: dict[str, float] = {}
    for member in members:
        vote[member.bravais] = vote.get(member.bravais, 0.0) + member.weight
    allowed = lattice_candidates(mean)  # of its own Niggli basis
    wanted = [bravais] if bravais else sorted(vote, key=lambda b: (-vote[b], -BRAVAIS.index(b)))
    ranked = [c for b in wanted for c in allowed if c.bravais == b]
    if not ranked:
        if bravais:
            raise ValueError(f"bravais: found {bravais}, which the mean cell does not allow")
        ranked = [allowed[-1]]
    best = min((c for c in ranked if c.bravais == ranked[0].bravais), key=lambda c: c.distance)
    mean_record = CellRecord(name, best.cell, best.bravais)
    transforms = tuple(
        setting_transforms(m, mean_record, scale_weight=scale_weight)[0][0] for m in members
    )
    moved = [orthogonalisation(m.cell) @ t for m, t in zip(members, transforms, strict=True)]
    cells = np.array([cell_from_real_basis(basis) for basis in moved])
    deviation = np.sqrt(np.average((cells - np.array(best.cell)) ** 2, axis=0, weights=weight))
    sa, sb, sc, s_alpha, s_beta, s_gamma = np.round(deviation, 6).tolist()
    return Phase(
        name=name,
        cell=best.cell,
        bravais=best.bravais,
        spread=(sa, sb, sc, s_alpha, s_beta, s_gamma),
        members=tuple(members),
        transforms=transforms,
        strain=rms_strain(strains(orthogonalisation(best.cell), np.array(moved)), 1.0),
        vote=vote,
    )


def setting_transforms(
    record: CellRecord,
    onto: CellRecord,
    *,
    within: float = 1e-4,
    scale_weight: float = SCALE_WEIGHT,
) -> list[tuple[Floats, float]]:
    """The ways in which a record's conventional basis becomes that of `onto`, best first.

    Parameters
    ----------
    within : how much farther than the best, as relative strain. The default leaves the best and
        what the symmetry of the lattice makes equal to it.

    Returns
    -------
    ((3, 3) transform, distance); the transform takes the record's basis vectors (columns) to
    the other's setting, ``DataSet.reindexed(transform)``.
    """
    up = np.linalg.solve(onto.niggli_basis, orthogonalisation(onto.cell))
    down = np.linalg.solve(orthogonalisation(record.cell), record.niggli_basis)
    matrices, distance = best_transforms(
        onto.niggli_basis, record.niggli_basis, within=within, scale_weight=scale_weight
    )
    found = [(_tidy(down @ m @ up), float(d)) for m, d in zip(matrices, distance, strict=True)]
    # Of equals, which differ by a symmetry of the lattice, the one that changes least.
    return sorted(found, key=lambda f: (round(f[1], 4), float(np.abs(f[0] - np.eye(3)).sum())))


def _tidy(transform: Floats) -> Floats:
    """Whole numbers and the fractions of centrings, without rounding errors."""
    tidy: Floats = np.rint(transform * 12) / 12 + 0.0
    return tidy


def _onto(central: CellRecord, basis: Floats, scale_weight: float) -> Floats:
    """A reduced basis in the description nearest to that of the central record."""
    matrices, _ = best_transforms(central.niggli_basis, basis, scale_weight=scale_weight)
    moved: Floats = basis @ matrices[0]
    return moved


def _why_outside(
    record: CellRecord, n_alike: int, phases: Sequence[Phase], scale_weight: float
) -> str:
    """The reason, with the nearest phase and how its lattice is related."""
    alike = "no other series has its cell" if n_alike == 1 else f"only {n_alike} series have it"
    for phase in phases:
        words = relation_in_words(phase.record, record, scale_weight)
        if words:
            return f"{words}; {alike}"
    distance = [lattice_distance(p.record.niggli_basis, record.niggli_basis, 1.0) for p in phases]
    nearest = phases[int(np.argmin(distance))]
    return (
        f"{alike}: {100 * min(distance):.1f} % of strain from {nearest.name}, the nearest "
        f"(primitive volumes {record.volume_A3:.0f} and {nearest.record.volume_A3:.0f} Å³)"
    )
