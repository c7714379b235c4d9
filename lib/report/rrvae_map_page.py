"""The page of a scan mapped by an autoencoder that was trained on another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ..artefacts.manifest import Manifest
from ..rrvae.learn import Mapped
from ..rrvae.trust import TRUSTED
from . import html
from . import rrvae_figures as figures
from .html import Safe
from .notation import rounded
from .provenance import provenance_section
from .rrvae_page import (
    agreement_table,
    com_section,
    footer,
    prepared_section,
    residual_section,
    warning,
)


def rrvae_map_page(
    name: str,
    mapped: Mapped,
    model: str,
    trained: str,
    best: int,
    provenance: Sequence[Manifest],
) -> str:
    """The page as HTML text.

    Parameters
    ----------
    name : of the scan.
    mapped : of `map_scan`.
    model : what it was mapped by.
    trained : verdict of its training; "" if not known.
    best : position of the seed shown.
    provenance : manifests of the artefacts it came from, raw side first.
    """
    found = mapped.applied
    sections = {
        "maps": ("Maps", _maps(mapped, best)),
        "unlike": ("Unlike those trained on", _unlike(mapped)),
        "agreement": (
            "Against the centre of mass",
            agreement_table(mapped.agreements, mapped.baselines, best=best),
        ),
        "com": ("Centre of mass", com_section(mapped.maps, mapped.prepared)),
        "residual": ("What is left unexplained", residual_section(mapped.maps, mapped.defects)),
        "patterns": ("What was mapped", prepared_section(mapped.prepared)),
        "notes": ("Notes", html.bullets([*found.reasons, *mapped.notes] or ["None."])),
        "provenance": ("Provenance", provenance_section(provenance)),
    }
    mine = mapped.agreements[best]
    return html.page(
        title=name,
        over="Mapped by a trained autoencoder (rrVAE)",
        lead=_lead(mapped, model),
        body=[
            *warnings(mapped, trained),
            html.facts({
                "Verdict": "in distribution" if found.in_distribution else "out of distribution",
                "Unlike patterns": f"{found.unlike.mean():.1%}",
                "With the COM": Safe(
                    f"{rounded(abs(mine.pearson), 4)} <small>|r|</small>, "
                    f"{rounded(mine.circular_R, 4)} <small>R</small>"
                ),
                "Defects": len(mapped.defects),
                "Patterns": mapped.prepared.patterns,
            }),
            html.advice(_next_steps(found.in_distribution, len(mapped.defects))),
            html.contents({anchor: heading for anchor, (heading, _) in sections.items()}),
            *(html.section(anchor, heading, part) for anchor, (heading, part) in sections.items()),
        ],
        footer=footer(provenance),
    )  # fmt: skip


def _next_steps(alike: bool, defects: int) -> Iterator[str]:
    if not alike:
        yield "Train on these patterns, or on some of them: `ewaldflow rrvae train`."
    elif defects:
        yield f"Look at the {defects} places that are left unexplained."
    else:
        yield "Use the maps; nothing is left unexplained."


def warnings(mapped: Mapped, trained: str) -> list[Safe]:
    """What speaks against using the maps, the most important first."""
    out = []
    if not mapped.applied.in_distribution:
        why = "; ".join(one.rstrip(".") for one in mapped.applied.reasons)
        out.append(html.paragraph(f"Out of distribution: {why}.", warn=True))
    if trained and trained != TRUSTED:
        out.append(
            html.paragraph(f"The verdict on the model's training was: {trained}.", warn=True)
        )
    return out + warning(mapped.prepared)


def _lead(mapped: Mapped, model: str) -> str:
    if mapped.applied.in_distribution:
        return f"These patterns are like those that {model} was trained on."
    return f"These patterns are not like those that {model} was trained on: do not use its maps."


def _maps(mapped: Mapped, best: int) -> Safe:
    content = mapped.applied.latents.leading[best]
    drawn = figures.beside_baselines(
        mapped.maps, mapped.maps.content[best][..., content], best, mapped.agreements[best],
        mapped.baselines, mapped.prepared.com_unit,
    )  # fmt: skip
    return html.figure(
        drawn,
        "magnitude and rotation maps of the network, the centre of mass and two baselines",
        f"Above: what does not turn with the pattern. Below: its rotation. The network's (seed "
        f"{best}) is beside three things that need no network. Angles are turned, and mirrored "
        "where needed, to agree with the centre of mass on the whole.",
        raster=True,
    )


def _unlike(mapped: Mapped) -> Safe:
    part = mapped.applied.unlike.mean()
    told = html.paragraph(
        f"{part:.1%} of the patterns are explained worse than 99 % of those trained on; 1 % is "
        "what a scan of the same kind has."
    )
    if not np.nansum(mapped.unlike):
        return told
    drawn = html.figure(
        figures.where(mapped.unlike, "explained worse"),
        "where patterns are unlike those trained on",
        "Dark: patterns explained worse than 99 % of those trained on.",
        raster=True,
    )
    return Safe(told + drawn)
