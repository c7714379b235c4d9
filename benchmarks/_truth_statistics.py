"""What a rotation series looks like, in numbers that series of any dose and camera length share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ewaldflow.lib.reduction.result import Flag, Lattice, Reduction
from ewaldflow.lib.reduction.statistics import correlation
from ewaldflow.lib.series import RotationSeries
from ewaldflow.lib.simulation.structures import garnet, structure_factors_at

Floats = NDArray[np.float64]

# Frames looked at, evenly through a series.
FRAMES = 16

# Shells of |q|, 1/Å, in which the background is taken, relative to that of `REFERENCE`.
SHELLS = ((0.05, 0.1), (0.1, 0.2), (0.3, 0.4), (0.4, 0.5), (0.5, 0.6))
REFERENCE = (0.2, 0.3)

# Share of the pixels below the count that is told, relative to the mean count.
QUANTILES = (0.9, 0.99, 0.999)

# Spots are measured within this radius, px, above the mean of the ring around it.
SPOT_PX = 4

# Rocking widths are compared at this |g|, 1/Å.
ROCKING_AT = 0.5

# Reflections whose kinematic |F|^2 is below this, Å^2, are forbidden by the glide planes.
FORBIDDEN_F2 = 1e-3

# Weaker reflections than 1 Å are hardly measured in the real garnet.
GARNET_D_MIN_A = 1.0


@dataclass(frozen=True)
class Statistics:
    """Of one series; every value with its scatter, as (low, middle, high).

    Low and high are the 16th and 84th percentiles over frames, or spots.
    """

    name: str
    values: dict[str, tuple[float, float, float]]


def statistics(series: RotationSeries, reduction: Reduction) -> Statistics:
    """All that can be compared without knowing the structure."""
    lattice, frames = reduction.lattices[0], reduction.frames
    gain, pedestal = reduction.gain, series.pedestal
    picked = np.unique(np.linspace(2, len(series) - 3, FRAMES).astype(int))
    spots = _spots(lattice)
    found: dict[str, list[float]] = {}
    for i in picked:
        image = (np.asarray(series.frames[i]).astype(float) - pedestal) / gain
        centre = np.array([frames.beam_row[i], frames.beam_column[i]])
        q = np.linalg.norm(
            lattice.geometry.to_q(*np.indices(image.shape).reshape(2, -1), centre=centre), axis=1
        ).reshape(image.shape)
        level = _shell(image, q, series.mask, REFERENCE)
        for shell in SHELLS:
            key = f"background at {shell[0]:g} to {shell[1]:g} 1/Å"
            found.setdefault(key, []).append(_shell(image, q, series.mask, shell) / level)
        seen = image[~series.mask]
        for share in QUANTILES:
            key = f"count below which {100 * share:g} % of pixels are, over the mean"
            found.setdefault(key, []).append(float(np.quantile(seen, share) / seen.mean()))
    widths = [width for j in spots for width in _spot_width(series, lattice, j)]
    found["width of spots, px (2.35 sigma)"] = widths
    values = {name: _with_scatter(np.array(those)) for name, those in found.items()}
    eta, size = np.deg2rad(lattice.mosaicity_deg), lattice.size_per_A
    rocking = 1e3 * float(np.hypot(size, eta * ROCKING_AT))
    values[f"rocking width at {ROCKING_AT:g} 1/Å, 1e-3/Å"] = (rocking,) * 3
    drift = float(np.hypot(_range(frames.beam_row), _range(frames.beam_column)))
    values["beam drift, px"] = (drift,) * 3
    return Statistics(series.name, values)


def _with_scatter(values: Floats) -> tuple[float, float, float]:
    low, middle, high = np.percentile(values, [16, 50, 84])
    return float(low), float(middle), float(high)


def _range(values: Floats) -> float:
    """Peak to peak without the outermost percents."""
    low, high = np.nanpercentile(values, [1, 99])
    return float(high - low)


def _shell(image: Floats, q: Floats, mask: NDArray[np.bool_], shell: tuple[float, float]) -> float:
    """Background of a shell: the mean of the lower four fifths, which sees no quantisation."""
    inside = np.sort(image[(q >= shell[0]) & (q < shell[1]) & ~mask])
    return float(inside[: max(int(0.8 * len(inside)), 1)].mean())


def _spots(lattice: Lattice) -> NDArray[np.int64]:
    """Strong, unsaturated reflections; at most 300."""
    r = lattice.reflections
    bad = Flag.SATURATED | Flag.OVERLAP | Flag.MASKED | Flag.BACKGROUND | Flag.PROFILE_FAILED
    good = np.isfinite(r.intensity) & (r.intensity > 5 * r.sigma) & ~r.has(bad)
    rows = np.flatnonzero(good)
    return rows[np.argsort(-r.intensity[rows], kind="stable")[:300]]


def _spot_width(series: RotationSeries, lattice: Lattice, j: int) -> list[float]:
    """Width from the second moments of a spot on its best frame; none at an edge."""
    r = lattice.reflections
    frame = int(np.clip(np.rint(r.frame[j]), 0, len(series) - 1))
    row, column = int(np.rint(r.row[j])), int(np.rint(r.column[j]))
    half = 2 * SPOT_PX
    rows, columns = series.shape
    if not (half < row < rows - half and half < column < columns - half):
        return []
    cut = slice(row - half, row + half + 1), slice(column - half, column + half + 1)
    if series.mask[cut].any():
        return []
    box = np.asarray(series.frames[frame][cut]).astype(float)
    y, x = np.indices(box.shape) - half
    near = np.hypot(y, x) <= SPOT_PX
    box -= np.median(box[np.hypot(y, x) > SPOT_PX + 1])
    total = box[near].sum()
    if total < 100:
        return []
    y0, x0 = (box * y)[near].sum() / total, (box * x)[near].sum() / total
    spread = (box * ((y - y0) ** 2 + (x - x0) ** 2))[near].sum() / total / 2
    return [2.355 * float(np.sqrt(spread))] if spread > 0 else []


@dataclass(frozen=True)
class Garnet:
    """How far a garnet's intensities are from kinematic ones.

    Attributes
    ----------
    forbidden : mean intensity of the reflections that the glide planes forbid, over that of the
        allowed ones; of the whole series, and of its thirds.
    cc : correlation of the intensities with the kinematic |F|^2, the same way.
    """

    forbidden: tuple[float, ...]
    cc: tuple[float, ...]


def garnet_intensities(reduction: Reduction) -> Garnet:
    """By andradite's structure; reflections to `GARNET_D_MIN_A`."""
    r = reduction.lattices[0].reflections
    f2 = np.abs(structure_factors_at(garnet(), r.hkl)) ** 2
    bad = Flag.SATURATED | Flag.OVERLAP | Flag.MASKED | Flag.BACKGROUND | Flag.PROFILE_FAILED
    good = np.isfinite(r.intensity) & (r.partiality > 0.5) & ~r.has(bad)
    good &= r.d_A > GARNET_D_MIN_A
    third = len(reduction.frames.angle_deg) / 3
    parts = [good] + [good & (r.frame >= k * third) & (r.frame < (k + 1) * third) for k in range(3)]
    forbidden = f2 < FORBIDDEN_F2
    ratios, ccs = [], []
    for part in parts:
        off, on = part & forbidden, part & ~forbidden
        ratios.append(float(r.intensity[off].mean() / r.intensity[on].mean()))
        ccs.append(correlation(r.intensity[part], f2[part]))
    return Garnet(tuple(ratios), tuple(ccs))
