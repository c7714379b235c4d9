"""The page of a sweep: trainings with other choices or seeds, side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..artefacts.manifest import Manifest
from ..rrvae.trust import TRUSTED
from . import html
from . import rrvae_figures as figures
from .html import Safe
from .notation import duration, rounded
from .provenance import provenance_section


@dataclass(frozen=True)
class Trained:
    """One training.

    Attributes
    ----------
    label : what was tried.
    figures : of merit, see `figures_of`; empty if it failed.
    reason : why it failed.
    link : to its page.
    seconds : that it took.
    """

    label: str
    figures: Mapping[str, Any]
    reason: str
    link: str
    seconds: float


def rrvae_sweep_page(
    name: str, points: Sequence[Trained], version: str, provenance: Sequence[Manifest] = ()
) -> str:
    """The page as HTML text; `provenance`: manifests of all it came from, raw side first."""
    made = [one for one in points if one.link]
    trusted = [one for one in made if one.figures["verdict"] == TRUSTED]
    rows, classes = [], []
    for one in points:
        if not one.link:
            rows.append([one.label, one.reason, *[""] * 8])
            classes.append("failed")
            continue
        f = one.figures
        rows.append([
            Safe(f'<a href="{html.escape(one.link)}">{html.escape(one.label)}</a>'),
            f["verdict"], f"{f['content_accepted']} + {f['angle_accepted']} of {f['seeds']}",
            *(_number(f, key, digits) for key, digits in
              (("held_out_gain", 2), ("content_r", 4), ("pearson", 4), ("circular_R", 4),
               ("harmonic_pearson", 4))),
            f["defects"], duration(one.seconds),
        ])  # fmt: skip
        classes.append("")
    table = html.table(
        ["Tried", "verdict", "content + angle accepted", "held-out gain / nats", "estimated r",
         "|r| with COM", "R with COM", "|r| of the first harmonic", "defects", "time"],
        rows, numeric=(3, 4, 5, 6, 7, 8, 9), row_classes=classes,
        caption="Every line leads to a page of its own. Gains can be compared only where patterns "
        "were prepared alike.",
    )  # fmt: skip
    body: list[str] = [
        html.facts({"Trainings": len(points), "Trusted": len(trusted),
                    "Failed": len(points) - len(made)}),
        html.advice(_next_steps(len(trusted), len(points) - len(made))),
        html.section("table", "Side by side", table),
    ]  # fmt: skip
    if made:
        values = {
            "|r| of the best seed with the COM": _column(made, "pearson"),
            "R of its angle": _column(made, "circular_R"),
            "|r| of the first circular harmonic": _column(made, "harmonic_pearson"),
        }
        drawn = html.figure(
            figures.sweep([one.label for one in made], values),
            "correlations of every training",
            "The first harmonic needs no network.",
        )
        body.append(html.section("figure", "Drawn", drawn))
    if provenance:
        body.append(html.section("provenance", "Provenance", provenance_section(provenance)))
    return html.page(
        title=name,
        over="Sweep of trainings (rrVAE)",
        lead=f"{len(trusted)} of {len(points)} trainings are trusted.",
        body=body,
        footer=f"Made by Ewaldflow {version}. This page needs no network.",
    )


def _next_steps(trusted: int, failed: int) -> Iterator[str]:
    if failed:
        yield f"{failed} trainings failed: the table says why."
    if trusted:
        yield "Take the trusted training with the largest held-out gain, and read its page."
    else:
        yield "None is to be trusted: use the centre of mass, or prepare the patterns otherwise."


def _number(figures_: Mapping[str, Any], key: str, digits: int) -> str:
    value = figures_.get(key)
    return "–" if value is None else rounded(float(value), digits)


def _column(made: Sequence[Trained], key: str) -> list[float]:
    return [float("nan") if one.figures.get(key) is None else one.figures[key] for one in made]
