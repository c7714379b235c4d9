"""ewaldflow report and compare: pages made again from artefacts, and two results side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .output import console
from .reduce import shown

Store = Annotated[Path, typer.Option("--store", metavar="FOLDER", help="The store.")]
STORE = Path("runs")
_REF = "KIND/NAME (the latest) or KIND/NAME@v0001, see `ewaldflow artefacts ls`."


def report(
    ids: Annotated[list[str], typer.Argument(metavar="ID...", help=_REF)], store: Store = STORE
) -> None:
    """Make the pages of artefacts again, from what the store keeps alone.

    Any kind has a page: series, reductions, phases, merges, sessions, acquisitions, calibrations,
    orientations, trainings. The same ids give the same bytes, and the page says what it was made
    from, back to the raw files. An id that does not exist stops it before anything is made.
    """
    from ..lib.artefacts import ArtefactStore
    from ..tasks.pages import page_artefact

    kept = ArtefactStore(store)
    refs = [kept.get(one).ref for one in ids]
    for ref in dict.fromkeys(refs):
        console().print(f"{ref}: {shown(page_artefact(ref, store))}", soft_wrap=True)


def compare(
    a: Annotated[str, typer.Argument(metavar="A", help=_REF)],
    b: Annotated[str, typer.Argument(metavar="B", help="Of the same kind.")],
    store: Store = STORE,
) -> None:
    """Put two sessions, reductions or merges side by side on one page.

    It shows what differs: figures of merit, cells, statistics by resolution, and which settings,
    code or inputs were others.
    """
    from ..tasks.comparison import comparison_artefact

    console().print(shown(comparison_artefact(a, b, store)), soft_wrap=True)
