"""The record beside a series that Ewaldflow acquired itself: exact angles and tracking images."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import UserError
from .source import Sidecar, stated

NAME = "tracking.jsonl"
FRAMES = "frames"


def read_series_record(path: Path) -> Sidecar:
    """What `lib.serialred.record` wrote: metadata, the angles of each frame, tracking numbers.

    Raises
    ------
    UserError : a line that is not JSON, or lacks what its event needs.
    """
    metadata = stated(path)
    angles: dict[int, tuple[float, float]] = {}
    tracking: list[int] = []
    for line in read_record(path):
        try:
            if line.get("event") == "series":
                metadata = stated(path, **line["metadata"])
            elif line.get("event") == "exposure" and line.get("role") == "diffraction":
                start, end = float(line["alpha_start_deg"]), float(line["alpha_end_deg"])
                angles[int(line["number"])] = (start, end - start)
            elif line.get("event") == "angles":  # by the read-outs of the whole rotation
                angles |= {int(n): (float(a), float(b) - float(a)) for n, a, b in line["frames"]}
            elif line.get("event") == "exposure" and line.get("role") == "tracking":
                tracking.append(int(line["number"]))
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{path}: {line.get('event')}",
                f"{type(error).__name__} {error}",
                "what the recorder writes",
                "mend the line, or remove the record to read the frames without it",
            ) from None
    return Sidecar(path, metadata, frame_angles=angles, tracking=tuple(tracking))


def read_record(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a record; a last one cut short by a crash is left out.

    Raises
    ------
    UserError : a line before the last is not JSON.
    """
    lines = path.read_text(encoding="utf-8").split("\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            found = json.loads(line)
        except ValueError as error:
            if number == len(lines):
                return
            raise UserError(
                f"{path}, line {number}", str(error), "one JSON object per line", "mend the line"
            ) from None
        if isinstance(found, dict):
            yield found
