"""A session written as SerialRED writes it, played back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ewaldflow.hardware.errors import CameraFailed, ConnectionLost, InstrumentError, LimitExceeded
from ewaldflow.hardware.moves import move
from ewaldflow.hardware.protocols import Capability
from ewaldflow.hardware.replay import ReplayOptions, open_replay
from ewaldflow.lib.errors import UserError
from ewaldflow.lib.geometry import Geometry
from ewaldflow.lib.instrument import SeriesMetadata
from ewaldflow.lib.serialred.record import TRACKING, VIEWS, SeriesFolder

SHAPE = (20, 24)
FOCUSED, DEFOCUSED = 0.0, 1500.0
GEOMETRY = Geometry(
    wavelength_A=0.025079,
    pixel_size_mm=0.055,
    distance_mm=500.0,
    beam_centre_px=(9.5, 11.5),
    axis=(1.0, 0.0, 0.0),
)


def image(value: int) -> np.ndarray:
    return np.full(SHAPE, value, np.uint16)


def record(folder: Path, start_s: float = 100.0, first: int = 0) -> Path:
    """Ten exposures of 0.5 s, 0.6 s apart, at 1 deg/s from -5; every fifth defocused."""
    series = SeriesFolder(folder, GEOMETRY, SeriesMetadata(exposure_s=0.5))
    rest = {"x_um": 10.0, "y_um": -4.0, "z_um": 1.0, "alpha_deg": -5.0}
    series.image(
        VIEWS,
        "view",
        image(first + 900),
        role="imaging",
        t_s=start_s,
        number=900,
        exposure_s=0.1,
        mode="imaging",
        stage=rest,
        deflectors={"beam_shift": [0.0, 0.0]},
        magnification=2500,
    )
    series.line("position", t_s=start_s + 1.0, stage=rest)
    series.line("set", t_s=start_s + 1.0, mode="diffraction", lenses={"brightness": 0.4})
    for i in range(10):
        t = start_s + 1.0 + 0.6 * i
        alpha = -5.0 + 0.6 * i
        tracked = i % 5 == 0
        fields = {
            "t_s": t,
            "mode": "diffraction",
            "stage": {**rest, "alpha_deg": alpha, "x_um": 10.0 + 0.1 * i},
            "lenses": {"diffraction_focus": DEFOCUSED if tracked else FOCUSED},
            "deflectors": {"beam_shift": [10.0 * i, 0.0]},
        }
        if tracked:
            series.image(
                TRACKING,
                f"{i:05d}",
                image(first + i),
                role="tracking",
                number=i,
                exposure_s=0.05,
                **fields,
            )
            series.line("decision", t_s=t + 0.06, mode="robust", stage="on", quality=0.7)
        else:
            series.frame(i, image(first + i), alpha, alpha + 0.5, 0.5, **fields)
    end = start_s + 7.0
    series.line("position", t_s=end, stage={**rest, "alpha_deg": 1.0, "x_um": 11.0})
    series.line("position", t_s=end + 5.0, stage={**rest, "alpha_deg": 1.0, "x_um": 11.0})
    series.close(why="done")
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return record(tmp_path / "crystal-0001")


def test_what_it_is(folder: Path) -> None:
    microscope, camera, clock = open_replay(ReplayOptions(folder=folder))
    assert clock.now() == 100.0
    assert set(microscope.deflectors) == {"beam_shift"}
    assert set(microscope.lenses) == {"brightness", "diffraction_focus"}
    assert Capability.BEAM_SHIFT in microscope.capabilities
    assert Capability.IMAGE_SHIFT_1 not in microscope.capabilities
    assert camera.shape == SHAPE
    assert microscope.mode() == "imaging"
    assert microscope.magnification() == 2500
    with pytest.raises(InstrumentError, match="no camera_length_mm in the record"):
        microscope.camera_length_mm()


def test_the_read_out_is_interpolated(folder: Path) -> None:
    microscope, _, clock = open_replay(ReplayOptions(folder=folder))
    stage = microscope.stage
    assert stage.position().alpha_deg == -5.0
    assert not stage.is_moving()
    clock.sleep(1.0 + 0.75)  # 0.75 s into the rotation at 1 deg/s; x goes 0.1 um in 0.6 s
    where = stage.position()
    assert (where.alpha_deg, where.x_um) == pytest.approx((-4.25, 10.125))
    assert (where.y_um, where.z_um, where.beta_deg) == (-4.0, 1.0, 0.0)
    assert stage.is_moving()
    clock.sleep(1000.0)
    assert stage.position().alpha_deg == 1.0
    assert not stage.is_moving()


def test_the_state_decides_which_image_comes(folder: Path) -> None:
    microscope, camera, clock = open_replay(ReplayOptions(folder=folder))
    view = camera.expose(0.1)
    assert view.counts[0, 0] == 900
    assert (view.started_s, view.ended_s, clock.now()) == pytest.approx((100.0, 100.1, 100.1))
    microscope.set_mode("diffraction")
    focus = microscope.lenses["diffraction_focus"]
    focus.set(DEFOCUSED)
    assert camera.expose(0.05).counts[0, 0] == 0
    focus.set(FOCUSED)
    frames = list(camera.stream(0.5, 4))
    assert [one.counts[0, 0] for one in frames] == [1, 2, 3, 4]
    assert [one.started_s for one in frames] == pytest.approx([101.6, 102.2, 102.8, 103.4])
    focus.set(DEFOCUSED)
    assert camera.expose(0.05).counts[0, 0] == 5
    focus.set(FOCUSED)
    clock.sleep(1.5)  # an algorithm that dawdles misses frames
    assert camera.expose(0.5).counts[0, 0] == 8
    assert camera.expose(0.5).counts[0, 0] == 9
    with pytest.raises(CameraFailed, match="no more images"):
        camera.expose(0.5)
    microscope.set_mode("imaging")
    with pytest.raises(CameraFailed, match=r"no more images .imaging"):
        camera.expose(0.1)


def test_numbers_are_consecutive(folder: Path) -> None:
    microscope, camera, _ = open_replay(ReplayOptions(folder=folder))
    microscope.set_mode("diffraction")
    microscope.lenses["diffraction_focus"].set(FOCUSED)
    assert [one.number for one in camera.stream(0.5, 8)] == list(range(8))


def test_an_algorithm_that_does_the_same_shows_no_difference(folder: Path) -> None:
    microscope, camera, _clock = open_replay(ReplayOptions(folder=folder))
    camera.expose(0.1)
    microscope.set_mode("diffraction")
    microscope.stage.start_move(alpha_deg=1.0)
    for i in range(10):
        tracked = i % 5 == 0
        microscope.lenses["diffraction_focus"].set(DEFOCUSED if tracked else FOCUSED)
        microscope.deflectors["beam_shift"].set((10.0 * i, 0.0))
        assert camera.expose(0.05 if tracked else 0.5).counts[0, 0] == i
    assert microscope.differences == ()
    assert microscope.deflectors["beam_shift"].get() == (90.0, 0.0)


def test_differences_are_listed_with_their_time(folder: Path) -> None:
    microscope, camera, _clock = open_replay(ReplayOptions(folder=folder))
    camera.expose(0.1)
    microscope.set_mode("diffraction")
    microscope.lenses["diffraction_focus"].set(DEFOCUSED)
    microscope.deflectors["beam_shift"].set((3.0, 0.0))
    microscope.stage.start_move(alpha_deg=40.0)
    camera.expose(0.2)
    found = [(d.what, d.asked, d.recorded) for d in microscope.differences]
    assert found == [
        ("deflectors.beam_shift", (3.0, 0.0), (0.0, 0.0)),
        ("stage alpha_deg", 40.0, 1.0),
        ("exposure_s", 0.2, 0.05),
    ]
    assert [d.t_s for d in microscope.differences] == pytest.approx([100.1] * 3)


def test_a_move_takes_as_long_as_it_took(folder: Path) -> None:
    microscope, _, clock = open_replay(ReplayOptions(folder=folder))
    clock.sleep(1.0)
    where = move(microscope.stage, clock, alpha_deg=1.0)
    assert where.alpha_deg == pytest.approx(1.0, abs=0.11)
    assert clock.now() == pytest.approx(107.0, abs=0.2)
    assert microscope.differences == ()


def test_a_stopped_stage_rests(folder: Path) -> None:
    microscope, _, clock = open_replay(ReplayOptions(folder=folder))
    clock.sleep(3.0)
    assert microscope.stage.is_moving()
    microscope.stage.stop()
    assert not microscope.stage.is_moving()
    microscope.stage.start_move(alpha_deg=1.0)
    assert microscope.stage.is_moving()


def test_a_session_of_several_series_in_order_of_time(tmp_path: Path) -> None:
    record(tmp_path / "crystal-0002", start_s=500.0, first=2000)
    record(tmp_path / "crystal-0001", start_s=100.0, first=1000)
    microscope, camera, clock = open_replay(ReplayOptions(folder=tmp_path))
    assert clock.now() == 100.0
    assert [one.counts[0, 0] for one in camera.stream(0.1, 2)] == [1900, 2900]
    assert microscope.stage.position().alpha_deg == -5.0


def test_a_damaged_image_fails_alone(folder: Path) -> None:
    (folder / "frames" / "00002.img").write_bytes(b"{\nHEADER_BYTES=512;\n}")
    (folder / "frames" / "00003.img").unlink()
    microscope, camera, _ = open_replay(ReplayOptions(folder=folder))
    microscope.set_mode("diffraction")
    microscope.lenses["diffraction_focus"].set(FOCUSED)
    assert camera.expose(0.5).counts[0, 0] == 1
    for name in ("00002.img", "00003.img"):
        with pytest.raises(CameraFailed, match=name):
            camera.expose(0.5)
    after = camera.expose(0.5)
    assert (after.counts[0, 0], after.number) == (4, 3)


def test_a_record_cut_short_by_a_crash(folder: Path) -> None:
    path = folder / "tracking.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:8]) + '\n{"event": "expos')
    microscope, camera, _ = open_replay(ReplayOptions(folder=folder))
    microscope.set_mode("diffraction")
    microscope.lenses["diffraction_focus"].set(FOCUSED)
    assert camera.expose(0.5).counts[0, 0] == 1


def test_a_wrong_line_is_named(folder: Path) -> None:
    path = folder / "tracking.jsonl"
    bad = json.dumps({"event": "set", "t_s": 101.0, "deflectors": {"beam_shift": [1.0]}})
    path.write_text(path.read_text() + bad + "\n")
    with pytest.raises(UserError, match=r"tracking.jsonl: set at 101.0.*beam_shift"):
        open_replay(ReplayOptions(folder=folder))


def test_folders_that_hold_no_session(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no tracking.jsonl"):
        open_replay(ReplayOptions(folder=tmp_path))
    SeriesFolder(tmp_path / "empty", GEOMETRY, SeriesMetadata()).close()
    with pytest.raises(UserError, match="no exposure with an image"):
        open_replay(ReplayOptions(folder=tmp_path))


def test_nonsense_is_refused(folder: Path) -> None:
    microscope, camera, _ = open_replay(ReplayOptions(folder=folder))
    with pytest.raises(LimitExceeded):
        microscope.deflectors["beam_shift"].set((0.0, 1e9))
    with pytest.raises(LimitExceeded):
        microscope.stage.start_move(x_um=1e9)
    with pytest.raises(LimitExceeded):
        camera.expose(0.0)
    camera.release()
    with pytest.raises(ConnectionLost):
        camera.expose(0.1)
    microscope.release()
