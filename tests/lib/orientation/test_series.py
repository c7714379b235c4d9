"""A reduced series, all the way to what an artefact holds."""

from dataclasses import replace

import numpy as np
import pytest

from ewaldflow.lib.errors import UserError
from ewaldflow.lib.orientation import series as whole
from ewaldflow.lib.orientation.config import OrientationConfig
from ewaldflow.lib.orientation.series import (
    integrate_again,
    orient_lattice,
    orient_series,
    precision_of,
    split_in_halves,
)
from ewaldflow.lib.orientation.simulate import Diffraction, Rotation, simulate_orientation

CELL = (12.06, 12.06, 12.06, 90.0, 90.0, 90.0)


@pytest.fixture(scope="module")
def shaken():
    return simulate_orientation(
        Rotation("cRED", 0.1, 12.0, jitter_deg=(0.03, 0.02), sinusoid_deg=(0.05, 0.03)),
        Diffraction(0.8), seed=2,
    )  # fmt: skip


@pytest.fixture(scope="module")
def oriented(shaken):
    return orient_lattice(shaken.data, CELL, OrientationConfig())


def test_both_methods_and_what_halves_say(oriented):
    assert [p.method for p in oriented.precision] == [
        "stage B", "stage B, frames alone", "published",
    ]  # fmt: skip
    ours, alone, published = oriented.precision
    assert alone.half_along_deg < published.half_along_deg
    assert alone.half_perp_deg < published.half_perp_deg
    assert 0.6 < alone.half_along_deg / alone.said_along_deg < 1.6
    assert ours.half_along_deg < 2 * alone.half_along_deg
    assert oriented.published.method == "published"


def test_the_study_finds_waves_and_jitter(oriented):
    study = oriented.study
    assert study.in_plane.best.period == pytest.approx(3.0, rel=0.02)
    assert study.in_plane.best.amplitude == pytest.approx(0.05, abs=0.012)
    # jitter and wave together, as steps of 0.1 degrees see them: the wave moves little
    assert study.half_jitter_along_deg == pytest.approx(0.03, rel=0.3)
    assert study.half_jitter_perp_deg == pytest.approx(0.02, rel=0.3)


def test_without_the_published_method(shaken):
    done = orient_lattice(shaken.data, CELL, OrientationConfig(published=False))
    assert done.published is None
    assert len(done.precision) == 2


def test_halves_share_no_reflection(shaken):
    first, second = split_in_halves(shaken.data)
    a, b = ({tuple(h) for h in one.intensities.hkl.tolist()} for one in (first, second))
    assert not a & b
    assert not a & {(-h, -k, -ell) for h, k, ell in b}
    assert len(first.intensities) + len(second.intensities) == len(shaken.data.intensities)
    bare = replace(shaken.data, intensities=None)
    assert split_in_halves(bare) == ()


def test_equal_halves_agree_fully(oriented):
    same = precision_of("stage B", oriented.found, oriented.found, alone=True)
    assert same.half_along_deg == pytest.approx(0, abs=1e-9)
    # claimed: the median error of the frames
    sd = np.sqrt(np.nanmedian(oriented.found.covariance_unshrunk_deg2[:, 0, 0]))
    assert same.said_along_deg == pytest.approx(sd, rel=0.05)


def test_a_lattice_that_fails_is_left_out_with_a_note(simulated, reduction, monkeypatch):
    lattice = replace(reduction.lattices[0], rotation_scale=1.0)
    series, _ = simulated
    asked = []

    def some_fail(data, cell, config):
        asked.append(data.name)
        if len(asked) == 1:
            raise UserError(data.name, "a bad one", "a good one", "leave it")
        return orient_lattice(data, cell, config)

    monkeypatch.setattr(whole, "orient_lattice", some_fail)
    both = replace(reduction, lattices=(lattice, lattice))
    data = whole.from_reduction(series, replace(reduction, lattices=(lattice,)))
    monkeypatch.setattr(whole, "from_reduction", lambda *a, **k: data * 2)
    done, kept = orient_series(series, both, OrientationConfig(published=False))
    assert len(done.lattices) == len(kept) == 1
    assert "a lattice was left out" in done.lattices[0].notes[-1]
    asked.clear()
    monkeypatch.setattr(whole, "from_reduction", lambda *a, **k: data)
    with pytest.raises(UserError, match="a bad one"):
        orient_series(series, replace(reduction, lattices=(lattice,)))


def test_integrating_again_changes_little_where_nothing_shakes(simulated, reduction):
    series, _ = simulated
    lattice = replace(reduction.lattices[0], rotation_scale=1.0)
    again = integrate_again(series, replace(reduction, lattices=(lattice,)))
    r = again.lattices[0].reflections
    assert len(r) > 0.8 * len(lattice.reflections)
    assert again.statistics["r_merge"] < 0.05
