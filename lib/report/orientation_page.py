"""The page of one series' orientations: every frame, the goniometer, and how sure all of it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from ..artefacts.manifest import Manifest
from ..orientation.goniometer import GoniometerStudy
from ..orientation.hand_over import principal_errors
from ..orientation.lomb_scargle import Wave
from ..orientation.series import OrientedLattice, OrientedSeries
from . import html
from . import orientation_figures as figures
from .html import Safe
from .notation import cell_text, rounded, with_esd
from .provenance import provenance_section

#: A direction is weak where its error is so many times that of the other.
_WEAK = 3.0
_FRAMES_SHOWN = 40

# So many flagged frames deserve a look.
_MANY = 0.1


def orientation_page(
    done: OrientedSeries, files: Mapping[str, str], provenance: Sequence[Manifest]
) -> str:
    """The page as HTML text.

    Parameters
    ----------
    done : the orientations.
    files : hand-over files beside the page: what each is, by name.
    provenance : manifests of the artefacts it came from, raw side first.
    """
    first = done.lattices[0]
    study = first.study
    sections: dict[str, tuple[str, Safe]] = {}
    for number, lattice in enumerate(done.lattices, 1):
        many = len(done.lattices) > 1
        title = f"Orientations of lattice {number}" if many else "Orientations"
        sections[f"frames-{number}"] = (title, _frames(lattice))
    sections["precision"] = ("How sure they are", _precision(first))
    if study is not None:
        sections["goniometer"] = ("The goniometer", _goniometer(study))
    sections["flagged"] = ("Frames not to be trusted", _flagged(done))
    sections["files"] = ("Files to go on with", _files(files))
    notes = [note for lattice in done.lattices for note in lattice.notes]
    sections["notes"] = ("Notes and choices", html.bullets(notes))
    sections["provenance"] = ("Provenance", provenance_section(provenance))
    return html.page(
        title=done.name,
        over="Orientation of every frame",
        lead=_lead(first),
        body=[
            html.facts(_facts(done)),
            html.advice(_next_steps(done)),
            html.contents({anchor: heading for anchor, (heading, _) in sections.items()}),
            *(html.section(anchor, heading, part) for anchor, (heading, part) in sections.items()),
        ],
        footer=f"Made by Ewaldflow {provenance[-1].code.version}. This page needs no network.",
    )


def _next_steps(done: OrientedSeries) -> Iterator[str]:
    lattice = done.lattices[0]
    flagged = sum(bool(flag) for flag in lattice.found.flag)
    n = len(done.frame_number)
    if flagged > _MANY * n:
        yield (
            f"{flagged} of {n} frames are not to be trusted: look at them, and leave them out "
            "where they are used one by one."
        )
    if lattice.study is None:
        yield "Too few spots tell of single frames: lower the threshold, or expose longer."
    yield "Take orientations of frames from the files below; each names the program it is for."


def jitter_text(study: GoniometerStudy) -> str:
    """The headline: frame-to-frame jitter along and perpendicular, degrees."""
    return f"{study.jitter_along_deg:.3f}° along, {study.jitter_perp_deg:.3f}° perpendicular"


def _lead(lattice: OrientedLattice) -> str:
    found = lattice.found
    text = f"{found.method}, {cell_text(lattice.cell)}."
    if lattice.study is not None:
        text += f" Jitter from frame to frame: {jitter_text(lattice.study)}."
    else:
        text += " How single frames deviate is not known."
    return text


def _facts(done: OrientedSeries) -> dict[str, object]:
    lattice = done.lattices[0]
    found, study = lattice.found, lattice.study
    sd, _ = principal_errors(found.covariance_deg2)
    facts: dict[str, object] = {"Frames": len(done.frame_number)}
    if np.isfinite(sd).any():
        facts["Error, median frame"] = Safe(
            f"{np.nanmedian(sd[:, 1]):.4f}° <small>and {np.nanmedian(sd[:, 0]):.4f}° in its worst "
            "direction</small>"
        )
    scale_sd = float("nan") if study is None else study.scale_sd
    facts["Rotation over read-out"] = with_esd(found.rotation_scale, scale_sd)
    if study is not None:
        for name, value, seen in (
            ("along", study.jitter_along_deg, study.half_jitter_along_deg),
            ("perpendicular", study.jitter_perp_deg, study.half_jitter_perp_deg),
        ):
            facts[f"Jitter {name}"] = Safe(
                f"{value:.3f}° <small>{rounded(seen, 3)}° by halves</small>"
            )
    facts["Flagged"] = sum(bool(flag) for flag in found.flag)
    return facts


def _frames(lattice: OrientedLattice) -> Safe:
    sd, _ = principal_errors(lattice.found.covariance_unshrunk_deg2)
    with np.errstate(invalid="ignore", divide="ignore"):
        weak = int(np.sum(sd[:, 0] / sd[:, 1] > _WEAK))
    words = (
        f"{weak} of {len(sd)} frames are known {_WEAK:g} times worse in one direction than in the "
        "other: their spots lie in one or two rows, which fix only the tilt across them."
        if weak
        else "No frame is known much worse in one direction than in the other."
    )
    return Safe(
        html.figure(
            figures.deviations(lattice),
            "deviation of each frame from the smooth rotation",
            "Small rotations of each frame off the smooth rotation, with errors of one standard "
            "deviation. Grey bands: frames not used.",
        )
        + html.paragraph(words)
        + html.figure(
            figures.frame_quality(lattice),
            "error, rotation about the beam, scale and spots of each frame",
            "What each frame's orientation rests on.",
        )
        + html.figure(
            figures.beam_path(lattice),
            "path of the beam over the crystal",
            "Direction against the beam in the crystal, stereographic; c* in the middle.",
        )
    )


def _precision(lattice: OrientedLattice) -> Safe:
    if not lattice.precision:
        return html.paragraph("Two halves of the reflections could not be compared.")
    names = {"published": "published method (thesis, chapter 6)"}
    table = html.table(
        ["Method", "along / °", "across / °", "claimed along / °", "claimed across / °"],
        [
            [names.get(p.method, p.method), rounded(p.half_along_deg, 4),
             rounded(p.half_perp_deg, 4), rounded(p.said_along_deg, 4), rounded(p.said_perp_deg, 4)]
            for p in lattice.precision
        ],
        numeric=(1, 2, 3, 4),
        caption="How well two halves of the reflections agree, as the error of one half, beside "
        "the error that the method claims for it. Errors that both halves share, such as those of "
        "the cell, do not show, nor does what a method smooths away in both: as the published "
        "correction lets frames follow their neighbours, so does a prior.",
    )  # fmt: skip
    shown = {
        "chi_square": "χ²",
        "half_set_factor_along": "errors along were multiplied by",
        "half_set_factor_perp": "errors across were multiplied by",
        "sigma_s_per_A": "width of rocking curves, part of all / 1/Å",
        "mosaic_deg": "mosaic spread / °",
        "proportional_error": "part of strong intensities off the curve",
        "jitter_about_beam_deg": "jitter about the beam / °",
        "spots_off_px": "spots off their place / px",
        "reflections": "passages used",
        "observations": "observations used",
    }
    rows = [
        [what, f"{lattice.found.figures[key]:.4g}"]
        for key, what in shown.items()
        if key in lattice.found.figures
    ]
    return Safe(table + html.table(["Figure", "value"], rows, numeric=(1,)))


def wave_text(wave: Wave) -> str:
    """A wave as amplitude with error, period and p-value."""
    if not np.isfinite(wave.amplitude):
        return "too few frames"
    sure = "" if wave.p_value < 0.05 else "; no more than chance"
    return (
        f"{wave.amplitude:.4f} ± {wave.amplitude_sd:.4f}°, period {wave.period:.2f}°, "
        f"p {wave.p_value:.3f}{sure}"
    )


def _goniometer(study: GoniometerStudy) -> Safe:
    spread = study.spread
    rows: list[list[object]] = [
        ["jitter from frame to frame", jitter_text(study)],
        [
            "of which two halves of the reflections agree on",
            f"{rounded(study.half_jitter_along_deg, 3)}° along, "
            f"{rounded(study.half_jitter_perp_deg, 3)}° perpendicular",
        ],
        ["mean step", f"{spread.mean:.4f}°"],
        ["scatter of steps", f"{spread.observed_sd:.4f}°"],
        ["of which errors of the orientations", f"{spread.estimation_sd:.4f}°"],
        ["scatter with the errors taken off", f"{spread.true_sd:.4f}°"],
        ["the same by two halves of the reflections", f"{rounded(spread.half_set_sd, 4)}°"],
        ["rotation over read-out", with_esd(study.scale, study.scale_sd)],
        ["read-out off equal steps, mean", f"{study.offset_deg:.4f}°"],
        ["backlash", f"{study.backlash_deg:.3f} ± {study.backlash_sd_deg:.3f}°"],
        ["strongest wave in plane", wave_text(study.in_plane.best)],
        ["strongest wave out of plane", wave_text(study.out_of_plane.best)],
    ]
    if study.clusters is not None:
        c = study.clusters
        rows += [
            ["goniometer step", f"{c.goniometer_deg:.4f} ± {c.goniometer_sd_deg:.4f}°, every "
             f"{c.period} frames"],
            ["beam tilt step", f"{c.beam_tilt_deg:.4f} ± {c.beam_tilt_sd_deg:.4f}°"],
            ["both together", f"{c.combined_deg:.4f} ± {c.combined_sd_deg:.4f}°"],
        ]  # fmt: skip
    return Safe(
        html.table(["Quantity", "value"], rows)
        + html.figure(
            figures.step_histogram(study),
            "steps between frames",
            "Left: rotation from each frame to the next. Right: their histogram, with what the "
            "errors alone would give.",
        )
        + html.figure(
            figures.read_out_curves(study),
            "found, read out and expected angles",
            "Above: rotation found and read out against equal steps. Below: beam out of the plane "
            "of rotation, towards the axis. A slow tilt of the beam cannot be told from one of the "
            "crystal.",
        )
        + html.figure(
            figures.periodograms(study),
            "amplitudes of waves",
            "Weighted Lomb-Scargle amplitudes; the strongest wave is marked with its error.",
        )
    )


def _flagged(done: OrientedSeries) -> Safe:
    rows = [
        [number, int(done.frame_number[f]), f"{lattice.angle_deg[f]:.3f}",
         int(lattice.found.n_spots[f]), flag]
        for number, lattice in enumerate(done.lattices, 1)
        for f, flag in enumerate(lattice.found.flag)
        if flag
    ]  # fmt: skip
    if not rows:
        return html.paragraph("None.")
    columns = ["Lattice", "frame", "angle / °", "spots", "why"]
    table = html.table(columns, rows[:_FRAMES_SHOWN], numeric=(0, 1, 2, 3))
    if len(rows) <= _FRAMES_SHOWN:
        return table
    rest = html.table(columns, rows[_FRAMES_SHOWN:], numeric=(0, 1, 2, 3))
    return Safe(table + html.details(f"{len(rows) - _FRAMES_SHOWN} more", rest))


def _files(files: Mapping[str, str]) -> Safe:
    rows = [
        [Safe(f'<a href="{html.escape(name)}">{html.escape(name)}</a>'), what]
        for name, what in files.items()
    ]
    return html.table(["File", "what it is"], rows)
