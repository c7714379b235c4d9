"""instamatic's cRED_log.txt: what it wrote down while a series was taken."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from ..errors import UserError
from ..geometry import instamatic_axis
from .source import Sidecar, stated

NAME = "cRED_log.txt"
_NUMBER = r"([-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?)"


def read_cred_log(path: Path) -> Sidecar:
    """What the log states, in our terms.

    Its angles start with frame 1. In its SMV and XDS files instamatic always counts angles
    upwards and, for a stage that turned backwards, turns the axis round instead; the log is
    read in the same way so that all its files agree.

    Raises
    ------
    UserError : a line that should hold a number does not.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise UserError(path, str(error.strerror), "a readable file", "check it") from None

    def number(label: str) -> float | None:
        line = re.search(rf"^{label}:[ \t]*(.*)$", text, re.MULTILINE | re.IGNORECASE)
        if line is None:
            return None
        found = re.match(_NUMBER, line[1])
        if found is None:
            raise UserError(f"{path}: {label}", repr(line[1].strip()), "a number", "mend the log")
        return float(found[1])

    def positive(label: str) -> float | None:
        value = number(label)
        return value if value is not None and value > 0 else None

    start, end, theta = number("Starting angle"), number("Ending angle"), number("Rotation axis")
    backwards = start is not None and end is not None and start > end
    notes = []
    axis = None
    if theta is not None:
        axis = instamatic_axis(theta + np.pi if backwards else theta)
        if backwards:
            notes.append(
                f"{NAME}: the stage turned backwards ({start:g} to {end:g} degrees); as in "
                "instamatic's other files angles count up and the axis is turned round"
            )
    if re.search(r"^Stretch amplitude:", text, re.MULTILINE | re.IGNORECASE):
        notes.append(
            f"{NAME}: its stretch amplitude and azimuth were not used, since versions of "
            "instamatic swap the two; give the distortion in the instrument's YAML"
        )
    per_px = positive("Pixelsize")  # labelled px/Angstrom, but 1/(A px)
    oscillation = number("Oscillation angle")
    interval = re.search(r"^Image interval: every (\d+) frames", text, re.MULTILINE)
    return Sidecar(
        path,
        stated(
            path,
            wavelength_A=positive("Wavelength"),
            camera_length_mm=positive("Camera length"),
            # without a calibration instamatic writes 1
            per_A_per_px=per_px if per_px is not None and per_px < 0.5 else None,
            pixel_size_mm=positive("Physical pixelsize"),  # labelled um, but mm
            rotation_axis=None if axis is None else tuple(axis.tolist()),
            start_deg=start,
            start_number=1,
            oscillation_deg=None if oscillation is None else abs(oscillation),
            exposure_s=positive("Exposure Time"),
        ),
        image_interval=None if interval is None else int(interval[1]) or None,
        notes=tuple(notes),
    )
