"""Overfocused scans whose shadow moves by 0.2 to 60 detector px per scan point.

32 x 32 and 64 x 64 frames of 256 x 256, a cross grating at 10 electrons per pixel, descan of up to
0.04 px per scan px, a random rotation and handedness each, no start value. Each movement is either
measured, within 0.5 degrees and 1 %, or flagged with the reason.
"""

from __future__ import annotations

import os
import sys
import time

# One core for one process: before numpy counts them.
os.environ.update({f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "NUMBA")})

import numpy as np
from _overfocus_truths import SHAPE, column, errors, passed, scan_of_truth
from _table import Table, options, say

from ewaldflow.lib.overfocus.calibrate import calibrate
from ewaldflow.lib.overfocus.parameters import OverfocusParameters

MOVEMENTS_PX = (0.2, 0.5, 1, 2, 5, 10, 20, 40, 60)
DESCAN = np.array([[0.03, -0.01], [0.02, 0.04]])
CLOSE_DEG, CLOSE_PERCENT = 0.5, 1.0


def truth_of(movement_px: float, seed: int) -> OverfocusParameters:
    """A column whose shadow moves by so many detector px per scan point."""
    random = np.random.default_rng([int(10 * movement_px), seed])
    centre = (np.array(SHAPE) - 1) / 2 + random.uniform(-6, 6, 2)
    turn, flip = random.uniform(0, 360), bool(random.integers(2))
    return column(60e-6 / movement_px, turn, flip, DESCAN, centre)


def main() -> int:
    parser = options(__doc__ or "", work=False)
    parser.add_argument("--points", type=int, nargs="+", help="along a side of the scan: 32 64")
    parser.add_argument("--specimen", default="cross_grating")
    parser.add_argument("--dose", type=float, default=10.0, help="electrons per pixel")
    arguments = parser.parse_args()
    table = Table(f"Movement per scan point, {arguments.specimen}, {arguments.dose:g} e/px")
    wrong = 0
    for points in arguments.points or ((32,) if arguments.quick else (32, 64)):
        for movement in MOVEMENTS_PX:
            say(f"{points} x {points}, {movement:g} px: simulating")
            truth = truth_of(movement, points)
            scan = scan_of_truth(truth, points, arguments.specimen, arguments.dose, points)
            began = time.process_time()
            found = calibrate(scan)
            cpu = time.process_time() - began
            e = errors(found, truth)
            name = f"{points} x {points}, {movement:g} px"
            told = f"{e.rotation_deg:+.3f} deg, {e.scale_percent:+.3f} %, descan {e.descan:.4f}"
            close = e.within(CLOSE_DEG, CLOSE_PERCENT)
            wrong += passed(found) and not close
            verdict = "measured" if passed(found) else f"flagged: {'; '.join(found.reasons)}"
            table.tell(name, told, f"{verdict}; {cpu:.1f} s")
    table.check("wrong answers passed as good", wrong, at_most=0, form="d")
    return table.show()


if __name__ == "__main__":
    sys.exit(main())
