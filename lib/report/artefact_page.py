"""The page of any artefact: its figures of merit, notes, files, and where it came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..artefacts.manifest import Manifest
from . import html
from .html import Safe
from .notation import duration
from .provenance import provenance_section

_FACTS = 6


@dataclass(frozen=True)
class Part:
    """A section that one kind has and others have not."""

    anchor: str
    heading: str
    content: Safe


def artefact_page(
    manifest: Manifest,
    provenance: Sequence[Manifest],
    links: Mapping[str, str],
    *,
    lead: str = "",
    steps: Sequence[str] = (),
    parts: Sequence[Part] = (),
) -> str:
    """The page as HTML text.

    Parameters
    ----------
    manifest : of the artefact.
    provenance : manifests of it and of all that it came from, raw side first.
    links : where each of its files lies, relative to the page, by name.
    lead : what it is in a sentence; its verdict, else.
    steps : what to do next.
    parts : before what every artefact has.
    """
    figures = manifest.figures_of_merit
    plain = {
        k.replace("_", " "): v
        for k, v in figures.items()
        if isinstance(v, int | float | str) and not isinstance(v, bool) and len(str(v)) < 40
    }
    sections = {one.anchor: (one.heading, one.content) for one in parts}
    if figures:
        sections["figures"] = ("Figures of merit", _figures(figures))
    if manifest.notes:
        sections["notes"] = ("Notes", html.bullets(manifest.notes))
    if links:
        sections["files"] = ("Files", _files(manifest, links))
    sections["provenance"] = ("Provenance", provenance_section(provenance))
    shown = {k: f"{v:.4g}" if isinstance(v, float) else v for k, v in plain.items()}
    facts = dict(list(shown.items())[:_FACTS]) | {"Made in": duration(manifest.seconds)}
    return html.page(
        title=manifest.name,
        over=f"{manifest.kind}, version {manifest.version}",
        lead=lead or str(figures.get("verdict", f"Made {manifest.finished:%Y-%m-%d %H:%M} UTC.")),
        body=[
            html.facts(facts),
            html.advice(steps),
            html.contents({anchor: heading for anchor, (heading, _) in sections.items()}),
            *(html.section(anchor, heading, part) for anchor, (heading, part) in sections.items()),
        ],
        footer=f"Made by Ewaldflow {manifest.code.version}. This page needs no network.",
    )


def flat(values: object, under: str = "") -> dict[str, object]:
    """Plain data as one level: keys joined by dots, lists as text."""
    if isinstance(values, Mapping):
        found: dict[str, object] = {}
        for key, value in values.items():
            found |= flat(value, f"{under}.{key}" if under else str(key))
        return found
    if isinstance(values, list):
        return {under: ", ".join(map(str, values))}
    return {under: values}


def _figures(figures: Mapping[str, object]) -> Safe:
    rows = [
        [key.replace("_", " "), html.Exact(_short(value), value)]
        for key, value in flat(figures).items()
    ]
    return html.table(["Figure", "value"], rows)


def _short(value: object) -> str:
    if value is None:
        return "–"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _files(manifest: Manifest, links: Mapping[str, str]) -> Safe:
    rows = [
        [
            Safe(f'<a href="{html.escape(links[name])}">{html.escape(name)}</a>'),
            manifest.files[f"files/{name}"].size,
            Safe(f"<code>{manifest.files[f'files/{name}'].sha256}</code>"),
        ]
        for name in links
    ]
    return html.table(["File", "bytes", "SHA-256"], rows, numeric=(1,))
