"""XDS.INP of a run: made from the series, or from the user's own with what must be changed."""

from __future__ import annotations

import shutil
from pathlib import Path

from ...errors import UserError
from ...formats.geo_corr import write_distortion_maps
from ...formats.registry import WRITERS
from ...formats.write import WriteReport, frame_template
from ...formats.xds_inp import write_xds_inp
from ...series import RotationSeries
from ..config import ReductionConfig
from .xds_document import XdsDocument
from .xds_run import NAME

# Keywords that follow from the frames as they are written here, whoever wrote the rest.
_OF_FRAMES = ("NAME_TEMPLATE_OF_DATA_FRAMES", "NX", "NY", "QX", "QY")


def prepare(
    series: RotationSeries,
    config: ReductionConfig,
    folder: Path,
    *,
    user_input: Path | None = None,
    processors: int = 1,
) -> tuple[XdsDocument, tuple[str, ...]]:
    """Write frames and maps into an empty folder; the XDS.INP to run there, and notes.

    Parameters
    ----------
    series : without its blank frames; every number that is missing is excluded.
    user_input : the user's own XDS.INP. Only keywords are changed in it that must be: where the
        frames are, which do not exist, how many processors are used, the limit of saturation
        if a pedestal was added. Files that it names are brought along.

    Raises
    ------
    UserError : the folder cannot be written, the series cannot be processed by XDS, or the
        user's file cannot be read or names files that are not there.
    """
    writer = next(one for one in WRITERS if one.name == "SMV")
    written = writer.write(series, folder / "data")
    template = f"data/{frame_template(series, '.img')}"
    maps = write_distortion_maps(series.geometry, series.shape, folder)
    notes = write_xds_inp(
        series, folder / NAME, template=template, pedestal_added=written.pedestal_added,
        distortion_maps=maps,
    )  # fmt: skip
    ours = XdsDocument.read(folder / NAME)
    for key, value in _chosen(config, processors):
        ours = ours.with_value(key, value)
    if user_input is None:
        return ours, (*written.notes, *notes)
    document, more = _from_user(user_input, ours, folder, written, processors)
    return document, (*written.notes, *more)


def _chosen(config: ReductionConfig, processors: int) -> list[tuple[str, str]]:
    fine = 0.7 if config.d_min_A is None else config.d_min_A
    return [
        ("INCLUDE_RESOLUTION_RANGE", f"{config.d_max_A:g} {fine:g}"),
        ("TEST_RESOLUTION_RANGE", f"{config.d_max_A:g} {max(1.0, fine):g}"),
        ("MINIMUM_NUMBER_OF_PIXELS_IN_A_SPOT", str(config.min_spot_pixels)),
        # the shadow of a beam stop is masked; a pattern's own shades are no shadows
        ("VALUE_RANGE_FOR_TRUSTED_DETECTOR_PIXELS", "10 30000"),
        ("MAXIMUM_NUMBER_OF_JOBS", "1"),
        ("MAXIMUM_NUMBER_OF_PROCESSORS", str(processors)),
    ]


def _from_user(
    path: Path, ours: XdsDocument, folder: Path, written: WriteReport, processors: int
) -> tuple[XdsDocument, list[str]]:
    document, notes = XdsDocument.read(path), [f"XDS.INP is the user's own, {path}"]
    for key in _OF_FRAMES:
        value = ours.value(key)
        assert value is not None
        if key not in ("QX", "QY") or document.value(key) is None:
            document = document.with_value(key, value)
    document = document.without("LIB")  # the frames are no longer in a container
    for key in ("X-GEO_CORR", "Y-GEO_CORR"):
        if (name := document.value(key)) is not None:
            document = document.with_value(key, _brought(path, name, folder))
        elif (value := ours.value(key)) is not None:
            document = document.with_value(key, value).with_value("DETECTOR", "PILATUS")
    document = document.with_every("EXCLUDE_DATA_RANGE", ours.values("EXCLUDE_DATA_RANGE"))
    document = document.with_every("UNTRUSTED_RECTANGLE", ours.values("UNTRUSTED_RECTANGLE"))
    for key in ("DATA_RANGE", "SPOT_RANGE", "BACKGROUND_RANGE"):
        value = ours.value(key)
        assert value is not None
        if (told := document.value(key)) is None:
            document = document.with_value(key, value)
        elif (inside := _inside(told, ours.value("DATA_RANGE") or "")) != told:
            document = document.with_value(key, inside)
            notes.append(f"{key}= {told} became {inside}: there are no other frames")
    if written.pedestal_added and (told := document.value("OVERLOAD")) is not None:
        document = document.with_value("OVERLOAD", f"{float(told) + written.pedestal_added:.0f}")
    for key in ("MAXIMUM_NUMBER_OF_JOBS", "MAXIMUM_NUMBER_OF_PROCESSORS"):
        value = ours.value(key)
        assert value is not None
        document = document.with_value(key, value)
    for key in ("ROTATION_AXIS", "ORGX", "ORGY", "INCLUDE_RESOLUTION_RANGE"):
        if document.value(key) is None and (value := ours.value(key)) is not None:
            document = document.with_value(key, value)
    return document, notes


def _brought(path: Path, name: str, folder: Path) -> str:
    source = path.parent / name
    try:
        shutil.copy(source, folder / source.name)
    except OSError as error:
        raise UserError(
            f"{path}: {name}", str(error.strerror), "a file beside it", "mend the name"
        ) from None
    return source.name


def _inside(told: str, data_range: str) -> str:
    """A range of frames cut to those that exist; as it was if it is not two numbers."""
    try:
        (a, b), (first, last) = (
            [int(word) for word in text.split()] for text in (told, data_range)
        )
    except ValueError:
        return told
    a, b = max(a, first), min(b, last)
    return f"{a} {b}" if a <= b else data_range
