"""Patterns of fewer electrons: mean, noise, and that of the rest, worked out by hand."""

from __future__ import annotations

from types import MappingProxyType

import numpy as np
import pytest

from ewaldflow.lib.errors import UserError
from ewaldflow.lib.rrvae.patterns import Patterns
from ewaldflow.lib.rrvae.thin import thinned


def patterns(pseudo: float | None = None, n: int = 4000) -> Patterns:
    """Patterns with 100 electrons in each of 8 x 8 pixels, their mean subtracted."""
    draw = np.random.default_rng(0)
    noise = draw.normal(0, 10, (n, 8, 8)) if pseudo is None else np.zeros((n, 8, 8))
    mask = np.zeros((8, 8), bool)
    mask[0, 0] = True
    return Patterns(
        data=(noise * ~mask).astype(np.float32),
        variance=np.full((1, 8, 8), 100, np.float32),
        mask=mask,
        scan_shape=(1, n),
        index=np.arange(n),
        centre_px=(3.5, 3.5),
        mean=np.where(mask, 0, 100.0),
        dose=6300.0,
        choices=MappingProxyType({"pseudo_dose": pseudo}),
    )


def test_a_quarter_of_the_electrons() -> None:
    few, rest = thinned(patterns(), 1575.0, seed=1)
    used = ~few.mask
    assert few.dose == 1575.0
    assert rest.dose == 6300.0 - 1575.0
    np.testing.assert_allclose(few.mean[used], 25)
    # of 100 electrons a quarter: Poisson noise of variance 25, and 75 for the others
    np.testing.assert_allclose(few.variance, 25)
    np.testing.assert_allclose(rest.variance, 75)
    a, b = few.data[:, used].astype(float), rest.data[:, used].astype(float)
    assert a.var() == pytest.approx(25, rel=0.02)
    assert b.var() == pytest.approx(75, rel=0.02)
    assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.01
    np.testing.assert_allclose(a + b, patterns().data[:, used], atol=1e-4)
    assert not few.data[:, 0, 0].any()


def test_patterns_without_noise_get_it() -> None:
    clean = patterns(pseudo=6300.0)
    few, rest = thinned(clean, 3150.0, seed=1)
    assert few.data[:, ~few.mask].var() == pytest.approx(50, rel=0.02)
    assert few.choices["pseudo_dose"] is None  # there is noise now
    assert rest is clean


@pytest.mark.parametrize(("pseudo", "electrons"), [(None, 3200.0), (6300.0, 6400.0)])
def test_more_electrons_than_there_are(pseudo: float | None, electrons: float) -> None:
    with pytest.raises(UserError, match="dose_curve"):
        thinned(patterns(pseudo, 50), electrons, seed=0)
