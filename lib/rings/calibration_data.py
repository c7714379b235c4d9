"""The expected rings of a crystal as a table, and as the d-spacing file that pyFAI reads."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from ..errors import UserError
from .calibrants import calibrant_from_cif


def build_calibration_data_from_cif(
    cif_file: str | Path,
    wavelength: float,
    n_peaks: int = 15,
    two_theta_range: tuple[float, float] = (0, 2),
    *,
    output_file: str | Path | None = "distances.txt",
) -> list[dict[str, Any]]:
    """The `n_peaks` strongest rings of a crystal in a range of 2 theta, by decreasing spacing.

    The strongest by kinematic electron intensities of whole rings (see `calibrants`; X-ray form
    factors are up to 40 of 100 off), then sorted: pyFAI's ``extract_cp`` sorts the list it is
    given and numbers rings by it, so another order gives wrong distances without a word.

    Parameters
    ----------
    cif_file : crystal structure.
    wavelength : of the electrons, Å.
    n_peaks : how many rings; fewer are returned where the range holds fewer.
    two_theta_range : degrees.
    output_file : where to write the spacings, one a line, in Å; None: nowhere.

    Returns
    -------
    For each ring ``hkl`` (of one of its reflections), ``d`` in Å, ``two_theta`` in degrees and
    ``intensity``, the strongest 1.

    Raises
    ------
    UserError : no such file, no structure in it, no ring in the range, a wavelength that is no
        electron's or looks like metres.
    """
    low, high = (float(value) for value in two_theta_range)
    if not 0 <= low < high <= 90:
        raise UserError(
            "two_theta_range", f"{two_theta_range}", "0 <= low < high <= 90, degrees", "correct it"
        )
    if not 1e-3 < wavelength < 1:
        raise UserError(
            "wavelength", f"{wavelength:g}", "Å, as 0.0251 at 200 kV", "give it in ångström"
        )
    if n_peaks < 1:
        raise UserError("n_peaks", f"{n_peaks}", "at least 1", "ask for some")
    calibrant = calibrant_from_cif(cif_file, wavelength / (2 * math.sin(math.radians(high / 2))))
    rings: list[dict[str, Any]] = [
        {
            "hkl": tuple(int(i) for i in hkl),
            "d": float(d),
            "two_theta": 2 * math.degrees(math.asin(wavelength / (2 * d))),
            "intensity": float(intensity),
        }
        for hkl, d, intensity in zip(calibrant.hkl, calibrant.d_A, calibrant.intensity, strict=True)
        if wavelength < 2 * d * math.sin(math.radians(45))
    ]
    rings = [ring for ring in rings if low <= ring["two_theta"] <= high]
    if not rings:
        raise UserError(
            cif_file, f"no ring from {low:g} to {high:g} degrees", "at least one",
            "widen two_theta_range",
        )  # fmt: skip
    rings = sorted(rings, key=lambda ring: -ring["intensity"])[:n_peaks]
    strongest = rings[0]["intensity"]
    for ring in rings:
        ring["intensity"] /= strongest
    rings.sort(key=lambda ring: -ring["d"])
    if output_file is not None:
        write_distances([ring["d"] for ring in rings], output_file)
    return rings


def write_distances(d_A: list[float], path: str | Path) -> None:
    """Write spacings as pyFAI reads them: Å, one a line, decreasing."""
    text = "".join(f"{d:.6f}\n" for d in sorted(d_A, reverse=True))
    try:
        Path(path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(
            path, str(error.strerror), "a file to write spacings to", "check the folder"
        ) from None
