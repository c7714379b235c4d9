"""The measuring loop on the twin: right within half a per cent, and everything put back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ewaldflow.hardware.calibrate_deflectors import DeflectorCalibration, calibrate_deflectors
from ewaldflow.hardware.errors import BeamLost, CameraFailed, Unsupported
from ewaldflow.hardware.protocols import Capability
from ewaldflow.hardware.simulated.optics import OpticsOptions
from ewaldflow.hardware.simulated.twin import TwinOptions, open_twin
from ewaldflow.lib.errors import UserError
from ewaldflow.lib.instrument import load_instrument

INSTRUMENT = load_instrument("twin")
VALID = ~INSTRUMENT.detector.mask
CONDITIONS = [
    ("stage", "imaging"), ("beam_shift", "imaging"),
    ("beam_shift", "focused"), ("image_shift_1", "focused"), ("image_shift_2", "focused"),
    ("beam_shift", "defocused"), ("image_shift_1", "defocused"), ("image_shift_2", "defocused"),
]  # fmt: skip


class Speckle:
    """A scene: film with dark grains that move with the specimen; none near the beam."""

    def __init__(self, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        places = rng.uniform(-6, 6, (150, 2))
        self.places = places[np.hypot(*places.T) > 0.8]

    def __call__(self, view: Any) -> Any:
        rows, columns = view.shape
        light = np.full(view.shape, 1e-7 * view.electrons)
        if view.mode == "diffraction" and not view.defocused:
            row = np.exp(-0.5 * ((np.arange(rows) - view.pattern_px[0]) / 1.5) ** 2)
            column = np.exp(-0.5 * ((np.arange(columns) - view.pattern_px[1]) / 1.5) ** 2)
            return light + 1e-4 * view.electrons * np.outer(row, column)
        matrix = view.picture_px_per_um
        inverse = np.linalg.inv(matrix)
        place = (np.moveaxis(np.indices(view.shape), 0, -1) - view.origin_px) @ inverse.T
        away = np.hypot(*np.moveaxis(place - view.beam_centre_um, -1, 0))
        area = np.pi * view.beam_radius_um**2 * abs(np.linalg.det(matrix))
        beam = view.electrons / area * np.clip(0.5 + (view.beam_radius_um - away) / 0.006, 0, 1)
        if view.mode == "imaging" and view.beam_radius_um > 2:
            pose = view.start
            grains = self.places @ pose.rotation[:2, :2].T + pose.translation_um[:2]
            for at in grains @ matrix.T + view.origin_px:
                low, high = np.clip([at - 10, at + 11], 0, view.shape).astype(int)
                beam[low[0] : high[0], low[1] : high[1]] *= 0.4
        return light + beam


def opened(seed: int = 3, scene: Any = None, **options: Any) -> Any:
    return open_twin(
        TwinOptions(seed=seed, **options), INSTRUMENT, scene=Speckle() if scene is None else scene
    )


def measure(twin: Any, progress: Any = lambda *_: None, **settings: Any) -> Any:
    return calibrate_deflectors(
        twin.microscope, twin.camera, twin.clock, DeflectorCalibration(**settings),
        valid=VALID, progress=progress,
    )  # fmt: skip


def true_matrix(twin: Any, one: Any) -> Any:
    scope = twin.microscope
    scope.set_mode("imaging" if one.condition == "imaging" else "diffraction")
    scope.lenses["diffraction_focus"].set(one.defocus_um or 0.0)
    return twin.truth.px_per_unit(one.actuator, one.condition)


def test_all_eight_within_half_a_per_cent_and_all_put_back():
    twin, told = opened(), []
    twin.microscope.deflectors["image_shift_1"].set((12.0, -7.0))
    before, stage = twin.truth.settings, twin.microscope.stage.position()
    found = measure(twin, lambda *what: told.append(what))
    after, now = twin.truth.settings, twin.microscope.stage.position()
    for name in ("mode", "magnification", "camera_length_mm", "beam_shift", "image_shift_1",
                 "image_shift_2", "blanked"):  # fmt: skip
        assert getattr(after, name) == getattr(before, name), name
    assert after.brightness == pytest.approx(before.brightness, abs=1e-4)
    assert (now.x_um, now.y_um) == pytest.approx((stage.x_um, stage.y_um), abs=0.05)
    assert [(one.actuator, one.condition) for one in found] == CONDITIONS
    assert told[0] == (0, 8, "stage, imaging")
    assert told[-1] == (8, 8, "done")
    for one in found:
        matrix = true_matrix(twin, one)
        off = np.linalg.norm(one.px_per_unit - matrix) / np.linalg.norm(matrix)
        assert off < 0.005, one.what
        assert one.relative_error < 0.005
        assert one.n_used + one.n_rejected >= 25
        assert (one.magnification is None) == (one.condition != "imaging")
        assert (one.defocus_um == 150.0) == (one.condition == "defocused")
        assert one.instrument == "twin"


def test_a_blanked_beam_is_unblanked_and_blanked_again():
    twin = opened()
    twin.microscope.blank()
    measure(twin, grid=3, stage_grids=1, max_grids=1)
    assert twin.microscope.is_blanked()


def test_no_beam_is_one_line_and_everything_is_put_back():
    twin = opened()
    twin.inject("beam_lost")
    before = twin.truth.settings
    with pytest.raises(BeamLost, match="calibration of stage, imaging: found"):
        measure(twin)
    assert twin.truth.settings.magnification == before.magnification
    assert twin.truth.settings.mode == before.mode


def test_a_fault_amid_a_grid_puts_everything_back():
    twin = opened()
    twin.inject("camera_timeout", at_exposure=60)
    with pytest.raises(CameraFailed):
        measure(twin, grid=3, stage_grids=1)
    twin.restore()
    after = twin.truth.settings
    assert after.mode == "imaging"
    for name in ("beam_shift", "image_shift_1", "image_shift_2"):
        assert getattr(after, name) == (0.0, 0.0)
    twin.microscope.set_mode("diffraction")
    assert twin.truth.settings.diffraction_focus == 0.0


def test_no_contrast_for_the_stage():
    scene = Speckle()
    scene.places = np.zeros((0, 2))
    with pytest.raises(UserError, match="calibration of stage, imaging: x: found the picture"):
        measure(opened(scene=scene))


def test_an_instrument_without_the_pair():
    twin = opened(lacking=frozenset({Capability.IMAGE_SHIFT_2}))
    with pytest.raises(Unsupported, match="no image_shift_2"):
        measure(twin)


def test_the_pair_of_a_thermo_fisher_instrument():
    twin = opened(optics=OpticsOptions(shear=0.1))
    pair = ("image_shift_1", "diffraction_shift")
    found = measure(twin, descan_pair=pair, grid=3, stage_grids=1, max_grids=1)
    one = found.get("diffraction_shift", "defocused")
    assert one.unit == "mrad"
    matrix = true_matrix(twin, one)
    assert np.linalg.norm(one.px_per_unit - matrix) < 0.005 * np.linalg.norm(matrix)
