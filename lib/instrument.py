"""What is known of an instrument, and what any one source states about a series.

An instrument is a YAML file in `configs/instruments/`. The same few quantities
(`SeriesMetadata`) may be stated by frame headers, by files beside the frames, by an
instrument and by the person at the command line; `lib.formats` decides between them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveFloat,
    ValidationError,
    model_validator,
)

from .errors import UserError
from .geometry import EllipticalDistortion, instamatic_axis
from .optics import electron_wavelength_A
from .yaml_file import read_fields

INSTRUMENTS = Path(__file__).resolve().parents[1] / "configs" / "instruments"


def _from_theta(value: Any) -> Any:
    """``{instamatic_rad: theta}`` as the axis it stands for, anything else as it is."""
    if not isinstance(value, Mapping):
        return value
    theta = value.get("instamatic_rad")
    if set(value) != {"instamatic_rad"} or not isinstance(theta, int | float):
        raise ValueError("expected three numbers, or instamatic_rad: angle")
    return tuple(instamatic_axis(float(theta)).tolist())


def _not_zero(axis: tuple[float, float, float]) -> tuple[float, float, float]:
    if not any(axis):
        raise ValueError("expected three numbers, not all zero")
    return axis


Axis = Annotated[
    tuple[float, float, float], BeforeValidator(_from_theta), AfterValidator(_not_zero)
]
Pixels = tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class SeriesMetadata(_Strict):
    """What one source states about a rotation series; None where it says nothing.

    Attributes
    ----------
    wavelength_A : electron wavelength; or give `voltage_kV`, from which it follows.
    pixel_size_mm : edge of a detector pixel.
    distance_mm : effective camera length.
    camera_length_mm : camera length the microscope displays, looked up in an instrument's table.
    per_A_per_px : reciprocal-space size of a pixel, another way to state the distance.
    beam_centre_px : (row, column) of the direct beam, pixel centres at integers.
    rotation_axis : in the lab frame (x along columns, y along rows, z along the beam).
    start_deg, start_number : goniometer angle at the start of the frame with that number (of
        the first frame, if None).
    oscillation_deg : signed angle from the start of one frame to the start of the next.
    distortion, radial_per_mm2 : elliptical and radial distortion, as in `Geometry`.
    gain, pedestal, saturation : as in `RotationSeries`.
    exposure_s : exposure of a frame.
    """

    wavelength_A: PositiveFloat | None = None
    voltage_kV: PositiveFloat | None = None
    pixel_size_mm: PositiveFloat | None = None
    distance_mm: PositiveFloat | None = None
    camera_length_mm: PositiveFloat | None = None
    per_A_per_px: PositiveFloat | None = None
    beam_centre_px: tuple[float, float] | None = None
    rotation_axis: Axis | None = None
    start_deg: float | None = None
    start_number: int | None = None
    oscillation_deg: float | None = None
    distortion: EllipticalDistortion | None = None
    radial_per_mm2: float | None = None
    gain: PositiveFloat | None = None
    pedestal: float | None = None
    saturation: PositiveFloat | None = None
    exposure_s: PositiveFloat | None = None

    @model_validator(mode="after")
    def _one_wavelength(self) -> SeriesMetadata:
        if self.voltage_kV is not None and self.wavelength_A is not None:
            raise ValueError("expected wavelength_A or voltage_kV, not both")
        return self

    @property
    def exact_wavelength_A(self) -> float | None:
        """The wavelength stated, or that of the voltage stated, never rounded."""
        if self.voltage_kV is not None:
            return electron_wavelength_A(self.voltage_kV)
        return self.wavelength_A


class SeriesOverrides(SeriesMetadata):
    """What the person at the command line states; it wins over every other source.

    Attributes
    ----------
    frame_range : first and last frame number to use, both included; also undoes what an
        XDS.INP beside the frames leaves out.
    """

    frame_range: tuple[int, int] | None = None


class Rectangle(_Strict):
    """A block of pixels, first and last row and column included, counted from 0."""

    rows: Pixels
    columns: Pixels


class Detector(_Strict):
    """A camera as it reads out.

    Attributes
    ----------
    shape : (rows, columns) of a frame.
    pixel_size_mm, gain, pedestal, saturation : as in `SeriesMetadata`.
    untrusted_rectangles : blocks never to be used, such as the wide pixels between chips.
    dead_pixels : single pixels (row, column) never to be used.
    """

    shape: Pixels
    pixel_size_mm: PositiveFloat
    gain: PositiveFloat | None = None
    pedestal: float = 0.0
    saturation: PositiveFloat | None = None
    untrusted_rectangles: tuple[Rectangle, ...] = ()
    dead_pixels: tuple[Pixels, ...] = ()

    @model_validator(mode="after")
    def _on_detector(self) -> Detector:
        for one in self.untrusted_rectangles:
            for span, length in ((one.rows, self.shape[0]), (one.columns, self.shape[1])):
                if not span[0] <= span[1] < length:
                    raise ValueError(f"untrusted rectangle {span}: expected within 0..{length - 1}")
        for row, column in self.dead_pixels:
            if row >= self.shape[0] or column >= self.shape[1]:
                raise ValueError(f"dead pixel ({row}, {column}) is not on the detector")
        return self

    @property
    def mask(self) -> NDArray[np.bool_]:
        """(rows, columns), True where a pixel must not be used."""
        mask = np.zeros(self.shape, bool)
        for one in self.untrusted_rectangles:
            rows, columns = one.rows, one.columns
            mask[rows[0] : rows[1] + 1, columns[0] : columns[1] + 1] = True
        for row, column in self.dead_pixels:
            mask[row, column] = True
        return mask


class Instrument(_Strict):
    """A microscope with a camera.

    Attributes
    ----------
    name : as of its file.
    description : for people.
    voltage_kV : accelerating voltage; the wavelength follows from it.
    detector : the camera.
    rotation_axis : as in `SeriesMetadata`; ``{instamatic_rad: theta}`` is understood too.
    camera_lengths : effective distance in mm by the nominal camera length in mm.
    distance_mm : effective distance where no file names a camera length.
    distortion, radial_per_mm2, beam_centre_px : used where no file states them.
    overrides : what this instrument's files are known to state wrongly: it wins over them.
    control : how it is driven, if it is; checked by `hardware.config`.
    """

    name: str
    description: str = ""
    voltage_kV: PositiveFloat
    detector: Detector
    rotation_axis: Axis | None = None
    camera_lengths: dict[PositiveFloat, PositiveFloat] = Field(default_factory=dict)
    distance_mm: PositiveFloat | None = None
    distortion: EllipticalDistortion | None = None
    radial_per_mm2: float | None = None
    beam_centre_px: tuple[float, float] | None = None
    overrides: SeriesMetadata = SeriesMetadata()
    control: dict[str, Any] | None = None

    @property
    def defaults(self) -> SeriesMetadata:
        """What holds where neither headers nor files beside the frames say otherwise."""
        return SeriesMetadata(
            voltage_kV=self.voltage_kV,
            pixel_size_mm=self.detector.pixel_size_mm,
            distance_mm=self.distance_mm,
            beam_centre_px=self.beam_centre_px,
            rotation_axis=self.rotation_axis,
            distortion=self.distortion,
            radial_per_mm2=self.radial_per_mm2,
            gain=self.detector.gain,
            pedestal=self.detector.pedestal,
            saturation=self.detector.saturation,
        )


def available_instruments() -> tuple[str, ...]:
    """Names of the instruments in configs/instruments."""
    return tuple(sorted(path.stem for path in INSTRUMENTS.glob("*.yaml")))


def load_instrument(name_or_path: str | Path) -> Instrument:
    """An instrument by its name in configs/instruments, or from a YAML file anywhere.

    Raises
    ------
    UserError : no such instrument or file; or a field that is unknown, missing or wrong.
    """
    path = Path(name_or_path)
    if path.suffix not in {".yaml", ".yml"}:
        path = INSTRUMENTS / f"{name_or_path}.yaml"
        if not path.exists():
            known = ", ".join(available_instruments())
            raise UserError(
                "instrument", f"'{name_or_path}'", f"one of {known}", "name one, or give a .yaml"
            )
    content = read_fields(path, "an instrument")
    try:
        return Instrument.model_validate(content)
    except ValidationError as error:
        raise first_problem(path, error) from None


def first_problem(where: object, error: ValidationError) -> UserError:
    """The first problem pydantic found, as one line naming the field."""
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"]) or "the whole"
    found = "nothing" if first["type"] == "missing" else repr(first["input"])
    if len(found) > 60:
        found = found[:57] + "..."
    expected = first["msg"].removeprefix("Value error, ").removeprefix("expected ")
    more = error.error_count() - 1
    do = "mend this field" + (f" (and {more} more)" if more else "")
    return UserError(f"{where}: {field}", found, expected, do)
