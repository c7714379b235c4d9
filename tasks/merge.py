"""merge: one structure of a `phases` artefact becomes a `merge` artefact."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import gemmi
import numpy as np
from prefect import task

from ..lib.artefacts import ArtefactStore, Draft, Input, Recipe
from ..lib.errors import UserError
from ..lib.merging.config import MergingConfig
from ..lib.sample import Sample
from .merged import KIND, SEED
from .progress import tell
from .report import made_from
from .running import TASK_OPTIONS, flow_run_id
from .workers import carry_out

if TYPE_CHECKING:
    from ..lib.merging.merge_phase import MergedPhase
    from ..lib.phases.sorting import SortedSession, Structure


@task(task_run_name="merge {structure} of {phases}", **TASK_OPTIONS)
def merge(
    phases: str,
    structure: str,
    store: Path,
    config: MergingConfig,
    sample: Sample | None = None,
    workers: str | None = None,
) -> str:
    """Scale and merge the series of one structure, and find its space group.

    Parameters
    ----------
    phases : reference of the `phases` artefact.
    structure : name of a structure in it.
    store : root of the artefact store.
    config : choices of merging.
    sample : composition, for SHELX files and the Wilson plot; None if unknown.
    workers : address of worker processes, or None.

    Returns
    -------
    Reference of the artefact, an older one if the same was made before. Its files are merged.mtz,
    unmerged.mtz, merged.cif, merged.hkl, statistics.txt, shelx.ins (with a composition), and
    xscale/ with XSCALE.INP and its inputs.
    """
    tell(structure, "merge")
    return carry_out(
        workers, merge_artefact, phases, structure, store, config, sample, flow_run_id()
    )


def merge_artefact(
    phases_ref: str,
    structure: str,
    store: Path,
    config: MergingConfig,
    sample: Sample | None = None,
    flow_run: str | None = None,
) -> str:
    """What `merge` does, without Prefect."""
    from ..lib.artefacts.records import read_record, write_record
    from ..lib.phases.sorting import SortedSession

    kept = ArtefactStore(store)
    source = kept.get(phases_ref)
    session = read_record(source.arrays, SortedSession)
    chosen = _structure(session, structure, phases_ref)
    recipe = Recipe(
        kind=KIND,
        name=f"{source.manifest.name}-{structure}".replace(" ", "-"),
        inputs=(
            Input.from_artefact("phases", source),
            *(Input.from_artefact("reduction", kept.get(m.source)) for m in chosen.members),
        ),
        configuration={
            "structure": structure,
            "merging": config.model_dump(mode="json"),
            "sample": None if sample is None else sample.model_dump(mode="json"),
        },
        seeds={SEED: config.seed},
    )
    if found := kept.find(recipe):
        return found.ref
    from ..lib.merging.merge_phase import merge_group
    from ..lib.phases.sorting import reduced_series
    from ..lib.reduction.storage import read_reduction

    data = []
    for member in chosen.members:
        reduction = read_reduction(kept.get(member.source).arrays)
        one = reduced_series(member.name, reduction, member.source).data
        assert one is not None  # or it would be in no structure
        data.append(one.reindexed(member.transform, member.bravais))
    with kept.draft(recipe, flow_run_id=flow_run) as draft:
        done = merge_group(
            structure, data, chosen.rotations, config,
            composition=None if sample is None else sample.contents_of(data[0].cell),
        )  # fmt: skip
        write_record(draft.arrays, done)
        draft.notes += (*done.notes, *write_merged(draft, done, sample, kept))
        draft.figures_of_merit = figures_of(done)
        return draft.publish().ref


def figures_of(done: MergedPhase) -> dict[str, object]:
    """The few numbers that stand for merged data in a table."""
    whole = done.statistics.overall
    numbers = {
        "completeness": whole.completeness,
        "d_max_A": whole.d_max_A,
        "d_min_A": whole.d_min_A,
        "multiplicity": whole.multiplicity,
        "r_meas": whole.r_meas,
        "r_pim": whole.r_pim,
        "cc_half": whole.cc_half,
        "i_over_sigma": whole.i_over_sigma,
    }
    return {
        "series": len(done.scaled.data),
        "left": dict(done.left),
        "space_group": done.merged.space_group,
        "symmetry": done.symmetry.reason,
        "cell": list(done.merged.cell),
        "observations": whole.n_observed,
        "reflections": len(done.merged),
        **{name: None if value != value else float(value) for name, value in numbers.items()},
    }


def write_merged(
    draft: Draft, done: MergedPhase, sample: Sample | None, store: ArtefactStore
) -> Iterator[str]:
    """Write what other programs go on with; what they said where they were run."""
    _write_files(draft, done, sample)
    _write_xscale(draft, done, store)
    yield from _second_opinions(draft)


def _structure(session: SortedSession, name: str, ref: str) -> Structure:
    for one in session.structures:
        if one.name == name:
            return one
    names = ", ".join(one.name for one in session.structures) or "none"
    raise UserError(ref, f"no structure '{name}'", f"one of {names}", "name one of these")


def _write_files(draft: Draft, done: MergedPhase, sample: Sample | None) -> None:
    from ..lib.merging.merging_statistics import table
    from ..lib.structure.reflection_files import merged_mtz, unmerged_mtz, write_mmcif, write_mtz
    from ..lib.structure.shelx import instructions, write_hkl, write_ins

    merged, files = done.merged, draft.files
    mtz = merged_mtz(merged, title=done.name)
    write_mtz(files / "merged.mtz", mtz)
    write_mmcif(files / "merged.cif", mtz)
    write_mtz(
        files / "unmerged.mtz", unmerged_mtz(done.scaled.data, merged.space_group, title=done.name)
    )
    factor = write_hkl(files / "shelx.hkl", merged.hkl, merged.intensity, merged.sigma)
    (files / "statistics.txt").write_text(table(done.statistics), encoding="utf-8")
    if sample is not None:
        spread = done.statistics.cells.deviation
        a, b, c, alpha, beta, gamma = (float(s) / max(len(done.scaled.data), 1) ** 0.5
                                       for s in spread)  # fmt: skip
        write_ins(
            files / "shelx.ins",
            instructions(
                title=f"{sample.name}, {done.name}",
                cell=merged.cell,
                cell_esd=(a, b, c, alpha, beta, gamma),
                wavelength_A=merged.wavelength_A,
                space_group=merged.space_group,
                formula=sample.composition,
                formula_units=sample.formula_units_in(merged.cell),
                remarks=(
                    f"{len(done.scaled.data)} crystals, {len(merged)} unique reflections",
                    f"intensities times {factor:.4g} in shelx.hkl",
                    done.symmetry.reason,
                ),
            ),
        )


def _write_xscale(draft: Draft, done: MergedPhase, store: ArtefactStore) -> None:
    """XSCALE.INP and the series in the setting of the merge, as they were reduced."""
    from ..lib.reduction.storage import read_reduction
    from ..lib.reduction.xds_ascii import write_xds_ascii
    from ..lib.series.storage import read_series
    from ..lib.structure.xscale_inp import XscaleInput, write_xscale_inp

    folder = draft.files / "xscale"
    folder.mkdir()
    group = gemmi.SpaceGroup(done.merged.space_group)
    inputs = []
    for number, one in enumerate(done.scaled.data, 1):
        if one.orientation is None:
            continue
        artefact = store.get(one.source)
        reduction = read_reduction(artefact.arrays)
        first = reduction.lattices[0]
        # what took the indices of the reduction to those of the merged data
        transform = (np.linalg.inv(one.orientation) @ first.orientation).T
        path = folder / f"{number:04d}_XDS_ASCII.HKL"
        write_xds_ascii(
            path,
            first.reindexed(np.rint(12 * transform) / 12, one.bravais),
            reduction.frames,
            name=one.name,
            shape=read_series(made_from(store, artefact, "series").arrays).shape,
            space_group_number=group.number,
        )
        inputs.append(XscaleInput(path))
    write_xscale_inp(folder, inputs, space_group=done.merged.space_group, cell=done.merged.cell)


def _second_opinions(draft: Draft) -> Iterator[str]:
    """What POINTLESS and XSCALE say, where they are installed; their logs are kept."""
    from ..lib.space_group.pointless import run_pointless
    from ..lib.xds.run_xscale import run_xscale

    try:
        if found := run_pointless(draft.files / "unmerged.mtz", draft.files / "pointless"):
            yield (
                f"POINTLESS {found.version}: {found.best}, total probability "
                f"{found.total_probability:.3f}"
            )
    except UserError as error:
        yield f"POINTLESS gave no result: {error}"
    try:
        if (scaled := run_xscale(draft.files / "xscale")) and scaled.saved and scaled.saved.table:
            whole = scaled.saved.table.total
            yield (
                f"XSCALE: {scaled.saved.n_written} reflections written"
                + (f", R_meas {whole.r_meas:.3f}" if whole else "")
            )
    except UserError as error:
        yield f"XSCALE gave no result: {error}"
