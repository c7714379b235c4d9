"""Whole series against numbers worked out by hand."""

import gemmi
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from ewaldflow.lib.geometry import EllipticalDistortion, Geometry
from ewaldflow.lib.simulation import (
    NO_BACKGROUND,
    Beam,
    BeamStop,
    Crystal,
    Detector,
    HeaderErrors,
    random_rotation,
    simulate_series,
    zeolite,
)
from ewaldflow.lib.simulation.simulate import drift_path

# wavelength 1/40 Å; 440 mm / 0.055 mm = 8000 px of camera length
GEOMETRY = Geometry(0.025, 0.055, 440.0, (149.0, 151.0), (1, 0, 0))
PLAIN = Detector(wide_cross=False, saturation=65535)
DARK = Beam(electrons_per_deg=1e9, tail_fraction=0.0, visible=False)


def cubic() -> gemmi.SmallStructure:
    """One carbon atom in a primitive cubic cell of 10 Å."""
    structure = gemmi.SmallStructure()
    structure.name = "cubic"
    structure.cell = gemmi.UnitCell(10, 10, 10, 90, 90, 90)
    structure.spacegroup_hm = "P 1"
    structure.determine_and_set_spacegroup("1")
    site = gemmi.SmallStructure.Site()
    site.element, site.type_symbol = gemmi.Element("C"), "C"
    site.fract, site.occ, site.u_iso = gemmi.Fractional(0, 0, 0), 1.0, 0.0
    structure.add_site(site)
    return structure


def simulate(crystals=None, **changes):
    usual = {
        "geometry": GEOMETRY,
        "n_frames": 100,
        "angle_start_deg": -5.0,
        "step_deg": 0.1,
        "shape": (300, 300),
        "seed": 1,
        "beam": DARK,
        "background": NO_BACKGROUND,
        "detector": PLAIN,
        "d_min_A": 1.9,
    }
    if crystals is None:
        crystals = [Crystal(cubic(), np.eye(3), mosaicity_deg=0.05)]
    return simulate_series(crystals, **{**usual, **changes})


def small_mordenite(**changes):
    """Twenty frames of mordenite as in a usual session, to low resolution."""
    crystal = Crystal(zeolite("MOR"), random_rotation(3))
    usual = {
        "n_frames": 20,
        "step_deg": 0.3,
        "angle_start_deg": 0.0,
        "beam": Beam(),
        "background": None,
        "detector": None,
        "d_min_A": 1.0,
    }
    return simulate([crystal], **{**usual, **changes})


def test_a_reflection_where_and_when_the_hand_says():
    """(0, 5, 0) of a 10 Å cube, aligned, turning about x.

    q = (0, 0.5, 0); at phi it is (0, 0.5 cos, 0.5 sin). Ewald: q_z = -lambda |q|^2 / 2
    = -0.003125, so sin(phi) = -0.00625, phi = -0.358101 degrees, frame (5 - 0.358101) / 0.1
    - 0.5 = 45.919. There s = (0, 0.4999902, 39.996875): y = 8000 * 0.01250073 = 100.0059 px,
    so row 249.006, column 151. ds/dphi = 0.49999, so W = 2.00004 Å rad; the electrons are
    1e9 per degree * 57.29578 * (lambda F / V)^2 t W with F = f_C(s^2 = 0.0625).
    """
    series, truth = simulate()
    frames = series.frames.compute().astype(float)
    box = frames[:, 249 - 8 : 249 + 9, 151 - 8 : 151 + 9]
    signal = box.sum(axis=(1, 2))
    assert abs((signal * np.arange(100)).sum() / signal.sum() - 45.919) < 0.05
    assert abs(np.argmax(signal) - 45.919) <= 0.5
    summed = box.sum(axis=0)
    offset = np.arange(-8, 9)
    assert abs((summed.sum(axis=1) @ offset) / summed.sum() - 0.006) < 0.02
    assert abs((summed.sum(axis=0) @ offset) / summed.sum()) < 0.02

    # f_C(d = 2 Å): c4322 coefficients of carbon (Peng)
    a = [0.0893, 0.2563, 0.7570, 1.0487, 0.3575]
    b = [0.2465, 1.7100, 6.4094, 18.6113, 50.2523]
    f = sum(ai * np.exp(-bi * 0.0625) for ai, bi in zip(a, b, strict=True))
    electrons = 1e9 * 57.29578 * (0.025 * f / 1000) ** 2 * 230 * 2.00004
    assert abs(signal.sum() - electrons) < 5 * np.sqrt(electrons) + 1e-3 * electrons

    table = truth.lattices[0].reflections
    (row,) = np.flatnonzero((table.hkl == [0, 5, 0]).all(axis=1))
    assert table.frame[row] == pytest.approx(45.91899, abs=1e-4)
    assert table.row[row] == pytest.approx(249.0059, abs=1e-3)
    assert table.column[row] == pytest.approx(151, abs=1e-9)
    assert table.f2[row] == pytest.approx(f**2, rel=1e-4)
    assert table.intensity[row] == pytest.approx(electrons, rel=1e-3)
    assert table.recorded[row] == pytest.approx(1, abs=1e-9)
    assert not table.grazing[row]


def test_the_other_side_comes_later_and_the_axis_never():
    # (0, -5, 0): q_z = -0.5 sin(phi), so phi = +0.358101; row 149 - 100.006
    _, truth = simulate()
    table = truth.lattices[0].reflections
    (row,) = np.flatnonzero((table.hkl == [0, -5, 0]).all(axis=1))
    assert table.angle_deg[row] == pytest.approx(0.358101, abs=1e-6)
    assert table.row[row] == pytest.approx(149 - 100.0059, abs=1e-3)
    assert not (table.hkl == [5, 0, 0]).all(axis=1).any()


def test_orientation_axis_and_ellipse_by_hand():
    # The crystal turned by +90 degrees about z: (5, 0, 0) now lies along +y, and takes the part
    # of (0, 5, 0); an ellipse of ratio 1.21 along x shrinks its row offset by 1.1. With the
    # axis reversed it crosses at the opposite angle.
    turned = Crystal(cubic(), Rotation.from_euler("z", 90, degrees=True).as_matrix())
    geometry = GEOMETRY.with_(axis=(-1, 0, 0), distortion=EllipticalDistortion(1.21, 0))
    _, truth = simulate([turned], geometry=geometry)
    table = truth.lattices[0].reflections
    (row,) = np.flatnonzero((table.hkl == [5, 0, 0]).all(axis=1))
    assert table.angle_deg[row] == pytest.approx(0.358101, abs=1e-6)
    assert table.row[row] == pytest.approx(149 + 100.0059 / 1.1, abs=1e-3)
    assert table.column[row] == pytest.approx(151, abs=1e-6)


def test_counts_are_conserved():
    # every electron of the wholly recorded events of one reflection's neighbourhood and no more
    series, truth = simulate(n_frames=200, angle_start_deg=-10.0)
    table = truth.lattices[0].reflections
    expected = (table.intensity * table.recorded).sum()
    counted = float(series.frames.sum().compute())
    # the events whose crossing lies beyond the ends scatter into the series too, a little
    assert counted == pytest.approx(expected, rel=0.02)


def test_summation_at_the_true_places_gives_the_true_intensities():
    # chabazite's spots stand well apart; no tail, no background: what is summed is Poisson
    series, truth = simulate(
        [Crystal(zeolite("CHA"), random_rotation(1))],
        n_frames=60,
        step_deg=0.3,
        beam=Beam(drift_px=1.5, tail_fraction=0.0, visible=False),
        d_min_A=1.2,
    )
    frames = series.frames.compute().astype(float)
    table = truth.lattices[0].reflections
    table = table[(table.recorded > 0.999) & ~table.grazing & (table.intensity > 50)]
    table = table[np.all([table.row > 6, table.row < 293, table.column > 6, table.column < 293], 0)]
    summed = np.zeros(len(table))
    for i, (frame, row, column, width) in enumerate(
        zip(table.frame, table.row, table.column, table.lorentz, strict=True)
    ):
        half = int(np.ceil(5 * np.rad2deg(2.2e-3 * width) / 0.3))
        first = max(0, round(frame) - half)
        at = np.s_[first : round(frame) + half + 1, round(row) - 5 : round(row) + 6]
        summed[i] = frames[at][:, :, round(column) - 5 : round(column) + 6].sum()
    assert len(table) > 100
    pull2 = (summed - table.intensity) ** 2 / table.intensity
    # medians, as a few boxes hold a part of a neighbour; 0.455 is that of chi-square(1)
    assert np.median(pull2) / 0.455 == pytest.approx(1, abs=0.4)
    assert np.median(summed / table.intensity) == pytest.approx(1, abs=0.01)


def test_the_same_seed_gives_the_same_bits():
    first, second, other = (
        small_mordenite(seed=seed, beam=Beam(drift_px=2), alien_fraction=0.2) for seed in (5, 5, 6)
    )
    frames = first[0].frames.compute()
    np.testing.assert_array_equal(frames, second[0].frames.compute())
    np.testing.assert_array_equal(first[1].beam_centres_px, second[1].beam_centres_px)
    assert np.any(frames != other[0].frames.compute())


def test_blank_and_missing_frames():
    series, truth = small_mordenite(blank_every=5, missing_every=4)
    assert len(series) == 15
    assert series.missing_numbers == (4, 8, 12, 16)  # 20 is beyond the last that exists
    assert series.frame_number[-1] == 19
    np.testing.assert_array_equal(np.flatnonzero(truth.blank) + 1, [4, 8, 12])  # numbers 5 10 15
    np.testing.assert_array_equal(series.frame_number[truth.blank], [5, 10, 15])
    frames = series.frames.compute()
    np.testing.assert_array_equal(frames.max(axis=(1, 2)) == 0, truth.blank)
    np.testing.assert_allclose(series.angle_start_deg, 0.3 * (series.frame_number - 1))
    # frame positions skip the gap: the middle of exposure number 5 is position 3.0
    table = truth.lattices[0].reflections
    at = np.interp(4 * 0.3 + 0.15, np.sort(table.angle_deg), np.sort(table.frame))
    assert at == pytest.approx(3.0, abs=0.1)
    assert table.recorded.min() < 0.5 < table.recorded.max()


def test_headers_tell_what_is_wrong_with_them():
    header = HeaderErrors(axis_deg=6, beam_px=0.7, distance_percent=2, step_percent=-1)
    geometry = GEOMETRY.with_(distortion=EllipticalDistortion(1.03, 20))
    series, truth = small_mordenite(geometry=geometry, header=header)
    told = series.geometry
    np.testing.assert_allclose(
        told.axis, [np.cos(np.deg2rad(6)), np.sin(np.deg2rad(6)), 0], atol=1e-12
    )
    offset = np.subtract(told.beam_centre_px, GEOMETRY.beam_centre_px)
    assert np.hypot(*offset) == pytest.approx(0.7)
    assert told.distance_mm == pytest.approx(448.8)
    assert told.distortion.ratio == 1.0
    assert series.gain is None
    assert truth.geometry == geometry
    np.testing.assert_allclose(truth.angle_width_deg, 0.3)
    np.testing.assert_allclose(series.angle_width_deg, 0.297)
    assert series.angle_start_deg[10] == pytest.approx(2.97)


def test_drift_moves_the_beam_and_the_spots():
    path = drift_path(50, 5.0, [1])
    assert np.all(path[0] == 0)
    assert np.linalg.norm(path, axis=1).max() == pytest.approx(5)
    assert np.linalg.norm(np.diff(path, axis=0), axis=1).max() < 0.5  # smooth
    series, truth = small_mordenite(beam=Beam(drift_px=5), detector=PLAIN)
    frames = series.frames.compute().astype(float)
    seen = np.minimum(frames, 60000) > 2000
    for i in (0, 10, 19):
        rows, columns = np.nonzero(seen[i])
        near = np.hypot(rows - 149, columns - 151) < 12
        centre = rows[near].mean(), columns[near].mean()
        np.testing.assert_allclose(centre, truth.beam_centres_px[i], atol=0.5)


def test_two_lattices_share_the_beam():
    structure, rotation = zeolite("MOR"), random_rotation(3)
    _, alone = simulate([Crystal(structure, rotation)], n_frames=20)
    both = [Crystal(structure, rotation, 0.6), Crystal(structure, random_rotation(4), 0.4)]
    _, truth = simulate(both, n_frames=20)
    assert [lattice.weight for lattice in truth.lattices] == [0.6, 0.4]
    np.testing.assert_allclose(
        truth.lattices[0].reflections.intensity, 0.6 * alone.lattices[0].reflections.intensity
    )


def test_aliens_are_that_part_of_the_points():
    _, plain = small_mordenite()
    series, truth = small_mordenite(alien_fraction=1 / 3)
    n_points = 2 * truth.n_aliens  # a third of all: half as many as the lattice has
    volume = zeolite("MOR").cell.volume
    assert n_points == pytest.approx(4 / 3 * np.pi * volume / 2, rel=0.03)
    assert len(truth.lattices[0].reflections) == len(plain.lattices[0].reflections)
    extra = series.frames.sum() - small_mordenite()[0].frames.sum()
    assert extra.compute() > 1000


def test_leakage_fills_the_absences():
    crystal = Crystal(zeolite("MOR"), random_rotation(3), leakage=0.19)
    _, truth = simulate([crystal], n_frames=100, step_deg=0.6, angle_start_deg=-30, d_min_A=0.9)
    table = truth.lattices[0].reflections
    absent = (table.hkl[:, 1] == 0) & (table.hkl[:, 2] % 2 == 1)
    leaked = table.intensity / table.lorentz
    per_f2 = np.median((leaked / table.f2)[table.f2 > np.quantile(table.f2, 0.95)])
    assert np.all(table.f2[absent] < 1e-9)
    near = np.abs(table.hkl[:, 1]) <= 3
    ratio = leaked[absent].mean() / per_f2 / table.f2[near & ~absent].mean()
    assert 0.05 < ratio < 0.5


def test_illumination_scales_the_spots():
    _, steady = simulate(n_frames=100)
    _, truth = simulate(n_frames=100, beam=Beam(1e9, illumination_change=0.5, visible=False))
    assert truth.illumination[0] == pytest.approx(0.75, abs=1e-3)
    assert truth.illumination[-1] == pytest.approx(1.25, abs=1e-3)
    a, b = steady.lattices[0].reflections, truth.lattices[0].reflections
    np.testing.assert_allclose(
        b.intensity / a.intensity,
        np.interp(a.frame, np.arange(100), truth.illumination),
        rtol=1e-9,
    )


def test_saturated_events_are_marked():
    series, truth = simulate(detector=Detector(wide_cross=False, saturation=1000))
    frames = series.frames.compute()
    assert frames.max() == 1000
    table = truth.lattices[0].reflections
    assert 0 < table.saturated.sum() < len(table)
    assert table.intensity[table.saturated].min() > 1000
    _, unsaturated = simulate()
    assert not unsaturated.lattices[0].reflections.saturated.any()


def test_beam_stop_and_no_crystal():
    stop = BeamStop(149, 151, radius_px=10)
    series, truth = simulate(
        [], beam=Beam(), n_frames=3, detector=Detector(beam_stop=stop), background=None
    )
    frames = series.frames.compute()
    assert truth.lattices == ()
    assert series.mask[149, 151]
    inside = stop.shadow((300, 300))
    inside[144:157], inside[:, 144:157] = False, False  # the cross smears over its six lines
    assert frames[:, inside].max() == 0
    assert frames[:, ~series.mask].mean() > 1


def test_impossible_requests():
    with pytest.raises(ValueError, match="360"):
        simulate(n_frames=400, step_deg=1.0)
    with pytest.raises(ValueError, match="360"):
        simulate(n_frames=0)
    with pytest.raises(ValueError, match="alien_fraction"):
        simulate([], alien_fraction=0.5)
    with pytest.raises(ValueError, match="manieth"):
        simulate(blank_every=1)
    with pytest.raises(ValueError, match="rotation"):
        Crystal(cubic(), -np.eye(3))
    with pytest.raises(ValueError, match="gain"):
        Detector(gain=0)
