import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ewaldflow.lib.cbed import (
    Camera,
    Probe,
    graphene,
    simulate_crystal,
    simulate_graphene,
    with_dose,
)
from ewaldflow.lib.cbed.crystal import GRAPHENE_A, scattering_factor_A
from ewaldflow.lib.cbed.phase_object import scan_positions, spectrum, transmission

STEP = (0.3, 0.25)


def com_mrad(scan, camera, sum_to_one=False):
    """(scan row, scan column, 2) first moments in the specimen's frame."""
    k = camera.wave_vectors(1.0)[:, :, 0, :, 0] * 1e3
    frames = np.asarray(scan.frames, float)
    total = 1.0 if sum_to_one else frames.sum((2, 3))
    return np.stack([(frames * k[i]).sum((2, 3)) / total for i in (0, 1)], -1)


def ehrenfest_mrad(crystal, probe, positions):
    """First moment of all scattering: the gradient of the phase, averaged over |probe|².

    <k> = 1/(2 pi) int |p|² grad phi = sum_g i g phi_g M(g) exp(2 pi i g.r), with M the overlap of
    two discs, the transfer of |p|².
    """
    index = np.array([(h, k) for h in range(-6, 7) for k in range(-6, 7)])
    g = index @ crystal.reciprocal_per_A
    length = np.linalg.norm(g, axis=1)
    g, length = g[length < 2 * probe.cutoff_per_A], length[length < 2 * probe.cutoff_per_A]
    phi = sum(
        scattering_factor_A(e, length) * np.exp(-2j * np.pi * g @ x)
        for e, x in zip(crystal.elements, crystal.positions_A, strict=True)
    )
    phi = phi * np.exp(-2 * np.pi**2 * crystal.msd_A2 * length**2)
    phi *= probe.relativistic_factor * probe.wavelength_A / crystal.area_A2
    x = length / (2 * probe.cutoff_per_A)
    overlap = 2 / np.pi * (np.arccos(x) - x * np.sqrt(1 - x**2))
    waves = np.exp(2j * np.pi * positions @ g.T)
    return (waves[..., None] * (1j * g * (phi * overlap)[:, None])).sum(-2).real * (
        probe.wavelength_A * 1e3
    )


def test_first_moments_obey_ehrenfest():
    # independent of the simulator's sums over interfering discs
    probe, camera = Probe(), Camera((180, 180))
    scan = simulate_crystal(
        graphene(), probe, camera, scan_shape=(7, 5), scan_step_A=STEP, oversample=2
    )
    expected = ehrenfest_mrad(graphene(), probe, scan_positions((7, 5), STEP))
    found = com_mrad(scan, camera, sum_to_one=True)
    assert np.abs(found - expected).max() < 0.002 * np.abs(expected).max()
    assert 0.6 < np.abs(expected).max() < 0.8  # mrad


def test_first_moments_do_not_feel_defocus_of_a_broad_beam_but_follow_displacements():
    probe, camera = Probe(), Camera((180, 180))
    warm = graphene(msd_A2=0.02)
    scan = simulate_crystal(warm, probe, camera, scan_shape=(4, 4), scan_step_A=STEP, oversample=2)
    expected = ehrenfest_mrad(warm, probe, scan_positions((4, 4), STEP))
    assert np.allclose(com_mrad(scan, camera, True), expected, atol=0.003)


def test_no_electron_is_lost():
    scan = simulate_graphene(camera=Camera((180, 180)), scan_shape=(3, 3), oversample=2)
    assert np.allclose(scan.frames.sum((2, 3)), 1, atol=0.002)


def test_an_empty_specimen_gives_the_aperture():
    empty = graphene().with_(elements=(), positions_A=np.zeros((0, 2)))
    frames = simulate_crystal(empty, scan_shape=(2, 2)).frames
    radius = 31 / 1.038
    assert frames.sum((2, 3)) == pytest.approx(1.0, abs=1e-3)
    assert frames[0, 0, 31, 31] == pytest.approx(1 / (np.pi * radius**2), rel=1e-5)
    rim = frames[0, 0, 31, :4] * np.pi * radius**2  # pixel centres 31.5 to 28.5 px from the middle
    assert rim[:2].max() == 0
    assert 0.8 < rim[2] < 0.9  # the disc ends at 29.87 px, the pixel at 30
    assert rim[3] == pytest.approx(1, rel=1e-5)


def test_transmission_is_unitary_and_weak_in_single_beams():
    t = transmission(graphene(), Probe())
    assert (np.abs(t) ** 2).sum() == pytest.approx(1)
    # kinematic: the first beam is close to i times its phase coefficient
    g = np.linalg.norm(graphene().reciprocal_per_A[0])
    f = float(scattering_factor_A("C", np.array(g)))
    phase = Probe().relativistic_factor * Probe().wavelength_A * f / graphene().area_A2
    assert abs(t[1, 0]) == pytest.approx(phase, rel=0.1)


@settings(max_examples=15, deadline=None)
@given(st.floats(-5, 5), st.floats(-5, 5), st.integers(-2, 2), st.integers(-2, 2))
def test_patterns_repeat_with_the_lattice(row, column, h, k):
    found = spectrum(graphene(), Probe(), Camera((16, 16), (4.0, 4.0)), oversample=2)
    here = np.array([row, column])
    there = here + np.array([h, k]) @ graphene().cell_A
    assert np.allclose(found.at(here), found.at(there), atol=2e-7)


def test_symmetry_of_a_pattern_is_that_of_the_site():
    # graphene's hollow (six-fold) and its mirror normal to the zigzag rows
    hollow = 2 * graphene().positions_A[1]
    pattern = spectrum(graphene(), Probe(), Camera()).at(hollow)
    assert np.allclose(pattern, pattern[::-1, ::-1], atol=1e-8)
    assert np.allclose(pattern, pattern[:, ::-1], atol=1e-8)
    atom = spectrum(graphene(), Probe(), Camera()).at(np.zeros(2))
    assert np.allclose(atom, atom[:, ::-1], atol=1e-8)  # a mirror along the bond
    assert np.abs(atom - atom[::-1]).max() > 1e-6  # and none across


def test_detector_turned_by_a_right_angle_turns_the_array():
    kw = {"scan_shape": (2, 2), "scan_step_A": STEP, "start_A": (0.4, 0.3)}
    straight = simulate_crystal(graphene(), camera=Camera(), **kw).frames
    turned = simulate_crystal(graphene(), camera=Camera(rotation_deg=90.0), **kw).frames
    # the specimen's column axis appears along the detector's row axis
    assert np.allclose(turned, np.rot90(straight, -1, (2, 3)), atol=1e-7)


def test_defocus_spread_is_the_mean_over_defocus():
    camera = Camera((24, 24), (2.8, 2.8))
    positions = scan_positions((3, 3), STEP)
    spread = Probe(defocus_A=15, focus_spread_fwhm_A=40)
    values, weights = spread.defoci(41)
    assert weights.sum() == pytest.approx(1)
    mean = sum(
        w * spectrum(graphene(), Probe(defocus_A=v), camera).at(positions)
        for v, w in zip(values, weights, strict=True)
    )
    found = spectrum(graphene(), spread, camera).at(positions)
    signal = mean - mean.mean((0, 1))
    assert np.linalg.norm(found - mean) < 0.01 * np.linalg.norm(signal)


def test_source_size_is_the_mean_over_positions():
    camera = Camera((24, 24), (2.8, 2.8))
    sharp = spectrum(graphene(), Probe(), camera)
    broad = spectrum(graphene(), Probe(source_fwhm_A=1.3), camera)
    sigma = 1.3 / 2.3548
    offsets = np.linspace(-4, 4, 41) * sigma
    weight = np.exp(-(offsets**2) / (2 * sigma**2))
    weights = np.outer(weight, weight) / weight.sum() ** 2
    here = np.array([0.5, 0.2])
    grid = here + np.stack(np.meshgrid(offsets, offsets, indexing="ij"), -1)
    mean = (weights[..., None, None] * sharp.at(grid)).sum((0, 1))
    assert np.abs(broad.at(here) - mean).max() < 1e-3 * np.abs(mean).max()


def test_an_incoherent_scan_deflects_less():
    sharp = com_mrad(simulate_graphene(scan_shape=(8, 8)), Camera())
    probe = Probe(source_fwhm_A=1.3, focus_spread_fwhm_A=80)
    blurred = com_mrad(simulate_graphene(probe=probe, scan_shape=(8, 8)), Camera())
    assert np.abs(blurred).max() < 0.5 * np.abs(sharp).max()


def test_counts_are_poisson_and_repeat_with_their_seed():
    scan = simulate_graphene(scan_shape=(20, 20))
    one, same, other = (with_dose(scan, 1e4, seed).frames for seed in (3, 3, 4))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)
    expected = scan.frames.astype(float) * 1e4
    chi2 = (one - expected)[expected > 1] ** 2 / expected[expected > 1]
    assert chi2.mean() == pytest.approx(1, abs=5 * np.sqrt(3 / chi2.size))
    doubled = with_dose(scan, 1e4, 3, gain=2.0)
    assert doubled.gain == 2
    assert np.array_equal(doubled.frames, 2.0 * one)


def test_a_scan_tells_what_made_it():
    scan = simulate_graphene(scan_shape=(2, 3))
    assert scan.scan_shape == (2, 3)
    assert scan.convergence_mrad == 31
    assert scan.wavelength_A == pytest.approx(0.04866, abs=1e-5)  # 60 kV
    assert scan.pixel_size_mm / scan.camera_length_mm == pytest.approx(1.038e-3)
    assert scan.scan_step_nm == pytest.approx((0.0176, 0.0176))
    assert scan.gain is None
    assert pytest.approx(1.4226 * 3**0.5, abs=1e-3) == GRAPHENE_A


@pytest.mark.parametrize("bad", [{"voltage_kV": 0}, {"semi_angle_mrad": -1}, {"source_fwhm_A": -1}])
def test_impossible_probes(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        Probe(**bad)


@pytest.mark.parametrize("dose", [0, -1, float("nan")])
def test_impossible_doses(dose):
    with pytest.raises(ValueError, match="electrons"):
        with_dose(simulate_graphene(scan_shape=(1, 1)), dose, 0)
