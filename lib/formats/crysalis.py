"""Frames for CrysAlisPro: Esperanto images, with the .run of one omega scan and the .set of a mask.

Images are square, of a multiple of four pixels, padded with zeros to the right and below, and then
turned by half a turn, as CrysAlisPro looks at the detector from the sample with its origin below
(so does fabio's eiger2crysalis; the conversion was not tried in CrysAlisPro itself).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from ..geometry import centre_to_corner
from ..series.rotation_series import RotationSeries
from .mask import rectangles
from .source import runs
from .write import PixelCast, Writer, WriteReport, blocks, even_step_deg, new_folder, untold

SUFFIX = ".esperanto"
_SMALLEST, _LARGEST, _MULTIPLE = 256, 4096, 4
_KAPPA_ALPHA_DEG = 50.0  # of the goniometer that CrysAlisPro expects; of no effect in an omega scan


def side_px(shape: tuple[int, int]) -> int:
    """Of the square image that frames (rows, columns) are put into."""
    longest = -(-max(*shape, _SMALLEST) // _MULTIPLE) * _MULTIPLE
    if longest > _LARGEST:
        raise UserError(
            "frames", f"{shape[0]} x {shape[1]} pixels", f"at most {_LARGEST} along a side",
            "bin them",
        )  # fmt: skip
    return longest


def write_crysalis(series: RotationSeries, folder: str | Path) -> WriteReport:
    """Write ``NAME_1_N.esperanto``, ``NAME.run`` and ``NAME.set``.

    Raises
    ------
    UserError : no frames, nothing rotates, missing frames, frames too large, or the folder cannot
        be written or holds such frames.
    """
    from fabio import xcaliburimage
    from fabio.esperantoimage import EsperantoImage

    folder = Path(folder)
    step, side = even_step_deg(series), side_px(series.shape)
    if len(runs(series.frame_number.tolist())) > 1:
        raise UserError(
            series.name, "missing frames", "an unbroken series, as a run of CrysAlisPro is",
            "choose an unbroken part (--frames FIRST LAST)",
        )  # fmt: skip
    x, y, _ = series.geometry.axis
    axis_deg = float(np.rad2deg(np.arctan2(y, x)))
    notes = untold(series, "CrysAlisPro")
    notes.append(
        f"the rotation axis, {axis_deg:.2f} degrees from the columns' direction towards the rows' "
        "in the frames as they were, is not told to CrysAlisPro: refine it, or state it, there"
    )
    headers = _headers(series, side)
    start = float(series.angle_start_deg[0])
    cast = PixelCast(np.dtype(np.int32))
    name = series.name.replace(" ", "-")
    rows, columns = series.shape
    files = []
    with new_folder(folder, SUFFIX):
        for first, block in blocks(series):
            for n, pixels in enumerate(cast(block), first):
                whole = np.zeros((side, side), np.int32)
                whole[:rows, :columns] = pixels
                image: Any = EsperantoImage(data=np.ascontiguousarray(whole[::-1, ::-1]))
                image.header.update(headers)
                image.header["dom_s"], image.header["dom_e"] = (
                    start + step * n, start + step * (n + 1),
                )  # fmt: skip
                files.append(folder / f"{name}_1_{n + 1}{SUFFIX}")
                image.write(str(files[-1]))
        sweep = xcaliburimage.Sweep(
            0, xcaliburimage.SCAN_TYPE.Omega.value, domega=0.0, dtheta=0.0, dkappa=0.0, dphi=0.0,
            dstart=start, dend=start + step * len(series), dwidth=step, dunknown2=0.0,
            iunknown3=len(series), iunknown4=0, iunknown5=len(series), iunknown6=0,
            dexposure=series.exposure_s or 0.0,
        )  # fmt: skip
        run = xcaliburimage.RunDescription(name, str(folder.absolute()), pssweep=[sweep])
        run.save(str(folder / f"{name}.run"))
        (folder / f"{name}.set").write_bytes(_mask(series, side))
    return cast.report(files, notes)


def _headers(series: RotationSeries, side: int) -> dict[str, Any]:
    geometry = series.geometry
    x_px, y_px = centre_to_corner(geometry.beam_centre_px)
    wavelength = geometry.wavelength_A
    top = np.iinfo(np.int32).max if series.saturation is None else int(series.saturation)
    return {
        "delectronsperadu": series.gain or 1.0,
        "loverflowthreshold": top,
        "dexposuretimeinsec": series.exposure_s or 0.0,
        "drealpixelsizex": geometry.pixel_size_mm,
        "drealpixelsizey": geometry.pixel_size_mm,
        "dsithicknessmmforpixeldetector": 0.0,
        "dth_s": 0.0, "dth_e": 0.0, "dka_s": 0.0, "dka_e": 0.0, "dph_s": 0.0, "dph_e": 0.0,
        "dbeam2indeg": 0.0, "dbeam3indeg": 0.0,
        "detectorrotindeg_x": 0.0, "detectorrotindeg_y": 0.0, "detectorrotindeg_z": 0.0,
        "dxorigininpix": side - x_px,
        "dyorigininpix": side - y_px,
        "dalphaindeg": _KAPPA_ALPHA_DEG,
        "dbetaindeg": 0.0,
        "ddistanceinmm": geometry.distance_mm,
        "dzerocorrectionsoftindeg_om": 0.0, "dzerocorrectionsoftindeg_th": 0.0,
        "dzerocorrectionsoftindeg_ka": 0.0, "dzerocorrectionsoftindeg_ph": 0.0,
        "dalpha1": wavelength, "dalpha2": wavelength, "dalpha12": wavelength, "dbeta1": wavelength,
        "ddvalue-prepolfac": 0.5,
        "orientation-type": "SYNCHROTRON",
        "labstorunscale": 1,
    }  # fmt: skip


def _mask(series: RotationSeries, side: int) -> bytes:
    """Rectangles left out, ends included, in the turned image."""
    masked = np.ones((side, side), bool)
    masked[: series.shape[0], : series.shape[1]] = series.mask
    lines = [
        "#XCALIBUR SYSTEM", "#XCALIBUR SETUP FILE", "#CHIP BADRECTANGLE xl xr yb yt",
        *(f"CHIP BADRECTANGLE {c0} {c1} {r0} {r1}"
          for r0, r1, c0, c1 in rectangles(masked[::-1, ::-1])),
        "#END OF XCALIBUR CHIP CHARACTERISTICS FILE", "",
    ]  # fmt: skip
    return "\r\n".join(lines).encode("ascii")


WRITER = Writer("CrysAlis", SUFFIX, write_crysalis, complete=True)
