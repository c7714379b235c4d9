"""The one call, and what it makes of bad input."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from ewaldflow.lib.errors import UserError
from ewaldflow.lib.orientation.centroid_fit import centroids_from
from ewaldflow.lib.orientation.observations import FrameIntensities, OrientationData
from ewaldflow.lib.orientation.refine import refine_orientations
from ewaldflow.lib.orientation.trust import flags


@pytest.fixture(scope="module")
def made(series: Any) -> tuple[OrientationData, Any]:
    found: tuple[OrientationData, Any] = series(jitter_deg=(0.02, 0.02), range_deg=14)
    return found


def error_deg(centre: np.ndarray, truth: Any) -> np.ndarray:
    e = centre / np.linalg.norm(centre, axis=1, keepdims=True)
    return np.rad2deg(np.linalg.norm(e - truth.direction, axis=1))


def rows(data: OrientationData, keep: np.ndarray) -> FrameIntensities:
    return FrameIntensities(*(column[keep] for column in vars(data.intensities).values()))


def test_whole_orientations(made: Any) -> None:
    data, truth = made
    found = refine_orientations(data)
    assert found.method == "stage B"
    assert error_deg(found.centre, truth).mean() < 0.012
    assert np.linalg.norm(found.centre, axis=1) == pytest.approx(1 / data.geometry.wavelength_A)
    off = Rotation.from_matrix(found.rotation @ np.swapaxes(truth.rotation, 1, 2)).magnitude()
    assert np.rad2deg(off).mean() < 0.03
    assert found.rotation @ np.swapaxes(found.rotation, 1, 2) == pytest.approx(
        np.broadcast_to(np.eye(3), (data.n_frames, 3, 3))
    )
    # e is the beam, turned into the crystal
    e = -np.swapaxes(found.rotation, 1, 2) @ [0, 0, 1 / data.geometry.wavelength_A]
    assert e == pytest.approx(found.centre)
    assert found.rotation_scale == pytest.approx(1, abs=0.002)
    assert set(found.flag) == {""}
    assert found.notes == ()
    assert found.figures["jitter_along_deg"] == pytest.approx(0.02, rel=0.4)
    assert refine_orientations(data).figures == found.figures


def test_without_a_start_it_ends_at_the_same_place(made: Any, off: Any) -> None:
    data, _ = made
    near = refine_orientations(data)
    for other in (replace(data, orientation=None), off(data, 10, 5)):
        far = refine_orientations(other)
        assert far.centre == pytest.approx(near.centre, abs=40 * np.deg2rad(1e-4))


def test_centroids_alone_end_with_stage_a(made: Any) -> None:
    data, truth = made
    centroids, _ = centroids_from(data.intensities, data.used)
    found = refine_orientations(replace(data, intensities=None, centroids=centroids))
    assert found.method == "stage A"
    # the smooth rotation is known; the jitter is not, and not made up
    assert error_deg(found.centre, truth).mean() < 0.04
    assert (found.small_deg == 0).all()
    assert np.isnan(found.small_unshrunk_deg).all()
    assert any("how single frames deviate is not known" in note for note in found.notes)


def refusal(data: OrientationData) -> str:
    with pytest.raises(UserError) as caught:
        refine_orientations(data)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_angles_the_wrong_way_round(made: Any) -> None:
    data, _ = made
    assert "turns against them" in refusal(replace(data, angle_deg=-data.angle_deg))
    back = replace(data, angle_deg=-data.angle_deg, orientation=None)
    assert "turns against them" in refusal(back)


def test_few_frames_and_stills(made: Any) -> None:
    data, _ = made
    three = replace(data, used=np.arange(data.n_frames) < 3)
    assert "found 3 to use, expected 5" in refusal(three)
    assert "a still has no rocking curves" in refusal(replace(data, angle_deg=0 * data.angle_deg))


def test_frames_out_of_order(made: Any) -> None:
    data, _ = made
    order = np.random.default_rng(0).permutation(data.n_frames)
    assert "steps against the others" in refusal(replace(data, angle_deg=data.angle_deg[order]))
    shuffled = replace(data.intensities, frame=order[data.intensities.frame])
    assert "in order" in refusal(replace(data, intensities=shuffled))


def test_wrong_wavelength_setting_and_hand(made: Any, series: Any) -> None:
    data, _ = made
    at_300_kV = replace(data, geometry=data.geometry.with_(wavelength_A=0.0197))
    assert "check the cell, the wavelength" in refusal(at_300_kV)
    mirrored = replace(data.intensities, hkl=data.intensities.hkl * np.array([1, 1, -1], np.int32))
    assert "elsewhere than the indices say" in refusal(
        replace(data, orientation=None, intensities=mirrored)
    )
    low, _ = series(cell=(7.0, 9.0, 14.0, 90.0, 100.0, 90.0), range_deg=14)
    other = replace(low.intensities, hkl=low.intensities.hkl[:, [2, 0, 1]])
    assert "of one setting" in refusal(replace(low, intensities=other))
    swapped = replace(low, orientation=low.orientation[:, [2, 0, 1]])
    assert "U stretching" in refusal(swapped)


def test_a_wrong_cell_is_noted(made: Any) -> None:
    data, _ = made
    longer = np.diag([1, 1, 1.02])
    wrong = replace(
        data, reciprocal_basis=data.reciprocal_basis @ longer, orientation=data.orientation @ longer
    )
    notes = refine_orientations(wrong).notes
    assert any("the cell's shape is wrong" in note for note in notes)


def mixed(data: OrientationData, other: FrameIntensities, part: float) -> OrientationData:
    """`data` with that part of its passages replaced by those of another crystal."""
    rng = np.random.default_rng(0)
    mine = rng.random(data.intensities.crossing.max() + 1) > part
    its = rng.random(other.crossing.max() + 1) < part
    a, b = rows(data, mine[data.intensities.crossing]), its[other.crossing]
    both = FrameIntensities(
        *(
            np.concatenate([getattr(a, k), column[b] + (10**6 if k == "crossing" else 0)])
            for k, column in vars(other).items()
        )
    )
    return replace(data, intensities=both)


def test_two_crystals(made: Any, series: Any) -> None:
    data, truth = made
    other = series(seed=5, range_deg=14)[0].intensities
    found = refine_orientations(mixed(data, other, 0.3))
    assert error_deg(found.centre, truth).mean() < 0.02
    assert any("a second crystal" in note for note in found.notes)
    assert "one crystal" in refusal(mixed(data, other, 0.6))


def test_unindexed_and_unused_frames_are_flagged(made: Any) -> None:
    data, _ = made
    used = np.ones(data.n_frames, bool)
    used[10:14] = False
    frame = data.intensities.frame
    found = refine_orientations(
        replace(data, used=used, intensities=rows(data, (frame < 40) | (frame > 44)))
    )
    for f in range(data.n_frames):
        if 10 <= f < 14:
            assert found.flag[f].startswith("not used")
        elif 40 <= f <= 44:
            assert found.flag[f].startswith("no spots")
        else:
            assert found.flag[f] == ""
    blind = found.n_spots == 0
    assert blind.sum() == 9
    assert np.isnan(found.small_unshrunk_deg[blind]).all()
    # what is said of them is the smooth rotation, with the error of a goniometer that jitters
    sd = np.sqrt(np.trace(found.covariance_deg2, axis1=1, axis2=2))
    assert sd[blind].min() > 2 * np.median(sd[~blind])


def test_nothing_indexed(made: Any) -> None:
    data, _ = made
    none = rows(data, np.zeros(len(data.intensities), bool))
    assert "found 0 whose passage" in refusal(replace(data, intensities=none))


def test_flags_name_the_weak_direction() -> None:
    covariance = np.array([np.diag([1e-6, 4e-2]), np.diag([4e-2, 1e-6]), 1e-6 * np.eye(2)])
    three = np.array([9, 9, 9]), np.array([9, 9, 2])
    yes = np.ones(3, bool)
    found = flags(yes, three[0], covariance, 0.2)
    assert found == (
        "weak perp: sd 0.200 deg, 0.001 across", "weak along: sd 0.200 deg, 0.001 across", "",
    )  # fmt: skip
    assert flags(yes, three[1], None, 0.2) == ("", "", "only 2 spots")
