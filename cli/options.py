"""What a user may state about a series, as options with units."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from ..lib.instrument import SeriesOverrides
    from ..lib.reduction.config import ReductionConfig

_PANEL = "What the files say wrongly or not at all"


def _stated(flags: str, metavar: str, text: str) -> Any:
    return typer.Option(flags, metavar=metavar, help=text, rich_help_panel=_PANEL)


Instrument = Annotated[
    str | None,
    _stated("--instrument", "NAME|FILE", "Instrument, see `ewaldflow instruments`."),
]
Wavelength = Annotated[float | None, _stated("--wavelength", "Å", "Electron wavelength.")]
Voltage = Annotated[float | None, _stated("--voltage", "kV", "Or the accelerating voltage.")]
Distance = Annotated[float | None, _stated("--distance", "mm", "Effective camera length.")]
PixelSize = Annotated[float | None, _stated("--pixel-size", "mm", "Edge of a detector pixel.")]
Scale = Annotated[float | None, _stated("--scale", "1/Å", "Or reciprocal-space size of a pixel.")]
BeamCentre = Annotated[
    tuple[float, float] | None,
    _stated("--beam-centre", "ROW COLUMN", "Direct beam in px; pixel centres count from 0."),
]
Axis = Annotated[
    tuple[float, float, float] | None,
    _stated("--axis", "X Y Z", "Rotation axis; x along columns, y along rows, z with the beam."),
]
Start = Annotated[
    float | None, _stated("--start", "°", "Goniometer angle where the first frame starts.")
]
Osc = Annotated[float | None, _stated("--osc", "°", "Rotation per frame, signed.")]
Gain = Annotated[float | None, _stated("--gain", "COUNTS", "Counts per electron.")]
Pedestal = Annotated[float | None, _stated("--pedestal", "COUNTS", "Counts at zero electrons.")]
Saturation = Annotated[
    float | None, _stated("--saturation", "COUNTS", "Counts at which a pixel is overloaded.")
]
Frames = Annotated[
    tuple[int, int] | None, _stated("--frames", "FIRST LAST", "Frame numbers to use.")
]


def stated_overrides(**values: Any) -> SeriesOverrides:
    """The options that were given. UserError where one makes no sense."""
    from pydantic import ValidationError

    from ..lib.instrument import SeriesOverrides, first_problem

    try:
        return SeriesOverrides(**{k: v for k, v in values.items() if v is not None})
    except ValidationError as error:
        raise first_problem("command line", error) from None


def reduction_config(path: Path | None, **values: Any) -> ReductionConfig:
    """The engine's choices: those in a YAML file, then those on the command line.

    Raises
    ------
    UserError : no such file, no YAML, or a field that is unknown or wrong.
    """
    from pydantic import ValidationError

    from ..lib.errors import UserError
    from ..lib.instrument import first_problem
    from ..lib.reduction.config import ReductionConfig

    chosen: dict[str, Any] = {}
    if path is not None:
        import yaml

        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        except OSError as error:
            found = (error.strerror or "no file").lower()
            raise UserError(path, found, "a YAML file", "check the path") from None
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            found = " ".join(str(error).split())[:120]
            raise UserError(path, found, "plain YAML", "mend the file") from None
        if not isinstance(content, dict):
            raise UserError(path, type(content).__name__, "fields and values", "mend the file")
        chosen |= content
    chosen |= {k: v for k, v in values.items() if v is not None}
    try:
        return ReductionConfig(**chosen)
    except ValidationError as error:
        raise first_problem(path or "command line", error) from None
