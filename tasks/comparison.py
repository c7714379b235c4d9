"""compare: two artefacts of one kind become a `comparison` artefact, one page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..lib.artefacts import Artefact, ArtefactStore, Input, Recipe
from ..lib.errors import UserError
from ..lib.report.outcome import OUTCOMES, read_outcomes
from .report import INDEX

if TYPE_CHECKING:
    from ..lib.report.comparison_page import Side

KIND = "comparison"
# Results that say of which others they are the pages.
_SHOWS = {"report": "reduction", "phase-report": "merge"}


def comparison_artefact(a: str, b: str, store: Path, flow_run: str | None = None) -> Path:
    """Compare two artefacts of one kind.

    Parameters
    ----------
    a, b : their references.
    store : root of the artefact store.
    flow_run : that does it.

    Returns
    -------
    The page's file, in an older artefact if the same were compared before.

    Raises
    ------
    UserError : no such artefact, or two of different kinds, or twice the same.
    """
    kept = ArtefactStore(store)
    one, other = _result(kept, a), _result(kept, b)
    if one.ref == other.ref:
        raise UserError(b, "the same twice", "two results", "name another version or artefact")
    if one.manifest.kind != other.manifest.kind:
        raise UserError(b, f"a {other.manifest.kind}", f"a {one.manifest.kind} as {a}",
                        "compare two of a kind")  # fmt: skip
    names = dict.fromkeys((one.manifest.name, other.manifest.name))
    recipe = Recipe(
        kind=KIND,
        name="-and-".join(names)[:100],
        inputs=(Input.from_artefact("a", one), Input.from_artefact("b", other)),
        configuration={"a": one.manifest.key, "b": other.manifest.key},
    )
    if found := kept.find(recipe):
        return found.files / INDEX
    from ..lib.report.comparison_page import comparison_page

    with kept.draft(recipe, flow_run_id=flow_run) as draft:
        page = comparison_page(_side(kept, one), _side(kept, other))
        (draft.files / INDEX).write_text(page, encoding="utf-8")
        return draft.publish().files / INDEX


def _result(kept: ArtefactStore, ref: str) -> Artefact:
    """What a page shows, where a page was named."""
    found = kept.get(ref)
    role = _SHOWS.get(found.manifest.kind)
    if role is None:
        return found
    return kept.get(
        next(i.artefact for i in found.manifest.inputs if i.role == role and i.artefact)
    )


def _side(kept: ArtefactStore, one: Artefact) -> Side:
    from ..lib.report.comparison_page import Side

    manifests = kept.ancestors(one.ref)
    more: dict[str, Any] = {}
    if one.manifest.kind == "reduction":
        more = _of_reduction(one)
    elif one.manifest.kind == "merge":
        more = _of_merge(one)
    elif (one.files / OUTCOMES).exists():
        series, phases = read_outcomes((one.files / OUTCOMES).read_text(encoding="utf-8"))
        more = {"series": series, "phases": phases}
    return Side(one.manifest, manifests, **more)


def _of_reduction(one: Artefact) -> dict[str, Any]:
    from ..lib.reduction.storage import read_reduction
    from ..lib.report.comparison_page import Curve
    from ..lib.report.summary import resolution_shells, usable

    reduction = read_reduction(one.arrays)
    if not reduction.lattices:
        return {}
    many = len(reduction.lattices) > 1
    first = reduction.lattices[0].reflections
    shells = resolution_shells(first[usable(first)])
    return {
        "cells": {
            f"lattice {k}" if many else "": (lattice.cell, lattice.cell_esd)
            for k, lattice in enumerate(reduction.lattices, 1)
        },
        "curves": {
            "mean I/σ": Curve(shells.d_A, shells.i_over_sigma),
            "reflections": Curve(shells.d_A, shells.count.astype(float)),
        },
    }


def _of_merge(one: Artefact) -> dict[str, Any]:
    import numpy as np

    from ..lib.artefacts.records import read_record
    from ..lib.merging.merge_phase import MergedPhase
    from ..lib.report.comparison_page import Curve

    merged = read_record(one.arrays, MergedPhase)
    shells = merged.statistics.shells
    d = np.array([(0.5 * (s.d_max_A**-2 + s.d_min_A**-2)) ** -0.5 for s in shells])
    spread = merged.statistics.cells
    esd = np.asarray(spread.deviation) / max(spread.n, 1) ** 0.5
    return {
        "cells": {"": (merged.merged.cell, esd.tolist())},
        "curves": {
            name: Curve(d, np.array([getattr(s, what) for s in shells], float))
            for name, what in (
                ("completeness", "completeness"),
                ("mean I/σ, merged", "i_over_sigma"),
                ("CC1/2", "cc_half"),
                ("R_meas", "r_meas"),
            )
        },
    }
