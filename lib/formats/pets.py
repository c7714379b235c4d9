"""A project of PETS2: frames as TIFF, ``NAME.pts`` that lists them, ``NAME.cenloc``.

PETS counts pixels from 1, x along columns and y along rows; omega is the direction of the tilt axis
(cos omega, -sin omega), and an image stands at the middle of its exposure. Source: real files of
PETS2, and L. Palatinus et al., Acta Cryst. B 75, 512 (2019); `orientation.from_pets` reads them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..crystal.cell import Cell
from ..errors import UserError
from ..geometry import centre_to_xds
from ..series.rotation_series import RotationSeries
from .tiff import write_tiff
from .write import Writer, WriteReport, even_step_deg, new_folder

_FRAMES = "tiff"
_OUT_OF_PLANE = 0.02


def write_pets(
    series: RotationSeries, folder: str | Path, *, cell: Cell | None = None
) -> WriteReport:
    """Write ``NAME.pts``, ``NAME.cenloc`` and the frames in ``tiff/``.

    Parameters
    ----------
    cell : reference cell, where one is known.

    Raises
    ------
    UserError : no frames, nothing rotates, an axis that is not in the plane of the detector, or
        the folder cannot be written or holds a project.
    """
    folder = Path(folder)
    step = even_step_deg(series)
    geometry = series.geometry
    x, y, z = geometry.axis
    if abs(z) > _OUT_OF_PLANE:
        raise UserError(
            series.name, f"a rotation axis with z = {z:.3f}", "one in the plane of the detector",
            "write for another program",
        )  # fmt: skip
    notes = []
    if geometry.distortion.ratio != 1 or geometry.radial_per_mm2:
        notes.append("the distortion of the lens is not told to PETS, which refines its own")
    if series.gain is None:
        notes.append("the gain is not known; noiseparameters say 1 count per electron")
    if series.mask.any():
        notes.append(f"PETS has no mask; {int(series.mask.sum())} masked pixels are as they were")
    with new_folder(folder, ".pts"):
        report = write_tiff(series, folder / _FRAMES)
        centre = centre_to_xds(geometry.beam_centre_px)
        reach = min(series.shape) / 2 * geometry.per_A_per_px
        saturation = "65535" if series.saturation is None else f"{series.saturation:.0f}"
        reference = "" if cell is None else "referencecell " + " ".join(f"{v:.5f}" for v in cell)
        lines = [
            f"# {series.name}: written by ewaldflow",
            *(f"# NOTE: {note}" for note in notes),
            f"lambda {geometry.wavelength_A:.9f}",
            "geometry continuous",
            f"omega {np.rad2deg(np.arctan2(-y, x)) % 360:.4f}",
            f"phi {abs(step) / 2:.5f}",
            "virtualframes 7 5 1",
            "",
            f"aperpixel {geometry.per_A_per_px:.9f}",
            f"noiseparameters {series.gain or 1.0:.4f} 1.0000",
            f"center {centre[0]:.3f} {centre[1]:.3f}",
            "beamstop no",
            f"dstarmax {reach:.3f}",
            "i/sigma 7.00 5.00",
            "reflectionsize 8.0",
            reference,
            f"saturationlimit {saturation}",
            "",
            "imagelist",
            *(
                f"{_FRAMES}\\{path.name} {alpha:10.4f} 0.0 0.0 1.0 0 0 0 1"
                for path, alpha in zip(report.files, series.angle_mid_deg, strict=True)
            ),
            "endimagelist",
            "",
        ]
        (folder / f"{series.name}.pts").write_text("\n".join(lines), encoding="latin-1")
        centres = series.beam_centres_px
        if centres is None:
            centres = np.tile(geometry.beam_centre_px, (len(series), 1))
        (folder / f"{series.name}.cenloc").write_text(
            "".join(f"{c + 1:10.3f}{r + 1:10.3f}{1:5d}\n" for r, c in centres), encoding="latin-1"
        )
    return WriteReport(report.files, notes=tuple(notes))


WRITER = Writer("PETS", ".tiff", write_pets, complete=True)
