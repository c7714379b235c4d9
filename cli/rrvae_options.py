"""Options of ewaldflow rrvae, and what they choose."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import options

if TYPE_CHECKING:
    from ..lib.rrvae.plan import Plan

RUN = "How it is run"
HOW = "How it is learned"
_PREPARED = "How patterns are prepared"
_GEOMETRY = "Calibrations"
_STATED = "What the files say wrongly or not at all"


class Model(StrEnum):
    """Networks."""

    HARMONIC = "harmonic"
    COORDINATE = "coordinate"


def option(panel: str, metavar: str, text: str, *flags: str) -> Any:
    """An option of a panel of the help, with its unit or form."""
    return typer.Option(*flags, metavar=metavar, help=text, rich_help_panel=panel)


Scans = Annotated[
    list[str], typer.Argument(metavar="SCAN", help="Files, zarr folders, or `scan` artefacts.")
]
Keep = Annotated[
    bool, typer.Option(help="Keep a copy of the scan in the store.", rich_help_panel=RUN)
]
Overfocus = Annotated[
    str | None,
    option(
        _GEOMETRY, "REF|YAML", "`overfocus` artefact or calibration.yaml: directions of the scan."
    ),
]
Rings = Annotated[
    str | None,
    option(_GEOMETRY, "REF|PONI", "`rings` artefact or PONI, whose ellipse is taken out."),
]
Gain = Annotated[float | None, option(_STATED, "COUNTS", "Counts per electron.")]
PseudoDose = Annotated[
    float | None,
    option(_PREPARED, "ELECTRONS", "For patterns without noise: take them for so many electrons."),
]
Config = Annotated[
    Path | None, option(HOW, "FILE", "All choices, as YAML: `model`, `prepare` and the rest.")
]
ModelChoice = Annotated[
    Model | None,
    typer.Option(
        "--model", help="Circular harmonics (the default), or the paper's.", rich_help_panel=HOW
    ),
]
Latents = Annotated[int | None, option(HOW, "K", "Content variables beside the angle, 1 to 5.")]
Seeds = Annotated[
    int | None, typer.Option(metavar="N", min=1, help="Runs side by side.", rich_help_panel=HOW)
]
Epochs = Annotated[int | None, option(HOW, "N", "Passes through the patterns, at most.")]
Device = Annotated[str | None, option(HOW, "cpu|cuda", "Where to compute.")]
Pca = Annotated[
    str | None,
    option(_PREPARED, "N|noise", "Denoise to so many principal components, or by the noise."),
]
Centre = Annotated[
    tuple[float, float] | None,
    option(_PREPARED, "ROW COLUMN", "Centre of the patterns in px; else that of the disc."),
]
Name = Annotated[str, typer.Argument(metavar="MODEL", help="`rrvae` artefact, or .safetensors.")]


def plan_of(
    config: Path | None,
    model: Model | None,
    latents: int | None,
    seeds: int | None,
    epochs: int | None,
    device: str | None,
    dose_curve: Sequence[float] | None,
    pseudo_dose: float | None,
    pca: str | None,
    centre: tuple[float, float] | None,
) -> Plan:
    """Choices: those in a YAML file, then those given. UserError where one is wrong."""
    from ..lib.rrvae.plan import Plan

    base = options.chosen(Plan, config)
    network = base.model.model_dump(exclude_unset=True)
    if model is not None and model.value != base.model.model:
        network = {}  # choices of the other network mean nothing for this one
    network["model"] = base.model.model if model is None else model.value
    given = {
        "latents": latents, "epochs": epochs, "device": device,
        "seeds": None if seeds is None else tuple(range(seeds)),
    }  # fmt: skip
    network |= {name: value for name, value in given.items() if value is not None}
    how = base.prepare.model_dump(exclude_unset=True)
    asked = {
        "pseudo_dose": pseudo_dose, "centre": centre,
        "pca": int(pca) if pca is not None and pca.isdecimal() else pca,
    }  # fmt: skip
    how |= {name: value for name, value in asked.items() if value is not None}
    rest = base.model_dump(exclude_unset=True, exclude={"model", "prepare"})
    if dose_curve:
        rest["dose_curve"] = tuple(dose_curve)
    return options.chosen(Plan, None, model=network, prepare=how, **rest)


def values_of(text: str) -> tuple[str, list[Any]]:
    """``name=1,2,3`` as the name and its values; tuples in brackets."""
    import yaml

    from ..lib.errors import UserError

    name, equals, values = text.partition("=")
    try:
        found = yaml.safe_load(f"[{values}]")
    except yaml.YAMLError:
        found = None
    if not (equals and name and isinstance(found, list) and found):
        raise UserError(
            f"--try {text}", "no values", "NAME=VALUE,VALUE", "write such as latents=1,2,3"
        )
    return name.strip(), found
