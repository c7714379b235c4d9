"""The goniometer angle of every frame, from headers, files beside them or the command line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError
from .resolve import Resolved, Source, missing

Floats = NDArray[np.float64]
_STEP_FRACTION = 5e-3  # two statements of the step that differ by more disagree


def frame_angles(
    resolved: Resolved,
    sources: list[Source],
    headers: Source,
    number: NDArray[np.int64],
    header_start_deg: Floats | None,
    paths: list[Path],
    where: object,
    measured: Mapping[int, tuple[float, float]] | None = None,
) -> tuple[Floats, Floats]:
    """Start and width in degrees of every frame, (n,) each; notes go to `resolved`.

    A rotation is taken as continuous: frame `i` starts ``oscillation * (i - first)`` after
    the first, so where header angles step by something else than the oscillation stated, the
    first of them counts and the oscillation is believed. (Measured on a real garnet series:
    headers step by 0.124 degrees, state 0.12, and the crystal turned by 0.1205.)

    Parameters
    ----------
    number : frame numbers, increasing.
    header_start_deg : start angles of the headers, or None.
    paths : the file of each frame, to name the first offending one.
    measured : (start, width) by frame number where the record of the acquisition tells them for
        every frame; believed unless the command line says otherwise.

    Raises
    ------
    UserError : no oscillation stated, or header angles that do not go one way.
    """
    if measured and all(n in measured for n in number.tolist()) and not _corrected(sources):
        table = np.array([measured[n] for n in number.tolist()])
        _header_step(number, table[:, 0], paths)  # they must go one way too
        return table[:, 0], table[:, 1]
    step = _header_step(number, header_start_deg, paths)
    if header_start_deg is not None and step == 0 and len(number) > 1:
        resolved.notes.append("all headers state the same angle; the first frame's was used")
    width = _oscillation(resolved, headers, step, where)
    first = _first_start(resolved, sources, headers, number, header_start_deg, width)
    if header_start_deg is None or not step or resolved.origin.get("start_deg") is not headers:
        return first + width * (number - number[0]), np.full(len(number), width)
    if abs(step - width) > _STEP_FRACTION * abs(width):
        resolved.notes.append(
            f"header angles step by {step:.5g} degrees per frame, but the oscillation is "
            f"{width:.5g} ({resolved.origin['oscillation_deg'].name}); the first angle, "
            f"{first:.6g}, and the oscillation were used"
        )
        return first + width * (number - number[0]), np.full(len(number), width)
    return header_start_deg.copy(), np.full(len(number), width)


def _corrected(sources: list[Source]) -> bool:
    """Whether a person stated angles to correct files."""
    return any(
        one.corrects
        and (one.metadata.oscillation_deg is not None or one.metadata.start_deg is not None)
        for one in sources
    )


def _header_step(
    number: NDArray[np.int64], start_deg: Floats | None, paths: list[Path]
) -> float | None:
    """Mean angle per frame number; 0 if all angles are equal; None if unknown."""
    if start_deg is None or len(start_deg) < 2:
        return None
    steps = np.diff(start_deg) / np.diff(number)
    if np.all(steps == 0):
        return 0.0
    # over the whole series, since single steps are as coarse as the angles are printed
    step = float((start_deg[-1] - start_deg[0]) / (number[-1] - number[0]))
    way = np.sign(np.median(steps)) or np.sign(step)
    wrong = np.flatnonzero(steps * way <= 0)
    if len(wrong):
        i = int(wrong[0]) + 1
        raise UserError(
            f"{paths[i]}: angle",
            f"{start_deg[i]:g} degrees after {start_deg[i - 1]:g}",
            f"angles that {'increase' if way > 0 else 'decrease'} from frame to frame",
            "mend the header, or leave the frame out",
        )
    return step


def _oscillation(resolved: Resolved, headers: Source, step: float | None, where: object) -> float:
    width = resolved.get("oscillation_deg")
    if width == 0:
        resolved.notes.append(
            f"the oscillation stated by {resolved.origin['oscillation_deg'].name} is 0"
        )
        width = None
    if width is None:
        if not step:
            raise missing("oscillation_deg", where)
        resolved.origin["oscillation_deg"] = headers
        resolved.notes.append(
            f"no oscillation is stated; that of header angles, {step:.6g} degrees, was used"
        )
        return step
    used = float(width)
    origin = resolved.origin["oscillation_deg"]
    if step and step * used < 0 and not origin.corrects:
        resolved.notes.append(
            f"header angles decrease, so the oscillation of {origin.name}, {used:g} degrees, "
            "was taken as negative"
        )
        used = -used
    return used


def _first_start(
    resolved: Resolved,
    sources: list[Source],
    headers: Source,
    number: NDArray[np.int64],
    header_start_deg: Floats | None,
    width: float,
) -> float:
    """Angle at the start of the first frame; sources that state another are noted."""
    stated: list[tuple[Source, float]] = []
    for one in sources:
        start, at = one.metadata.start_deg, one.metadata.start_number
        if one is headers and header_start_deg is not None:
            stated.append((one, float(header_start_deg[0])))
        elif start is not None:
            stated.append((one, start + (0 if at is None else width * (number[0] - at))))
    resolved.take("start_deg", stated)
    if not stated:
        resolved.notes.append("no start angle is stated; the first frame was put at 0 degrees")
    return float(resolved.values.get("start_deg", 0.0))
