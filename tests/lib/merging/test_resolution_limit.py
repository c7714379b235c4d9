from __future__ import annotations

from dataclasses import replace

import numpy as np

from ewaldflow.lib.crystal.lattice_symmetry import candidate_operators
from ewaldflow.lib.merging.config import MergingConfig
from ewaldflow.lib.merging.merge_phase import merge_group, resolution_limit_A
from ewaldflow.lib.merging.scaling import scale_data_sets
from ewaldflow.lib.simulation.data_sets import crystal, framework

ROTATIONS = candidate_operators("oC")


def crystals(noise_beyond_A: float):
    rng = np.random.default_rng(4)
    truth = framework("MOR", "oC", 0.8)
    for seed in range(5):
        one = crystal(truth, seed, range_deg=60.0, systematic=0.03, name=f"crystal {seed}")
        noise = one.sigma * rng.normal(size=len(one))
        yield replace(one, intensity=np.where(one.d_A < noise_beyond_A, noise, one.intensity))


def test_noise_is_cut_off_and_signal_is_not() -> None:
    data = list(crystals(1.0))
    limit = resolution_limit_A(scale_data_sets(data, ROTATIONS))
    assert limit is not None
    # 1.0 to the -3 and a twentieth of 0.8 to the -3 more: 0.969 Å
    assert 0.968 < limit < 1.032
    done = merge_group("phase 1", data, ROTATIONS)
    assert done.statistics.overall.d_min_A == limit
    assert any("beyond it CC1/2" in note for note in done.notes)
    whole = list(crystals(0.0))
    assert resolution_limit_A(scale_data_sets(whole, ROTATIONS)) is None


def test_a_limit_asked_for_is_kept() -> None:
    done = merge_group("phase 1", list(crystals(1.0)), ROTATIONS, MergingConfig(d_min_A=1.2))
    assert done.statistics.overall.d_min_A == 1.2
    assert any("as asked for" in note for note in done.notes)
