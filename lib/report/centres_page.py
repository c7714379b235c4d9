"""The page of images recentred together: where the beam was on each, and on which it was not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from ..artefacts.manifest import Manifest
from ..rings.centres import ImageCentres
from . import html
from . import ring_figures as figures
from .html import Safe
from .notation import rounded, with_esd
from .provenance import provenance_section

_ROWS_SHOWN = 60


def centres_page(
    name: str,
    centres: ImageCentres,
    files: Mapping[str, str],
    calibration: str,
    version: str,
    provenance: Sequence[Manifest] = (),
) -> str:
    """The page as HTML text.

    Parameters
    ----------
    name : of the set.
    centres : of all images.
    files : beside the page: what each is, by name.
    calibration : what they were recentred with, for people.
    version : of the code.
    provenance : manifests of all it came from, raw side first.
    """
    row, column = centres.column("row"), centres.column("column")
    good = np.isfinite(row)
    failed = int((~good).sum())
    sections: dict[str, tuple[str, Safe]] = {}
    if good.any():
        sections["centres"] = ("Where the beam was", _course(centres))
    sections["images"] = ("Images", _table(centres))
    sections["files"] = ("Files to go on with", _files(files))
    if provenance:
        sections["provenance"] = ("Provenance", provenance_section(provenance))
    lead = f"{int(good.sum())} of {len(good)} images recentred with {calibration}."
    facts: dict[str, object] = {"Images": len(good), "Failed": failed}
    if good.any():
        moved = np.hypot(
            row[good] - centres.calibration.beam_centre_px[0],
            column[good] - centres.calibration.beam_centre_px[1],
        )
        facts["From the calibration, median"] = f"{np.median(moved):.2f} px"
        facts["Error, median"] = f"{np.nanmedian(centres.column('sd_row')):.3f} px"
        scale = centres.column("scale")[good]
        if np.isfinite(scale).any():
            facts["Radii over the calibration's"] = f"{np.nanmedian(scale):.5f}"
    return html.page(
        title=name,
        over="Recentred images",
        lead=lead,
        body=[
            html.facts(facts),
            html.advice(_next_steps(failed, len(good))),
            html.contents({anchor: heading for anchor, (heading, _) in sections.items()}),
            *(html.section(anchor, heading, part) for anchor, (heading, part) in sections.items()),
        ],
        footer=f"Made by Ewaldflow {version}. This page needs no network.",
    )


def _next_steps(failed: int, n: int) -> Iterator[str]:
    if failed:
        yield (
            f"{failed} of {n} images have no centre: the table says why. Leave them out, or "
            "recalibrate nearer in time."
        )
    if failed < n:
        yield "Take the centres of the others from the files below."


def _course(centres: ImageCentres) -> Safe:
    return html.figure(
        figures.centres_of_images(
            centres.column("row"),
            centres.column("column"),
            centres.column("sd_row"),
            centres.column("sd_column"),
            centres.calibration.beam_centre_px,
        ),
        "beam centre of each image",
        "Left: in the order of the images, errors of one standard deviation; dotted: the "
        "calibration. Right: over the detector.",
    )


def _table(centres: ImageCentres) -> Safe:
    rows: list[list[object]] = []
    classes = []
    # the failed ones first: they are what a person looks for
    for one in sorted(centres.images, key=lambda one: one.found is not None):
        found = one.found
        classes.append("" if found else "failed")
        if found is None:
            rows.append([one.name, "", "", "", "", "", one.reason])
            continue
        sd_row, sd_column = found.sd_px
        rows.append([
            one.name, with_esd(found.beam_centre_px[0], sd_row, 3),
            with_esd(found.beam_centre_px[1], sd_column, 3),
            with_esd(found.scale, found.scale_sd, 5), f"{found.coverage:.0%}",
            rounded(found.residual_px, 3), " ".join([f"{found.method}.", *found.notes]),
        ])  # fmt: skip
    columns = [
        "Image",
        "row / px",
        "column / px",
        "radii",
        "seen",
        "residual / px",
        "by, or why not",
    ]
    numeric = (1, 2, 3, 4, 5)
    table = html.table(columns, rows[:_ROWS_SHOWN], numeric=numeric,
                       row_classes=classes[:_ROWS_SHOWN])  # fmt: skip
    if len(rows) <= _ROWS_SHOWN:
        return table
    rest = html.table(columns, rows[_ROWS_SHOWN:], numeric=numeric,
                      row_classes=classes[_ROWS_SHOWN:])  # fmt: skip
    return Safe(table + html.details(f"{len(rows) - _ROWS_SHOWN} more", rest))


def _files(files: Mapping[str, str]) -> Safe:
    rows = [
        [Safe(f'<a href="{html.escape(name)}">{html.escape(name)}</a>'), what]
        for name, what in files.items()
    ]
    return html.table(["File", "what it is"], rows)
