"""From an instrument's YAML to devices: what is wrong is told in one line."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from ewaldflow.hardware.clock import WallClock
from ewaldflow.hardware.config import StageLimits, load_control
from ewaldflow.hardware.errors import LimitExceeded
from ewaldflow.hardware.lab import clock_of, open_lab
from ewaldflow.hardware.protocols import StagePosition
from ewaldflow.lib.errors import UserError

LIMITS = {"x_um": [-9, 9], "y_um": [-9, 9], "z_um": [-9, 9], "alpha_deg": [-60, 60]}


def write(folder: Path, control: dict[str, Any] | None) -> Path:
    content: dict[str, Any] = {
        "name": "mine",
        "voltage_kV": 200,
        "detector": {"shape": [516, 516], "pixel_size_mm": 0.055},
        "rotation_axis": [1, 0, 0],
        "camera_lengths": {300: 452.0},
    }
    if control is not None:
        content["control"] = control
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def control(**changes: Any) -> dict[str, Any]:
    usual = {
        "microscope": {"adapter": "simulated", "specimen": None},
        "camera": {"adapter": "simulated"},
        "limits": LIMITS,
    }
    return {**usual, **changes}


def test_the_twin_opens_with_options_of_the_yaml_and_the_caller(tmp_path: Path) -> None:
    lab = open_lab(write(tmp_path, control()), seed=5)
    assert lab.twin is not None
    assert not lab.shared
    assert lab.camera.shape == (516, 516)
    assert lab.control.limits.alpha_deg == (-60, 60)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (None, "control: found nothing"),
        ({"limits": {**LIMITS, "alpha_deg": [60, -60]}}, "expected [lowest, highest]"),
        ({"limits": {k: v for k, v in LIMITS.items() if k != "z_um"}}, "z_um: found nothing"),
        ({"microscope": {"adapter": "simulated", "sead": 1}}, "sead"),
        ({"microscope": {"adapter": "jeol"}, "camera": {"adapter": "serval"}}, "'jeol'"),
        ({"camera": {"adapter": "merlin"}}, "simulated for both or for none"),
        (
            {"microscope": {"adapter": "no.such.module"}, "camera": {"adapter": "serval"}},
            "no.such.module",
        ),
        ({"dead_man_s": -1}, "dead_man_s"),
        ({"surprise": 1}, "surprise"),
    ],
)  # fmt: skip
def test_one_line_for_what_is_wrong(
    tmp_path: Path, changes: dict[str, Any] | None, words: str
) -> None:
    path = write(tmp_path, None if changes is None else control(**changes))
    with pytest.raises(UserError) as caught:
        open_lab(path)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_simulation_options_are_for_simulations(tmp_path: Path) -> None:
    path = write(tmp_path, control(microscope={"adapter": "a.b"}, camera={"adapter": "a.b"}))
    with pytest.raises(UserError, match="seed"):
        open_lab(path, seed=1)


def test_limits() -> None:
    limits = StageLimits.model_validate(LIMITS)
    limits.check(x_um=9.0, alpha_deg=-60.0, z_um=None)
    for wrong in ({"x_um": 9.001}, {"alpha_deg": float("nan")}, {"beta_deg": 1.0}):
        with pytest.raises(LimitExceeded, match="nothing was moved"):
            limits.check(**wrong)
    assert limits.holds(StagePosition(0, 0, 0, 0))
    assert not limits.holds(StagePosition(0, 0, 10, 0))


def test_every_instrument_that_can_be_driven_is_valid() -> None:
    instrument, found = load_control("twin")
    assert instrument.name == "twin"
    assert found.um_per_px[2500] == pytest.approx(0.01155)


def test_servers_of_the_twin_may_run_in_their_own_time(tmp_path: Path) -> None:
    _, usual = load_control(write(tmp_path, control()))
    assert isinstance(clock_of(usual), WallClock)
    _, fast = load_control(write(tmp_path, control(clock_speed=1000.0)))
    clock = clock_of(fast)
    began, wall = clock.now(), time.monotonic()
    clock.sleep(20.0)
    assert clock.now() - began >= 20.0
    assert time.monotonic() - wall < 5.0
    with pytest.raises(UserError, match="clock_speed"):
        load_control(write(tmp_path, control(clock_speed=0)))
