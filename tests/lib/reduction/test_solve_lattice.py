"""From spots to a lattice with its symmetry."""

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from ewaldflow.lib.crystal.cell import cell_from_real_basis
from ewaldflow.lib.crystal.niggli import niggli_reduce
from ewaldflow.lib.reduction.config import ReductionConfig
from ewaldflow.lib.reduction.find_lattices import find_lattices, strongest
from ewaldflow.lib.reduction.indexing import BasisSearch
from ewaldflow.lib.reduction.refinement import TRICLINIC_STRAINS
from ewaldflow.lib.reduction.solve_lattice import (
    assign_indices,
    choose_symmetry,
    refine_in_stages,
    search_lattice,
    significant,
)
from ewaldflow.lib.reduction.spot_finding import Spots

CELL = (9.0, 11.0, 14.0, 85.0, 97.0, 102.0)
FREE = ("orientation", "strain", "centre", "axis")


def together(*some):
    return Spots(
        **{f.name: np.concatenate([getattr(s, f.name) for s in some]) for f in fields(Spots)}
    )


def niggli_cell(model):
    return np.array(cell_from_real_basis(niggli_reduce(np.linalg.inv(model.orientation).T)[0]))


@pytest.fixture(scope="module")
def aliens(place_spots):
    def scattered(n, n_frames, seed=0):
        rng = np.random.default_rng([seed, 3])
        return place_spots(*rng.uniform(0, [[515], [515], [n_frames - 1]], (3, n)))

    return scattered


def blank(model):
    """The model that knows nothing of the crystal."""
    return replace(model, orientation=np.eye(3) * 0.1)


@settings(deadline=None, max_examples=8, derandomize=True)
@given(
    st.tuples(*[st.floats(8, 25)] * 3, *[st.floats(75, 105)] * 3),
    st.integers(0, 2**32 - 1),
)
def test_a_lattice_is_found_in_ten_degrees_with_30_percent_aliens(
    make_model, make_spots, aliens, cell, seed
):
    truth = make_model(cell, seed=seed, n_frames=20)
    spots, _ = make_spots(truth, kept=1.0, noise_px=0.2, noise_frames=0.1, seed=seed)
    spots = spots[np.random.default_rng(seed).permutation(len(spots))[:400]]
    offered = together(spots, aliens(round(len(spots) * 3 / 7), 20, seed))
    solution = search_lattice(blank(truth), offered, BasisSearch())
    assert solution is not None
    assert significant(solution)
    found, wanted = niggli_cell(solution.model), niggli_cell(truth)
    assert_allclose(found[:3], wanted[:3], rtol=0.01)
    assert solution.indexed[: len(spots)].mean() > 0.97
    assert solution.fraction == pytest.approx(solution.indexed.mean())


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_spots_in_chaos_are_on_no_lattice(make_model, aliens, seed):
    model = blank(make_model(CELL))
    found = find_lattices(model, aliens(400, 60, seed), ReductionConfig(), [], lambda *_: None)
    assert found == []


def test_few_spots_are_no_lattice(make_model, make_spots):
    truth = make_model(CELL)
    spots, _ = make_spots(truth)
    found = find_lattices(blank(truth), spots[:11], ReductionConfig(), [], lambda *_: None)
    assert found == []


def test_indices_are_those_of_the_spots(make_model, make_spots):
    truth = make_model(CELL)
    spots, p = make_spots(truth)
    hkl, deviation, length = assign_indices(truth, spots)
    assert (hkl == p.hkl).all()
    assert deviation.max() < 1e-6
    assert_allclose(length, p.length)


@pytest.mark.parametrize("axis_deg", [0.0, 6.0])
def test_staged_refinement_finds_its_way_from_low_resolution(make_model, make_spots, axis_deg):
    # the indices of the outer spots are wrong at the start
    truth = make_model((18.0, 22.0, 28.0, 85.0, 97.0, 102.0))
    spots, p = make_spots(truth, kept=0.1, noise_px=0.1, noise_frames=0.05)
    turn = np.deg2rad(axis_deg)
    x, y, z = truth.geometry.axis
    axis = (x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn), z)
    start = replace(
        truth,
        orientation=truth.orientation * [[1.025], [0.98], [1.02]],
        geometry=truth.geometry.with_(axis=axis),
    )
    assert np.mean((assign_indices(start, spots)[0] == p.hkl).all(axis=1)) < 0.9
    solution = refine_in_stages(start, spots, FREE, TRICLINIC_STRAINS, priors={"axis": 0.1})
    assert np.mean((solution.hkl == p.hkl).all(axis=1)) > 0.99
    assert_allclose(solution.model.cell, truth.cell, rtol=5e-3)
    assert np.dot(solution.model.geometry.axis, truth.geometry.axis) > np.cos(np.deg2rad(0.5))


def solved(truth, spots):
    """As the engine does it, from the true geometry."""
    return search_lattice(blank(truth), spots, BasisSearch())


def crystal(make_model, make_spots, bravais, cell, **changes):
    truth = make_model(cell, n_frames=80, **changes)
    spots, _ = make_spots(truth, bravais, 0.8, kept=0.4, noise_px=0.15, noise_frames=0.05)
    return truth, strongest(spots, 1000)


@pytest.mark.parametrize(
    ("bravais", "cell"),
    [
        ("aP", CELL),
        ("mP", (9.0, 11.0, 14.0, 90, 97, 90)),
        ("mC", (19.0, 8.0, 11.0, 90, 106, 90)),
        ("oP", (9.0, 11.0, 14.0, 90, 90, 90)),
        ("oC", (18.1, 20.5, 7.5, 90, 90, 90)),
        ("tI", (12.0, 12.0, 9.0, 90, 90, 90)),
        ("hP", (11.0, 11.0, 8.0, 90, 90, 120)),
        ("hR", (13.7, 13.7, 14.8, 90, 90, 120)),
        ("cF", (16.0, 16.0, 16.0, 90, 90, 90)),
    ],
)
def test_the_symmetry_of_exact_lattices(make_model, make_spots, bravais, cell):
    truth, spots = crystal(make_model, make_spots, bravais, cell)
    chosen = choose_symmetry(solved(truth, spots), spots)
    assert chosen.bravais == bravais
    if bravais != "aP":
        assert_allclose(chosen.solution.model.cell, cell, rtol=3e-3)
    assert chosen.solution.fraction > 0.98
    assert chosen.notes[-1].endswith("accepted")


@pytest.mark.parametrize(("b", "bravais"), [(11.0, "tP"), (11.002, "tP"), (11.3, "oP")])
def test_pseudo_symmetry_of_the_metric(make_model, make_spots, b, bravais):
    # 0.02 % is less than the positions can tell; 3 % is not
    truth, spots = crystal(make_model, make_spots, "oP", (11.0, b, 14.0, 90, 90, 90))
    chosen = choose_symmetry(solved(truth, spots), spots)
    assert chosen.bravais == bravais
    if bravais == "oP":
        assert any(n.startswith("tP") and n.endswith("rejected") for n in chosen.notes)
        assert_allclose(sorted(chosen.solution.model.cell[:3]), (11.0, b, 14.0), rtol=3e-3)


def test_candidates_can_be_ruled_out(make_model, make_spots):
    truth, spots = crystal(make_model, make_spots, "tP", (11.0, 11.0, 14.0, 90, 90, 90))
    chosen = choose_symmetry(
        solved(truth, spots), spots, allowed=lambda c, a: c.bravais[0] not in "t"
    )
    assert chosen.bravais in ("oP", "oC")
    with pytest.raises(ValueError, match="no lattice candidate"):
        choose_symmetry(solved(truth, spots), spots, allowed=lambda c, a: False)


def test_two_lattices_are_found_apart(make_model, make_spots):
    one = make_model((9.0, 11.0, 14.0, 90, 90, 90), seed=1)
    two = make_model((9.0, 11.0, 14.0, 90, 90, 90), seed=2)
    spots, _ = make_spots(one, "oP", kept=0.5, noise_px=0.15, noise_frames=0.05)
    more, _ = make_spots(two, "oP", kept=0.3, noise_px=0.15, noise_frames=0.05, seed=1)
    found = find_lattices(blank(one), together(spots, more), ReductionConfig(), [], lambda *_: None)
    assert [chosen.bravais for chosen, _ in found] == ["oP", "oP"]
    assert len(found[0][1]) == len(spots) + len(more)
    assert len(found[1][1]) < 1.1 * len(more)
    for (chosen, _), truth in zip(found, (one, two), strict=True):
        change = np.linalg.solve(truth.orientation, chosen.solution.model.orientation)
        assert_allclose(np.abs(change), np.abs(np.round(change)), atol=0.02)
        assert abs(np.linalg.det(change)) == pytest.approx(1, abs=0.01)


def test_a_reversed_axis_is_found_out_and_noted(make_model, make_spots):
    truth = make_model((9.0, 11.0, 14.0, 90, 97, 90), n_frames=80)
    spots, _ = make_spots(truth, "mP", kept=0.5, noise_px=0.15, noise_frames=0.05)
    wrong = truth.geometry.with_(axis=tuple(-np.array(truth.geometry.axis)))
    model = blank(replace(truth, geometry=wrong))
    notes = []
    found = find_lattices(model, spots, ReductionConfig(), notes, lambda *_: None)
    assert any("opposite sense" in note for note in notes)
    assert np.dot(found[0][0].solution.model.geometry.axis, truth.geometry.axis) > 0.999
    assert found[0][0].bravais == "mP"
    # the right axis is left alone
    notes = []
    find_lattices(blank(truth), spots, ReductionConfig(), notes, lambda *_: None)
    assert not any("opposite sense" in note for note in notes)


def test_a_known_cell_gives_its_setting_or_a_note(make_model, make_spots):
    truth = make_model((9.0, 11.0, 14.0, 90, 90, 90))
    spots, _ = make_spots(truth, "oP", kept=0.5, noise_px=0.15, noise_frames=0.05)
    for cell, said in (
        ((14.0, 9.0, 11.0, 90, 90, 90), "it matches the known cell"),
        ((20.0, 20.0, 20.0, 90, 90, 90), "it does not match the known cell"),
    ):
        notes = []
        found = find_lattices(
            blank(truth), spots, ReductionConfig(cell=cell), notes, lambda *_: None
        )
        assert any(said in note for note in notes)
        wanted = cell if "matches" in said else (9.0, 11.0, 14.0, 90, 90, 90)
        assert_allclose(found[0][0].solution.model.cell, wanted, rtol=5e-3)
