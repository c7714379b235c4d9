"""Whether patterns can be learned from, and which of them to hold out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError
from .patterns import Patterns
from .repeats import repeats

FEWEST = 40  # patterns


def split(patterns: Patterns, share: float, seed: int) -> NDArray[np.bool_]:
    """(n,) bool, patterns to hold out, `share` of them at most; repeats stay on one side.

    Raises
    ------
    UserError : patterns that repeat so few that none can be held out.
    """
    _, label = np.unique(repeats(patterns), return_inverse=True)
    sizes = np.bincount(label)
    left = max(1, round(share * len(patterns)))
    taken = np.zeros(len(sizes), bool)
    for one in np.random.default_rng(seed).permutation(len(sizes)):
        if sizes[one] <= left:
            taken[one] = True
            left -= sizes[one]
    if not taken.any():
        raise UserError(
            "patterns", f"{len(patterns)} that repeat {len(sizes)}",
            f"some that {share:.0%} of them repeat at most", "scan places that differ",
        )  # fmt: skip
    return taken[label]


def check(patterns: Patterns) -> None:
    """Raises UserError for patterns that nothing can be learned from."""
    if len(patterns) < FEWEST:
        raise UserError("patterns", str(len(patterns)), f"at least {FEWEST}", "scan more points")
    for name in ("data", "variance"):
        values = getattr(patterns, name)
        if not np.isfinite(values).all():
            bad = int((~np.isfinite(values)).any(axis=(1, 2)).sum())
            raise UserError(
                name, f"NaN or infinite values in {bad} patterns", "finite numbers",
                "mask the pixels or leave out the patterns",
            )  # fmt: skip
    if (patterns.variance[:, ~patterns.mask] <= 0).any():
        raise UserError(
            "variance", "zero or negative values", "the variance of each pixel, positive",
            "give gain and dose, and mask dead pixels",
        )  # fmt: skip
    if np.ptp(patterns.data, axis=0).max() == 0:
        raise UserError(
            "patterns", "all of them alike", "patterns that differ over the scan",
            "look at the file: was the beam scanned?",
        )  # fmt: skip
