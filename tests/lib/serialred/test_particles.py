"""Particle finding on drawn pictures of known truth: places, sizes, clusters, bars, contrast."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from ewaldflow.lib.serialred.isolation import Reason, Selection, judge_particles
from ewaldflow.lib.serialred.particles import Finding, Found, find_particles

NM_PER_PX = 11.55
UM = NM_PER_PX / 1000
SHAPE = (516, 516)
ROW, COLUMN = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(float)


@dataclass
class Picture:
    """Mass thickness in mean free paths, lit unevenly."""

    thickness: NDArray[np.float64] = field(default_factory=lambda: np.zeros(SHAPE))

    def ellipse(
        self, row: float, column: float, axes_um: tuple[float, float], contrast: float, turn=0.0
    ) -> Picture:
        """Add one with these semi-axes, first along the rows before it is turned."""
        y, x = (ROW - row) * UM, (COLUMN - column) * UM
        u, v = y * np.cos(turn) + x * np.sin(turn), x * np.cos(turn) - y * np.sin(turn)
        inside = (u / axes_um[0]) ** 2 + (v / axes_um[1]) ** 2 < 1
        self.thickness -= np.log(1 - contrast) * inside
        return self

    def bar(self, side: NDArray[np.bool_]) -> Picture:
        """Add metal there."""
        self.thickness += 5.0 * side
        return self

    def counts(self, dose: float = 100.0, uneven: float = 0.4, seed: int = 0):
        """The picture as a camera would count it."""
        away2 = ((ROW - 180) ** 2 + (COLUMN - 330) ** 2) / SHAPE[0] ** 2
        seen = gaussian_filter(np.exp(-self.thickness), 1.0) * (1 - uneven * away2)
        return np.random.default_rng(seed).poisson(dose * seen).astype(np.uint16)


def only(found: Found) -> int:
    assert len(found.particles) == 1
    return 0


def test_place_size_contrast_and_shape() -> None:
    found = find_particles(Picture().ellipse(200.3, 310.7, (0.6, 0.3), 0.4).counts(), UM)
    p, i = found.particles, only(found)
    assert (p.row[i], p.column[i]) == pytest.approx((200.3, 310.7), abs=0.5)
    assert p.area_um2[i] == pytest.approx(np.pi * 0.6 * 0.3, rel=0.03)  # no factor 4
    assert p.contrast[i] == pytest.approx(0.38, abs=0.03)  # the outline is blurred
    assert p.elongation[i] == pytest.approx(2.0, rel=0.03)
    assert p.solidity[i] > 0.95
    # its upper end is 0.6 um above row 200.3
    assert p.edge_um[i] == pytest.approx((200.3 * UM - 0.6), abs=0.03)


def test_scale_may_be_a_matrix() -> None:
    # rows are half as large as columns: a circle in the picture is an ellipse in um
    picture = Picture().ellipse(258, 258, (0.5, 0.5), 0.5).counts()
    found = find_particles(picture, UM * np.array([[0.0, 1.0], [0.5, 0.0]]))
    p, i = found.particles, only(found)
    assert p.area_um2[i] == pytest.approx(np.pi * 0.5 * 0.25, rel=0.04)
    assert p.elongation[i] == pytest.approx(2.0, rel=0.03)


@pytest.mark.parametrize("contrast", [0.07, 0.2, 0.6, 0.95])
@pytest.mark.parametrize("dose", [25.0, 400.0])
def test_any_contrast_gives_the_same_size(contrast: float, dose: float) -> None:
    found = find_particles(
        Picture().ellipse(258, 200, (0.45, 0.45), contrast).counts(dose=dose, uneven=0.5), UM
    )
    i = only(found)
    assert found.particles.area_um2[i] == pytest.approx(np.pi * 0.45**2, rel=0.15)


def test_nothing_is_found_where_nothing_is() -> None:
    for seed, (dose, uneven) in enumerate([(20, 0.0), (100, 0.5), (500, 0.6), (2000, 0.2)]):
        counts = Picture().counts(dose=dose, uneven=uneven, seed=seed)
        assert len(find_particles(counts, UM).particles) == 0


def test_distance_is_from_outline_to_outline() -> None:
    # centres 2 um apart, semi-axes 0.5 and 0.6 along the line between: 0.9 um of free carbon
    picture = Picture().ellipse(258, 150, (0.3, 0.5), 0.5)
    picture.ellipse(258, 150 + 2 / UM, (0.3, 0.6), 0.3)
    found = find_particles(picture.counts(dose=300), UM)
    assert found.distance_um[0, 1] == pytest.approx(0.9, abs=0.02)
    assert found.distance_um[0, 0] == np.inf
    for one in judge_particles(found, Selection(isolation_um=1.0)):
        assert [r.reason for r in one.rejections] == [Reason.NEIGHBOUR]
        assert one.rejections[0].found == pytest.approx(0.9, abs=0.02)
    assert all(one.suitable for one in judge_particles(found, Selection(isolation_um=0.85)))


def test_touching_particles_are_parted_and_refused() -> None:
    picture = Picture().ellipse(240, 200, (0.4, 0.4), 0.4)
    picture.ellipse(240, 200 + 0.7 / UM, (0.4, 0.4), 0.4)
    picture.ellipse(390, 385, (0.4, 0.3), 0.4)
    found = find_particles(picture.counts(), UM)
    assert len(found.particles) == 3
    verdicts = judge_particles(found)
    assert [one.suitable for one in verdicts].count(True) == 1
    assert sorted(one.nearest_um for one in verdicts)[0] == pytest.approx(0, abs=1e-9)


def test_grid_bars_are_no_particles_and_their_neighbours_are_refused() -> None:
    picture = Picture().bar((ROW + 0.4 * COLUMN) > 470)
    picture.ellipse(130, 150, (0.4, 0.3), 0.3)  # free
    picture.ellipse(355, 215, (0.4, 0.3), 0.3)  # about 0.1 um from the bar
    found = find_particles(picture.counts(), UM)
    verdicts = judge_particles(found)
    good = [i for i, one in enumerate(verdicts) if one.suitable]
    assert len(good) == 1
    assert found.particles.row[good[0]] == pytest.approx(130, abs=1)
    assert found.particles.area_um2[good[0]] == pytest.approx(np.pi * 0.12, rel=0.05)
    near = int(found.labels[355, 215]) - 1
    assert near >= 0
    assert Reason.NEIGHBOUR in {r.reason for r in verdicts[near].rejections}


def test_only_a_bar() -> None:
    found = find_particles(Picture().bar(COLUMN > -1).counts(dose=3000), UM)
    assert not any(one.suitable for one in judge_particles(found))


@pytest.mark.parametrize(
    ("draw", "reason"),
    [
        (lambda p: p.ellipse(258, 20, (0.4, 0.4), 0.4), Reason.EDGE),
        (lambda p: p.ellipse(258, 258, (0.09, 0.09), 0.4), Reason.SMALL),
        (lambda p: p.ellipse(258, 258, (1.0, 0.9), 0.4), Reason.LARGE),
        (lambda p: p.ellipse(258, 258, (0.5, 0.5), 0.98), Reason.DARK),
    ],
)
def test_each_refusal_has_its_reason(draw: Callable[[Picture], Picture], reason: Reason) -> None:
    found = find_particles(draw(Picture()).counts(), UM)
    verdict = judge_particles(found)[only(found)]
    assert [r.reason for r in verdict.rejections] == [reason]
    assert str(verdict).startswith(reason.value)


def test_refusal_in_words() -> None:
    found = find_particles(Picture().ellipse(258, 258, (0.1, 0.1), 0.4).counts(dose=1000), UM)
    words = str(judge_particles(found)[only(found)])
    assert words == "too small: 0.03 um^2 (limit 0.04 um^2)"


def test_bad_pixels_are_no_particles() -> None:
    counts = Picture().ellipse(200, 300, (0.5, 0.4), 0.4).counts()
    valid = np.ones(SHAPE, bool)
    valid[255:261], valid[:, 255:261] = False, False
    counts[~valid] = 0
    i = only(find_particles(counts, UM, valid=valid))
    assert find_particles(counts, UM, valid=valid).particles.row[i] == pytest.approx(200, abs=0.5)


def test_a_dark_picture_is_told() -> None:
    found = find_particles(np.zeros(SHAPE, np.uint16), UM)
    assert found.dark
    assert len(found.particles) == 0
    assert judge_particles(found) == ()
    assert not find_particles(Picture().counts(dose=3), UM).dark


def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match=r"expected .smallest, largest."):
        Selection(area_um2=(2, 1))
    with pytest.raises(ValueError, match="contrast"):
        Finding(contrast=0)


def test_quick_enough() -> None:
    picture = Picture()
    rng = np.random.default_rng(2)
    for row, column in rng.uniform(0, 516, (12, 2)):
        picture.ellipse(row, column, (0.3, 0.2), 0.3, turn=float(rng.uniform(0, 3)))
    counts = picture.counts()
    find_particles(counts, UM)
    spent = []
    for _ in range(5):
        start = time.process_time()
        find_particles(counts, UM)
        spent.append(time.process_time() - start)
    assert min(spent) < 0.06  # 0.025 on an idle core


def test_crystals_on_each_other_show_by_the_step() -> None:
    lone = Picture().ellipse(258, 258, (0.5, 0.4), 0.4)
    found = find_particles(lone.counts(), UM)
    assert found.particles.unevenness[only(found)] < 0.1
    on_it = lone.ellipse(270, 250, (0.25, 0.2), 0.4)
    found = find_particles(on_it.counts(), UM)
    i = only(found)
    assert found.particles.unevenness[i] > 0.2
    assert [r.reason for r in judge_particles(found)[i].rejections] == [Reason.UNEVEN]


def test_a_faint_neighbour_of_a_dark_crystal_is_seen() -> None:
    picture = Picture().ellipse(258, 230, (0.4, 0.4), 0.7)
    picture.ellipse(258, 230 + 0.7 / UM, (0.4, 0.5), 0.2)
    verdicts = judge_particles(find_particles(picture.counts(), UM))
    assert len(verdicts) >= 1
    assert not any(one.suitable for one in verdicts)


def test_a_lath_is_not_cut() -> None:
    for turn in (0.0, 0.6, 1.3):
        lath = Picture().ellipse(258, 258, (1.0, 0.2), 0.3, turn=turn)
        found = find_particles(lath.counts(dose=20), UM)
        assert found.particles.elongation[only(found)] == pytest.approx(5, rel=0.1)
