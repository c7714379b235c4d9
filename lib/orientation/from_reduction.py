"""Orientation data from a reduction and its frames: intensities frame by frame.

One more pass over the frames, with the reduction's own model: every reflection is summed at its
predicted place on every frame within a window of excitation error, strong or absent, above a local
plane of background. What neighbours, masks or saturation disturb is left out row by row: the
other frames of the same reflection still tell.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..crystal.cell import Floats, reciprocal_basis
from ..errors import UserError
from ..reduction.background import Backgrounds, fit_backgrounds
from ..reduction.model import Model
from ..reduction.prediction import Predictions, predict
from ..reduction.profiles import SliceSums, sum_slices
from ..reduction.result import Flag, Lattice, Reduction
from ..reduction.rocking import RockingCurve
from ..reduction.shoeboxes import ShoeboxCutter, Slices, plan_slices
from ..reduction.survey import Survey, frame_blocks, survey, to_electrons
from ..series import RotationSeries
from .observations import FrameIntensities, OrientationData

Progress = Callable[[str, float], None]

#: Rocking curves are followed so many standard deviations, ...
REACH = 3.0
#: ... and as much farther as a frame may be off.
JITTER_DEG = 0.12
#: A reflection that moves slower than this part of the fastest has no rocking curve to speak of.
SLOWEST = 0.05
#: Centroids on a frame are told from so many standard deviations on.
LEAST_SNR = 4.0
#: Part of the distance to the next reflection that the summation area may reach.
ALONE = 0.45
#: A background is no plane where it falls short of one by so many times its counting error.
UNEVEN = 2.5
#: Width of rocking curves, 1/Å, where the engine tells none.
USUAL_SIZE_PER_A = 1.5e-3


def from_reduction(
    series: RotationSeries,
    reduction: Reduction,
    *,
    window_per_A: float | None = None,
    progress: Progress | None = None,
) -> tuple[OrientationData, ...]:
    """Intensities of every frame, for each lattice of a reduction.

    Parameters
    ----------
    series, reduction : the frames, and what an engine made of them.
    window_per_A : rows are given where \\|s\\| at the middle of the exposure, less what the
        exposure sweeps, is smaller; None takes 3 standard deviations of the rocking curve and
        0.12 degrees more.
    progress : called with the step's name and the fraction done.

    Raises
    ------
    UserError : the reduction holds no lattice, or is of other frames.
    """
    check_match(series, reduction)
    seen = survey(series)
    seen = replace(seen, gain=reduction.gain if reduction.gain > 0 else seen.gain)
    planned = []
    core = core_radius_px(series, seen, reduction)
    for lattice in reduction.lattices:
        model = model_of(series, reduction, lattice)
        planned.append((model, *plan(model, lattice, reduction, series, core, window_per_A)))
    slices = [one for _, _, one in planned]
    centres = [(np.round(one.row), np.round(one.column)) for one in slices]
    cut_slices(series, seen, reduction, slices, core, "sum frames", progress)
    out = []
    for number, (lattice, (model, predictions, cut), centre) in enumerate(
        zip(reduction.lattices, planned, centres, strict=True), 1
    ):
        name = series.name if len(reduction.lattices) == 1 else f"{series.name} lattice {number}"
        rows = _sum(predictions, cut, centre, core)
        out.append(_data(name, series, reduction, lattice, model, rows))
    return tuple(out)


def cut_slices(
    series: RotationSeries,
    seen: Survey,
    reduction: Reduction,
    slices: list[Slices],
    core_px: float,
    step: str,
    progress: Progress | None,
) -> None:
    """One pass over the frames: fill the shoeboxes of all lattices, in place."""
    # by the same arithmetic as the pixels, or the last digit hides saturated ones
    ceiling = to_electrons(np.array([seen.saturation]), series.pedestal, seen.gain)[0]
    cutter = ShoeboxCutter(slices, series.shape, core_px, ceiling)
    for start, block in frame_blocks(series):
        for k, raw in enumerate(block):
            if not reduction.frames.blank[start + k]:
                electrons = to_electrons(raw, series.pedestal, seen.gain)
                cutter.add(electrons, seen.valid, start + k)
        if progress:
            progress(step, (start + len(block)) / len(series))


def check_match(series: RotationSeries, reduction: Reduction) -> None:
    """Refuse a reduction without a lattice, or of other frames."""
    if not reduction.lattices:
        raise UserError(
            f"{series.name}: reduction", "no lattice", "an indexed series",
            "orientations need indices: reduce the series again, or leave it out",
        )  # fmt: skip
    numbers = reduction.frames.frame_number
    if not np.array_equal(numbers, series.frame_number):
        raise UserError(
            f"{series.name}: reduction", f"{len(numbers)} frames, not those of the series",
            f"the series' {len(series)} frames", "give the series that was reduced",
        )  # fmt: skip


def model_of(series: RotationSeries, reduction: Reduction, lattice: Lattice) -> Model:
    """The model that predicts a lattice's reflections, as the reduction left it."""
    frames = reduction.frames
    step = np.median(series.angle_width_deg)
    if len(series) > 1:
        step = np.median(np.diff(series.angle_mid_deg) / np.diff(series.frame_number.astype(float)))
    return Model(
        orientation=lattice.orientation,
        geometry=lattice.geometry,
        beam_track_px=np.stack([frames.beam_row, frames.beam_column], axis=1),
        angle_mid_deg=series.angle_mid_deg,
        angle_step_deg=float(step),
        rotation_scale=lattice.rotation_scale,
    )


def core_radius_px(series: RotationSeries, seen: Survey, reduction: Reduction) -> float:
    """Radius of the summation area: what holds 90 % of strong spots, and half a pixel.

    It stops short of half way to the next reflection. Spots are looked at on a dozen frames on
    which strong reflections of the first lattice peak.
    """
    lattice = reduction.lattices[0]
    apart = float(np.linalg.norm(lattice.orientation, axis=0).min())
    widest = ALONE * apart / lattice.geometry.per_A_per_px
    r = lattice.reflections
    usable = ~reduction.frames.blank
    peak = np.clip(np.rint(r.frame).astype(int), 0, len(series) - 1)
    spoiled = r.has(Flag.SATURATED | Flag.MASKED | Flag.OVERLAP | Flag.EDGE | Flag.BACKGROUND)
    good = usable[peak] & ~spoiled & (r.intensity > 20 * r.sigma)
    if good.sum() < 10:
        good = usable[peak] & (r.intensity > 5 * r.sigma)
    rows = np.flatnonzero(good)
    # the brightest on their frame, for what counts is the peak above the noise
    rows = rows[np.argsort((r.intensity * r.lorentz)[rows])[::-1][:400]]
    model = model_of(series, reduction, lattice)
    half = int(np.clip(2 * widest, 5, 10))
    profiles = []
    chosen = np.unique(peak[rows])
    for frame in chosen[np.linspace(0, len(chosen) - 1, 12).astype(int)] if len(chosen) else []:
        raw = series.frames[int(frame) : int(frame) + 1].compute(scheduler="synchronous")[0]
        electrons = to_electrons(raw, series.pedestal, seen.gain)
        here = rows[peak[rows] == frame]
        q = model.diffracted(r.hkl[here], peak[here].astype(float))
        place = model.geometry.to_pixel(q, model.centre_px(peak[here].astype(float)))
        for row, column in place:
            profiles += _growth(electrons, seen.valid, row, column, half)
    if not profiles:
        return float(np.clip(4.0, 2.0, max(widest, 2.0)))
    growth = np.median(profiles, axis=0)
    reached = float(np.interp(0.9, np.maximum.accumulate(growth), np.arange(1, half + 1) - 0.5))
    return float(np.clip(reached + 0.5, 2.0, np.clip(widest, 2.0, 8.0)))


def _growth(
    electrons: NDArray[np.float32], valid: NDArray[np.bool_], row: float, column: float, half: int
) -> list[Floats]:
    """Part of a spot within 0.5, 1.5 ... px of its place; nothing where it is not clear."""
    r0, c0 = round(row), round(column)
    box = (slice(r0 - half, r0 + half + 1), slice(c0 - half, c0 + half + 1))
    if r0 < half or c0 < half:
        return []
    cut, usable = electrons[box], valid[box]
    if cut.shape != (2 * half + 1, 2 * half + 1) or not usable.all():
        return []
    y, x = np.mgrid[-half : half + 1, -half : half + 1].astype(float)
    radius = np.hypot(y + r0 - row, x + c0 - column)
    cut = cut - np.median(cut[radius > half - 2])
    inner = np.array([cut[radius < k + 0.5].sum() for k in range(half)])
    total = inner[-3]
    return [inner / total] if total > 50 and inner.max() < 1.3 * total else []


def plan(
    model: Model,
    lattice: Lattice,
    reduction: Reduction,
    series: RotationSeries,
    core_px: float,
    window_per_A: float | None,
) -> tuple[Predictions, Slices]:
    """Reflections and the frames each is looked at on."""
    d = lattice.reflections.d_A
    if not len(d):
        raise UserError(
            f"{series.name}: reduction", "a lattice without reflections", "integrated ones",
            "reduce the series again",
        )  # fmt: skip
    window = _window(lattice, window_per_A)
    widest = float(window(np.array([1 / d.min()]))[0])
    step = np.deg2rad(abs(model.angle_step_deg))
    predictions = predict(
        model, lattice.bravais, float(d.min()) * (1 - 1e-6), series.shape,
        min(widest * d.max() / step, 10.0), d_max_A=float(d.max()) * (1 + 1e-6),
    )  # fmt: skip
    predictions = predictions[np.abs(predictions.rate) > SLOWEST * step * predictions.length]
    slices = plan_slices(
        model, predictions, window(predictions.length), ~reduction.frames.blank,
        half=int(np.ceil(core_px)) + 3, reach=1.0,
    )  # fmt: skip
    return predictions, slices


def _window(lattice: Lattice, window_per_A: float | None) -> Callable[[Floats], Floats]:
    """Half-width in excitation error, 1/Å, of reflections of |q| 1/Å."""
    size, eta = lattice.size_per_A, lattice.mosaicity_deg
    curve = RockingCurve(
        size if np.isfinite(size) else USUAL_SIZE_PER_A,
        float(np.deg2rad(eta)) if np.isfinite(eta) else 0.0,
    )

    def width(length: Floats) -> Floats:
        if window_per_A is not None:
            return np.full(len(length), window_per_A)
        own: Floats = REACH * curve.sigma(length) + np.deg2rad(JITTER_DEG) * length
        return own

    return width


def _sum(
    predictions: Predictions, slices: Slices, centre: tuple[Floats, Floats], core_px: float
) -> FrameIntensities:
    """Sums over the core of each slice that nothing disturbs."""
    pixels = (slices.boxes, slices.crowd, centre[0] - slices.row, centre[1] - slices.column)
    background = fit_backgrounds(*pixels, slices.reflection, core_px)
    sums = sum_slices(*pixels, background, core_px)
    good = _undisturbed(slices, background, sums)
    with np.errstate(invalid="ignore"):  # infinite times none, where there is no background
        variance = sums.variance + sums.n_core**2 * (
            background.own_variance + background.shared_variance
        )
    told = sums.total > LEAST_SNR * np.sqrt(np.maximum(variance, 1e-9))
    told &= np.hypot(sums.offset_row, sums.offset_column) < core_px
    row = np.where(told, slices.row + sums.offset_row, np.nan)
    column = np.where(told, slices.column + sums.offset_column, np.nan)
    which = slices.reflection[good]
    return FrameIntensities(
        predictions.hkl[which], which, slices.frame[good], sums.total[good], variance[good],
        row[good], column[good],
    )  # fmt: skip


def _undisturbed(slices: Slices, background: Backgrounds, sums: SliceSums) -> NDArray[np.bool_]:
    """(m,) True where the whole core is there, alone, and on a plane of background."""
    own = sums.lost == 0
    n = len(slices.start) - 1
    count = np.maximum(np.bincount(slices.reflection, minlength=n), 1)
    uneven = np.nan_to_num(background.unevenness, posinf=10.0)
    mean = (np.bincount(slices.reflection, uneven, n) / count)[slices.reflection]
    good: NDArray[np.bool_] = own & ~slices.saturated & ~slices.masked & (mean < UNEVEN)
    return good & np.isfinite(sums.total) & np.isfinite(background.level)


def _data(
    name: str,
    series: RotationSeries,
    reduction: Reduction,
    lattice: Lattice,
    model: Model,
    rows: FrameIntensities,
) -> OrientationData:
    centre = model.centre_px(np.arange(len(series), dtype=float))
    return OrientationData(
        name=name,
        orientation=lattice.orientation,
        reciprocal_basis=reciprocal_basis(lattice.cell),
        geometry=lattice.geometry,
        angle_deg=series.angle_mid_deg,
        exposure_deg=series.angle_width_deg,
        used=~reduction.frames.blank,
        beam_row=centre[:, 0],
        beam_column=centre[:, 1],
        intensities=rows,
    )
