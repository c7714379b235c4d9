"""Where a pattern is centred by Friedel's law: about it, it is like itself turned by half a turn.

For a beam behind a stop, and to tell a spot from the beam.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.ndimage import gaussian_filter

from ..series.rotation_series import RotationSeries
from .beam_centre import BeamTrack
from .survey import frame_blocks

Floats = NDArray[np.float64]

REACH_PX = 20  # from the nominal centre
_BEAM_PX = 12  # half of the window that the beam itself fills
_LOOKS, _MUCH = 9, 2.0  # frames looked at, and by how much they must be more symmetric elsewhere
_SPOT_PX, _BACKGROUND_PX, _NOISES = 1.0, 5.0, 4.0
_MAD = 1.4826


def is_a_spot(series: RotationSeries, track: BeamTrack) -> bool:
    """Whether patterns are symmetric about the nominal centre rather than about what was tracked.

    A strong spot that stays while the beam is hidden looks like the beam, but has no Friedel pairs
    about it.
    """
    nominal = np.asarray(series.geometry.beam_centre_px)
    some = np.unique(np.linspace(0, len(series) - 1, _LOOKS).astype(int))
    for_spot = votes = 0
    for k, frame in zip(some, np.asarray(series.frames[some]), strict=True):
        at = track.centres_px[k]
        if np.linalg.norm(at - nominal) <= REACH_PX:
            continue
        image = _spots_alone(np.where(series.mask, np.nan, frame.astype(float)))
        image[tuple(slice(max(0, int(v) - _BEAM_PX), int(v) + _BEAM_PX + 1) for v in at)] = 0
        like = _self_correlation(image)
        about_track, about_nominal = (
            _highest(like, centre, reach)[0]
            for centre, reach in ((at, _BEAM_PX), (nominal, REACH_PX))
        )
        votes += 1
        for_spot += about_nominal > _MUCH * about_track + 1
    return votes > 0 and for_spot > votes / 2


def friedel_centres(series: RotationSeries) -> tuple[Floats, Floats]:
    """(measured, sigma) by the correlation of each frame with itself turned by half a turn."""
    measured = np.full((len(series), 2), np.nan)
    middle = np.asarray(
        series.geometry.beam_centre_px
        if series.beam_centres_px is None
        else np.median(series.beam_centres_px, axis=0)
    )
    valid = ~series.mask
    for start, block in frame_blocks(series):
        for k, raw in enumerate(block, start):
            frame = np.where(valid, raw.astype(float), np.nan)
            if not np.isfinite(frame).any() or np.nanmax(frame) <= np.nanmin(frame):
                continue
            measured[k] = symmetry_centre(_spots_alone(frame), middle, REACH_PX)
    return measured, np.where(np.isfinite(measured).all(axis=1), 1.0, np.nan)


def _spots_alone(frame: Floats) -> Floats:
    """Spots of similar weight: a local background off, what is below the noise zero, its root.

    NaN where a pixel is masked; the background there is that of the neighbours.
    """
    known = np.isfinite(frame)
    weight = gaussian_filter(known.astype(float), _BACKGROUND_PX)
    background = gaussian_filter(np.where(known, frame, 0.0), _BACKGROUND_PX)
    background /= np.maximum(weight, 1e-6)
    above = gaussian_filter(np.where(known, frame, background), _SPOT_PX) - background
    noise = _MAD * float(np.median(np.abs(above))) + 1e-9
    above[(above < _NOISES * noise) | ~known] = 0
    return np.sqrt(above)


def symmetry_centre(image: Floats, middle: Floats, reach_px: int) -> Floats:
    """Centre about which an image is most like itself turned by half a turn, near `middle`.

    ``sum_x f(x) f(2c - x)`` is greatest at the centre c; its peak is refined by a parabola.
    """
    like = _self_correlation(image)
    top, (r, c) = _highest(like, middle, reach_px)
    if top <= 0:
        return np.full(2, np.nan)
    about = like[r - 1 : r + 2, c - 1 : c + 2]
    fine = [
        0.5 * (line[0] - line[2]) / bend if (bend := line[0] - 2 * line[1] + line[2]) < 0 else 0.0
        for line in (about[:, 1], about[1])
    ]
    return np.array([r + fine[0], c + fine[1]]) / 2


def _self_correlation(image: Floats) -> Floats:
    """``sum_x f(x) f(u - x)``, at u."""
    rows, columns = image.shape
    shape = tuple(fft.next_fast_len(2 * n, real=True) for n in (rows, columns))
    transformed = fft.rfft2(image, shape)
    return np.asarray(fft.irfft2(transformed * transformed, shape), float)


def _highest(like: Floats, middle: Floats, reach_px: int) -> tuple[float, tuple[int, int]]:
    """Highest self-correlation near twice `middle`, and where it is; 0 if that is outside."""
    lo = np.maximum(np.rint(2 * (middle - reach_px)).astype(int), 1)
    hi = np.minimum(np.rint(2 * (middle + reach_px)).astype(int), np.array(like.shape) - 2)
    part = like[lo[0] : hi[0] + 1, lo[1] : hi[1] + 1]
    if part.size == 0:
        return 0.0, (0, 0)
    r, c = np.unravel_index(int(part.argmax()), part.shape)
    return float(part[r, c]), (int(r + lo[0]), int(c + lo[1]))
