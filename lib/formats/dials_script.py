"""A shell script that imports SMV frames into DIALS with our geometry.

DIALS' frame is ours turned half about x: (x, -y, -z); it counts pixels from the detector's
corner. It takes no gaps this way: every unbroken run of frames is imported by itself, with its own
start angle. An elliptical distortion becomes a pair of its maps between pixels and millimetres,
made by its own program (which makes them for square images only) after a first import, and told
to a second.
"""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np

from ..geometry import EllipticalDistortion, Geometry, centre_to_corner, to_dials_frame
from ..series.rotation_series import RotationSeries
from .mask import rectangles
from .source import runs
from .write import even_step_deg, untold

_DX, _DY = "dx.pickle", "dy.pickle"


def write_dials_script(
    series: RotationSeries,
    path: Path,
    *,
    template: str = "data/?????.img",
    pedestal_added: float = 0.0,
    gaps_filled: bool = False,
) -> tuple[str, ...]:
    """Write a script that makes ``imported.expt`` (``imported_2.expt`` ... after gaps).

    Parameters
    ----------
    series : the frames' series.
    path : the script to write.
    template : the frames' names relative to it, ``?`` for each digit.
    pedestal_added : what the writer of the frames added to each pixel (its `WriteReport`).
    gaps_filled : frames stand in the place of those missing; it is all one scan.

    Returns
    -------
    What DIALS is not told, one sentence each; they also stand in the script as comments.

    Raises
    ------
    UserError : no frames, or nothing rotates.
    """
    width = even_step_deg(series)
    geometry = series.geometry
    rows, columns = series.shape
    ellipse = geometry.distortion.ratio != 1 and rows == columns
    round_ = geometry.with_(distortion=EllipticalDistortion())
    notes = untold(series.with_(geometry=round_) if ellipse else series, "DIALS")
    axis = to_dials_frame(geometry.axis) * np.sign(width)
    x, y = centre_to_corner(geometry.beam_centre_px)
    options = [
        f"geometry.beam.wavelength={geometry.wavelength_A:.11g}",
        f"geometry.detector.distance={geometry.distance_mm:.9g}",
        f"geometry.detector.fast_slow_beam_centre={x:.5f},{y:.5f}",
        "geometry.goniometer.axes={:.7f},{:.7f},{:.7f}".format(*(axis + 0.0)),
    ]
    if series.saturation is not None:
        top = series.saturation + pedestal_added
        options.append(f"geometry.detector.panel.trusted_range=-1,{top:.9g}")
    if series.gain is not None:
        options.append(f"geometry.detector.panel.gain={series.gain:.6g}")
    masked = [  # fast, then slow, the ends not included
        f"untrusted.rectangle={c0},{c1 + 1},{r0},{r1 + 1}"
        for r0, r1, c0, c1 in rectangles(series.mask)
    ]
    digits = template.count("?")
    pattern = shlex.quote(template.replace("?" * digits, f"%0{digits}g"))
    lines = [
        "#!/bin/sh",
        f"# {series.name}: written by ewaldflow",
        *(f"# NOTE: {note}" for note in notes),
        "set -e",
        'cd "$(dirname "$0")"',
    ]
    unbroken = runs(series.frame_number.tolist())
    if gaps_filled:
        unbroken = [(unbroken[0][0], unbroken[-1][1])]
    for k, (first, last) in enumerate(unbroken, 1):
        name = "imported" if k == 1 else f"imported_{k}"
        start = float(series.angle_start_deg[np.searchsorted(series.frame_number, first)])
        oscillation = f"{start * np.sign(width) + 0.0:.6f},{abs(width):.6f}"
        importing = [
            f"dials.import $(seq -f {pattern} {first} {last}) \\",
            *(f"  {option} \\" for option in options),
            f"  geometry.scan.oscillation={oscillation} \\",
        ]
        output = f"  output.experiments={name}.expt output.log={name}.log"
        if ellipse and k == 1:
            lines += ["", *importing, output, *_ellipse(geometry, name)]
        if ellipse:
            importing.append(f"  lookup.dx={_DX} lookup.dy={_DY} \\")
        lines += ["", *importing, output]
        if masked:
            lines += [
                f"dials.generate_mask {name}.expt \\",
                *(f"  {one} \\" for one in masked),
                f"  output.mask={name}.mask output.log={name}_mask.log",
                f"dials.apply_mask {name}.expt mask={name}.mask \\",
                f"  output.experiments={name}.expt",
            ]
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")
    path.chmod(0o755)
    return tuple(notes)


def _ellipse(geometry: Geometry, name: str) -> list[str]:
    """The command that makes DIALS' maps, observed less ideal position in px.

    Its ellipse takes the observed to the ideal; its phi runs the other way than our azimuth.
    """
    x, y = centre_to_corner(geometry.beam_centre_px)
    mm = geometry.pixel_size_mm
    root = float(np.sqrt(geometry.distortion.ratio))
    return [
        f"dials.generate_distortion_maps {name}.expt mode=ellipse \\",
        f"  ellipse.phi={-geometry.distortion.azimuth_deg:.6f} \\",
        f"  ellipse.l1={1 / root:.9f} ellipse.l2={root:.9f} \\",
        f"  ellipse.centre_xy={x * mm:.7f},{y * mm:.7f} \\",
        f"  output.x_map={_DX} output.y_map={_DY}",
    ]
