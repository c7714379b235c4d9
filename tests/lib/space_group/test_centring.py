"""Translations that a cell lacks."""

from fractions import Fraction

import numpy as np
import pytest

from ewaldflow.lib.space_group.centring import centring_evidence

CELL = (9.0, 11.0, 13.0, 90.0, 90.0, 90.0)
HALF, ZERO, THIRD = Fraction(1, 2), Fraction(0), Fraction(1, 3)


def intensities(absent, seed=0, weak=0.0):
    rng = np.random.default_rng(seed)
    hkl = np.indices((9, 9, 9)).reshape(3, -1).T[1:] - [4, 4, 0]
    f2 = rng.exponential(size=len(hkl)) * np.where(absent(*hkl.T), weak, 1.0)
    sigma = np.full(len(hkl), 0.1)
    return hkl, 100 * (f2 + sigma * rng.normal(size=len(hkl))), 100 * sigma


def found(evidence):
    return {e.translation for e in evidence if e.found}


@pytest.mark.parametrize(
    ("absent", "expected"),
    [
        (lambda h, k, m: (h + k + m) % 2 == 1, {(HALF, HALF, HALF)}),
        (lambda h, k, m: (h + k) % 2 == 1, {(HALF, HALF, ZERO)}),
        (lambda h, k, m: m % 2 == 1, {(ZERO, ZERO, HALF)}),
        (lambda h, k, m: k % 3 != 0, {(ZERO, THIRD, ZERO)}),
        (lambda h, k, m: (-h + k + m) % 3 != 0, {(THIRD, 2 * THIRD, 2 * THIRD)}),
        (
            lambda h, k, m: ((h + k) % 2 == 1) | ((k + m) % 2 == 1),
            {(HALF, HALF, ZERO), (ZERO, HALF, HALF), (HALF, ZERO, HALF)},
        ),
        (lambda h, k, m: h > 99, set()),
    ],
)
def test_absent_classes_are_found(absent, expected):
    evidence = centring_evidence(*intensities(absent), CELL)
    assert len(evidence) == 7 + 13
    assert found(evidence) == expected


def test_weak_superstructure_reflections_are_no_absences():
    data = intensities(lambda h, k, m: m % 2 == 1, weak=0.2)
    assert found(centring_evidence(*data, CELL)) == set()


def test_reflections_left_out_say_as_much():
    hkl, intensity, sigma = intensities(lambda h, k, m: h > 99)
    even = hkl.sum(axis=1) % 2 == 0
    evidence = centring_evidence(hkl[even], intensity[even], sigma[even], CELL)
    assert found(evidence) == {(HALF, HALF, HALF)}
    assert (evidence[0].n_absent, evidence[0].n_present) == (0, evidence[0].n_present)
    # but not where the setting is known to be centred
    assert found(centring_evidence(hkl[even], intensity[even], sigma[even], CELL, "oI")) == set()


def test_a_plane_of_reflections_says_nothing_of_the_third_direction():
    hkl, intensity, sigma = intensities(lambda h, k, m: h > 99)
    plane = hkl[:, 2] == 0
    assert found(centring_evidence(hkl[plane], intensity[plane], sigma[plane], CELL)) == set()


@pytest.mark.parametrize("n", [0, 1, 20])
def test_few_reflections_decide_nothing(n):
    hkl, intensity, sigma = intensities(lambda h, k, m: m % 2 == 1)
    evidence = centring_evidence(hkl[:n], intensity[:n], sigma[:n], CELL)
    assert found(evidence) == set()


def test_noise_has_no_centring():
    hkl, intensity, sigma = intensities(lambda h, k, m: h > -99)
    assert found(centring_evidence(hkl, intensity, sigma, CELL)) == set()
