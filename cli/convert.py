"""ewaldflow convert."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from . import options
from .output import console
from .reduce import STORE, Store


class Format(StrEnum):
    """What to write for."""

    SMV = "smv"
    TIFF = "tiff"
    MRC = "mrc"
    CBF = "cbf"
    NXMX = "nxmx"
    PETS = "pets"
    REDP = "redp"
    CRYSALIS = "crysalis"
    XDS = "xds"
    DIALS = "dials"


# XDS and DIALS both read SMV best, and their input files come with the frames.
_FRAMES = {Format.XDS: "SMV", Format.DIALS: "SMV"}
_NEXT = {Format.XDS: "xds_par", Format.DIALS: "bash dials_import.sh"}


@options.states_series
def convert(
    source: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of frames, or a stack.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="New folder to write.")],
    to: Annotated[Format, typer.Option("--to", help="What to write for.")],
    instrument: options.Instrument = None,
    calibration: options.Calibrations = None,
    store: Store = STORE,
    *,
    overrides: options.Overrides,
) -> int:
    """Write a series for another program.

    Frames go to `OUT/data` with an `XDS.INP` beside them; SMV frames (`--to smv`, `xds` or
    `dials`) also with a `dials_import.sh`. Every pixel value that the format cannot hold is
    counted and told. A distortion of the lens goes along, as maps that XDS and DIALS read.

    **Examples**

    - `ewaldflow convert stack.mrc for_xds --to xds --instrument my_microscope.yaml`
    - `ewaldflow convert crystal_1 for_dials --to dials --calibration rings/gold`
    """
    from ..lib.errors import UserError
    from ..lib.formats import load_instrument, read_series, write_series

    if out.exists() and (not out.is_dir() or os.listdir(out)):
        raise UserError(out, "something there already", "a new folder", "give another OUT")
    known = load_instrument(instrument) if instrument else None
    calibrated = []
    if calibration:
        from ..lib.artefacts import ArtefactStore
        from ..lib.rings.storage import read_calibrations

        kept = ArtefactStore(store)
        calibrated = [one for ref in calibration for one in read_calibrations(kept.get(ref))]
    series = read_series(source, instrument=known, overrides=overrides, calibrations=calibrated)
    with console(stderr=True).status(f"writing {len(series)} frames"):
        report = write_series(series, out, _FRAMES.get(to, to.value))
    for note in dict.fromkeys((*series.notes, *report.notes)):
        print(f"note: {note}")
    print(f"{len(report.files)} frames in {out / 'data'}")
    if to in _NEXT:
        print(f"next: cd {out} && {_NEXT[to]}")
    return 0
