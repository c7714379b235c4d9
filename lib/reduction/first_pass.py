"""The first pass over the frames: spots, the direct beam, blank frames."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..series import RotationSeries
from .beam_centre import BeamTrack, find_beam, track_beam
from .config import ReductionConfig
from .model import Model
from .spot_finding import SpotFinder, Spots
from .survey import Survey, frame_blocks, to_electrons

Floats = NDArray[np.float64]
Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class FoundSpots:
    """What the first pass over the frames leaves."""

    spots: Spots
    track: BeamTrack
    background: Floats
    blank: NDArray[np.bool_]


def find_spots(
    series: RotationSeries, seen: Survey, config: ReductionConfig, report: Progress
) -> FoundSpots:
    """Spots of all frames, and the direct beam on each; blank frames are left out."""
    n = len(series)
    finder = SpotFinder(series.shape, config.spot_threshold)
    # by the same arithmetic as the pixels, or the last digit hides saturated ones
    ceiling = to_electrons(np.array([seen.saturation]), series.pedestal, seen.gain)[0]
    centres = np.full((n, 2), np.nan)
    background = np.zeros(n)
    totals = np.zeros(n)
    for start, block in frame_blocks(series):
        for k, raw in enumerate(block):
            i = start + k
            electrons = to_electrons(raw, series.pedestal, seen.gain)
            totals[i] = float(electrons.sum(dtype=np.float64))
            if totals[i] <= 0 or raw.max() == raw.min():
                continue
            centres[i] = find_beam(electrons, seen.valid)
            local = finder.add(electrons, seen.valid, ceiling, i)[::7, ::7]
            background[i] = np.median(local[np.isfinite(local)])
        report("find spots", (start + len(block)) / n)
    lit = totals[totals > 0]
    blank = totals <= 0.02 * (np.median(lit) if len(lit) else 0.0)
    centres[blank] = np.nan
    track = track_beam(centres, series.geometry.beam_centre_px)
    if series.beam_centres_px is not None and not track.seen.any():
        track = BeamTrack(series.beam_centres_px, track.seen, "beam centres taken from the series")
    spots = finder.spots(min_pixels=config.min_spot_pixels)
    return FoundSpots(spots, track, background, blank)


def starting_model(series: RotationSeries, track: BeamTrack) -> Model:
    """The nominal geometry with the tracked beam; its orientation is yet to be found."""
    step = float(np.median(series.angle_width_deg))
    if len(series) > 1:
        step = float(
            np.median(np.diff(series.angle_mid_deg) / np.diff(series.frame_number.astype(float)))
        )
    return Model(
        orientation=np.eye(3) * 0.1,
        geometry=series.geometry,
        beam_track_px=track.centres_px,
        angle_mid_deg=series.angle_mid_deg,
        angle_step_deg=step,
    )


def select_spots(spots: Spots, model: Model, config: ReductionConfig) -> Spots:
    """Spots worth indexing, decided before anything is known of the lattice."""
    r = model.to_reciprocal(spots.row, spots.column, spots.frame)
    keep = np.linalg.norm(r, axis=1) > 1 / config.d_max_A
    keep &= spots.intensity > config.min_spot_significance * spots.sigma
    keep &= ~spots.edge
    return spots[keep]
