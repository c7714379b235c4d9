"""Which of the values that several sources state is used, and what they disagree about.

The first source that states a value wins: the command line, the instrument's `overrides`,
the frame headers, the files beside the frames, the instrument's defaults. Every other source
that disagrees by more than rounding is noted.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import UserError
from ..geometry import EllipticalDistortion
from ..instrument import Instrument, SeriesMetadata
from ..optics import electron_wavelength_A

# By how much two sources may differ through rounding, as a fraction or absolutely.
_FRACTION = {
    "wavelength_A": 2e-3,  # 0.0251 for 0.025079
    "pixel_size_mm": 1e-4,
    "distance_mm": 1e-4,
    "oscillation_deg": 1e-3,
    "radial_per_mm2": 1e-3,
    "gain": 1e-3,
    "exposure_s": 1e-2,
}
_ABSOLUTE = {"beam_centre_px": 0.1, "start_deg": 0.01, "pedestal": 1e-6, "saturation": 1e-6}
_AXIS_DEG = 0.05
_USUAL_KV = (60, 80, 100, 120, 160, 200, 300)
# What to do about a required value that no source states: the option, and the YAML field.
_REQUIRED = {
    "wavelength_A": ("--voltage or --wavelength", "voltage_kV"),
    "pixel_size_mm": ("--pixel-size", "detector.pixel_size_mm"),
    "distance_mm": ("--distance or --scale", "distance_mm or camera_lengths"),
    "rotation_axis": ("--axis", "rotation_axis"),
    "oscillation_deg": ("--osc", "overrides.oscillation_deg"),
}


@dataclass(frozen=True)
class Source:
    """A name for people, what it states, and whether a person stated it to correct files."""

    name: str
    metadata: SeriesMetadata
    corrects: bool = False


@dataclass
class Resolved:
    """The values used, where each comes from, and what was noted on the way."""

    values: dict[str, Any] = field(default_factory=dict)
    origin: dict[str, Source] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def get(self, name: str) -> Any:
        """The value used, or None if no source states one."""
        return self.values.get(name)

    def required(self, name: str, where: object) -> Any:
        """The value used. Raises UserError naming the option and YAML field if there is none."""
        if name not in self.values:
            raise missing(name, where)
        return self.values[name]

    def take(self, name: str, stated: Iterable[tuple[Source, Any]]) -> None:
        """Use the first value stated, and note every other that disagrees with it."""
        known = [(source, value) for source, value in stated if value is not None]
        if not known:
            return
        (winner, used), *others = known
        self.values[name], self.origin[name] = used, winner
        for source, value in others:
            if differ(name, used, value):
                self.notes.append(
                    f"{name}: {in_words(used)} of {winner.name} was used; "
                    f"{source.name} says {in_words(value)}"
                )


def missing(name: str, where: object) -> UserError:
    """The error for a required value that no source states."""
    option, entry = _REQUIRED[name]
    return UserError(
        f"{where}: {name}",
        "nothing in headers, files beside the frames or the instrument",
        "a value",
        f"give {option}, or {entry} in the YAML of --instrument",
    )


def resolve(sources: list[Source], instrument: Instrument | None) -> Resolved:
    """Decide every value but the angles of frames; `sources` in order of precedence."""
    resolved = Resolved()
    _take_wavelength(resolved, sources)
    for name in (
        "pixel_size_mm",
        "beam_centre_px",
        "rotation_axis",
        "oscillation_deg",
        "distortion",
        "radial_per_mm2",
        "gain",
        "pedestal",
        "saturation",
        "exposure_s",
    ):
        resolved.take(name, [(one, getattr(one.metadata, name)) for one in sources])
    _take_distance(resolved, sources, instrument)
    return resolved


def differ(name: str, a: Any, b: Any) -> bool:
    """Whether two stated values differ by more than rounding."""
    if name == "rotation_axis":
        a, b = np.asarray(a) / np.linalg.norm(a), np.asarray(b) / np.linalg.norm(b)
        return bool(np.linalg.norm(a - b) > np.deg2rad(_AXIS_DEG))
    if isinstance(a, EllipticalDistortion):
        return bool(np.max(np.abs(a.matrix - b.matrix)) > 1e-4)
    largest = np.max(np.abs(np.subtract(a, b)))
    return bool(largest > _ABSOLUTE.get(name, _FRACTION.get(name, 0.0) * np.max(np.abs(a))))


def in_words(value: Any) -> str:
    """A stated value for people."""
    if isinstance(value, EllipticalDistortion):
        return f"ratio {value.ratio:.5g} at {value.azimuth_deg:.4g} degrees"
    if isinstance(value, tuple):
        return "(" + ", ".join(f"{one:.6g}" for one in value) + ")"
    return f"{value:.8g}"


def _take_wavelength(resolved: Resolved, sources: list[Source]) -> None:
    resolved.take("wavelength_A", [(one, one.metadata.exact_wavelength_A) for one in sources])
    if "wavelength_A" not in resolved.values:
        return
    printed, winner = resolved.values["wavelength_A"], resolved.origin["wavelength_A"]
    if winner.corrects or winner.metadata.voltage_kV is not None:
        return
    for one in sources:
        exact = one.metadata.exact_wavelength_A
        if one.metadata.voltage_kV is None or exact is None:
            continue
        if abs(exact / printed - 1) > 1e-6 and not differ("wavelength_A", printed, exact):
            resolved.values["wavelength_A"] = exact
            resolved.notes.append(
                f"wavelength_A: {printed:g} of {winner.name} is that of "
                f"{one.metadata.voltage_kV:g} kV rounded; {exact:.7f} was used"
            )
        return
    for voltage in _USUAL_KV:
        exact = electron_wavelength_A(voltage)
        if abs(exact / printed - 1) > 1e-5 and not differ("wavelength_A", printed, exact):
            resolved.notes.append(
                f"wavelength_A: {printed:g} of {winner.name} looks like that of {voltage} kV, "
                f"{exact:.7f}, rounded; it was used as printed, since no source gives the voltage"
            )


def _take_distance(
    resolved: Resolved, sources: list[Source], instrument: Instrument | None
) -> None:
    """The distance as stated, or from 1/Å per pixel, or from a table of camera lengths."""
    stated: list[tuple[Source, Any]] = []
    pixel, wavelength = resolved.get("pixel_size_mm"), resolved.get("wavelength_A")
    by_table = _from_table(resolved, sources, instrument)
    for one in sources:
        if by_table is not None and by_table[2] is one:
            stated.append(by_table[:2])
        stated.append((one, one.metadata.distance_mm))
        if one.metadata.per_A_per_px is not None and pixel and wavelength:
            stated.append((one, pixel / (wavelength * one.metadata.per_A_per_px)))
    resolved.take("distance_mm", stated)


def _from_table(
    resolved: Resolved, sources: list[Source], instrument: Instrument | None
) -> tuple[Source, float, Source] | None:
    """The tabulated distance as a source, its value, and the source before which it counts."""
    said = next((one for one in sources if one.metadata.camera_length_mm is not None), None)
    if said is None or instrument is None or not instrument.camera_lengths:
        return None
    nominal = said.metadata.camera_length_mm or 0.0
    table = instrument.camera_lengths
    nearest = min(table, key=lambda length: abs(length - nominal))
    if abs(nearest - nominal) > 0.005 * nominal:
        lengths = ", ".join(f"{length:g}" for length in table)
        resolved.notes.append(
            f"camera length {nominal:g} mm of {said.name} is not in the table of instrument "
            f"{instrument.name} ({lengths} mm)"
        )
        return None
    name = f"instrument {instrument.name} at camera length {nominal:g} mm"
    before = said if said.corrects else sources[-1]
    return Source(name, SeriesMetadata()), table[nearest], before
