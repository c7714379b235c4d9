"""Reflection files of XDS: XDS_ASCII.HKL, XSCALE's outputs, INTEGRATE.HKL.

gemmi reads the reflections; here the header is read, which gemmi does in part, the data set
each reflection of XSCALE comes from (ISET), and columns that other programs have appended. A
file without its END_OF_DATA is refused: half a data set looks like a whole one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import nan
from pathlib import Path

import gemmi
import numpy as np
from numpy.typing import NDArray

from ..crystal.cell import Cell, Floats
from ..errors import UserError
from ..reduction.xds_ascii import XdsObservations, read_xds_ascii
from .log import MAX_BYTES, Vector, cell_or_none, count, number, numbers, vector_or_none
from .xparm import XdsGeometry, check_geometry

# what XDS and XSCALE write; SIGMA and the CAL and OBS positions stand in INTEGRATE.HKL
_KNOWN = {"H", "K", "L", "IOBS", "SIGMA(IOBS)", "XD", "YD", "ZD", "RLP", "PEAK", "CORR", "PSI",
          "ISET", "DECAY", "MAXC", "SIGMA", "XCAL", "YCAL", "ZCAL", "XOBS", "YOBS", "ZOBS",
          "ALF0", "BET0", "ALF1", "BET1", "ISEG"}  # fmt: skip
_DO = "give the file that XDS or XSCALE wrote"
_MAX_HEADER = 1_000_000  # lines; XSCALE writes four per data set


@dataclass(frozen=True)
class HklSet:
    """One of the data sets that XSCALE put together.

    Attributes
    ----------
    number : ISET, from 1.
    input_file : blanks kept.
    wavelength_A : NaN if unknown.
    cell : None if not stated.
    """

    number: int
    input_file: str
    wavelength_A: float
    cell: Cell | None


@dataclass(frozen=True)
class HklHeader:
    """What the header says. What it does not say is None, NaN or empty.

    Attributes
    ----------
    program : CORRECT, XSCALE, INTEGRATE, or what another program calls itself.
    version, build : of that program, as in `log.Banner`.
    merged : MERGE.
    friedel : FRIEDEL'S_LAW.
    items : names of the columns, in order.
    space_group_number, cell : of the indices.
    wavelength_A : NaN if not stated.
    data_range : first and last frame.
    divergence_esd_deg, mosaicity_esd_deg : BEAM_DIVERGENCE_E.S.D., REFLECTING_RANGE_E.S.D.
    variance_model : a, b of the error model; NaN if not stated.
    geometry : None unless everything that it needs is stated, and possible.
    sets : of XSCALE.
    """

    program: str
    version: str
    build: int | None
    merged: bool | None
    friedel: bool | None
    items: tuple[str, ...]
    space_group_number: int | None
    cell: Cell | None
    wavelength_A: float
    data_range: tuple[int, int] | None
    divergence_esd_deg: float
    mosaicity_esd_deg: float
    variance_model: tuple[float, float]
    geometry: XdsGeometry | None
    sets: tuple[HklSet, ...]


@dataclass(frozen=True, eq=False)
class XdsHkl:
    """A reflection file of XDS.

    Attributes
    ----------
    header : see `HklHeader`.
    hkl : (n, 3) int32.
    intensity, sigma : (n,); sigma is positive throughout.
    misfit : (n,) True where the file had a negative sigma.
    observations : positions, only of unmerged data (see `reduction.xds_ascii`).
    set_number : (n,) ISET, from 1; zeros without one.
    appended : (n,) values of the columns that no version of XDS writes, by name.
    """

    header: HklHeader
    hkl: NDArray[np.int32]
    intensity: Floats
    sigma: Floats
    misfit: NDArray[np.bool_]
    observations: XdsObservations | None
    set_number: NDArray[np.int32]
    appended: dict[str, Floats]

    def __len__(self) -> int:
        return len(self.hkl)


def read_hkl(path: str | Path) -> XdsHkl:
    """Read any reflection file of XDS or XSCALE, merged or not.

    Raises
    ------
    UserError : the file cannot be read as one, or is cut.
    """
    header, n_header = _read_header(Path(path))
    try:
        file = gemmi.read_xds_ascii(str(path))
        hkl = np.asarray(file.miller_array, np.int32).reshape(-1, 3)
        sigma = np.asarray(file.sigma_array, float)
        intensity = np.asarray(file.iobs_array, float)
        set_number = np.asarray(file.iset_array, np.int32)
        unmerged = file.read_columns >= 8
    except (OSError, RuntimeError, ValueError, OverflowError) as error:
        raise UserError(path, _printable(str(error)), "a reflection file of XDS", _DO) from None
    return XdsHkl(
        header=header,
        hkl=hkl,
        intensity=intensity,
        sigma=np.abs(sigma),
        misfit=sigma < 0,
        observations=read_xds_ascii(path) if unmerged else None,
        set_number=set_number if header.sets else np.zeros(len(hkl), np.int32),
        appended=_appended(Path(path), header, n_header, len(hkl)),
    )


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)[:200]


def _read_header(path: Path) -> tuple[HklHeader, int]:
    lines: list[str] = []
    try:
        if path.stat().st_size > MAX_BYTES * 8:
            raise UserError(path, "more than 4 GB", "a reflection file", _DO)
        with path.open(encoding="latin-1", newline="\n") as file:
            for line in file:
                if not line.startswith("!") or len(lines) > _MAX_HEADER:
                    break
                lines.append(line[1:2000].rstrip())
                if line.startswith("!END_OF_HEADER"):
                    break
    except (OSError, ValueError) as error:
        reason = str(getattr(error, "strerror", None) or error)
        raise UserError(path, reason, "a reflection file of XDS", _DO) from None
    if not lines or not re.match(r"FORMAT=XDS_ASCII|OUTPUT_FILE=INTEGRATE\.HKL", lines[0]):
        raise UserError(path, "another first line", "a reflection file of XDS", _DO)
    return _header(path, lines), len(lines)


def _header(path: Path, lines: list[str]) -> HklHeader:
    cards: dict[str, str] = {}
    for line in lines:
        if line.lstrip().startswith("ISET="):
            continue
        found = list(re.finditer(r"([A-Z][^\s=]*)=", line))
        for card, after in zip(found, [*found[1:], None], strict=False):
            cards.setdefault(card[1], line[card.end() : after.start() if after else None].strip())
    banner = next((line for line in lines if line.startswith("Generated by")), "")
    m = re.match(r"Generated by\s+(\S+)\s*(?:\(\s*VERSION\s+(.*?)\s*\))?", banner)
    built = re.search(r"^(.*?)\s+BUILT=\s*(\d+)", m[2]) if m and m[2] else None
    version = (built[1] if built else m[2] or "") if m else ""
    truth = {"TRUE": True, "FALSE": False}
    variance = numbers(cards.get("VARIANCE_MODEL"))
    group = count(cards.get("SPACE_GROUP_NUMBER"))
    return HklHeader(
        program=_printable(m[1]) if m else "",
        version=_printable(version),
        build=int(built[2]) if built else None,
        merged=truth.get(cards.get("MERGE", "")),
        friedel=truth.get(cards.get("FRIEDEL'S_LAW", "")),
        items=_items(lines),
        space_group_number=group if group and 1 <= group <= 230 else None,
        cell=cell_or_none(numbers(cards.get("UNIT_CELL_CONSTANTS"))),
        wavelength_A=number(cards.get("X-RAY_WAVELENGTH")),
        data_range=_range(cards.get("DATA_RANGE", "")),
        divergence_esd_deg=number(cards.get("BEAM_DIVERGENCE_E.S.D.")),
        mosaicity_esd_deg=number(cards.get("REFLECTING_RANGE_E.S.D.")),
        variance_model=(variance[0], variance[1]) if len(variance) == 2 else (nan, nan),
        geometry=_geometry(path, cards),
        sets=_sets(lines),
    )


def _items(lines: list[str]) -> tuple[str, ...]:
    """Column names: one per line with its number, or in INTEGRATE.HKL a list over two lines."""
    found = [m for line in lines if (m := re.match(r"ITEM_(\S+?)=\s*(-?\d{1,4})\s*$", line))]
    if found:
        return tuple(m[1] for m in sorted(found, key=lambda m: int(m[2])))
    start = next((i for i, line in enumerate(lines) if line.startswith("H,K,L,")), None)
    if start is None:
        return ()
    text = lines[start]
    if text.endswith(",") and start + 1 < len(lines):
        text += lines[start + 1].strip()
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _range(text: str) -> tuple[int, int] | None:
    words = [count(word) for word in text.split()[:2]]
    first, last = words if len(words) == 2 else (None, None)
    return None if first is None or last is None else (first, last)


def _geometry(path: Path, cards: dict[str, str]) -> XdsGeometry | None:
    def vector(key: str) -> Vector | None:
        return vector_or_none(numbers(cards.get(key)))

    group, cell = (
        count(cards.get("SPACE_GROUP_NUMBER")),
        cell_or_none(numbers(cards.get("UNIT_CELL_CONSTANTS"))),
    )
    a, b, c = (vector(f"UNIT_CELL_{axis}-AXIS") for axis in "ABC")
    frame, nx, ny = (count(cards.get(key)) for key in ("STARTING_FRAME", "NX", "NY"))
    axis, beam = vector("ROTATION_AXIS"), vector("INCIDENT_BEAM_DIRECTION")
    x, y = vector("DIRECTION_OF_DETECTOR_X-AXIS"), vector("DIRECTION_OF_DETECTOR_Y-AXIS")
    keys = ("STARTING_ANGLE", "OSCILLATION_RANGE", "X-RAY_WAVELENGTH", "QX", "QY", "ORGX", "ORGY")
    start, step, wavelength, qx, qy, orgx, orgy = (number(cards.get(key)) for key in keys)
    distance = number(cards.get("DETECTOR_DISTANCE"))
    scalars = (start, step, wavelength, qx, qy, orgx, orgy, distance)
    if (
        group is None or cell is None or a is None or b is None or c is None or frame is None
        or nx is None or ny is None or axis is None or beam is None or x is None or y is None
        or not np.all(np.isfinite(scalars))
    ):  # fmt: skip
        return None
    found = XdsGeometry(
        source=str(path),
        starting_frame=frame,
        starting_angle_deg=start,
        oscillation_deg=step,
        rotation_axis=axis,
        wavelength_A=wavelength,
        beam=beam,
        space_group_number=group,
        cell=cell,
        axes=(a, b, c),
        nx=nx,
        ny=ny,
        qx_mm=qx,
        qy_mm=qy,
        orgx=orgx,
        orgy=orgy,
        distance_mm=distance,
        detector_x=x,
        detector_y=y,
    )
    try:
        check_geometry(found)
    except UserError:  # the reflections do not need it
        return None
    return found


def _sets(lines: list[str]) -> tuple[HklSet, ...]:
    names: dict[int, str] = {}
    wavelengths: dict[int, float] = {}
    cells: dict[int, Cell | None] = {}
    for line in lines:
        m = re.match(r"\s*ISET=\s*(\d{1,9})\s+([A-Z][^\s=]*)=(.*)", line)
        if m is None:
            continue
        n, text = int(m[1]), m[3].strip()
        if m[2] == "INPUT_FILE":
            names[n] = _printable(text)
        elif m[2] == "X-RAY_WAVELENGTH":
            value = (numbers(text.partition("(")[0]) or [nan])[0]
            wavelengths[n] = value if value > 0 else nan
        elif m[2] == "UNIT_CELL_CONSTANTS":
            cells[n] = cell_or_none(numbers(text))
    return tuple(HklSet(n, names[n], wavelengths.get(n, nan), cells.get(n)) for n in sorted(names))


def _appended(path: Path, header: HklHeader, n_header: int, n: int) -> dict[str, Floats]:
    columns = [i for i, name in enumerate(header.items) if name not in _KNOWN]
    if not columns:
        return {}
    try:
        table = np.loadtxt(
            path, comments="!", usecols=columns, ndmin=2, encoding="latin-1", skiprows=n_header
        )
    except (OSError, ValueError, IndexError) as error:
        found = _printable(str(error))
        raise UserError(path, found, f"{len(header.items)} columns in each line", _DO) from None
    if len(table) != n:
        found = f"{len(table)} lines with appended columns, {n} reflections"
        raise UserError(path, found, "as many", _DO)
    return {header.items[i]: table[:, j] for j, i in enumerate(columns)}
