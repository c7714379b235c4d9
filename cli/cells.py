"""ewaldflow cells."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from .output import console, table


class Metric(StrEnum):
    """What cells are compared by."""

    LATTICE = "lattice"
    THESIS = "thesis"


def cells(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A cells.yaml, ours or edtools'.")],
    metric: Annotated[
        Metric,
        typer.Option(help="Relative strain of lattices, or Å and degrees of reduced cells."),
    ] = Metric.LATTICE,
    cut: Annotated[
        float | None, typer.Option(metavar="HEIGHT", help="Where to cut the tree; else chosen.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Write cells.xlsx, dendrogram.svg and histograms.svg."),
    ] = None,
) -> int:
    """Sort cells into phases.

    Cells may be in any setting. What fits no phase is told with the reason, such as twice the
    cell of another.

    **Example**

    - `ewaldflow cells cells.yaml --out sorted`
    """
    from ..lib.phases.cells_file import read_cells, write_cells_xlsx
    from ..lib.phases.phases import find_phases
    from ..lib.report.notation import cell_text

    phases = find_phases(read_cells(file), metric=metric.value, cut=cut)
    rows = [
        [one.name, str(len(one.members)), one.bravais, cell_text(one.cell), ", ".join(one.names)]
        for one in phases.phases
    ]
    screen = console()
    screen.print(table(["phase", "series", "lattice", "mean cell", "members"], rows, right=(1,)))
    for outlier in phases.outliers:
        screen.print(f"{outlier.record.name}: {outlier.reason}")
    screen.print(f"\ncut at {phases.cut:.3g}: {phases.cut_reason}")
    if out is not None:
        from ..lib.report.phase_figures import cell_dendrogram, cell_histograms

        out.mkdir(parents=True, exist_ok=True)
        write_cells_xlsx(out / "cells.xlsx", phases)
        cell_dendrogram(phases).savefig(out / "dendrogram.svg")
        cell_histograms(phases).savefig(out / "histograms.svg")
        screen.print(f"written to {out}", soft_wrap=True)
    return 0
