"""The page of an old calibration held against a new scan."""

from __future__ import annotations

from collections.abc import Sequence

from ..artefacts.manifest import Manifest
from ..overfocus.calibration import CALIBRATED, ScanCalibration
from ..overfocus.check import CANNOT_TELL, HOLDS, Check
from ..overfocus.views import Stage
from . import html
from . import overfocus_figures as figures
from .html import Safe
from .notation import rounded
from .overfocus_page import headline
from .provenance import provenance_section

_AGAIN = "Calibrate again with the new scan: `ewaldflow calibrate-overfocus`."
_NEXT = {
    HOLDS: "Go on with the old calibration.",
    CANNOT_TELL: "Take a scan with more detail or more counts, and check again.",
}


def check_page(
    found: Check, old: ScanCalibration, stages: Sequence[Stage], provenance: Sequence[Manifest]
) -> str:
    """The page as HTML text.

    Parameters
    ----------
    found : the comparison.
    old : the calibration that was checked.
    stages : the new scan with the old calibration, and with its own.
    provenance : manifests of the artefacts it came from.
    """
    rows = [
        ["scan rotation", f"{rounded(found.rotation_deg, 4)}°"],
        ["scale", f"{rounded(found.scale_percent, 4)} %"],
        ["descan error, largest element", f"{rounded(found.descan_px, 5)} px per scan step"],
    ]
    said = [["old", old.name, headline(old)], ["new", found.new.name, headline(found.new)]]
    table = html.table(["Difference, new less old", "value"], rows, numeric=(1,))
    parts = [html.section("numbers", "Differences", table, html.table(["", "scan", ""], said))]
    if stages:
        drawn = html.figure(
            figures.stages(stages),
            "control images with the old calibration and the new",
            "If the old calibration holds, its superposition of the new scan is as sharp.",
            raster=True,
        )
        parts.append(html.section("images", "Control images of the new scan", drawn))
    parts.append(html.section("notes", "Notes", html.bullets(found.reasons or ("None.",))))
    if provenance:
        parts.append(html.section("provenance", "Provenance", Safe(provenance_section(provenance))))
    lead = {
        HOLDS: "The old calibration holds.",
        CANNOT_TELL: "The new scan does not tell whether the old calibration holds.",
    }.get(found.verdict, "The old calibration does not hold.")
    facts = {"Verdict": found.verdict}
    if found.new.verdict == CALIBRATED:
        facts |= {
            "Rotation": f"{rounded(found.rotation_deg, 3)}°",
            "Scale": f"{rounded(found.scale_percent, 3)} %",
            "Descan": f"{rounded(found.descan_px, 4)} px",
        }
    return html.page(
        title=found.new.name,
        over=f"Check of the calibration by {old.name}",
        lead=lead,
        body=[html.facts(facts), html.advice([_NEXT.get(found.verdict, _AGAIN)]), *parts],
        footer="Made by Ewaldflow. This page needs no network.",
    )
