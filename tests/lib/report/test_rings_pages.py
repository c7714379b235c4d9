"""Pages of calibrations: what they say where something is wrong, and several camera lengths."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from ewaldflow.lib.formats.image import DiffractionImage
from ewaldflow.lib.geometry import EllipticalDistortion
from ewaldflow.lib.report.centres_page import centres_page
from ewaldflow.lib.report.ring_drift_page import Dated, ring_drift_page
from ewaldflow.lib.report.rings_page import rings_page
from ewaldflow.lib.rings.calibrate import RingFit, RingPoints
from ewaldflow.lib.rings.calibration import NOT_CALIBRATED, Ring, RingCalibration
from ewaldflow.lib.rings.centres import ImageCentre, ImageCentres, unique_names
from ewaldflow.lib.rings.drift import DriftLimits, drift
from ewaldflow.lib.rings.pixel_map import ring_curve
from ewaldflow.lib.rings.recentre import Recentred

NAMES = ("beam_row_px", "beam_column_px", "distance_mm", "ratio", "azimuth_deg")
GOLD = RingCalibration(
    "au <1>", (200, 240), "gold", 0.0251, 0.055, 150.0, (97.3, 121.8),
    EllipticalDistortion(1.024, 83), parameters=NAMES,
    covariance=np.diag([0.01, 0.02, 0.05, 0.0004, 0.3]) ** 2, camera_length_mm=100.0,
    rings=(Ring((1, 1, 1), 2.3546, 80, 3, 0.9, 0.11, 0.004),
           Ring((2, 0, 0), 2.0391, 78, 1, 0.9, 0.14, -0.01)),
)  # fmt: skip


def image_of(calibration: RingCalibration) -> DiffractionImage:
    pixels = np.random.default_rng(1).poisson(20.0, calibration.shape).astype(np.uint16)
    return DiffractionImage(calibration.name, pixels, notes=("odd & old",))


def fit_of(*calibrations: RingCalibration) -> RingFit:
    rows, columns, rings, images = [], [], [], []
    for i, one in enumerate(calibrations):
        for k, ring in enumerate(one.rings):
            row, column = ring_curve(one, ring.d_A, 60)
            rows.append(row)
            columns.append(column)
            rings.append(np.full(60, k))
            images.append(np.full(60, i))
    n = 60 * len(rows)
    azimuth = np.resize(np.linspace(-180, 180, 60), n)
    rest = np.random.default_rng(2).normal(0, 0.1, n)
    used = np.abs(rest) < 0.25
    whole = [np.concatenate(part) if part else np.zeros(0, int) for part in (images, rings)]
    place = [np.concatenate(part) if part else np.zeros(0) for part in (rows, columns)]
    points = RingPoints(*whole, *place, azimuth, rest, np.full(n, 0.1), used)
    good = tuple(np.ones(one.shape, bool) for one in calibrations)
    return RingFit(calibrations, points, good, (), ())


def test_a_page_of_one_image() -> None:
    page = rings_page("au", [image_of(GOLD)], fit_of(GOLD), {"a.poni": "for pyFAI"}, [], "0.1")
    assert "au &lt;1&gt;: calibrated." in page
    assert "150.00(5) mm" in page
    assert "97.300(10), 121.80(2)" in page
    assert "1.0240(4)" in page
    assert page.count("<img") == 4
    assert "odd &amp; old" in page
    assert 'href="a.poni"' in page
    assert "Camera lengths" not in page


def test_a_page_of_what_is_not_calibrated() -> None:
    failed = replace(
        GOLD, rings=(), verdict=NOT_CALIBRATED, reasons=("only one ring",),
        parameters=(), covariance=np.zeros((0, 0)),
    )  # fmt: skip
    page = rings_page("au", [image_of(failed)], fit_of(failed), {}, [], "0.1")
    assert "not calibrated" in page
    assert "Only one ring." in page
    assert "No ring was recognised" in page
    assert "what is not calibrated is not handed on" in page
    assert not re.search(r"\bnan\b", page)


def test_several_camera_lengths_make_a_table() -> None:
    longer = replace(GOLD, name="longer", distance_mm=303.0, camera_length_mm=200.0)
    fit = fit_of(GOLD, longer)
    page = rings_page("au", [image_of(GOLD), image_of(longer)], fit, {}, [], "0.1")
    assert "<h2>Camera lengths</h2>" in page
    assert "1.51500" in page  # 303 / 200
    assert "<h2>longer</h2>" in page


def dated(number: int, calibration: RingCalibration) -> Dated:
    when = datetime(2026, 11, number, 9, 30, tzinfo=UTC)
    return Dated(f"rings/au@v000{number}", when, calibration, f"../../{number}.html")


@pytest.mark.parametrize("moved", [False, True])
def test_a_page_of_drift(moved: bool) -> None:
    now = replace(GOLD, distance_mm=152.0) if moved else GOLD
    same = [dated(1, GOLD), dated(2, now)]
    found = drift(now, GOLD, same[0].ref)
    longer = replace(GOLD, distance_mm=303.0, camera_length_mm=200.0)
    page = ring_drift_page("au", same, [dated(3, longer)], found, DriftLimits(), "0.1")
    assert ("The camera length changed by +1.33 %" in page) is moved
    assert ("Nothing moved beyond its limits" in page) is not moved
    assert 'href="../../1.html"' in page
    assert "2026-11-02 09:30" in page
    assert "<h2>Camera lengths</h2>" in page


def test_a_first_calibration_has_no_course() -> None:
    page = ring_drift_page("au", [dated(1, GOLD)], [], None, DriftLimits(), "0.1")
    assert "This is the first calibration" in page
    assert "<img" not in page


def test_images_of_which_none_was_recentred() -> None:
    bad = ImageCentre("a", "a.tif", None, "blank & dark")
    page = centres_page("day", ImageCentres(GOLD, (bad,)), {}, "rings/au", "0.1")
    assert "0 of 1 images recentred with rings/au." in page
    assert "blank &amp; dark" in page
    assert "<img" not in page


def test_columns_of_centres() -> None:
    found = Recentred((10.0, 20.0), np.diag([0.04, 0.09]), scale=1.001)
    both = ImageCentres(
        GOLD, (ImageCentre("a", "a", found), ImageCentre("b", "b", None, "no rings"))
    )
    np.testing.assert_allclose(both.column("sd_column"), [0.3, np.nan])
    np.testing.assert_allclose(both.column("scale"), [1.001, np.nan])
    page = centres_page("day", both, {}, "rings/au", "0.1")
    assert "10.0(2)" in page


def test_names_are_unique() -> None:
    from pathlib import Path

    paths = [Path("x/a.tif"), Path("y/a.tif"), Path("b.tif"), Path("z/a.dm4")]
    assert unique_names(paths) == ["a", "a-2", "b", "a-3"]
