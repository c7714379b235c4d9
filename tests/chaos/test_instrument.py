"""Acquisitions on one instrument: one that is cancelled leaves it safe, a second one waits.

The twin is a process of its own, behind the ports of instamatic's server, so that its truth can be
asked for when nothing of the flow is left.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from laboratory import FINAL, Laboratory, running, until

from ewaldflow.hardware.simulated.calibrated import true_calibrations
from ewaldflow.hardware.simulated.twin import TwinOptions, open_twin
from ewaldflow.lib.instrument import INSTRUMENTS
from ewaldflow.lib.serialred.calibration import calibrations_from_dict, calibrations_to_dict
from ewaldflow.lib.serialred.session import load_session
from ewaldflow.service.revival import flow_among
from ewaldflow.tasks.acquire import keep_calibrations

pytestmark = pytest.mark.long
NAME = "twin-2"
SPEED = 2.0
TWIN = {"seed": 1, "specimen": {"crystals_per_um2": 0.04}}
LIMIT_S = float(os.environ.get("EWALDFLOW_CANCEL_S", "10"))  # more where others load the machine


@dataclass(frozen=True)
class Instrument:
    """The twin behind its server."""

    port: int
    yaml: Path

    def ask(self, name: str, *args: Any) -> Any:
        """As instamatic's server is asked."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as line:
            line.sendall(json.dumps({"func_name": name, "args": args}).encode())
            text = ""
            while True:
                part = line.recv(65536).decode()
                assert part, "the twin hung up"
                text += part
                try:
                    status, data = json.loads(text)
                except json.JSONDecodeError:
                    continue
                assert status == 200, data
                return data

    def settings(self) -> dict[str, Any]:
        """What a session must leave as it found it, and what must be safe."""
        truth = self.ask("truth")
        names = ("mode", "magnification", "camera_length_mm", "deflectors", "brightness")
        return {name: truth[name] for name in (*names, "diffraction_focus", "blanked", "moving")}


@pytest.fixture(scope="module")
def laboratory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laboratory]:
    yield from running(tmp_path_factory.mktemp("cancel"), compute_slots=1)


@pytest.fixture(scope="module")
def instrument(laboratory: Laboratory) -> Iterator[Instrument]:
    options = laboratory.folder / "twin-options.yaml"
    options.write_text(yaml.safe_dump(TWIN), encoding="utf-8")
    with subprocess.Popen(
        [
            sys.executable, "-m", "ewaldflow.hardware.simulated.server",
            "--options", str(options), "--speed", str(SPEED),
        ],
        stdout=subprocess.PIPE, text=True,
    ) as server:  # fmt: skip
        try:
            assert server.stdout is not None
            ports = json.loads(server.stdout.readline())
            content = yaml.safe_load((INSTRUMENTS / "twin.yaml").read_text(encoding="utf-8"))
            content["name"] = NAME
            content["control"] |= {
                "microscope": {"adapter": "instamatic", "port": ports["tem_port"],
                               "rotation_speeds": {1.2: 1.0, 2.4: 2.0}},
                "camera": {"adapter": "ewaldflow.hardware.simulated.door",
                           "port": ports["camera_port"], "speed": SPEED, "timeout_s": 60.0},
                "clock_speed": SPEED,
                "dead_man_s": 300.0,  # on a machine that others load it may compute for long
            }  # fmt: skip
            file = laboratory.folder / "instrument.yaml"
            file.write_text(yaml.safe_dump(content), encoding="utf-8")
            twin = open_twin(TwinOptions.model_validate(TWIN))
            known = calibrations_to_dict(true_calibrations(twin, load_session("twin-demo")))
            for one in known["calibrations"]:
                one["instrument"] = NAME
            keep_calibrations(calibrations_from_dict(known), NAME, laboratory.settings.store)
            yield Instrument(ports["tem_port"], file)
        finally:
            server.terminate()


def begin(laboratory: Laboratory, instrument: Instrument, name: str, crystals: int) -> str:
    """A run of `acquire` on the instrument, as a click in the pages makes it."""
    content = load_session("twin-demo").model_dump(mode="json")
    content |= {"name": name, "sample": None, "instrument": str(instrument.yaml), "options": {}}
    content["rotation"] |= {"range_deg": (-40.0, 40.0) if crystals > 1 else (-12.0, 12.0)}
    content["area"] |= {"x_um": (-10.0, 10.0), "y_um": (-10.0, 10.0)}
    content["stop"] |= {"crystals": crystals}
    return laboratory.start("acquire/acquire", {"session": content}, name)


def slots(laboratory: Laboratory) -> int:
    """How many flows have the microscope."""
    limit = laboratory.ask(f"v2/concurrency_limits/microscope-{NAME}")
    return int(limit["active_slots"])


def log_of(laboratory: Laboratory, run: str, word: str) -> str:
    """The first line of a run's log with a word in it; "" if there is none."""
    wanted = {"logs": {"flow_run_id": {"any_": [run]}}}
    lines = laboratory.ask("logs/filter", wanted)
    return next((one["message"] for one in lines if word in one["message"]), "")


def while_it_runs(laboratory: Laboratory, run: str, found: Callable[[], Any], what: str) -> None:
    """Wait until `found` is true; the run is not to end before."""

    def either() -> str:
        if found():
            return what
        state = str(laboratory.run(run)["state_type"])
        return state if state in FINAL else ""

    assert until(either, 900, what) == what, laboratory.run(run)["state"]


def rotating(instrument: Instrument) -> bool:
    truth = instrument.settings()
    return bool(truth["mode"] == "diffraction" and truth["moving"])


@dataclass(frozen=True)
class Ended:
    """Seconds after a cancel until the instrument was safe, its children gone, and the flow."""

    safe_s: float
    children_s: float
    gone_s: float


def cancelled(
    laboratory: Laboratory, instrument: Instrument, run: str, found: dict[str, Any]
) -> Ended:
    """Cancel a run and watch it end."""
    began = time.monotonic()
    laboratory.cancel(run)
    safe_s = children_s = gone_s = 0.0
    while not (safe_s and gone_s):
        after_s = time.monotonic() - began
        assert after_s < 120, (instrument.settings(), laboratory.processes_of(run))
        if not safe_s and instrument.settings() == found | {"blanked": True}:
            safe_s = after_s
        left = laboratory.processes_of(run)
        if not children_s and len(left) == len(flow_among(left)):
            children_s = after_s
        if not gone_s and not left:
            gone_s = after_s
        time.sleep(0.1)
    return Ended(safe_s, children_s, gone_s)


@pytest.mark.parametrize("moment", ["look", "rotation", "reduction"])
def test_a_cancelled_acquisition_leaves_the_instrument_safe(
    laboratory: Laboratory, instrument: Instrument, moment: str
) -> None:
    # what the operator left; the session is to leave it so
    instrument.ask("setImageShift1", 33000, 32500)
    instrument.ask("setBrightness", 30000)
    found = instrument.settings()
    name = f"cancelled-{moment}"
    run = begin(laboratory, instrument, name, crystals=40)
    series = laboratory.settings.store / "series"
    while_it_runs(
        laboratory,
        run,
        {
            "look": lambda: instrument.settings()["brightness"] != found["brightness"],
            "rotation": lambda: rotating(instrument),
            "reduction": lambda: rotating(instrument) and any(series.glob(f"{name}-*")),
        }[moment],
        moment,
    )
    ended = cancelled(laboratory, instrument, run, found)
    print(
        f"cancelled in {moment}: safe after {ended.safe_s:.1f} s, its children gone after "
        f"{ended.children_s:.1f} s, itself after {ended.gone_s:.1f} s"
    )
    assert ended.gone_s < LIMIT_S
    until(lambda: laboratory.run(run)["state_type"] == "CANCELLED", 60, "CANCELLED")
    until(lambda: slots(laboratory) == 0, 60, "release of the microscope")
    if moment == "look":  # nothing was found yet
        return
    kept = laboratory.store.get(f"acquisition/{name}@v0001")
    assert kept.manifest.figures_of_merit["ended"] == "Cancelled."


def test_a_second_session_waits_for_the_microscope(
    laboratory: Laboratory, instrument: Instrument
) -> None:
    first = begin(laboratory, instrument, "first", crystals=40)
    while_it_runs(laboratory, first, lambda: rotating(instrument), "rotation")
    second, third = (
        begin(laboratory, instrument, name, crystals=1) for name in ("second", "third")
    )
    for run in (second, third):
        said = until(lambda run=run: log_of(laboratory, run, "waits"), 300, "word of who waits")
        assert said == f"waits for the microscope {NAME}, which acquire first has"
        state = laboratory.run(run)["state"]
        assert (state["type"], state["name"], state["message"]) == ("RUNNING", "Waiting", said)
    print(said)
    assert slots(laboratory) == 1

    # one that waits can be cancelled, and takes nothing with it
    laboratory.cancel(third)
    began = time.monotonic()
    until(lambda: not laboratory.processes_of(third), 60, "end of the one that waits")
    print(f"cancelled while it waits: gone after {time.monotonic() - began:.1f} s")
    assert time.monotonic() - began < LIMIT_S
    assert slots(laboratory) == 1
    assert laboratory.run(first)["state_type"] == "RUNNING"

    # the first is cancelled, and the second has its turn
    laboratory.cancel(first)
    began = time.monotonic()
    until(lambda: log_of(laboratory, second, "has the microscope"), 300, "turn of the second")
    print(f"the second session began {time.monotonic() - began:.1f} s after the end of the first")
    assert laboratory.ended(second, 1200)["state_type"] == "COMPLETED"
    until(lambda: slots(laboratory) == 0, 60, "release of the microscope")
    kept = laboratory.store.get("acquisition/second@v0001")
    assert kept.manifest.figures_of_merit["series"] == 1
    assert laboratory.run(first)["state_type"] == "CANCELLED"
    assert laboratory.run(third)["state_type"] == "CANCELLED"
