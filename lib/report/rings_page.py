"""The page of a calibration by powder rings: what was found, how surely, and the rings to see."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from ..artefacts.manifest import Manifest
from ..errors import UserError
from ..formats.image import DiffractionImage
from ..rings.calibrate import RingFit
from ..rings.calibration import CALIBRATED, RingCalibration
from ..rings.camera_lengths import CameraLengths, camera_lengths
from ..series.rotation_series import SourceFile
from . import html
from . import ring_figures as figures
from .html import Safe
from .notation import rounded, with_esd
from .provenance import provenance_section

#: What the parameters of a fit are called for people.
_NAMES = {
    "beam_row_px": "beam centre, row / px",
    "beam_column_px": "beam centre, column / px",
    "distance_mm": "camera length / mm",
    "ratio": "ellipse, ratio of its axes",
    "azimuth_deg": "ellipse, azimuth of the long axis / °",
    "rot1_rad": "tilt rot1 / rad",
    "rot2_rad": "tilt rot2 / rad",
    "three_fold_cosine_per_px": "three-fold distortion, cosine / px⁻¹",
    "three_fold_sine_per_px": "three-fold distortion, sine / px⁻¹",
    "radial_per_mm2": "radial distortion / mm⁻²",
    "height_per_um": "change of camera length with height / µm⁻¹",
}


def rings_page(
    name: str,
    images: Sequence[DiffractionImage],
    fit: RingFit,
    files: Mapping[str, str],
    provenance: Sequence[Manifest],
    version: str,
) -> str:
    """The page as HTML text.

    Parameters
    ----------
    name : of the calibration.
    images : those that were fitted together.
    fit : what was found.
    files : beside the page: what each is, by name.
    provenance : manifests of the artefacts it started from.
    version : of the code.
    """
    first = fit.calibrations[0]
    sections: dict[str, tuple[str, Safe]] = {"verdict": ("Verdict", _verdict(fit))}
    for number, (image, one) in enumerate(zip(images, fit.calibrations, strict=True)):
        title = one.name if len(images) > 1 else "Rings"
        sections[f"image-{number + 1}"] = (title, _image(image, fit, number))
    if (lengths := _several_lengths(fit.calibrations)) is not None:
        sections["lengths"] = ("Camera lengths", lengths)
    sections["files"] = ("Files to go on with", _files(files))
    notes = [f"{image.name}: {note}" for image in images for note in image.notes]
    sections["notes"] = ("Notes", html.bullets(notes) if notes else html.paragraph("None."))
    sources = [SourceFile(image.path, image.sha256) for image in images]
    sections["provenance"] = ("Provenance", provenance_section(provenance, sources))
    return html.page(
        title=name,
        over="Calibration by powder rings",
        lead=_lead(first, len(images)),
        body=[
            html.facts(_facts(first)),
            html.advice(_next_steps(name, fit)),
            html.contents({anchor: heading for anchor, (heading, _) in sections.items()}),
            *(html.section(anchor, heading, part) for anchor, (heading, part) in sections.items()),
        ],
        footer=f"Made by Ewaldflow {version}. This page needs no network.",
    )


def _next_steps(name: str, fit: RingFit) -> Iterator[str]:
    good = [one for one in fit.calibrations if one.verdict == CALIBRATED]
    if len(good) < len(fit.calibrations):
        yield (
            "Where nothing was calibrated, see the reasons below; then take an image with more "
            "counts or without what was in the way, or say the calibrant and the camera length."
        )
    if good:
        yield f"Use it: `ewaldflow reduce DIR --calibration rings/{name}`."
        yield (
            "Calibrate again after a change of lenses or a service: `ewaldflow check-drift` tells "
            "what moved."
        )


def _lead(first: RingCalibration, n: int) -> str:
    together = f", {n} images together" if n > 1 else ""
    return (
        f"{first.calibrant[:1].upper()}{first.calibrant[1:]}{together}, {len(first.rings)} rings, "
        f"{first.shape[0]} × {first.shape[1]} pixels: {first.verdict}."
    )


def _facts(one: RingCalibration) -> dict[str, object]:
    relative = one.sd("distance_mm") / one.distance_mm
    row, column = one.beam_centre_px
    facts: dict[str, object] = {
        "Camera length": f"{with_esd(one.distance_mm, one.sd('distance_mm'), 2)} mm",
        "A pixel": Safe(
            f"{with_esd(one.per_A_per_px, relative * one.per_A_per_px, 6)} <small>Å⁻¹</small>"
        ),
        "Beam centre": Safe(
            f"{with_esd(row, one.sd('beam_row_px'), 2)}, "
            f"{with_esd(column, one.sd('beam_column_px'), 2)} <small>row, column</small>"
        ),
        "Ellipse": Safe(
            f"{with_esd(one.distortion.ratio, one.sd('ratio'), 4)} <small>at "
            f"{with_esd(one.distortion.azimuth_deg, one.sd('azimuth_deg'), 1)}°</small>"
        ),
    }
    if one.rot1_rad or one.rot2_rad:
        tilt = np.rad2deg(np.arccos(np.cos(one.rot1_rad) * np.cos(one.rot2_rad)))
        facts["Tilt"] = f"{tilt:.2f}°"
    if one.rings:
        points = np.array([ring.n_points for ring in one.rings])
        rms = np.array([ring.residual_px for ring in one.rings])
        facts["Residual"] = f"{np.sqrt(np.average(rms**2, weights=points)):.2f} px"
    return facts


def _verdict(fit: RingFit) -> Safe:
    parts = []
    for one in fit.calibrations:
        good = one.verdict == CALIBRATED
        parts.append(html.paragraph(f"{one.name}: {one.verdict}.", warn=not good))
        if one.reasons:
            parts.append(html.bullets(why[:1].upper() + why[1:] + "." for why in one.reasons))
    return Safe("".join(parts))


def _image(image: DiffractionImage, fit: RingFit, number: int) -> Safe:
    one, good = fit.calibrations[number], fit.good[number]
    left_out = 1 - float(good.mean())
    if not one.rings:
        return html.paragraph("No ring was recognised.", warn=True)
    return Safe(
        html.figure(
            figures.rings_over_image(image, one, good),
            "the image with the calibrated rings over it",
            "The calibrated rings over two quadrants, the other two bare to compare. Shaded: "
            f"pixels left out, {left_out:.1%} (beam stop, dead, hot and full ones).",
            raster=True,
        )
        + html.figure(
            figures.polar_views(image, one, good),
            "the image in polar coordinates, as recorded and corrected",
            "Azimuth (from columns towards rows) against radius about the beam centre. Dotted: "
            "where the calibrant's rings belong. Right: through the calibration, every ring is "
            "to be straight.",
            raster=True,
        )
        + html.figure(
            figures.residuals_of_rings(fit.points, one, number),
            "residuals of the points on all rings",
            "Left: points off their rings; a wave once around is an error of the centre, twice "
            "of the ellipse, three times of a three-fold distortion. Right: a mean that is not "
            "zero is an error of a spacing or a tilt.",
        )
        + html.figure(
            figures.radial_profiles(image, one, good),
            "mean around the beam",
            "Mean around the beam, by circles and through the calibration, on a square-root scale. "
            "Dotted: the calibrant.",
        )
        + html.details("Parameters with errors", _parameters(one))
        + html.details("Every ring", _rings(one))
    )


def _parameters(one: RingCalibration) -> Safe:
    values = {
        "beam_row_px": one.beam_centre_px[0],
        "beam_column_px": one.beam_centre_px[1],
        "distance_mm": one.distance_mm,
        "ratio": one.distortion.ratio,
        "azimuth_deg": one.distortion.azimuth_deg,
        "rot1_rad": one.rot1_rad,
        "rot2_rad": one.rot2_rad,
        "three_fold_cosine_per_px": one.three_fold_per_px[0],
        "three_fold_sine_per_px": one.three_fold_per_px[1],
        "radial_per_mm2": one.radial_per_mm2,
        "height_per_um": one.height_per_um,
    }
    sd = np.sqrt(np.maximum(np.diag(one.covariance), 1e-300))
    correlation = one.covariance / np.outer(sd, sd)
    rows = []
    for i, name in enumerate(one.parameters):
        others = [abs(float(correlation[i, j])) if j != i else 0.0 for j in range(len(sd))]
        most = int(np.argmax(others))
        rows.append([
            _NAMES.get(name, name),
            with_esd(values[name], float(sd[i]), 6) if name in values else "–",
            f"{sd[i]:.2g}",
            f"{float(correlation[i, most]):+.2f} with {_NAMES.get(one.parameters[most], '')}"
            if others[most] > 0.3 else "",
        ])  # fmt: skip
    rows += [
        [_NAMES.get(name, name), f"{value:.7g}", "not fitted", ""]
        for name, value in values.items()
        if name not in one.parameters and value
    ]
    return html.table(
        ["Parameter", "value", "standard error", "largest correlation"], rows, numeric=(1, 2)
    )


def _rings(one: RingCalibration) -> Safe:
    return html.table(
        ["hkl", "d / Å", "points", "left out", "seen of the azimuths", "r.m.s. / px", "mean / px"],
        [
            [" ".join(str(i) for i in ring.hkl), f"{ring.d_A:.4f}", ring.n_points, ring.n_rejected,
             f"{ring.coverage:.0%}", rounded(ring.residual_px, 3), rounded(ring.mean_px, 3)]
            for ring in one.rings
        ],
        numeric=(1, 2, 3, 4, 5, 6),
    )  # fmt: skip


def _several_lengths(calibrations: Sequence[RingCalibration]) -> Safe | None:
    try:
        table = camera_lengths(calibrations)
    except UserError:  # one failed, or does not say what the microscope displayed
        return None
    return lengths_section(table) if len(table.nominal_mm) > 1 else None


def lengths_section(table: CameraLengths) -> Safe:
    """Calibrated camera lengths, and how those between are interpolated."""
    rows = []
    for nominal, distance, sd in zip(table.nominal_mm, table.distance_mm, table.sd_mm, strict=True):
        size, size_sd = table.per_A_per_px(float(nominal))
        rows.append([f"{nominal:g}", with_esd(float(distance), float(sd), 3),
                     f"{distance / nominal:.5f}", with_esd(size, size_sd, 7)])  # fmt: skip
    scatter = (
        f" Settings scatter by {100 * table.scatter:.2g} % about it, which is most of the error "
        "between them."
        if np.isfinite(table.scatter)
        else ""
    )
    return Safe(
        html.table(
            ["displayed / mm", "effective / mm", "factor", "a pixel / Å⁻¹"], rows,
            numeric=(0, 1, 2, 3),
        )
        + html.figure(
            figures.camera_length_factors(table),
            "effective over displayed camera length",
            "Between calibrated settings the factor is interpolated." + scatter,
        )
    )  # fmt: skip


def _files(files: Mapping[str, str]) -> Safe:
    if not files:
        return html.paragraph("None: what is not calibrated is not handed on.")
    rows = [
        [Safe(f'<a href="{html.escape(name)}">{html.escape(name)}</a>'), what]
        for name, what in files.items()
    ]
    return html.table(["File", "what it is"], rows)
