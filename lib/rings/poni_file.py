"""PONI files: every version read, version 2.1 (or 3) written, whole or not at all.

pyFAI's own writer appends and only logs a failed write, and its reader refuses a file without
a ``Detector`` line, so both are done here; pyFAI is asked only for the pixel size of detectors
that it knows by name.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError

OURS = "Ewaldflow"  # key of the comment that holds what a PONI has no field for
_LENGTHS = ("Distance", "Poni1", "Poni2", "Rot1", "Rot2", "Rot3")
_NEWEST = 3.0
ORIENTATIONS = (1, 2, 3, 4)


class PoniNotFound(UserError, FileNotFoundError):
    """A PONI file that is not there; also a FileNotFoundError, as callers of old expect."""


@dataclass(frozen=True)
class Poni:
    """The contents of a PONI file.

    Attributes
    ----------
    distance_m : from the sample to the detector's plane, along its normal.
    poni1_m, poni2_m : point of normal incidence along rows (1, vertical) and columns (2), from
        the detector's first corner in its orientation.
    rot1_rad, rot2_rad, rot3_rad : tilts in pyFAI's sense.
    pixel1_m, pixel2_m : height and width of a pixel.
    shape : (rows, columns), or None if not stated.
    orientation : 1 to 4, as in EXIF; 3 is how pyFAI counts when none is stated.
    wavelength_m : or None if not stated.
    detector : pyFAI's name of the detector.
    detector_config : its settings, as in the file.
    version : of the format: 1, 2, 2.1 or 3.
    parallax : whether pyFAI corrects for it; None before version 3.
    ours : what we stored in a comment: distortion, calibrant, rings.
    path : the file.
    """

    distance_m: float
    poni1_m: float
    poni2_m: float
    rot1_rad: float
    rot2_rad: float
    rot3_rad: float
    pixel1_m: float
    pixel2_m: float
    shape: tuple[int, int] | None = None
    orientation: int = 3
    wavelength_m: float | None = None
    detector: str = "Detector"
    detector_config: Mapping[str, Any] = field(default_factory=dict)
    version: float = 2.1
    parallax: bool | None = None
    ours: Mapping[str, Any] = field(default_factory=dict)
    path: str = ""


def read_poni_file(path: str | Path) -> Poni:
    """Read a PONI file of any version (1, 2, 2.1, 3).

    As in pyFAI the last entry of a name counts, since older programs append. A file with
    ``Detector_config`` but no ``Detector`` line has pyFAI's plain detector.

    Raises
    ------
    PoniNotFound : no such file.
    UserError : a value that is missing or no number, no detector, or an unknown version.
    """
    path = Path(path)
    entries, ours = _entries(path)
    numbers = {name: _number(path, entries, name) for name in _LENGTHS}
    config = _detector_config(path, entries)
    if entries.get("splinefile", "none").lower() != "none":  # of version 1
        config["splineFile"] = entries["splinefile"]
    version = _version(path, entries, config)
    orientation = config.get("orientation") or 3
    if orientation not in ORIENTATIONS:
        raise UserError(
            f"{path}: orientation", repr(orientation), "1, 2, 3 or 4", "mend Detector_config"
        )
    detector = entries.get("detector", "Detector")
    pixel, shape = _pixels(path, entries, detector, config)
    if not numbers["Distance"] > 0:
        raise UserError(
            f"{path}: Distance", f"{numbers['Distance']:g}", "metres above 0", "mend the file"
        )
    wavelength = _number(path, entries, "Wavelength") if "wavelength" in entries else None
    parallax = entries.get("parallax")
    return Poni(
        distance_m=numbers["Distance"],
        poni1_m=numbers["Poni1"],
        poni2_m=numbers["Poni2"],
        rot1_rad=numbers["Rot1"],
        rot2_rad=numbers["Rot2"],
        rot3_rad=numbers["Rot3"],
        pixel1_m=pixel[0],
        pixel2_m=pixel[1],
        shape=shape,
        orientation=int(orientation),
        wavelength_m=wavelength,
        detector=detector,
        detector_config=config,
        version=version,
        parallax=None if parallax is None else parallax.lower() == "true",
        ours=ours,
        path=str(path),
    )


def write_poni_file(poni: Poni, path: str | Path) -> Path:
    """Write a PONI file in place of whatever is there, and read it back.

    Raises
    ------
    UserError : the file cannot be written, or does not read back as it was written.
    """
    path = Path(path)
    if path.is_symlink():
        path = path.resolve()
    text = poni_text(poni)
    temporary = None
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes files that only their owner may read
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        _read_back(poni, Path(temporary))
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(
            path, f"{error.strerror}", "a place to write a PONI", "check the folder"
        ) from None
    finally:
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)
    return path


def poni_text(poni: Poni) -> str:
    """The lines of a PONI file: version 3 if it states parallax, else 2.1."""
    config = dict(poni.detector_config)
    if poni.detector == "Detector":
        config |= {"pixel1": poni.pixel1_m, "pixel2": poni.pixel2_m}
        if poni.shape is not None:
            config["max_shape"] = list(poni.shape)
    config["orientation"] = poni.orientation
    lines = [
        "# Nota: C-Order, 1 refers to the Y axis, 2 to the X axis",
        f"poni_version: {2.1 if poni.parallax is None else 3}",
        f"Detector: {poni.detector}",
        f"Detector_config: {json.dumps(config)}",
        f"Distance: {poni.distance_m!r}",
        f"Poni1: {poni.poni1_m!r}",
        f"Poni2: {poni.poni2_m!r}",
        f"Rot1: {poni.rot1_rad!r}",
        f"Rot2: {poni.rot2_rad!r}",
        f"Rot3: {poni.rot3_rad!r}",
    ]
    if poni.wavelength_m is not None:
        lines.append(f"Wavelength: {poni.wavelength_m!r}")
    if poni.parallax is not None:
        lines.append(f"Parallax: {poni.parallax}")
    if poni.ours:
        lines.append(f"# {OURS}: {json.dumps(dict(poni.ours))}")
    return "\n".join(lines) + "\n"


def _read_back(poni: Poni, path: Path) -> None:
    found = read_poni_file(path)
    for name in ("distance_m", "poni1_m", "poni2_m", "rot1_rad", "rot2_rad", "rot3_rad",
                 "pixel1_m", "pixel2_m", "shape", "orientation", "wavelength_m"):  # fmt: skip
        wanted, got = getattr(poni, name), getattr(found, name)
        if wanted != got and not (name == "shape" and wanted is None):
            raise UserError(f"{poni.path}: {name}", f"{got}", f"{wanted}", "report this")


def _entries(path: Path) -> tuple[dict[str, str], dict[str, Any]]:
    """The last value of every key in lower case, and our comment."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise PoniNotFound(path, "no such file", "a PONI file", "check the path") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "no text"
        raise UserError(path, str(reason), "a readable PONI file", "check the file") from None
    entries: dict[str, str] = {}
    ours: dict[str, Any] = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if not colon:
            continue
        if not line.startswith("#"):
            entries[key.strip().lower()] = value.strip()
        elif key[1:].strip() == OURS:
            try:
                read = json.loads(value)
            except ValueError:
                read = None
            if not isinstance(read, dict):
                raise UserError(
                    f"{path}: {OURS}", value.strip()[:40], "a JSON object", "remove the comment"
                )
            ours = read
    return entries, ours


def _number(path: Path, entries: Mapping[str, str], name: str) -> float:
    text = entries.get(name.lower())
    try:
        value = float(text) if text is not None else np.nan
    except ValueError:
        value = np.nan
    if not np.isfinite(value):
        found = "nothing" if text is None else repr(text)
        raise UserError(f"{path}: {name}", found, "a number", "give a whole PONI file")
    return float(value)


def _detector_config(path: Path, entries: Mapping[str, str]) -> dict[str, Any]:
    text = entries.get("detector_config")
    if text is None:
        return {}
    try:
        config = json.loads(text)
    except ValueError:
        config = None
    if not isinstance(config, dict):
        raise UserError(f"{path}: Detector_config", text[:40], "a JSON object", "mend the line")
    return config


def _version(path: Path, entries: Mapping[str, str], config: Mapping[str, Any]) -> float:
    """As stated, or as what the file holds tells."""
    stated = _number(path, entries, "poni_version") if "poni_version" in entries else 1.0
    if stated > _NEWEST:
        raise UserError(
            f"{path}: poni_version", f"{stated:g}", f"at most {_NEWEST:g}", "update Ewaldflow"
        )
    if "detector_config" in entries:
        stated = max(stated, 2.1 if "orientation" in config else 2.0)
    return 3.0 if "parallax" in entries else stated


def _pixels(
    path: Path, entries: Mapping[str, str], detector: str, config: Mapping[str, Any]
) -> tuple[tuple[float, float], tuple[int, int] | None]:
    """((pixel1, pixel2) in m, (rows, columns) or None), from the file or from pyFAI."""
    shape = config.get("max_shape")
    pixel: list[Any] = [config.get(f"pixel{i}", entries.get(f"pixelsize{i}")) for i in (1, 2)]
    if None in pixel or shape is None:
        if detector not in ("", "None", "Detector") or config.get("splineFile"):
            known = _known_detector(path, detector, config)
            pixel = [known.pixel1, known.pixel2] if None in pixel else pixel
            shape = shape or known.max_shape
        elif None in pixel:
            raise UserError(
                f"{path}: Detector",
                "no detector and no pixel size",
                "Detector_config with pixel1 and pixel2, or PixelSize1 and PixelSize2",
                "add the pixel size in metres",
            )
    try:
        height, width = (float(value) for value in pixel)
        rows_columns = None if shape is None else (int(shape[0]), int(shape[1]))
    except (TypeError, ValueError, IndexError):
        height = width = -1.0
        rows_columns = None
    if not (0 < height < 1 and 0 < width < 1):
        raise UserError(
            f"{path}: Detector_config", f"pixels of {pixel}, shape {shape}",
            "pixel sizes in metres and [rows, columns]", "mend the file",
        )  # fmt: skip
    return (height, width), rows_columns


def _known_detector(path: Path, name: str, config: Mapping[str, Any]) -> Any:
    """pyFAI's detector of that name (a second or more: it has to be imported)."""
    from pyFAI.detectors import detector_factory

    try:
        return detector_factory(name, dict(config) or None)
    except Exception as error:  # whatever its detectors raise
        raise UserError(
            f"{path}: Detector", f"{name} ({error})", "a detector that pyFAI knows",
            "give its pixel sizes in Detector_config",
        ) from None  # fmt: skip
