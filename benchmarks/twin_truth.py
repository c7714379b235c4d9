"""The microscope twin's frames against three real series: looks, rocking, multiple scattering."""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib
import numpy as np
from _dials import Hints, installed, run_dials
from _real import REAL, add_data_option, read_real, unpack
from _table import Table, options, say, skip, work_folder
from _truth_statistics import Garnet, Statistics, garnet_intensities, statistics
from _twin_series import twin_series
from numpy.typing import NDArray

from ewaldflow.hardware.simulated.specimen import PhaseOptions, Specimen
from ewaldflow.lib.formats import write_series
from ewaldflow.lib.reduction.engine import reduce_series
from ewaldflow.lib.reduction.result import Reduction
from ewaldflow.lib.series import RotationSeries
from ewaldflow.lib.simulation.structures import cell_of

matplotlib.use("Agg")
from matplotlib import pyplot as plt

# Perfect, as garnets are: coherent over all of the plate. Its thickness is less than the default's.
GARNET = PhaseOptions(structure="andradite", thickness=0.16, coherent_A=1600.0)
TWINS = (
    ("MFI", PhaseOptions(structure="MFI"), 3),
    ("MOR", PhaseOptions(structure="MOR"), 4),
    ("garnet 1", GARNET, 3),
    ("garnet 2", GARNET, 4),
    ("garnet 3", GARNET, 5),
)
QUICK = (TWINS[1], TWINS[2], TWINS[3])
LATTICE_GROUPS = {"MFI": "P222", "MOR": "C222", "andradite": "I432"}

# What the shared survey of the real garnet found, with a prototype of the engine.
SURVEYED_FORBIDDEN, SURVEYED_CC = 0.19, 0.87

Measured = tuple[RotationSeries, Reduction]


def compare(table: Table, real: list[Statistics], twins: list[Statistics]) -> None:
    """Every statistic: is the median of the twin's series within the spread of the real ones?"""
    for key in real[0].values:
        low = min(one.values[key][0] for one in real)
        high = max(one.values[key][2] for one in real)
        middles = [one.values[key][1] for one in twins]
        table.check(
            key, float(np.median(middles)), at_least=low, at_most=high, form=".2f",
            peer=", ".join(f"{one.name} {one.values[key][1]:.2f}" for one in real)
            + f"; twins {min(middles):.2f} to {max(middles):.2f}",
        )  # fmt: skip


def compare_garnets(table: Table, real: Garnet, twins: list[Garnet]) -> None:
    """Multiple scattering: the bar is the spread of the real series' thirds, and the survey."""
    for name, theirs, ours, surveyed in (
        ("garnet: forbidden over allowed intensity", real.forbidden,
         [one.forbidden[0] for one in twins], SURVEYED_FORBIDDEN),
        ("garnet: CC(I, F^2)", real.cc, [one.cc[0] for one in twins], SURVEYED_CC),
    ):  # fmt: skip
        spread = (*theirs, surveyed)
        table.check(
            name, float(np.mean(ours)), at_least=min(spread), at_most=max(spread), form=".3f",
            peer=f"real {theirs[0]:.3f}, survey {surveyed}; twins {min(ours):.3f} to "
            f"{max(ours):.3f}",
        )  # fmt: skip


def blind(table: Table, name: str, series: RotationSeries, specimen: Specimen, work: Path) -> None:
    """Whether DIALS, told nothing, finds the crystal's lattice in the twin's frames."""
    structure = specimen.phases[0].structure
    folder = work / f"dials_{name.replace(' ', '_')}"
    for old in folder.glob("data/*.img"):
        old.unlink()
    write_series(series, folder)
    group = LATTICE_GROUPS[specimen.phases[0].options.structure]
    run = run_dials(folder, Hints(cell_of(structure), group, 0.8), scale=False)
    if run.why:
        table.fail(f"{name}: DIALS indexes", run.why)
        return
    n, indexed = int(run.tables["n_spots"]), int(run.tables["n_indexed"])
    table.check(
        f"{name}: DIALS indexes without the cell (1: yes)", not run.help, at_least=1, form="d",
        peer=f"{100 * indexed / max(n, 1):.1f} % of {n} spots",
    )  # fmt: skip


def draw(measured: dict[str, Measured], path: Path) -> None:
    """Frames, radial profiles and histograms of counts, side by side."""
    n = len(measured)
    figure, axes = plt.subplots(3, n, figsize=(4 * n, 11), layout="constrained")
    for (name, (series, reduction)), column in zip(measured.items(), axes.T, strict=True):
        i = len(series) // 2
        image = np.asarray(series.frames[i]).astype(float) / reduction.gain
        centre = np.array([reduction.frames.beam_row[i], reduction.frames.beam_column[i]])
        column[0].imshow(np.log10(image + 1), cmap="magma")
        column[0].set(title=f"{name}, frame {i}", xticks=[], yticks=[])
        q, profile = _profile(image, centre, series, reduction)
        column[1].semilogy(q, profile)
        column[1].set(xlabel="|q|, 1/Å", ylabel="background over mean", xlim=(0, 1.2))
        counts = image[~series.mask] / image[~series.mask].mean()
        edges = np.geomspace(0.05, 3e3, 60)
        column[2].hist(counts, edges, log=True, histtype="step")
        column[2].set(xscale="log", xlabel="count over mean", ylabel="pixels")
    figure.savefig(path, dpi=80)
    plt.close(figure)


def _profile(
    image: NDArray[np.float64], centre: NDArray[np.float64], series: RotationSeries,
    reduction: Reduction,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:  # fmt: skip
    q = np.linalg.norm(
        reduction.lattices[0].geometry.to_q(*np.indices(image.shape), centre=centre), axis=-1
    )
    edges = np.arange(0, 1.21, 0.02)
    shell = np.digitize(q[~series.mask], edges)
    counts = image[~series.mask] / image[~series.mask].mean()
    levels = []
    for k in range(1, len(edges)):
        inside = np.sort(counts[shell == k])
        levels.append(inside[: int(0.8 * len(inside))].mean() if len(inside) > 20 else np.nan)
    return 0.5 * (edges[1:] + edges[:-1]), np.array(levels)


def main() -> int:
    parser = options(__doc__ or "")
    add_data_option(parser)
    parser.add_argument(
        "--picture", type=Path, default=Path("twin_truth.png"), help="[%(default)s]"
    )
    args = parser.parse_args()
    table = Table("The twin's truth" + (" (quick)" if args.quick else ""))
    with work_folder(args.work) as work:
        measured: dict[str, Measured] = {}
        for name in REAL:
            folder = unpack(name, args.data, work)
            if folder is None:
                return skip(f"{REAL[name].archive} not below {args.data}; give --data")
            say(f"real {name}")
            series = read_real(name, folder)
            measured[name] = series, reduce_series(series)
        real = [statistics(*one) for one in measured.values()]
        twins, garnets = [], []
        for name, phase, seed in QUICK if args.quick else TWINS:
            say(f"twin {name}")
            series, specimen = twin_series(phase, seed, name=f"twin {name}")
            reduction = reduce_series(series)
            if not reduction.lattices:
                table.fail(f"twin {name}: a lattice", reduction.verdict)
                continue
            measured[series.name] = series, reduction
            twins.append(statistics(series, reduction))
            if phase is GARNET:
                garnets.append(garnet_intensities(reduction))
            if installed() and not args.quick and name != "garnet 3":
                blind(table, series.name, series, specimen, work)
        if not args.quick and not installed():
            table.tell("DIALS", "not installed: no blind indexing")
        compare(table, real, twins)
        compare_garnets(table, garnet_intensities(measured["garnet"][1]), garnets)
        draw(measured, args.picture)
        say(f"drawn: {args.picture}")
    return table.show()


if __name__ == "__main__":
    sys.exit(main())
