"""Which frames of a series are used, which were tracking images, and what is odd about them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError
from ..instrument import SeriesOverrides
from .discover import Found
from .source import Sidecar, ranges

Numbers = NDArray[np.int64]
_FEW_FRAMES = 5
_PLATEAU_FRAMES = 3  # frames that share their highest value by chance are fewer


def about_these_frames(
    sidecars: list[Sidecar], found: Found, shape: tuple[int, int], notes: list[str]
) -> list[Sidecar]:
    """Sidecars that fit the frames; an XDS.INP for frames of another size or place is noted."""
    kept = []
    for one in sidecars:
        if one.shape is not None and one.shape not in {shape, shape[::-1]}:
            notes.append(
                f"{one.path} was passed over: it is about frames of {one.shape[0]} x "
                f"{one.shape[1]}, these are {shape[0]} x {shape[1]}"
            )
            continue
        if one.template is not None:
            about = (one.path.parent / one.template).parent.resolve()
            if about != found.folder.resolve():
                notes.append(
                    f"{one.path.name} was written for {one.template}, not for these frames; its "
                    "values were used all the same"
                )
        notes.extend(one.notes)
        kept.append(one)
    return kept


def choose_frames(
    number: Numbers,
    sidecars: list[Sidecar],
    overrides: SeriesOverrides | None,
    found: Found,
    notes: list[str],
) -> Numbers:
    """Positions of the frames to use; those an XDS.INP leaves out are noted."""
    use = np.ones(len(number), bool)
    asked = overrides.frame_range if overrides is not None else None
    if asked is not None:
        use = (number >= asked[0]) & (number <= asked[1])
        notes.append(f"only frames {asked[0]} to {asked[1]} were asked for")
    else:
        for one in sidecars:
            out = np.zeros(len(number), bool)
            if one.frame_range is not None:
                out |= (number < one.frame_range[0]) | (number > one.frame_range[1])
            for first, last in one.excluded:
                out |= (number >= first) & (number <= last)
            if np.any(out & use):
                left = ranges(number[out & use].tolist())
                notes.append(f"frame(s) {left} left out, as in {one.path.name}")
            use &= ~out
    if not np.any(use):
        raise UserError(
            found.folder,
            f"no frame in the range asked for, numbers are {number[0]} to {number[-1]}",
            "some frames in it",
            "change --frames, or DATA_RANGE in XDS.INP",
        )
    return np.flatnonzero(use)


def tracking_numbers(
    number: Numbers, chosen: Numbers, blank: NDArray[np.bool_], sidecars: list[Sidecar]
) -> tuple[int, ...]:
    """Numbers listed as tracking images; or those at multiples of the image interval that have
    no frame, or a blank one left out."""
    listed = {n for one in sidecars for n in one.tracking}
    if listed:
        inside = range(int(number[chosen[0]]), int(number[chosen[-1]]) + 1)
        return tuple(sorted(listed & set(inside) - set(number[chosen].tolist())))
    interval = next((one.image_interval for one in sidecars if one.image_interval), None)
    if interval is None:
        return ()
    used = set(number[chosen].tolist())
    filled = set(number[~blank].tolist()) | used
    first, last = int(number[chosen[0]]), int(number[chosen[-1]])
    return tuple(n for n in range(first, last + 1) if n % interval == 0 and n not in filled)


def oddities(
    number: Numbers,
    highest: NDArray[np.float64],
    blank: NDArray[np.bool_],
    saturation: float | None,
    tracking: tuple[int, ...],
) -> list[str]:
    """Notes on gaps, tracking, blank and saturated frames, and on a series too short."""
    notes = []
    present = set(number.tolist()) | set(tracking)
    every = range(int(number[0]), int(number[-1]) + 1)
    gaps = [n for n in every if n not in present]
    if gaps:
        notes.append(f"{len(gaps)} frame(s) missing in the numbering: {ranges(gaps)}")
    if tracking:
        notes.append(f"{len(tracking)} frame(s) spent on tracking images: {ranges([*tracking])}")
    if np.any(blank):
        notes.append(f"{blank.sum()} frame(s) all zero, kept: {ranges(number[blank].tolist())}")
    if saturation is not None and np.any(highest >= saturation):
        full = number[highest >= saturation].tolist()
        notes.append(
            f"{len(full)} frame(s) with pixels at or above saturation ({saturation:g}): "
            f"{ranges(full)}"
        )
    top = float(highest.max())
    at_top = int(np.sum(highest == top))
    if at_top >= _PLATEAU_FRAMES and top > 255 and (saturation is None or top < saturation):
        notes.append(
            f"the highest value, {top:g}, is reached in {at_top} frames, as if pixels saturate "
            "there; if so give --saturation, or detector.saturation in the instrument's YAML"
        )
    if len(number) < _FEW_FRAMES:
        notes.append(f"only {len(number)} frame(s)")
    return notes
