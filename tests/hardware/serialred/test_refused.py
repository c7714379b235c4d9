"""What makes a session impossible ends it in one line, and nothing is left wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ewaldflow.hardware.errors import (
    BeamLost,
    CameraFailed,
    InstrumentError,
    LimitExceeded,
    Unsupported,
)
from ewaldflow.hardware.serialred import acquire
from ewaldflow.hardware.serialred.acquire import crystals
from ewaldflow.hardware.simulated.calibrated import true_calibrations
from ewaldflow.lib.errors import UserError
from ewaldflow.lib.serialred.acquisition import ViewRecord
from ewaldflow.lib.serialred.calibration import CalibrationSet
from ewaldflow.lib.serialred.raster import Box
from ewaldflow.lib.serialred.session import Imaging
from ewaldflow.lib.serialred.settings import RotationSettings

Make = Callable[..., Any]


def refused(bench: Any, kind: type[UserError], match: str) -> str:
    """The line with which the beginning of a session is refused."""
    with pytest.raises(kind, match=match) as raised, bench.begun():
        pass
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_a_scan_area_outside_the_stage_limits(bench: Make) -> None:
    one = bench(session={"area": Box(x_um=(880, 910), y_um=(0, 5))})
    refused(one, UserError, r"scan area: corner of the box: found \(910, 0\) um.*nothing was moved")
    one.assert_nothing_happened()


def test_a_tilt_range_beyond_the_limits(bench: Make) -> None:
    one = bench(session={"rotation": RotationSettings(range_deg=(-70, 50))})
    refused(one, LimitExceeded, r"range_deg: found \(-70.0, 50.0\), expected within -65 to 65")
    one.assert_nothing_happened()


@pytest.mark.parametrize("part", ["image_shift_1", "image_shift_2", "stage_stop"])
def test_an_instrument_that_lacks_a_part(bench: Make, part: str) -> None:
    one = bench(lacking=[part])
    refused(one, Unsupported, f"found no {part}")


def test_calibrations_of_another_magnification(bench: Make) -> None:
    one = bench(session={"imaging": Imaging(magnification=5000)})
    one.calibrations = true_calibrations(one.twin, bench().config)
    refused(one, UserError, "stage, imaging: found magnification 2500, expected 5000")
    one.assert_nothing_happened()


def test_calibrations_of_another_camera_length(bench: Make) -> None:
    one = bench()
    one.calibrations = CalibrationSet(
        tuple(replace(c, camera_length_mm=250.0 if c.camera_length_mm else None)
              for c in one.calibrations)
    )  # fmt: skip
    refused(one, UserError, "beam_shift, defocused: found camera length 250.0 mm, expected 300 mm")
    one.assert_nothing_happened()


def test_stale_calibrations(bench: Make) -> None:
    one = bench()
    when = datetime.now(UTC) - timedelta(hours=30)
    one.calibrations = true_calibrations(one.twin, one.config, when)
    refused(one, UserError, "stage, imaging: found one 30 h old, expected at most 24 h")
    one.assert_nothing_happened()


def test_poor_calibrations(bench: Make) -> None:
    one = bench()
    poor = replace(one.calibrations.get("image_shift_2", "focused"), residual_px=9.0)
    one.calibrations = one.calibrations.with_([poor])
    refused(one, UserError, "image_shift_2, focused: found residuals of 9 px")
    one.assert_nothing_happened()


@pytest.mark.parametrize(
    ("actuator", "condition"), [("stage", "imaging"), ("image_shift_1", "defocused")]
)
def test_missing_calibrations(bench: Make, actuator: str, condition: str) -> None:
    one = bench()
    rest = [c for c in one.calibrations if (c.actuator, c.condition) != (actuator, condition)]
    one.calibrations = CalibrationSet(tuple(rest))
    refused(one, UserError, f"calibration of {actuator}, {condition}: found none")
    one.assert_nothing_happened()


def test_calibrations_that_tracking_does_not_need(bench: Make) -> None:
    one = bench(session={"rotation": RotationSettings(tracking="none")})
    needed = [c for c in one.calibrations if c.condition == "imaging"]
    one.calibrations = CalibrationSet(tuple(needed))
    with one.begun():
        pass


def test_a_camera_that_returns_the_wrong_shape(bench: Make) -> None:
    one = bench()
    one.twin.inject("corrupt_shape")
    refused(one, CameraFailed, r"found an image of \(515, 516\), expected \(516, 516\)")
    one.assert_safe()


@pytest.mark.parametrize("why", ["lost", "screen"])
def test_a_blank_beam(bench: Make, why: str) -> None:
    one = bench()
    if why == "lost":
        one.twin.inject("beam_lost")
    else:
        one.twin.microscope.set_screen(down=True)
    refused(one, BeamLost, "beam: found .* counts per pixel in 0.5 s, expected at least 1")
    one.assert_safe()


def taken(bench: Any) -> Any:
    """The session, all of it; its error is raised behind the guard."""
    with bench.begun() as hunt:
        bench.hunt = hunt
        return list(crystals(hunt))


def test_no_crystals_at_all(bench: Make) -> None:
    one = bench(places_um=())
    with pytest.raises(UserError, match="found no suitable crystal among") as raised:
        taken(one)
    assert "\n" not in str(raised.value)
    one.assert_safe()


def test_every_crystal_clustered(bench: Make) -> None:
    one = bench(places_um=((0.0, 0.0), (1.1, 0.2), (-0.5, 1.1)))
    with pytest.raises(UserError, match=r"among 3 particles \(3 too near to another particle\)"):
        taken(one)
    done = one.hunt.acquisition()
    assert [c.status for c in done.crystals] == ["refused"] * 3
    one.assert_safe()


def test_a_beam_lost_on_the_way_is_not_taken_for_bars(bench: Make) -> None:
    one = bench(session={"area": Box(x_um=(-15, 15), y_um=(-15, 15)), "views_per_block": 3})
    with pytest.raises(BeamLost, match="beam: found"), one.begun() as hunt:
        one.twin.inject("beam_lost")
        list(crystals(hunt))
    assert len(hunt.acquisition().views) == 3
    assert all(view.dark for view in hunt.acquisition().views)
    one.assert_safe()


def test_a_view_lit_by_its_edge_alone_is_no_place_to_look_for_the_beam(
    bench: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = bench(session={"area": Box(x_um=(-15, 15), y_um=(-15, 15)), "views_per_block": 3})
    counts = iter([17.0, 0.54])

    def look(station: Any, position: Any, first: int) -> tuple[ViewRecord, list[Any]]:
        mean = next(counts, 0.01)
        return ViewRecord(position.x_um, position.y_um, (), 0, mean < 0.1, mean), []

    monkeypatch.setattr(acquire, "look", look)
    with one.begun() as hunt:
        lit = (hunt.raster[0].x_um, hunt.raster[0].y_um)
        with pytest.raises(UserError, match="no suitable crystal"):  # and not: the beam is lost
            list(crystals(hunt))
        assert hunt.light_at == lit
    one.assert_safe()


def test_failures_in_a_row_end_it(bench: Make) -> None:
    one = bench(session={"area": Box(x_um=(-15, 15), y_um=(-15, 15)), "views_per_block": 30})
    with one.begun() as hunt:
        one.twin.inject("camera_timeout")
        assert list(crystals(hunt)) == []
    assert hunt.ended.startswith("The instrument failed 3 times in a row, at last: simulated")
    assert isinstance(hunt.acquisition().ended, str)
    one.assert_safe()


def test_one_failure_does_not(bench: Make) -> None:
    one = bench(places_um=(), session={"area": Box(x_um=(-4, 4), y_um=(-4, 4))})
    with pytest.raises(UserError, match="no suitable crystal"), one.begun() as hunt:
        one.twin.inject("camera_timeout", at_exposure=1, duration_s=1.0)
        list(crystals(hunt))
    assert hunt.failures == 1
    assert len(hunt.views) == len(hunt.raster) - 1


def test_limits_are_those_of_the_instrument(bench: Make) -> None:
    one = bench()
    with pytest.raises(InstrumentError, match="stage alpha_deg: found 66"), one.begun() as hunt:
        hunt.station.move(alpha_deg=66.0)
    one.assert_safe()
