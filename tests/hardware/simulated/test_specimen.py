from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from pydantic import ValidationError

from ewaldflow.hardware.simulated.contrast import BEAM
from ewaldflow.hardware.simulated.diffraction import scattered, share_of_beam, shares_out
from ewaldflow.hardware.simulated.excitation import excited
from ewaldflow.hardware.simulated.multiple_scattering import (
    beams_behind,
    blackman,
    coherent_strength,
    transfer_rates,
)
from ewaldflow.hardware.simulated.scatter import particles_of, scatter, specimen_of
from ewaldflow.hardware.simulated.scene import Scene, expected_electrons
from ewaldflow.hardware.simulated.specimen import (
    DIRT,
    PhaseOptions,
    Specimen,
    SpecimenOptions,
    phase_of,
)
from ewaldflow.hardware.simulated.view import Pose, View
from ewaldflow.lib.errors import UserError
from ewaldflow.lib.geometry import rotation_about
from ewaldflow.lib.simulation.conditions import default_geometry, random_rotation
from ewaldflow.lib.simulation.rocking import excitation_error, positions

GEOMETRY = default_geometry()
MOR = PhaseOptions(structure="MOR")
PX_PER_UM = 80.0


def square(side_um: float) -> np.ndarray:
    half = side_um / 2
    return np.array([[-half, -half], [half, -half], [half, half], [-half, half]])


def one(side_um: float, thickness_um: float = 0.1, at: tuple[float, float] = (0, 0),
        phase: int = 0, film_nm: float = 0.0) -> Specimen:  # fmt: skip
    """A square prism without bevel, on nothing."""
    options = SpecimenOptions(phases=(MOR,), bar_um=0.0, film_nm=film_nm)
    particles = particles_of(
        np.array([[*at, 0.0]]), np.array([phase]), random_rotation(7)[None],
        np.array([thickness_um]), [square(side_um)], bevel_deg=0.0,
    )  # fmt: skip
    return specimen_of(options, (phase_of(MOR),), particles)


def view(mode: str = "imaging", alpha_deg: float = 0.0, to_deg: float | None = None,
         radius_um: float = 10.0, defocused: bool = False, **changes: object) -> View:  # fmt: skip
    """Lab x along columns, y along rows; the tilt axis is x."""
    poses = [
        Pose(rotation_about((1, 0, 0), a), np.zeros(3))
        for a in (alpha_deg, alpha_deg if to_deg is None else to_deg)
    ]
    focused = mode == "diffraction" and not defocused
    picture = np.zeros((2, 2)) if focused else PX_PER_UM * np.array([[0.0, 1.0], [1.0, 0.0]])
    made = View(
        mode=mode, start=poses[0], end=poses[1], electrons=1e7,  # type: ignore[arg-type]
        beam_centre_um=np.zeros(2), beam_radius_um=radius_um, picture_px_per_um=picture,
        origin_px=np.array([255.5, 255.5]), pattern_px=np.array([250.0, 260.0]),
        geometry=GEOMETRY, defocused=defocused, shape=(512, 512),
    )  # fmt: skip
    return replace(made, **changes)  # type: ignore[arg-type]


def shadow(specimen: Specimen, seen: View) -> np.ndarray:
    """True where the particle takes something from the light."""
    empty = one(1.0, at=(500.0, 500.0))
    return expected_electrons(specimen, seen) < 0.999 * expected_electrons(empty, seen)


def test_share_of_the_beam_is_the_overlap_of_disc_and_square() -> None:
    flat = view("diffraction", radius_um=1.0)
    share, path = share_of_beam(one(1.0), 0, flat)
    # density (1 - 0.2 r^2 / R^2): over the unit square r^2 is 1/6 on average
    inner = 1 - BEAM.dome / 6
    assert share == pytest.approx(inner / BEAM.integral_um2(1.0), rel=0.01)
    assert path == pytest.approx(0.1)
    assert share_of_beam(one(10.0), 0, flat)[0] == pytest.approx(1.0)
    half, _ = share_of_beam(one(10.0, at=(5.0, 0.0)), 0, flat)
    gradient = BEAM.gradient * math.cos(math.radians(BEAM.gradient_azimuth_deg))
    # of int x^2 = pi R^4 / 4 and int |x| = 4 R^3 / 3
    more = gradient * (4 / 3) / (2 * math.pi * (1 - BEAM.dome / 2))
    assert half == pytest.approx(0.5 + more, abs=0.01)


def test_a_tilted_square_is_foreshortened_by_the_cosine() -> None:
    flat, tilted = (shadow(one(2.0, 0.001), view(alpha_deg=a)) for a in (0.0, 60.0))
    assert flat.sum() == pytest.approx(160**2, rel=0.02)
    assert np.flatnonzero(flat.any(1)).size == pytest.approx(160, abs=2)  # rows: across the axis
    assert np.flatnonzero(tilted.any(1)).size == pytest.approx(80, abs=2)
    assert np.flatnonzero(tilted.any(0)).size == pytest.approx(160, abs=2)


def test_tilting_lengthens_the_path() -> None:
    crystal = one(40.0, 0.1)
    for alpha in (0.0, 60.0):
        _, path = share_of_beam(crystal, 0, view("diffraction", alpha, radius_um=1.0))
        assert path == pytest.approx(0.1 / math.cos(math.radians(alpha)), rel=1e-6)


def test_a_crystal_moved_by_1_um_moves_by_the_scale_of_the_picture() -> None:
    centres = []
    for at in ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0)):
        seen = shadow(one(1.0, at=at), view())
        centres.append(np.argwhere(seen).mean(0))
    np.testing.assert_allclose(centres[0], [255.5, 255.5], atol=0.6)
    np.testing.assert_allclose(centres[1] - centres[0], [0, PX_PER_UM], atol=0.6)
    np.testing.assert_allclose(centres[2] - centres[0], [PX_PER_UM, 0], atol=0.6)


def test_dirt_attenuates_by_its_free_path() -> None:
    full = expected_electrons(one(1.0, at=(500.0, 0.0)), view())[256, 256]
    behind = expected_electrons(one(2.0, 0.3, phase=DIRT), view())[256, 256]
    assert behind / full == pytest.approx(math.exp(-1.0))


def test_excitation_errors_and_positions_are_those_of_the_simulator() -> None:
    phase, u = phase_of(MOR), random_rotation(3)
    start, end = 10.0, 10.5
    found = excited(
        phase, rotation_about(GEOMETRY.axis, start) @ u, rotation_about(GEOMETRY.axis, end) @ u,
        GEOMETRY.wavelength_A, 230.0,
    )  # fmt: skip
    q0 = phase.q0[found.row] @ u.T
    n = len(found.row)
    assert n > 100
    for s, angle in ((found.s1, start), (found.s2, end)):
        theirs = excitation_error(q0, np.full(n, angle), GEOMETRY)
        np.testing.assert_allclose(s, theirs, atol=1e-12)
    crystal = one(40.0)
    p = replace(crystal.particles, orientation=u[None])
    poses = [Pose(rotation_about(GEOMETRY.axis, a), np.zeros(3)) for a in (start, end)]
    seen = view("diffraction", radius_um=0.5, start=poses[0], end=poses[1])
    (result,) = scattered(replace(crystal, particles=p), seen)
    angle = start + (end - start) * found.when
    assert np.isin(result.row, found.row).all()
    ours = result.offset_px[np.searchsorted(result.row, found.row[np.isin(found.row, result.row)])]
    kept = np.isin(found.row, result.row)
    np.testing.assert_allclose(ours, positions(q0, angle, GEOMETRY)[kept], atol=0.02)


def test_a_passage_through_the_sphere_has_unit_area() -> None:
    phase = phase_of(PhaseOptions(structure="MOR", tail=0.0))
    u = random_rotation(3)
    edges = np.arange(-4.0, 4.0, 0.2)
    total = np.zeros(len(phase.q0))
    for a, b in pairwise(edges):
        found = excited(
            phase, rotation_about(GEOMETRY.axis, a) @ u, rotation_about(GEOMETRY.axis, b) @ u,
            GEOMETRY.wavelength_A, 230.0,
        )  # fmt: skip
        total[found.row] += found.mean * np.abs(found.s2 - found.s1)
    ends = [
        excitation_error(phase.q0 @ u.T, np.full(len(total), e), GEOMETRY) for e in edges[[0, -1]]
    ]
    sweep = ends[0] * ends[1]
    crossed = (sweep < 0) & (np.minimum(*np.abs(ends)) > 0.02)
    assert crossed.sum() > 50
    np.testing.assert_allclose(total[crossed], 1.0, atol=1e-3)


def test_two_beams_share_as_the_transfer_equations_say() -> None:
    hkl, rate, t = np.array([[1, 0, 0]]), np.array([2e-4]), 3000.0
    zero, table = np.zeros(1), np.zeros((3, 1, 1), complex)
    direct, part = beams_behind(hkl, rate, zero, zero, zero + 1e-3, table, 0.025, t)
    assert part[0] == pytest.approx(0.5 * (1 - math.exp(-2 * 2e-4 * t)), rel=1e-5)
    assert direct + part.sum() == pytest.approx(1.0)


def test_a_forbidden_reflection_fills_up_over_two_that_are_not() -> None:
    hkl = np.array([[1, 0, 0], [2, 0, 0]])
    table = np.zeros((5, 1, 1), complex)
    table[[1, 3]] = 0.01  # -1 and 1; 2 is forbidden
    zero, sigma, wavelength, t = np.zeros(2), np.full(2, 1e-3), 0.025, 100.0
    w = (wavelength * 0.01) ** 2 / math.sqrt(2 * math.pi) / 1e-3
    _, part = beams_behind(hkl, np.array([w, 0.0]), zero, zero, sigma, table, wavelength, t)
    assert part[0] == pytest.approx(w * t, rel=0.01)
    assert part[1] == pytest.approx(0.5 * (w * t) ** 2, rel=0.01)  # the second order of exp
    factor = np.array([0.01, 0.0], complex)
    strength = coherent_strength(
        hkl, factor, zero, zero, zero, np.arange(2), table, wavelength, 100.0, False
    )
    assert strength[1] == pytest.approx((wavelength * 100.0 * 0.01 * 0.01 * 0.5) ** 2)


def test_two_beam_intensities_by_hand() -> None:
    # J_0(2 x) = 1 - x^2 + x^4 / 4 - ..., so B = 1 - A^2 / 3 + A^4 / 20 - ...
    assert blackman(0.0) == 1.0
    assert blackman(0.3) == pytest.approx(1 - 0.03 + 0.000405, abs=5e-5)
    assert blackman(200.0) == pytest.approx(1 / 400)
    # the integral of J_0 to its first zero, 2.404826, is 1.470300 (Abramowitz & Stegun, table 11.1)
    assert blackman(1.202413) == pytest.approx(1.470300 / 2.404826, abs=1e-4)


def test_strong_reflections_of_a_block_are_weakened() -> None:
    hkl, zero, wavelength, block = np.array([[1, 0, 0]]), np.zeros(1), 0.025, 800.0
    table = np.zeros((3, 1, 1), complex)
    for f in (1e-4, 0.05, 0.2):
        factor = np.array([f], complex)
        strength = coherent_strength(
            hkl, factor, zero, zero, zero, np.arange(1), table, wavelength, block, True
        )
        assert strength[0] == pytest.approx(f**2 * blackman(wavelength * f * block))
    two, table = np.array([[0, 0, 0], [1, 0, 0]]), np.full((3, 1, 1), 0.05, complex)
    zeros, sigma = np.zeros(2), np.full(2, 1e-3)
    rates = [
        transfer_rates(two, zeros, zeros, sigma, np.arange(1), table, wavelength, t)[0, 1]
        for t in (0.0, block)
    ]
    assert rates[1] / rates[0] == pytest.approx(blackman(1.0))


def test_no_electron_is_made() -> None:
    thick = one(40.0, 0.3, film_nm=15.0)
    wide = view("diffraction", to_deg=0.3, radius_um=0.5, shape=(2000, 2000),
                pattern_px=np.array([1000.0, 1000.0]))  # fmt: skip
    total = expected_electrons(thick, wide).sum()
    assert 0.97 * wide.electrons < total <= wide.electrons * 1.001
    for seen in (view(radius_um=2.5), view("diffraction", radius_um=0.5, defocused=True)):
        image = expected_electrons(thick, seen)
        assert image.min() >= 0
        assert 0.1 * seen.electrons < image.sum() < 1.02 * seen.electrons


def test_crystals_on_one_another_take_no_more_than_there_is() -> None:
    options = SpecimenOptions(phases=(MOR,), bar_um=0.0, film_nm=0.0)
    n = 6
    particles = particles_of(
        np.zeros((n, 3)), np.full(n, DIRT), np.tile(np.eye(3), (n, 1, 1)), np.full(n, 0.6),
        [square(20.0)] * n,
    )  # fmt: skip
    specimen = specimen_of(options, (phase_of(MOR),), particles)
    found = scattered(specimen, view("diffraction", radius_um=0.5))
    taken = sum(p.share * (1 - p.direct) for p in found) * shares_out(found)[0]
    assert taken == pytest.approx(1 - math.exp(-6 * 0.6 / 0.3), rel=1e-6)


def test_it_is_linear_in_electrons_and_blank_without() -> None:
    crystal = one(1.0, film_nm=15.0)
    seen = view("diffraction", to_deg=0.2, radius_um=0.5)
    assert not expected_electrons(crystal, replace(seen, electrons=0.0)).any()
    twice = expected_electrons(crystal, replace(seen, electrons=2e7))
    once = expected_electrons(crystal, seen)
    assert twice.sum() == pytest.approx(2 * once.sum(), rel=1e-5)
    # but for the tails that are drawn with the core
    np.testing.assert_allclose(twice, 2 * once, rtol=0.05)


def test_spots_follow_the_share_of_the_beam() -> None:
    seen = view("diffraction", to_deg=0.2, radius_um=0.5)
    (whole,) = scattered(one(40.0), seen)
    (half,) = scattered(one(40.0, at=(20.0, 0.0)), seen)
    assert half.share == pytest.approx(0.5, abs=0.05)
    np.testing.assert_allclose(half.part, whole.part)


def test_the_disc_moves_with_the_beam_and_the_shadow_does_not() -> None:
    crystal = one(0.4, 0.3)
    seen = view("diffraction", radius_um=0.8, defocused=True)
    moved = replace(seen, beam_centre_um=np.array([0.2, 0.0]))
    images = [expected_electrons(crystal, v) for v in (seen, moved)]
    bright = [np.argwhere(i > 0.3 * np.quantile(i, 0.99)).mean(0) for i in images]
    np.testing.assert_allclose(bright[1] - bright[0], [0.0, 0.2 * PX_PER_UM], atol=1.5)
    assert all(i[256, 256] < 0.5 * np.quantile(i, 0.99) for i in images)


def test_the_same_seed_gives_the_same_specimen_and_another_another() -> None:
    options = SpecimenOptions(phases=(MOR,), width_um=100.0)
    a, b, c = (scatter(options, seed).particles for seed in (1, 1, 2))
    np.testing.assert_array_equal(a.centre_um, b.centre_um)
    np.testing.assert_array_equal(a.orientation, b.orientation)
    assert len(a) != len(c) or not np.array_equal(a.centre_um, c.centre_um)
    seen = view(radius_um=5.0)
    one_, two = (Scene(scatter(options, 1))(seen) for _ in range(2))
    np.testing.assert_array_equal(one_, two)


def test_what_is_scattered_is_what_was_asked_for() -> None:
    options = SpecimenOptions(phases=(MOR,), width_um=300.0, clustered=0.2, dirt=0.1, faint=0.1)
    p = scatter(options, 5).particles
    n = 0.02 * 300**2
    assert len(p) == pytest.approx(n, abs=4 * math.sqrt(n))
    assert np.mean(p.phase == DIRT) == pytest.approx(0.1, abs=0.03)
    assert np.mean(p.faint) == pytest.approx(0.09, abs=0.03)
    crystals = p.phase != DIRT
    diameter = np.sqrt(4 * p.area_um2[crystals] / math.pi)
    assert np.median(diameter) == pytest.approx(0.8, rel=0.05)
    assert np.std(np.log(diameter)) == pytest.approx(0.3, rel=0.1)
    u = p.orientation
    np.testing.assert_allclose(
        u @ u.transpose(0, 2, 1), np.tile(np.eye(3), (len(p), 1, 1)), atol=1e-9
    )
    assert 0.2 < p.isolated.mean() < 0.9


def test_isolation_is_the_gap_between_outlines() -> None:
    at = np.array([[0.0, 0.0, 0.0], [2.5, 0.0, 0.0], [2.5, 0.5, 0.0]])
    p = particles_of(at, np.zeros(3, int), np.tile(np.eye(3), (3, 1, 1)), np.full(3, 0.1),
                     [square(1.0)] * 3)  # fmt: skip
    np.testing.assert_allclose(p.gap_um, [1.5, 0.0, 0.0], atol=0.05)
    assert p.isolated.tolist() == [True, False, False]


def test_bad_options_are_refused() -> None:
    with pytest.raises(ValidationError):
        SpecimenOptions(crystals_per_um2=-1.0)
    with pytest.raises(ValidationError):
        PhaseOptions(structure="MOR", thickness=0.0)
    with pytest.raises(UserError, match=r"nowhere\.cif"):
        phase_of(PhaseOptions(structure="nowhere.cif"))


def test_an_empty_grid_shows_film_and_nothing_else() -> None:
    empty = scatter(SpecimenOptions(phases=(MOR,), crystals_per_um2=0.0), 1)
    assert not len(empty.particles)
    assert expected_electrons(empty, view()).mean() > 1
    assert expected_electrons(empty, view("diffraction", radius_um=0.5)).max() > 1e5
