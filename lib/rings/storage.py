"""Calibrations by rings in zarr: one `rings` artefact holds those of images fitted together."""

from __future__ import annotations

from dataclasses import dataclass

import zarr

from ..artefacts import Artefact
from ..artefacts.arrays import check_schema, create_array, subgroup
from ..artefacts.records import read_record, write_record
from ..errors import UserError
from .calibrate import RingFit, RingPoints
from .calibration import RingCalibration

KIND = "rings"
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class _Calibrations:
    calibrations: tuple[RingCalibration, ...]


def write_fit(group: zarr.Group, fit: RingFit) -> None:
    """Write a fit into an empty group: calibrations, points, and the masks of the images."""
    write_record(group.create_group("calibrations"), _Calibrations(fit.calibrations))
    write_record(group.create_group("points"), fit.points)
    masks = group.create_group("good")
    for number, good in enumerate(fit.good):
        create_array(masks, str(number), good)
    group.attrs.update({"schema": KIND, "schema_version": SCHEMA_VERSION})


def read_points(artefact: Artefact) -> RingPoints:
    """The points on rings that a fit rests on."""
    return read_record(subgroup(artefact.arrays, "points"), RingPoints)


def read_calibrations(artefact: Artefact) -> tuple[RingCalibration, ...]:
    """The calibrations that `write_fit` wrote, one for each image.

    Raises
    ------
    UserError : an artefact of another kind.
    """
    kind = artefact.manifest.kind
    if kind != KIND:
        raise UserError(
            artefact.ref, f"an artefact of kind '{kind}'", f"one of kind '{KIND}'",
            "name one that `ewaldflow calibrate-rings` made",
        )  # fmt: skip
    group = artefact.arrays
    check_schema(group, KIND, SCHEMA_VERSION)
    return read_record(subgroup(group, "calibrations"), _Calibrations).calibrations
