"""NXmx files (NeXus HDF5) that DIALS imports as they are: frames, geometry, axis, mask.

Frame and axes as in `nexus`, which reads them back. DIALS takes no gaps: every unbroken run of
frames is a file. Source: NXmx definition 1.5, and what dxtbx 3.12 asks of it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from ..geometry import centre_to_corner
from ..series.rotation_series import RotationSeries
from .source import runs
from .write import PixelCast, Writer, WriteReport, blocks, new_folder, untold

SUFFIX = ".nxs"
_INT32_MAX = 2**31 - 1
_THIN_M = 1e-9
_KEPT = ("u1", "i1", "u2", "i2", "i4", "f4")
_ROTATION = "/entry/sample/transformations/omega"
_DISTANCE = "/entry/instrument/detector/transformations/distance"


def write_nxmx(series: RotationSeries, folder: str | Path) -> WriteReport:
    """Write ``NAME.nxs`` (``NAME_2.nxs`` ... after gaps) with all that DIALS needs.

    Pixels of up to 16 bits and 32-bit integers and floats are kept; others become 32-bit integers
    or floats, and what that changes is counted. A distortion and a beam that moves are not told.

    Raises
    ------
    UserError : no frames, or the folder cannot be written or holds such files.
    """
    if len(series) == 0:
        raise UserError(series.name, "no frames", "some", "give a series with frames")
    folder = Path(folder)
    dtype = np.dtype(series.frames.dtype).newbyteorder("=")
    if dtype.str[1:] not in _KEPT:
        dtype = np.dtype(np.float32 if dtype.kind == "f" else np.int32)
    cast = PixelCast(dtype)
    notes = untold(series, "NXmx")
    unbroken = runs(series.frame_number.tolist())
    if len(unbroken) > 1:
        notes.append(f"frames are missing: each of {len(unbroken)} unbroken runs is a file")
    files = []
    with new_folder(folder, SUFFIX):
        for k, (first, last) in enumerate(unbroken, 1):
            begin, end = np.searchsorted(series.frame_number, [first, last + 1]).tolist()
            path = folder / f"{series.name}{'' if k == 1 else f'_{k}'}{SUFFIX}"
            _write(series.select(slice(begin, end)), path, cast)
            files.append(path)
            if first != 1:
                notes.append(f"frame {first} is number 1 in {path.name}")
    return cast.report(files, notes)


def _write(series: RotationSeries, path: Path, cast: PixelCast) -> None:
    import h5py

    with h5py.File(path, "x") as file:
        entry = _group(file, "entry", "NXentry")
        file.attrs["default"] = "entry"
        entry["definition"] = "NXmx"
        entry["definition"].attrs["version"] = "1.5"
        entry["title"] = series.name
        data = _group(entry, "data", "NXdata")
        data.attrs["signal"] = "data"
        rows, columns = series.shape
        frames = data.create_dataset(
            "data", (len(series), rows, columns), cast.dtype, chunks=(1, rows, columns),
            compression="gzip", compression_opts=1, shuffle=True,
        )  # fmt: skip
        for start, block in blocks(series):
            frames[start : start + len(block)] = cast(block)
        _sample(entry, series)
        instrument = _group(entry, "instrument", "NXinstrument")
        instrument["name"] = series.instrument
        beam = _group(instrument, "beam", "NXbeam")
        _number(beam, "incident_wavelength", series.geometry.wavelength_A, "angstrom")
        _number(beam, "total_flux", 0.0, "Hz")
        _detector(instrument, series)


def _sample(entry: Any, series: RotationSeries) -> None:
    """The rotation axis, ours (x, y, z) as (-x, -y, z), with the angles of every frame."""
    sample = _group(entry, "sample", "NXsample")
    sample["name"] = series.name
    sample["depends_on"] = _ROTATION
    _group(sample, "beam", "NXbeam")["incident_wavelength"] = series.geometry.wavelength_A
    sample["beam/incident_wavelength"].attrs["units"] = "angstrom"
    turns = _group(sample, "transformations", "NXtransformations")
    x, y, z = series.geometry.axis
    start, width = series.angle_start_deg, series.angle_width_deg
    _transformation(turns, "omega", start, "deg", "rotation", (-x, -y, z))
    turns["omega_end"] = start + width
    turns["omega_end"].attrs["units"] = "deg"
    turns["omega_increment_set"] = float(np.median(width))
    turns["omega_increment_set"].attrs["units"] = "deg"


def _detector(instrument: Any, series: RotationSeries) -> None:
    geometry, (rows, columns) = series.geometry, series.shape
    pixel, distance = geometry.pixel_size_mm * 1e-3, geometry.distance_mm * 1e-3
    x_px, y_px = centre_to_corner(geometry.beam_centre_px)
    detector = _group(instrument, "detector", "NXdetector")
    detector["description"] = f"frames of {series.instrument}"
    detector["type"] = "pixel"
    detector["depends_on"] = _DISTANCE
    _number(detector, "x_pixel_size", pixel, "m")
    _number(detector, "y_pixel_size", pixel, "m")
    _number(detector, "beam_center_x", x_px, "pixel")
    _number(detector, "beam_center_y", y_px, "pixel")
    _number(detector, "distance", distance, "m")
    exposure = series.exposure_s or 0.0
    _number(detector, "count_time", exposure, "s")
    _number(detector, "frame_time", exposure, "s")
    detector["bit_depth_readout"] = 32
    top = _INT32_MAX if series.saturation is None else series.saturation
    detector["saturation_value"] = min(float(top), float(_INT32_MAX))
    if series.saturation is None:
        detector["saturation_value"].attrs["comment"] = "not known"
    # electrons are stopped at once: no parallax is to be corrected, but DIALS does not take 0
    detector["sensor_material"] = "Si"
    _number(detector, "sensor_thickness", _THIN_M, "m")
    detector.create_dataset("pixel_mask", data=series.mask.astype(np.int32), compression="gzip")
    detector["pixel_mask_applied"] = False
    moves = _group(detector, "transformations", "NXtransformations")
    _transformation(moves, "distance", np.array([distance]), "m", "translation", (0, 0, 1))
    module = _group(detector, "module", "NXdetector_module")
    module["data_origin"] = np.array([0, 0], np.int64)
    module["data_size"] = np.array([rows, columns], np.int64)
    offset = np.array([x_px, y_px, 0.0]) * pixel  # x and y point against the pixel axes
    _transformation(
        module, "module_offset", np.array([0.0]), "m", "translation", (1, 0, 0), _DISTANCE, offset
    )
    for name, vector in (("fast", (-1, 0, 0)), ("slow", (0, -1, 0))):
        _transformation(
            module, f"{name}_pixel_direction", np.array([pixel]), "m", "translation", vector,
            f"{module.name}/module_offset",
        )  # fmt: skip


def _group(parent: Any, name: str, kind: str) -> Any:
    group = parent.create_group(name)
    group.attrs["NX_class"] = kind
    return group


def _number(group: Any, name: str, value: float, units: str) -> None:
    group[name] = value
    group[name].attrs["units"] = units


def _transformation(
    group: Any,
    name: str,
    values: Any,
    units: str,
    kind: str,
    vector: tuple[float, float, float],
    depends_on: str = ".",
    offset: Any = (0.0, 0.0, 0.0),
) -> None:
    group[name] = values
    group[name].attrs.update(
        {
            "units": units,
            "transformation_type": kind,
            "vector": np.asarray(vector, float),
            "offset": np.asarray(offset, float),
            "offset_units": "m",
            "depends_on": depends_on,
        }
    )


WRITER = Writer("NXmx", SUFFIX, write_nxmx, complete=True)
