"""The page of a calibration by an overfocused scan: numbers, how sure, and images to judge by."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from ..artefacts.manifest import Manifest
from ..overfocus.calibration import CALIBRATED, ScanCalibration
from ..overfocus.conventions import named_angles
from ..overfocus.model import similarity_of
from ..overfocus.result import OverfocusResult, errors_of
from . import html
from . import overfocus_figures as figures
from .html import Safe
from .notation import rounded, with_esd
from .provenance import provenance_section


def overfocus_page(
    result: OverfocusResult,
    files: Mapping[str, str],
    provenance: Sequence[Manifest],
    step_nm: tuple[float, float] | None = None,
    ray_diagram: Figure | None = None,
    notes: Sequence[str] = (),
) -> str:
    """The page as HTML text.

    Parameters
    ----------
    result : the calibration and its images.
    files : hand-over files beside the page: what each is, by name.
    provenance : manifests of the artefacts it came from, raw side first.
    step_nm : distance of scan points, for the scale bar.
    ray_diagram : of the twin, if it is installed.
    notes : on how the scan was read.
    """
    found = result.calibration
    good = found.verdict == CALIBRATED
    sections: dict[str, tuple[str, Safe]] = {"images": ("The specimen", _images(result, step_nm))}
    if result.views.stages:
        sections["control"] = ("Control images", _control(result))
    sections["detector"] = ("On the detector", _detector(result))
    if good:
        sections["matrices"] = ("Matrices and angles", _matrices(result))
    sections["verdict"] = ("How sure it is", _quality(found))
    if result.published is not None:
        sections["published"] = ("The published method", _published(result))
    if ray_diagram is not None:
        sections["rays"] = ("The column", _rays(ray_diagram, result.twin_difference))
    if files:
        sections["files"] = ("Files to go on with", _files(files))
    sections["notes"] = ("Notes and choices", html.bullets([*found.reasons, *notes] or ["None."]))
    sections["provenance"] = ("Provenance", provenance_section(provenance))
    warning = [] if good else [html.paragraph(_why_not(found), warn=True)]
    return html.page(
        title=found.name,
        over="Calibration by an overfocused scan",
        lead=_lead(found),
        body=[
            *warning,
            html.facts(_facts(result)),
            html.advice(_next_steps(result)),
            html.contents({anchor: heading for anchor, (heading, _) in sections.items()}),
            *(html.section(anchor, heading, part) for anchor, (heading, part) in sections.items()),
        ],
        footer=f"Made by Ewaldflow {provenance[-1].code.version}. This page needs no network."
        if provenance
        else "Made by Ewaldflow. This page needs no network.",
    )


def _next_steps(result: OverfocusResult) -> Iterator[str]:
    found = result.calibration
    if found.verdict == CALIBRATED:
        yield (
            "Use it: paste the lines of the files below into your program, or name the artefact "
            f"where a scan is prepared, overfocus/{found.name}."
        )
        yield "After a day or a change of lenses: `ewaldflow check-overfocus` with a new scan."
    else:
        yield (
            "Take a scan with more of the specimen's detail in the beam's disc, a finer step or "
            "another defocus, and check the statements that it started from."
        )


def headline(calibration: ScanCalibration) -> str:
    """A calibration in a few words, without a full stop."""
    if calibration.verdict != CALIBRATED:
        return _why_not(calibration).rstrip(".")
    found = similarity_of(calibration.scan_to_detector, calibration.overfocused)
    errors = errors_of(calibration)
    side = "mirrored" if found.flip_y else "not mirrored"
    return (
        f"scan rotation {with_esd(found.rotation_deg, errors.rotation_deg, 3)}°, {side}, "
        f"{with_esd(abs(found.scale), errors.scale * abs(found.scale), 4)} px per scan step"
    )


def _why_not(calibration: ScanCalibration) -> str:
    why = "; ".join(reason.rstrip(".") for reason in calibration.reasons) or "no reason is given"
    return f"Not calibrated: {why}."


def _lead(calibration: ScanCalibration) -> str:
    if calibration.verdict == CALIBRATED:
        text = headline(calibration)
        return f"{text[0].upper()}{text[1:]}."
    return "Not calibrated. Nothing on this page must be used to turn or scale other data."


def _facts(result: OverfocusResult) -> dict[str, object]:
    found = result.calibration
    rows, columns = found.scan_shape
    facts: dict[str, object] = {"Scan": f"{rows} × {columns}"}
    if found.verdict == CALIBRATED:
        errors = errors_of(found)
        like = similarity_of(found.scan_to_detector, found.overfocused)
        facts["Scan rotation"] = f"{with_esd(like.rotation_deg, errors.rotation_deg, 3)}°"
        facts["Handedness"] = "flip y" if like.flip_y else "no flip"
        size = abs(like.scale)
        facts["Scale"] = Safe(
            f"{with_esd(size, errors.scale * size, 4)} <small>px per scan step</small>"
        )
        if result.parameters is not None:
            height = result.parameters.overfocus_m * 1e6
            facts["Overfocus" if height > 0 else "Underfocus"] = (
                f"{with_esd(abs(height), errors.scale * abs(height), 3)} µm"
            )
        facts["Descan error"] = Safe(
            f"{np.linalg.norm(found.descan, 2):.4f} <small>px per scan step</small>"
        )
    facts["Verdict"] = found.verdict
    return facts


def _images(result: OverfocusResult, step_nm: tuple[float, float] | None) -> Safe:
    views = result.views
    if not views.superposition.size:
        return html.figure(
            figures.bright_field(views, step_nm),
            "virtual bright field",
            "Counts within the beam's disc at each scan point. There is no superposition.",
            raster=True,
        )
    return html.figure(
        figures.beside_bright_field(views, step_nm),
        "virtual bright field beside the superposition",
        "Left: counts within the beam's disc at each scan point, blurred by the defocused probe. "
        "Middle: every frame carried back to the specimen by the calibration; sharp only if it is "
        "right. Right: how many pixels went into each of its points.",
        raster=True,
    )


def _control(result: OverfocusResult) -> Safe:
    views = result.views
    shown = list(views.stages)
    if result.published is not None:
        shown.append(result.published.stage)
    first, stop = views.stage_rows
    some = "" if stop - first == result.calibration.scan_shape[0] else (
        f" Scan rows {first} to {stop - 1} of the large scan."
    )  # fmt: skip
    return html.figure(
        figures.stages(shown),
        "control images with ever more of the calibration",
        "From above, ever more of the calibration is used. Where it is right, one frame in scan "
        "coordinates looks like the image of one detector pixel, and the superposition is sharp. "
        "A sharp edge in the sum of frames shows that the beam stands still on the detector. The "
        f"lower the blur (Crete et al., 2007), the sharper.{some}",
        raster=True,
    )


def _detector(result: OverfocusResult) -> Safe:
    return html.figure(
        figures.on_the_detector(result.views, result.calibration),
        "mean frame and single frames",
        "The beam's disc, found (orange), and where the specimen of the next scan row and column "
        "appears. Dotted: outline of the scanned area in the shadow of the specimen.",
        raster=True,
    )


def _matrices(result: OverfocusResult) -> Safe:
    found = result.calibration
    sd = np.sqrt(np.abs(np.diag(np.asarray(found.covariance, float))))
    a_sd, d_sd = sd[:4].reshape(2, 2), sd[4:].reshape(2, 2)
    rows = []
    for name, matrix, error in (
        ("A, scan to detector", found.scan_to_detector, a_sd),
        ("D, descan error", found.descan, d_sd),
    ):
        for k, axis in enumerate(("row", "column")):
            cells = [with_esd(matrix[k, j], error[k, j], 5) for j in (0, 1)]
            rows.append([name if k == 0 else "", f"detector {axis}", *cells])
    table = html.table(
        ["Matrix / px per scan step", "", "along scan rows", "along scan columns"],
        rows,
        numeric=(2, 3),
        caption="(row, column) order. A point of the specimen at scan position s beside the beam "
        "appears at centre + A s; the beam itself moves by D s.",
    )
    names = named_angles(found.scan_to_detector, found.overfocused)
    turned = f"{names.libertem_deg:.3f}"
    flip = "flip_y" if names.flip_y else "no flip"
    scale, asymmetry, turn, shear = names.ptyrad_affine
    angles = html.table(
        ["Program", "takes it as"],
        [
            ["LiberTEM up to 0.16, and the published method", f"scan_rotation {turned}°, {flip}"],
            [
                "The scan, clockwise as seen on the detector (LiberTEM's documentation)",
                f"{names.scan_clockwise_deg:.3f}°, {flip}",
            ],
            ["Thermo Fisher", f"take {names.thermo_fisher_deg:.3f}° off “scan rotation”"],
            [
                "py4DSTEM",
                f"rotation {names.py4dstem_deg:.3f}°, transpose {names.py4dstem_transpose}",
            ],
            [
                "pyxem",
                f"{'flip rows, then ' if names.flip_y else ''}{names.pyxem_deg:.3f}° clockwise",
            ],
            [
                "ptyRAD",
                f"meas_flipT {[int(names.flip_y), 0, 0]}, pos_scan_affine "
                f"[{scale:.5f}, {asymmetry:.5f}, {turn:.3f}, {shear:.3f}]",
            ],
        ],
        caption="The same direction under each name. Signs differ between programs: take the "
        "line of yours, never another's.",
    )
    return Safe(table + angles + _parameters(result))


def _parameters(result: OverfocusResult) -> Safe:
    p = result.parameters
    if p is None:
        lacking = " and ".join(result.lacking)
        return html.paragraph(
            f"The overfocus in micrometres is not given, as nothing states {lacking}; rotation, "
            "handedness and scale do not need it."
        )
    rows = [
        ["overfocus", f"{p.overfocus_m * 1e6:.4f} µm"],
        ["scan pixel size", f"{p.scan_pixel_size_m * 1e9:.4g} nm"],
        ["camera length", f"{p.camera_length_m * 1e3:.4g} mm"],
        ["detector pixel size", f"{p.detector_pixel_size_m * 1e6:.4g} µm"],
        ["cy, cx", f"{p.cy:.2f}, {p.cx:.2f} px"],
        ["scan rotation", f"{p.scan_rotation_deg:.4f}°"],
        ["flip_y", str(p.flip_y)],
    ]
    return html.table(
        ["Parameter of the published model", "value"],
        rows,
        caption="The overfocus follows from the scale and the three lengths as they are stated; "
        "an error of a length is one of it.",
    )


def _quality(found: ScanCalibration) -> Safe:
    q = found.quality
    rows = [
        ["difference of A's singular values over their sum", rounded(q.anisotropy, 5)],
        ["weakest correlation peak over noise", rounded(q.lag_snr, 1)],
        ["sharpness of the superposition over that of noise", rounded(q.sharpness, 2)],
        ["standard error of A by regions of the scan, relative", rounded(q.bootstrap_spread, 6)],
        ["movement left in the frames after the fit / px", rounded(q.predictive_residual_px, 4)],
        ["drift of the specimen's shadow / px per scan row",
         ", ".join(rounded(float(v), 5) for v in found.drift_px)],
    ]  # fmt: skip
    sign = "above" if found.overfocused else "below"
    prior = html.paragraph(
        f"That the focus lay {sign} the specimen was stated, not measured: with the other sign "
        "the rotation differs by 180°."
    )
    return Safe(html.table(["Figure", "value"], rows, numeric=(1,)) + prior)


def _published(result: OverfocusResult) -> Safe:
    one = result.published
    assert one is not None
    rows = [
        ["start", f"{one.start.scan_rotation_deg:.3f}°", f"{one.start.overfocus_m * 1e6:.4f} µm"],
        ["end", f"{one.end.scan_rotation_deg:.3f}°", f"{one.end.overfocus_m * 1e6:.4f} µm"],
    ]
    if result.parameters is not None:
        ours = result.parameters
        rows.append(["ours", f"{ours.scan_rotation_deg:.3f}°", f"{ours.overfocus_m * 1e6:.4f} µm"])
    bound = (
        html.paragraph("It ended at the border of what it searched: its optimum may lie beyond.",
                       warn=True)
        if one.at_bound
        else Safe("")
    )  # fmt: skip
    table = html.table(["", "scan rotation", "overfocus"], rows, numeric=(1, 2))
    drawn = html.figure(
        figures.search_path(
            one.path,
            (one.start.scan_rotation_deg, one.start.overfocus_m),
            (one.end.scan_rotation_deg, one.end.overfocus_m),
        ),
        "surface of the blur over rotation and overfocus, with all that was tried",
        "Left: the surface of the blur, drawn through all that was tried. "
        f"Blur of the superposition minimised by shgo with COBYLA from {one.starts} start"
        f"{'s' if one.starts > 1 else ''}. It knows of no descan error, and takes one for "
        "rotation and overfocus.",
    )
    return Safe(table + bound + drawn)


def _rays(diagram: Figure, difference: float) -> Safe:
    agreed = (
        html.paragraph(
            f"TemGym's traced rays and the closed form agree to {difference:.1e} (relative)."
        )
        if np.isfinite(difference)
        else Safe("")
    )
    drawn = html.figure(
        diagram, "rays through the column", "Rays of TemGym Basic for three scan points."
    )
    return Safe(agreed + drawn)


def _files(files: Mapping[str, str]) -> Safe:
    rows = [
        [Safe(f'<a href="{html.escape(name)}">{html.escape(name)}</a>'), what]
        for name, what in files.items()
    ]
    return html.table(["File", "what it is"], rows)
