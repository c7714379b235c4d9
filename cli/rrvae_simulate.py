"""ewaldflow rrvae simulate."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from . import options


class Specimen(StrEnum):
    """What can be simulated."""

    GRAPHENE = "graphene"
    SILICON = "silicon"
    VACANCY = "vacancy"
    ZNS = "zns"


def simulate(
    out: Annotated[Path, typer.Argument(metavar="OUT.zarr", help="Folder to write.")],
    specimen: Annotated[
        Specimen, typer.Option(help="Graphene, also with a defect, or zinc sulphide along [011].")
    ] = Specimen.GRAPHENE,
    electrons: Annotated[
        float | None, typer.Option(metavar="N", help="In the beam; no noise if not given.")
    ] = None,
    scan_shape: Annotated[
        tuple[int, int] | None, typer.Option(metavar="ROWS COLUMNS", help="Scan points.")
    ] = None,
    scan_step: Annotated[
        float | None, typer.Option(metavar="Å", help="Distance of scan points.")
    ] = None,
    shape: Annotated[
        tuple[int, int] | None, typer.Option(metavar="ROWS COLUMNS", help="Pixels of a pattern.")
    ] = None,
    voltage: Annotated[float | None, typer.Option(metavar="kV", help="60 if not given.")] = None,
    semi_angle: Annotated[
        float | None, typer.Option(metavar="mrad", help="Of the aperture; 31 if not given.")
    ] = None,
    source_size: Annotated[
        float | None, typer.Option(metavar="Å", help="FWHM of the source's image.")
    ] = None,
    focus_spread: Annotated[
        float | None, typer.Option(metavar="Å", help="FWHM of the focus, temporal incoherence.")
    ] = None,
    msd: Annotated[
        float | None,
        typer.Option(metavar="Å²", help="Mean square displacement of atoms along one axis."),
    ] = None,
    multislice: Annotated[
        bool, typer.Option("--multislice", help="By abTEM, also where the fast one would do.")
    ] = False,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Of the noise.")] = 0,
) -> int:
    """Simulate a scan whose truth is known, for trying things.

    **Examples**

    - `ewaldflow rrvae simulate graphene.zarr --electrons 1e5`
    - `ewaldflow rrvae simulate dopant.zarr --specimen silicon --electrons 1e5 --scan-step 0.352`
    """
    import zarr

    from ..lib.cbed.simulated import Simulation, simulated
    from ..lib.errors import UserError
    from ..lib.stem4d.storage import write_scan

    what = options.chosen(
        Simulation, None, specimen=specimen.value, scan_shape=scan_shape, scan_step_A=scan_step,
        shape=shape, voltage_kV=voltage, semi_angle_mrad=semi_angle, source_fwhm_A=source_size,
        focus_spread_fwhm_A=focus_spread, msd_A2=msd, electrons=electrons, multislice=multislice,
        seed=seed,
    )  # fmt: skip
    if out.suffix != ".zarr":
        raise UserError(out, f"suffix {out.suffix!r}", "a folder named *.zarr", "name it so")
    if out.exists():
        raise UserError(out, "there already", "a new folder", "give another name")
    scan = simulated(what)
    write_scan(zarr.open_group(out, mode="w-"), scan)
    rows, columns = scan.scan_shape
    print(f"{out}: {rows} x {columns} patterns of {scan.shape[0]} x {scan.shape[1]} pixels")
    for note in scan.notes:
        print(note)
    if electrons is None:
        print("train on it with --pseudo-dose, since patterns without noise need one")
    return 0
