"""What became of one series, for tables of many."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from .notation import cell_text, rounded
from .summary import Headline

COLUMNS = (
    "series", "phase", "lattice", "cell", "indexed / %", "resolution / Å", "mean I/σ", "remark",
)  # fmt: skip
PHASE_COLUMNS = (
    "phase", "series", "space group", "cell", "complete / %", "to / Å", "R_meas", "CC1/2",
    "structure",
)  # fmt: skip


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
    phase : name of the phase that it was merged in; "" where it was not.
    left : why not, one line; "" where it was.
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
    phase: str = ""
    left: str = ""

    def line(self) -> str:
        """The same in words, as for a log."""
        head = self.headline
        if head is None:
            return f"{self.name} failed: {self.reason}"
        if not head.n_lattices:
            return f"{self.name}: no lattice. {self.verdict}"
        return (
            f"{self.name}: {head.lattice}, {head.cell}; {rounded(head.indexed_percent, 0)} % of "
            f"spots indexed, to {rounded(head.resolution_A, 2)} Å"
        )

    def row(self) -> dict[str, str]:
        """The cells of a table, by column."""
        head = self.headline
        if head is None:
            cells = [self.name, "", "failed", "", "", "", "", self.reason]
        else:
            more = f" (+{head.n_lattices - 1})" if head.n_lattices > 1 else ""
            cells = [
                self.name,
                self.phase,
                head.lattice + more,
                head.cell,
                rounded(head.indexed_percent, 0),
                rounded(head.resolution_A, 2),
                rounded(head.i_over_sigma, 1),
                self.left or ("" if head.n_lattices else self.verdict),
            ]
        return dict(zip(COLUMNS, cells, strict=True))


@dataclass(frozen=True)
class PhaseOutcome:
    """What became of one phase of a session.

    Attributes
    ----------
    name : of the structure.
    merge, solution, page : references of the artefacts; "" where there is none.
    figures : of the merge (see `tasks.merge.figures_of`).
    verdict : on the structure: solved, uncertain or not solved; or why it was not tried.
    reason : one line, why it was not merged; "" where it was.
    """

    name: str
    merge: str = ""
    solution: str = ""
    page: str = ""
    figures: Mapping[str, Any] = field(default_factory=dict)
    verdict: str = ""
    reason: str = ""

    def row(self) -> dict[str, str]:
        """The cells of a table, by column."""
        if self.reason:
            cells = [self.name, "failed", "", "", "", "", "", "", self.reason]
        else:
            f: dict[str, Any] = {k: math.nan if v is None else v for k, v in self.figures.items()}
            cells = [
                self.name,
                str(f["series"]),
                f["space_group"],
                cell_text(f["cell"]),
                rounded(100 * f["completeness"], 0),
                rounded(f["d_min_A"], 2),
                rounded(f["r_meas"], 3),
                rounded(f["cc_half"], 4),
                self.verdict,
            ]
        return dict(zip(PHASE_COLUMNS, cells, strict=True))


OUTCOMES = "outcomes.json"  # beside a session's page, so that it can be made again


def outcomes_text(outcomes: Sequence[SeriesOutcome], phases: Sequence[PhaseOutcome]) -> str:
    """What `read_outcomes` reads, as JSON; whether a result was there before is left out."""
    series = [{**asdict(one), "reused": False} for one in outcomes]
    return json.dumps({"series": series, "phases": [asdict(one) for one in phases]}, indent=1)


def read_outcomes(text: str) -> tuple[list[SeriesOutcome], list[PhaseOutcome]]:
    """The outcomes of series and of phases in `outcomes_text`."""
    content = json.loads(text)
    series = [
        SeriesOutcome(**{**one, "headline": one["headline"] and headline_from(one["headline"])})
        for one in content["series"]
    ]
    return series, [PhaseOutcome(**one) for one in content["phases"]]


def headline_from(figures: Mapping[str, Any]) -> Headline:
    """The headline in the figures of merit of a manifest, where None stands for NaN."""
    values: dict[str, Any] = {one.name: figures[one.name] for one in fields(Headline)}
    for name in [name for name, value in values.items() if value is None]:
        values[name] = math.nan
    return Headline(**values)
