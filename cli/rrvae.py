"""ewaldflow rrvae train, apply, sweep and simulate."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import options
from .output import console, table
from .overfocus import (
    CameraLength,
    PixelSize,
    Saturation,
    ScanShape,
    ScanStep,
    Voltage,
    scan_progress,
)
from .reduce import STORE, Store, prepare, shown

if TYPE_CHECKING:
    from ..flows.train_rrvae import RrvaeOutcome
    from ..lib.rrvae.plan import Plan
    from ..lib.stem4d.metadata import ScanMetadata
    from ..tasks.rrvae_sweep import Point

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Rotationally invariant autoencoders of 4D-STEM: rotation maps, and all else.\n\n"
    "An ensemble learns the in-plane rotation of every pattern and, apart from it, what else "
    "varies. The page says first whether to believe it, and shows what needs no network beside.",
)

_RUN = "How it is run"
_HOW = "How it is learned"
_PREPARED = "How patterns are prepared"
_GEOMETRY = "Calibrations"
_STATED = "What the files say wrongly or not at all"


class Model(StrEnum):
    """Networks."""

    HARMONIC = "harmonic"
    COORDINATE = "coordinate"


class Specimen(StrEnum):
    """What can be simulated."""

    GRAPHENE = "graphene"
    SILICON = "silicon"
    VACANCY = "vacancy"
    ZNS = "zns"


def _option(panel: str, metavar: str, text: str, *flags: str) -> Any:
    return typer.Option(*flags, metavar=metavar, help=text, rich_help_panel=panel)


Scans = Annotated[
    list[str], typer.Argument(metavar="SCAN", help="Files, zarr folders, or `scan` artefacts.")
]
Workers = Annotated[int, typer.Option(metavar="N", min=1, help="At once.", rich_help_panel=_RUN)]
Keep = Annotated[
    bool, typer.Option(help="Keep a copy of the scan in the store.", rich_help_panel=_RUN)
]
Overfocus = Annotated[
    str | None,
    _option(
        _GEOMETRY, "REF|YAML", "`overfocus` artefact or calibration.yaml: directions of the scan."
    ),
]
Rings = Annotated[
    str | None,
    _option(_GEOMETRY, "REF|PONI", "`rings` artefact or PONI, whose ellipse is taken out."),
]
Gain = Annotated[float | None, _option(_STATED, "COUNTS", "Counts per electron.")]
PseudoDose = Annotated[
    float | None,
    _option(_PREPARED, "ELECTRONS", "For patterns without noise: take them for so many electrons."),
]
Config = Annotated[
    Path | None, _option(_HOW, "FILE", "All choices, as YAML: `model`, `prepare` and the rest.")
]
ModelChoice = Annotated[
    Model | None,
    typer.Option(
        "--model", help="Circular harmonics (the default), or the paper's.", rich_help_panel=_HOW
    ),
]
Latents = Annotated[int | None, _option(_HOW, "K", "Content variables beside the angle, 1 to 5.")]
Seeds = Annotated[
    int | None, typer.Option(metavar="N", min=1, help="Runs side by side.", rich_help_panel=_HOW)
]
Epochs = Annotated[int | None, _option(_HOW, "N", "Passes through the patterns, at most.")]
Device = Annotated[str | None, _option(_HOW, "cpu|cuda", "Where to compute.")]
Pca = Annotated[
    str | None,
    _option(_PREPARED, "N|noise", "Denoise to so many principal components, or by the noise."),
]
Centre = Annotated[
    tuple[float, float] | None,
    _option(_PREPARED, "ROW COLUMN", "Centre of the patterns in px; else that of the disc."),
]
Name = Annotated[str, typer.Argument(metavar="MODEL", help="`rrvae` artefact, or .safetensors.")]


@app.command("train")
def train(
    scans: Scans,
    store: Store = STORE,
    workers: Workers = 1,
    keep: Keep = True,
    model: ModelChoice = None,
    latents: Latents = None,
    seeds: Seeds = None,
    epochs: Epochs = None,
    device: Device = None,
    dose_curve: Annotated[
        list[float] | None,
        _option(_HOW, "ELECTRONS", "Train again with so few in a pattern; several times."),
    ] = None,
    config: Config = None,
    overfocus: Overfocus = None,
    rings: Rings = None,
    pseudo_dose: PseudoDose = None,
    pca: Pca = None,
    centre: Centre = None,
    gain: Gain = None,
    scan_shape: ScanShape = None,
    scan_step: ScanStep = None,
    camera_length: CameraLength = None,
    pixel_size: PixelSize = None,
    voltage: Voltage = None,
    saturation: Saturation = None,
) -> int:
    """Learn rotation and content of 4D-STEM scans.

    Exit code 0 where the verdict is "trusted", 1 where the network failed or the centre of mass
    is better, 2 where something must be mended.

    While it runs, `STORE/.live/NAME.html` shows the curves and the maps so far.

    **Examples**

    - `ewaldflow rrvae train graphene.h5 --gain 1`
    - `ewaldflow rrvae train scan.mib --scan-shape 64 64 --overfocus overfocus/gold`
    - `ewaldflow rrvae train clean.zarr --pseudo-dose 1e6 --model coordinate --latents 2`
    """
    stated = _stated(scan_shape, scan_step, camera_length, pixel_size, voltage, saturation, gain)
    plan = _plan(config, model, latents, seeds, epochs, device, dose_curve, pseudo_dose, pca,
                 centre)  # fmt: skip
    prepare(store)
    with scan_progress(len(scans)):
        from ..flows.train_rrvae import train_rrvae as flow

        n_workers = min(workers, len(scans), os.cpu_count() or 1)
        done = flow(scans, store, plan, stated, overfocus, rings, keep, n_workers)
    return _conclude(done, store, "trusted")


@app.command("apply")
def apply(
    model: Name,
    scans: Scans,
    store: Store = STORE,
    workers: Workers = 1,
    keep: Keep = True,
    overfocus: Overfocus = None,
    rings: Rings = None,
    pseudo_dose: PseudoDose = None,
    centre: Centre = None,
    gain: Gain = None,
    scan_shape: ScanShape = None,
    scan_step: ScanStep = None,
    camera_length: CameraLength = None,
    pixel_size: PixelSize = None,
    voltage: Voltage = None,
    saturation: Saturation = None,
) -> int:
    """Map scans with a model that was trained on another.

    Patterns are prepared as in training. A scan of another camera length or aperture is refused;
    one whose patterns are unlike those trained on is mapped, and said to be "out of
    distribution": exit code 1.

    **Examples**

    - `ewaldflow rrvae apply rrvae/graphene today.h5`
    - `ewaldflow rrvae apply shared/model.safetensors scan.mib --scan-shape 64 64 --gain 2.1`
    """
    stated = _stated(scan_shape, scan_step, camera_length, pixel_size, voltage, saturation, gain)
    changed = {"pseudo_dose": pseudo_dose, "centre": centre}
    preparation = {name: value for name, value in changed.items() if value is not None}
    prepare(store)
    with scan_progress(len(scans)):
        from ..flows.apply_rrvae import apply_rrvae as flow

        n_workers = min(workers, len(scans), os.cpu_count() or 1)
        done = flow(model, scans, store, preparation, stated, overfocus, rings, keep, n_workers)
    return _conclude(done, store, "in distribution")


@app.command("sweep")
def sweep(
    scan: Annotated[
        str, typer.Argument(metavar="SCAN", help="File, zarr folder, or `scan` artefact.")
    ],
    tried: Annotated[
        list[str] | None,
        _option(_HOW, "NAME=VALUES", "A choice and its values, by commas; several times.", "--try"),
    ] = None,
    repeat: Annotated[
        int,
        typer.Option(metavar="N", min=1, help="Each with N sets of seeds.", rich_help_panel=_HOW),
    ] = 1,
    store: Store = STORE,
    workers: Workers = 1,
    keep: Keep = True,
    model: ModelChoice = None,
    latents: Latents = None,
    seeds: Seeds = None,
    epochs: Epochs = None,
    device: Device = None,
    config: Config = None,
    overfocus: Overfocus = None,
    rings: Rings = None,
    pseudo_dose: PseudoDose = None,
    pca: Pca = None,
    centre: Centre = None,
    gain: Gain = None,
    scan_shape: ScanShape = None,
    scan_step: ScanStep = None,
    camera_length: CameraLength = None,
    pixel_size: PixelSize = None,
    voltage: Voltage = None,
    saturation: Saturation = None,
) -> int:
    """Train on one scan with other choices or seeds, and compare.

    Choices are fields of the model or of the preparation, see docs/rrvae.md. Every training is an
    artefact with a page of its own. Exit code 0 if one is trusted.

    **Examples**

    - `ewaldflow rrvae sweep graphene.h5 --try latents=1,2,3 --workers 4`
    - `ewaldflow rrvae sweep scan/graphene --try model=harmonic,coordinate --try pca=noise,null`
    - `ewaldflow rrvae sweep scan/graphene --repeat 4 --seeds 5`
    """
    stated = _stated(scan_shape, scan_step, camera_length, pixel_size, voltage, saturation, gain)
    plan = _plan(config, model, latents, seeds, epochs, device, None, pseudo_dose, pca, centre)
    values = dict(_tried(one) for one in tried or ())
    prepare(store)
    from ..tasks.rrvae_sweep import grid

    count = len(grid(plan, values, repeat))
    with scan_progress(count):
        from ..flows.sweep_rrvae import sweep_rrvae as flow

        n_workers = min(workers, count, os.cpu_count() or 1)
        ref, points = flow(
            scan, store, values, repeat, plan, stated, overfocus, rings, keep, n_workers
        )
    return _conclude_sweep(ref, points, store)


@app.command("simulate")
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


def _stated(
    scan_shape: tuple[int, int] | None,
    scan_step: float | None,
    camera_length: float | None,
    pixel_size: float | None,
    voltage: float | None,
    saturation: float | None,
    gain: float | None,
) -> ScanMetadata:
    from ..lib.stem4d.metadata import ScanMetadata

    return options.chosen(
        ScanMetadata, None, scan_shape=scan_shape, camera_length_mm=camera_length,
        scan_step_nm=None if scan_step is None else (scan_step, scan_step),
        pixel_size_mm=pixel_size, voltage_kV=voltage, saturation=saturation, gain=gain,
    )  # fmt: skip


def _plan(
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


def _tried(text: str) -> tuple[str, list[Any]]:
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


def _conclude(done: Sequence[RrvaeOutcome], store: Path, good: str) -> int:
    from ..lib.artefacts import ArtefactStore
    from ..tasks.overfocus import PAGE

    failed = [one for one in done if not one.made]
    if len(failed) == len(done) == 1:
        print(f"ewaldflow: {failed[0].reason}", file=sys.stderr)
        return 2
    kept = ArtefactStore(store)
    rows = []
    for one in done:
        if not one.made:
            rows.append([one.source, "failed", "", "", "", "", one.reason])
            continue
        f = one.figures or {}
        rows.append([
            one.made, one.verdict, _value(f, "pearson"), _value(f, "circular_R"),
            _value(f, "harmonic_pearson"), str(f.get("defects", "")),
            shown(kept.folder(one.made) / "files" / PAGE),
        ])  # fmt: skip
    headings = ["artefact", "verdict", "|r| with COM", "R with COM", "|r| without a network",
                "defects", "report"]  # fmt: skip
    console().print(table(headings, rows, right=(2, 3, 4, 5)))
    for one in done:
        if one.made and one.verdict != good:
            console().print(f"\n{one.source}: {one.verdict}. {one.reason}", soft_wrap=True)
    if len(failed) == len(done):
        return 2
    return 1 if any(one.verdict != good for one in done) else 0


def _conclude_sweep(ref: str, points: Sequence[Point], store: Path) -> int:
    from ..lib.artefacts import ArtefactStore
    from ..tasks.overfocus import PAGE

    rows = []
    for one in points:
        f = one.figures or {}
        rows.append([
            one.label, f.get("verdict", "failed"), _value(f, "held_out_gain", 2),
            _value(f, "content_r"), _value(f, "pearson"), _value(f, "circular_R"),
            one.ref or one.reason,
        ])  # fmt: skip
    headings = ["tried", "verdict", "gain / nats", "estimated r", "|r| with COM", "R with COM",
                "artefact"]  # fmt: skip
    console().print(table(headings, rows, right=(2, 3, 4, 5)))
    page = shown(ArtefactStore(store).folder(ref) / "files" / PAGE)
    console().print(f"\n{ref}: {page}", soft_wrap=True)
    if not any(one.ref for one in points):
        return 2
    return 0 if any((one.figures or {}).get("verdict") == "trusted" for one in points) else 1


def _value(figures: dict[str, Any], name: str, digits: int = 4) -> str:
    value = figures.get(name)
    return "" if value is None else f"{value:.{digits}f}"
