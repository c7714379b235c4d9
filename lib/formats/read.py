"""From a folder or stack of any known format to a `RotationSeries`."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError
from ..geometry import EllipticalDistortion, Geometry
from ..instrument import Instrument, SeriesMetadata, SeriesOverrides
from ..rings.calibration import RingCalibration
from ..rings.statement import Stated, stated_by
from ..series.rotation_series import RotationSeries, SourceFile
from .angles import frame_angles
from .discover import Found, find_frames, find_sidecars, series_name
from .inspect import InspectedFile, inspect_files, lazy_frames
from .resolve import Resolved, Source, differ, in_words, resolve
from .selection import about_these_frames, choose_frames, oddities, tracking_numbers
from .source import Sidecar, ranges

Numbers = NDArray[np.int64]
_COMMAND_LINE = "the command line"


def read_series(
    path: str | Path,
    *,
    instrument: Instrument | None = None,
    overrides: SeriesOverrides | None = None,
    name: str | None = None,
    calibrations: Sequence[RingCalibration] = (),
) -> RotationSeries:
    """Read a rotation series; nothing is written, and everything decided is in its notes.

    Parameters
    ----------
    path : a folder of frames, a folder with one such folder below it (``SMV/data`` first), or
        a stack file. ``cRED_log.txt``, ``XDS.INP`` and our own
        record of the acquisition are looked for beside and above it.
    instrument : mask, camera-length table and what else the files do not say.
    overrides : wins over all other sources; then come the instrument's `overrides`, the frame
        headers, the files beside the frames, and the instrument's defaults.
    name : of the series, instead of that of its folder.
    calibrations : by powder rings, of the camera that took the series, at its camera length or at
        several: scale and distortion. They come after `overrides`.

    Returns
    -------
    The series; its frames are read from the files when needed, so these must stay.

    Raises
    ------
    UserError : no frames, no readable frame, frames of two sizes, angles that do not go one
        way, a value that no source states, or calibrations that do not fit. A single unreadable
        frame is left out and noted.
    """
    found = find_frames(Path(path).absolute())
    files, notes = inspect_files(found)
    notes = [*found.notes, *notes]
    number = _numbers(files)
    shape = files[0].header.shape
    sidecars, passed_over = find_sidecars(found)
    notes += passed_over
    sidecars = about_these_frames(sidecars, found, shape, notes)
    shape = _true_shape(shape, found, instrument, notes)
    chosen = choose_frames(number, sidecars, overrides, found, notes)

    headers = Source(f"the {found.reader.name} headers", _shared_metadata(files, number, notes))
    sources = _sources(headers, sidecars, instrument, overrides, files[0], notes)
    calibrated = _calibrated(calibrations, shape, sources, notes)
    resolved = resolve(sources, instrument)
    _check_wavelength(calibrated, resolved)
    per_frame = [angle for one in files for angle in one.header.start_deg]
    start_deg, width_deg = frame_angles(
        resolved,
        sources,
        headers,
        number[chosen],
        np.array(per_frame)[chosen] if len(per_frame) == len(number) else None,
        [one.path for one in files for _ in range(one.header.n_frames)],
        found.folder,
        next((one.frame_angles for one in sidecars if one.frame_angles), None),
    )
    frames = lazy_frames(files, found.reader, shape)
    geometry = _geometry(resolved, shape, found)
    mask = _mask(shape, instrument, sidecars)
    if found.reader.mask is not None:
        mask |= found.reader.mask(files[0].path, files[0].header).reshape(shape)
    highest = np.concatenate([one.highest for one in files])
    lowest = np.concatenate([one.lowest for one in files])
    blank = (highest == 0) & (lowest == 0)
    tracking = tracking_numbers(number, chosen, blank, sidecars)
    number, highest, blank = number[chosen], highest[chosen], blank[chosen]
    notes += resolved.notes
    notes += oddities(number, highest, blank, resolved.get("saturation"), tracking)
    return RotationSeries(
        name=name or series_name(found),
        frames=frames[_as_slice(chosen)],
        frame_number=number,
        angle_start_deg=start_deg,
        angle_width_deg=width_deg,
        geometry=geometry,
        mask=mask,
        beam_centres_px=_beam_centres(resolved, headers, files, chosen),
        gain=resolved.get("gain"),
        pedestal=resolved.get("pedestal") or 0.0,
        saturation=resolved.get("saturation"),
        exposure_s=resolved.get("exposure_s"),
        tracking_numbers=tracking,
        instrument=instrument.name if instrument else "unknown",
        notes=tuple(dict.fromkeys(notes)),
        sources=_source_files(files, chosen, sidecars),
    )


def _numbers(files: list[InspectedFile]) -> Numbers:
    number = [one.number + i for one in files for i in range(one.header.n_frames)]
    for one, after in pairwise(files):
        if one.number == after.number:
            raise UserError(
                after.path, f"number {after.number} again", f"one {one.path.name}", "remove one"
            )
    return np.array(number, np.int64)


def _as_slice(chosen: Numbers) -> slice | Numbers:
    """Successive positions as a slice, which leaves the blocks of frames as they are."""
    whole = len(chosen) == chosen[-1] - chosen[0] + 1
    return slice(int(chosen[0]), int(chosen[-1]) + 1) if whole else chosen


def _shared_metadata(
    files: list[InspectedFile], number: Numbers, notes: list[str]
) -> SeriesMetadata:
    """What the headers state: the first file's values, with notes where later ones differ."""
    by_note: dict[str, list[int]] = {}
    for one in files:
        for note in one.header.notes:
            by_note.setdefault(note, []).append(one.number)
    for note, where in by_note.items():
        some = "" if len(where) == len(files) else f" (frames {ranges(where)})"
        notes.append(note + some)
    first = files[0].header.metadata
    for name in SeriesMetadata.model_fields:
        values = [getattr(one.header.metadata, name) for one in files]
        other = next((i for i, value in enumerate(values) if value != values[0]), None)
        if other is not None and name != "beam_centre_px":
            a, b = (
                "nothing" if value is None else in_words(value)
                for value in (values[0], values[other])
            )
            notes.append(
                f"{name} changes among the headers ({a}, then {b} in frame "
                f"{files[other].number}); the first was used"
            )
    return first


def _sources(
    headers: Source,
    sidecars: list[Sidecar],
    instrument: Instrument | None,
    overrides: SeriesOverrides | None,
    first: InspectedFile,
    notes: list[str],
) -> list[Source]:
    """Everyone who states something, in order of precedence."""
    sources = []
    if overrides is not None:
        sources.append(Source(_COMMAND_LINE, overrides, corrects=True))
    if instrument is not None:
        name = f"the overrides of instrument {instrument.name}"
        sources.append(Source(name, instrument.overrides, corrects=True))
    sources.append(headers)
    last = []
    highest = np.inf
    if first.header.dtype.kind in "ui":
        highest = float(np.iinfo(first.header.dtype).max)
    for one in sidecars:
        metadata = one.metadata
        saturation = metadata.saturation
        if saturation is not None and saturation >= highest:  # says no more than the pixel type
            metadata = metadata.model_copy(update={"saturation": None})
            if saturation > highest:
                notes.append(
                    f"the overload {saturation:g} of {one.path.name} was not used, as no pixel "
                    f"can exceed {highest:g}"
                )
            else:
                last.append(Source(one.path.name, SeriesMetadata(saturation=saturation)))
        sources.append(Source(one.path.name, metadata))
    if instrument is not None:
        sources.append(Source(f"instrument {instrument.name}", instrument.defaults))
    return sources + last


def _calibrated(
    calibrations: Sequence[RingCalibration],
    shape: tuple[int, int],
    sources: list[Source],
    notes: list[str],
) -> Stated | None:
    """Take what calibrations state among the sources."""
    if not calibrations:
        return None
    said = (one.metadata.camera_length_mm for one in sources)
    stated = stated_by(calibrations, shape, next((one for one in said if one is not None), None))
    first = 1 if sources[0].name == _COMMAND_LINE else 0
    sources.insert(first, Source(stated.name, stated.metadata, corrects=True))
    sources.append(Source(stated.name, stated.otherwise))
    notes += stated.notes
    return stated


def _check_wavelength(calibrated: Stated | None, resolved: Resolved) -> None:
    used = resolved.get("wavelength_A")
    if calibrated is not None and differ("wavelength_A", calibrated.wavelength_A, used):
        raise UserError(
            calibrated.name, f"a wavelength of {calibrated.wavelength_A:.6f} Å",
            f"{used:.6f} Å, as the series has", "name a calibration at the series' voltage",
        )  # fmt: skip


def _true_shape(
    shape: tuple[int, int], found: Found, instrument: Instrument | None, notes: list[str]
) -> tuple[int, int]:
    """The instrument's shape, where SMV headers have rows and columns the wrong way round."""
    if instrument is None or shape == instrument.detector.shape:
        return shape
    if found.reader.name == "SMV" and shape == instrument.detector.shape[::-1]:
        notes.append(
            f"SIZE1 and SIZE2 in the SMV headers are interchanged; instrument {instrument.name} "
            f"has {shape[1]} rows and {shape[0]} columns"
        )
        return instrument.detector.shape
    raise UserError(
        found.folder,
        f"frames of {shape[0]} x {shape[1]}",
        f"{instrument.detector.shape[0]} x {instrument.detector.shape[1]}, the detector.shape of "
        f"instrument {instrument.name}",
        "give the right --instrument",
    )


def _geometry(resolved: Resolved, shape: tuple[int, int], found: Found) -> Geometry:
    where = found.folder
    centre = resolved.get("beam_centre_px")
    if centre is None:
        centre = ((shape[0] - 1) / 2, (shape[1] - 1) / 2)
        resolved.notes.append(
            "no source states the beam centre; the middle of the detector stands in until the "
            "direct beam is found on the frames"
        )
    return Geometry(
        wavelength_A=resolved.required("wavelength_A", where),
        pixel_size_mm=resolved.required("pixel_size_mm", where),
        distance_mm=resolved.required("distance_mm", where),
        beam_centre_px=centre,
        axis=resolved.required("rotation_axis", where),
        distortion=resolved.get("distortion") or EllipticalDistortion(),
        radial_per_mm2=resolved.get("radial_per_mm2") or 0.0,
    )


def _mask(
    shape: tuple[int, int], instrument: Instrument | None, sidecars: list[Sidecar]
) -> NDArray[np.bool_]:
    mask = np.zeros(shape, bool) if instrument is None else instrument.detector.mask
    for one in sidecars:
        for block in one.untrusted:
            mask[block] = True
    return mask


def _beam_centres(
    resolved: Resolved, headers: Source, files: list[InspectedFile], chosen: Numbers
) -> NDArray[np.float64] | None:
    """(n, 2) if the headers state a centre for every frame, and not the same."""
    centres = [one.header.metadata.beam_centre_px for one in files]
    if resolved.origin.get("beam_centre_px") is not headers or len(files) <= int(chosen[-1]):
        return None
    known = [centre for centre in centres if centre is not None]
    if len(known) < len(centres) or len(set(known)) == 1:
        return None
    return np.array(known)[chosen]


def _source_files(
    files: list[InspectedFile], chosen: Numbers, sidecars: list[Sidecar]
) -> tuple[SourceFile, ...]:
    if len(files) > 1:
        files = [files[i] for i in chosen]
    raw = [SourceFile(str(one.path), one.sha256) for one in files]
    raw += [further for one in files for further in one.further]
    beside = [
        SourceFile(str(one.path), hashlib.sha256(one.path.read_bytes()).hexdigest())
        for one in sidecars
    ]
    return tuple(raw + beside)
