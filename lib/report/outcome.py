"""What became of one series, for tables of many."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from .notation import rounded
from .summary import Headline

COLUMNS = ("series", "lattice", "cell", "indexed / %", "resolution / Å", "mean I/σ", "remark")


@dataclass(frozen=True)
class SeriesOutcome:
    """What became of one series.

    Attributes
    ----------
    name, source : of the series, and where its frames are.
    headline : of its reduction; None where it failed.
    verdict : the engine's one line; "" where it failed.
    reduction, report : references of the artefacts; "" where it failed.
    reason : one line, why it failed; "" where it did not.
    reused : whether all of it was there already.
    """

    name: str
    source: str
    headline: Headline | None = None
    verdict: str = ""
    reduction: str = ""
    report: str = ""
    reason: str = ""
    reused: bool = False

    def row(self) -> dict[str, str]:
        """The cells of a table, by column."""
        head = self.headline
        if head is None:
            cells = [self.name, "failed", "", "", "", "", self.reason]
        else:
            more = f" (+{head.n_lattices - 1})" if head.n_lattices > 1 else ""
            cells = [
                self.name,
                head.lattice + more,
                head.cell,
                rounded(head.indexed_percent, 0),
                rounded(head.resolution_A, 2),
                rounded(head.i_over_sigma, 1),
                "" if head.n_lattices else self.verdict,
            ]
        return dict(zip(COLUMNS, cells, strict=True))


def headline_from(figures: Mapping[str, Any]) -> Headline:
    """The headline in the figures of merit of a manifest, where None stands for NaN."""
    values: dict[str, Any] = {one.name: figures[one.name] for one in fields(Headline)}
    for name in [name for name, value in values.items() if value is None]:
        values[name] = math.nan
    return Headline(**values)
