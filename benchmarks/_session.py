"""A simulated session, reduced: kept in a folder, so that it is made once for all benchmarks."""

from __future__ import annotations

import argparse
import hashlib
import os
import pickle
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import astuple, dataclass
from multiprocessing import get_context
from pathlib import Path

from ewaldflow.lib.errors import UserError
from ewaldflow.lib.reduction.config import ReductionConfig
from ewaldflow.lib.reduction.engine import reduce_series
from ewaldflow.lib.reduction.result import Reduction
from ewaldflow.lib.series import RotationSeries
from ewaldflow.lib.simulation.session import (
    SeriesPlan,
    session_plan,
    similar_session,
    simulate_plan,
)
from ewaldflow.lib.simulation.truth import Truth

# Another number makes all caches anew: for changes of the engine or the simulator.
CACHE_VERSION = 1


@dataclass(frozen=True)
class ReducedSeries:
    """One series of a session: its plan, truth and reduction (None with the error's line).

    Frames are not kept; `series_of` simulates them again, the same to the bit.
    """

    plan: SeriesPlan
    truth: Truth
    reduction: Reduction | None
    why: str
    cpu_s: float


def reduced_session(
    plans: Sequence[SeriesPlan],
    folder: Path,
    *,
    config: ReductionConfig | None = None,
    workers: int = 2,
) -> Iterator[ReducedSeries]:
    """The series of a session in order, each made and reduced unless `folder` holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    config = config or ReductionConfig()
    paths = [path_of(plan, config, folder) for plan in plans]
    missing = [i for i, path in enumerate(paths) if not path.exists()]
    # Before the processes start: several run side by side.
    os.environ.update({f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "NUMBA")})
    if missing:
        with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
            list(pool.map(_make, [plans[i] for i in missing], [config] * len(missing),
                          [paths[i] for i in missing]))  # fmt: skip
    for path in paths:
        yield pickle.loads(path.read_bytes())


def series_of(plan: SeriesPlan) -> RotationSeries:
    """The frames of a planned series."""
    return simulate_plan(plan).series


def path_of(plan: SeriesPlan, config: ReductionConfig, folder: Path) -> Path:
    """The file of a series; another one for another plan, config or `CACHE_VERSION`."""
    text = repr((CACHE_VERSION, astuple(plan), config.model_dump()))
    return folder / f"{plan.name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}.pickle"


def _make(plan: SeriesPlan, config: ReductionConfig, path: Path) -> None:
    start = time.process_time()
    made = simulate_plan(plan)
    reduction, why = None, ""
    try:
        reduction = reduce_series(made.series, config)
    except UserError as error:
        why = str(error)
    cpu_s = time.process_time() - start
    part = path.with_suffix(".part")
    part.write_bytes(pickle.dumps(ReducedSeries(plan, made.truth, reduction, why, cpu_s)))
    part.replace(path)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("-n", type=int, default=40)
    parser.add_argument("--similar", action="store_true", help="with the third, similar phase")
    args = parser.parse_args()
    plans = similar_session(args.seed, args.n) if args.similar else session_plan(args.seed, args.n)
    start, cpu_s = time.perf_counter(), 0.0
    for one in reduced_session(plans, args.folder):
        cpu_s += one.cpu_s
        plan = one.plan
        told = one.why if one.reduction is None else one.reduction.verdict
        print(
            f"{plan.name} {plan.kind} {'+'.join(plan.phases)} {plan.range_deg:.1f} degrees, "
            f"{plan.n_frames} frames, dose {plan.dose:.2f}, {one.cpu_s:.1f} s: {told}"
        )
    print(f"{cpu_s:.0f} s CPU when made, {time.perf_counter() - start:.0f} s now")
    return 0


if __name__ == "__main__":
    import _session  # under its own name, by which others unpickle what is kept

    sys.exit(_session.main())
