"""A later image of a calibrated camera: its beam centre, as a PONI and a pyFAI integrator.

The functions of old are here under their names; see docs/rings_functions.md for what differs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError
from ..formats.image import DiffractionImage, read_image
from ..geometry import EllipticalDistortion
from .calibration import RingCalibration
from .direct_beam import direct_beam_centre
from .poni import calibration_of, to_integrator, with_centre
from .poni_file import Poni, read_poni_file, write_poni_file
from .recentre import NoRings, Recentred, recentre

Image = str | Path | DiffractionImage


@dataclass(frozen=True)
class Recalibrated:
    """One image of a batch.

    Attributes
    ----------
    path : of the image.
    recentred : where its beam is; None if that was not found.
    poni_file : the PONI written, or None.
    error : why not, one line; None if all went well.
    """

    path: str
    recentred: Recentred | None
    poni_file: Path | None
    error: str | None

    @property
    def integrator(self) -> Any:
        """pyFAI's AzimuthalIntegrator of the PONI written; None without one."""
        return None if self.poni_file is None else to_integrator(read_poni_file(self.poni_file))


def recalibrate_with_beamstop(
    dm4file: Image,
    ponifile: str | Path,
    threshold_rel: float = 0.5,
    min_size: int = 50,
    output_ponifile: str | Path | None = None,
    plot: bool = False,
    *,
    frame: int | None = None,
    distortion: EllipticalDistortion | None = None,
) -> Any:
    """pyFAI's AzimuthalIntegrator with the beam centre of an image, from its rings.

    Parameters
    ----------
    dm4file : an image of any format that `read_image` knows, or one already read.
    ponifile : calibration of the camera, of any version and orientation.
    threshold_rel, min_size : kept so that calls of old go on; rings are measured without a
        threshold, in single sectors, so that these have no effect.
    output_ponifile : where to write the PONI; what is there is replaced.
    plot : show the image with the rings and the centre found.
    frame : of a stack, counting from 1.
    distortion : ellipse of the lenses where the PONI does not tell (only ours do); else it is
        found on the image, which takes a second or two.

    Raises
    ------
    NoRings : a blank image or one whose rings do not tell the centre (also a ValueError).
    UserError : a damaged file, or image and PONI differ in shape.
    """
    image, poni, calibration = _opened(dm4file, ponifile, frame, distortion)
    found = recentre(image, calibration)
    return _finished(image, poni, calibration, found, output_ponifile, plot)


def recalibrate_no_beamstop(
    dm4file: Image,
    ponifile: str | Path,
    output_ponifile: str | Path | None = None,
    *,
    plot: bool = False,
    frame: int | None = None,
    distortion: EllipticalDistortion | None = None,
) -> Any:
    """The same for an image whose direct beam is seen: by its rings, else by the beam itself.

    The beam's centroid is used only where rings do not tell: it is found as the brightest spot of
    more than a pixel, saturated or not, never as the brightest pixel, which is often a hot one.
    """
    image, poni, calibration = _opened(dm4file, ponifile, frame, distortion)
    found = found_without_stop(image, calibration)
    return _finished(image, poni, calibration, found, output_ponifile, plot)


def recalibrate_batch(
    dm4files: Sequence[str | Path],
    ponifile: str | Path,
    output_folder: str | Path,
    *,
    beamstop: bool = True,
    distortion: EllipticalDistortion | None = None,
) -> tuple[Recalibrated, ...]:
    """Recalibrate many images, a PONI each (named as the image); a bad one stops no other.

    Raises
    ------
    UserError : the PONI cannot be read, the folder not be made, or two images have one name.
    """
    poni = read_poni_file(ponifile)
    folder = Path(output_folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            folder, str(error.strerror), "a folder for the PONI files", "give another"
        ) from None
    paths = [Path(path) for path in dm4files]
    names = [path.stem for path in paths]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UserError(
            folder, f"two images named {twice[0]}", "a name each", "give them folder by folder"
        )
    return tuple(_one(path, poni, folder, beamstop, distortion) for path in paths)


def found_without_stop(image: DiffractionImage, calibration: RingCalibration) -> Recentred:
    """The beam on an image without beam stop: by rings, else by the beam's own centroid.

    Raises
    ------
    NoRings : neither rings nor a direct beam.
    """
    try:
        return recentre(image, calibration)
    except NoRings as reason:
        found = direct_beam_centre(image)
        if found is None:
            raise
        centre, sd_px = found
        return Recentred(
            centre, sd_px**2 * np.eye(2), "direct beam",
            notes=(f"centroid of the direct beam: {reason.found}",),
        )  # fmt: skip


def _one(
    path: Path, poni: Poni, folder: Path, beamstop: bool, distortion: EllipticalDistortion | None
) -> Recalibrated:
    try:
        image = read_image(path)
        calibration = _calibration(image, poni, distortion)
        found = recentre(image, calibration) if beamstop else found_without_stop(image, calibration)
        written = write_poni_file(
            _moved(poni, image, found, calibration), folder / f"{path.stem}.poni"
        )
    except UserError as error:
        return Recalibrated(str(path), None, None, str(error))
    return Recalibrated(str(path), found, written, None)


def _opened(
    dm4file: Image, ponifile: str | Path, frame: int | None, distortion: EllipticalDistortion | None
) -> tuple[DiffractionImage, Poni, RingCalibration]:
    poni = read_poni_file(ponifile)
    image = dm4file if isinstance(dm4file, DiffractionImage) else read_image(dm4file, frame)
    return image, poni, _calibration(image, poni, distortion)


def _calibration(
    image: DiffractionImage, poni: Poni, distortion: EllipticalDistortion | None
) -> RingCalibration:
    """The PONI's calibration with an ellipse, for this image."""
    # without a wavelength the centre can be found, and only the scale not be checked
    wavelength = image.wavelength_A or float("nan")
    calibration = calibration_of(poni, wavelength_A=wavelength, shape=image.shape)
    told = "distortion" in poni.ours or poni.rot1_rad or poni.rot2_rad
    if distortion is None and not told:
        from .ellipse import distortion_of_image

        distortion = distortion_of_image(image.pixels)
    return calibration if distortion is None else replace(calibration, distortion=distortion)


def _moved(
    poni: Poni, image: DiffractionImage, found: Recentred, calibration: RingCalibration
) -> Poni:
    """The PONI for this image, with how well its centre is known in our comment."""
    poni = replace(poni, shape=calibration.shape)
    row_sd, column_sd = found.sd_px
    ours = dict(poni.ours) | {
        "image": image.name,
        "centre_by": found.method,
        "centre_sd_px": [round(row_sd, 4), round(column_sd, 4)],
    }
    ellipse = calibration.distortion
    ours["distortion"] = {"ratio": ellipse.ratio, "azimuth_deg": ellipse.azimuth_deg}
    return replace(with_centre(poni, found.beam_centre_px), ours=ours)


def _finished(
    image: DiffractionImage,
    poni: Poni,
    calibration: RingCalibration,
    found: Recentred,
    output_ponifile: str | Path | None,
    plot: bool,
) -> Any:
    moved = _moved(poni, image, found, calibration)
    if output_ponifile is not None:
        write_poni_file(moved, output_ponifile)
    if plot:
        show_recentred(image, calibration, found, moved.orientation)
    return to_integrator(moved)


def show_recentred(
    image: DiffractionImage, calibration: RingCalibration, found: Recentred, orientation: int = 3
) -> Any:
    """A matplotlib figure, shown where there is a display: image, rings, centre; returns it."""
    import matplotlib.pyplot as plt

    from .pixel_map import map_of

    pixels: NDArray[Any] = np.asarray(image.pixels, float)
    low, high = np.nanpercentile(pixels, [1, 99])
    figure, axes = plt.subplots(figsize=(8, 8))
    axes.imshow(pixels, cmap="gray", vmin=low, vmax=high)
    about = map_of(replace(calibration, beam_centre_px=found.beam_centre_px))
    turn = np.linspace(-np.pi, np.pi, 361)
    for radius in found.radii_px:
        row, column = about.to_pixel(radius, turn)
        axes.plot(column, row, color="red", lw=0.8)
    (row_px, column_px), (row_sd, column_sd) = found.beam_centre_px, found.sd_px
    text = f"row {row_px:.3f} ± {row_sd:.3f}, column {column_px:.3f} ± {column_sd:.3f}"
    axes.plot(column_px, row_px, "+", color="lime", ms=16, label=text)
    axes.set(
        title=f"{image.name}: by {found.method}, detector orientation {orientation}",
        xlim=(-0.5, pixels.shape[1] - 0.5), ylim=(pixels.shape[0] - 0.5, -0.5),
        xlabel="column (px)", ylabel="row (px)",
    )  # fmt: skip
    axes.legend(loc="upper right")
    if plt.get_backend().lower() != "agg":
        plt.show()
    return figure
