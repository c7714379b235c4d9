"""How often an overfocus calibration succeeds with no start value, and whether failures are marked.

Random truths: rotation over 360 degrees, both flips, both signs (stated), |o| 10 to 50 um (6 to 1.2
px per scan point), centre within 8 px, descan with 0.05 px per px standard deviation, seven
specimens in turn, 0.1 to 10 electrons per pixel, 32 x 32 frames of 256 x 256. |o| and dose are
drawn evenly in their logarithms.
"""

from __future__ import annotations

import os
import sys
import time
from collections import Counter

# One core for one process: before numpy counts them.
os.environ.update({f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "NUMBA")})

import numpy as np
from _overfocus_truths import errors, passed, random_truth, scan_of_truth
from _table import Table, options, say

from ewaldflow.lib.overfocus.calibrate import calibrate
from ewaldflow.lib.overfocus.config import OverfocusConfig

CLOSE_DEG, CLOSE_PERCENT = 0.5, 1.0
LEAST_RIGHT = 97.0


def main() -> int:
    parser = options(__doc__ or "", work=False)
    parser.add_argument("-n", "--n", type=int, help="number of truths, 200 by default")
    parser.add_argument("--first-seed", type=int, default=0, help="of the truths")
    arguments = parser.parse_args()
    n = arguments.n or (6 if arguments.quick else 200)
    table = Table(f"{n} random truths, 32 x 32 frames, from seed {arguments.first_seed}")
    outcome: Counter[str] = Counter()
    by_specimen: dict[str, list[bool]] = {}
    rotation, scale, cpu = [], [], []
    for seed in range(arguments.first_seed, arguments.first_seed + n):
        truth, specimen, dose = random_truth(seed)
        scan = scan_of_truth(truth, 32, specimen, dose, seed)
        began = time.process_time()
        found = calibrate(scan, OverfocusConfig(overfocused=truth.overfocus_m > 0))
        cpu.append(time.process_time() - began)
        e = errors(found, truth)
        close = e.within(CLOSE_DEG, CLOSE_PERCENT)
        kind = f"{'right' if close else 'wrong'}, {'passed' if passed(found) else 'flagged'}"
        outcome[kind] += 1
        by_specimen.setdefault(specimen, []).append(close and passed(found))
        if kind == "right, passed":
            rotation.append(abs(e.rotation_deg))
            scale.append(abs(e.scale_percent))
        else:
            say(
                f"seed {seed}: {specimen}, {dose:.2f} e/px, {truth.overfocus_m * 1e6:.1f} um:"
                f" {kind}, {e.rotation_deg:+.2f} deg, {e.scale_percent:+.2f} %:"
                f" {'; '.join(found.reasons)}"
            )
    passed_ones = outcome["right, passed"]
    share = 100 * (passed_ones + outcome["right, flagged"]) / n
    table.check("within 0.5 degrees and 1 % / %", share, at_least=LEAST_RIGHT, form=".1f")
    table.tell("of them passed", str(passed_ones))
    table.check("wrong answers passed as good", outcome["wrong, passed"], at_most=0, form="d")
    table.tell("right answers flagged", str(outcome["right, flagged"]))
    table.tell("wrong answers flagged", str(outcome["wrong, flagged"]))
    for name, good in by_specimen.items():
        table.tell(f"{name}: right and passed", f"{sum(good)} of {len(good)}")
    for name, values in (("rotation / degrees", rotation), ("scale / %", scale)):
        if values:
            table.tell(f"{name}, median and largest", f"{np.median(values):.3f}, {max(values):.3f}")
    table.tell("CPU / s, median", f"{np.median(cpu):.2f}")
    return table.show()


if __name__ == "__main__":
    sys.exit(main())
