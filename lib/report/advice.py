"""What to do next with a reduced series or merged data, the most urgent first."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..merging.merge_phase import MergedPhase
from ..reduction.result import Reduction
from ..series import RotationSeries
from ..structure.solution import ChargeFlipping
from .summary import headline

# Below so many percent of spots indexed something else is in the beam, or the geometry is wrong.
_INDEXED_PERCENT = 60.0
_AXIS_DEG = 2.0  # an axis refined further away than this was given wrongly
_COMPLETE, _AGREE = 0.9, 0.9


def after_reduction(reduction: Reduction, series: RotationSeries) -> Iterator[str]:
    """Sentences for the page of a reduction; commands stand between backticks."""
    if not reduction.lattices:
        yield (
            "No lattice: look at the frames. If they show spots, check beam centre, camera length "
            "and rotation axis, and try a calibration by rings; if not, leave the series out."
        )
        return
    head, lattice = headline(reduction), reduction.lattices[0]
    given, found = np.asarray(series.geometry.axis), np.asarray(lattice.geometry.axis)
    cosine = given @ found / (np.linalg.norm(given) * np.linalg.norm(found))
    off_deg = float(np.rad2deg(np.arccos(np.clip(abs(cosine), 0, 1))))
    if off_deg > _AXIS_DEG:
        yield (
            f"The rotation axis is {off_deg:.1f}° from the one given: correct it for the "
            "instrument; `ewaldflow calibrate-axis` finds it from several series."
        )
    if head.indexed_percent < _INDEXED_PERCENT:
        yield (
            f"Only {head.indexed_percent:.0f} % of the spots are indexed: see in reciprocal space "
            "whether the others stand in rows of their own, which is another crystal."
        )
    if len(reduction.lattices) > 1:
        yield f"{len(reduction.lattices)} lattices: spots that overlap are less certain."
    yield (
        "Reduce it together with other crystals of the sample: they are sorted into phases and "
        f"merged. `ewaldflow orient reduction/{reduction.series}` finds each frame's orientation."
    )


def after_merge(merged: MergedPhase, flipped: ChargeFlipping | None) -> Iterator[str]:
    """Sentences for the page of a phase."""
    whole = merged.statistics.overall
    if whole.completeness < _COMPLETE:
        yield (
            f"{100 * whole.completeness:.0f} % complete: collect crystals that lie otherwise; the "
            "coverage below shows which directions are missing."
        )
    if whole.cc_half < _AGREE:
        yield (
            "The halves of the data agree poorly: look for crystals that agree with no other, and "
            "merge a branch of the tree without them."
        )
    if flipped is None:
        yield "For a structure, name the sample's composition: `--sample`."
    elif flipped.verdict == "solved":
        yield "Refine the structure: from shelx.ins and shelx.hkl, or from merged.mtz."
    else:
        yield (
            f"The structure is {flipped.verdict}: try another composition or one of the tied space "
            "groups, or collect more."
        )
