"""SMV frames (.img): a text header in braces, then raw pixels.

Two dialects write the same keys with different meanings. The one of the Stockholm Timepix
(BEAMLINE=TIMEPIX_SU, also what instamatic writes) gives BEAM_CENTER_X/Y in pixels along
columns and rows from the detector's corner; DIALS reads it so, and measured direct beams of
real frames agree. The older one of ADSC gives them in mm, X along rows and Y along columns
(dxtbx: FormatSMVADSC). Files exist that call themselves the one and write the other.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..geometry import Geometry, centre_from_corner, centre_to_corner
from ..instrument import SeriesMetadata
from ..series.rotation_series import RotationSeries
from .source import FrameHeader, Pixels, Reader, check_size
from .write import PixelCast, Writer, WriteReport, blocks, extremes, frame_names, new_folder

# Angles that agree to this are even.
EVEN_DEG = 1e-5

_TYPES = {
    "unsigned_char": "u1",
    "unsigned_byte": "u1",
    "signed_char": "i1",
    "unsigned_short": "u2",
    "unsigned_short_int": "u2",
    "signed_short": "i2",
    "short": "i2",
    "short_int": "i2",
    "unsigned_long": "u4",
    "unsigned_long_int": "u4",
    "unsigned_int": "u4",
    "signed_long": "i4",
    "long": "i4",
    "long_int": "i4",
    "long_integer": "i4",
    "int": "i4",
    "float": "f4",
    "float_ieee": "f4",
    "double": "f8",
}
_LONGEST_HEADER = 1 << 16


def sniff(head: bytes) -> bool:
    """Whether a file begins as an SMV header does."""
    return head[:1] == b"{" and re.search(rb"(HEADER_BYTES|SIZE1)\s*=", head) is not None


def header_items(path: Path) -> dict[str, str]:
    """The keys and values of an SMV header. Raises ValueError if it has no end."""
    with path.open("rb") as file:
        head = file.read(512)
        stated = re.search(rb"HEADER_BYTES\s*=\s*(\d+)", head)
        length = int(stated[1]) if stated else _LONGEST_HEADER
        if length > 512:
            head += file.read(min(length, _LONGEST_HEADER) - 512)
    if b"}" not in head:
        raise ValueError("truncated: the header has no end")
    lines = head[1 : head.index(b"\n}") if b"\n}" in head else head.rindex(b"}")]
    items = {}
    for record in lines.decode("ascii", "replace").replace("\n", ";").split(";"):
        key, equals, value = record.partition("=")
        if equals:
            items[key.strip().upper()] = value.strip()
    return items


def read_header(path: Path) -> FrameHeader:
    """What an SMV header says; values that are not numbers are passed over, with a note."""
    items = header_items(path)
    notes: list[str] = []

    def number(key: str) -> float | None:
        text = items.get(key)
        if text is None:
            return None
        try:
            value = float(text)
        except ValueError:
            value = np.nan
        if np.isfinite(value):
            return value
        notes.append(f"{key} in the SMV headers is '{text}', not a number, and was not used")
        return None

    def positive(key: str) -> float | None:
        value = number(key)
        if value is not None and value <= 0:
            notes.append(f"{key} in the SMV headers is {value:g}, not positive, and was not used")
            return None
        return value

    columns, rows = _whole(items, "SIZE1"), _whole(items, "SIZE2")
    offset = _whole(items, "HEADER_BYTES")
    dtype = _pixel_type(items, path.stat().st_size - offset, rows * columns, notes)
    check_size(path, offset + rows * columns * dtype.itemsize)
    pixel = positive("PIXEL_SIZE")
    osc_start, phi = number("OSC_START"), number("PHI")
    start = phi if osc_start is None else osc_start
    if None not in (osc_start, phi) and abs(osc_start - phi) > 0.005:  # type: ignore[operator]
        notes.append("PHI and OSC_START disagree in the SMV headers; OSC_START was used")
    metadata = SeriesMetadata(
        wavelength_A=positive("WAVELENGTH"),
        pixel_size_mm=pixel,
        distance_mm=positive("DISTANCE"),
        beam_centre_px=_beam_centre(
            number("BEAM_CENTER_X"),
            number("BEAM_CENTER_Y"),
            items.get("BEAMLINE", ""),
            pixel,
            (rows, columns),
            notes,
        ),
        oscillation_deg=number("OSC_RANGE"),
        exposure_s=positive("TIME"),
        pedestal=number("IMAGE_PEDESTAL"),
        saturation=positive("CCD_IMAGE_SATURATION"),
    )
    start_deg = () if start is None else (start,)
    return FrameHeader((rows, columns), dtype, 1, offset, metadata, start_deg, tuple(notes))


def read_pixels(path: Path, header: FrameHeader, first: int, stop: int) -> Pixels:
    """The one frame of a file, (1, rows, columns), in native byte order."""
    pixels = np.fromfile(path, header.dtype, header.shape[0] * header.shape[1], "", header.offset)
    native = header.dtype.newbyteorder("=")
    return pixels.reshape(1, *header.shape).astype(native, copy=False)[first:stop]


def _whole(items: dict[str, str], key: str) -> int:
    try:
        value = int(items[key])
    except KeyError:
        raise ValueError(f"no {key} in the header") from None
    except ValueError:
        raise ValueError(f"{key} is '{items[key]}', expected a whole number") from None
    if value <= 0:
        raise ValueError(f"{key} is {value}, expected more than 0")
    return value


def _pixel_type(
    items: dict[str, str], n_bytes: int, n_pixels: int, notes: list[str]
) -> np.dtype[np.generic]:
    order = items.get("BYTE_ORDER", "little_endian").lower()
    if order not in {"little_endian", "big_endian"}:
        raise ValueError(f"BYTE_ORDER is '{order}', expected little_endian or big_endian")
    name = items.get("TYPE") or items.get("DATA_TYPE")
    if name is None:
        if n_bytes // n_pixels != 2:
            raise ValueError("no TYPE in the header")
        notes.append("the SMV headers have no TYPE; unsigned 16-bit fits the file size")
        name = "unsigned_short"
    kind = _TYPES.get(re.sub(r"\s+", "_", name.strip().lower()))
    if kind is None:
        raise ValueError(f"TYPE is '{name}', expected one of {', '.join(_TYPES)}")
    return np.dtype(kind).newbyteorder(">" if order == "big_endian" else "<")


def _beam_centre(
    x: float | None,
    y: float | None,
    beamline: str,
    pixel: float | None,
    shape: tuple[int, int],
    notes: list[str],
) -> tuple[float, float] | None:
    if x is None or y is None:
        return None
    if beamline.upper() == "TIMEPIX_SU":
        return centre_from_corner(x, y)
    if pixel is None:
        notes.append("the SMV beam centre is in mm but PIXEL_SIZE is missing; it was not used")
        return None
    edge_mm = max(shape) * pixel
    if max(x, y) > edge_mm and 0 <= x <= shape[1] and 0 <= y <= shape[0]:
        notes.append(
            f"BEAM_CENTER_X/Y {x:g}, {y:g} in the SMV headers lie beyond the edge of the detector "
            f"({edge_mm:.4g} mm) and so were read as pixels along columns and rows, not as mm"
        )
        return centre_from_corner(x, y)
    if not (0 <= x <= edge_mm and 0 <= y <= edge_mm):
        notes.append(f"the SMV beam centre {x:g}, {y:g} is off the detector; it was not used")
        return None
    return centre_from_corner(y / pixel, x / pixel)


def write_smv(
    series: RotationSeries, folder: str | Path, *, pedestal: float | None = None
) -> WriteReport:
    """Write each frame as unsigned 16-bit SMV that XDS and DIALS read, with a 512-byte header.

    A frame of 516 x 516 is written in the dialect of TIMEPIX_SU, all others in that of ADSC,
    as those are what DIALS recognises by their header.

    Parameters
    ----------
    series : the frames; pixels are rounded and clipped to 0..65535, and counted.
    folder : made if needed; must hold no .img files.
    pedestal : added to every pixel; None adds what lifts the lowest one to zero.

    Raises
    ------
    UserError : the folder cannot be written, or holds frames.
    """
    folder = Path(folder)
    if pedestal is None:
        pedestal = 0.0
        if series.frames.dtype.kind != "u":
            pedestal = float(max(0.0, -np.floor(extremes(series)[0])))
    cast = PixelCast(np.dtype("<u2"), pedestal)
    even, notes = _even_angles(series)
    files = []
    with new_folder(folder, ".img"):
        names = frame_names(series, ".img")
        for start, block in blocks(series):
            for i, pixels in enumerate(cast(block), start):
                path = folder / names[i]
                path.write_bytes(_header(even, i, pedestal) + pixels.tobytes())
                files.append(path)
    return cast.report(files, notes)


def _even_angles(series: RotationSeries) -> tuple[RotationSeries, list[str]]:
    """The series with the angles of a rotation without pauses, which other programs require.

    A camera's dead time and an uneven stage make exposures narrower than the steps between them;
    DIALS refuses headers that say so.
    """
    if len(series) < 2 or series.angle_start_deg[0] == series.angle_start_deg[-1]:
        return series, []
    number = series.frame_number - series.frame_number[0]
    step, first = np.polyfit(number, series.angle_mid_deg, 1)
    start = first - 0.5 * step + step * number
    off = float(np.abs(start + 0.5 * step - series.angle_mid_deg).max())
    if off < EVEN_DEG and np.abs(series.angle_width_deg - step).max() < EVEN_DEG:
        return series, []
    width = float(np.median(series.angle_width_deg))
    return series.with_(angle_start_deg=start, angle_width_deg=np.full(len(series), step)), [
        f"angles in the headers are those of an even rotation by {step:.5f} degrees a frame "
        f"(exposures cover {width:.5f}); frames are up to {off:.4f} degrees off it"
    ]


def _header(series: RotationSeries, i: int, pedestal: float) -> bytes:
    """The header of the `i`-th frame, 512 bytes."""
    geometry = series.geometry
    if series.beam_centres_px is not None:
        row, column = series.beam_centres_px[i]
        geometry = replace(geometry, beam_centre_px=(float(row), float(column)))
    return frame_header(
        geometry,
        series.shape,
        float(series.angle_start_deg[i]),
        float(series.angle_width_deg[i]),
        exposure_s=series.exposure_s,
        pedestal=series.pedestal + pedestal,
        saturation=None if series.saturation is None else series.saturation + pedestal,
    )


def frame_header(
    geometry: Geometry,
    shape: tuple[int, int],
    start_deg: float,
    width_deg: float,
    *,
    exposure_s: float | None = None,
    pedestal: float = 0.0,
    saturation: float | None = None,
) -> bytes:
    """The 512 bytes before the pixels (little-endian uint16) of one frame; see `write_smv`."""
    x, y = centre_to_corner(geometry.beam_centre_px)
    timepix = shape == (516, 516)
    if not timepix:  # in mm, X along rows
        x, y = y * geometry.pixel_size_mm, x * geometry.pixel_size_mm
    start = f"{start_deg:.6f}"
    items = {
        "HEADER_BYTES": "512",
        "DIM": "2",
        "BYTE_ORDER": "little_endian",
        "TYPE": "unsigned_short",
        "SIZE1": str(shape[1]),
        "SIZE2": str(shape[0]),
        "PIXEL_SIZE": f"{geometry.pixel_size_mm:.9g}",
        "BIN": "1x1",
        "BEAMLINE": "TIMEPIX_SU" if timepix else "EWALDFLOW",
        "DETECTOR_SN": "901",
        "TIME": f"{exposure_s or 0.0:.6g}",
        "DISTANCE": f"{geometry.distance_mm:.9g}",
        "TWOTHETA": "0",
        "PHI": start,
        "OSC_START": start,
        "OSC_RANGE": f"{width_deg:.6f}",
        "WAVELENGTH": f"{geometry.wavelength_A:.11g}",
        "BEAM_CENTER_X": f"{x:.5f}",
        "BEAM_CENTER_Y": f"{y:.5f}",
    }
    if pedestal:
        items["IMAGE_PEDESTAL"] = f"{pedestal:g}"
    if saturation is not None:
        items["CCD_IMAGE_SATURATION"] = f"{saturation:.9g}"
    # DIALS wants the first line to be the brace alone and HEADER_BYTES to follow at once.
    text = "{\n" + "".join(f"{key}={value};\n" for key, value in items.items()) + "}\n"
    return text.encode("ascii").ljust(512)


READER = Reader("SMV", (".img", ".smv"), sniff, read_header, read_pixels)
WRITER = Writer("SMV", ".img", write_smv)
