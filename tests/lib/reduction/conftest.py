"""What tests of the engine share: a model, and the spots that a model predicts."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from ewaldflow.lib.crystal.cell import reciprocal_basis
from ewaldflow.lib.geometry import Geometry
from ewaldflow.lib.reduction.prediction import Predictions, predict
from ewaldflow.lib.reduction.refinement import Model
from ewaldflow.lib.reduction.spot_finding import Spots
from ewaldflow.lib.simulation import random_rotation

# 1/Å per px is 0.055 / (452 * 0.025079) = 0.00485: 0.8 Å lies at 258 px
GEOMETRY = Geometry(
    wavelength_A=0.025079,
    pixel_size_mm=0.055,
    distance_mm=452.0,
    beam_centre_px=(250.0, 262.0),
    axis=(-0.62, 0.78, 0.05),
)


def model_of(
    cell: tuple[float, ...],
    seed: int = 1,
    n_frames: int = 60,
    step_deg: float = 0.5,
    geometry: Geometry = GEOMETRY,
    **changes: object,
) -> Model:
    """A crystal in a random orientation, rotating by `n_frames` steps about angle zero."""
    values = {
        "orientation": random_rotation(seed) @ reciprocal_basis(cell),
        "geometry": geometry,
        "beam_track_px": np.tile(geometry.beam_centre_px, (n_frames, 1)),
        "angle_mid_deg": step_deg * (np.arange(n_frames) - (n_frames - 1) / 2),
        "angle_step_deg": step_deg,
    }
    return Model(**{**values, **changes})


def spots_at(
    row: np.ndarray, column: np.ndarray, frame: np.ndarray, strength: np.ndarray | float = 50.0
) -> Spots:
    """Spots of an intensity of `strength` sigma, two frames long."""
    n = len(row)
    strength = np.broadcast_to(np.asarray(strength, float), n)
    return Spots(
        row=np.asarray(row, float),
        column=np.asarray(column, float),
        frame=np.asarray(frame, float),
        frame_spread=np.full(n, 0.6),
        first=np.maximum(np.round(frame - 0.5), 1).astype(np.int64),
        last=np.round(frame + 0.5).astype(np.int64),
        intensity=strength**2,
        sigma=strength.copy(),
        peak=0.1 * strength**2,
        n_pixels=np.full(n, 20),
        saturated=np.zeros(n, bool),
        edge=np.zeros(n, bool),
    )


def spots_of(
    model: Model,
    bravais: str = "aP",
    d_min_A: float = 0.9,
    *,
    kept: float = 0.5,
    noise_px: float = 0.0,
    noise_frames: float = 0.0,
    seed: int = 0,
) -> tuple[Spots, Predictions]:
    """Spots where the model predicts them, a random part of all, with noise; and the truth."""
    rng = np.random.default_rng(seed)
    p = predict(model, bravais, d_min_A, (516, 516), d_max_A=20)
    p = p[(rng.random(len(p)) < kept) & (np.abs(p.rate) > 0.3 * np.median(np.abs(p.rate)))]
    spots = spots_at(
        p.row + rng.normal(0, noise_px, len(p)),
        p.column + rng.normal(0, noise_px, len(p)),
        p.frame + rng.normal(0, noise_frames, len(p)),
    )
    return spots, p


@pytest.fixture(scope="session")
def make_model() -> Callable[..., Model]:
    """`model_of`, as a fixture."""
    return model_of


@pytest.fixture(scope="session")
def make_spots() -> Callable[..., tuple[Spots, Predictions]]:
    """`spots_of`, as a fixture."""
    return spots_of


@pytest.fixture(scope="session")
def place_spots() -> Callable[..., Spots]:
    """`spots_at`, as a fixture."""
    return spots_at
