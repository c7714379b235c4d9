"""Circular harmonics: rotation is an exact phase, and noise gives no components."""

import numpy as np
import pytest

from ewaldflow.lib.errors import UserError
from ewaldflow.lib.rrvae.harmonics import harmonic_basis
from ewaldflow.lib.rrvae.patterns import Patterns
from ewaldflow.lib.rrvae.turn import turned

SIDE = 33


def wedge_patterns(n=200, seed=0, signal=6.0, noise=1.0):
    """Patterns with a first and a third order, turned at random: (patterns, amplitude, angle)."""
    draw = np.random.default_rng(seed)
    y, x = np.indices((SIDE, SIDE)) - (SIDE - 1) / 2
    radius, angle = np.hypot(y, x) / 16, np.arctan2(x, y)
    turn = draw.uniform(-np.pi, np.pi, n)[:, None, None]
    amplitude = draw.uniform(0.3, 1.0, n)[:, None, None]
    shape = np.clip(radius * (1 - radius), 0, None) * (radius < 1)
    first = amplitude * shape * np.cos(angle - turn)
    data = signal * (first + 0.3 * shape * np.cos(3 * (angle - turn)))
    data = data + noise * draw.standard_normal(data.shape)
    patterns = Patterns(
        data=data.astype(np.float32),
        variance=np.ones((1, SIDE, SIDE), np.float32),
        mask=np.zeros((SIDE, SIDE), bool),
        scan_shape=(n // 10, 10),
        index=np.arange(n),
        centre_px=((SIDE - 1) / 2,) * 2,
        mean=np.ones((SIDE, SIDE)),
        dose=float(SIDE**2),
    )
    return patterns, amplitude.ravel(), turn.ravel()


def test_a_quarter_turn_is_a_phase():
    patterns, _, _ = wedge_patterns()
    basis = harmonic_basis(patterns)
    found = basis.coefficients(turned(patterns, 90).data)
    expected = basis.turned(basis.coefficients(patterns.data), np.pi / 2)
    np.testing.assert_allclose(found, expected, atol=1e-3 * np.abs(expected).max())


def test_orders_and_noise():
    patterns, _, _ = wedge_patterns()
    basis = harmonic_basis(patterns)
    assert set(basis.order) == {1, 3}
    assert basis.fold == 1
    # white noise of variance 1 has variance 1 in real and in imaginary parts
    draw = np.random.default_rng(1).standard_normal((4000, SIDE, SIDE)).astype(np.float32)
    noise = basis.coefficients(draw)
    np.testing.assert_allclose(noise.real.var(0), 1, atol=0.08)
    np.testing.assert_allclose(noise.imag.var(0), 1, atol=0.08)


def test_upright_and_back():
    patterns, _, turn = wedge_patterns(noise=0.01)
    basis = harmonic_basis(patterns)
    found = basis.coefficients(patterns.data)
    upright, angle = basis.upright(found)
    np.testing.assert_allclose(basis.turned(upright, angle), found, atol=1e-4)
    off = np.exp(1j * (angle - turn))
    assert abs(off.mean()) > 0.9999


def test_noise_alone_is_refused():
    patterns, _, _ = wedge_patterns(signal=0.0)
    with pytest.raises(UserError, match="noise"):
        harmonic_basis(patterns)


def test_a_shifted_centre_is_refused():
    patterns, _, _ = wedge_patterns()
    with pytest.raises(UserError, match="centre_px"):
        harmonic_basis(patterns.with_(centre_px=(5.0, 16.0), disc_radius_px=14.0))
