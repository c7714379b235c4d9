"""When a series is given up: each rule answers with its reason and its numbers, or nothing."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from .settings import AbortSettings
from .shadow import Sighting


@dataclass(frozen=True)
class Abort:
    """Why a series is given up.

    Attributes
    ----------
    rule : its name.
    reason : one line with the numbers.
    numbers : the same for the record.
    """

    rule: str
    reason: str
    numbers: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Watched:
    """What the rules look at.

    Attributes
    ----------
    variance : of the reference image's inner square.
    elapsed_s : since the rotation began.
    lost, dark : tracking images in a row without crystal, without disc.
    off_line_deg : last read-out of the stage minus its line.
    """

    variance: float
    elapsed_s: float = 0.0
    lost: int = 0
    dark: int = 0
    off_line_deg: float = 0.0


def first_abort(
    settings: AbortSettings, watched: Watched, sighting: Sighting | None = None
) -> Abort | None:
    """The first rule that is broken, None if none is.

    Parameters
    ----------
    sighting : of the tracking image just taken; None between them.
    """
    return next(_broken(settings, watched, sighting), None)


def _broken(s: AbortSettings, w: Watched, sighting: Sighting | None) -> Iterator[Abort]:
    if s.dark_images is not None and w.dark >= s.dark_images:
        yield Abort("beam lost", f"no disc in {w.dark} images in a row", {"images": w.dark})
    if s.lost_images is not None and w.lost >= s.lost_images:
        yield Abort("crystal lost", f"not seen in {w.lost} images in a row", {"images": w.lost})
    if abs(w.off_line_deg) > s.off_line_deg:
        yield Abort(
            "stage",
            f"reads {w.off_line_deg:+.2f} deg off its line, more than {s.off_line_deg:g}",
            {"off_line_deg": w.off_line_deg},
        )
    if s.longest_s is not None and w.elapsed_s > s.longest_s:
        yield Abort(
            "time", f"{w.elapsed_s:.0f} s, more than {s.longest_s:g}", {"elapsed_s": w.elapsed_s}
        )
    if sighting is None or not math.isfinite(sighting.variance):
        return
    if s.blank_variance is not None and sighting.variance < s.blank_variance:
        yield Abort(
            "blank area",
            f"variance {sighting.variance:.3g} below {s.blank_variance:.3g} of a blank area",
            {"variance": sighting.variance},
        )
    if s.variance_ratio is not None and w.variance > 0:
        ratio = sighting.variance / w.variance
        low, high = s.variance_ratio
        if not low <= ratio <= high:
            yield Abort(
                "variance",
                f"{ratio:.2f} of the reference, not {low:g} to {high:g}",
                {"variance_ratio": ratio},
            )


def near_limit(
    name: str, xy: ArrayLike, limits: tuple[float, float], margin: float
) -> Abort | None:
    """Whether a deflector is about to be set into the margin at the ends of its range.

    Parameters
    ----------
    xy : (2,) the setting meant.
    limits : lowest and highest value.
    margin : part of the range kept free at each end.
    """
    low, high = limits
    free = margin * (high - low)
    values = np.asarray(xy, float)
    inside = float(np.min(np.minimum(values - low, high - values)))
    if inside >= free:
        return None
    return Abort(
        "deflector limit",
        f"{name} at ({values[0]:g}, {values[1]:g}) is {inside:.4g} from the end of its range, "
        f"less than {free:.4g}",
        {"from_end": inside, "margin": free},
    )
