"""How far a picture, or one particle in it, has moved: to a small fraction of a pixel.

Whole pictures are freed of slow changes (illumination) by their local mean; all are smoothed.
Whole pictures are laid over each other by phase correlation (Kuglin & Hines, 1975), each of its
strongest peaks being tried, with their aliases, on the part that both pictures show; a marked
particle by normalised correlation (Lewis, 1995). The sub-pixel shift is the least-squares one
with free gain and offset (Gauss-Newton; Baker & Matthews, Int. J. Comput. Vision 56 (2004) 221),
so that it has a covariance.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import pi

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import fft
from scipy.ndimage import correlate1d, gaussian_filter, maximum_filter, uniform_filter

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]

# Peaks of the phase correlation that are tried.
PEAKS = 4

# Smallest part of the picture that both must show, of its whole area.
SMALLEST_OVERLAP = 0.15

# Pixels beyond a window that interpolation reaches (Lagrange, six points).
REACH = 3

# Pixels of a particle that can be followed.
SMALLEST_PARTICLE_PX = 16

ITERATIONS = 10
CONVERGED_PX = 1e-4


@dataclass(frozen=True)
class Shift:
    """Where the reference is found in the image.

    Attributes
    ----------
    row_px, column_px : positive if it lies at a higher row or column; NaN if nothing was found.
    quality : correlation coefficient of the two once laid over each other, 0..1; below about
        0.3 the shift means nothing.
    covariance : (2, 2) of (row, column), px^2, from the residuals; infinite if nothing was found.
    """

    row_px: float
    column_px: float
    quality: float
    covariance: Floats

    @property
    def vector(self) -> Floats:
        """(2,) (row, column) in px."""
        return np.array([self.row_px, self.column_px])

    @property
    def esd_px(self) -> float:
        """Standard deviation in the worse direction, px."""
        return float(np.sqrt(max(self.covariance[0, 0], self.covariance[1, 1])))


NOTHING = Shift(np.nan, np.nan, 0.0, np.full((2, 2), np.inf))


def shift_between(
    reference: ArrayLike,
    image: ArrayLike,
    *,
    mask: NDArray[np.bool_] | None = None,
    valid: NDArray[np.bool_] | None = None,
    max_shift_px: float | None = None,
    background_px: float | None = 25.0,
    smooth_px: float = 1.0,
) -> Shift:
    """The shift that takes `reference` to `image`: ``image(r) = reference(r - shift)``.

    Parameters
    ----------
    reference, image : (rows, columns), any real type.
    mask : (rows, columns) True on the part of the reference to follow, with some of its
        surroundings; the whole picture if None. What else moves or rests is then left out.
    valid : (rows, columns) False on pixels of the camera that tell nothing, in both images.
    max_shift_px : largest shift sought, in rows and in columns; half the picture if None.
    background_px : half-width of the local mean that is taken off whole pictures; None for those
        whose slow changes are what moves (a beam's disc). A marked part is only freed of its own
        mean: its neighbours must not come into it.
    smooth_px : standard deviation of the smoothing.

    Raises
    ------
    ValueError : images, mask or valid of different shapes.
    """
    first, second = np.asarray(reference, np.float32), np.asarray(image, np.float32)
    shapes = {one.shape for one in (first, second, mask, valid) if one is not None}
    if len(shapes) != 1 or first.ndim != 2:
        raise ValueError(f"images, mask and valid: found shapes {shapes}, expected one (r, c)")
    largest = min(first.shape) / 2 if max_shift_px is None else float(max_shift_px)
    good = np.isfinite(first) & np.isfinite(second)
    if valid is not None:
        good &= valid
    if min(first.shape) < 2 * (REACH + 5) or not good.any():
        return NOTHING
    width = background_px if mask is None else None
    first, second = (_flat(one, good, width, smooth_px) for one in (first, second))
    if mask is None:
        starts = _phase_correlation_peaks(first, second, largest)
    else:
        starts = _particle_peak(first, second, mask & good, largest)
    usable = good if mask is None else good & mask
    tried = [(_overlap_correlation(first, second, usable, good, n), n) for n in starts]
    best, start = max(tried, default=(0.0, (0, 0)))
    if best <= 0:
        return NOTHING
    return _refine(first, second, usable, good, start, largest)


def _flat(
    image: Singles, good: NDArray[np.bool_], background_px: float | None, smooth_px: float
) -> Singles:
    """The image without its slow changes, smoothed, zero on bad pixels and on average."""
    total = good.mean(dtype=float)
    level = float(image[good].mean(dtype=float))
    flat = np.where(good, image - np.float32(level), np.float32(0))
    if background_px is not None:
        size = 2 * round(background_px) + 1
        share = uniform_filter(good.astype(np.float32), size) if total < 1 else np.float32(1)
        mean = uniform_filter(flat, size)
        flat = np.where(good, flat - mean / np.maximum(share, np.float32(1e-3)), np.float32(0))
    if smooth_px > 0:
        flat = gaussian_filter(flat, smooth_px, truncate=3.0)
        if total < 1:  # bad pixels are filled from their neighbours
            share = gaussian_filter(good.astype(np.float32), smooth_px, truncate=3.0)
            flat = flat / np.maximum(share, np.float32(0.01))
    return flat


def _phase_correlation_peaks(
    first: Singles, second: Singles, largest: float
) -> list[tuple[int, int]]:
    """Shifts worth trying, from the halved pictures: each peak and its aliases."""
    half = 2 if min(first.shape) >= 128 else 1
    small = [_halved(one) if half == 2 else one for one in (first, second)]
    rows, columns = small[0].shape
    window = np.outer(_taper(rows), _taper(columns))
    a, b = (fft.rfft2(one * window) for one in small)
    cross = np.conj(a) * b
    size = np.abs(cross)
    # whitened where there is signal, damped where there is only noise
    surface = fft.irfft2(cross / (size + size.mean() + 1e-30), s=(rows, columns))
    surface = gaussian_filter(surface, 1.0, mode="wrap", truncate=3.0)
    peaks = np.flatnonzero(surface == maximum_filter(surface, 5, mode="wrap"))
    peaks = peaks[np.argsort(surface.ravel()[peaks])[::-1][:PEAKS]]
    starts = {(0, 0)}
    for row, column in np.stack(np.unravel_index(peaks, surface.shape), axis=1):
        for r in (int(row), int(row) - rows):
            for c in (int(column), int(column) - columns):
                if max(abs(r), abs(c)) * half <= largest + half:
                    starts.add((half * r, half * c))
    return sorted(starts)


def _halved(image: Singles) -> Singles:
    rows, columns = (n // 2 * 2 for n in image.shape)
    cut = image[:rows, :columns]
    return 0.25 * (cut[::2, ::2] + cut[1::2, ::2] + cut[::2, 1::2] + cut[1::2, 1::2])


def _taper(n: int) -> Singles:
    """A window that falls to zero over the outer eighths."""
    rise = np.clip((np.arange(n) + 0.5) * 8 / n, 0, 1)
    return (0.5 - 0.5 * np.cos(pi * np.minimum(rise, rise[::-1]))).astype(np.float32)


def _particle_peak(
    first: Singles, second: Singles, mask: NDArray[np.bool_], largest: float
) -> list[tuple[int, int]]:
    """The shift of the marked part at which it correlates best with what lies under it, if any."""
    where = np.argwhere(mask)
    if len(where) < SMALLEST_PARTICLE_PX:
        return []
    top, bottom = where.min(axis=0), where.max(axis=0) + 1
    reach = int(np.ceil(largest))
    low = np.maximum(top - reach, 0)
    high = np.minimum(bottom + reach, first.shape)
    weight = mask[top[0] : bottom[0], top[1] : bottom[1]].astype(np.float64)
    part = first[top[0] : bottom[0], top[1] : bottom[1]].astype(np.float64)
    number = weight.sum()
    template = weight * (part - (weight * part).sum() / number)
    field = second[low[0] : high[0], low[1] : high[1]].astype(np.float64)
    size = [fft.next_fast_len(int(n), real=True) for n in field.shape]
    seen = fft.rfft2(np.stack([field, field * field]), s=size)
    marks = np.conj(fft.rfft2(np.stack([template, weight]), s=size))
    products = np.stack([seen[0] * marks[0], seen[0] * marks[1], seen[1] * marks[1]])
    span = tuple(f - t + 1 for f, t in zip(field.shape, template.shape, strict=True))
    cross, total, total2 = fft.irfft2(products, s=size)[:, : span[0], : span[1]]
    spread = np.maximum(total2 - total * total / number, 0)
    energy = np.sum(template**2)
    if energy <= 0:
        return []
    surface = cross / np.sqrt(energy * np.maximum(spread, 1e-6 * spread.max() + 1e-30))
    row, column = np.unravel_index(int(np.argmax(surface)), surface.shape)
    return [(int(row + low[0] - top[0]), int(column + low[1] - top[1]))]


@dataclass(frozen=True)
class _Overlap:
    """Views of both images where the reference, shifted by whole pixels, covers the image."""

    reference: tuple[slice, slice]
    image: tuple[slice, slice]


def _overlap(shape: tuple[int, ...], shift: tuple[int, int], margin: int) -> _Overlap | None:
    pairs = []
    for n, s in zip(shape, shift, strict=True):
        start, stop = max(margin, margin - s), min(n - margin, n - margin - s)
        if stop - start < 8:
            return None
        pairs.append((slice(start, stop), slice(start + s, stop + s)))
    return _Overlap((pairs[0][0], pairs[1][0]), (pairs[0][1], pairs[1][1]))


def _overlap_correlation(
    first: Singles,
    second: Singles,
    usable: NDArray[np.bool_],
    good: NDArray[np.bool_],
    shift: tuple[int, int],
) -> float:
    """Correlation coefficient at a shift by whole pixels; 0 if too little overlaps."""
    part = _overlap(first.shape, shift, 0)
    if part is None:
        return 0.0
    weight = usable[part.reference] & good[part.image]
    number = np.count_nonzero(weight)
    if number < max(SMALLEST_PARTICLE_PX, SMALLEST_OVERLAP * np.count_nonzero(usable)):
        return 0.0
    a, b = first[part.reference][weight], second[part.image][weight]
    a, b = a - a.mean(dtype=float), b - b.mean(dtype=float)
    norm = float(np.sqrt(np.dot(a, a) * np.dot(b, b)))
    return float(np.dot(a, b)) / norm if norm > 0 else 0.0


@dataclass(frozen=True)
class _Laid:
    """The reference over the image at a shift by whole pixels, on the n pixels that count.

    Attributes
    ----------
    window : of the image, before the fraction of a pixel.
    weight : (rows, columns) of the window, True where both are good.
    template : (n,) of the reference, zero on average.
    slope : (2, n) its gradient.
    curvature : (2, 2) of the squared difference.
    """

    window: tuple[slice, slice]
    weight: NDArray[np.bool_]
    template: Floats
    slope: Floats
    curvature: Floats


def _refine(
    first: Singles,
    second: Singles,
    usable: NDArray[np.bool_],
    good: NDArray[np.bool_],
    start: tuple[int, int],
    largest: float,
) -> Shift:
    """Least-squares shift with free gain and offset, begun at `start`."""
    slopes = [np.asarray(np.gradient(one)) for one in (first, second)]
    shift = np.array(start, float)
    laid, whole = _lay(first, slopes, usable, good, start), start
    for _ in range(ITERATIONS):
        at = (round(shift[0]), round(shift[1]))
        if at != whole:
            laid, whole = _lay(first, slopes, usable, good, at), at
        if laid is None:
            return NOTHING
        moved = _sampled(second, laid.window, shift - whole)[laid.weight].astype(np.float64)
        moved -= moved.mean()
        gain = np.dot(laid.template, moved) / np.dot(laid.template, laid.template)
        residual = moved - gain * laid.template
        step = np.linalg.solve(laid.curvature, -laid.slope @ residual)
        shift = shift + np.clip(step, -1.0, 1.0)
        if np.abs(shift).max() > largest + 1:
            return NOTHING
        if np.abs(step).max() < CONVERGED_PX:
            break
    assert laid is not None  # else returned above
    norm = np.sqrt(np.dot(laid.template, laid.template) * np.dot(moved, moved))
    quality = max(0.0, float(np.dot(laid.template, moved) / norm))
    spread = _variance_of_sums(laid.slope, residual, laid.weight)
    inverse = np.linalg.inv(laid.curvature)
    return Shift(float(shift[0]), float(shift[1]), quality, inverse @ spread @ inverse)


def _lay(
    first: Singles,
    slopes: list[Singles],
    usable: NDArray[np.bool_],
    good: NDArray[np.bool_],
    shift: tuple[int, int],
) -> _Laid | None:
    part = _overlap(first.shape, shift, REACH)
    if part is None:
        return None
    weight = usable[part.reference] & good[part.image]
    if np.count_nonzero(weight) < SMALLEST_PARTICLE_PX:
        return None
    slope = slopes[0][:, *part.reference][:, weight].astype(np.float64)
    there = slopes[1][:, *part.image][:, weight].astype(np.float64)
    # The slopes of two images: their noise has nothing in common, so it does not make the
    # curvature look larger than it is.
    curvature = slope @ there.T
    curvature = 0.5 * (curvature + curvature.T)
    if np.linalg.eigvalsh(curvature)[0] <= 1e-12 * np.sum(slope**2):
        return None
    template = first[part.reference][weight].astype(np.float64)
    return _Laid(part.image, weight, template - template.mean(), slope, curvature)


def _variance_of_sums(slope: Floats, residual: Floats, weight: NDArray[np.bool_]) -> Floats:
    """Covariance (2, 2) of the sums of slope times residual, whatever the noise's spectrum."""
    shape = weight.shape
    size = tuple(fft.next_fast_len(n, real=True) for n in shape)
    spectra: list[NDArray[np.complex128]] = []
    for values in (*slope, residual - residual.mean()):
        field = np.zeros(shape)
        field[weight] = values
        spectra.append(np.asarray(fft.rfft2(field, s=size)))
    power = np.abs(spectra[2]) ** 2
    power[:, 1 : (size[1] + 1) // 2] *= 2  # the half that a real transform leaves out
    number, all_of_it = np.count_nonzero(weight), size[0] * size[1]
    waves = np.stack(spectra[:2]).reshape(2, -1)
    return (waves * power.ravel() @ waves.conj().T).real / (number * all_of_it)


def _sampled(image: Singles, window: tuple[slice, slice], fraction: Floats) -> Singles:
    """The window of an image moved by a fraction of a pixel, by Lagrange's six-point formula."""
    wide = tuple(slice(s.start - REACH, s.stop + REACH) for s in window)
    part = image[wide]
    for axis in (0, 1):
        part = correlate1d(part, _lagrange(float(fraction[axis])), axis=axis)
    return part[REACH:-REACH, REACH:-REACH]


def _lagrange(fraction: float) -> Floats:
    """(7,) weights at -3..3 that interpolate at `fraction`, |fraction| <= 1."""
    nodes = np.arange(-REACH, REACH) if fraction < 0 else np.arange(1 - REACH, REACH + 1)
    weights = np.zeros(2 * REACH + 1)
    for node in nodes:
        others = nodes[nodes != node]
        weights[node + REACH] = np.prod((fraction - others) / (node - others))
    return weights
