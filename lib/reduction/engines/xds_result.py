"""What XDS left in a folder, in our types."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...crystal.cell import cell_from_reciprocal_basis
from ...crystal.lattice_symmetry import bravais_of_space_group
from ...errors import UserError
from ...series import RotationSeries
from ...xds.correct import Correct, read_correct
from ...xds.hkl import read_hkl
from ...xds.integrate import ImageTable, read_integrate
from ...xds.spot_xds import read_spot_xds
from ..result import Flag, FrameTable, Lattice, StrongSpots
from .outcome import (
    NO_ESD,
    frame_position,
    frame_table,
    lattice_from,
    lorentz_factors,
    reflection_rows,
)

Floats = NDArray[np.float64]

# Less of a reflection's profile than this is PARTIAL.
_WHOLE = 0.95
_AGAIN = "run XDS again"


@dataclass(frozen=True)
class XdsResult:
    """The lattice, the frames and spots, the gain that XDS found, and what is odd about them."""

    lattice: Lattice
    frames: FrameTable
    spots: StrongSpots
    gain: float
    notes: tuple[str, ...]


def read_xds(
    folder: Path, series: RotationSeries, blank: NDArray[np.bool_] | None = None
) -> XdsResult:
    """The integrated lattice, from XDS_ASCII.HKL, CORRECT.LP, INTEGRATE.LP and SPOT.XDS.

    XDS gives no summed intensities and no observed positions here: they are NaN. A misfit of
    CORRECT is an OUTLIER. The scale of a frame is XDS's own, from INTEGRATE.LP. Intensities are
    XDS's over gain and wavelength, so that times our Lorentz factor they are about electrons.
    `blank` : (n,) frames that XDS was not given.

    Raises
    ------
    UserError : a file is missing, cut, or of something else.
    """
    path = folder / "XDS_ASCII.HKL"
    file = read_hkl(path)
    told, seen = file.header.geometry, file.observations
    if told is None or seen is None or file.header.space_group_number is None:
        found = "no whole geometry" if seen is not None else "merged data"
        raise UserError(path, found, "unmerged data of CORRECT", _AGAIN)
    peak = _peak_percent(path, file.header.items)
    correct = read_correct(folder / "CORRECT.LP")
    integrate = read_integrate(folder / "INTEGRATE.LP")
    spots = read_spot_xds(folder / "SPOT.XDS")

    # XDS turns towards growing angles; where the series does not, about the opposite axis
    sense = float(np.prod(np.sign([np.median(series.angle_width_deg), told.oscillation_deg])))
    sense = sense or 1.0
    theirs = told.geometry()
    geometry = series.geometry.with_(
        wavelength_A=theirs.wavelength_A,
        distance_mm=theirs.distance_mm,
        beam_centre_px=theirs.beam_centre_px,
        axis=tuple((sense * np.array(theirs.axis)).tolist()),
    )
    orientation = told.orientation()
    gain = integrate.gain if integrate.gain > 0 else 1.0

    use = np.isfinite(file.intensity) & np.isfinite(file.sigma) & (file.sigma > 0)
    hkl, number = file.hkl[use], seen.frame_number[use]
    angle = sense * told.angle_deg(number)
    partiality = np.clip(peak[use] / 100, 0.0, 1.0)
    flags = Flag.OUTLIER * file.misfit[use] + Flag.PARTIAL * (partiality < _WHOLE)
    to_ours = 1 / (geometry.wavelength_A * gain)
    reflections = reflection_rows(
        hkl=hkl,
        intensity=file.intensity[use] * to_ours,
        sigma=file.sigma[use] * to_ours,
        frame=frame_position(series, number),
        angle_deg=angle,
        row=seen.row[use],
        column=seen.column[use],
        partiality=partiality,
        lorentz=lorentz_factors(orientation, geometry, hkl, angle),
        cell=cell_from_reciprocal_basis(orientation),
        flags=flags.astype(np.uint32),
    )
    refined = correct.refined
    lattice = lattice_from(
        bravais=bravais_of_space_group(file.header.space_group_number),
        orientation=orientation,
        geometry=geometry,
        reflections=reflections,
        n_spots=len(spots),
        n_indexed=int(spots.indexed.sum()),
        rms_px=refined.sd_spot_px if refined else float("nan"),
        rms_deg=refined.sd_spindle_deg if refined else float("nan"),
        cell_esd=(refined.cell_esd if refined else None) or NO_ESD,
        mosaicity_deg=file.header.mosaicity_esd_deg,
    )
    strong = StrongSpots(
        spots.row,
        spots.column,
        frame_position(series, spots.frame_number),
        np.sqrt(np.maximum(spots.intensity, 0) / gain),  # as counting has it
        spots.indexed.astype(np.int64),
    )
    frames = frame_table(
        series,
        spot_frame=strong.frame,
        indexed=spots.indexed,
        centre_px=geometry.beam_centre_px,
        scale=_scales(integrate.images, series),
        blank=blank,
    )
    return XdsResult(lattice, frames, strong, gain, _notes(correct, lattice, series))


def _peak_percent(path: Path, items: tuple[str, ...]) -> Floats:
    """(n,) PEAK of every record: how much of the profile was recorded, in percent."""
    if "PEAK" not in items:
        raise UserError(path, "no column PEAK", "unmerged data of CORRECT", _AGAIN)
    try:
        column = np.loadtxt(
            path, comments="!", usecols=items.index("PEAK"), ndmin=1, encoding="latin-1"
        )
    except (OSError, ValueError, IndexError) as error:
        raise UserError(path, str(error), f"{len(items)} numbers in a line", _AGAIN) from None
    return np.asarray(column, np.float64)


def _scales(images: ImageTable, series: RotationSeries) -> Floats:
    known = dict(zip(images.number.tolist(), images.scale.tolist(), strict=True))
    return np.array([known.get(number, np.nan) for number in series.frame_number.tolist()])


def _notes(correct: Correct, lattice: Lattice, series: RotationSeries) -> tuple[str, ...]:
    notes = []
    model = correct.error_model
    if model is not None:
        isa = f"ISa {model.isa:.2f}" if model.determined else "ISa not determined"
        notes.append(f"CORRECT: {isa}")
    if not correct.refinement_accepted:
        notes.append("CORRECT did not accept its own refinement")
    notes += [f"CORRECT: {one.text}" for one in correct.warnings]
    if not correct.complete:
        notes.append(f"CORRECT.LP is cut at {correct.stops_at}")
    if np.dot(lattice.geometry.axis, series.geometry.axis) < 0:
        notes.append("the rotation axis is opposite to the one given")
    return tuple(notes)
