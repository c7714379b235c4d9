from dataclasses import replace

import numpy as np
import pytest

from ewaldflow.lib.crystal.lattice_symmetry import candidate_operators
from ewaldflow.lib.merging.ambiguity_operators import ambiguity_operators
from ewaldflow.lib.merging.merged_reflections import MergedReflections
from ewaldflow.lib.merging.phase_choice import choose_phase
from ewaldflow.lib.reduction.statistics import asymmetric_unit
from ewaldflow.lib.simulation.data_sets import crystal, filled, framework

MMM = candidate_operators("oP")
MFI, FILLED = framework("MFI", d_min_A=1.3), filled("MFI", d_min_A=1.3)


def reference(truth, keep=1.0):
    """The true intensities, merged; of some of the reflections."""
    unique, first = np.unique(asymmetric_unit(truth.hkl, MMM), axis=0, return_index=True)
    chosen = np.random.default_rng(0).random(len(unique)) < keep
    intensity = truth.true[first][chosen]
    n = len(intensity)
    sigma = 0.02 * intensity + 0.01 * intensity.mean()
    return MergedReflections(
        unique[chosen].astype(np.int32), intensity, sigma, np.ones(n, np.int64),
        np.zeros(n, np.int64), truth.cell, "P m m m", 0.02,
    )  # fmt: skip


REFERENCES = [reference(MFI), reference(FILLED)]


@pytest.mark.parametrize(("truth", "phase"), [(MFI, 0), (FILLED, 1)])
def test_the_phase_whose_intensities_fit_is_chosen(truth, phase):
    one = crystal(truth, 5, range_deg=20, noise=0.2)
    found = choose_phase([(0, one), (1, one)], REFERENCES, [MMM, MMM])
    assert found.best is not None
    assert found.best.phase == phase
    assert found.best.candidate == phase
    assert found.margin > 3
    assert found.best.cc > found.fits[1].cc
    assert f"phase {phase + 1} with CC" in found.why


def test_the_setting_that_fits_is_chosen_with_the_phase():
    swap = ambiguity_operators(MFI.cell, "oP", MMM)[1]
    one = crystal(MFI, 6, range_deg=20)
    wrong = one.reindexed(swap)
    found = choose_phase([(0, wrong), (0, one), (1, one), (1, wrong)], REFERENCES, [MMM, MMM])
    assert found.best is not None
    assert found.best.candidate == 1


def test_data_that_do_not_decide_choose_none():
    one = crystal(MFI, 7, range_deg=5, noise=3.0)
    few = one.select(np.arange(60))
    found = choose_phase([(0, few), (1, few)], REFERENCES, [MMM, MMM])
    assert found.best is None
    assert "not decided" in found.why or "beyond chance" in found.why
    none = one.select(np.arange(10))
    empty = choose_phase([(0, none), (1, none)], REFERENCES, [MMM, MMM])
    assert empty.best is None
    assert "20 are needed" in empty.why
    assert np.isnan(empty.fits[0].cc)


def test_noise_fits_no_phase():
    one = crystal(MFI, 8, change=lambda i, rng: rng.permutation(i))
    found = choose_phase([(0, one), (1, one)], REFERENCES, [MMM, MMM])
    assert found.best is None


def test_one_phase_is_taken_if_it_fits():
    one = crystal(MFI, 9)
    found = choose_phase([(0, one)], REFERENCES[:1], [MMM])
    assert found.best is not None
    assert found.margin == np.inf


def test_zero_intensities_fit_nothing():
    one = crystal(MFI, 9)
    zero = replace(one, intensity=np.zeros(len(one)))
    assert choose_phase([(0, zero)], REFERENCES[:1], [MMM]).best is None


def test_what_is_refused():
    with pytest.raises(ValueError, match="found none"):
        choose_phase([], REFERENCES, [MMM, MMM])
    with pytest.raises(ValueError, match="found phase 2, expected below 2"):
        choose_phase([(2, crystal(MFI, 1))], REFERENCES, [MMM, MMM])
