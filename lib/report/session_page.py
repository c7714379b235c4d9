"""The page of a session: every series that was processed together, the failed ones too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from . import html
from .html import Safe
from .notation import rounded
from .summary import Headline


@dataclass(frozen=True)
class SeriesOutcome:
    """What became of one series.

    Attributes
    ----------
    name, folder : of the series.
    headline : of its reduction; None where it failed.
    reason : one line, why it failed; "" where it did not.
    report : link to its report, relative to the page; "" where there is none.
    verdict : the engine's one line.
    """

    name: str
    folder: str
    headline: Headline | None = None
    reason: str = ""
    report: str = ""
    verdict: str = ""


def session_page(title: str, outcomes: Sequence[SeriesOutcome], version: str = "") -> str:
    """The page as HTML text."""
    failed = [o for o in outcomes if o.headline is None]
    bare = [o for o in outcomes if o.headline and not o.headline.n_lattices]
    indexed = len(outcomes) - len(failed) - len(bare)
    counts = {"Series": len(outcomes), "Indexed": indexed, "No lattice": len(bare)}
    rows = [_row(o) for o in outcomes]
    shown = html.table(
        ["Series", "Lattice", "Cell", "Indexed / %", "Resolution / Å", "Mean I/σ", "Remark"],
        rows,
        numeric=(3, 4, 5),
        row_classes=["failed" if o.headline is None else "" for o in outcomes],
        caption="Cell of the strongest lattice; resolution where the mean I/σ falls below 1.",
    )
    if failed:
        lead = f"{len(failed)} of {len(outcomes)} series could not be processed; see the remarks."
    else:
        lead = f"{indexed} of {len(outcomes)} series indexed and integrated."
    return html.page(
        title=title,
        over="Session",
        lead=lead,
        body=[html.facts({**counts, "Failed": len(failed)}), shown],
        footer=f"Made by Ewaldflow {version}. This page needs no network.",
    )


def _row(outcome: SeriesOutcome) -> list[object]:
    link = html.escape(outcome.name)
    if outcome.report:
        link = Safe(f'<a href="{html.escape(outcome.report)}">{link}</a>')
    head = outcome.headline
    if head is None:
        return [link, "failed", "", "", "", "", outcome.reason]
    return [
        link,
        head.lattice + (f" (+{head.n_lattices - 1})" if head.n_lattices > 1 else ""),
        head.cell,
        rounded(head.indexed_percent, 0),
        rounded(head.resolution_A, 2),
        rounded(head.i_over_sigma, 1),
        "" if head.n_lattices else outcome.verdict,
    ]
