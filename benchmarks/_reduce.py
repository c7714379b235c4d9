"""Read and reduce one series in a process of its own, so that its cost can be measured."""

from __future__ import annotations

import argparse
import pickle
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ewaldflow.lib.errors import UserError
from ewaldflow.lib.formats import SeriesOverrides, load_instrument, read_series
from ewaldflow.lib.reduction.engine import reduce_series
from ewaldflow.lib.reduction.result import Reduction

if TYPE_CHECKING:
    from _table import Ran


@dataclass(frozen=True)
class Reduced:
    """A reduction, or why there is none, and what it cost."""

    reduction: Reduction | None
    why: str
    ran: Ran


def reduce_apart(
    folder: Path, work: Path, *, instrument: str | None = None, distance_mm: float | None = None
) -> Reduced:
    """The reduction of the series in `folder` by a fresh process."""
    from _table import run_measured  # what draws tables is no cost of a reduction

    result = work / "reduction.pickle"
    result.unlink(missing_ok=True)
    command: list[str | Path] = [sys.executable, Path(__file__).absolute(), folder, result]
    if instrument is not None:
        command += ["--instrument", instrument]
    if distance_mm is not None:
        command += ["--distance-mm", str(distance_mm)]
    ran = run_measured(command, work, work / "reduce.log")
    if ran.code != 0 or not result.exists():
        lines = ran.output.strip().splitlines() or ["no output"]
        return Reduced(None, f"exit code {ran.code}: {lines[-1]}", ran)
    reduction = pickle.loads(result.read_bytes())
    return Reduced(reduction, "" if reduction.lattices else reduction.verdict, ran)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("result", type=Path)
    parser.add_argument("--instrument")
    parser.add_argument("--distance-mm", type=float)
    args = parser.parse_args()
    try:
        series = read_series(
            args.folder,
            instrument=load_instrument(args.instrument) if args.instrument else None,
            overrides=SeriesOverrides(distance_mm=args.distance_mm),
        )
        args.result.write_bytes(pickle.dumps(reduce_series(series)))
    except UserError as error:
        print(error)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
