"""ewaldflow rrvae train, apply, sweep and simulate."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import options, rrvae_simulate
from .output import console, of_scan, progress, table
from .overfocus import (
    CameraLength,
    PixelSize,
    Saturation,
    ScanShape,
    ScanStep,
    Voltage,
)
from .reduce import STORE, Store, prepare, shown
from .rrvae_options import (
    HOW,
    Centre,
    Config,
    Device,
    Epochs,
    Gain,
    Keep,
    Latents,
    ModelChoice,
    Name,
    Overfocus,
    Pca,
    PseudoDose,
    Rings,
    Scans,
    Seeds,
    option,
    plan_of,
    values_of,
)

if TYPE_CHECKING:
    from ..flows.train_rrvae import RrvaeOutcome
    from ..tasks.rrvae_sweep import Point

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Rotationally invariant autoencoders of 4D-STEM: rotation maps, and all else.\n\n"
    "An ensemble learns the in-plane rotation of every pattern and, apart from it, what else "
    "varies. The page says first whether to believe it, and shows what needs no network beside.",
)


@app.command("train")
def train(
    scans: Scans,
    store: Store = STORE,
    workers: options.Workers = 1,
    scheduler: options.Scheduler = None,
    keep: Keep = True,
    model: ModelChoice = None,
    latents: Latents = None,
    seeds: Seeds = None,
    epochs: Epochs = None,
    device: Device = None,
    dose_curve: Annotated[
        list[float] | None,
        option(HOW, "ELECTRONS", "Train again with so few in a pattern; several times."),
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
    stated = options.scan_stated(
        scan_shape, scan_step, camera_length, pixel_size, voltage, saturation, gain
    )
    plan = plan_of(config, model, latents, seeds, epochs, device, dose_curve, pseudo_dose, pca,
                 centre)  # fmt: skip
    prepare(store)
    with progress(len(scans), of_scan):
        from ..flows.train_rrvae import train_rrvae as flow

        n_workers = min(workers, len(scans))
        done = flow(scans, store, plan, stated, overfocus, rings, keep, n_workers,
                    scheduler)  # fmt: skip
    return _conclude(done, store, "trusted")


@app.command("apply")
def apply(
    model: Name,
    scans: Scans,
    store: Store = STORE,
    workers: options.Workers = 1,
    scheduler: options.Scheduler = None,
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
    stated = options.scan_stated(
        scan_shape, scan_step, camera_length, pixel_size, voltage, saturation, gain
    )
    changed = {"pseudo_dose": pseudo_dose, "centre": centre}
    preparation = {name: value for name, value in changed.items() if value is not None}
    prepare(store)
    with progress(len(scans), of_scan):
        from ..flows.apply_rrvae import apply_rrvae as flow

        n_workers = min(workers, len(scans))
        done = flow(model, scans, store, preparation, stated, overfocus, rings, keep, n_workers,
                    scheduler)  # fmt: skip
    return _conclude(done, store, "in distribution")


@app.command("sweep")
def sweep(
    scan: Annotated[
        str, typer.Argument(metavar="SCAN", help="File, zarr folder, or `scan` artefact.")
    ],
    tried: Annotated[
        list[str] | None,
        option(HOW, "NAME=VALUES", "A choice and its values, by commas; several times.", "--try"),
    ] = None,
    repeat: Annotated[
        int,
        typer.Option(metavar="N", min=1, help="Each with N sets of seeds.", rich_help_panel=HOW),
    ] = 1,
    store: Store = STORE,
    workers: options.Workers = 1,
    scheduler: options.Scheduler = None,
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
    stated = options.scan_stated(
        scan_shape, scan_step, camera_length, pixel_size, voltage, saturation, gain
    )
    plan = plan_of(config, model, latents, seeds, epochs, device, None, pseudo_dose, pca, centre)
    values = dict(values_of(one) for one in tried or ())
    prepare(store)
    from ..tasks.rrvae_sweep import grid

    count = len(grid(plan, values, repeat))
    with progress(count, of_scan):
        from ..flows.sweep_rrvae import sweep_rrvae as flow

        n_workers = min(workers, count)
        ref, points = flow(
            scan, store, values, repeat, plan, stated, overfocus, rings, keep, n_workers, scheduler
        )
    return _conclude_sweep(ref, points, store)


app.command("simulate")(rrvae_simulate.simulate)


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
        if told := (one.figures or {}).get("warning"):
            print(f"warning: {one.source}: {told}", file=sys.stderr)
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
