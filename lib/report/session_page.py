"""The page of a session: every series that was processed together, the failed ones too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from . import html
from .html import Safe
from .outcome import COLUMNS, SeriesOutcome


def session_page(
    title: str, outcomes: Sequence[SeriesOutcome], links: Mapping[str, str], version: str
) -> str:
    """The page as HTML text.

    Parameters
    ----------
    title : of the session.
    outcomes : in the order to list them.
    links : where each report lies, relative to the page, by its reference.
    version : of the code.
    """
    failed = [o for o in outcomes if o.reason]
    bare = [o for o in outcomes if o.headline and not o.headline.n_lattices]
    indexed = len(outcomes) - len(failed) - len(bare)
    counts = {"Series": len(outcomes), "Indexed": indexed, "No lattice": len(bare)}
    rows = [_row(o, links.get(o.report, "")) for o in outcomes]
    shown = html.table(
        [name[0].upper() + name[1:] for name in COLUMNS],
        rows,
        numeric=(3, 4, 5),
        row_classes=["failed" if o.reason else "" for o in outcomes],
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


def _row(outcome: SeriesOutcome, link: str) -> list[object]:
    name = html.escape(outcome.name)
    row: dict[str, object] = {**outcome.row()}
    row["series"] = Safe(f'<a href="{html.escape(link)}">{name}</a>') if link else name
    return list(row.values())
