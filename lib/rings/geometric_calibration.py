"""From a structure and an image of its powder to a PONI: by itself, or by hand in pyFAI-calib2."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from ..errors import UserError
from ..formats.image import DiffractionImage, read_image
from .calibrant import Calibrant
from .calibrants import load_calibrant
from .calibrate import calibrate_rings
from .calibration import CALIBRATED, RingCalibration
from .calibration_data import write_distances
from .config import RingConfig
from .poni import write_poni

_MOST_RINGS = 15


class NotCalibrated(UserError):
    """The rings were measured, but what came out is not to be trusted; `calibration` has it."""

    calibration: RingCalibration


def perform_geometric_calibration(
    cif_file: str | Path,
    dm4_file: str | Path | DiffractionImage,
    *,
    interactive: bool = False,
    config: RingConfig | None = None,
    start: RingCalibration | None = None,
    frame: int | None = None,
    output_folder: str | Path = ".",
    orientation: int = 3,
) -> RingCalibration:
    """Calibrate the camera from an image of powder rings, and write ``<image>.poni``.

    Also writes ``distances.txt``, the spacings of the calibrant's 15 strongest rings in range, and
    (`interactive`) opens pyFAI-calib2 with everything filled in that can be, starting from the
    calibration found, its tilts fixed at zero: free ones would take up the ellipse of the lenses.

    Parameters
    ----------
    cif_file : structure of the powder, or the name of a calibrant ("gold").
    dm4_file : image of any format that `read_image` knows, or one already read.
    interactive : open pyFAI-calib2 (it needs a display and Qt, as from ``pip install PySide6``).
    config : choices, and what the file does not state (wavelength, pixel size).
    start : an earlier calibration.
    frame : of a stack, counting from 1.
    output_folder : where the files go; PONI files there of this name are replaced.
    orientation : of the detector in the PONI.

    Raises
    ------
    NotCalibrated : the result is not to be trusted; nothing but distances.txt is written.
    UserError : whatever is wrong with the files; `interactive` without a display.
    """
    if interactive:
        check_display()
    image = dm4_file if isinstance(dm4_file, DiffractionImage) else read_image(dm4_file, frame)
    calibrant = load_calibrant(cif_file)
    calibration = calibrate_rings([image], calibrant, config, start)
    folder = Path(output_folder)
    distances = _distances(calibrant, calibration, folder)
    poni = folder / f"{image.name}.poni"
    if calibration.verdict == CALIBRATED:
        write_poni(calibration, poni, orientation=orientation)
    elif not interactive:
        error = NotCalibrated(
            image.path or image.name, "; ".join(calibration.reasons), "rings that agree",
            "check calibrant, voltage and image",
        )  # fmt: skip
        error.calibration = calibration
        raise error
    if interactive:
        _calib2(image, calibration, distances, poni if poni.exists() else None)
    return calibration


def check_display() -> None:
    """Raise UserError where windows cannot be opened."""
    has = sys.platform in {"win32", "darwin"} or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")
    )
    if not has:
        raise UserError(
            "interactive", "no display", "a screen (DISPLAY or WAYLAND_DISPLAY)",
            "calibrate without interactive, or on a desktop",
        )  # fmt: skip


def _distances(calibrant: Calibrant, calibration: RingCalibration, folder: Path) -> Path:
    """Write the strongest spacings that the detector can see."""
    rows, columns = calibration.shape
    corner_mm = calibration.pixel_size_mm * np.hypot(rows, columns)
    angle = np.arctan(corner_mm / calibration.distance_mm)
    seen = calibrant.d_A > calibration.wavelength_A / (2 * np.sin(angle / 2))
    order = np.flatnonzero(seen)
    order = order[np.argsort(-calibrant.intensity[order])][:_MOST_RINGS]
    path = folder / "distances.txt"
    write_distances(calibrant.d_A[order].tolist(), path)
    return path


def calib2_command(
    calibration: RingCalibration, edf: Path, distances: Path, poni: Path | None
) -> list[str]:
    """The command that opens pyFAI-calib2 with what is known: Å (never keV), µm, mm."""
    pixel_um = calibration.pixel_size_mm * 1e3
    command = [
        sys.executable, "-m", "pyFAI.app.calib2",
        "-c", str(distances),
        "-w", repr(calibration.wavelength_A),
        "-p", f"{pixel_um!r},{pixel_um!r}",
    ]  # fmt: skip
    if poni is not None:
        command += ["-i", str(poni)]
    else:
        command += ["-l", repr(calibration.distance_mm)]
    return [*command, "--fix-rot1", "--fix-rot2", "--fix-rot3", str(edf)]


def _calib2(
    image: DiffractionImage, calibration: RingCalibration, distances: Path, poni: Path | None
) -> None:
    import fabio.edfimage

    with tempfile.TemporaryDirectory() as folder:
        edf = Path(folder) / f"{image.name}.edf"
        fabio.edfimage.EdfImage(np.asarray(image.pixels, np.float32)).write(str(edf))
        ended = subprocess.run(
            calib2_command(calibration, edf, distances, poni),
            stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    if ended.returncode:
        words = (ended.stderr.strip().splitlines() or ["no message"])[-1]
        raise UserError(
            "pyFAI-calib2", f"exit code {ended.returncode} ({words})", "a window",
            "install PySide6 for it, or calibrate without interactive",
        )  # fmt: skip
