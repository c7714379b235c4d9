"""How merging scales: all pairwise CCs of 1,000 series of 2,000 reflections, and what follows."""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Callable
from typing import TypeVar

# One core for one process: before numpy counts them.
os.environ.update({f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "NUMBA")})

import numpy as np
from _table import Table, options, say

from ewaldflow.lib.crystal.lattice_symmetry import candidate_operators
from ewaldflow.lib.merging.ambiguity import resolve_ambiguity
from ewaldflow.lib.merging.ambiguity_operators import ambiguity_operators
from ewaldflow.lib.merging.data_set import DataSet
from ewaldflow.lib.merging.delta_cc_half import delta_cc_half
from ewaldflow.lib.merging.hca import cluster
from ewaldflow.lib.merging.isomorphism import isomorphous_groups
from ewaldflow.lib.merging.pairwise import pairwise_correlations
from ewaldflow.lib.merging.scaling import scale_data_sets
from ewaldflow.lib.simulation.data_sets import TrueIntensities, crystal, filled, framework

REFLECTIONS = 2000
# Of the series: MFI, MFI with filled pores, and two crystals in the beam.
SHARES = (0.7, 0.25, 0.05)
MAX_WALL_S, MAX_MEMORY_MB = 20.0, 4096.0

Result = TypeVar("Result")


def made(n: int) -> tuple[list[DataSet], np.ndarray]:
    """`n` series, and for each the structure it is of (2: junk)."""
    truth: tuple[TrueIntensities, ...] = (framework("MFI"), filled("MFI"), framework("MFI"))
    rng = np.random.default_rng(1)
    labels = rng.choice(3, n, p=SHARES)
    sets = []
    for i, label in enumerate(labels):
        change = (lambda x, rng: rng.permutation(x)) if label == 2 else (lambda x, rng: x)
        one = crystal(truth[label], 10_000 + i, range_deg=rng.uniform(35, 60),
                      noise=rng.choice([0.05, 0.2, 0.5]), change=change)  # fmt: skip
        some = np.sort(rng.choice(len(one), min(REFLECTIONS, len(one)), replace=False))
        sets.append(one.select(some))
    return sets, labels


def timed(work: Callable[[], Result]) -> tuple[Result, float, float]:
    """The result, wall seconds and CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return result, time.perf_counter() - wall, time.process_time() - cpu


def memory_MB() -> float:
    """Peak of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> int:
    parser = options(__doc__ or "", work=False)
    parser.add_argument("-n", type=int, help="number of series, 1000 by default")
    arguments = parser.parse_args()
    n = arguments.n or (200 if arguments.quick else 1000)
    say(f"making {n} series")
    sets, labels = made(n)
    operators = candidate_operators("oP")
    mean = np.mean([len(one) for one in sets])
    table = Table(f"{n} series of {mean:.0f} reflections; seconds are wall, CPU on one core")
    before = memory_MB()

    pairwise, wall, cpu = timed(lambda: pairwise_correlations(sets, operators))
    table.check(
        "all pairwise CCs, from observations / s", wall, at_most=MAX_WALL_S, peer=f"CPU {cpu:.1f}"
    )
    table.check("peak memory / MB", memory_MB(), at_most=MAX_MEMORY_MB, peer=f"data {before:.0f}")
    some = pairwise.n_common[np.triu_indices(n, 1)]
    table.tell("pairs compared", f"{int(pairwise.known.sum()) // 2} of {n * (n - 1) // 2}")
    table.tell("common reflections of a pair, median", f"{np.median(some):.0f}")

    clusters, wall, cpu = timed(lambda: cluster(pairwise))
    table.tell("hierarchical clustering, its cut judged / s", f"{wall:.1f}", f"CPU {cpu:.1f}")
    table.tell("clusters", " + ".join(str(len(g)) for g in clusters.members[:5]))
    groups, wall, cpu = timed(lambda: isomorphous_groups(pairwise))
    table.tell("isomorphous groups / s", f"{wall:.1f}", f"CPU {cpu:.1f}")
    right = sum(
        max(np.sum(labels[list(g)] == label) for label in (0, 1)) for g in groups.groups[:2]
    )
    left = sum(labels[u.index] == 2 for u in groups.unassigned)
    table.check(
        "series in the right structure, or left out as junk / %", 100 * (right + left) / n,
        at_least=97, peer=groups.why.split(";")[0],
    )  # fmt: skip

    settings = ambiguity_operators(sets[0].cell, "oP", operators)
    given = np.random.default_rng(2).integers(0, len(settings), n)
    turned = [one.reindexed(settings[g]) if g else one for one, g in zip(sets, given, strict=True)]
    resolved, wall, cpu = timed(lambda: resolve_ambiguity(turned, operators))
    table.tell("indexing ambiguity (a and b exchanged) / s", f"{wall:.1f}", f"CPU {cpu:.1f}")
    good = labels != 2
    relative = (resolved.choice + given)[good] % 2
    table.check(
        "crystals in the common setting / %", 100 * np.bincount(relative).max() / good.sum(),
        at_least=99,
    )  # fmt: skip

    first = [sets[i] for i in groups.groups[0]]
    scaled, wall, cpu = timed(lambda: scale_data_sets(first, operators))
    table.tell(f"scaling the {len(first)} of the first structure / s", f"{wall:.1f}",
               f"CPU {cpu:.1f}")  # fmt: skip
    _, wall, cpu = timed(lambda: delta_cc_half(scaled.data, operators))
    table.tell("delta CC1/2 of each of them / s", f"{wall:.1f}", f"CPU {cpu:.1f}")
    table.tell("peak memory of everything / MB", f"{memory_MB():.0f}")
    return table.show()


if __name__ == "__main__":
    sys.exit(main())
