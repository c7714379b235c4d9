from __future__ import annotations

import dask.array as da
import numpy as np

from ewaldflow.lib.geometry import Geometry
from ewaldflow.lib.reduction.engines.frames import blank_frames
from ewaldflow.lib.series import RotationSeries

SQUARE = Geometry(0.025, 0.05, 500.0, (50.0, 40.0), (1, 0, 0))


def test_blank_frames_are_seen_through_a_pedestal() -> None:
    rng = np.random.default_rng(2)
    frames = rng.poisson(3.0, (8, 20, 20)).astype(np.int32) + 100
    frames[2] = 100
    frames[5] = 100
    frames[5, 0, 0] = 101
    n = len(frames)
    series = RotationSeries(
        "x", da.from_array(frames), np.arange(1, n + 1), np.arange(n) * 1.0, np.ones(n), SQUARE,
        np.zeros((20, 20), bool), pedestal=100.0,
    )  # fmt: skip
    assert np.flatnonzero(blank_frames(series)).tolist() == [2, 5]
