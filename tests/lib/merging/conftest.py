"""Observations of crystals whose structure, scales and errors are known; no frames needed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from ewaldflow.lib.crystal.cell import d_spacing_A, reciprocal_basis
from ewaldflow.lib.merging.data_set import DataSet
from ewaldflow.lib.simulation.structures import cell_of, structure_factors, zeolite

WAVELENGTH_A = 0.0251
STEP_DEG = 0.5


@dataclass(frozen=True)
class Crystals:
    """Data sets and, for each observation, the truth.

    ln_scale : per set (n,), what observations were multiplied by. truth : per set (n,) |F|^2.
    outlier : per set (n,) bool. b_A2 : of each set.
    """

    sets: list[DataSet]
    ln_scale: list[NDArray[np.float64]]
    truth: list[NDArray[np.float64]]
    outlier: list[NDArray[np.bool_]]
    b_A2: NDArray[np.float64]


@pytest.fixture(scope="session")
def crystals() -> Callable[..., Crystals]:
    """Make mordenite crystals in random orientations, turned about x with the beam along z."""
    structure = zeolite("MOR")
    cell = cell_of(structure)
    hkl, f = structure_factors(structure, 1.0)
    strong = np.abs(f) ** 2 > 1e-6 * np.max(np.abs(f) ** 2)
    hkl, truth = hkl[strong], np.abs(f[strong]) ** 2
    truth = truth / truth.mean()
    d = d_spacing_A(hkl, cell)
    basis = reciprocal_basis(cell)

    def make(
        n: int,
        *,
        seed: int = 0,
        range_deg: tuple[float, float] = (30.0, 60.0),
        relative_error: float = 0.05,
        counts: float = 300.0,
        outliers: float = 0.01,
        surface: float = 0.0,
        wobble: float = 0.15,
        flicker: float = 0.0,
        understated: float = 1.0,
        lost_after: float = 1.0,
    ) -> Crystals:
        """`understated`: sigmas of the first crystal are too small by this; `lost_after`: part of
        its rotation after which nothing but noise is left."""
        rng = np.random.default_rng(seed)
        made = Crystals([], [], [], [], rng.normal(0, 1.5, n))
        for number in range(n):
            turn = Rotation.random(random_state=rng).as_matrix()
            n_frames = round(rng.uniform(*range_deg) / STEP_DEG)
            row, frame = _crossings(hkl @ (turn @ basis).T, n_frames)
            x = (frame + 0.5) / n_frames
            resolution = d[row] ** -2.0 - 0.5
            k = rng.normal(0, 1)
            ln = k - 0.5 * made.b_A2[number] / d[row] ** 2
            ln += wobble * np.sin(2 * np.pi * (x + rng.random()))
            ln += surface * resolution * (2 * x - 1)
            ln += flicker * rng.normal(size=n_frames)[np.rint(frame).astype(int)]
            expected = np.exp(ln) * truth[row]
            gone = (x > lost_after) & (number == 0)
            sigma = np.exp(k) * np.sqrt(truth[row] / counts + 0.02**2)
            real = sigma * (understated if number == 0 else 1.0)
            noise = rng.normal(size=len(row)) * np.hypot(real, relative_error * expected)
            wrong = rng.random(len(row)) < outliers
            extra = np.exp(k) * (1 + rng.exponential(3, len(row)))
            observed = np.where(gone, 0, expected) + noise + np.where(wrong, extra, 0)
            made.sets.append(
                DataSet(
                    name=f"crystal {number}",
                    cell=cell,
                    bravais="oC",
                    hkl=hkl[row].astype(np.int32),
                    intensity=observed,
                    sigma=sigma,
                    frame=frame,
                    d_A=d[row],
                    flags=np.zeros(len(row), np.uint32),
                    wavelength_A=WAVELENGTH_A,
                    range_deg=n_frames * STEP_DEG,
                    n_frames=n_frames,
                    orientation=turn @ basis,
                )
            )
            made.ln_scale.append(ln)
            made.truth.append(truth[row])
            made.outlier.append(wrong)
        return made

    return make


def _crossings(
    q: NDArray[np.float64], n_frames: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Rows and frames where points q at angle zero (mid-series) meet the Ewald sphere."""
    reach = np.hypot(q[:, 1], q[:, 2])
    level = -0.5 * WAVELENGTH_A * np.sum(q**2, axis=1) / np.maximum(reach, 1e-12)
    half = np.arccos(np.clip(level, -1, 1))
    start = np.arctan2(q[:, 1], q[:, 2])
    rows, frames = [], []
    for sign in (1, -1):
        angle = (np.rad2deg(start + sign * half) + 180) % 360 - 180
        frame = angle / STEP_DEG + n_frames / 2 - 0.5
        seen = (np.abs(level) < 1) & (frame >= 0) & (frame <= n_frames - 1)
        seen &= reach > 0.3 * np.linalg.norm(q, axis=1)
        rows.append(np.flatnonzero(seen))
        frames.append(frame[seen])
    return np.concatenate(rows), np.concatenate(frames)
