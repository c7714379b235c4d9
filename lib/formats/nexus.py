"""Frames in HDF5 by NeXus: masters of Dectris' detectors (Eiger, Quadro, Singla, Arina) and NXmx.

A master links to the data files beside it. NeXus' axes (McStas) are ours turned half about z: a
vector (x, y, z) is (-x, -y, z) there; a detector as its own pixels lie has its fast axis along
-x and its slow one along -y. Centres count from the detector's corner. Sources: NXmx definition
1.5 (NeXus International Advisory Committee), dxtbx, and real files.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError
from ..geometry import centre_from_corner
from .hdf5_chunks import check_chunks
from .source import FrameHeader, Pixels, Reader, stated

MAGIC = b"\x89HDF\r\n\x1a\n"
_HC_EV_A = 12398.419843
_ELECTRON_CAMERAS = re.compile(r"arina|quadro|singla|\bela\b", re.IGNORECASE)
_TO_MM = {"m": 1e3, "mm": 1.0, "um": 1e-3, "metre": 1e3, "meter": 1e3, "millimeter": 1.0}
_TO_DEG = {"deg": 1.0, "degree": 1.0, "degrees": 1.0, "rad": 180 / np.pi, "radian": 180 / np.pi}
_TO_ANGSTROM = {"angstrom": 1.0, "a": 1.0, "nm": 10.0, "m": 1e10, "pm": 0.01}


def sniff(head: bytes) -> bool:
    """Whether a file is HDF5."""
    return head[:8] == MAGIC


def files_of(path: Path) -> tuple[Path, ...]:
    """The data files that a master links to, where they exist."""
    import h5py

    with opened(path) as file:
        links = [file["entry/data"].get(name, getlink=True) for name in _links(file)]
    names = dict.fromkeys(one.filename for one in links if isinstance(one, h5py.ExternalLink))
    return tuple(path.parent / name for name in names if (path.parent / name).is_file())


def is_part(path: Path) -> bool:
    """Whether a file is one of data that a master links to, or the scan's beside a master."""
    name = re.sub(r"_data_\d+(\.\w+)$", r"_master\1", path.name)
    if name == path.name:
        name = f"{path.stem}_master{path.suffix}"
    return path.with_name(name).is_file()


def read_header(path: Path) -> FrameHeader:
    """Layout of the frames that a file holds or links to, and what it states.

    ``photon_energy`` of a camera for electrons is their energy; of any other detector the
    wavelength is that of photons.
    """
    notes: list[str] = []
    with opened(path) as file:
        stacks = _stacks(path, file)
        shape, dtype = stacks[0].shape[-2:], stacks[0].dtype
        if any((one.ndim, one.shape[1:], one.dtype) != (3, shape, dtype) for one in stacks):
            shapes = " and ".join(dict.fromkeys(str(one.shape) for one in stacks))
            raise ValueError(f"data of shape {shapes}, expected frames of one size")
        if dtype.kind not in "uif":
            raise ValueError(f"data of {dtype}, expected real numbers")
        n_frames = sum(one.shape[0] for one in stacks)
        entry = file["entry"]
        detector = entry.get("instrument/detector", {})
        fields = _detector(detector, notes) | _beam(entry, detector, notes)
        turns, start_deg = _rotation(entry, n_frames, notes)
        camera = _text(detector.get("description"))
    return FrameHeader(
        (int(shape[0]), int(shape[1])), dtype.newbyteorder("="), n_frames,
        metadata=stated(path, **fields, **turns), start_deg=start_deg, notes=tuple(notes),
        camera=camera,
    )  # fmt: skip


def read_pixels(path: Path, header: FrameHeader, first: int, stop: int) -> Pixels:
    """Frames of a file and those it links to, (n, rows, columns), in native byte order."""
    frames = np.empty((stop - first, *header.shape), header.dtype.newbyteorder("="))
    done = before = 0
    with opened(path) as file:
        for stack in _stacks(path, file):
            n = stack.shape[0]
            here = range(max(first - before, 0), min(stop - before, n))
            if len(here):
                check_chunks(stack, here.start, here.stop)
                stack.read_direct(
                    frames, np.s_[here.start : here.stop], np.s_[done : done + len(here)]
                )
                done += len(here)
            before += n
    if done != stop - first:
        raise ValueError(f"truncated: {done} frames of {stop - first}")
    return frames


def read_mask(path: Path, header: FrameHeader) -> NDArray[np.bool_]:
    """Where the file's pixel mask is not zero; nowhere if it has none of the frames' shape."""
    with opened(path) as file:
        for name in ("pixel_mask", "detectorSpecific/pixel_mask"):
            mask = file.get(f"entry/instrument/detector/{name}")
            if mask is not None and mask.shape == header.shape:
                return np.asarray(mask[()] != 0)
    return np.zeros(header.shape, bool)


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """An HDF5 file, open. Raises ValueError for one that is damaged."""
    import h5py
    import hdf5plugin  # noqa: F401  (compressions that files may have)

    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise ValueError(f"HDF5 that cannot be opened: {error}") from None
    with file:
        yield file


def _links(file: Any) -> list[str]:
    import h5py

    data = file.get("entry/data")
    if not isinstance(data, h5py.Group):
        return []
    return sorted(name for name in data if re.fullmatch(r"data_\d+", name))


def _stacks(path: Path, file: Any) -> list[Any]:
    """The data sets of frames in their order, each (n, rows, columns)."""
    import h5py

    names = _links(file)
    for name in names:
        link = file["entry/data"].get(name, getlink=True)
        if isinstance(link, h5py.ExternalLink) and not (path.parent / link.filename).is_file():
            raise UserError(
                path, f"a link to {link.filename}, which is not beside it",
                "the data files that the detector wrote with it", "put them into its folder",
            )  # fmt: skip
    data = file.get("entry/data")
    if not names and isinstance(data, h5py.Group):
        signal = data.attrs.get("signal", "data")
        names = [signal.decode() if isinstance(signal, bytes) else str(signal)]
    found = [data[name] for name in names if isinstance(data, h5py.Group) and name in data]
    if not found or not all(isinstance(one, h5py.Dataset) and one.ndim >= 2 for one in found):
        raise ValueError("HDF5 without frames in entry/data, as Dectris and NXmx have them")
    return found


def _detector(detector: Any, notes: list[str]) -> dict[str, Any]:
    width, height = (_number(detector.get(f"{axis}_pixel_size"), _TO_MM, "m") for axis in "xy")
    square = width and height and abs(width / height - 1) < 1e-4
    if width and not square:
        notes.append("the pixels that the HDF5 states are not square; they were not used")
    centre = tuple(_number(detector.get(f"beam_center_{axis}"), {}, "pixel") for axis in "xy")
    units = _text(detector.get("beam_center_x"), "units") if "beam_center_x" in detector else ""
    scale = _TO_MM.get(units.lower())
    if scale and width and None not in centre:  # a length instead
        centre = tuple(one * scale / width for one in centre if one is not None)
    distance = next(
        (_number(detector[n], _TO_MM, "m") for n in ("detector_distance", "distance")
         if n in detector), None,
    )  # fmt: skip
    saturation = next(
        (_number(detector[n]) for n in (
            "saturation_value", "detectorSpecific/countrate_correction_count_cutoff")
         if n in detector), None,
    )  # fmt: skip
    exposure = _number(detector.get("frame_time")) or _number(detector.get("count_time"))
    module = detector.get("module")
    if module is not None:
        for name, expected in (("fast", (-1, 0, 0)), ("slow", (0, -1, 0))):
            direction = module.get(f"{name}_pixel_direction")
            vector = None if direction is None else direction.attrs.get("vector")
            if vector is not None and np.abs(np.subtract(vector, expected)).max() > 1e-3:
                notes.append(
                    f"the {name} pixel direction of the HDF5 is {np.round(vector, 4).tolist()}, "
                    f"not {list(expected)}; the detector was taken as normal to the beam, with x "
                    "along columns and y along rows"
                )
    stated_centre = None not in centre and any(centre)
    return {
        "pixel_size_mm": width if square else None,
        "distance_mm": distance,
        "beam_centre_px": centre_from_corner(*centre) if stated_centre else None,  # type: ignore[arg-type]
        "saturation": saturation,
        "exposure_s": exposure,
    }


def _beam(entry: Any, detector: Any, notes: list[str]) -> dict[str, Any]:
    wavelength = None
    for name in ("instrument/beam/incident_wavelength", "sample/beam/incident_wavelength"):
        if name in entry:
            wavelength = _number(entry[name], _TO_ANGSTROM, "angstrom")
            break
    energy_eV = _number(detector.get("detectorSpecific/photon_energy"))
    electrons = _ELECTRON_CAMERAS.search(_text(detector.get("description"))) is not None
    if electrons and energy_eV:
        photons = wavelength is not None and abs(wavelength * energy_eV / _HC_EV_A - 1) < 1e-3
        if wavelength is None or photons:
            notes.append(
                f"photon_energy, {energy_eV / 1000:g} keV, of a camera for electrons is theirs"
            )
            return {"voltage_kV": energy_eV / 1000}
    if wavelength is None and energy_eV:
        wavelength = _HC_EV_A / energy_eV
    return {"wavelength_A": wavelength}


def _rotation(
    entry: Any, n_frames: int, notes: list[str]
) -> tuple[dict[str, Any], tuple[float, ...]]:
    """Axis, step and start angles by the transformations of the sample, or Dectris' omega."""
    sample = entry.get("sample", {})
    fields: dict[str, Any] = {}
    axis = _scan_axis(entry, sample, notes)
    ends = step = None
    if axis is not None:
        vector = np.asarray(axis.attrs.get("vector", (0, 0, 0)), float)
        if vector.shape == (3,) and np.any(vector):
            x, y, z = vector
            fields["rotation_axis"] = (-x + 0.0, -y + 0.0, z + 0.0)
        ends = axis.parent.get(f"{axis.name.rsplit('/')[-1]}_end")
    elif "goniometer/omega" in sample:
        axis = sample["goniometer/omega"]
        step = _number(sample.get("goniometer/omega_increment"), _TO_DEG, "degree", signed=True)
    if axis is None:
        return fields, ()
    factor = _TO_DEG.get(_text(axis, "units").lower(), 1.0)
    angles = np.atleast_1d(np.asarray(axis[()], float)) * factor
    if ends is not None and ends.shape == axis.shape:
        step = float(np.median(np.atleast_1d(ends[()]) * factor - angles))
    if step is None and len(angles) > 1:
        step = float(np.median(np.diff(angles)))
    if step:
        fields["oscillation_deg"] = step
    if len(angles) != n_frames:
        if len(angles) > 1:
            notes.append(f"{len(angles)} angles for {n_frames} frames in the HDF5; not used")
        elif step:
            fields["start_deg"] = float(angles[0])
        return fields, ()
    still = n_frames > 1 and np.ptp(angles) == 0
    return fields, () if still else tuple(angles.tolist())


def _scan_axis(entry: Any, sample: Any, notes: list[str]) -> Any:
    """The rotation that the sample depends on and that turns; others before it are noted."""
    name = _text(sample.get("depends_on"))
    chain: list[Any] = []
    while name not in ("", ".") and len(chain) < 16:
        one = entry.file.get(name) if name.startswith("/") else None
        if one is None:
            one = (chain[-1].parent if chain else sample).get(name)
        if one is None:
            break
        chain.append(one)
        name = _text(one, "depends_on")
    rotations = [one for one in chain if _text(one, "transformation_type") == "rotation"]
    turning = [one for one in rotations if np.ptp(one[()]) > 0]
    fixed = [one for one in rotations if np.any(one[()]) and one not in turning]
    if not turning:
        return chain[0] if len(chain) == 1 else None
    if fixed or len(turning) > 1:
        names = ", ".join(one.name.rsplit("/")[-1] for one in (*fixed, *turning[1:]))
        notes.append(f"the sample of the HDF5 is also turned by {names}, which was not used")
    return turning[0]


def _number(
    one: Any, units: dict[str, float] | None = None, usual: str = "", *, signed: bool = False
) -> float | None:
    """A single number other than zero, in the units wanted; None if it states none."""
    if one is None or np.size(one[()]) != 1:
        return None
    try:
        value = float(np.ravel(one[()])[0])
    except (TypeError, ValueError):
        return None
    if not np.isfinite(value) or (value <= 0 and not signed):
        return None
    return value * (units or {}).get((_text(one, "units") or usual).lower(), 1.0)


def _text(one: Any, attribute: str | None = None) -> str:
    """A text in a data set, or in an attribute of it; empty if there is none."""
    if one is None:
        return ""
    value = one[()] if attribute is None else one.attrs.get(attribute, "")
    value = np.ravel(value)[0] if np.size(value) == 1 and not isinstance(value, bytes) else value
    return (value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)).strip()


READER = Reader(
    "NeXus", (".h5", ".hdf5", ".nxs"), sniff, read_header, read_pixels, read_mask, files_of, is_part
)
