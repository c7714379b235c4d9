"""Deflectors and lenses: raw values of the server to nominal ones and back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..errors import LimitExceeded
from .connection import Connection, nothing, number, numbers
from .dialects import Nonsense
from .options import Options, Scale

COUNTS, NEUTRAL = 65536, 32768
# of the -1 to 1 that instamatic gives out for an FEI
FEI_STEPS = 32768


@dataclass(frozen=True)
class Raw:
    """A range of raw values: whole counts from `lowest` to `highest`, `per_count` each.

    Attributes
    ----------
    per_count : raw value of a count.
    whole : the server wants integers, and never shows what lies outside.
    """

    lowest: int
    highest: int
    per_count: float = 1.0
    neutral: int = 0
    whole: bool = False

    def of(self, count: int) -> float:
        """The raw value of a count from neutral."""
        raw = (count + self.neutral) * self.per_count
        return int(raw) if self.whole else raw

    def count(self, raw: float) -> float:
        """The count from neutral of a raw value; fractions where a panel has finer ones."""
        if self.whole and not self.lowest <= raw <= self.highest:
            raise Nonsense(f"{raw} for a value within {self.lowest} to {self.highest}")
        return raw / self.per_count - self.neutral


JEOL = Raw(0, COUNTS - 1, neutral=NEUTRAL, whole=True)
JEOL_LENS = Raw(0, COUNTS - 1, whole=True)
FEI = Raw(-FEI_STEPS, FEI_STEPS, per_count=1 / FEI_STEPS)


@dataclass(frozen=True)
class Setting:
    """What deflectors and lenses share.

    Attributes
    ----------
    what : the server's name of it, without get and set.
    step : nominal `unit` in a count.
    """

    connection: Connection
    name: str
    what: str
    unit: str
    raw: Raw
    step: float
    limits: tuple[float, float] = field(init=False)
    narrowed: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        """The range of the converter, or what the options make of it."""
        raw = self.raw
        whole = (
            (raw.lowest - raw.neutral) * self.step,
            (raw.highest - raw.neutral) * self.step,
        )
        low, high = self.narrowed or whole
        if low < whole[0] - self.step / 2 or high > whole[1] + self.step / 2:
            raise LimitExceeded(
                f"{self.name}: limits",
                f"{low:g} to {high:g} {self.unit}",
                f"within {whole[0]:g} to {whole[1]:g}, its range at this step",
                "mend limits or step in the instrument's YAML",
            )
        object.__setattr__(self, "limits", (low, high))

    def to_raw(self, value: float) -> float:
        """To the nearest count. Raises `LimitExceeded`."""
        low, high = self.limits
        # the last half step belongs to the last count
        if not low - self.step / 2 <= value <= high + self.step / 2:
            raise LimitExceeded(
                self.name,
                f"{value:g} {self.unit}",
                f"{low:g} to {high:g} {self.unit}",
                "choose a value within; nothing was set",
            )
        raw = self.raw
        first, last = raw.lowest - raw.neutral, raw.highest - raw.neutral
        return raw.of(min(max(round(value / self.step), first), last))

    def ask(self, read: Callable[[Any], Any]) -> Any:
        """The raw value, as `read` makes it nominal."""
        return self.connection.call(f"get{self.what}", read=read)

    def tell(self, *raw: float) -> None:
        """Set the raw value."""
        self.connection.call(f"set{self.what}", *raw, read=nothing)


class Pair(Setting):
    """A deflector (`protocols.Deflector`)."""

    def get(self) -> tuple[float, float]:
        """(x, y)."""
        return self.ask(self._pair)

    def set(self, xy: tuple[float, float]) -> None:
        """Set (x, y), to the nearest count."""
        x, y = xy
        self.tell(self.to_raw(x), self.to_raw(y))

    def _pair(self, data: Any) -> tuple[float, float]:
        x, y = numbers(2)(data)
        return self.raw.count(x) * self.step, self.raw.count(y) * self.step


class Single(Setting):
    """A lens (`protocols.Lens`)."""

    def get(self) -> float:
        """The value."""
        return self.ask(lambda data: self.raw.count(number(data)) * self.step)

    def set(self, value: float) -> None:
        """Set it, to the nearest count."""
        self.tell(self.to_raw(value))


def deflectors_of(options: Options, connection: Connection) -> dict[str, Pair]:
    """All that the interface has."""
    fei = options.interface == "fei"
    table: list[tuple[str, str, str, Scale]] = [
        ("beam_shift", "BeamShift", "nm", options.beam_shift),
        ("beam_tilt", "BeamTilt", "mrad", options.beam_tilt),
        ("image_shift_1", "ImageShift1", "nm", options.image_shift_1),
        ("image_shift_2", "ImageShift2", "nm", options.image_shift_2),
        ("diffraction_shift", "DiffShift", "mrad", options.diffraction_shift),
    ]
    return {
        name: Pair(
            connection, name, what, unit, FEI if fei else JEOL, scale.step, narrowed=scale.limits
        )
        for name, what, unit, scale in table
        # instamatic's FEI has a dummy for it, which is always at (0, 0)
        if not (fei and name == "image_shift_2")
    }


def lenses_of(options: Options, connection: Connection) -> dict[str, Single]:
    """Both of them."""
    scale = options.diffraction_focus
    if options.interface == "fei":
        # the illuminated area in um; the defocus in m
        area = Raw(0, COUNTS - 1, per_count=options.illuminated_area_um / (COUNTS - 1))
        focus = Raw(-NEUTRAL, NEUTRAL - 1, per_count=scale.step * 1e-6)
    else:
        area, focus = JEOL_LENS, JEOL
    return {
        "brightness": Single(
            connection, "brightness", "Brightness", "fraction", area, 1 / (COUNTS - 1)
        ),
        "diffraction_focus": Single(
            connection, "diffraction_focus", "DiffFocus", "um", focus, scale.step,
            narrowed=scale.limits,
        ),
    }  # fmt: skip
