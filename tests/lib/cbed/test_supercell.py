import numpy as np
import pytest

from ewaldflow.lib.cbed import Probe, graphene, simulate_crystal
from ewaldflow.lib.cbed.supercell import (
    BOND_A,
    centred_start,
    graphene_supercell,
    simulate_supercell,
    source_margin,
    with_silicon,
    with_vacancy,
)
from ewaldflow.lib.errors import UserError

SCAN = {"scan_shape": (5, 6), "scan_step_A": (0.35, 0.35)}


def signal(frames):
    return frames - frames.mean((0, 1))


def neighbours(cell):
    """Distances to the three atoms nearest to the site."""
    offset = cell.positions_A - np.array(cell.site_A)
    distance = np.linalg.norm(offset, axis=1)
    return np.sort(distance[distance > 0.1])[:3]


@pytest.mark.parametrize(
    ("probe", "oversample", "shape"),
    [(Probe(), 2, (64, 64)), (Probe(), 1, (63, 50)), (Probe(defocus_A=25), 2, (64, 64))],
)
def test_pristine_graphene_agrees_with_the_exact_one(probe, oversample, shape):
    # two independent ways: shifted probes and FFTs, and the sum over interfering discs
    cell = graphene_supercell((11 * oversample, 19 * oversample))
    fine = {"oversample": oversample} | SCAN
    found = simulate_supercell(cell, probe, shape=shape, **fine).frames.astype(float)
    camera, start = cell.camera(probe, shape, oversample), centred_start(cell, **SCAN)
    exact = simulate_crystal(graphene(), probe, camera, start_A=start, **fine).frames
    # the scale differs by how many points of the fine grid lie in the aperture
    assert np.linalg.norm(found - exact) < 3e-3 * np.linalg.norm(exact)
    assert np.linalg.norm(signal(found) - signal(exact)) < 3e-3 * np.linalg.norm(signal(exact))


def test_source_size_agrees_with_the_exact_one():
    probe = Probe(source_fwhm_A=1.3)
    cell = graphene_supercell()
    found = simulate_supercell(cell, probe, **SCAN).frames.astype(float)
    assert found.shape == (5, 6, 64, 64)
    exact = simulate_crystal(
        graphene(),
        probe,
        cell.camera(probe),
        start_A=centred_start(cell, **SCAN),
        oversample=2,
        **SCAN,
    ).frames
    assert np.linalg.norm(signal(found) - signal(exact)) < 5e-3 * np.linalg.norm(signal(exact))


def test_a_source_needs_a_fine_scan():
    with pytest.raises(UserError, match=r"scan_step_A: found 1.0 Å, expected at most 0.55 Å"):
        simulate_supercell(
            graphene_supercell(),
            Probe(source_fwhm_A=1.3),
            scan_step_A=(1.0, 0.2),
            scan_shape=(2, 2),
        )
    assert source_margin(Probe(source_fwhm_A=1.3), (0.5, 0.25)) == (5, 9)  # 4 sigma = 2.208 Å


def test_silicon_has_three_bonds_of_the_length_stated():
    pristine = graphene_supercell((12, 20))
    assert neighbours(pristine) == pytest.approx([BOND_A] * 3)
    doped = with_silicon(pristine, bond_A=1.6)
    assert neighbours(doped) == pytest.approx([1.6] * 3)
    assert doped.elements.count("Si") == 1
    assert len(doped.elements) == len(pristine.elements)


def test_a_vacancy_lacks_one_atom():
    pristine = graphene_supercell((12, 20))
    hole = with_vacancy(pristine)
    assert len(hole.elements) == len(hole.positions_A) == len(pristine.elements) - 1
    assert np.linalg.norm(hole.positions_A - np.array(hole.site_A), axis=1).min() > 1.4


@pytest.mark.parametrize("change", [with_silicon, with_vacancy])
def test_defects_change_patterns_beside_them_and_not_far_away(change):
    cell = graphene_supercell()
    kw = {"scan_shape": (3, 1), "scan_step_A": (12.0, 1.0)}
    changed = simulate_supercell(change(cell), **kw).frames
    difference = changed - simulate_supercell(cell, **kw).frames
    power = (difference**2).sum((2, 3))[:, 0]
    assert power[1] > 30 * max(power[0], power[2])


def test_silicon_scatters_more_and_a_vacancy_less_than_carbon():
    cell = graphene_supercell()
    kw = {"scan_shape": (1, 1), "shape": (64, 64)}
    inside = [
        float(simulate_supercell(c, **kw).frames.sum())
        for c in (with_silicon(cell), cell, with_vacancy(cell))
    ]
    assert inside[0] < inside[1] < inside[2] <= 1  # of the beam within the camera


def test_frozen_phonons_average_to_less_contrast_and_repeat_with_their_seeds():
    cell = graphene_supercell((11, 19))
    kw = {"scan_shape": (3, 3), "scan_step_A": (0.7, 0.6), "oversample": 1, "msd_A2": 0.01}
    one = simulate_supercell(cell, phonon_seeds=(1, 2), **kw).frames
    assert np.array_equal(one, simulate_supercell(cell, phonon_seeds=(1, 2), **kw).frames)
    assert not np.allclose(one, simulate_supercell(cell, phonon_seeds=(3, 4), **kw).frames)
    assert one.sum((2, 3)).max() <= 1
