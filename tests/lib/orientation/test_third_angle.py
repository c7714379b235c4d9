"""Rotation about the beam."""

from __future__ import annotations

import numpy as np
import pytest

from ewaldflow.lib.orientation.third_angle import lattice_strain, third_angle


def pattern(
    rng: np.random.Generator, turn_deg: np.ndarray, n: int = 30, noise: float = 0.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Observed and predicted (row, column) and frame; turned, shifted by (3, -2) px."""
    frame = np.repeat(np.arange(len(turn_deg)), n)
    xy = rng.uniform(-200, 200, (len(frame), 2))
    angle = np.deg2rad(turn_deg)[frame]
    c, s = np.cos(angle), np.sin(angle)
    turned = np.stack([c * xy[:, 0] - s * xy[:, 1], s * xy[:, 0] + c * xy[:, 1]], 1)
    turned += noise * rng.normal(size=turned.shape)
    return turned[:, ::-1] + [3.0, -2.0] + 256, xy[:, ::-1] + 256, frame


def test_quarter_turn_takes_columns_to_rows() -> None:
    # right-handed about the beam: a spot along +x (column) goes to +y (row)
    predicted = np.array([[0.0, 1], [0, -1], [1, 0], [-1, 0]]) * 100
    observed = np.array([[1.0, 0], [-1, 0], [0, -1], [0, 1]]) * 100
    found = third_angle(
        observed, predicted, np.zeros(4, int), np.full(4, 10.0), 1, np.zeros((4, 2, 6))
    )
    assert found.angle_deg == pytest.approx([90.0])
    assert found.agreement == pytest.approx(1.0)


def test_angles_come_back_with_their_errors() -> None:
    rng = np.random.default_rng(1)
    true = rng.normal(0.5, 0.2, 400)
    observed, predicted, frame = pattern(rng, true, noise=0.3)
    snr = np.full(len(frame), 3.0)
    found = third_angle(observed, predicted, frame, snr, 400, np.zeros((len(frame), 2, 6)))
    z = (found.angle_deg - true) / found.sd_deg
    assert np.sqrt(np.mean(z**2)) == pytest.approx(1, abs=0.12)
    assert found.offset_deg == pytest.approx(0.5, abs=0.05)
    assert found.jitter_deg == pytest.approx(0.2, abs=0.04)
    assert np.abs(found.shrunk_deg - true).mean() < 0.03


def test_few_spots_are_not_enough() -> None:
    observed, predicted, frame = pattern(np.random.default_rng(0), np.array([0.1, 0.1, 0.1]), n=3)
    found = third_angle(observed, predicted, frame, np.ones(9), 3, np.zeros((9, 2, 6)))
    assert np.isnan(found.angle_deg).all()
    assert np.isnan(found.agreement)
    assert (found.shrunk_deg == 0).all()


def test_a_frame_without_spots_takes_the_offset() -> None:
    observed, predicted, frame = pattern(np.random.default_rng(0), np.array([0.1, 0.1, 0.1]))
    observed[frame == 1] = np.nan
    found = third_angle(observed, predicted, frame, np.ones(90), 3, np.zeros((90, 2, 6)))
    assert np.isnan(found.angle_deg[1])
    assert found.shrunk_deg == pytest.approx([0.1, 0.1, 0.1], abs=1e-6)


def test_other_spots_do_not_agree() -> None:
    rng = np.random.default_rng(3)
    observed, predicted, frame = pattern(rng, np.zeros(20))
    found = third_angle(
        rng.permutation(observed), predicted, frame, np.ones(600), 20, np.zeros((600, 2, 6))
    )
    assert found.agreement < 0.5


def test_strain_of_a_wrong_cell() -> None:
    rng = np.random.default_rng(2)
    p = rng.normal(size=(500, 3))
    # x is 1 % longer; moved by 100 px per 1/Å along x and y
    design = np.zeros((500, 2, 6))
    design[:, 0, 0], design[:, 0, 3], design[:, 0, 4] = 100 * p[:, 0], 100 * p[:, 1], 100 * p[:, 2]
    design[:, 1, 1], design[:, 1, 3], design[:, 1, 5] = 100 * p[:, 1], 100 * p[:, 0], 100 * p[:, 2]
    residual = np.stack([p[:, 0], 0 * p[:, 0]], 1) + 0.1 * rng.normal(size=(500, 2))
    values, sd = lattice_strain(residual, design, np.full(500, 100.0))
    assert values[-1] == pytest.approx(0.01, abs=5 * sd)
    assert values[:2] == pytest.approx([0, 0], abs=5e-4)
    assert 1e-6 < sd < 1e-3
