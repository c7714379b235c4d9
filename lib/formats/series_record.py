"""The record beside a series that Ewaldflow acquired itself: exact angles and tracking images."""

from __future__ import annotations

from pathlib import Path

from ..errors import UserError
from ..serialred.record import RECORD as NAME
from ..serialred.record import read_record
from .source import Sidecar, stated

__all__ = ["NAME", "read_series_record"]


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
