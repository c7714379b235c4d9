"""ewaldflow convert."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import options
from .output import console
from .overfocus import ScanShape, ScanStep
from .reduce import STORE, Store

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from ..lib.instrument import SeriesOverrides
    from ..lib.reduction.align import Alignment
    from ..lib.series.rotation_series import RotationSeries


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
    SERIES = "series"
    SCAN = "scan"


class Align(StrEnum):
    """How the beam is followed."""

    AUTO = "auto"
    BEAM = "beam"
    FRIEDEL = "friedel"


# XDS and DIALS both read SMV best, and their input files come with the frames.
_FRAMES = {Format.XDS: "SMV", Format.DIALS: "SMV"}
_NEXT = {
    Format.XDS: "xds_par",
    Format.DIALS: "bash dials_import.sh",
    Format.NXMX: "dials.import *.nxs",
}


@options.states_series
def convert(
    source: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="Folder of frames, or a stack; a scan for `--to scan`."),
    ],
    to: Annotated[Format, typer.Option("--to", help="What to write for.")],
    out: Annotated[
        Path | None,
        typer.Argument(metavar="[OUT]", help="New folder to write; none for `series` and `scan`."),
    ] = None,
    instrument: options.Instrument = None,
    calibration: options.Calibrations = None,
    align: Annotated[
        Align | None,
        typer.Option(
            "--align",
            help="Follow the beam from frame to frame: by the direct beam, by Friedel pairs where "
            "it is hidden, or by what is seen.",
        ),
    ] = None,
    scan_shape: ScanShape = None,
    scan_step: ScanStep = None,
    store: Store = STORE,
    *,
    overrides: options.Overrides,
) -> int:
    """Write a series for another program, or keep a series or a 4D-STEM scan in the store.

    `xds`, `dials`, `smv`, `cbf`, `tiff` and `mrc`: frames go to `OUT/data` with an `XDS.INP` beside
    them, SMV and CBF also with a `dials_import.sh`. `nxmx`: an HDF5 file that `dials.import`
    takes as it is. `pets`: the project of PETS2; `redp`: that of REDp; `crysalis`: Esperanto
    frames for CrysAlisPro. Every pixel value that the format cannot hold is counted and told. A
    distortion of the lens goes along with SMV, as maps that XDS and DIALS read.

    With `--align`, `OUT/beam_centres.csv` says where the beam is on every frame. PETS2 takes such
    a list; for all others, which take one centre, frames are shifted by whole pixels.

    `series` and `scan` are what the other commands make of frames first: zarr, digested, for good.

    **Examples**

    - `ewaldflow convert stack.mrc for_xds --to xds --instrument my_microscope.yaml`
    - `ewaldflow convert crystal_1 for_dials --to dials --calibration rings/gold`
    - `ewaldflow convert crystal_1 for_pets --to pets --align auto`
    - `ewaldflow convert gold.mib --to scan --scan-shape 256 256`
    """
    if to in (Format.SERIES, Format.SCAN):
        return _keep(source, out, to, store, instrument, calibration or (), overrides,
                     scan_shape, scan_step)  # fmt: skip
    from ..lib.errors import UserError
    from ..lib.formats import load_instrument, read_series, write_series

    if out is None:
        raise UserError("OUT", "nothing", "a new folder to write", "name one")
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
        taken, alignment, shift = series, None, None
        if align is not None:
            from ..lib.reduction.align import align as follow

            alignment = follow(series, align.value)
            series, shift = _followed(alignment, series, to)
        report = write_series(series, out, _FRAMES.get(to, to.value))
        if alignment is not None and shift is not None:
            from ..lib.reduction.align import write_centres

            write_centres(alignment, taken, shift, out / "beam_centres.csv")
    for note in dict.fromkeys((*series.notes, *report.notes)):
        print(f"note: {note}")
    print(f"{len(series)} frames in {report.files[0].parent}")
    if to in _NEXT:
        print(f"next: cd {out} && {_NEXT[to]}")
    return 0


def _keep(
    source: Path,
    out: Path | None,
    to: Format,
    store: Path,
    instrument: str | None,
    calibrations: Sequence[str],
    overrides: SeriesOverrides,
    scan_shape: tuple[int, int] | None,
    scan_step: float | None,
) -> int:
    """Keep frames as an artefact, and print its reference and where it lies."""
    from ..lib.artefacts import ArtefactStore
    from ..lib.errors import UserError
    from ..tasks.convert import convert_series, series_names
    from ..tasks.scan import scan_artefact

    if out is not None:
        raise UserError("OUT", f"'{out}'", "nothing: it goes to --store", "leave it out")
    file = Path(str(source).partition("::")[0])
    name = series_names([file])[0].removesuffix(".zarr").removesuffix(".zspy")
    if to is Format.SCAN:
        stated = options.scan_stated(
            scan_shape, scan_step, overrides.camera_length_mm or overrides.distance_mm,
            overrides.pixel_size_mm, overrides.voltage_kV, overrides.saturation, overrides.gain,
        )  # fmt: skip
        with console(stderr=True).status("reading the scan"):
            ref = scan_artefact(name, str(source), store, stated)
    else:
        with console(stderr=True).status("reading frames"):
            ref = convert_series(name, source, store, instrument, overrides, None, calibrations)
    kept = ArtefactStore(store)
    for note in kept.get(ref).manifest.notes:
        print(f"note: {note}")
    print(f"{ref} in {kept.folder(ref)}")
    return 0


def _followed(
    alignment: Alignment, series: RotationSeries, to: Format
) -> tuple[RotationSeries, NDArray[np.int64]]:
    """The series as it is to be written, and by how much its frames are shifted."""
    import numpy as np

    from ..lib.reduction.beam_centre import BeamTrack
    from ..lib.reduction.engines.steady import moved_along

    if to is Format.PETS:
        return alignment.applied(series), np.zeros((len(series), 2), np.int64)
    moved = moved_along(series, BeamTrack(alignment.centres_px, alignment.seen, alignment.note))
    notes = moved.notes or (alignment.note,)
    return moved.series.with_(notes=(*series.notes, *notes)), moved.shift_px
