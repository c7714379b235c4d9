"""ewaldflow orient."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import options
from .output import console, progress
from .reduce import STORE, Store, prepare, shown

if TYPE_CHECKING:
    from ..flows.orient import OrientOutcome
    from ..lib.artefacts import ArtefactStore

_RUN = "How it is run"
_HOW = "How it is refined"


def orient(
    reductions: Annotated[
        list[str],
        typer.Argument(metavar="REDUCTION_REF", help="Reductions, as `ewaldflow artefacts` lists."),
    ],
    store: Store = STORE,
    workers: options.Workers = 1,
    scheduler: options.Scheduler = None,
    name: Annotated[
        str, typer.Option(metavar="NAME", help="Name of the study.", rich_help_panel=_RUN)
    ] = "goniometer",
    iterate: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=0, rich_help_panel=_HOW,
            help="Integrate again with the refined orientations, so many times.",
        ),
    ] = None,
    published: Annotated[
        bool | None,
        typer.Option(help="Also the published method, to compare with.", rich_help_panel=_HOW),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="All choices, as YAML.", rich_help_panel=_HOW),
    ] = None,
) -> int:  # fmt: skip
    """Refine the orientation of every frame, and study the goniometer by it.

    Each series gets a page, a table of its frames, and files for PETS and JANA, DIALS and
    XDS. The last page compares the goniometer over all series of the instrument that the store
    keeps. With `--iterate`, series are integrated again with the orientations found.

    A series that cannot be refined does not stop the others. Exit code 1 if some failed, 2 if
    all did.

    **Examples**

    - `ewaldflow orient reduction/crystal_1 reduction/crystal_2`
    - `ewaldflow orient reduction/garnet@v0001 --iterate 1`
    """
    from ..lib.artefacts import ArtefactStore
    from ..lib.orientation.config import OrientationConfig

    chosen = options.chosen(OrientationConfig, config, iterate=iterate, published=published)
    kept = ArtefactStore(store)
    for ref in reductions:
        kept.get(ref)  # so that a misspelt one is told at once
    prepare(store)
    with progress(len(reductions)):
        from ..flows.orient import orient as flow

        n_workers = min(workers, len(reductions))
        done = flow(reductions, store, chosen, n_workers, name, scheduler)
    failed = [one for one in done.outcomes if one.reason]
    if len(failed) == len(done.outcomes) == 1:
        print(f"ewaldflow: {failed[0].reason}", file=sys.stderr)
        return 2
    _show(done.outcomes, kept)
    if done.study:
        from ..tasks.orient import INDEX

        index = shown(kept.folder(done.study) / "files" / INDEX)
        console().print(f"\nthe goniometer: {index}", soft_wrap=True)
    return 0 if not failed else 2 if len(failed) == len(done.outcomes) else 1


def _show(outcomes: tuple[OrientOutcome, ...], store: ArtefactStore) -> None:
    from rich.table import Table

    from ..tasks.orient import PAGE

    table = Table(box=None, pad_edge=False)
    for heading in ("series", "jitter along / °", "across / °", "error / °", "scale", "report"):
        table.add_column(heading, overflow="fold")
    for one in outcomes:
        if one.reason:
            table.add_row(one.reduction, "failed", "", "", "", one.reason)
            continue
        artefact = store.get(one.orientation)
        figures: dict[str, Any] = artefact.manifest.figures_of_merit
        numbers = [
            "" if figures.get(key) is None else f"{figures[key]:.4f}"
            for key in ("jitter_along_deg", "jitter_perp_deg", "worst_sd_deg", "rotation_scale")
        ]
        page = shown(store.folder(one.orientation) / "files" / PAGE)
        table.add_row(artefact.manifest.name, *numbers, page)
    console().print(table)
