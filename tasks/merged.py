"""What a `merge` artefact holds, and the series that went into it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lib.artefacts import Artefact, ArtefactStore
from ..lib.errors import UserError

if TYPE_CHECKING:
    from ..lib.merging.data_set import DataSet
    from ..lib.merging.merge_phase import MergedPhase

KIND = "merge"
SEED = "random halves and pairs"


def data_of_merge(store: ArtefactStore, merged: MergedPhase) -> tuple[DataSet, ...]:
    """The series of a merge as they were reduced, in its setting and order."""
    from ..lib.merging.part import in_the_setting_of
    from ..lib.phases.sorting import reduced_series
    from ..lib.reduction.storage import read_reduction

    found = []
    for one in merged.scaled.data:
        reduction = read_reduction(store.get(one.source).arrays)
        data = reduced_series(one.name, reduction, one.source).data
        assert data is not None  # or it would not have been merged
        found.append(in_the_setting_of(data, one))
    return tuple(found)


def merged_phase(merged: Artefact) -> MergedPhase:
    """What a `merge` artefact holds.

    Raises
    ------
    UserError : it is none.
    """
    from ..lib.artefacts.records import read_record
    from ..lib.merging.merge_phase import MergedPhase

    if merged.manifest.kind != KIND:
        raise UserError(
            merged.ref, f"a {merged.manifest.kind}", "a merge", "`ewaldflow artefacts ls merge`"
        )
    return read_record(merged.arrays, MergedPhase)


def seed_of(merged: Artefact) -> int:
    """The seed of a merge."""
    return int(merged.manifest.seeds.get(SEED, 0))
