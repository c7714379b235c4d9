"""merge a part: some series of a `merge` artefact become a `merge` artefact of their own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..lib.artefacts import ArtefactStore, Input, Recipe
from ..lib.sample import Sample
from .merge import figures_of, write_merged
from .merged import KIND, SEED, data_of_merge, merged_phase, seed_of


def merge_part_artefact(
    merge_ref: str, series: Sequence[str], store: Path, flow_run: str | None = None
) -> str:
    """Merge some series of a phase by themselves, in its symmetry and to its resolution.

    Parameters
    ----------
    merge_ref : reference of the `merge` artefact of the phase.
    series : names of series in it.
    store : root of the artefact store.

    Returns
    -------
    Reference of a `merge` artefact named after the phase, an older one if the same was made before.

    Raises
    ------
    UserError : the artefact is no merge, or a series is not in it.
    """
    from ..lib.artefacts.records import write_record
    from ..lib.merging.part import merge_part

    kept = ArtefactStore(store)
    source = kept.get(merge_ref)
    whole = merged_phase(source)
    names = sorted(set(series))
    sample: Any = source.manifest.configuration.get("sample")
    seed = seed_of(source)
    recipe = Recipe(
        kind=KIND,
        name=f"{source.manifest.name}-part",
        inputs=(
            Input.from_artefact(KIND, source),
            *(Input.from_artefact("reduction", kept.get(one.source))
              for one in whole.scaled.data if one.name in names),
        ),
        configuration={"series": names, "sample": sample},
        seeds={SEED: seed},
    )  # fmt: skip
    if found := kept.find(recipe):
        return found.ref
    done = merge_part(whole, data_of_merge(kept, whole), names, seed)
    with kept.draft(recipe, flow_run_id=flow_run) as draft:
        write_record(draft.arrays, done)
        known = None if sample is None else Sample.model_validate(sample)
        draft.notes += (*done.notes, *write_merged(draft, done, known, kept))
        draft.figures_of_merit = figures_of(done)
        return draft.publish().ref
