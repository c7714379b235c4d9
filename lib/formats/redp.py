"""A project of REDp: frames as MRC and ``1.ed3d`` that lists them, in a folder ``RED``.

REDp shows the first row of an MRC below, so that instamatic stores frames upside down, with a
machine stamp of its own by which they are known; so are these, for they are to be read alike.
Rotation axis in degrees, (cos, -sin) in the frame as it is looked at; an image stands at the
middle of its exposure. Source: files of instamatic 2.2.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..series.rotation_series import RotationSeries
from .mrc import INSTAMATIC_STAMP, STAMP_OFFSET, write_mrc
from .write import Writer, WriteReport, even_step_deg, new_folder, untold

_FRAMES = "RED"


def write_redp(series: RotationSeries, folder: str | Path) -> WriteReport:
    """Write ``RED/1.ed3d`` and the frames beside it.

    Raises
    ------
    UserError : no frames, nothing rotates, or the folder cannot be written or holds frames.
    """
    folder = Path(folder) / _FRAMES
    step, geometry = even_step_deg(series), series.geometry
    x, y, z = geometry.axis
    notes = untold(series, "REDp")
    if abs(z) > 0.02:
        notes.append(f"the rotation axis is out of the detector's plane by z = {z:.3f}")
    turned = series.with_(frames=series.frames[:, ::-1])
    report = write_mrc(turned, folder)
    for path in report.files:
        with path.open("r+b") as file:
            file.seek(STAMP_OFFSET)
            file.write(INSTAMATIC_STAMP)
    omega = float(np.rad2deg(np.arctan2(-y, x)))
    lines = [
        f"WAVELENGTH    {geometry.wavelength_A:.9f}",
        f"ROTATIONAXIS    {omega:.5f}",
        f"CCDPIXELSIZE    {geometry.per_A_per_px:.9f}",
        f"GONIOTILTSTEP    {abs(step):.5f}",
        "BEAMTILTSTEP    0",
        "BEAMTILTRANGE    0.000",
        "STRETCHINGMP    0.0",
        "STRETCHINGAZIMUTH    0.0",
        "",
        "FILELIST",
        *(
            f"FILE {path.name}    {alpha:12.4f}    0    {alpha:12.4f}"
            for path, alpha in zip(report.files, series.angle_mid_deg, strict=True)
        ),
        "ENDFILELIST",
        "",
    ]
    with new_folder(folder, ".ed3d"):
        (folder / "1.ed3d").write_text("\n".join(lines), encoding="ascii")
    return WriteReport(
        report.files, 0.0, report.n_clipped_low, report.n_clipped_high, report.n_rounded,
        report.n_not_finite, tuple(dict.fromkeys((*report.notes, *notes))),
    )  # fmt: skip


WRITER = Writer("REDp", ".mrc", write_redp, complete=True)
