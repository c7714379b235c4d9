"""Calibration by rings through Prefect: the drift check of a schedule, and a batch on workers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from prefect.client.schemas.objects import Artifact

from ewaldflow.flows.calibrate_rings import calibrate_rings, check_drift
from ewaldflow.flows.recenter import recenter
from ewaldflow.lib.artefacts import ArtefactStore
from ewaldflow.lib.errors import UserError
from ewaldflow.lib.rings.calibrants import gold
from ewaldflow.lib.rings.config import RingConfig
from ewaldflow.lib.rings.simulate import RingConditions, simulate_rings

CONFIG = RingConfig(wavelength_A=0.02507934, pixel_size_mm=0.06, camera_length_mm=350.0)


def picture(path: Path, seed: int, distance_mm: float = 350.0) -> Path:
    conditions = RingConditions(
        shape=(512, 512), pixel_size_mm=0.06, distance_mm=distance_mm, width_px=2.0, stop_px=20.0,
        shaft_px=14.0, stop_offset_px=(2.0, -1.0), hot=10, dead=10, centre_px=(256.3, 250.8),
    )  # fmt: skip
    image, _ = simulate_rings(gold(), conditions, seed)
    tifffile.imwrite(path, np.minimum(image.pixels, 65535).astype(np.uint16))
    return path


def test_calibrate_check_and_recenter(
    tmp_path: Path, artifacts_of: Callable[[str | None], dict[str, Artifact]]
) -> None:
    store, folder = tmp_path / "runs", tmp_path / "gold"
    folder.mkdir()
    first = picture(folder / "1.tif", 1)
    done = calibrate_rings([first], store, "gold", "au", CONFIG)
    assert done.rings == "rings/au@v0001"
    assert done.warnings == ()
    pages = artifacts_of(ArtefactStore(store).get(done.rings).manifest.flow_run_id)
    assert pages["progress-calibrate-rings-au"].data == 100
    text = str(pages["rings-au"].data)
    assert "**calibrated**" in text
    assert "![the image with the calibrated rings over it](data:image/png;base64,iVBOR" in text
    assert str(ArtefactStore(store).folder(done.rings) / "files" / "report.html") in text

    # nothing new: the same again, and nothing moved
    assert check_drift(folder, store, "gold", "au", config=CONFIG) == done
    picture(folder / "2.tif", 2, 353.0)
    told = check_drift(folder, store, "gold", "au", config=CONFIG, fail=False)
    assert told.rings == "rings/au@v0002"
    assert "camera length changed by +0.8" in told.warnings[0]
    with pytest.raises(UserError, match="camera length changed"):
        check_drift(folder, store, "gold", "au", config=CONFIG)

    blank = tmp_path / "blank.tif"
    tifffile.imwrite(blank, np.zeros((512, 512), np.uint16))
    ref = recenter([first, blank], done.rings, store, "day", n_workers=2)
    figures = ArtefactStore(store).get(ref).manifest.figures_of_merit
    assert (figures["images"], figures["failed"]) == (2, 1)
    with pytest.raises(UserError, match="contrast"):
        calibrate_rings([blank], store, "gold", "blank", CONFIG)
