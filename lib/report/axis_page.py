"""The page of a rotation axis: the search, the refinement, and how well series agree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from ..artefacts.manifest import Manifest
from ..orientation.rotation_axis import AxisCalibration
from . import html
from .frame_figures import tidy
from .html import BLUE, LATTICE_COLOURS, VERMILION, Safe
from .notation import rounded, with_esd
from .provenance import provenance_section

_SEARCHES_SHOWN = 6


def axis_page(
    name: str,
    calibration: AxisCalibration,
    failed: Mapping[str, str],
    file: str,
    version: str,
    provenance: Sequence[Manifest] = (),
) -> str:
    """The page as HTML text.

    Parameters
    ----------
    name : of the calibration.
    calibration : what was found.
    failed : series that tell no axis, and why.
    file : YAML beside the page.
    version : of the code.
    provenance : manifests of all it came from, raw side first.
    """
    told = {
        "search": ("The search", _search(calibration)),
        "series": ("Series", _series(calibration, failed)),
        "programs": ("As programs are told it", _programs(calibration, file)),
        "notes": ("Notes", html.bullets(calibration.notes) if calibration.notes
                  else html.paragraph("None.")),
    }  # fmt: skip
    if provenance:
        told["provenance"] = ("Provenance", provenance_section(provenance))
    n = len(calibration.series)
    return html.page(
        title=name,
        over="Calibration of the rotation axis",
        lead=f"From {n} indexed series{'' if not failed else f'; {len(failed)} tell no axis'}.",
        body=[
            html.facts({
                "Azimuth": f"{with_esd(calibration.azimuth_deg, calibration.azimuth_sd_deg, 3)}°",
                "Elevation": f"{with_esd(calibration.elevation_deg, calibration.elevation_sd_deg)}"
                "°",
                "Series": n,
                "Scatter among them": f"{calibration.scatter_deg:.3f}°" if n > 1 else "one series",
            }),
            html.advice(_next_steps(calibration, failed, file)),
            html.contents({anchor: heading for anchor, (heading, _) in told.items()}),
            *(html.section(anchor, heading, part) for anchor, (heading, part) in told.items()),
        ],
        footer=f"Made by Ewaldflow {version}. This page needs no network.",
    )  # fmt: skip


def _next_steps(
    calibration: AxisCalibration, failed: Mapping[str, str], file: str
) -> Iterator[str]:
    if failed:
        yield f"{len(failed)} series tell no axis: the table says why."
    if len(calibration.series) == 1:
        yield "Repeat it with a series of another crystal: one cannot tell how far series scatter."
    yield f"Put the axis into the YAML of the instrument as {file} has it."


def _search(calibration: AxisCalibration) -> Safe:
    shown = calibration.series[:_SEARCHES_SHOWN]
    drawing = Figure(figsize=(10, 3.8), layout="constrained")
    wide, near = drawing.subplots(1, 2)
    for k, one in enumerate(shown):
        colour = LATTICE_COLOURS[k % len(LATTICE_COLOURS)]
        for panel, grids in ((wide, one.grids[:1]), (near, one.grids[1:])):
            for grid, style in zip(grids, ("-o", "-"), strict=False):
                # grids have tolerances of their own, and so levels
                level = 1.0 if panel is wide else float(grid.matched.max())
                panel.plot(
                    grid.azimuth_deg, grid.matched / level, style, ms=3, lw=1.1, color=colour
                )
        near.axvline(one.azimuth_deg, color=colour, lw=0.9, ls="--")
    wide.set(xlabel="azimuth of the axis / °", ylabel="spots matched", ylim=(0, 1.02),
             title="first grid")  # fmt: skip
    near.set(xlabel="azimuth of the axis / °", ylabel="over the best of its grid",
             title="finer grids; dashed: refined")  # fmt: skip
    for panel in (wide, near):
        panel.title.set_fontsize(10)
        tidy(panel)
    return html.figure(
        drawing,
        "spots matched against the azimuth of the axis",
        "Part of the spots that a lattice fitted with each trial axis predicts, each counted by "
        "its distance. A wrong cell, camera length or distortion lowers the peak and moves it.",
    )


def _series(calibration: AxisCalibration, failed: Mapping[str, str]) -> Safe:
    rows: list[list[object]] = [
        [one.name, f"{one.said_deg:.3f}", f"{one.searched_deg:.2f}",
         with_esd(one.azimuth_deg, one.azimuth_sd_deg, 3),
         with_esd(one.elevation_deg, one.elevation_sd_deg, 3), one.n_spots, f"{one.matched:.0%}",
         rounded(one.rms_px, 2), "opposite sense?" if one.reversed else ""]
        for one in calibration.series
    ]  # fmt: skip
    rows += [[said, "", "", "", "", "", "", "", why] for said, why in failed.items()]
    table = html.table(
        ["Series", "reduced with / °", "search / °", "refined / °", "elevation / °", "spots",
         "matched", "r.m.s. / px", "remark"],
        rows,
        numeric=(1, 2, 3, 4, 5, 6, 7),
        row_classes=[""] * len(calibration.series) + ["failed"] * len(failed),
        caption="Azimuths run from columns (x) towards rows (y).",
    )  # fmt: skip
    if len(calibration.series) < 2:
        return table
    return Safe(table + html.figure(_agreement(calibration), "azimuth by each series",
                "Refined azimuths with their errors; shaded: the mean with its error, scatter "
                "among series included."))  # fmt: skip


def _agreement(calibration: AxisCalibration) -> Figure:
    drawing = Figure(figsize=(10, 3.0), layout="constrained")
    panel = drawing.subplots()
    mean, sd = calibration.azimuth_deg, calibration.azimuth_sd_deg
    azimuth = np.array([one.azimuth_deg for one in calibration.series])
    # an axis and its opposite are one
    azimuth = mean + (azimuth - mean + 90) % 180 - 90
    errors = [one.azimuth_sd_deg for one in calibration.series]
    x = np.arange(len(azimuth))
    panel.axhspan(mean - sd, mean + sd, color=BLUE, alpha=0.15, lw=0)
    panel.axhline(mean, color=BLUE, lw=1)
    panel.errorbar(x, azimuth, errors, fmt="o", ms=5, capsize=3, color=VERMILION)
    panel.set_xticks(x, [one.name for one in calibration.series], rotation=20, ha="right",
                     fontsize=8)  # fmt: skip
    panel.set_ylabel("azimuth / °")
    panel.ticklabel_format(axis="y", useOffset=False)
    tidy(panel)
    return drawing


def _programs(calibration: AxisCalibration, file: str) -> Safe:
    x, y, z = calibration.axis
    rows = [
        ["our instrument", f"rotation_axis: [{x:.6f}, {y:.6f}, {z:.6f}]"],
        ["XDS", f"ROTATION_AXIS= {x:.6f} {y:.6f} {z:.6f}"],
        ["DIALS", f"geometry.goniometer.axes={x:.6f},{-y:.6f},{-z:.6f}"],
        ["instamatic", f"{calibration.instamatic_rad:.5f} rad"],
        ["PETS2", f"omega {calibration.pets_omega_deg:.4f}°"],
    ]
    link = Safe(f'Beside this page: <a href="{html.escape(file)}">{html.escape(file)}</a>.')
    return Safe(
        html.table(["Program", "axis"], [[a, Safe(f"<code>{html.escape(b)}</code>")]
                                         for a, b in rows])
        + html.paragraph(link)
    )  # fmt: skip
