"""The engine from frames to intensities, on small simulated series and on bad input."""

from dataclasses import fields, replace

import dask.array as da
import gemmi
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from ewaldflow.lib.errors import UserError
from ewaldflow.lib.reduction.config import ReductionConfig
from ewaldflow.lib.reduction.engine import reduce_series
from ewaldflow.lib.reduction.first_pass import find_spots, select_spots, starting_model
from ewaldflow.lib.reduction.result import Flag
from ewaldflow.lib.reduction.survey import survey
from ewaldflow.lib.simulation import (
    Beam,
    Crystal,
    Detector,
    HeaderErrors,
    default_geometry,
    judge,
    random_rotation,
    simulate_series,
    zeolite,
)

# half the camera length on a quarter of the detector; the beam beside the cross
GEOMETRY = default_geometry(1.005).with_(distance_mm=226.0, beam_centre_px=(118.4, 114.7))
# at which the direct beam's halo is as far from the centre as on the whole detector
CONFIG = ReductionConfig(d_max_A=10.0)


def simulated(structures=("CHA",), *, seed=1, n_frames=60, step_deg=0.5, shares=(1.0, 1.0), **more):
    crystals = [
        Crystal(
            zeolite(s) if isinstance(s, str) else s, random_rotation([seed, i]), weight=shares[i]
        )
        for i, s in enumerate(structures)
    ]
    usual = {
        "geometry": GEOMETRY,
        "angle_start_deg": -n_frames * step_deg / 2,
        "shape": (256, 256),
        "beam": Beam(drift_px=0.8, fwhm_px=2.0, tail_px=2.5),
        "detector": Detector(),
        "header": HeaderErrors(axis_deg=0.3, beam_px=0.7),
    }
    return simulate_series(
        crystals, n_frames=n_frames, step_deg=step_deg, seed=seed, **{**usual, **more}
    )


@pytest.fixture(scope="module")
def chabazite():
    return simulated(blank_every=15)


@pytest.fixture(scope="module")
def reduced(chabazite):
    return reduce_series(chabazite[0], CONFIG)


def with_frames(series, change):
    """The series with its frames changed by a function of (frames, rows, columns)."""
    frames = change(series.frames.compute().copy())
    return series.with_(frames=da.from_array(frames, chunks=(16, -1, -1)))


def assert_same(a, b):
    """Equal to the last bit, field by field."""
    for f in fields(a):
        assert_array_equal(getattr(a, f.name), getattr(b, f.name), strict=True)


# --- end to end


def test_a_small_series_comes_out_right(chabazite, reduced):
    figures = judge(reduced, chabazite[1])
    assert figures["found"] == 1
    assert figures["lattices_claimed"] == 1
    assert reduced.lattices[0].bravais == "hR"
    assert figures["cell_edge_error_percent"] < 0.5
    assert figures["cell_angle_error_deg"] < 0.01
    assert figures["orientation_error_deg"] < 0.07
    assert figures["cc_f2"] > 0.99
    assert 0.8 < figures["chi2_equivalents"] < 1.3
    assert figures["saturated_missed"] == 0
    assert figures["indexed_fraction"] > 0.98
    assert figures["n_used"] > 700


def test_what_the_result_says_of_itself(chabazite, reduced):
    series, truth = chabazite
    lattice, frames, said = reduced.lattices[0], reduced.frames, reduced.statistics
    assert said["rotations_seen"] == said["rotations_tried"] == 5
    assert said["cc_half"] > 0.99
    assert 0.8 < said["chi_square"] < 1.3
    assert said["spots"] == frames.n_spots.sum() == lattice.n_spots
    assert frames.n_indexed.sum() == lattice.n_indexed
    spots = reduced.spots
    assert len(spots) == lattice.n_spots
    assert np.sum(spots.lattice == 1) == lattice.n_indexed
    assert np.all(spots.significance > 0)
    at = np.clip(np.rint(spots.frame).astype(int), 0, len(series) - 1)
    assert_array_equal(np.bincount(at, minlength=len(series)), frames.n_spots)
    assert set(reduced.seconds) == {"survey", "find spots", "index", "integrate", "statistics"}
    assert reduced.verdict.startswith("hR 13.")
    assert_array_equal(frames.frame_number, series.frame_number)
    assert_allclose(frames.angle_deg, truth.angle_mid_deg, atol=0.2)
    shown = ~truth.blank
    assert np.abs(frames.beam_row - truth.beam_centres_px[:, 0])[shown].max() < 0.7
    assert np.abs(frames.beam_column - truth.beam_centres_px[:, 1])[shown].max() < 0.7
    assert reduced.gain == pytest.approx(1, rel=0.05)
    # 0.1 degrees of mosaic spread and 230 Å of thickness
    r = lattice.reflections
    sigma = np.hypot(lattice.size_per_A, np.deg2rad(lattice.mosaicity_deg) / r.d_A)
    true = np.hypot(0.376 / 230, np.deg2rad(0.1) / r.d_A)
    assert_allclose(np.median(sigma / true), 1, atol=0.25)
    assert all(value > 0 for value in lattice.cell_esd[:3:2])


def test_blank_frames_are_noted_and_left_out(chabazite, reduced):
    _, truth = chabazite
    assert_array_equal(reduced.frames.blank, truth.blank)
    assert truth.blank.sum() == 4
    assert "4 of 60 frames are blank and were left out" in reduced.notes
    assert (reduced.frames.n_spots[truth.blank] <= reduced.frames.n_spots.max()).all()


def test_a_repeat_is_the_same_to_the_bit(chabazite, reduced):
    again = reduce_series(chabazite[0], CONFIG)
    assert again.statistics == reduced.statistics
    assert again.notes == reduced.notes
    assert_same(again.frames, reduced.frames)
    for one, other in zip(again.lattices, reduced.lattices, strict=True):
        assert_array_equal(one.orientation, other.orientation)
        assert_same(one.reflections, other.reflections)


def test_chunks_do_not_matter(chabazite, reduced):
    series = chabazite[0]
    whole = series.with_(frames=series.frames.rechunk((60, -1, -1)))
    again = reduce_series(whole, CONFIG)
    assert_same(again.lattices[0].reflections, reduced.lattices[0].reflections)


def test_a_detector_that_counts_sixteen_per_electron(chabazite, reduced):
    series = with_frames(
        chabazite[0].with_(saturation=16 * chabazite[0].saturation), lambda f: f.astype("u4") * 16
    )
    found = reduce_series(series, CONFIG)
    assert found.gain == pytest.approx(16 * reduced.gain)
    r, other = found.lattices[0].reflections, reduced.lattices[0].reflections
    assert_same(r, other)


def test_a_negative_rotation_step():
    # the same frames in the opposite order, their angles falling
    series, truth = simulated(seed=2)
    back = series.with_(
        frames=series.frames[::-1],
        angle_start_deg=(series.angle_start_deg + series.angle_width_deg)[::-1],
        angle_width_deg=-series.angle_width_deg,
    )
    reversed_truth = replace(
        truth,
        angle_start_deg=(truth.angle_start_deg + truth.angle_width_deg)[::-1],
        angle_width_deg=-truth.angle_width_deg,
        beam_centres_px=truth.beam_centres_px[::-1],
        blank=truth.blank[::-1],
    )
    found = reduce_series(back, CONFIG)
    assert not any("opposite sense" in note for note in found.notes)
    assert (np.diff(found.frames.angle_deg) < 0).all()
    lattice = found.lattices[0]
    assert lattice.bravais == "hR"
    plain = judge(found, reversed_truth)
    assert plain["cell_edge_error_percent"] < 0.5
    assert plain["orientation_error_deg"] < 0.07
    forward = reduce_series(series, CONFIG)
    assert_allclose(lattice.cell, forward.lattices[0].cell, rtol=1e-3)
    # the passages of each reflection fall on the same frames, counted from the other end
    assert_allclose(found.frames.n_spots[::-1], forward.frames.n_spots, atol=3)


def test_a_reversed_axis_is_found_out_and_noted():
    series, truth = simulated(seed=3)
    wrong = series.geometry.with_(axis=tuple(-np.array(series.geometry.axis)))
    found = reduce_series(series.with_(geometry=wrong), CONFIG)
    assert any("opposite sense" in note for note in found.notes)
    assert judge(found, truth)["cc_f2"] > 0.99
    assert np.dot(found.lattices[0].geometry.axis, truth.geometry.axis) > 0.999


def test_a_gap_in_the_numbering():
    series, truth = simulated(seed=2, missing_every=9)
    found = reduce_series(series, CONFIG)
    figures = judge(found, truth)
    assert figures["cell_edge_error_percent"] < 0.5
    assert figures["cc_f2"] > 0.99
    assert found.frames.angle_deg[8] - found.frames.angle_deg[7] == pytest.approx(1.0, abs=0.05)


def orthorhombic(a, b, c):
    """Ten carbon atoms at random in P222, so that only the metric may be higher."""
    structure = gemmi.SmallStructure()
    structure.name = "mmm"
    structure.cell = gemmi.UnitCell(a, b, c, 90, 90, 90)
    structure.spacegroup_hm = "P 2 2 2"
    structure.determine_and_set_spacegroup("1")
    for i, position in enumerate(np.random.default_rng(5).random((10, 3))):
        site = gemmi.SmallStructure.Site()
        site.label, site.type_symbol = f"C{i}", "C"
        site.element = gemmi.Element("C")
        site.fract = gemmi.Fractional(*position)
        site.occ, site.u_iso = 1.0, 0.01
        structure.add_site(site)
    return structure


def test_intensities_overrule_a_metric_that_is_too_symmetric():
    series, truth = simulated((orthorhombic(11.0, 11.01, 14.0),), seed=4, n_frames=80, step_deg=1.0)
    found = reduce_series(series, CONFIG)
    assert found.lattices[0].bravais == "oP"
    assert any("the metric allows tP, but the intensities contradict" in n for n in found.notes)
    figures = judge(found, truth)
    assert figures["found"] == 1
    assert figures["cc_f2"] > 0.98
    assert found.statistics["rotations_seen"] == 3


def test_two_lattices_are_integrated_apart():
    series, truth = simulated(("CHA", "CHA"), seed=5, shares=(0.6, 0.4), n_frames=80)
    found = reduce_series(series, CONFIG)
    assert len(found.lattices) == 2
    for i in (0, 1):
        figures = judge(found, truth, i)
        assert figures["found"] == 1
        assert figures["lattices_false"] == 0
        assert figures["cc_f2"] > 0.98
    overlap = [lattice.reflections.has(Flag.OVERLAP).mean() for lattice in found.lattices]
    assert min(overlap) > 0.02
    assert found.lattices[0].n_indexed > found.lattices[1].n_indexed


def test_saturated_frames_are_flagged():
    series, truth = simulated(seed=6, detector=Detector(saturation=1000.0))
    found = reduce_series(series.with_(saturation=None), CONFIG)
    assert any("saturation at 1000 counts: the frames' common ceiling" in n for n in found.notes)
    figures = judge(found, truth)
    assert figures["n_saturated"] > 10
    assert figures["saturated_missed"] <= 0.02 * figures["n_saturated"]
    assert figures["cc_f2"] > 0.98


@pytest.mark.parametrize("gain", [0.9501, 1.04, 2.08])
def test_no_rounding_hides_a_saturated_pixel(gain):
    series, truth = simulated(seed=6, detector=Detector(saturation=1009.0))
    found = reduce_series(series.with_(gain=gain, saturation=1009.0), CONFIG)
    figures = judge(found, truth)
    assert figures["n_saturated"] > 10
    assert figures["saturated_missed"] == 0


# --- bad input


def one_line(error):
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("n", [1, 3])
def test_too_few_frames(chabazite, n):
    with pytest.raises(UserError) as error:
        reduce_series(chabazite[0].select(slice(0, n)), CONFIG)
    assert f"found {n} frames, expected at least 4" in one_line(error)


@pytest.mark.parametrize("value", [0, 100])
def test_frames_without_a_signal(chabazite, value):
    flat = with_frames(chabazite[0], lambda f: np.full_like(f, value)).with_(pedestal=float(value))
    with pytest.raises(UserError) as error:
        reduce_series(flat, CONFIG)
    assert "found no frame with a signal" in one_line(error)


def test_noise_alone_is_no_lattice(chabazite):
    rng = np.random.default_rng(1)
    series = with_frames(chabazite[0], lambda f: rng.poisson(3.0, f.shape).astype(np.uint16))
    found = reduce_series(series, CONFIG)
    assert found.lattices == ()
    assert found.verdict.startswith("no lattice: ")
    assert len(found.frames.frame_number) == 60
    assert not found.frames.blank.any()
    assert found.statistics["lattices"] == 0
    assert any("direct beam hidden" in note for note in found.notes)


def test_frames_saturated_all_over_show_no_lattice(chabazite):
    found = reduce_series(with_frames(chabazite[0], lambda f: np.full_like(f, 11810)), CONFIG)
    assert found.lattices == ()
    assert found.verdict.startswith("no lattice: 0 spots")
    assert any("direct beam not seen on any frame" in note for note in found.notes)


def test_progress_is_told(chabazite):
    steps = []
    reduce_series(chabazite[0], CONFIG, lambda step, done: steps.append((step, done)))
    assert steps[0][0] == "find spots"
    assert steps[-1] == ("done", 1.0)
    assert all(0 <= done <= 1 for _, done in steps)


def test_the_halo_and_weak_spots_are_not_offered(chabazite):
    series = chabazite[0]
    seen = survey(series)
    found = find_spots(series, seen, CONFIG, lambda *_: None)
    model = starting_model(series, found.track)
    spots = select_spots(found.spots, model, CONFIG)
    assert len(spots) < len(found.spots)
    r = np.linalg.norm(model.to_reciprocal(spots.row, spots.column, spots.frame), axis=1)
    assert r.min() > 0.1
    assert (spots.intensity / spots.sigma).min() > CONFIG.min_spot_significance
    assert model.angle_step_deg == pytest.approx(0.5)
