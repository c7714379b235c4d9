"""Integration with the orientation of every frame, on a series that shakes."""

from dataclasses import replace

import dask.array as da
import numpy as np
import pytest

from ewaldflow.lib.crystal.cell import reciprocal_basis
from ewaldflow.lib.errors import UserError
from ewaldflow.lib.geometry import rotation_about
from ewaldflow.lib.orientation.feed_back import frame_turns, reintegrate
from ewaldflow.lib.orientation.from_reduction import from_reduction, model_of
from ewaldflow.lib.orientation.observations import FrameOrientations
from ewaldflow.lib.orientation.refine import refine_orientations
from ewaldflow.lib.reduction.correction import comparable
from ewaldflow.lib.simulation import (
    Crystal,
    default_geometry,
    random_rotation,
    simulate_series,
    zeolite,
)

N, STEP, JITTER = 40, 0.3, 0.06


@pytest.fixture(scope="module")
def shaken(make_true_reduction):
    """Series, a faultless smooth reduction, truth, and rotations W of the laboratory."""
    rng = np.random.default_rng(1)
    geometry = default_geometry()
    axis = np.array(geometry.axis)
    across = np.cross([0, 0, 1.0], axis)
    small = rng.normal(0, JITTER, (N, 2))
    crystal = Crystal(zeolite("MFI"), random_rotation([4, 0]))
    start, frames, turns = -N * STEP / 2, [], []
    for f in range(N):
        at_middle = rotation_about(axis, start + (f + 0.5) * STEP)
        w = rotation_about(across, small[f, 1]) @ rotation_about(axis, small[f, 0])
        moved = replace(crystal, rotation=at_middle.T @ w @ at_middle @ crystal.rotation)
        one, _ = simulate_series(
            [moved], geometry=geometry, n_frames=1, angle_start_deg=start + f * STEP,
            step_deg=STEP, seed=f, d_min_A=1.3,
        )  # fmt: skip
        frames.append(np.asarray(one.frames[0]))
        turns.append(w)
    series, truth = simulate_series(
        [crystal], geometry=geometry, n_frames=N, angle_start_deg=start, step_deg=STEP, seed=1,
        d_min_A=1.3,
    )  # fmt: skip
    series = series.with_(frames=da.from_array(np.stack(frames), chunks=(16, *series.shape)))
    reduction = make_true_reduction(series, truth)
    lattice = replace(reduction.lattices[0], rotation_scale=1.0)
    return series, replace(reduction, lattices=(lattice,)), truth, np.array(turns)


def misfit(reduction, truth):
    """R against |F|^2 of the structure, and how many reflections there are."""
    r = reduction.lattices[0].reflections
    r = r[comparable(r) & (r.intensity > 3 * r.sigma)]
    t = truth.lattices[0].reflections
    known = dict(zip(map(tuple, t.hkl.tolist()), t.f2, strict=True))
    pairs = [(i, known[tuple(h)]) for h, i in zip(r.hkl.tolist(), r.intensity, strict=True)
             if tuple(h) in known]  # fmt: skip
    x, y = np.array(pairs).T
    scale = (x @ y) / (y @ y)
    return np.sum(np.abs(x - scale * y)) / np.sum(scale * y), len(x)


def test_the_refined_orientations_mend_the_intensities(shaken):
    series, reduction, truth, turns = shaken
    (data,) = from_reduction(series, reduction)
    found = refine_orientations(data)
    assert found.figures["jitter_along_deg"] == pytest.approx(JITTER, rel=0.5)
    n = len(series)
    still = replace(found, rotation=np.full((n, 3, 3), np.nan))
    before, n_before = misfit(reintegrate(series, reduction, [still]), truth)
    again = reintegrate(series, reduction, [found])
    after, n_after = misfit(again, truth)
    assert after < 0.5 * before
    assert after < 0.05
    assert n_after > 0.8 * n_before
    assert "integrated again" in again.notes[-1]
    # the rotations are those of the truth, but for what all frames share
    lattice = reduction.lattices[0]
    ours = frame_turns(model_of(series, reduction, lattice), lattice, found)
    left = np.einsum("nij,nkj->nik", ours, turns)
    angle = np.rad2deg(np.stack([left[:, 2, 1], left[:, 0, 2]], axis=1))
    assert np.std(angle, axis=0).max() < 0.25 * JITTER


def test_turns_are_the_small_rotations(simulated, reduction):
    series, _ = simulated
    lattice = reduction.lattices[0]
    model = model_of(series, reduction, lattice)
    n = len(series)
    u = lattice.orientation @ np.linalg.inv(reciprocal_basis(lattice.cell))
    w = rotation_about([0.6, 0.0, 0.8], np.linspace(-0.1, 0.1, n))
    smooth = rotation_about(lattice.geometry.axis, model.angle_deg(np.arange(n, dtype=float)))
    rotation = w @ smooth @ u
    rotation[5] = np.nan
    found = FrameOrientations(
        "stage B", rotation, *[np.zeros(0)] * 10, ("",), np.zeros(3), 1.0, {}, ()
    )
    turns = frame_turns(model, lattice, found)
    expected = w.copy()
    expected[5] = np.eye(3)
    np.testing.assert_allclose(turns, expected, atol=1e-9)


def test_other_frames_are_refused(shaken):
    series, reduction, _, _ = shaken
    with pytest.raises(UserError, match="not those of the series"):
        reintegrate(series.select(slice(0, 20)), reduction, [])
