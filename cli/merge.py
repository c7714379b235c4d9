"""ewaldflow merge."""

from __future__ import annotations

from typing import Annotated

import typer

from .output import console
from .reduce import STORE, Store, shown


def merge(
    whole: Annotated[
        str, typer.Argument(metavar="MERGE", help="A merge of the store, merge/NAME@v0001.")
    ],
    series: Annotated[list[str], typer.Argument(metavar="SERIES", help="Of that merge.")],
    store: Store = STORE,
) -> int:
    """Merge some series of a phase by themselves.

    They are scaled anew; space group, resolution and what becomes of saturated reflections are
    those of the MERGE, so that figures of merit can be compared. The page of a phase gives this
    command for every branch of its tree. The structure is not solved.

    **Example**

    - `ewaldflow merge merge/session-phase-1@v0001 crystal_1 crystal_4 crystal_7`
    """
    from ..lib.artefacts import ArtefactStore
    from ..lib.merging.merging_statistics import table
    from ..tasks.merged import merged_phase
    from ..tasks.part import merge_part_artefact
    from ..tasks.report import INDEX, phase_report_artefact

    made = merge_part_artefact(whole, series, store)
    page = phase_report_artefact(made, "", "not tried: a part of a phase", {}, store)
    kept = ArtefactStore(store)
    out = console()
    out.print(table(merged_phase(kept.get(made)).statistics), soft_wrap=True, highlight=False)
    out.print(f"\n{made}, from {len(set(series))} series", soft_wrap=True)
    out.print(f"page: {shown(kept.folder(page) / 'files' / INDEX)}", soft_wrap=True)
    return 0
