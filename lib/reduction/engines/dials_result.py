"""What DIALS left in a folder, in our frame and types.

DIALS' laboratory frame is ours turned half about x, (x, -y, -z); it lets beam and detector tilt.
Ours has the beam along z and the detector normal to it, so that everything is turned until the
beam is z and the detector's rows run along x; its distance is measured along the beam.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gemmi
import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from ...crystal.cell import Cell, cell_from_reciprocal_basis
from ...geometry import Geometry, centre_from_corner, to_dials_frame
from ...series import RotationSeries
from ..result import Flag, FrameTable, Lattice, StrongSpots
from .outcome import frame_position, frame_table, lattice_from, lorentz_factors, reflection_rows

Floats = NDArray[np.float64]

# A reflection with more of its rocking curve on missing frames is taken by summation.
_MOST_MISSING = 0.01
# Less of a rocking curve than this is PARTIAL.
_WHOLE = 0.95
# A rotation of the lattice must correlate intensities half as well as the best one does, which
# tells something only if that is so good; and with fewer pairs nothing is told.
_HALF, _TELLING_CC, _MIN_PAIRS = 0.5, 0.4, 10
# The bounding box of a reflection reaches so many standard deviations to each side.
_BOX_SIGMAS = 3.0


@dataclass(frozen=True)
class Setting:
    """One row of dials.refine_bravais_settings.

    Attributes
    ----------
    number : higher for higher symmetry.
    bravais, cell : lattice type and conventional cell.
    angle_deg, rmsd : misfit of the metric, and of the spots in mm.
    recommended : by DIALS, which looks at the misfits.
    correlations : of intensities under each rotation, where ten pairs or more tell it.
    change_of_basis : from P1.
    """

    number: int
    bravais: str
    cell: Cell
    angle_deg: float
    rmsd: float
    recommended: bool
    correlations: tuple[float, ...]
    change_of_basis: str

    def fits(self, cell: Cell, edges: float = 0.05, angle_deg: float = 3.0) -> bool:
        """Whether it is a known conventional cell, in this order of axes."""
        found, known = np.array(self.cell), np.array(cell)
        return bool(
            np.abs(found[:3] / known[:3] - 1).max() < edges
            and np.abs(found[3:] - known[3:]).max() < angle_deg
        )


@dataclass(frozen=True)
class DialsResult:
    """The lattice, the frames and spots, and what is odd about them."""

    lattice: Lattice
    frames: FrameTable
    spots: StrongSpots
    notes: tuple[str, ...]


def indexed_part(text: str) -> float:
    """Indexed part of the spots, from the last table ``| 0 | 590 | 121 | 83.0% |`` of a log."""
    rows = re.findall(r"\|\s*\d+ \|\s*\d+ \|\s*\d+ \|\s*([\d.]+)%", text)
    return float(rows[-1]) / 100 if rows else 0.0


def settings_found(folder: Path) -> tuple[Setting, ...]:
    """Rows of ``bravais_summary.json``, the highest symmetry first."""
    try:
        rows = json.loads((folder / "bravais_summary.json").read_text())
    except (OSError, ValueError):
        return ()
    found = [
        Setting(
            int(number), row["bravais"], tuple(row["unit_cell"]), row["max_angular_difference"],
            row["rmsd"], bool(row["recommended"]), _correlations(row), row["cb_op"],
        )
        for number, row in rows.items()
    ]  # fmt: skip
    return tuple(sorted(found, key=lambda one: -one.number))


def best_setting(settings: Sequence[Setting]) -> Setting:
    """The highest recommended lattice whose rotations the intensities do not contradict.

    Each must reach half the correlation of the best of all rotations, as in `laue_verdict`; where
    even that is poor, or none is known, the metric alone decides.
    """
    best = max((cc for one in settings for cc in one.correlations), default=0.0)
    limit = _HALF * best if best > _TELLING_CC else -1.0
    fit = [one for one in settings if one.recommended and min(one.correlations, default=1) >= limit]
    return (fit or list(settings)[-1:])[0]


def _correlations(row: dict[str, Any]) -> tuple[float, ...]:
    # the first is the identity
    values = row.get("correlation_coefficients", [])[1:]
    pairs = row.get("cc_nrefs", [])[1:]
    return tuple(
        cc for cc, n in zip(values, pairs, strict=False) if cc is not None and n >= _MIN_PAIRS
    )


def reversed_axis(folder: Path) -> str:
    """Write the imported experiments with the opposite rotation; the file's name."""
    experiments = json.loads((folder / "imported.expt").read_text())
    for goniometer in experiments["goniometer"]:
        goniometer["rotation_axis"] = [-value for value in goniometer["rotation_axis"]]
    name = "imported_reversed.expt"
    (folder / name).write_text(json.dumps(experiments))
    return name


def read_dials(
    folder: Path, series: RotationSeries, blank: NDArray[np.bool_] | None = None
) -> DialsResult:
    """The integrated lattice, from ``integrated.expt`` and the arrays of `dials_tables`.

    `blank` : (n,) frames that DIALS was given without their pixels.
    """
    experiment = json.loads((folder / "integrated.expt").read_text())
    with np.load(folder / "tables.npz") as file:
        t = dict(file)
    crystal = experiment["crystal"][0]
    frame = _detector_frame(experiment)
    real = np.array([_ours(crystal[f"real_space_{axis}"]) for axis in "abc"]) @ frame.T
    orientation = np.asarray(np.linalg.inv(real), np.float64)
    geometry = _geometry(experiment, frame, series)
    bravais = _bravais(crystal["space_group_hall_symbol"])
    cell = cell_from_reciprocal_basis(orientation)

    # of the two turns that are the same, DIALS is told the one with growing angles
    told_axis = _ours(experiment["goniometer"][0]["rotation_axis"]) @ frame.T
    sense = float(np.sign(told_axis @ np.array(series.geometry.axis)) or 1.0)
    width = float(np.median(series.angle_width_deg))
    stepped = float(np.sign(width)) if width else 1.0
    notes = []
    if sense * stepped < 0:
        notes.append("the rotation axis is opposite to the one given")
    number = t["xyz_px"][:, 2] + 0.5  # z counts from before frame 1
    at = frame_position(series, number)
    # about `geometry.axis`, along which the angles of the series are counted
    angle = stepped * np.rad2deg(t["phi_rad"])
    hkl = t["hkl"].astype(np.int32)
    lorentz = lorentz_factors(orientation, geometry, hkl, angle)

    missing = _missing_part(series, blank, t["first_z"], t["stop_z"], number - 0.5)
    partiality = np.clip(t["partiality"], 1e-6, 1.0) * (1 - missing)
    by_sum = t["sum_intensity"] / np.maximum(partiality, 1e-3)
    sum_sigma = np.sqrt(t["sum_variance"]) / np.maximum(partiality, 1e-3)
    by_profile, profile_sigma = t["prf_intensity"], np.sqrt(t["prf_variance"])
    summed = missing > _MOST_MISSING
    if not np.any(np.isfinite(by_profile)):
        notes.append("profiles could not be fitted: all intensities are by summation")
        summed[:] = True
    intensity = np.where(summed, by_sum, by_profile)
    sigma = np.where(summed, sum_sigma, profile_sigma)
    (column, row), (seen_column, seen_row) = (
        t[name][:, :2].T - 0.5  # from the detector's corner, there
        for name in ("xyz_px", "observed_px")
    )
    flags = (
        Flag.SATURATED * t["overloaded"]
        + Flag.MASKED * t["masked"]
        + Flag.PARTIAL * (partiality < _WHOLE)
        + Flag.OVERLAP * t["overlapped"]
        + Flag.BACKGROUND * t["no_background"]
        + Flag.PROFILE_FAILED * ~(np.isfinite(intensity) & (sigma > 0))
    ).astype(np.uint32)
    reflections = reflection_rows(
        hkl=hkl,
        intensity=intensity / lorentz,
        sigma=sigma / lorentz,
        intensity_sum=by_sum / lorentz,
        sigma_sum=sum_sigma / lorentz,
        background=t["background"],
        frame=at,
        angle_deg=angle,
        row=row,
        column=column,
        observed_row=seen_row,
        observed_column=seen_column,
        partiality=partiality,
        lorentz=lorentz,
        cell=cell,
        flags=flags,
    )
    a, b, c, alpha, beta, gamma = t["cell_esd"].tolist()
    residual = t["residual_px"]
    lattice = lattice_from(
        bravais=bravais,
        orientation=orientation,
        geometry=geometry,
        reflections=reflections,
        n_spots=len(t["spot_indexed"]),
        n_indexed=int(t["spot_indexed"].sum()),
        rms_px=float(np.sqrt(np.mean(residual**2))) if len(residual) else float("nan"),
        rms_deg=float(np.rad2deg(np.sqrt(np.mean(t["residual_rad"] ** 2)))),
        cell_esd=(a, b, c, alpha, beta, gamma),
        mosaicity_deg=float(t["profile_esd_deg"][0]),
    )
    spots = StrongSpots(
        t["spot_px"][:, 1] - 0.5,
        t["spot_px"][:, 0] - 0.5,
        frame_position(series, t["spot_px"][:, 2] + 0.5),
        t["spot_intensity"] / np.sqrt(np.maximum(t["spot_variance"], 1e-12)),
        t["spot_indexed"].astype(np.int64),
    )
    frames = frame_table(
        series,
        spot_frame=spots.frame,
        indexed=t["spot_indexed"],
        centre_px=geometry.beam_centre_px,
        blank=blank,
    )
    return DialsResult(lattice, frames, spots, tuple(notes))


def _missing_part(
    series: RotationSeries, blank: NDArray[np.bool_] | None, first: Floats, stop: Floats, z: Floats
) -> Floats:
    """(n,) part of each rocking curve, a Gaussian in its bounding box, on missing frames."""
    there = series.frame_number if blank is None else series.frame_number[~blank]
    present = set(there.tolist())
    every = range(int(series.frame_number[0]), int(series.frame_number[-1]) + 1)
    sigma = np.maximum(stop - first, 1) / (2 * _BOX_SIGMAS)
    part = np.zeros(len(z))
    for number in every:
        if number not in present:
            part += ndtr((number - z) / sigma) - ndtr((number - 1 - z) / sigma)
    return np.clip(part, 0, 1)


def _detector_frame(experiment: dict[str, Any]) -> Floats:
    """Rows are our x, y, z in the laboratory frame of DIALS after its half turn."""
    # the direction it stores points back to the source
    beam = -_ours(experiment["beam"][0]["direction"])
    fast = _ours(experiment["detector"][0]["panels"][0]["fast_axis"])
    z = beam / np.linalg.norm(beam)
    x = fast - (fast @ z) * z
    x /= np.linalg.norm(x)
    return np.array([x, np.cross(z, x), z])


def _geometry(experiment: dict[str, Any], frame: Floats, series: RotationSeries) -> Geometry:
    panel = experiment["detector"][0]["panels"][0]
    fast, slow, origin = (_ours(panel[f"{name}"]) for name in ("fast_axis", "slow_axis", "origin"))
    # origin + x fast + y slow = distance * beam
    x, y, distance = np.linalg.solve(np.stack([-fast, -slow, frame[2]], axis=1), origin)
    pixel = panel["pixel_size"][0]
    axis = _ours(experiment["goniometer"][0]["rotation_axis"]) @ frame.T
    # angles of the series count about its own axis: the sense that it was told with
    width = float(np.median(series.angle_width_deg))
    axis = axis * (float(np.sign(width)) or 1.0)
    return series.geometry.with_(
        wavelength_A=experiment["beam"][0]["wavelength"],
        distance_mm=float(distance),
        beam_centre_px=centre_from_corner(x / pixel, y / pixel),
        axis=tuple(axis.tolist()),
    )


def _ours(vector: list[float]) -> Floats:
    return to_dials_frame(vector)  # its own inverse


def _bravais(hall: str) -> str:
    """Pearson-style symbol of the lattice of a space group, as DIALS writes its name."""
    group = gemmi.find_spacegroup_by_ops(gemmi.symops_from_hall(hall))
    system = group.crystal_system_str()
    letter = {"triclinic": "a", "trigonal": "h"}.get(system, system[0])
    return letter + group.centring_type()
