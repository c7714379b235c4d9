"""XDS.INP: read as what it says of the frames beside it, and written to run XDS.

XDS counts pixels from 1; ORGX, ORGY is the foot of the perpendicular from the crystal to the
detector. Keywords: Kabsch, XDS documentation, "Input parameter file XDS.INP".
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from ..geometry import (
    EllipticalDistortion,
    centre_from_xds,
    centre_to_xds,
    to_beam_frame,
)
from ..series.rotation_series import RotationSeries
from .mask import rectangles
from .source import Sidecar, runs, stated
from .write import even_step_deg, untold

NAME = "XDS.INP"
_KEYWORD = re.compile(r"([A-Z][A-Z0-9_'()/.-]*)=")
_KINDS = {".img": "SMV", ".smv": "SMV", ".tif": "TIFF", ".tiff": "TIFF", ".cbf": "CBF"}
_NOT_READ = ("UNTRUSTED_QUADRILATERAL", "UNTRUSTED_ELLIPSE", "X-GEO_CORR", "Y-GEO_CORR")


def keywords(text: str) -> dict[str, list[list[str]]]:
    """Every keyword of an XDS.INP with the words of each of its occurrences, in order."""
    found: dict[str, list[list[str]]] = {}
    for line in text.splitlines():
        line = line.partition("!")[0]
        spots = list(_KEYWORD.finditer(line))
        for spot, after in zip(spots, [*spots[1:], None], strict=False):
            words = line[spot.end() : after.start() if after else None].split()
            found.setdefault(spot[1], []).append(words)
    return found


def read_xds_inp(path: Path) -> Sidecar:
    """What an XDS.INP states, in our terms.

    An incident beam that is tilted against the detector becomes a shifted beam centre, and
    the rotation axis is turned with it; detector axes other than those of the image become
    the frame that everything else is expressed in.

    Raises
    ------
    UserError : a keyword without the numbers it needs, rectangular pixels, or a detector seen
        from behind.
    """
    try:
        items = keywords(path.read_text(encoding="utf-8", errors="replace"))
    except OSError as error:
        raise UserError(path, str(error.strerror), "a readable file", "check it") from None

    def numbers(key: str, count: int, words: list[str] | None = None) -> list[float] | None:
        if key not in items:
            return None
        words = items[key][-1] if words is None else words  # XDS takes the last one
        try:
            values = [float(word) for word in words[:count]]
            if len(values) == count and np.all(np.isfinite(values)):
                return values
        except ValueError:
            pass
        raise UserError(
            f"{path}: {key}=", repr(" ".join(words)), f"{count} number(s)", "mend this keyword"
        )

    def number(key: str) -> float | None:
        values = numbers(key, 1)
        return None if values is None else values[0]

    def whole(key: str, count: int) -> list[tuple[int, ...]]:
        every = [numbers(key, count, words) for words in items.get(key, [])]
        return [tuple(int(value) for value in values) for values in every if values]

    qx, qy = number("QX"), number("QY")
    if qx is not None and qy is not None and abs(qx - qy) > 1e-6:
        raise UserError(f"{path}: QX, QY", f"{qx} and {qy} mm", "square pixels", "bin the frames")
    frame = _detector_frame(numbers)
    beam = frame @ (numbers("INCIDENT_BEAM_DIRECTION", 3) or [0.0, 0.0, 1.0])
    distance = number("DETECTOR_DISTANCE")
    if distance is not None and (distance <= 0 or beam[2] <= 0):
        raise UserError(
            f"{path}: DETECTOR_DISTANCE, INCIDENT_BEAM_DIRECTION",
            f"{distance:g} mm, beam component along the detector normal {beam[2]:g}",
            "both positive (frames as seen along the beam)",
            "flip the frames and write the keywords for them",
        )
    orgx, orgy = number("ORGX"), number("ORGY")
    centre = None
    if orgx is not None and orgy is not None and np.any(beam[:2] != 0) and not (distance and qx):
        raise UserError(
            path,
            "a tilted INCIDENT_BEAM_DIRECTION without DETECTOR_DISTANCE and QX",
            "all three, since together they place the beam centre",
            "add them",
        )
    if orgx is not None and orgy is not None:
        centre = centre_from_xds(orgx, orgy, (distance or 0.0) / (qx or 1.0), beam)
    axis = numbers("ROTATION_AXIS", 3)
    if axis is not None:
        axis = to_beam_frame(frame @ axis, beam).tolist()
    oscillation = number("OSCILLATION_RANGE")
    used = whole("DATA_RANGE", 2)
    start_number = number("STARTING_FRAME")
    if start_number is None and used:
        start_number = used[-1][0]
    template = items.get("NAME_TEMPLATE_OF_DATA_FRAMES", [[]])[-1]
    nx, ny = number("NX"), number("NY")
    return Sidecar(
        path,
        stated(
            path,
            wavelength_A=number("X-RAY_WAVELENGTH"),
            pixel_size_mm=qx if qx is not None else qy,
            distance_mm=distance,
            beam_centre_px=centre,
            rotation_axis=None if axis is None else (axis[0], axis[1], axis[2]),
            start_deg=number("STARTING_ANGLE"),
            start_number=None if start_number is None else int(start_number),
            oscillation_deg=oscillation,
            saturation=number("OVERLOAD"),
        ),
        shape=(int(ny), int(nx)) if nx and ny else None,
        frame_range=(used[-1][0], used[-1][1]) if used else None,
        excluded=tuple((a, b) for a, b in whole("EXCLUDE_DATA_RANGE", 2)),
        untrusted=tuple(
            # XDS leaves out x1 < x < x2, counted from 1
            (slice(max(y1, 0), max(y2 - 1, 0)), slice(max(x1, 0), max(x2 - 1, 0)))
            for x1, x2, y1, y2 in whole("UNTRUSTED_RECTANGLE", 4)
        ),
        template=template[0] if template else None,
        notes=tuple(f"{NAME}: its {key}= was not used" for key in _NOT_READ if key in items),
    )


def _detector_frame(numbers: Any) -> np.ndarray:
    """Rows are the detector's x, y and normal in XDS' laboratory frame."""
    x = numbers("DIRECTION_OF_DETECTOR_X-AXIS", 3) or [1.0, 0.0, 0.0]
    y = numbers("DIRECTION_OF_DETECTOR_Y-AXIS", 3) or [0.0, 1.0, 0.0]
    x, y = np.array(x) / np.linalg.norm(x), np.array(y) / np.linalg.norm(y)
    return np.array([x, y, np.cross(x, y)])


def write_xds_inp(
    series: RotationSeries,
    path: Path,
    *,
    template: str = "data/?????.img",
    pedestal_added: float = 0.0,
    distortion_maps: tuple[str, str] | None = None,
) -> tuple[str, ...]:
    """Write an XDS.INP that runs as it is on the frames that `template` names.

    Parameters
    ----------
    series : the frames' series; missing and tracking frames become EXCLUDE_DATA_RANGE.
    path : the file to write.
    template : the frames' names relative to it, ``?`` for each digit.
    pedestal_added : what the writer of the frames added to each pixel (its `WriteReport`).
    distortion_maps : names of the files that undo the distortion along x and y, if written.

    Returns
    -------
    What XDS cannot be told, one sentence each; they also stand in the file as comments.

    Raises
    ------
    UserError : no frame has a number above 0, or nothing rotates.
    """
    if len(series) == 0 or series.frame_number[-1] < 1:
        raise UserError(series.name, "no frame numbered 1 or more", "some", "renumber the frames")
    width = even_step_deg(series)
    geometry = series.geometry
    first, last = max(1, int(series.frame_number[0])), int(series.frame_number[-1])
    where = int(np.searchsorted(series.frame_number, first))
    kind = _KINDS.get(Path(template).suffix.lower(), "")
    undistorted = geometry.with_(distortion=EllipticalDistortion(), radial_per_mm2=0.0)
    told = series if distortion_maps is None else series.with_(geometry=undistorted)
    notes = _untold(told, first, kind)
    detector = ["DETECTOR= ADSC"]
    if distortion_maps is not None:  # XDS reads the maps for this detector only
        x_map, y_map = distortion_maps
        detector = ["DETECTOR= PILATUS", f"X-GEO_CORR= {x_map}", f"Y-GEO_CORR= {y_map}"]
    present = set(series.frame_number.tolist())
    gaps = runs([n for n in range(first, last + 1) if n not in present])
    orgx, orgy = centre_to_xds(geometry.beam_centre_px)
    rows, columns = series.shape
    axis = geometry.axis
    if width < 0:  # XDS wants angles that grow: the same turn about the opposite axis
        axis = (-axis[0], -axis[1], -axis[2])
    start = np.sign(width) * float(series.angle_start_deg[where])
    overload = 65535.0 if series.saturation is None else series.saturation + pedestal_added
    lines = [
        f"! {series.name}: written by ewaldflow",
        *(f"! NOTE: {note}" for note in notes),
        "JOB= XYCORR INIT COLSPOT IDXREF DEFPIX INTEGRATE CORRECT",
        f"NAME_TEMPLATE_OF_DATA_FRAMES= {template} {kind}".rstrip(),
        f"DATA_RANGE= {first} {last}",
        f"SPOT_RANGE= {first} {last}",
        f"BACKGROUND_RANGE= {first} {min(last, first + max(9, (last - first) // 4))}",
        *(f"EXCLUDE_DATA_RANGE= {a} {b}" for a, b in gaps),
        "",
        "SPACE_GROUP_NUMBER= 0",
        "UNIT_CELL_CONSTANTS= 10 10 10 90 90 90",
        "FRIEDEL'S_LAW= TRUE",
        f"STARTING_FRAME= {first}",
        f"STARTING_ANGLE= {start:.6f}",
        f"OSCILLATION_RANGE= {abs(width):.6f}",
        "ROTATION_AXIS= {:.9f} {:.9f} {:.9f}".format(*axis),
        f"X-RAY_WAVELENGTH= {geometry.wavelength_A:.10f}",
        "INCIDENT_BEAM_DIRECTION= 0 0 1",
        "",
        *detector,
        f"NX= {columns} NY= {rows}",
        f"QX= {geometry.pixel_size_mm:.6f} QY= {geometry.pixel_size_mm:.6f}",
        f"MINIMUM_VALID_PIXEL_VALUE= 0 OVERLOAD= {overload:.0f}",
        f"ORGX= {orgx:.4f} ORGY= {orgy:.4f}",
        f"DETECTOR_DISTANCE= {geometry.distance_mm:.4f}",
        "DIRECTION_OF_DETECTOR_X-AXIS= 1 0 0",
        "DIRECTION_OF_DETECTOR_Y-AXIS= 0 1 0",
        "SENSOR_THICKNESS= 0 AIR= 0",
        "TRUSTED_REGION= 0.0 1.42",
        "INCLUDE_RESOLUTION_RANGE= 20 0.7",
        *(
            # x1 < x < x2 is left out, counted from 1
            f"UNTRUSTED_RECTANGLE= {c0} {c1 + 2} {r0} {r1 + 2}"
            for r0, r1, c0, c1 in rectangles(series.mask)
        ),
        "",
        "MINIMUM_FRACTION_OF_INDEXED_SPOTS= 0.25",
        "REFINE(IDXREF)= BEAM AXIS ORIENTATION CELL",
        "REFINE(INTEGRATE)= BEAM ORIENTATION CELL",
        "REFINE(CORRECT)= BEAM AXIS ORIENTATION CELL",
        "",
    ]
    path.write_text("\n".join(lines), encoding="utf-8")
    return notes


def _untold(series: RotationSeries, first: int, kind: str) -> tuple[str, ...]:
    notes = []
    if not kind:
        notes.append("XDS does not read frames of this format")
    notes += untold(series, "XDS")
    if series.frame_number[0] < first:
        notes.append(f"frames before number {first} are left out: XDS counts from 1")
    step = even_step_deg(series)
    predicted = series.angle_start_deg[0] + step * (series.frame_number - series.frame_number[0])
    if np.max(np.abs(predicted - series.angle_start_deg)) > 0.1 * abs(step):
        notes.append("the angles are not evenly spaced; XDS is told their mean step")
    return tuple(notes)
