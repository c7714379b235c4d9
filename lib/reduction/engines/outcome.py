"""What a program of others found, as our types: what it leaves out is worked out or NaN."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import gemmi
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...crystal.cell import Cell, cell_from_reciprocal_basis, d_spacing_A, orthogonalisation
from ...crystal.lattice_symmetry import candidate_operators, lattice_candidates
from ...geometry import Geometry, rotated
from ...series import RotationSeries
from ..laue_symmetry import laue_verdict
from ..result import Flag, FrameTable, Lattice, Reduction, Reflections, StrongSpots
from ..statistics import cc_half, chi_square_of_equivalents, equivalents, r_merge

Floats = NDArray[np.float64]

_UNUSABLE = Flag.OVERLAP | Flag.BACKGROUND | Flag.PROFILE_FAILED
_MIN_PARTIALITY = 0.7
NO_ESD: Cell = (np.nan,) * 6


def lorentz_factors(
    orientation: Floats, geometry: Geometry, hkl: ArrayLike, angle_deg: ArrayLike
) -> Floats:
    """(n,) 1 / |d(excitation error) / d(rotation)| in Å rad, at the angles of diffraction.

    With s = s0 + q and both of length 1/lambda, ``d|s|/d(phi) = lambda s . (axis x q)``, which
    is ``lambda axis . (s x s0)`` but for its sign.
    """
    q = rotated(np.asarray(hkl, float) @ orientation.T, geometry.axis, np.asarray(angle_deg, float))
    s0 = geometry.s0
    speed = geometry.wavelength_A * np.abs(np.cross(s0 + q, s0) @ np.array(geometry.axis))
    with np.errstate(divide="ignore"):
        return np.asarray(1 / speed, np.float64)


def niggli_cell(cell: Cell, bravais: str) -> Cell:
    """The reduced cell of the primitive lattice of a conventional cell."""
    vector = gemmi.GruberVector(gemmi.UnitCell(*cell), bravais[1])
    vector.niggli_reduce()
    a, b, c, alpha, beta, gamma = (float(v) for v in vector.cell_parameters())
    return a, b, c, alpha, beta, gamma


def reflection_rows(
    *,
    hkl: NDArray[np.int32],
    intensity: Floats,
    sigma: Floats,
    frame: Floats,
    angle_deg: Floats,
    row: Floats,
    column: Floats,
    partiality: Floats,
    lorentz: Floats,
    cell: Cell,
    flags: NDArray[np.uint32],
    intensity_sum: Floats | None = None,
    sigma_sum: Floats | None = None,
    background: Floats | None = None,
    observed_row: Floats | None = None,
    observed_column: Floats | None = None,
) -> Reflections:
    """Reflections in the order of diffraction; what is None becomes NaN."""
    unknown = np.full(len(hkl), np.nan)

    def known(values: Floats | None) -> Floats:
        return unknown if values is None else values

    table = Reflections(
        hkl=hkl,
        intensity_sum=known(intensity_sum),
        sigma_sum=known(sigma_sum),
        intensity=intensity,
        sigma=sigma,
        background=known(background),
        frame=frame,
        angle_deg=angle_deg,
        row=row,
        column=column,
        observed_row=known(observed_row),
        observed_column=known(observed_column),
        partiality=partiality,
        lorentz=lorentz,
        d_A=d_spacing_A(hkl, cell),
        flags=flags,
    )
    return table[np.argsort(frame, kind="stable")]


def lattice_from(
    *,
    bravais: str,
    orientation: Floats,
    geometry: Geometry,
    reflections: Reflections,
    n_spots: int,
    n_indexed: int,
    rms_px: float,
    rms_deg: float,
    cell_esd: Cell = NO_ESD,
    mosaicity_deg: float = float("nan"),
    esd: Mapping[str, float] | None = None,
) -> Lattice:
    """A lattice; the unconstrained cell is the constrained one, as only that is known."""
    cell = cell_from_reciprocal_basis(orientation)
    reduced = niggli_cell(cell, bravais)
    return Lattice(
        bravais=bravais,
        orientation=orientation,
        cell=cell,
        cell_esd=cell_esd,
        cell_p1=cell,
        cell_p1_esd=cell_esd,
        niggli=reduced,
        geometry=geometry,
        esd=dict(esd or {}),
        rotation_scale=1.0,
        candidates=lattice_candidates(orthogonalisation(reduced)),
        mosaicity_deg=mosaicity_deg,
        size_per_A=float("nan"),
        n_spots=n_spots,
        n_indexed=n_indexed,
        rms_px=rms_px,
        rms_deg=rms_deg,
        reflections=reflections,
    )


def frame_table(
    series: RotationSeries,
    *,
    spot_frame: ArrayLike = (),
    indexed: ArrayLike = (),
    centre_px: tuple[float, float] | None = None,
    scale: Floats | None = None,
    background: Floats | None = None,
    blank: NDArray[np.bool_] | None = None,
) -> FrameTable:
    """What happened to every frame of the series.

    Parameters
    ----------
    spot_frame, indexed : (m,) frame position of each strong spot, and whether it was indexed.
    centre_px : refined (row, column) of the direct beam; None for the nominal one.
    scale, background : (n,), as in `FrameTable`; None where the program says nothing.
    blank : (n,), as in `FrameTable`; None if none is.
    """
    n = len(series)
    at = np.clip(np.rint(np.asarray(spot_frame, float)).astype(int), 0, max(n - 1, 0))
    row, column = centre_px or series.geometry.beam_centre_px
    unknown = np.full(n, np.nan)
    return FrameTable(
        frame_number=series.frame_number,
        angle_deg=series.angle_mid_deg,
        beam_row=np.full(n, row),
        beam_column=np.full(n, column),
        scale=unknown if scale is None else scale,
        profile_ratio=unknown,
        n_spots=np.bincount(at, minlength=n),
        n_indexed=np.bincount(at[np.asarray(indexed, bool)], minlength=n),
        background=unknown if background is None else background,
        blank=np.zeros(n, bool) if blank is None else blank,
    )


def frame_position(series: RotationSeries, number: ArrayLike) -> Floats:
    """Positions in the series of frame numbers; an integer is the middle of that frame.

    Continues by one per frame before the first and after the last.
    """
    known, value = series.frame_number.astype(float), np.asarray(number, float)
    inside = np.interp(value, known, np.arange(len(known)))
    return np.asarray(
        inside + np.minimum(value - known[0], 0) + np.maximum(value - known[-1], 0), np.float64
    )


def reduction_from(
    series: RotationSeries,
    lattices: Sequence[Lattice],
    frames: FrameTable,
    *,
    gain: float,
    seconds: Mapping[str, float],
    notes: Sequence[str],
    seed: int = 0,
    why: str = "",
    spots: StrongSpots | None = None,
) -> Reduction:
    """The result of a program, with figures of merit of its first lattice.

    `why` there is no lattice, where there is none.
    """
    n_spots = float(frames.n_spots.sum())
    figures = {"lattices": float(len(lattices)), "spots": n_spots}
    if not lattices:
        return Reduction(series.name, (), frames, gain, figures, dict(seconds), tuple(notes), why)
    first = lattices[0]
    figures["indexed_fraction"] = float(frames.n_indexed.sum() / max(n_spots, 1.0))
    r = first.reflections
    good = ~r.has(_UNUSABLE) & np.isfinite(r.intensity) & (r.sigma > 0)
    r = r[good & (r.partiality > _MIN_PARTIALITY)]
    outlier = r.has(Flag.OUTLIER | Flag.MISFIT)
    figures["outliers"] = float(outlier.sum())
    r = r[~outlier]
    figures["reflections"] = float(len(r))
    if len(r) > 20:
        operators = candidate_operators(first.bravais)
        laue = laue_verdict(r.hkl, r.intensity, r.sigma, r.d_A, operators)
        group = equivalents(r.hkl, laue.operators)
        figures.update(
            rotations_tried=float(len(laue.seen)),
            rotations_seen=float(laue.n_seen),
            d_min_A=float(r.d_A.min()),
            i_over_sigma=float(np.mean(r.intensity / r.sigma)),
            r_merge=r_merge(group, r.intensity),
            cc_half=cc_half(group, r.intensity, seed=seed),
            chi_square=chi_square_of_equivalents(group, r.intensity, r.sigma),
        )
        notes = [*notes, f"intensities obey Laue class {laue.laue_class}"]
    return Reduction(
        series.name, tuple(lattices), frames, gain, figures, dict(seconds), tuple(notes),
        _verdict(first, figures), spots,
    )  # fmt: skip


def _verdict(lattice: Lattice, figures: Mapping[str, float]) -> str:
    a, b, c, alpha, beta, gamma = lattice.cell
    usable = "no usable reflection"
    if "d_min_A" in figures:
        usable = f"{figures['reflections']:.0f} reflections to {figures['d_min_A']:.2f} Å"
    return (
        f"{lattice.bravais} {a:.3f} {b:.3f} {c:.3f} Å {alpha:.2f} {beta:.2f} {gamma:.2f}°; "
        f"{100 * figures['indexed_fraction']:.1f} % of {figures['spots']:.0f} spots indexed, "
        f"{usable}"
    )
