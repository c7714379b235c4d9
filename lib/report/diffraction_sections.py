"""Parts of a series' page that show how its diffraction fits a lattice."""

from __future__ import annotations

from collections.abc import Sequence

from ..reduction.result import Lattice, Reduction
from ..reduction.sections import Section
from ..series import RotationSeries
from . import html, lattice_figures
from .diffraction import examples, mean_rocking_curve, rocking_curves
from .html import Safe
from .reciprocal_space import viewer
from .section_figures import section_figure
from .summary import strongest_first


def fit_section(lattice: Lattice, reduction: Reduction, series: RotationSeries) -> Safe:
    """Residuals, rows of reflections, rocking curves."""
    chosen = strongest_first(lattice, at_least=5)
    if len(chosen) == 0:
        return html.paragraph("No reflection is strong enough (I/σ > 5) to show a fit.", warn=True)
    parts = [
        html.figure(
            lattice_figures.residuals(lattice, chosen),
            "Residuals on the detector, against resolution and along the series",
            "Observed minus predicted for the same reflections; r.m.s. of the indexed spots. "
            "A cloud off zero or a wave along the series is geometry not yet modelled.",
        ),
        html.figure(
            lattice_figures.reciprocal_projections(lattice, reduction.frames, chosen),
            "Reciprocal lattice along its three axes",
            f"The {len(chosen)} observed reflections with I/σ > 5, turned back into the crystal "
            "and seen along a*, b* and c*. Rows should be sharp and straight.",
        ),
    ]
    curves = rocking_curves(series, lattice, reduction.frames, reduction.gain, chosen[:400])
    if curves is None:
        parts.append(html.paragraph("No reflection spreads over three frames: no rocking curve."))
        return Safe("".join(parts))
    shown = examples(lattice, curves)
    parts += [
        html.figure(
            lattice_figures.rocking_examples(lattice, reduction.frames, curves, shown),
            f"Rocking curves of {len(shown)} reflections with the fitted model",
            "Rocking curves of strong reflections, from low to high resolution, read off the "
            "frames again: electrons in a box of 7 × 7 px above background, and the Gaussian in "
            "excitation error that the engine fitted to all, scaled to each.",
        ),
        html.figure(
            lattice_figures.rocking(mean_rocking_curve(curves, reduction.frames)),
            "Mean rocking curve and residuals in rotation",
            "The strongest reflections together. Left: their mean rocking curve, each of unit "
            "area, against the Gaussian the engine fitted. Right: rotation angle of their "
            "centroids minus the predicted one.",
        ),
    ]
    return Safe("".join(parts))


def space_section(reduction: Reduction) -> Safe:
    """Strong spots of all lattices, to turn about."""
    first = reduction.lattices[0]
    chosen = strongest_first(first, at_least=5)
    return viewer(
        reduction,
        still=lattice_figures.reciprocal_projections(first, reduction.frames, chosen)
        if len(chosen)
        else None,
    )


def planes_section(planes: Sequence[Section]) -> Safe:
    """Sections of one lattice."""
    names = ", ".join(one.name for one in planes)
    thickness = ", ".join(f"±{one.half_thickness_per_A:.4f}" for one in planes)
    return html.figure(
        section_figure(planes),
        f"Sections {names} of reciprocal space from the frames' pixels",
        f"Pixels of all frames within {thickness} Å⁻¹ of the planes {names}, averaged, less the "
        "median at the same resolution; grey: √ of what is left; blue-grey: not recorded. Dashed "
        "rings: resolution. Small circles, in the right half only: points of the lattice. "
        "Intensity between them is another lattice, a larger cell, or diffuse; circles empty by "
        "a rule are a centring, a screw axis or a glide plane.",
        raster=True,
    )
