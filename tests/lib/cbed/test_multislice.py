import numpy as np
import pytest

from ewaldflow.lib.cbed import Probe, graphene
from ewaldflow.lib.cbed.multislice import graphene_atoms, simulate_multislice, zns_atoms
from ewaldflow.lib.cbed.phase_object import scan_positions, transmission
from ewaldflow.lib.errors import UserError

abtem = pytest.importorskip("abtem", reason="the extra abtem is not installed")


def soft_patterns(probe, camera, positions):
    """Graphene by the sum over beams, at points of the camera, with abTEM's soft aperture."""
    crystal = graphene()
    t = transmission(crystal, probe)
    index = np.fft.fftfreq(len(t), 1 / len(t))
    h = np.stack(np.meshgrid(index, index, indexing="ij"), -1).reshape(-1, 2)
    g = h @ crystal.reciprocal_per_A
    near = np.linalg.norm(g, axis=1) < 2
    k = camera.wave_vectors(probe.wavelength_A)[:, :, 0, :, 0]

    def soft(k):
        angle = np.hypot(*k) * probe.wavelength_A * 1e3
        azimuth = np.arctan2(k[1], k[0])
        width = np.hypot(
            np.cos(azimuth) * camera.pixel_mrad[0], np.sin(azimuth) * camera.pixel_mrad[1]
        )
        phase = np.pi * probe.wavelength_A * probe.defocus_A * (k**2).sum(0)
        inside = np.clip((probe.semi_angle_mrad - angle) / width + 0.5, 0, 1)
        return inside * np.exp(1j * phase)

    psi = np.zeros((len(positions), *camera.shape), complex)
    for vector, coefficient in zip(g[near], t.ravel()[near], strict=True):
        wave = coefficient * soft(k - vector[:, None, None])
        psi += wave * np.exp(2j * np.pi * positions @ vector)[:, None, None]
    return np.abs(psi) ** 2 / (np.abs(soft(k)) ** 2).sum()


@pytest.mark.parametrize("defocus_A", [0.0, 30.0])
def test_the_fast_simulator_agrees_with_abtem(defocus_A):
    # relative L2 of the mean-subtracted signal 1.2 % on 512 points, 0.24 % on 1024:
    # abTEM's grid is the larger error
    probe, atoms = Probe(defocus_A=defocus_A), graphene_atoms()
    kw = {"scan_shape": (3, 3), "scan_step_A": (0.9, 0.5)}
    found = simulate_multislice(atoms, probe, **kw).frames.reshape(9, 64, 64).astype(float)
    expected = soft_patterns(probe, atoms.camera(probe), scan_positions(**kw).reshape(-1, 2))
    assert np.linalg.norm(expected - found) < 0.002 * np.linalg.norm(found)
    signal = found - found.mean(0)
    assert np.linalg.norm(expected - expected.mean(0) - signal) < 0.016 * np.linalg.norm(signal)


def test_zinc_sulphide_is_tetrahedral_and_76_angstrom_thick():
    atoms = zns_atoms(times=(3, 4))
    assert atoms.size_A[2] == pytest.approx(76.5, abs=0.1)  # 20 cells
    assert atoms.elements.count("Zn") == atoms.elements.count("S")
    zinc = atoms.positions_A[[e == "Zn" for e in atoms.elements]]
    sulphur = atoms.positions_A[[e == "S" for e in atoms.elements]]
    inner = zinc[np.argmin(np.linalg.norm(zinc - np.array(atoms.size_A) / 2, axis=1))]
    bonds = np.sort(np.linalg.norm(sulphur - inner, axis=1))
    assert bonds[:4] == pytest.approx([2.342] * 4, abs=1e-3)  # a sqrt(3) / 4
    assert bonds[4] > 4
    beside = sulphur[np.linalg.norm(sulphur[:, :2] - inner[:2], axis=1) < 1.5][0]
    assert beside[0] - inner[0] == pytest.approx(5.409 / 4)  # the dumbbell


def test_zinc_sulphide_scatters_out_of_the_camera_beside_its_columns():
    atoms = zns_atoms(times=(5, 7))
    scan = simulate_multislice(
        atoms,
        Probe(defocus_A=38),
        grid=160,
        shape=(40, 40),
        scan_shape=(2, 1),
        scan_step_A=(3.38, 1),
    )
    on_zinc, between = scan.frames.sum((2, 3))[:, 0]
    assert on_zinc < 0.9 * between < 1


def test_impossible_requests():
    with pytest.raises(UserError, match="grid: found 80 points"):
        simulate_multislice(graphene_atoms((3, 5)), grid=80)
    with pytest.raises(UserError, match="Å between points"):
        simulate_multislice(graphene_atoms(), grid=128, shape=(32, 32))
    with pytest.raises(UserError, match="source_fwhm_A"):
        simulate_multislice(graphene_atoms(), Probe(source_fwhm_A=1.0))


def test_frozen_phonons_repeat_with_their_seeds():
    atoms = graphene_atoms((5, 9))
    kw = {"grid": 160, "shape": (24, 24), "scan_shape": (2, 2), "scan_step_A": (0.8, 0.6)}
    still = simulate_multislice(atoms, **kw).frames
    warm = simulate_multislice(atoms, msd_A2=0.01, phonon_seeds=(1, 2), **kw).frames
    assert np.array_equal(
        warm, simulate_multislice(atoms, msd_A2=0.01, phonon_seeds=(1, 2), **kw).frames
    )
    assert 0.005 < np.abs(warm - still).sum() / still.sum() < 0.3
    unmoved = simulate_multislice(atoms, msd_A2=0.0, phonon_seeds=(1, 2), **kw).frames
    assert np.allclose(unmoved, still, atol=1e-7)


def test_a_spread_of_focus_is_a_mean_over_defocus():
    atoms = graphene_atoms((5, 9))
    kw = {"grid": 160, "shape": (24, 24), "scan_shape": (1, 1), "start_A": (0.5, 0.3)}
    probe = Probe(focus_spread_fwhm_A=50)
    mean = sum(
        w * simulate_multislice(atoms, Probe(defocus_A=float(v)), **kw).frames
        for v, w in zip(*probe.defoci(), strict=True)
    )
    assert np.allclose(simulate_multislice(atoms, probe, **kw).frames, mean, atol=1e-7)
