"""The page that compares the goniometer over series and sessions: the drift chart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from ..artefacts.manifest import Manifest
from ..orientation.goniometer import GoniometerStudy
from ..orientation.series import OrientedSeries
from . import html
from . import orientation_figures as figures
from .html import Safe
from .notation import rounded, with_esd
from .orientation_page import wave_text
from .provenance import provenance_section


@dataclass(frozen=True)
class Visit:
    """One series by which a goniometer was seen.

    Attributes
    ----------
    name, instrument : of the series.
    when : it was read in.
    oriented : its orientations.
    link : where its page lies, relative to this one.
    earlier : kept from an earlier run.
    """

    name: str
    instrument: str
    when: datetime
    oriented: OrientedSeries
    link: str
    earlier: bool


def goniometer_page(
    title: str,
    visits: Sequence[Visit],
    failed: Mapping[str, str],
    version: str,
    provenance: Sequence[Manifest] = (),
) -> str:
    """The page as HTML text.

    Parameters
    ----------
    title : of the study.
    visits : oldest first.
    failed : series that could not be refined, and why.
    version : of the code.
    provenance : manifests of all it came from, raw side first.
    """
    visits = sorted(visits, key=lambda one: one.when)
    told = [one for one in visits if one.oriented.lattices[0].study is not None]
    jitter = [_study(one).jitter_along_deg for one in told]
    lead = "No series tells of single frames."
    if told:
        lead = (
            f"Jitter along the rotation {np.median(jitter):.3f}° in the median of {len(told)} "
            f"series, {min(jitter):.3f}° to {max(jitter):.3f}°."
        )
    sections: dict[str, tuple[str, Safe]] = {"series": ("Series", _table(visits, failed))}
    for instrument in dict.fromkeys(one.instrument for one in told):
        own = [one for one in told if one.instrument == instrument]
        sections[f"drift-{len(sections)}"] = (f"Drift of {instrument}", _drift(own))
    if provenance:
        sections["provenance"] = ("Provenance", provenance_section(provenance))
    return html.page(
        title=title,
        over="Goniometer",
        lead=lead,
        body=[
            html.facts(
                {"Series": len(visits), "Failed": len(failed),
                 "Instruments": len({one.instrument for one in visits})}
            ),
            html.advice(_next_steps(len(told), failed)),
            html.contents({anchor: heading for anchor, (heading, _) in sections.items()}),
            *(html.section(anchor, heading, part) for anchor, (heading, part) in sections.items()),
        ],
        footer=f"Made by Ewaldflow {version}. This page needs no network.",
    )  # fmt: skip


def _next_steps(told: int, failed: Mapping[str, str]) -> Iterator[str]:
    if failed:
        yield f"{len(failed)} series could not be refined: the table says why."
    if told > 1:
        yield (
            "Where the chart drifts or jitter grows, have the goniometer looked at; until then "
            "integrate with the orientations of single frames."
        )
    elif told:
        yield "One series tells little of an instrument: orient more, then drift can be told."
    else:
        yield "Orient series with more spots on each frame."


def _study(visit: Visit) -> GoniometerStudy:
    study = visit.oriented.lattices[0].study
    assert study is not None
    return study


def _with_halves(jitter: float, by_halves: float) -> str:
    return f"{rounded(jitter, 4)} [{rounded(by_halves, 4)}]"


def _table(visits: Sequence[Visit], failed: Mapping[str, str]) -> Safe:
    rows: list[list[object]] = []
    for one in visits:
        lattice = one.oriented.lattices[0]
        study = lattice.study
        name = Safe(f'<a href="{html.escape(one.link)}">{html.escape(one.name)}</a>')
        start: list[object] = [name, one.instrument, f"{one.when:%Y-%m-%d}",
                               len(one.oriented.frame_number)]  # fmt: skip
        if study is None:
            rows.append([*start, "", "", "", with_esd(lattice.found.rotation_scale, float("nan")),
                         "", "", "", "single frames are not known"])  # fmt: skip
            continue
        rows.append(
            [*start, _with_halves(study.jitter_along_deg, study.half_jitter_along_deg),
             _with_halves(study.jitter_perp_deg, study.half_jitter_perp_deg),
             rounded(study.spread.true_sd, 4), with_esd(study.scale, study.scale_sd),
             rounded(study.backlash_deg, 3), wave_text(study.in_plane.best),
             wave_text(study.out_of_plane.best), "earlier" if one.earlier else ""]
        )  # fmt: skip
    rows += [[name, "", "", "", "", "", "", "", "", "", "", reason]
             for name, reason in failed.items()]  # fmt: skip
    return html.table(
        ["Series", "instrument", "read in", "frames", "jitter along / °", "across / °",
         "steps scatter / °", "rotation / read-out", "backlash / °", "wave in plane",
         "wave out of plane", "remark"],
        rows,
        numeric=(3, 4, 5, 6, 7, 8),
        row_classes=[""] * len(visits) + ["failed"] * len(failed),
        caption="Oldest first. Jitter and scatter without the errors of the orientations; in "
        "brackets what two halves of the reflections agree on.",
    )  # fmt: skip


def _drift(visits: Sequence[Visit]) -> Safe:
    labels = [f"{one.name} {one.when:%m-%d}" for one in visits]
    studies = [_study(one) for one in visits]
    nothing = [float("nan")] * len(visits)
    quantities = {
        "jitter along / °": ([s.jitter_along_deg for s in studies], nothing),
        "jitter across / °": ([s.jitter_perp_deg for s in studies], nothing),
        "rotation / read-out": ([s.scale for s in studies], [s.scale_sd for s in studies]),
        "wave in plane / °": (
            [s.in_plane.best.amplitude for s in studies],
            [s.in_plane.best.amplitude_sd for s in studies],
        ),
        "wave out of plane / °": (
            [s.out_of_plane.best.amplitude for s in studies],
            [s.out_of_plane.best.amplitude_sd for s in studies],
        ),
    }
    return html.figure(
        figures.drift(
            labels,
            [values for values, _ in quantities.values()],
            [errors for _, errors in quantities.values()],
            list(quantities),
        ),
        "figures of the goniometer over time",
        "A point for each series, oldest first; dotted: the median. Errors of one standard "
        "deviation where they are known.",
    )
