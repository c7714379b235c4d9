"""solve: a `merge` artefact becomes a `solution` artefact."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from prefect import task

from ..lib.artefacts import Artefact, ArtefactStore, Draft, Input, Recipe
from ..lib.errors import UserError
from ..lib.sample import Sample
from .progress import tell
from .running import TASK_OPTIONS, flow_run_id
from .workers import carry_out

if TYPE_CHECKING:
    from ..lib.merging.merge_phase import MergedPhase

KIND = "solution"
# Wall time for one structure; it ends much sooner where two attempts agree.
_LIMIT_S = 30.0
# First to a resolution at which atoms just part and an attempt takes a second, then to all of it.
_RESOLUTIONS_A = (1.0, None)
# Space groups that are tried: so many at most, and none less probable than this.
_MOST_GROUPS, _LEAST_PROBABLE = 2, 0.05


@task(task_run_name="solve {merge}", **TASK_OPTIONS)
def solve(merge: str, store: Path, sample: Sample, workers: str | None = None) -> str:
    """Try to solve a structure by charge flipping.

    Parameters
    ----------
    merge : reference of the `merge` artefact.
    store : root of the artefact store.
    sample : its composition ranks and names the peaks.
    workers : address of worker processes, or None.

    Returns
    -------
    Reference of the artefact, an older one if the same was made before. Its file is solution.cif,
    where there is one.

    Raises
    ------
    UserError : cctbx is not installed (the extra `solve`).
    """
    tell(merge, "solve")
    return carry_out(workers, solution_artefact, merge, store, sample, flow_run_id())


def solution_artefact(
    merge_ref: str, store: Path, sample: Sample, flow_run: str | None = None
) -> str:
    """What `solve` does, without Prefect."""
    kept = ArtefactStore(store)
    source = kept.get(merge_ref)
    seed = 1
    recipe = Recipe(
        kind=KIND,
        name=source.manifest.name,
        inputs=(Input.from_artefact("merge", source),),
        configuration={
            "sample": sample.model_dump(mode="json"),
            "time_limit_s": _LIMIT_S,
            "resolutions_A": list(_RESOLUTIONS_A),
        },
        seeds={"random phases": seed},
    )
    if found := kept.find(recipe):
        return found.ref
    from ..lib.artefacts.records import read_record, write_record
    from ..lib.merging.merge_phase import MergedPhase
    from ..lib.structure.charge_flipping import charge_flip_in
    from ..lib.structure.cif import write_cif

    done = read_record(source.arrays, MergedPhase)
    with kept.draft(recipe, flow_run_id=flow_run) as draft:
        for d_min_A in _RESOLUTIONS_A:
            flipped = charge_flip_in(
                done.merged,
                sample.contents_of(done.merged.cell),
                _groups_to_try(done),
                d_min_A=d_min_A,
                time_limit_s=_LIMIT_S,
                seed=seed,
            )
            if flipped.verdict == "solved":
                break
        write_record(draft.arrays, flipped)
        best = flipped.best
        if best is not None and best.atoms:
            write_cif(draft.files / "solution.cif", best, sample.name)
        draft.notes += (*flipped.reasons, *_shelxt(draft, source))
        draft.figures_of_merit = {
            "verdict": flipped.verdict,
            "sentence": flipped.sentence,
            "r1": None if best is None else float(best.r1),
            "attempts": flipped.n_attempts,
        }
        return draft.publish().ref


def _groups_to_try(done: MergedPhase) -> tuple[str, ...]:
    """The space group of the merged data, then others that its evidence leaves possible."""
    likely = [g.symbol for g in done.symmetry.ranked if g.probability > _LEAST_PROBABLE]
    return tuple(dict.fromkeys([done.merged.space_group, *likely]))[:_MOST_GROUPS]


def _shelxt(draft: Draft, merge: Artefact) -> Iterator[str]:
    """What SHELXT makes of the same data, where it is installed; its files are kept."""
    from ..lib.reduction.engines.programs import find_program
    from ..lib.structure.shelxt import run_shelxt

    if find_program("shelxt") is None:
        return
    folder = draft.files / "shelxt"
    folder.mkdir()
    for kind in ("ins", "hkl"):
        shutil.copyfile(merge.files / f"shelx.{kind}", folder / f"phase.{kind}")
    try:
        for one in run_shelxt(folder, "phase"):
            yield f"SHELXT: {one.space_group}, {one.formula}, R1 {one.r1:.3f}"
    except UserError as error:
        yield f"SHELXT gave no result: {error}"
