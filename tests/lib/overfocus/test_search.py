"""The published search on scans of known truth."""

from __future__ import annotations

import numpy as np
import pytest
from distributed import Client, LocalCluster

from ewaldflow.lib.errors import UserError
from ewaldflow.lib.overfocus.parameters import OverfocusParameters
from ewaldflow.lib.overfocus.search import (
    Evaluation,
    make_loss,
    mapped,
    search,
    search_many,
    spread_starts,
)
from ewaldflow.lib.stem4d.scan import Scan4D
from ewaldflow.lib.stem4d.simulate import simulate_scan

TRUTH = OverfocusParameters(
    overfocus_m=2e-5,
    scan_pixel_size_m=4.4e-9,
    camera_length_m=1.5,
    detector_pixel_size_m=55e-6,
    cy=63.5,
    cx=63.5,
    scan_rotation_deg=37.3,
)


@pytest.fixture(scope="module")
def scan() -> Scan4D:
    return simulate_scan(TRUTH, (24, 24), (128, 128), disc_radius_px=50.0, seed=3)


def off(turn_deg: float, factor: float) -> OverfocusParameters:
    return TRUTH.with_(
        scan_rotation_deg=TRUTH.scan_rotation_deg + turn_deg,
        overfocus_m=TRUTH.overfocus_m * factor,
    )


def test_the_mapping_by_hand() -> None:
    end = mapped(TRUTH, (10.0, -10.0))
    assert end.scan_rotation_deg == pytest.approx(47.3)
    assert end.overfocus_m == pytest.approx(1.5e-5)
    assert mapped(TRUTH, (0.0, 0.0)) == TRUTH


@pytest.mark.parametrize(("turn", "factor"), [(4.0, 1.1), (-7.0, 0.85), (9.0, 1.2)])
def test_it_finds_the_truth_from_starts_within_its_range(
    scan: Scan4D, turn: float, factor: float
) -> None:
    found = search(scan, off(turn, factor))
    # the blur's minimum is that far off in so small a scan: at 1 degree its edge moves 0.5 px
    assert abs(found.parameters.scan_rotation_deg - TRUTH.scan_rotation_deg) < 1.0
    assert found.parameters.overfocus_m == pytest.approx(TRUTH.overfocus_m, rel=0.03)
    assert not found.at_bound
    assert found.loss == pytest.approx(found.path[:, 2].min())


def test_it_never_ends_outside_what_was_searched(scan: Scan4D) -> None:
    found = search(scan, off(0.0, 2.0))  # the truth is beyond the bounds
    assert abs(found.parameters.overfocus_m / found.start.overfocus_m - 1) <= 0.2501
    assert found.at_bound


def test_every_evaluation_is_told_with_its_image(scan: Scan4D) -> None:
    told: list[Evaluation] = []
    found = search(scan, off(2.0, 1.05), told.append)
    assert [one.number for one in told] == list(range(1, len(found.path) + 1))
    np.testing.assert_array_equal([one.loss for one in told], found.path[:, 2])
    best = min(told, key=lambda one: one.loss)
    np.testing.assert_array_equal(found.image, best.image)
    loss = make_loss(scan, off(2.0, 1.05))
    assert loss((0.0, 0.0)) == told[0].loss


def test_starts_cover_rotations_scales_and_flips() -> None:
    starts = spread_starts(TRUTH, rotations_deg=(0, 120, 240), overfocus_factors=(0.5, 1.0))
    assert len(starts) == 12
    assert len({(s.scan_rotation_deg, s.overfocus_m, s.flip_y) for s in starts}) == 12
    assert starts[0] == TRUTH.with_(overfocus_m=1e-5)


def test_many_starts_on_threads_and_on_a_cluster(scan: Scan4D) -> None:
    starts = spread_starts(off(-3.0, 1.0), rotations_deg=(0.0, 30.0), both_flips=True)
    told: list[tuple[int, Evaluation]] = []
    local = search_many(scan, starts, tell=lambda number, one: told.append((number, one)))
    assert [one.loss for one in local] == sorted(one.loss for one in local)
    best = local[0].parameters
    assert not best.flip_y
    assert abs(best.scan_rotation_deg - TRUTH.scan_rotation_deg) < 0.5
    assert {number for number, _ in told} == {0, 1, 2, 3}
    live: list[tuple[int, Evaluation]] = []
    with (
        LocalCluster(
            n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None
        ) as cluster,
        Client(cluster) as client,
    ):
        there = search_many(
            scan, starts, client, tell=lambda number, one: live.append((number, one))
        )
    assert [one.loss for one in there] == [one.loss for one in local]
    assert live
    assert live[0][1].image.shape == scan.scan_shape


def test_an_implausible_start_is_refused(scan: Scan4D) -> None:
    with pytest.raises(UserError, match="overfocus_m"):
        search(scan, TRUTH.with_(overfocus_m=20e-3))
    with pytest.raises(UserError, match="scan_pixel_size_m"):
        search_many(scan, [TRUTH, TRUTH.with_(scan_pixel_size_m=float("nan"))])
