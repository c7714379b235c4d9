from collections import Counter
from itertools import islice

import numpy as np
import pytest

from ewaldflow.lib.errors import UserError
from ewaldflow.lib.simulation.session import (
    LEAVES_AFTER_DEG,
    session_plan,
    similar_session,
    simulate_plan,
    simulated_session,
)
from ewaldflow.lib.simulation.structures import (
    caesium_mordenite,
    structure_factors,
    structure_factors_at,
    zeolite,
)


def test_a_session_of_forty():
    plans = session_plan(1)
    kinds = Counter(plan.kind for plan in plans)
    assert kinds == {"good": 32, "two crystals": 3, "no crystal": 3, "moved out": 2}
    assert Counter(plan.phase for plan in plans) == {"MFI": 16, "MOR": 16, "": 8}
    assert len({plan.name for plan in plans}) == len({plan.seed for plan in plans}) == 40
    ranges = np.array([plan.range_deg for plan in plans])
    assert 5 <= ranges.min() < 7
    assert 45 < ranges.max() <= 61
    for plan in plans:
        assert abs(plan.angle_start_deg) <= 65
        assert plan.angle_start_deg + plan.range_deg <= 66
        assert sum(plan.shares) == pytest.approx(1 if plan.phases else 0)
    assert (
        max(p.distance_error_percent for p in plans) - min(p.distance_error_percent for p in plans)
        < 2
    )  # one camera length, heights that differ a little


def test_the_same_seed_gives_the_same_counts():
    first, again = (next(iter(simulated_session(3, 2, ranges_deg=(3, 3)))) for _ in range(2))
    assert first.plan == again.plan
    np.testing.assert_array_equal(first.series.frames.compute(), again.series.frames.compute())
    assert first.plan != session_plan(4, 2, ranges_deg=(3, 3))[0]


def test_a_crystal_that_moves_out_takes_its_spots_along():
    plan = next(p for p in session_plan(1, 15, ranges_deg=(5, 5)) if p.kind == "moved out")
    made = simulate_plan(plan)
    angle = plan.step_deg * np.arange(plan.n_frames)
    there = made.truth.illumination > 0
    np.testing.assert_array_equal(there, angle < LEAVES_AFTER_DEG)
    frames = made.series.frames.compute()
    peak = np.sort(frames[:, 30:200, 30:200].reshape(len(frames), -1), axis=1)[:, -20]
    seen = ~made.truth.blank
    assert np.median(peak[seen & there]) > 2 * np.median(peak[seen & ~there])


def test_truth_and_plan_agree():
    for one in islice(simulated_session(2, 6, junk=0.5, ranges_deg=(3, 3)), 6):
        assert [lattice.name for lattice in one.truth.lattices] == list(one.plan.phases)
        assert len(one.series) == one.plan.n_frames
        assert one.series.name == one.plan.name


def test_the_similar_phase_is_similar_in_its_cell_and_not_in_its_intensities():
    assert {p.phase for p in similar_session(1)} == {"MFI", "MOR", "Cs-MOR", ""}
    plain, loaded = zeolite("MOR"), caesium_mordenite()
    ratio = np.array(loaded.cell.parameters) / plain.cell.parameters
    assert np.abs(ratio - 1).max() < 0.006
    # two sites of multiplicity 4 each
    caesium = [s for s in loaded.get_all_unit_cell_sites() if s.type_symbol == "Cs"]
    assert len(caesium) == 8
    hkl, f = structure_factors(plain, 1.0)
    f2, other = np.abs(f) ** 2, np.abs(structure_factors_at(loaded, hkl)) ** 2
    assert 0.6 < np.corrcoef(f2, other)[0, 1] < 0.9


@pytest.mark.parametrize(
    "arguments",
    [{"phases": ("FAU",)}, {"n": 0}, {"junk": 1.5}, {"ranges_deg": (10, 5)}, {"phases": ()}],
)
def test_nonsense_is_refused(arguments):
    with pytest.raises(UserError):
        session_plan(1, **arguments)
