"""The direct beam on many images of one calibrated camera; a bad image stops no other."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError
from ..formats.image import read_image
from .calibration import RingCalibration
from .poni import write_poni
from .recentre import Recentred, recentre

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ImageCentre:
    """What became of one image.

    Attributes
    ----------
    name : of the image, unique among those recentred together.
    path : of its file.
    found : where the beam is; None if it was not found.
    reason : one line, why; "" where it was found.
    """

    name: str
    path: str
    found: Recentred | None
    reason: str = ""


@dataclass(frozen=True)
class ImageCentres:
    """Images recentred with one calibration, in order.

    Attributes
    ----------
    calibration : that they were recentred with.
    images : one for each.
    """

    calibration: RingCalibration
    images: tuple[ImageCentre, ...]

    def column(self, what: str) -> Floats:
        """(n,) row, column, sd_row, sd_column, scale, scale_sd, coverage or residual; NaN: none."""
        return np.array(
            [np.nan if one.found is None else _COLUMNS[what](one.found) for one in self.images],
            np.float64,
        )


_COLUMNS: dict[str, Callable[[Recentred], float]] = {
    "row": lambda one: one.beam_centre_px[0],
    "column": lambda one: one.beam_centre_px[1],
    "sd_row": lambda one: one.sd_px[0],
    "sd_column": lambda one: one.sd_px[1],
    "scale": lambda one: one.scale,
    "scale_sd": lambda one: one.scale_sd,
    "coverage": lambda one: one.coverage,
    "residual": lambda one: one.residual_px,
}


def recentre_file(path: Path, name: str, calibration: RingCalibration) -> ImageCentre:
    """Read one image and find the beam on it; whatever is wrong with it becomes its reason."""
    try:
        return ImageCentre(name, str(path), recentre(read_image(path), calibration))
    except UserError as error:
        return ImageCentre(name, str(path), None, str(error))
    except Exception as error:  # one image's fault is not the others'
        fault = f"unexpected {type(error).__name__}: {error}".splitlines()[0]
        return ImageCentre(name, str(path), None, fault)


def unique_names(paths: Sequence[Path]) -> list[str]:
    """The stem of each path, told apart by a number where two are the same."""
    seen: dict[str, int] = {}
    names = []
    for path in paths:
        seen[path.stem] = number = seen.get(path.stem, 0) + 1
        names.append(path.stem if number == 1 else f"{path.stem}-{number}")
    return names


def write_centres(centres: ImageCentres, folder: Path) -> dict[str, str]:
    """Write centres.csv and a PONI for each image; what each is, by name."""
    table = {what: centres.column(what) for what in _COLUMNS}
    with (folder / "centres.csv").open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file)
        units = ("row_px", "column_px", "sd_row_px", "sd_column_px", "scale", "scale_sd",
                 "coverage", "residual_px")  # fmt: skip
        out.writerow(["image", "path", *units, "method", "reason"])
        for i, one in enumerate(centres.images):
            numbers = [f"{v[i]:.5f}" if np.isfinite(v[i]) else "" for v in table.values()]
            method = one.found.method if one.found else ""
            out.writerow([one.name, one.path, *numbers, method, one.reason])
    (folder / "poni").mkdir()
    for one in centres.images:
        if one.found is not None:
            moved = replace(
                centres.calibration, name=one.name, beam_centre_px=one.found.beam_centre_px
            )
            write_poni(moved, folder / "poni" / f"{one.name}.poni")
    return {
        "centres.csv": "every image: centre, errors, scale against the calibration, or why not",
        "poni/": "pyFAI geometry of each image",
    }
