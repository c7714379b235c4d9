"""Whether a reduced series is fit to be merged, and if not, what is wrong with it, in words.

What is decided, and why:

- A crystal that leaves the beam takes its spots along. The frames without them must not be merged
  (their intensities are zeros), so a series is cut to the span in which the crystal was there, and
  is junk if too little of the rotation is left.
- A second lattice that indexes a fair share of the spots is another crystal of similar strength.
  The first lattice's intensities are still right where no spots overlap, but which spots overlap
  unseen is not known, so the series is named junk; a session has others. It can be had back by
  raising `max_second`. A faint second lattice only flags overlaps, and the series stays.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..crystal.cell import Floats
from ..reduction.correction import comparable
from ..reduction.result import FrameTable, Reduction

Kind = Literal["good", "no crystal", "no lattice", "crystal left", "two crystals", "poorly indexed"]

# Shortest rotation worth merging: a good series of 5 degrees must pass with a frame or two lost.
MIN_RANGE_DEG = 4.0

# A second lattice that indexes more than this part of all spots is a crystal of its own.
MAX_SECOND = 0.15

# With less than this part of the spots indexed the lattice is not what diffracts.
MIN_INDEXED = 0.3

# Fewer spots than this, or than this per frame, are noise unless they lie on a lattice.
MIN_SPOTS = 12
MIN_SPOTS_PER_FRAME = 0.5

# Beyond the crystal's span there are fewer than this part of the spots that its span would give,
# and so few per frame as noise leaves (0.1 to 0.2), where at least so many would be expected. A
# crystal that turns onto a zone axis shows twenty times the spots that it did, but it showed some.
GONE = 0.1
GONE_PER_FRAME = 0.5
MIN_EXPECTED = 12.0
MIN_GONE_FRAMES = 3


@dataclass(frozen=True)
class Diagnosis:
    """What became of a series.

    Attributes
    ----------
    kind : good, or what is wrong.
    usable : whether it should be merged.
    reason : one sentence with what was measured.
    first_frame, last_frame : span, as frame positions from 0, in which the crystal was in the
        beam; reflections outside must be left out.
    range_deg : rotation within the span.
    """

    kind: Kind
    usable: bool
    reason: str
    first_frame: int
    last_frame: int
    range_deg: float


def diagnose(
    reduction: Reduction,
    *,
    min_range_deg: float = MIN_RANGE_DEG,
    max_second: float = MAX_SECOND,
    min_indexed: float = MIN_INDEXED,
) -> Diagnosis:
    """Tell junk from what can be merged.

    Parameters
    ----------
    reduction : of the series, with or without lattices.
    min_range_deg : least rotation with the crystal in the beam.
    max_second : largest part of all spots that a second lattice may index.
    min_indexed : least part of all spots that all lattices together must index.
    """
    frames = reduction.frames
    n_frames = len(frames.n_spots)
    n_seen = int((~frames.blank).sum())
    n_spots = int(frames.n_spots.sum())
    whole = (0, n_frames - 1)

    def told(kind: Kind, reason: str, span: tuple[int, int], usable: bool = False) -> Diagnosis:
        return Diagnosis(kind, usable, reason, *span, _range_deg(frames, span))

    span = crystal_span(frames)
    there = slice(span[0], span[1] + 1)
    n_there = int((~frames.blank[there]).sum())
    needed = max(MIN_SPOTS, MIN_SPOTS_PER_FRAME * n_there)
    if not reduction.lattices and int(frames.n_spots[there].sum()) < needed:
        return told("no crystal", f"no crystal: {n_spots} spots in {n_seen} frames", whole)
    cut = ""
    if span != whole:
        cut = _left_in_words(reduction, span)
        if _range_deg(frames, span) < min_range_deg:
            return told("crystal left", cut, span)
    if not reduction.lattices:
        words = f"no lattice: {n_spots} spots in {n_seen} frames lie on none beyond chance"
        return told("no lattice", f"{cut}; {words}" if cut else words, span)
    if len(reduction.lattices) > 1:
        share = [lattice.n_indexed / n_spots for lattice in reduction.lattices]
        strong = sum(s > max_second for s in share[1:])
        if strong:
            number = ("two", "three")[strong - 1] if strong < 3 else str(strong + 1)
            parts = " and ".join(f"{100 * s:.0f} %" for s in share[1 : strong + 1])
            return told(
                "two crystals",
                f"{number} crystals of similar strength: the first lattice indexes "
                f"{100 * share[0]:.0f} % of {n_spots} spots, another {parts}",
                span,
            )
    indexed = float(frames.n_indexed.sum()) / n_spots
    if indexed < min_indexed:
        return told(
            "poorly indexed", f"only {100 * indexed:.0f} % of {n_spots} spots are indexed", span
        )
    good = f"{100 * indexed:.0f} % of {n_spots} spots indexed over "
    good += f"{_range_deg(frames, span):.1f} degrees"
    faint = ""
    if len(reduction.lattices) > 1:
        part = 100 * sum(lattice.n_indexed for lattice in reduction.lattices[1:]) / n_spots
        faint = f"; a faint second lattice ({part:.0f} % of the spots), overlaps left out"
    return told("good", (f"{cut}; " if cut else "") + good + faint, span, usable=True)


def crystal_span(frames: FrameTable) -> tuple[int, int]:
    """First and last frame between which the crystal was in the beam.

    The span is that of a Poisson model with one rate of spots inside and another outside that
    explains the numbers of spots best, if those outside are hardly any (`GONE`,
    `GONE_PER_FRAME`) where many were expected (`MIN_EXPECTED`) on several frames; else all frames.
    """
    n = len(frames.n_spots)
    seen = np.flatnonzero(~frames.blank)
    spots = frames.n_spots[seen].astype(float)
    if len(seen) < 2 * MIN_GONE_FRAMES or spots.sum() == 0:
        return 0, n - 1
    total = np.concatenate([[0.0], np.cumsum(spots)])
    m = len(seen)
    start, stop = np.triu_indices(m + 1, 1)
    inside, length = total[stop] - total[start], (stop - start).astype(float)
    outside, rest = total[-1] - inside, m - length
    expected = inside / length * rest
    gone = (rest >= MIN_GONE_FRAMES) & (expected >= MIN_EXPECTED)
    gone &= (outside <= GONE * expected) & (outside <= GONE_PER_FRAME * rest)
    if not gone.any():
        return 0, n - 1
    likelihood = np.where(gone, _log_rate(inside, length) + _log_rate(outside, rest), -np.inf)
    best = int(np.argmax(likelihood))
    first, last = int(start[best]), int(stop[best]) - 1
    # blank frames at the ends belong to the span if nothing lies beyond them
    return (0 if first == 0 else int(seen[first])), (n - 1 if last == m - 1 else int(seen[last]))


def _log_rate(count: Floats, length: Floats) -> Floats:
    """Log likelihood of Poisson counts at their mean rate, without what is common to all."""
    safe = np.where(count > 0, count, 1.0)
    value: Floats = np.where(count > 0, count * np.log(safe / np.maximum(length, 1)), 0.0) - count
    return value


def _range_deg(frames: FrameTable, span: tuple[int, int]) -> float:
    n = len(frames.angle_deg)
    if n < 2:
        return 0.0
    step = abs(frames.angle_deg[-1] - frames.angle_deg[0]) / (n - 1)
    first, last = span
    return float(abs(frames.angle_deg[last] - frames.angle_deg[first]) + step)


def _left_in_words(reduction: Reduction, span: tuple[int, int]) -> str:
    """What the frame table tells of a crystal that was not there all the time."""
    frames = reduction.frames
    first, last = span
    n = len(frames.n_spots)
    before, after = first, n - 1 - last
    range_deg = _range_deg(frames, span)
    hold = int(frames.n_spots[first : last + 1].sum())
    what = f"{hold} spots"
    if reduction.lattices:
        r = reduction.lattices[0].reflections
        within = (r.frame >= first - 0.5) & (r.frame <= last + 0.5)
        what += f" and {int((comparable(r) & within).sum())} reflections"
    if after >= before:
        step = range_deg / (last - first + 1)
        late = f" (nor before frame {frames.frame_number[first]})" if first else ""
        found = int(frames.n_spots[last + 1 :].sum())
        none = "no spots" if found == 0 else f"{found} spots in {after} frames"
        return (
            f"crystal left the beam after {step * (last + 1):.1f} degrees: {none} from frame "
            f"{frames.frame_number[last + 1]} on{late}; the {range_deg:.1f} degrees hold {what}"
        )
    found = int(frames.n_spots[:first].sum())
    none = "no spots" if found == 0 else f"{found} spots"
    return (
        f"crystal came into the beam late: {none} before frame {frames.frame_number[first]}; "
        f"the {range_deg:.1f} degrees with it hold {what}"
    )
