"""ewaldflow convert."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from . import options
from .output import console


class Format(StrEnum):
    """What to write for."""

    SMV = "smv"
    TIFF = "tiff"
    MRC = "mrc"
    XDS = "xds"
    DIALS = "dials"


# XDS and DIALS both read SMV best, and their input files come with the frames.
_FRAMES = {Format.XDS: "SMV", Format.DIALS: "SMV"}
_NEXT = {Format.XDS: "xds_par", Format.DIALS: "bash dials_import.sh"}


def convert(
    source: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of frames, or a stack.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="New folder to write.")],
    to: Annotated[Format, typer.Option("--to", help="What to write for.")],
    instrument: options.Instrument = None,
    wavelength: options.Wavelength = None,
    voltage: options.Voltage = None,
    distance: options.Distance = None,
    scale: options.Scale = None,
    pixel_size: options.PixelSize = None,
    beam_centre: options.BeamCentre = None,
    axis: options.Axis = None,
    start: options.Start = None,
    osc: options.Osc = None,
    gain: options.Gain = None,
    pedestal: options.Pedestal = None,
    saturation: options.Saturation = None,
    frames: options.Frames = None,
) -> int:
    """Write a series for another program.

    Frames go to `OUT/data` with an `XDS.INP` beside them; SMV frames (`--to smv`, `xds` or
    `dials`) also with a `dials_import.sh`. Every pixel value that the format cannot hold is
    counted and told.

    **Example**

    - `ewaldflow convert stack.mrc for_xds --to xds --instrument my_microscope.yaml`
    """
    stated = options.stated_overrides(
        wavelength_A=wavelength, voltage_kV=voltage, distance_mm=distance, per_A_per_px=scale,
        pixel_size_mm=pixel_size, beam_centre_px=beam_centre, rotation_axis=axis,
        start_deg=start, oscillation_deg=osc, gain=gain, pedestal=pedestal,
        saturation=saturation, frame_range=frames,
    )  # fmt: skip
    from ..lib.errors import UserError
    from ..lib.formats import load_instrument, read_series, write_series

    if out.exists() and (not out.is_dir() or os.listdir(out)):
        raise UserError(out, "something there already", "a new folder", "give another OUT")
    known = load_instrument(instrument) if instrument else None
    series = read_series(source, instrument=known, overrides=stated)
    with console(stderr=True).status(f"writing {len(series)} frames"):
        report = write_series(series, out, _FRAMES.get(to, to.value))
    for note in dict.fromkeys((*series.notes, *report.notes)):
        print(f"note: {note}")
    print(f"{len(report.files)} frames in {out / 'data'}")
    if to in _NEXT:
        print(f"next: cd {out} && {_NEXT[to]}")
    return 0
