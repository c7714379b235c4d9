import numpy as np
import pytest

from ewaldflow.lib.cbed import Camera, simulate_graphene, with_dose
from ewaldflow.lib.rrvae.baselines import first_harmonic, rotational_pair
from ewaldflow.lib.rrvae.correlate import circular_correlation, pearson
from ewaldflow.lib.rrvae.preprocess import PreprocessConfig, prepare
from ewaldflow.lib.stem4d.com import centre_of_mass

SCAN = {"scan_shape": (24, 24)}


def test_both_follow_the_centre_of_mass_of_graphene_better_than_the_paper():
    scan = simulate_graphene(**SCAN)
    truth = centre_of_mass(scan)
    patterns = prepare(scan, PreprocessConfig(pseudo_dose=1e6))
    for found in (rotational_pair(patterns), first_harmonic(patterns)):
        assert pearson(found.modulus, truth.magnitude.ravel()) > 0.997
        assert circular_correlation(found.angle_rad, truth.angle_rad.ravel()).R > 0.999
        assert 0.7 < found.explained < 0.95


def test_with_few_electrons_they_are_no_better_than_counting_allows():
    scan = simulate_graphene(**SCAN)
    truth = centre_of_mass(scan)
    counted = with_dose(scan, 1e5, 0)
    own = pearson(centre_of_mass(counted).magnitude, truth.magnitude)
    for measure in (rotational_pair, first_harmonic):
        found = measure(prepare(counted, PreprocessConfig()))
        assert pearson(found.modulus, truth.magnitude.ravel()) > own - 0.01
        assert found.explained < 0.1


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_first_harmonic_turns_with_the_pattern(quarters):
    patterns = prepare(simulate_graphene(**SCAN), PreprocessConfig(pseudo_dose=1e6))
    # np.rot90 turns the column axis to minus the row axis: angles fall by a right angle
    turned = patterns.with_(data=np.rot90(patterns.data, quarters, (1, 2)))
    a, b = first_harmonic(patterns), first_harmonic(turned)
    assert np.allclose(a.modulus, b.modulus, rtol=1e-3, atol=1e-3 * a.modulus.max())
    found = circular_correlation(b.angle_rad, a.angle_rad, a.modulus)
    assert pytest.approx(1, abs=1e-4) == found.R
    assert found.sense == 1


def test_first_harmonic_feels_no_even_pattern():
    patterns = prepare(simulate_graphene(scan_shape=(16, 16)), PreprocessConfig(pseudo_dose=1e6))
    even = patterns.data + patterns.data[:, ::-1, ::-1]
    assert first_harmonic(patterns.with_(data=even)).modulus.max() < 1e-3 * np.abs(even).max()


def test_detectors_that_are_not_square():
    scan = simulate_graphene(camera=Camera((70, 64)), **SCAN)
    patterns = prepare(scan, PreprocessConfig(pseudo_dose=1e6, shape=(70, 64)))
    truth = centre_of_mass(scan).magnitude.ravel()
    assert pearson(first_harmonic(patterns).modulus, truth) > 0.99
