"""How a series went: the goniometer over time, and how the crystal moved and was followed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError
from ..formats.series_record import read_record

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Track:
    """One series by its record.

    Attributes
    ----------
    name : of the series.
    time_s, alpha_deg : (n,) each: end of every diffraction exposure since the first began, and
        the goniometer's angle in its middle.
    moved_alpha_deg, moved_um : (m,) and (m, 2) where the beam was sent to follow the crystal,
        from where it stood at the start.
    seen_alpha_deg, off_um : (k,) each: when the crystal was looked for, and how far it was from
        where it was expected; NaN where it was not found.
    believed : (k,) whether that sighting was used.
    """

    name: str
    time_s: Floats
    alpha_deg: Floats
    moved_alpha_deg: Floats
    moved_um: Floats
    seen_alpha_deg: Floats
    off_um: Floats
    believed: NDArray[np.bool_]

    @property
    def drift_um(self) -> float:
        """Largest distance by which the crystal was followed; NaN if it never was."""
        return float(np.hypot(*self.moved_um.T).max()) if len(self.moved_um) else float("nan")


@dataclass(frozen=True)
class Tracks:
    """Of all series of a session."""

    tracks: tuple[Track, ...] = ()


def read_track(path: Path, name: str) -> Track:
    """What the record beside a series tells of its course.

    Raises
    ------
    UserError : it cannot be read, a line is not JSON, or lacks what its event needs.
    """
    times: dict[int, float] = {}
    alphas: dict[int, float] = {}
    moved, seen = [], []
    begins: list[float] = []
    try:
        for line in read_record(path):
            what = line.get("decision")
            if line.get("event") == "exposure" and line.get("role") == "diffraction":
                number = int(line["number"])
                times[number] = float(line["t_s"])
                begins.append(times[number] - float(line["exposure_s"]))
                alphas[number] = (float(line["alpha_start_deg"]) + float(line["alpha_end_deg"])) / 2
            elif line.get("event") == "angles":  # by the read-outs of the whole rotation
                alphas |= {int(n): (float(a) + float(b)) / 2 for n, a, b in line["frames"]}
            elif what == "beam moved":
                moved.append((float(line["alpha_deg"]), *map(float, line["to_um"])))
            elif what == "sighting":
                seen.append(_sighting(line))
    except OSError as error:
        raise UserError(path, str(error.strerror), "the record of a series", "restore it") from None
    except (KeyError, TypeError, ValueError) as error:
        found = f"{type(error).__name__} {error}"
        raise UserError(path, found, "what the recorder writes", "mend the line") from None
    begin = min(begins, default=0.0)
    followed = np.asarray(moved, float).reshape(-1, 3)
    looked = np.asarray([one[:2] for one in seen], float).reshape(-1, 2)
    return Track(
        name=name,
        time_s=np.array(list(times.values()), float) - begin,
        alpha_deg=np.array([alphas[number] for number in times], float),
        moved_alpha_deg=followed[:, 0],
        moved_um=followed[:, 1:],
        seen_alpha_deg=looked[:, 0],
        off_um=looked[:, 1],
        believed=np.asarray([one[2] for one in seen], bool),
    )


def _sighting(line: dict[str, Any]) -> tuple[float, float, bool]:
    verdict = line.get("verdict") or {}
    off = verdict.get("innovation_um") if line.get("found") else None
    return (
        float(line["alpha_deg"]),
        float("nan") if off is None else float(off),
        bool(verdict.get("accepted")),
    )
