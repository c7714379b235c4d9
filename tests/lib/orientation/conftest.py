"""A tiny kinematic rotation series, made by rotating the crystal in the lab, frame by frame."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from ewaldflow.lib.crystal.cell import reciprocal_basis
from ewaldflow.lib.geometry import Geometry, rotation_about
from ewaldflow.lib.orientation.observations import FrameIntensities, OrientationData

CELL = (12.06, 12.06, 12.06, 90.0, 90.0, 90.0)


@dataclass(frozen=True)
class Truth:
    """What a made-up series was made from: rotation (frames, 3, 3), e unit, noise-free rows."""

    rotation: np.ndarray
    direction: np.ndarray
    small_deg: np.ndarray
    expected: np.ndarray
    background: np.ndarray


def make_series(
    *,
    seed: int = 1,
    step_deg: float = 0.2,
    range_deg: float = 20.0,
    d_min_A: float = 1.0,
    cell: tuple[float, ...] = CELL,
    continuous: bool = True,
    jitter_deg: tuple[float, float] = (0.0, 0.0),
    wave: Any = None,
    peak: float = 100.0,
    background: float = 30.0,
    noise: bool = True,
    sigma_s: float = 1.5e-3,
    mosaic_deg: float = 0.05,
    window: float = 8e-3,
    asymmetry: float = 0.0,
    sinc: bool = False,
    scale_sd: float = 0.0,
    multiplicative: float = 0.0,
) -> tuple[OrientationData, Truth]:
    """A series and its truth; `wave` maps angles in degrees to (n, 2) small rotations."""
    rng = np.random.default_rng(seed)
    basis = reciprocal_basis(cell)
    u = Rotation.random(random_state=seed).as_matrix()
    geometry = Geometry(0.02508, 0.055, 600.0, (512.0, 512.0), (0.8, -0.6, 0.0))
    axis, radius = np.array(geometry.axis), 1 / geometry.wavelength_A
    angle = np.arange(0, range_deg + 1e-9, step_deg) - range_deg / 2
    n = len(angle)
    small = rng.normal(0, 1, (n, 2)) * jitter_deg
    if wave is not None:
        small = small + wave(angle)

    top = np.ceil(np.linalg.norm(np.linalg.inv(basis), axis=0) / d_min_A).astype(int).max()
    grid = np.stack(np.meshgrid(*[np.arange(-top, top + 1)] * 3, indexing="ij"), -1).reshape(-1, 3)
    length = np.linalg.norm(grid @ basis.T, axis=1)
    hkl = grid[(length > 0) & (length <= 1 / d_min_A)]
    lattice = hkl @ (u @ basis).T
    g = np.linalg.norm(lattice, axis=1)
    amplitude = rng.exponential(1.0, len(hkl)) * np.exp(-2.0 * g**2 / 4)
    amplitude *= peak / np.median(amplitude)
    skew = asymmetry * rng.choice([-1, 1], len(hkl))
    width = np.hypot(sigma_s, np.deg2rad(mosaic_deg) * g)

    exposure = step_deg if continuous else 0.0
    substeps = np.linspace(-0.5, 0.5, 11)[:-1] + 0.05 if continuous else np.zeros(1)
    across = np.cross(axis, [0, 0, -1.0])
    rotation, blocks = np.empty((n, 3, 3)), []
    frame_scale = np.exp(rng.normal(0, scale_sd, n)) if scale_sd else np.ones(n)
    for f in range(n):
        # the lab sees e stay and the crystal turn: w1 about the axis, w2 about the normal
        wobble = Rotation.from_rotvec(-np.deg2rad(small[f, 0]) * axis).as_matrix()
        wobble = Rotation.from_rotvec(np.deg2rad(small[f, 1]) * across).as_matrix() @ wobble
        curve, nearest = np.zeros(len(hkl)), np.full(len(hkl), np.inf)
        for part in substeps:
            turned = wobble @ rotation_about(axis, angle[f] + part * exposure) @ u
            q = hkl @ (turned @ basis).T
            s = np.linalg.norm(q + np.array([0, 0, radius]), axis=1) - radius
            t = s / (width * (1 + skew * np.sign(s)))
            curve += np.sinc(t / 2.2) ** 2 if sinc else np.exp(-0.5 * t * t)
            nearest = np.minimum(nearest, np.abs(s))
        rotation[f] = wobble @ rotation_about(axis, angle[f]) @ u
        near = np.nonzero(nearest < window)[0]
        pixel = geometry.to_pixel(hkl[near] @ (rotation[f] @ basis).T)
        expected = frame_scale[f] * amplitude[near] * curve[near] / len(substeps)
        blocks.append((near, np.full(len(near), f), expected, pixel))
    reflection = np.concatenate([b[0] for b in blocks])
    frame = np.concatenate([b[1] for b in blocks])
    expected = np.concatenate([b[2] for b in blocks])
    pixel = np.concatenate([b[3] for b in blocks])
    order = np.lexsort((frame, reflection))
    reflection, frame, expected, pixel = (
        reflection[order], frame[order], expected[order], pixel[order],
    )  # fmt: skip
    begins = np.r_[True, (np.diff(reflection) != 0) | (np.diff(frame) > 1)]
    shaken = expected * (1 + rng.normal(0, multiplicative, len(expected)))
    total = np.maximum(shaken, 0) + background
    counts = rng.poisson(total) if noise else total
    observed = pixel + rng.normal(0, 0.3, pixel.shape) if noise else pixel
    observed[counts - background < 4 * np.sqrt(background)] = np.nan
    rows = FrameIntensities(
        hkl[reflection].astype(np.int32),
        np.cumsum(begins) - 1,
        frame.astype(np.int64),
        counts - background,
        np.maximum(counts, 1.0).astype(float),
        observed[:, 0],
        observed[:, 1],
    )
    data = OrientationData(
        "made-up", u @ basis, basis, geometry, angle, np.full(n, exposure), np.ones(n, bool),
        np.full(n, 512.0), np.full(n, 512.0), rows,
    )  # fmt: skip
    truth = Truth(rotation, -rotation[:, 2, :], small, expected, np.full(len(expected), background))
    return data, truth


def perturbed(
    data: OrientationData, axis_off_deg: float, direction_off_deg: float, seed: int = 0
) -> OrientationData:
    """The same data from a start that is off: crystal turned, then the axis."""
    rng = np.random.default_rng(seed)
    across = np.cross(data.geometry.axis, [0, 0, 1.0])
    other = np.cross(rng.normal(size=3), data.geometry.axis)
    turn = Rotation.from_rotvec(np.deg2rad(direction_off_deg) * other / np.linalg.norm(other))
    axis = Rotation.from_rotvec(np.deg2rad(axis_off_deg) * across / np.linalg.norm(across))
    geometry = data.geometry.with_(axis=tuple(axis.apply(data.geometry.axis)))
    assert data.orientation is not None
    return replace(data, orientation=turn.as_matrix() @ data.orientation, geometry=geometry)


@pytest.fixture(scope="session")
def series() -> Any:
    """The maker of series."""
    return make_series


@pytest.fixture(scope="session")
def off() -> Any:
    """The spoiler of starts."""
    return perturbed
