"""The page that compares calibrations by rings over time: has the microscope moved?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from ..artefacts.manifest import Manifest
from ..errors import UserError
from ..rings.calibration import RingCalibration
from ..rings.camera_lengths import camera_lengths
from ..rings.drift import Drift, DriftLimits
from . import html
from . import ring_figures as figures
from .html import Safe
from .notation import rounded, with_esd
from .provenance import provenance_section
from .rings_page import lengths_section


@dataclass(frozen=True)
class Dated:
    """One calibration in the course of time.

    Attributes
    ----------
    ref : reference of its artefact.
    when : it was made.
    calibration : itself.
    link : where its page lies, relative to this one.
    """

    ref: str
    when: datetime
    calibration: RingCalibration
    link: str


def ring_drift_page(
    title: str,
    same: Sequence[Dated],
    others: Sequence[Dated],
    drift: Drift | None,
    limits: DriftLimits,
    version: str,
    provenance: Sequence[Manifest] = (),
) -> str:
    """The page as HTML text.

    Parameters
    ----------
    title : name of the calibration.
    same : all calibrations of this camera and setting, oldest first; the last is looked at.
    others : those of the camera at other camera lengths.
    drift : the last compared with the one before; None if there is none.
    limits : from which on a person is warned.
    version : of the code.
    provenance : manifests of all it came from, raw side first.
    """
    sections: dict[str, tuple[str, Safe]] = {
        "change": ("Since the last calibration", _change(drift)),
        "time": ("Drift over time", _over_time(same, limits)),
        "table": ("Calibrations", _table(same)),
    }
    if (lengths := _lengths([*others, *same])) is not None:
        sections["lengths"] = ("Camera lengths", lengths)
    if provenance:
        sections["provenance"] = ("Provenance", provenance_section(provenance))
    warnings = drift.warnings if drift else ()
    lead = (
        "This is the first calibration of this camera and camera length."
        if drift is None
        else f"{len(warnings)} of {len(drift.changes)} quantities moved beyond their limits since "
        f"{drift.since}."
        if warnings
        else f"Nothing moved beyond its limits since {drift.since}."
    )
    return html.page(
        title=title,
        over="Drift of the calibration",
        lead=lead,
        body=[
            html.facts({"Calibrations": len(same), "Warnings": len(warnings)}),
            html.advice(_next_steps(warnings, len(same))),
            html.contents({anchor: heading for anchor, (heading, _) in sections.items()}),
            *(html.section(anchor, heading, part) for anchor, (heading, part) in sections.items()),
        ],
        footer=f"Made by Ewaldflow {version}. This page needs no network.",
    )


def _next_steps(warnings: Sequence[str], n: int) -> Iterator[str]:
    if warnings:
        yield (
            "Take another image of the powder at the same settings. If it says the same, use the "
            "new calibration for what was collected since, and find out what moved."
        )
    elif n == 1:
        yield "Calibrate again in a week or after a service: then drift can be told."
    else:
        yield "Go on with the latest calibration."


def _change(drift: Drift | None) -> Safe:
    if drift is None:
        return html.paragraph("There is none to compare with.")
    rows = [
        [one.what, f"{one.before:.5g}", f"{one.now:.5g}", f"{one.change:+.3g}", rounded(one.sd, 4),
         f"{one.limit:g}", "beyond" if one.warns else "within"]
        for one in drift.changes
    ]  # fmt: skip
    words = "".join(html.paragraph(text[:1].upper() + text[1:] + ".", warn=True)
                    for text in drift.warnings)  # fmt: skip
    return Safe(
        words
        + html.table(
            ["Quantity", drift.since, "now", "change", "its error", "limit", ""],
            rows,
            numeric=(1, 2, 3, 4, 5),
            row_classes=["failed" if one.warns else "" for one in drift.changes],
            caption="The change of the camera length is in %, that of the ellipse the difference "
            "of the axes of one ellipse seen through the other.",
        )
    )


def _over_time(same: Sequence[Dated], limits: DriftLimits) -> Safe:
    if len(same) < 2:
        return html.paragraph("One calibration makes no course.")
    all_ = [one.calibration for one in same]
    reference = all_[-2]
    quantities = {
        "camera length / mm": (
            [c.distance_mm for c in all_], [c.sd("distance_mm") for c in all_],
            limits.distance_percent / 100 * reference.distance_mm,
        ),
        "centre, row / px": (
            [c.beam_centre_px[0] for c in all_], [c.sd("beam_row_px") for c in all_],
            limits.centre_px,
        ),
        "centre, column / px": (
            [c.beam_centre_px[1] for c in all_], [c.sd("beam_column_px") for c in all_],
            limits.centre_px,
        ),
        "ellipse, ratio": (
            [c.distortion.ratio for c in all_], [c.sd("ratio") for c in all_], limits.ellipse
        ),
        "ellipse, azimuth / °": (
            [c.distortion.azimuth_deg for c in all_], [c.sd("azimuth_deg") for c in all_],
            float("nan"),
        ),
    }  # fmt: skip
    values, errors, bands = zip(*quantities.values(), strict=True)
    return html.figure(
        figures.drift_over_time([one.when for one in same], values, errors, list(quantities),
                                bands),
        "the calibration over time",
        "A point for each calibration, oldest first, errors of one standard deviation. Shaded: no "
        "warning about the last one.",
    )  # fmt: skip


def _table(same: Sequence[Dated]) -> Safe:
    rows = []
    for one in reversed(same):
        c = one.calibration
        rows.append([
            f"{one.when:%Y-%m-%d %H:%M}",
            Safe(f'<a href="{html.escape(one.link)}">{html.escape(one.ref)}</a>'),
            c.name, c.calibrant, with_esd(c.distance_mm, c.sd("distance_mm"), 2),
            with_esd(c.beam_centre_px[0], c.sd("beam_row_px"), 2),
            with_esd(c.beam_centre_px[1], c.sd("beam_column_px"), 2),
            with_esd(c.distortion.ratio, c.sd("ratio"), 4),
            with_esd(c.distortion.azimuth_deg, c.sd("azimuth_deg"), 1),
        ])  # fmt: skip
    return html.table(
        ["Made (UTC)", "artefact", "image", "calibrant", "camera length / mm", "row / px",
         "column / px", "ratio", "azimuth / °"],
        rows,
        numeric=(4, 5, 6, 7, 8),
        caption="Newest first.",
    )  # fmt: skip


def _lengths(dated: Sequence[Dated]) -> Safe | None:
    """The latest calibration of each camera length."""
    latest: dict[float, RingCalibration] = {}
    for one in sorted(dated, key=lambda one: one.when):
        if one.calibration.camera_length_mm:
            latest[one.calibration.camera_length_mm] = one.calibration
    if len(latest) < 2:
        return None
    try:
        return lengths_section(camera_lengths(list(latest.values())))
    except UserError as error:
        return html.paragraph(error)
