"""What a user may state about a series, as options with units."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

if TYPE_CHECKING:
    from pydantic import BaseModel

    from ..lib.instrument import SeriesOverrides
    from ..lib.stem4d.metadata import ScanMetadata

    Overrides = SeriesOverrides
else:
    Overrides = Any  # evaluated when a command is made; the real one takes long to import

_PANEL = "What the files say wrongly or not at all"
_RUN = "How it is run"

Workers = Annotated[
    int,
    typer.Option(
        "--workers", metavar="N", min=1, help="Worker processes: so many at once.",
        rich_help_panel=_RUN,
    ),
]  # fmt: skip

Scheduler = Annotated[
    str | None,
    typer.Option(
        "--scheduler", metavar="local|ADDRESS|NAME|FILE", rich_help_panel=_RUN,
        help="Where workers are: this machine, a Dask scheduler (tcp://HOST:8786), or jobs of a "
        "batch system (`slurm`, or a YAML file as configs/schedulers/slurm.yaml).",
    ),
]  # fmt: skip


def _stated(flags: str, metavar: str, text: str) -> Any:
    return typer.Option(flags, metavar=metavar, help=text, rich_help_panel=_PANEL)


Instrument = Annotated[
    str | None,
    _stated("--instrument", "NAME|FILE", "Instrument, see `ewaldflow instruments`."),
]

Calibrations = Annotated[
    list[str] | None,
    _stated(
        "--calibration", "REF",
        "Calibration by rings, see `ewaldflow calibrate-rings`: scale and distortion. Several, at "
        "other camera lengths, are interpolated.",
    ),
]  # fmt: skip

# Of a command, by the name of its parameter: the field of `SeriesOverrides`, and the option.
_STATED: dict[str, tuple[str, Any]] = {
    "wavelength": (
        "wavelength_A",
        Annotated[float | None, _stated("--wavelength", "Å", "Electron wavelength.")],
    ),
    "voltage": (
        "voltage_kV",
        Annotated[float | None, _stated("--voltage", "kV", "Or the accelerating voltage.")],
    ),
    "distance": (
        "distance_mm",
        Annotated[float | None, _stated("--distance", "mm", "Effective camera length.")],
    ),
    "scale": (
        "per_A_per_px",
        Annotated[float | None, _stated("--scale", "1/Å", "Or reciprocal-space size of a pixel.")],
    ),
    "pixel_size": (
        "pixel_size_mm",
        Annotated[float | None, _stated("--pixel-size", "mm", "Edge of a detector pixel.")],
    ),
    "beam_centre": (
        "beam_centre_px",
        Annotated[
            tuple[float, float] | None,
            _stated(
                "--beam-centre", "ROW COLUMN", "Direct beam in px; pixel centres count from 0."
            ),
        ],
    ),
    "axis": (
        "rotation_axis",
        Annotated[
            tuple[float, float, float] | None,
            _stated(
                "--axis", "X Y Z", "Rotation axis; x along columns, y along rows, z with the beam."
            ),
        ],
    ),
    "start": (
        "start_deg",
        Annotated[
            float | None, _stated("--start", "°", "Goniometer angle where the first frame starts.")
        ],
    ),
    "osc": (
        "oscillation_deg",
        Annotated[float | None, _stated("--osc", "°", "Rotation per frame, signed.")],
    ),
    "gain": ("gain", Annotated[float | None, _stated("--gain", "COUNTS", "Counts per electron.")]),
    "pedestal": (
        "pedestal",
        Annotated[float | None, _stated("--pedestal", "COUNTS", "Counts at zero electrons.")],
    ),
    "saturation": (
        "saturation",
        Annotated[
            float | None,
            _stated("--saturation", "COUNTS", "Counts at which a pixel is overloaded."),
        ],
    ),
    "frames": (
        "frame_range",
        Annotated[
            tuple[int, int] | None, _stated("--frames", "FIRST LAST", "Frame numbers to use.")
        ],
    ),
}


def states_series(command: Callable[..., int]) -> Callable[..., int]:
    """Give a command an option for each field of `SeriesOverrides`; it gets them as `overrides`."""
    own = inspect.signature(command, eval_str=True)
    mine = [one for one in own.parameters.values() if one.name != "overrides"]
    stated = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=option)
        for name, (_, option) in _STATED.items()
    ]

    def run(**given: Any) -> int:
        values = {field: given.pop(name) for name, (field, _) in _STATED.items()}
        return command(**given, overrides=stated_overrides(**values))

    # typer reads a command's options from these three
    run.__doc__ = command.__doc__
    run.__signature__ = own.replace(  # type: ignore[attr-defined]
        parameters=[one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in (*mine, *stated)]
    )
    run.__annotations__ = {one.name: one.annotation for one in (*mine, *stated)}
    return run


def stated_overrides(**values: Any) -> SeriesOverrides:
    """The options that were given. UserError where one makes no sense."""
    from pydantic import ValidationError

    from ..lib.instrument import SeriesOverrides, first_problem

    try:
        return SeriesOverrides(**{k: v for k, v in values.items() if v is not None})
    except ValidationError as error:
        raise first_problem("command line", error) from None


Config = TypeVar("Config", bound="BaseModel")


def chosen(model: type[Config], path: Path | None, /, **values: Any) -> Config:
    """Choices: those in a YAML file, then those on the command line.

    Raises
    ------
    UserError : no such file, no YAML, or a field that is unknown or wrong.
    """
    from pydantic import ValidationError

    from ..lib.instrument import first_problem

    stated: dict[str, Any] = {}
    if path is not None:
        from ..lib.yaml_file import read_fields

        stated |= read_fields(path)
    stated |= {k: v for k, v in values.items() if v is not None}
    try:
        return model(**stated)
    except ValidationError as error:
        raise first_problem(path or "command line", error) from None


def scan_stated(
    scan_shape: tuple[int, int] | None = None,
    scan_step: float | None = None,
    camera_length: float | None = None,
    pixel_size: float | None = None,
    voltage: float | None = None,
    saturation: float | None = None,
    gain: float | None = None,
) -> ScanMetadata:
    """What is stated about scans. UserError where a value cannot be."""
    from ..lib.stem4d.metadata import ScanMetadata

    return chosen(
        ScanMetadata, None, scan_shape=scan_shape, camera_length_mm=camera_length,
        scan_step_nm=None if scan_step is None else (scan_step, scan_step),
        pixel_size_mm=pixel_size, voltage_kV=voltage, saturation=saturation, gain=gain,
    )  # fmt: skip
