"""Calibrations by rings, their drift, and images recentred with them, as artefacts."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pytest
import tifffile
import yaml

from ewaldflow.lib.artefacts import ArtefactStore
from ewaldflow.lib.artefacts.records import read_record
from ewaldflow.lib.errors import UserError
from ewaldflow.lib.instrument import SeriesOverrides
from ewaldflow.lib.rings.calibrants import gold
from ewaldflow.lib.rings.centres import ImageCentres
from ewaldflow.lib.rings.config import RingConfig
from ewaldflow.lib.rings.drift import DriftLimits
from ewaldflow.lib.rings.poni import read_poni
from ewaldflow.lib.rings.simulate import RingConditions, simulate_rings
from ewaldflow.lib.rings.storage import read_calibrations, read_points
from ewaldflow.tasks.convert import convert_series
from ewaldflow.tasks.recenter import centres_artefact
from ewaldflow.tasks.rings import drift_artefact, load_calibration, newest_image, rings_artefact

CONFIG = RingConfig(wavelength_A=0.02507934, pixel_size_mm=0.06, camera_length_mm=350.0)
SMALL = {
    "shape": (512, 512), "pixel_size_mm": 0.06, "distance_mm": 350.0, "width_px": 2.0,
    "stop_px": 20.0, "shaft_px": 14.0, "stop_offset_px": (2.0, -1.0), "hot": 10, "dead": 10,
}  # fmt: skip


def picture(folder: Path, name: str, seed: int, **changes: object) -> tuple[Path, np.ndarray]:
    image, centre = simulate_rings(gold(), RingConditions(**(SMALL | changes)), seed)  # type: ignore[arg-type]
    path = folder / f"{name}.tif"
    tifffile.imwrite(path, np.minimum(image.pixels, 65535).astype(np.uint16))
    return path, np.array(centre)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, np.ndarray]]:
    folder = tmp_path_factory.mktemp("images")
    return {
        "first": picture(folder, "first", 1, centre_px=(256.3, 250.8)),
        "second": picture(folder, "second", 2, centre_px=(258.1, 249.2)),
        "moved": picture(folder, "moved", 3, distance_mm=354.0, ratio=1.03,
                         centre_px=(256.0, 251.0)),
    }  # fmt: skip


@pytest.fixture(scope="module")
def stored(
    images: dict[str, tuple[Path, np.ndarray]], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, str]]:
    store = tmp_path_factory.mktemp("store") / "runs"
    refs = {
        name: rings_artefact([images[name][0]], "gold", store, "au", CONFIG)
        for name in ("first", "second", "moved")
    }
    return store, refs


def test_a_calibration_is_kept_with_what_others_take(
    stored: tuple[Path, dict[str, str]], images: dict[str, tuple[Path, np.ndarray]]
) -> None:
    store, refs = stored
    artefact = ArtefactStore(store).get(refs["first"])
    (found,) = read_calibrations(artefact)
    assert found.verdict == "calibrated"
    np.testing.assert_allclose(found.beam_centre_px, images["first"][1], atol=0.05)
    assert found.distance_mm == pytest.approx(350, rel=5e-4)
    assert found.camera_length_mm is None  # no file states what was displayed
    assert len(read_points(artefact).ring) > 100
    names = {path.name for path in artefact.files.iterdir()}
    assert names == {"report.html", "calibration.yaml", "calibration.poni", "XCORR.cbf",
                     "YCORR.cbf", "instrument.yaml"}  # fmt: skip
    record = yaml.safe_load((artefact.files / "calibration.yaml").read_text())
    assert record["calibrations"][0]["distance_mm"] == found.distance_mm
    poni = read_poni(artefact.files / "calibration.poni")
    np.testing.assert_allclose(poni.beam_centre_px, found.beam_centre_px, atol=1e-6)
    assert artefact.manifest.figures_of_merit["ratio"] == pytest.approx(1.024, abs=1e-3)
    page = (artefact.files / "report.html").read_text()
    for heading in ("Verdict", "Rings", "Files to go on with", "Provenance"):
        assert f"<h2>{heading}</h2>" in page
    assert 'href="calibration.poni"' in page


def test_a_finished_one_is_not_made_again(
    stored: tuple[Path, dict[str, str]], images: dict[str, tuple[Path, np.ndarray]]
) -> None:
    store, refs = stored
    again = rings_artefact([images["first"][0]], "gold", store, "au", CONFIG)
    assert again == refs["first"] == "rings/au@v0001"


def test_what_moved_is_told(stored: tuple[Path, dict[str, str]]) -> None:
    store, refs = stored
    ref, warnings, rows = drift_artefact(refs["first"], store)
    assert warnings == ()
    assert rows == []
    _, warnings, rows = drift_artefact(refs["second"], store)
    assert warnings == ()
    assert len(rows) == 3
    ref, warnings, _ = drift_artefact(refs["moved"], store)
    assert "camera length changed by +1.1" in warnings[0]
    assert "since rings/au@v0002" in warnings[0]
    assert "elliptical distortion" in warnings[1]
    artefact = ArtefactStore(store).get(ref)
    assert len(artefact.manifest.inputs) == 3
    page = (artefact.files / "index.html").read_text()
    assert "2 of 3 quantities moved" in page
    link = page.split('href="../../../../')[1].split('"')[0]
    assert (store / link).exists()
    # wide limits: another artefact, no warning
    wide = DriftLimits(distance_percent=5, ellipse=0.1)
    assert drift_artefact(refs["moved"], store, wide)[:2] == ("ring-drift/au@v0004", ())


def test_a_bad_image_stops_no_other(
    stored: tuple[Path, dict[str, str]],
    images: dict[str, tuple[Path, np.ndarray]],
    tmp_path: Path,
) -> None:
    store, _ = stored
    blank, broken = tmp_path / "blank.tif", tmp_path / "broken.tif"
    tifffile.imwrite(blank, np.zeros((512, 512), np.uint16))
    broken.write_bytes(b"II*\0 nonsense")
    other = tmp_path / "second.tif"  # of another shape, and with the name of a good one
    tifffile.imwrite(other, np.ones((100, 512), np.uint16))
    paths = [images["first"][0], blank, images["second"][0], broken, tmp_path / "none.tif", other]
    ref = centres_artefact(paths, "rings/au@v0001", store, "day")
    artefact = ArtefactStore(store).get(ref)
    done = read_record(artefact.arrays, ImageCentres)
    assert [bool(one.reason) for one in done.images] == [False, True, False, True, True, True]
    assert [one.name for one in done.images][-1] == "second-2"
    for number, name in ((0, "first"), (2, "second")):
        found = done.images[number].found
        assert found is not None
        np.testing.assert_allclose(found.beam_centre_px, images[name][1], atol=0.05)
    assert artefact.manifest.figures_of_merit["failed"] == 4
    with (artefact.files / "centres.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert float(rows[2]["row_px"]) == pytest.approx(images["second"][1][0], abs=0.05)
    assert "blank" in rows[1]["reason"]
    assert {p.name for p in (artefact.files / "poni").iterdir()} == {"first.poni", "second.poni"}
    assert "2 of 6 images recentred" in (artefact.files / "report.html").read_text()
    # from a PONI just as well
    poni = ArtefactStore(store).get("rings/au@v0001").files / "calibration.poni"
    again = centres_artefact([images["second"][0]], str(poni), store, "poni")
    one = read_record(ArtefactStore(store).get(again).arrays, ImageCentres).images[0].found
    assert one is not None
    np.testing.assert_allclose(one.beam_centre_px, images["second"][1], atol=0.05)


def test_a_series_is_converted_with_it(stored: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    store, refs = stored
    folder = tmp_path / "crystal"
    folder.mkdir()
    for number in range(1, 4):
        tifffile.imwrite(folder / f"{number:05d}.tif", np.full((512, 512), number, np.uint16))
    said = SeriesOverrides(rotation_axis=(1, 0, 0), start_deg=0.0, oscillation_deg=0.5)
    ref = convert_series("c", folder, store, None, said, calibrations=(refs["first"],))
    artefact = ArtefactStore(store).get(ref)
    assert [item.role for item in artefact.manifest.inputs] == ["raw"] * 3 + ["rings"]
    from ewaldflow.lib.series.storage import read_series

    geometry = read_series(artefact.arrays).geometry
    (calibration,) = read_calibrations(ArtefactStore(store).get(refs["first"]))
    assert geometry.per_A_per_px == pytest.approx(calibration.per_A_per_px)
    assert geometry.distortion == calibration.distortion
    with pytest.raises(UserError, match="an artefact of kind 'series'"):
        convert_series("c", folder, store, None, said, calibrations=(ref,))


def test_what_failed_is_kept_and_not_used(
    stored: tuple[Path, dict[str, str]], images: dict[str, tuple[Path, np.ndarray]]
) -> None:
    store, _ = stored
    wrong = CONFIG.model_copy(update={"wavelength_A": 0.0197})
    ref = rings_artefact([images["first"][0]], "gold", store, "wrong", wrong)
    artefact = ArtefactStore(store).get(ref)
    assert artefact.manifest.figures_of_merit["verdict"] == "not calibrated"
    assert {path.name for path in artefact.files.iterdir()} == {"report.html", "calibration.yaml"}
    assert drift_artefact(ref, store) == ("", (), [])
    with pytest.raises(UserError, match="not calibrated"):
        load_calibration(ref, ArtefactStore(store))


def test_the_setting_is_named_by_what_was_displayed(
    stored: tuple[Path, dict[str, str]], images: dict[str, tuple[Path, np.ndarray]]
) -> None:
    # a camera below the film plane: 200 mm displayed, 350 mm in truth
    store, _ = stored
    path = images["first"][0]
    ref = rings_artefact([path], "gold", store, "far", CONFIG, displayed_mm=(200.0,))
    (found,) = read_calibrations(ArtefactStore(store).get(ref))
    assert found.camera_length_mm == 200
    assert found.distance_mm == pytest.approx(350, rel=5e-4)
    with pytest.raises(UserError, match="2 for 1 images"):
        rings_artefact([path], "gold", store, "far", CONFIG, displayed_mm=(200.0, 300.0))


def test_the_newest_image_of_a_folder(tmp_path: Path) -> None:
    for number, name in enumerate(("b.tif", "a.tif", "notes.txt")):
        (tmp_path / name).write_bytes(b"x")
        os.utime(tmp_path / name, (1e9 + number, 1e9 + number))
    assert newest_image(tmp_path).name == "a.tif"
    assert newest_image(tmp_path, "b*").name == "b.tif"
    with pytest.raises(UserError, match=r"no image named \*.dm4"):
        newest_image(tmp_path, "*.dm4")
    with pytest.raises(UserError, match="no such folder"):
        newest_image(tmp_path / "none")
