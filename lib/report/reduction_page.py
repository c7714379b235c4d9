"""The report of one reduction: a self-contained page."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from ..artefacts.manifest import Manifest
from ..crystal.lattice_symmetry import LatticeCandidate
from ..reduction import statistics
from ..reduction.result import Flag, FrameTable, Lattice, Reduction
from ..reduction.sections import Section
from ..series import RotationSeries
from . import frame_figures, html, lattice_figures
from .advice import after_reduction
from .diffraction import rms_of_frames
from .diffraction_sections import fit_section, planes_section, space_section
from .html import Safe
from .notation import LATTICE_NAMES, cell_text, duration, rounded, with_esd
from .provenance import provenance_section
from .summary import Headline, headline, resolution_shells, usable

_CELL_LABELS = ("a / Å", "b / Å", "c / Å", "α / °", "β / °", "γ / °")


def reduction_page(
    reduction: Reduction,
    series: RotationSeries,
    provenance: Sequence[Manifest] = (),
    planes: Sequence[Sequence[Section]] = (),
) -> str:
    """The page as HTML text.

    Parameters
    ----------
    reduction : the result to show.
    series : what was reduced; a few frames and the strongest spots are read from it.
    provenance : manifests of the artefacts it came from, raw side first.
    planes : for each lattice, sections of its reciprocal space (`..reduction.sections`).
    """
    head = headline(reduction)
    sections: dict[str, tuple[str, Safe]] = {}
    for i, lattice in enumerate(reduction.lattices):
        which = "" if len(reduction.lattices) == 1 else f" {i + 1}"
        sections[f"cell{which.strip()}"] = (
            f"Cell and lattice{which}",
            _cell_section(lattice, series, reduction.frames),
        )
    sections["frames"] = ("Frames", _frames_section(reduction, series))
    sections["series"] = ("Along the series", _series_section(reduction))
    for i, lattice in enumerate(reduction.lattices):
        which = "" if len(reduction.lattices) == 1 else f" {i + 1}"
        sections[f"fit{which.strip()}"] = (
            f"How well it fits{which}",
            fit_section(lattice, reduction, series),
        )
        if i == 0:
            sections["space"] = ("Reciprocal space", space_section(reduction))
        if i < len(planes) and planes[i]:
            sections[f"planes{which.strip()}"] = (f"Sections{which}", planes_section(planes[i]))
        sections[f"intensities{which.strip()}"] = (
            f"Intensities{which}",
            _intensity_section(lattice),
        )
    sections["notes"] = ("Notes and choices", _notes_section(reduction, series))
    sections["provenance"] = ("Provenance", provenance_section(provenance, series.sources))
    body = [
        _facts(head, reduction, series),
        html.advice(after_reduction(reduction, series)),
        html.contents({anchor: heading for anchor, (heading, _) in sections.items()}),
        *(html.section(anchor, heading, part) for anchor, (heading, part) in sections.items()),
    ]
    version = provenance[-1].code.version if provenance else "(not stored)"
    return html.page(
        title=reduction.series,
        over="Reduction of a rotation series",
        lead=reduction.verdict or "No verdict was given.",
        body=body,
        footer=f"Made by Ewaldflow {version}. This page needs no network.",
    )


def _facts(head: Headline, reduction: Reduction, series: RotationSeries) -> Safe:
    swept = float(series.angle_width_deg.sum())
    frames: dict[str, object] = {"Frames": Safe(f"{len(series)} <small>over {swept:.1f}°</small>")}
    if not reduction.lattices:
        found = int(reduction.frames.n_spots.sum())
        return html.facts({"Lattice": "none found", "Strong spots": found, **frames})
    resolution = f"{head.resolution_A:.2f} Å" if math.isfinite(head.resolution_A) else "–"
    more = f" <small>strongest of {head.n_lattices}</small>" if head.n_lattices > 1 else ""
    return html.facts(
        {
            "Lattice": Safe(html.escape(head.lattice) + more),
            "Spots indexed": f"{head.indexed_percent:.0f} %",
            "Resolution": Safe(f"{resolution} <small>I/σ = 1</small>"),
            "Mean I/σ": f"{head.i_over_sigma:.1f}",
            "Reflections": f"{head.reflections:,}".replace(",", " "),
            **frames,
        }
    )


def _cell_section(lattice: Lattice, series: RotationSeries, frames: FrameTable) -> Safe:
    rows = [
        ["with the lattice's constraints", *map(with_esd, lattice.cell, lattice.cell_esd)],
        ["free", *map(with_esd, lattice.cell_p1, lattice.cell_p1_esd)],
        [
            "reduced (Niggli)",
            *(f"{v:.3f}" for v in lattice.niggli),
        ],
    ]
    cells = html.table(
        [LATTICE_NAMES.get(lattice.bravais, lattice.bravais), *_CELL_LABELS],
        rows,
        numeric=range(1, 7),
        row_classes=["chosen"],
        caption="Unit cell; e.s.d. of the last digits in parentheses, values without are fixed.",
    )
    return Safe(
        cells
        + _candidates(lattice.candidates, lattice.bravais)
        + _geometry(lattice, series, frames)
    )


def _candidates(candidates: Sequence[LatticeCandidate], chosen: str) -> Safe:
    if not candidates:
        return Safe("")
    rows = [
        [
            f"{c.bravais}  {LATTICE_NAMES.get(c.bravais, '')}",
            f"{c.distance:.3f}",
            f"{c.worst_edge_percent:.2f}",
            f"{c.worst_angle_deg:.2f}",
            cell_text(c.cell),
        ]
        for c in candidates
    ]
    symbols = [c.bravais for c in candidates]
    first = symbols.index(chosen) if chosen in symbols else -1
    return html.table(
        ["Lattice", "Metric distance", "Worst edge / %", "Worst angle / °", "Cell"],
        rows,
        numeric=(1, 2, 3),
        row_classes=["chosen" if i == first else "" for i in range(len(rows))],
        caption="Lattices the metric allows, best first; the chosen one is marked. "
        "The metric alone does not prove a symmetry: intensities must agree.",
    )


def _geometry(lattice: Lattice, series: RotationSeries, frames: FrameTable) -> Safe:
    def known(name: str) -> float:
        return float(lattice.esd.get(name, math.nan))

    nominal, refined = series.geometry, lattice.geometry
    rows: list[list[object]] = [
        ["camera length / mm", with_esd(nominal.distance_mm, math.nan),
         with_esd(refined.distance_mm, known("distance_mm"))],
        ["beam centre, row / px (median)", f"{nominal.beam_centre_px[0]:.2f}",
         f"{np.median(frames.beam_row):.2f}"],
        ["beam centre, column / px (median)", f"{nominal.beam_centre_px[1]:.2f}",
         f"{np.median(frames.beam_column):.2f}"],
        ["rotation axis x, y, z", _vector(nominal.axis), _vector(refined.axis)],
        ["angle between the two axes / °", "",
         f"{_angle_between_deg(nominal.axis, refined.axis):.2f}"],
        ["ellipse, major / minor axis", f"{nominal.distortion.ratio:.4f}",
         f"{refined.distortion.ratio:.4f}"],
        ["ellipse, azimuth of the major axis / °", f"{nominal.distortion.azimuth_deg:.1f}",
         f"{refined.distortion.azimuth_deg:.1f}"],
        ["radial distortion / 10⁻⁴ mm⁻²", f"{1e4 * nominal.radial_per_mm2:.2f}",
         f"{1e4 * refined.radial_per_mm2:.2f}"],
        ["true over nominal rotation", "1", with_esd(lattice.rotation_scale,
                                                     known("rotation_scale"))],
        ["mosaic spread η / °", "", with_esd(lattice.mosaicity_deg, known("mosaicity_deg"), 3)],
        ["spread independent of resolution / 10⁻³ Å⁻¹", "", f"{1e3 * lattice.size_per_A:.2f}"],
    ]  # fmt: skip
    shown = html.table(["Geometry", "given", "refined"], rows, numeric=(1, 2))
    matrix = html.table(
        ["A = UB / Å⁻¹", "a*", "b*", "c*"],
        [
            [axis, *(f"{v:+.6f}" for v in row)]
            for axis, row in zip("xyz", lattice.orientation, strict=True)
        ],
        numeric=(1, 2, 3),
        caption="At zero rotation; x along columns, y along rows, z along the beam.",
    )
    return Safe(shown + html.details("Orientation matrix", matrix))


def _vector(v: Sequence[float]) -> str:
    return ", ".join(f"{x:.4f}".replace("-", "−") for x in v)


def _angle_between_deg(u: Sequence[float], v: Sequence[float]) -> float:
    sine = np.linalg.norm(np.cross(u, v))
    return float(np.rad2deg(np.arctan2(sine, np.dot(u, v))))


def _frames_section(reduction: Reduction, series: RotationSeries) -> Safe:
    return html.figure(
        frame_figures.montage(series, reduction),
        "Frames across the series with predicted reflections, weak ones dotted, and strong spots "
        "that no lattice explains",
        "Frames across the series, square root of the counts. Circles: predicted reflections, "
        "dotted where weaker than three times what counting scatters; crosses: where the strong "
        "ones were observed; diamonds: strong spots of no lattice. Shaded pixels are masked.",
        raster=True,
    )


def _series_section(reduction: Reduction) -> Safe:
    several = len(reduction.lattices) > 1
    rms = [
        (f"lattice {i}" if several else "", rms_of_frames(lattice, reduction.frames))
        for i, lattice in enumerate(reduction.lattices, 1)
    ]  # fmt: skip
    return html.figure(
        frame_figures.along_the_series(reduction.frames, rms),
        "Beam drift, scale, spots, background and r.m.s. of positions against frame number",
        "Direct beam about its median; scale, by which intensities were divided, and what single "
        "frames show of the rocking curves expected; strong spots with their peak in the "
        "frame; median background; and distance of observed from predicted positions, with its "
        "running median. A dip of scale or spots tells of a crystal leaving the beam, shadowing "
        "or damage; a rise of the r.m.s. of a crystal that moved or bent. Grey bands are blank "
        "frames, left out.",
    )


def _intensity_section(lattice: Lattice) -> Safe:
    r = lattice.reflections
    sound = r[usable(r)]
    if len(sound) == 0:
        return html.paragraph("No reflection could be integrated soundly.", warn=True)
    shells = resolution_shells(sound)
    plot = html.figure(
        lattice_figures.intensities(shells),
        "I over sigma, number of reflections and mean intensity against resolution",
        "Left: mean I/σ of single observations and their number in shells of equal volume; the "
        "dashed line is I/σ = 1. Right: a Wilson-like plot, straight but for the form of a "
        "crystal's structure.",
    )
    by_shell = _shell_table(statistics.shells(sound, lattice.cell, lattice.bravais))
    flagged = [
        [str(flag.name).lower().replace("_", " "), int(r.has(flag).sum()), FLAG_WORDS[flag]]
        for flag in Flag
        if r.has(flag).any()
    ]
    flags = (
        html.table(["Flag", "reflections", "meaning"], flagged, numeric=(1,))
        if flagged
        else html.paragraph("No reflection carries a flag.")
    )
    return Safe(plot + by_shell + flags)


def _shell_table(shells: Sequence[statistics.Shell]) -> Safe:
    rows = [
        [
            f"{s.d_max_A:.2f} – {s.d_min_A:.2f}",
            s.n_observed,
            s.n_unique,
            rounded(100 * s.completeness, 1),
            rounded(s.multiplicity, 1),
            rounded(s.i_over_sigma, 1),
            rounded(100 * s.r_meas, 1),
            rounded(s.cc_half, 3),
        ]
        for s in shells
    ]
    columns = ["d / Å", "observed", "unique", "complete / %", "multiplicity", "I/σ merged"]
    return html.table(
        [*columns, "R meas / %", "CC½"],
        rows,
        numeric=range(1, 8),
        caption="Figures of merit if the crystal had all the symmetry of its lattice; "
        "flagged reflections of doubtful intensity are left out.",
    )


# What result.Flag says of each, in the words of a table.
FLAG_WORDS = {
    Flag.SATURATED: "a pixel at or above saturation",
    Flag.MASKED: "a pixel of the spot is masked",
    Flag.PARTIAL: "part of the rocking curve was not recorded",
    Flag.OVERLAP: "shares pixels with another lattice",
    Flag.EDGE: "a part of the spot is off the detector",
    Flag.BACKGROUND: "too few pixels to know the background",
    Flag.PROFILE_FAILED: "only the summation intensity is valid",
    Flag.OUTLIER: "disagrees with its symmetry equivalents",
    Flag.MISFIT: "its rocking curve contradicts the model",
}


def _notes_section(reduction: Reduction, series: RotationSeries) -> Safe:
    notes = [*series.notes, *reduction.notes]
    missing = series.missing_numbers
    if missing:
        notes.insert(0, f"Frames {_numbers(missing)} are missing from the series.")
    parts = [html.bullets(notes) if notes else html.paragraph("Nothing to remark.")]
    if reduction.statistics:
        rows = [
            [_FIGURES.get(name, name.replace("_", " ")), f"{value:.4g}"]
            for name, value in reduction.statistics.items()
        ]
        parts.append(html.table(["Figure of merit", "value"], rows, numeric=(1,)))
    if reduction.seconds:
        times = [[step.replace("_", " "), duration(s)] for step, s in reduction.seconds.items()]
        times.append(["together", duration(sum(reduction.seconds.values()))])
        parts.append(
            html.details("Time per step", html.table(["Step", "time"], times, numeric=(1,)))
        )
    return Safe("".join(parts))


_FIGURES = {
    "cc_half": "CC½",
    "chi_square": "χ² of equivalents",
    "d_min_A": "smallest d / Å",
    "i_over_sigma": "mean I/σ",
    "indexed_fraction": "fraction of spots indexed",
    "r_merge": "R merge",
    "r_meas": "R meas",
}


def _numbers(numbers: Sequence[int]) -> str:
    """``1–3, 7`` for 1, 2, 3, 7."""
    return ", ".join(f"{a}–{b}" if b > a else f"{a}" for a, b in _runs(numbers))


def _runs(numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    start = previous = numbers[0]
    for number in numbers[1:]:
        if number != previous + 1:
            yield start, previous
            start = number
        previous = number
    yield start, previous
