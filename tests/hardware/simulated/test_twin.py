from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from ewaldflow.hardware.errors import Unsupported
from ewaldflow.hardware.moves import move
from ewaldflow.hardware.protocols import Camera, Capability, Clock, Microscope
from ewaldflow.hardware.simulated.twin import Twin, TwinOptions, bare_beam, open_twin
from ewaldflow.lib.instrument import load_instrument


def centre_of_light(twin: Twin) -> np.ndarray:
    """(row, column) of the centre of gravity of an image, without hot pixels."""
    counts = twin.camera.expose(0.2).counts.astype(float)
    counts[counts < 0.2 * np.quantile(counts, 0.999)] = 0.0
    grid = np.indices(counts.shape).reshape(2, -1)
    return grid @ counts.ravel() / counts.sum()


def quiet(seed: int, **optics: Any) -> Twin:
    """Without goniometer errors, defects of the camera, and drift; a beam, and no specimen."""
    options = {
        "seed": seed,
        "goniometer": "ideal",
        "optics": {"beam_drift_um": 0.0, "pattern_drift_px": 0.0, **optics},
        "sensor": {"kind": "timepix", "dead_pixels": 0, "hot_pixels": 0},
    }
    return open_twin(TwinOptions.model_validate(options), scene=bare_beam)


def test_it_speaks_the_protocols() -> None:
    twin = open_twin()
    assert isinstance(twin.microscope, Microscope)
    assert isinstance(twin.camera, Camera)
    clock: Clock = twin.clock
    assert clock.now() == 0.0
    assert twin.microscope.name == "twin"


def test_calls_cost_their_latency() -> None:
    twin = open_twin()
    spent = []
    for call in (
        twin.microscope.stage.position,
        twin.microscope.deflectors["beam_shift"].get,
        lambda: twin.microscope.set_mode("diffraction"),
        twin.microscope.blank,
    ):
        before = twin.clock.now()
        call()
        spent.append(twin.clock.now() - before)
    assert spent == pytest.approx([0.27, 0.05, 0.5, 0.05])


@pytest.mark.parametrize("condition", ["imaging", "defocused", "focused"])
@pytest.mark.parametrize("name", ["beam_shift", "image_shift_1", "image_shift_2"])
def test_the_images_move_as_the_truth_says(name: str, condition: str) -> None:
    twin = quiet(3, pattern_offset_px=1.0, beam_offset_um=0.0)
    microscope = twin.microscope
    if condition != "imaging":
        microscope.set_mode("diffraction")
        microscope.lenses["diffraction_focus"].set(150.0 if condition == "defocused" else 0.4)
    before = centre_of_light(twin)
    matrix = twin.truth.px_per_unit(name, condition)  # type: ignore[arg-type]
    shift = np.linalg.inv(matrix) @ (21.0, -13.0)
    microscope.deflectors[name].set(tuple(shift))  # type: ignore[index]
    moved = centre_of_light(twin) - before
    np.testing.assert_allclose(moved, (21.0, -13.0), atol=0.3)


@pytest.mark.parametrize("defocused", [False, True])
def test_the_stage_moves_the_specimen_as_the_truth_says(defocused: bool) -> None:
    twin = open_twin(TwinOptions(seed=2, goniometer={"play_um": 0.0}))
    if defocused:
        twin.microscope.set_mode("diffraction")
        twin.microscope.lenses["diffraction_focus"].set(150.0)
    point = (1.0, -2.0, 0.0)
    before = twin.truth.px(point)
    matrix = twin.truth.px_per_unit("stage", "defocused" if defocused else "imaging")
    move(twin.microscope.stage, twin.clock, x_um=0.8, y_um=-0.5)
    np.testing.assert_allclose(twin.truth.px(point) - before, matrix @ (0.8, -0.5), atol=0.1)


def test_the_stage_brings_a_point_to_the_axis() -> None:
    twin = open_twin(TwinOptions(seed=2, goniometer={"play_um": 0.0, "axis_offset_um": 0.0}))
    point = (12.0, -7.0, 0.0)
    x, y = twin.truth.stage_um(point)
    move(twin.microscope.stage, twin.clock, x_um=x, y_um=y)
    np.testing.assert_allclose(twin.truth.lab_um(point)[:2], 0.0, atol=0.02)


def test_off_the_beam_is_where_the_point_is_in_the_disc() -> None:
    twin = open_twin(TwinOptions(seed=5))
    twin.microscope.set_mode("diffraction")
    twin.microscope.lenses["diffraction_focus"].set(150.0)
    twin.microscope.deflectors["beam_shift"].set((300.0, -200.0))
    point, view = (0.2, 0.1, 0.5), twin.truth.view()
    disc = view.origin_px + view.picture_px_per_um @ view.beam_centre_um
    expected = np.linalg.inv(view.picture_px_per_um) @ (twin.truth.px(point) - disc)
    np.testing.assert_allclose(twin.truth.off_beam_um(point), expected, atol=1e-9)


def test_truth_costs_no_time() -> None:
    twin = open_twin()
    for ask in (twin.truth.pose, twin.truth.view, twin.truth.alpha_deg, twin.truth.is_moving):
        ask()
    assert twin.clock.now() == 0.0
    assert twin.faults.calls == 0


def test_one_seed_is_one_night() -> None:
    def night(seed: int) -> list[Any]:
        twin = open_twin(TwinOptions(seed=seed, specimen=None))
        seen: list[Any] = [move(twin.microscope.stage, twin.clock, x_um=3.0, alpha_deg=5.0)]
        twin.microscope.set_mode("diffraction")
        seen += [twin.camera.expose(0.1).counts.tobytes(), twin.clock.now()]
        return seen

    assert night(7) == night(7)
    assert night(7)[1] != night(8)[1]


def test_the_instrument_is_nominally_that_of_its_yaml() -> None:
    view = open_twin().truth.view()
    instrument = load_instrument("twin")
    assert view.geometry.distance_mm == instrument.distance_mm
    assert view.geometry.wavelength_A == pytest.approx(0.0250793, abs=1e-7)
    np.testing.assert_allclose(view.geometry.axis, instrument.rotation_axis, atol=1e-4)
    assert view.shape == instrument.detector.shape


def test_what_it_lacks_it_refuses() -> None:
    twin = open_twin(TwinOptions(lacking=frozenset({"image_shift_2", "stage_stop", "screen"})))
    assert Capability.IMAGE_SHIFT_2 not in twin.microscope.capabilities
    assert "image_shift_2" not in twin.microscope.deflectors
    with pytest.raises(Unsupported, match="no stage_stop"):
        twin.microscope.stage.stop()
    with pytest.raises(Unsupported, match="no screen"):
        twin.microscope.set_screen(down=True)


def test_options_are_strict() -> None:
    with pytest.raises(ValidationError):
        TwinOptions.model_validate({"sead": 3})
    with pytest.raises(ValidationError):
        TwinOptions.model_validate({"goniometer": "so_so"})
    assert TwinOptions.model_validate({"goniometer": {"wander_um": 2}}).goniometer != "usual"


def test_an_instrument_without_axis_is_refused() -> None:
    instrument = load_instrument("timepix512")
    with pytest.raises(Unsupported, match="rotation_axis"):
        open_twin(instrument=instrument)


def test_calls_are_cheap() -> None:
    twin = open_twin()
    stage, deflector = twin.microscope.stage, twin.microscope.deflectors["beam_shift"]
    for call in (stage.position, stage.is_moving, deflector.get, lambda: deflector.set((1.0, 2.0))):
        call()
        began = time.process_time()
        for _ in range(300):
            call()
        assert (time.process_time() - began) / 300 < 100e-6  # 2 to 10 us on a machine at rest


def test_a_specimen_is_seen_where_the_truth_says() -> None:
    """The darkest part of the picture is the crystal that the stage was brought to."""
    specimen = {"phases": [{"structure": "MFI", "diameter_um": 1.5}], "width_um": 60.0,
                "bar_um": 0.0, "dirt": 0.0, "faint": 0.0, "clustered": 0.0}  # fmt: skip
    twin = open_twin(TwinOptions.model_validate({"seed": 2, "specimen": specimen}))
    particles = twin.truth.specimen.particles
    chosen = np.flatnonzero(particles.isolated & (particles.area_um2 > 0.8))[0]
    x, y = twin.truth.stage_um(particles.centre_um[chosen])
    move(twin.microscope.stage, twin.clock, x_um=x, y_um=y)
    twin.microscope.lenses["brightness"].set(1.0)
    counts = twin.camera.expose(2.0).counts.astype(float)
    row, column = twin.truth.px(particles.centre_um[chosen])
    inside = counts[int(row) - 8 : int(row) + 9, int(column) - 8 : int(column) + 9]
    assert np.median(inside) < 0.9 * np.median(counts)


def test_a_twin_without_specimen_has_none() -> None:
    with pytest.raises(AttributeError, match="no specimen"):
        _ = open_twin(TwinOptions(specimen=None)).truth.specimen
