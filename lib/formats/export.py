"""A series as a folder that other programs can start from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ..errors import UserError
from ..series.rotation_series import RotationSeries
from .dials_script import write_dials_script
from .geo_corr import write_distortion_maps
from .registry import WRITERS
from .write import WriteReport, frame_template
from .xds_inp import NAME as XDS_INP
from .xds_inp import write_xds_inp

DIALS_SCRIPT = "dials_import.sh"


def write_series(series: RotationSeries, folder: str | Path, format: str = "SMV") -> WriteReport:
    """Write a series as one of the formats of `WRITERS`.

    SMV, CBF, TIFF and MRC: frames in ``folder/data``, an ``XDS.INP`` and, for SMV and CBF, a script
    for DIALS beside it. With SMV, XDS gets the lens's distortion as maps and DIALS its ellipse. The
    folder reads back as the same series: pixels, angles, geometry (but for distortion), mask, gaps.
    NXmx, PETS, REDp and CrysAlis: the files that the program of that name begins with.

    Parameters
    ----------
    format : SMV, CBF, TIFF, MRC, NXmx, PETS, REDp or CrysAlis, in any case.

    Raises
    ------
    UserError : an unknown format, or whatever the writers raise.
    """
    writer = next((one for one in WRITERS if one.name.lower() == format.lower()), None)
    if writer is None:
        known = ", ".join(one.name for one in WRITERS)
        raise UserError("format", f"'{format}'", f"one of {known}", "name one of these")
    folder = Path(folder)
    if writer.complete:
        return writer.write(series, folder)
    report = writer.write(series, folder / "data")
    template = f"data/{frame_template(series, writer.suffix)}"
    added = report.pedestal_added
    smv = writer.name == "SMV"
    maps = write_distortion_maps(series.geometry, series.shape, folder) if smv else None
    notes = [
        *report.notes,
        *write_xds_inp(
            series, folder / XDS_INP, template=template, pedestal_added=added, distortion_maps=maps
        ),
    ]
    if smv or writer.name == "CBF":
        notes += write_dials_script(
            series, folder / DIALS_SCRIPT, template=template, pedestal_added=added
        )
    return replace(report, notes=tuple(dict.fromkeys(notes)))
