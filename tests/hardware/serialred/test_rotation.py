"""Rotation with tracking on the twin: a crystal that wanders stays in the beam, and faults end it.

The specimen is one dark plate, drawn quickly, so that the tests are about the loop.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from ewaldflow.hardware.errors import ConnectionLost, Unsupported
from ewaldflow.hardware.moves import move
from ewaldflow.hardware.protocols import Capability
from ewaldflow.hardware.serialred.rotation import collect_rotation
from ewaldflow.hardware.simulated.goniometer import preset
from ewaldflow.hardware.simulated.twin import TwinOptions, open_twin
from ewaldflow.lib.errors import UserError
from ewaldflow.lib.instrument import load_instrument
from ewaldflow.lib.serialred.calibration import CalibrationSet, ShiftCalibration
from ewaldflow.lib.serialred.settings import RotationSettings

INSTRUMENT = load_instrument("twin")
VALID = ~INSTRUMENT.detector.mask
DEFOCUS_UM, BLUR_UM = 150.0, 0.006
QUICK = {"range_deg": (-20.0, 20.0), "speed_deg_per_s": 1.0}


@dataclass
class Plate:
    """A scene: a beam, and a square plate of 0.5 um that lets half of it through."""

    at_um: Any = None
    half_um: float = 0.25

    def __call__(self, view: Any) -> Any:
        rows, columns = view.shape
        light = np.full(view.shape, 1e-7 * view.electrons)
        if view.mode == "diffraction" and not view.defocused:
            row = np.exp(-0.5 * ((np.arange(rows) - view.pattern_px[0]) / 1.5) ** 2)
            column = np.exp(-0.5 * ((np.arange(columns) - view.pattern_px[1]) / 1.5) ** 2)
            return light + 1e-4 * view.electrons * np.outer(row, column)
        inverse = np.linalg.inv(view.picture_px_per_um)
        middle = view.origin_px + view.picture_px_per_um @ view.beam_centre_um
        reach = view.beam_radius_um * np.linalg.norm(view.picture_px_per_um, 2) + 3
        low = np.clip(middle - reach, 0, view.shape).astype(int)
        high = np.clip(middle + reach + 1, 0, view.shape).astype(int)
        if (high <= low).any():
            return light
        grid = np.moveaxis(np.mgrid[low[0] : high[0], low[1] : high[1]], 0, -1)
        place = (grid - view.origin_px) @ inverse.T
        from_beam = np.hypot(*np.moveaxis(place - view.beam_centre_um, -1, 0))
        area = math.pi * view.beam_radius_um**2 * abs(np.linalg.det(view.picture_px_per_um))
        edge = np.clip(0.5 + (view.beam_radius_um - from_beam) / BLUR_UM, 0, 1)
        beam = view.electrons / area * edge
        if self.at_um is not None:
            pose = view.start
            centre = (pose.rotation @ self.at_um + pose.translation_um)[:2]
            in_plate = (place - centre) @ np.linalg.inv(pose.rotation[:2, :2]).T
            beam[(np.abs(in_plate) < self.half_um).all(-1)] *= 0.5
        light[low[0] : high[0], low[1] : high[1]] += beam
        return light


def calibrations_of(twin: Any) -> CalibrationSet:
    """The twin's own matrices, as a perfect calibration would find them."""
    scope, found = twin.microscope, []

    def add(actuator: str, condition: str, **where: Any) -> None:
        matrix = twin.truth.px_per_unit(actuator, condition)
        unit = "um" if actuator == "stage" else "nm"
        found.append(
            ShiftCalibration(
                actuator, condition, unit, matrix, np.zeros((4, 4)), 0.1, 25, 0, scope.name,
                datetime.now(UTC), **where,
            )
        )  # fmt: skip

    for name in ("stage", "beam_shift"):
        add(name, "imaging", magnification=scope.magnification())
    scope.set_mode("diffraction")
    for condition, focus in (("focused", 0.0), ("defocused", DEFOCUS_UM)):
        scope.lenses["diffraction_focus"].set(focus)
        for name in ("beam_shift", "image_shift_1", "image_shift_2"):
            where = {"defocus_um": DEFOCUS_UM} if focus else {}
            add(name, condition, camera_length_mm=scope.camera_length_mm(), **where)
    scope.lenses["diffraction_focus"].set(0.0)
    return CalibrationSet(tuple(found))


@dataclass
class Seen:
    """A sink that keeps all, and asks the twin where the crystal was."""

    twin: Any
    plate: Plate
    frames: list[int] = field(default_factory=list)
    angles: list[tuple[float, float]] = field(default_factory=list)
    images: list[int] = field(default_factory=list)
    decisions: list[dict[str, Any]] = field(default_factory=list)
    off: list[float] = field(default_factory=list)
    patterns: list[Any] = field(default_factory=list)
    flats: int = 0
    fail_at: int | None = None

    def frame(self, number: int, exposure: Any, start: float, end: float) -> None:
        if self.fail_at is not None and number >= self.fail_at:
            raise OSError("the disk is full")
        self.frames.append(number)
        self.angles.append((start, self.twin.truth.alpha_deg(exposure.started_s)))
        self.patterns.append(self._where(exposure).pattern_px)

    def tracking(self, number: int, exposure: Any, start: float, end: float) -> None:
        self.images.append(number)
        self._where(exposure)

    def flat(self, exposure: Any, alpha: float) -> None:
        self.flats += 1

    def decision(self, what: dict[str, Any]) -> None:
        self.decisions.append(what)

    def named(self, name: str) -> list[dict[str, Any]]:
        return [one for one in self.decisions if one["decision"] == name]

    def _where(self, exposure: Any) -> Any:
        views = self.twin.truth.column.views(exposure.started_s, exposure.ended_s)
        if not views:
            return self.twin.truth.view()
        view = views[len(views) // 2]
        if self.plate.at_um is not None:
            there = view.start.rotation @ self.plate.at_um + view.start.translation_um
            self.off.append(float(np.hypot(*(there[:2] - view.beam_centre_um))) / 0.5)
        return view


def set_up(seed: int = 4, start_deg: float = -20.0, plate: bool = True, **options: Any) -> Any:
    """A twin with a plate in its beam, its calibrations, and a sink."""
    scene = Plate()
    options = {"goniometer": "badly_set", **options}
    twin = open_twin(TwinOptions(seed=seed, **options), INSTRUMENT, scene=scene)
    stage, clock = twin.microscope.stage, twin.clock
    found = calibrations_of(twin)
    move(stage, clock, alpha_deg=start_deg - math.copysign(1, start_deg), speed_deg_per_s=5.0)
    move(stage, clock, alpha_deg=start_deg, speed_deg_per_s=5.0)
    if plate:
        pose, beam = twin.truth.pose(), twin.truth.view().beam_centre_um
        wanted = beam - pose.translation_um[:2] + np.array([0.12, -0.08])
        scene.at_um = np.array([*np.linalg.solve(pose.rotation[:2, :2], wanted), 0.0])
    return twin, found, Seen(twin, scene)


def collect(twin: Any, found: CalibrationSet, seen: Seen, **settings: Any) -> Any:
    return collect_rotation(
        twin.microscope, twin.camera, twin.clock,
        RotationSettings.model_validate({**QUICK, **settings}), found, seen, valid=VALID,
    )  # fmt: skip


def everything_is_back(twin: Any, before: Any) -> None:
    after = twin.truth.settings
    for name in ("diffraction_focus", "beam_shift", "image_shift_1", "image_shift_2"):
        assert getattr(after, name) == pytest.approx(getattr(before, name), abs=0.5), name
    assert not twin.truth.is_moving()


@pytest.mark.parametrize("start_deg", [-20.0, 20.0])
def test_a_wandering_crystal_stays_in_the_beam_and_the_pattern_stays_still(start_deg):
    twin, found, seen = set_up(start_deg=start_deg)
    before = twin.truth.settings
    record = collect(twin, found, seen)
    assert record.complete
    assert record.range_deg > 38.5
    assert (record.alpha_end_deg > record.alpha_start_deg) == (start_deg < 0)
    assert max(seen.off) < 1
    at = np.array(seen.patterns)
    assert np.linalg.norm(at - at.mean(axis=0), axis=1).max() < 1.5
    # angles of the frames: as told at once, and by the line in the end
    told = np.array(seen.angles)
    assert np.abs(told[:, 0] - told[:, 1]).max() < 0.4
    line = np.array([one.alpha_start_deg for one in record.frames])
    assert np.abs(line - told[:, 1]).max() < 0.25
    assert record.alpha_rms_deg < 0.15
    # every exposure has its number, once; each decision its time
    numbers = sorted({*seen.frames, *seen.images} - {0})
    assert numbers == list(range(1, len(numbers) + 1))
    assert not set(seen.frames) & set(seen.images)
    assert [one.number for one in record.frames] == seen.frames
    assert all("t_s" in one for one in seen.decisions)
    assert seen.named("beam moved")
    # the beam as it is was looked at around the plate: it is even here
    assert seen.flats == 7
    [flat] = seen.named("flat")
    assert flat["n_images"] >= 4
    assert flat["uneven_by"] < 0.25
    everything_is_back(twin, before)


def test_without_tracking_the_crystal_is_lost_and_said_to_be():
    twin, found, seen = set_up(seed=7)
    record = collect(twin, found, seen, tracking="none")
    assert not record.complete
    assert record.abort.rule == "crystal lost"
    assert record.range_deg < 20
    assert seen.named("abort")[0]["images"] == 4
    assert not seen.named("beam moved")
    assert not twin.truth.is_moving()


def test_an_interval_of_zero_takes_no_images_and_needs_no_calibration():
    twin, _, seen = set_up()
    record = collect(twin, CalibrationSet(), seen, tracking="none", image_interval=0)
    assert record.complete
    assert seen.images == []
    assert seen.frames == list(range(1, len(seen.frames) + 1))


def test_no_crystal_in_the_beam():
    twin, found, seen = set_up(plate=False)
    record = collect(twin, found, seen)
    assert record.reason == "crystal lost: not seen in the image at rest"
    assert record.frames == ()
    assert record.range_deg == 0


def test_a_blank_beam():
    twin, found, seen = set_up()
    twin.microscope.blank()
    record = collect(twin, found, seen)
    assert record.reason == "beam lost: no disc in the image at rest"


def test_a_beam_lost_on_the_way():
    twin, found, seen = set_up()
    twin.inject("beam_lost", at_s=twin.clock.now() + 15)
    record = collect(twin, found, seen)
    assert record.abort.rule == "beam lost"
    assert 5 < record.range_deg < 30
    assert not twin.truth.is_moving()


def test_a_hung_stage_is_noticed_by_its_read_outs():
    twin, found, seen = set_up()
    twin.inject("stage_hung", at_s=twin.clock.now() + 10, duration_s=100)
    record = collect(twin, found, seen, stage_read_s=4.0)
    assert record.abort.rule == "stage"
    assert "off its line" in record.reason
    assert not twin.truth.is_moving()


@pytest.mark.parametrize("interval", [10, 0])
def test_a_table_20_percent_off_the_speed_asked_for_is_no_fault(interval):
    poor = preset("badly_set").model_copy(update={"speed_error": 0.3})
    twin, found, seen = set_up(goniometer=poor)
    record = collect(twin, found, seen, image_interval=interval, speed_deg_per_s=0.5)
    assert abs(record.speed_deg_per_s / 0.5 - 1) > 0.15
    assert record.complete
    told = np.array(seen.angles)
    line = np.array([one.alpha_start_deg for one in record.frames])
    assert np.abs(line - told[:, 1]).max() < 0.25


def test_a_stage_that_hangs_from_the_start_is_noticed():
    twin, found, seen = set_up()
    before = twin.clock.now()
    twin.inject("stage_hung", at_s=before + 0.1, duration_s=100)
    record = collect(twin, found, seen, image_interval=0, tracking="none")
    assert record.abort.rule == "stage"
    assert twin.clock.now() - before < 30


def test_a_crystal_that_jumps_is_found_again():
    twin, found, seen = set_up()
    twin.inject("specimen_jump", at_s=twin.clock.now() + 18, x_um=0.45, y_um=-0.35)
    record = collect(twin, found, seen)
    assert record.complete
    assert max(seen.off[-20:]) < 1


@pytest.mark.parametrize("kind", ["connection_lost", "camera_timeout"])
def test_a_fault_goes_up_after_the_stage_was_told_to_stop(kind):
    twin, found, seen = set_up()
    twin.inject(kind, at_s=twin.clock.now() + 12, duration_s=8)
    with pytest.raises(UserError):
        collect(twin, found, seen)
    if kind == "camera_timeout":  # the microscope still listens
        assert not twin.truth.is_moving()
        assert twin.truth.settings.diffraction_focus == 0


def test_a_sink_that_fails_stops_the_stage_too():
    twin, found, seen = set_up()
    before = twin.truth.settings
    seen.fail_at = 9
    with pytest.raises(OSError, match="the disk is full"):
        collect(twin, found, seen)
    everything_is_back(twin, before)


def test_deflectors_near_their_limits_end_it():
    twin, found, seen = set_up()
    record = collect(twin, found, seen, abort={"deflector_margin": 0.499})
    assert record.abort.rule == "deflector limit"


def test_an_instrument_that_cannot():
    twin, found, seen = set_up(lacking=frozenset({Capability.STAGE_STOP}))
    with pytest.raises(Unsupported, match="no stage_stop"):
        collect(twin, found, seen)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"camera_length_mm": 150.0}, "camera length 150"),
        ({"measured_at": datetime.now(UTC) - timedelta(days=3)}, "one 72 h old"),
        ({"instrument": "other"}, "one of instrument other"),
    ],
)
def test_an_unfit_calibration_is_refused_before_anything_moves(change, words):
    twin, found, seen = set_up()
    one = replace(found.get("image_shift_2", "focused"), **change)
    with pytest.raises(UserError, match=words) as caught:
        collect(twin, found.with_([one]), seen)
    assert "image_shift_2, focused" in str(caught.value)
    assert seen.images == []


def test_a_connection_lost_for_good_is_one_line():
    twin, found, seen = set_up()
    twin.inject("connection_lost", at_s=twin.clock.now() + 6)
    with pytest.raises(ConnectionLost) as caught:
        collect(twin, found, seen)
    assert "\n" not in str(caught.value)
