"""One SerialRED series through instamatic's own server and a camera on the network.

The microscope twin runs in a process of its own. Instamatic 2.2.2's TEM server, in an environment
of its own, drives it; Ewaldflow drives that server. Images come from stand-ins for the Merlin and
Serval software, which ask the twin for one in the moment they are asked themselves. Everything
goes through the guard, and the series is read and reduced as any other.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from _table import Table, options, say, skip, work_folder
from guard_faults import Server
from numpy.typing import NDArray

from ewaldflow.hardware.calibrate_deflectors import DeflectorCalibration, calibrate_deflectors
from ewaldflow.hardware.guard import guarded
from ewaldflow.hardware.instamatic.tools.environment import find, make, tem_server
from ewaldflow.hardware.lab import Lab, open_lab
from ewaldflow.hardware.moves import move
from ewaldflow.hardware.serialred.acquire import begin, crystals
from ewaldflow.hardware.simulated import door
from ewaldflow.hardware.simulated.calibrated import true_calibrations
from ewaldflow.hardware.simulated.clock import ScaledClock
from ewaldflow.hardware.simulated.twin import Twin, TwinOptions, open_twin
from ewaldflow.lib.errors import UserError
from ewaldflow.lib.formats.read import read_series
from ewaldflow.lib.instrument import INSTRUMENTS, load_instrument
from ewaldflow.lib.reduction.engine import reduce_series
from ewaldflow.lib.reduction.result import Reduction
from ewaldflow.lib.serialred.acquisition import Acquisition, CrystalOutcome
from ewaldflow.lib.serialred.alignment import bridged, pattern_centre
from ewaldflow.lib.serialred.calibration import (
    CalibrationSet,
    calibrations_from_dict,
    calibrations_to_dict,
)
from ewaldflow.lib.serialred.raster import Box
from ewaldflow.lib.serialred.session import Diffraction, Height, Imaging, SessionConfig, Stop
from ewaldflow.lib.serialred.settings import RotationSettings

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "hardware"))
from standins.merlin import MerlinStandIn
from standins.serval import ServalStandIn

NAME = "twin-behind-instamatic"
RANGE_DEG, QUICK_RANGE_DEG = 25.0, 8.0
# Numbers of a JEOL goniometer's speeds, as the twin's turns.
SPEEDS = {k: round(k * 50 / 60, 4) for k in range(1, 12)}
# Each kind of exposure has a length of its own, so that they can be told apart.
FRAME_S, SNAPSHOT_S, LOOK_S = 0.5, 0.4, 0.3
# What ramp, first read-out and tracking images take of the range of the frames, at both ends.
ENDS_DEG = 2.5
COUNTER_DEPTH, DEAD_S = 24, 0.008
SPECIMEN = {"width_um": 60.0, "bar_um": 0.0, "phases": [{"structure": "MFI"}]}
# What the operator left: settings of the server, none of them where the twin begins.
LEFT = {
    "setImageShift1": (33000, 32500),
    "setImageShift2": (32800, 32700),
    "setBeamShift": (32790, 32750),
    "setBrightness": (30000,),
}


class Fed:
    """Takes its images from the twin, each when it is asked for, and counts those of frames."""

    def __init__(self, port: int, speed: float) -> None:
        options = door.Options(port=port, speed=speed, timeout_s=60.0)
        self._camera = door.open_camera(options, ScaledClock(speed))
        self._lock = threading.Lock()
        self.frames = self.exposures = 0

    def __call__(self, exposure_s: float) -> NDArray[np.uint16]:
        """(rows, columns) counts."""
        with self._lock:
            self.exposures += 1
            self.frames += abs(exposure_s - FRAME_S) < 1e-6
            return self._camera.expose(exposure_s).counts


@contextmanager
def camera_behind(kind: str, fed: Fed) -> Iterator[dict[str, Any]]:
    """A stand-in for the software of a detector; gives the options of its adapter."""
    shared: dict[str, Any] = {"adapter": kind, "shape": [516, 516], "timeout_s": 30.0,
                              "dead_time_s": DEAD_S}  # fmt: skip
    if kind == "merlin":
        with MerlinStandIn(fed, paced=False) as merlin:
            ports = {"command_port": merlin.command_port, "data_port": merlin.data_port}
            yield {**shared, **ports, "counter_depth": COUNTER_DEPTH, "continuous": False}
    else:
        with ServalStandIn(fed, paced=False) as serval:
            yield {**shared, "port": serval.port}


@contextmanager
def twin_apart(
    folder: Path, twin_options: dict[str, Any], speed: float
) -> Iterator[dict[str, int]]:
    """The twin in a process of its own; gives its ports."""
    chosen = folder / "twin.yaml"
    chosen.write_text(yaml.safe_dump(twin_options))
    command = [sys.executable, "-m", "ewaldflow.hardware.simulated.server"]
    command += ["--options", str(chosen), "--speed", str(speed)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield json.loads(process.stdout.readline())
        finally:
            process.terminate()


def instrument_file(folder: Path, tem_port: int, camera: dict[str, Any], speed: float) -> Path:
    """The YAML of the instrument ``twin``, driven through servers."""
    instrument = yaml.safe_load((INSTRUMENTS / "twin.yaml").read_text())
    microscope = {
        "adapter": "instamatic",
        "port": tem_port,
        "voltage_kV": 200,
        "rotation_speeds": SPEEDS,
        "timeout_s": 30.0,
    }
    control = {**instrument["control"], "microscope": microscope, "camera": camera}
    instrument |= {"name": NAME, "control": {**control, "clock_speed": speed, "dead_man_s": 60.0}}
    path = folder / "instrument.yaml"
    path.write_text(yaml.safe_dump(instrument))
    return path


def session_at(twin: Twin, instrument: Path, half_range_deg: float) -> SessionConfig:
    """A session around the isolated crystal of usual size nearest to the middle of the grid."""
    p = twin.truth.specimen.particles
    good = np.flatnonzero(p.isolated & (p.phase >= 0) & ~p.faint & (abs(p.area_um2 - 0.5) < 0.3))
    place_um = p.centre_um[good[np.argmin(np.hypot(*p.centre_um[good, :2].T))]]
    x, y = (float(v) for v in twin.truth.stage_um(place_um))
    return SessionConfig(
        name="through-instamatic",
        instrument=str(instrument),
        area=Box(x_um=(x - 2, x + 2), y_um=(y - 2, y + 2)),
        imaging=Imaging(exposure_s=LOOK_S, overlap_um=3.0),
        diffraction=Diffraction(snapshot_s=SNAPSHOT_S, brightness=0.44),
        height=Height(exposure_s=LOOK_S),
        rotation=RotationSettings(
            range_deg=(-half_range_deg, half_range_deg),
            widest=True,
            speed_deg_per_s=SPEEDS[1],
            positioning_deg_per_s=SPEEDS[2],
            exposure_s=FRAME_S,
        ),
        stop=Stop(crystals=1),
    )


def calibrated(lab: Lab, session: SessionConfig, twin: Twin, *, measure: bool) -> CalibrationSet:
    """The twin's true calibrations, or measured through the servers."""
    if measure:
        x_um, y_um = (0.5 * (low + high) for low, high in (session.area.x_um, session.area.y_um))
        move(lab.microscope.stage, lab.clock, x_um=x_um, y_um=y_um)
        settings = DeflectorCalibration(
            magnification=session.imaging.magnification,
            camera_length_mm=session.diffraction.camera_length_mm,
            brightness_small=session.diffraction.brightness,
            max_error=0.005,
        )
        return calibrate_deflectors(
            lab.microscope, lab.camera, lab.clock, settings, valid=~lab.instrument.detector.mask,
            progress=lambda done, of, what: say(f"  calibrating {done}/{of}: {what}"),
        )  # fmt: skip
    known = calibrations_to_dict(true_calibrations(twin, session))
    for one in known["calibrations"]:
        one["instrument"] = NAME
    return calibrations_from_dict(known)


@dataclass(frozen=True)
class Collected:
    """One session as it went; `wrong`: what the guard left otherwise than it should."""

    done: Acquisition
    wrong: tuple[str, ...]
    fed: Fed
    twin: Twin
    wall_s: float


def collect(kind: str, python: Path, folder: Path, half_range_deg: float, given: Any) -> Collected:
    """A whole session with all its processes."""
    folder.mkdir(parents=True)
    os.environ["EWALDFLOW_STATE"] = str(folder / "state")
    twin_options = {"seed": given.seed, "specimen": SPECIMEN}
    twin = open_twin(TwinOptions.model_validate(twin_options))  # only its truth is asked
    server_folder = folder / "instamatic"
    server_folder.mkdir()
    with twin_apart(folder, twin_options, given.speed) as ports:
        truth, fed = Server(ports["tem_port"]), Fed(ports["camera_port"], given.speed)
        for name, values in LEFT.items():
            truth(name, *values)
        found = truth.settings()
        twin_port = ("127.0.0.1", ports["tem_port"])
        with (
            tem_server(python, server_folder, twin_port) as port,
            camera_behind(kind, fed) as camera,
        ):
            instrument = instrument_file(folder, port, camera, given.speed)
            session = session_at(twin, instrument, half_range_deg)
            began = time.monotonic()
            with guarded(open_lab(instrument)) as lab:
                known = calibrated(lab, session, twin, measure=given.calibrate)
                fed.frames = 0
                hunt = begin(lab, session, known, folder / "raw")
                for one in crystals(hunt, lambda what, k, n: say(f"  {what}")):
                    say(f"  {one.name}: {one.status}, {one.reason}")
            wall_s = time.monotonic() - began
        now, wanted = truth.settings(), {**found, "blanked": True, "moving": False}
    wrong = [f"{key} is {now[key]}, not {wanted[key]}" for key in now if now[key] != wanted[key]]
    wrong += [str(one.name) for one in (folder / "state").glob("*.found.json")]
    return Collected(hunt.acquisition(), tuple(wrong), fed, twin, wall_s)


def true_cell(twin: Twin, outcome: CrystalOutcome) -> NDArray[np.float64]:
    """(6,) of the particle at the place of an outcome."""
    particles = twin.truth.specimen.particles
    places = np.array([twin.truth.stage_um(one) for one in particles.centre_um])
    away = np.hypot(*(places - [outcome.x_um, outcome.y_um]).T)
    phase = twin.truth.specimen.phases[particles.phase[np.argmin(away)]]
    return np.array(phase.structure.cell.parameters)


def moved_px(frames: NDArray[Any]) -> tuple[float, float]:
    """R.m.s. and largest distance of the patterns from their mean place."""
    expected, centres = None, []
    for frame in frames:
        at = pattern_centre(frame, expected)
        expected = at if expected is None else expected
        centres.append(np.full(2, np.nan) if at is None else at)
    at_px = bridged(np.array(centres)).centres_px
    off = np.linalg.norm(at_px - at_px.mean(axis=0), axis=1)
    return float(np.sqrt(np.mean(off**2))), float(off.max())


def judge(table: Table, kind: str, got: Collected, half_range_deg: float, folder: Path) -> None:
    """The rows of one session."""
    for text in got.wrong:
        say(f"  WRONG {text}")
    table.check(f"{kind}: guard state wrong in", len(got.wrong), at_most=0, form="d")
    table.tell(f"{kind}: wall", f"{got.wall_s:.0f} s, {got.fed.exposures} images; {got.done.ended}")
    kept = len(list(folder.glob("raw/crystal-*/frames/*.img")))
    table.check(f"{kind}: frames lost, of {got.fed.frames}", got.fed.frames - kept, at_most=0,
                form="d")  # fmt: skip
    series = [one for one in got.done.crystals if one.folder]
    taken = [one for one in series if one.status == "taken"]
    table.tell(f"{kind}: series", "; ".join(f"{one.status}: {one.reason}" for one in series) or "0")
    if not taken:
        table.fail(f"{kind}: a whole series", got.done.ended or "none")
        return
    one = taken[0]
    assert one.alpha_start_deg is not None
    assert one.alpha_end_deg is not None
    reached = abs(one.alpha_end_deg - one.alpha_start_deg)
    table.check(f"{kind}: range in frames, deg", reached, at_least=2 * half_range_deg - ENDS_DEG)
    try:
        read = read_series(Path(one.folder) / "frames", instrument=load_instrument("twin"))
        rms, largest = moved_px(np.asarray(read.frames))
        table.check(f"{kind}: pattern movement, px r.m.s.", rms, at_most=1.5)
        table.check(f"{kind}: pattern movement, px at most", largest, at_most=4.0)
        _judge_reduction(table, kind, reduce_series(read), true_cell(got.twin, one))
    except UserError as error:
        table.fail(f"{kind}: reduction", str(error))


def _judge_reduction(
    table: Table, kind: str, reduction: Reduction, truth: NDArray[np.float64]
) -> None:
    if not reduction.lattices:
        table.fail(f"{kind}: indexed", reduction.verdict)
        return
    lattice = reduction.lattices[0]
    table.check(f"{kind}: indexed", lattice.indexed_fraction, at_least=0.8)
    table.tell(
        f"{kind}: cell",
        " ".join([lattice.bravais, *(f"{value:.2f}" for value in lattice.cell)]),
    )
    axes = np.sort(list(lattice.cell)[:3]) / np.sort(truth[:3]) - 1
    table.check(f"{kind}: cell axes off, %", 100 * float(np.abs(axes).max()), at_most=1.0)
    # without the lattice's constraints, which make these angles right by themselves
    angles = np.array(list(lattice.cell_p1)[3:]) - truth[3:]
    table.check(f"{kind}: cell angles off, deg", float(np.abs(angles).max()), at_most=1.0)


def main() -> int:
    """Collect with each camera and show the table."""
    parser = options(__doc__ or "")
    parser.add_argument("--seed", type=int, default=1, help="of the twin")
    parser.add_argument("--speed", type=float, default=4.0, help="twin's seconds per second")
    parser.add_argument("--camera", choices=("merlin", "serval"), help="only this one")
    parser.add_argument("--calibrate", action="store_true", help="measure the calibrations too")
    given = parser.parse_args()
    logging.getLogger("ewaldflow").setLevel(logging.ERROR)
    try:
        python = find() or make()
    except (OSError, subprocess.CalledProcessError) as error:
        return skip(f"no environment with instamatic could be made: {error}")
    kinds = [given.camera] if given.camera else ["merlin"] if given.quick else ["merlin", "serval"]
    half_range_deg = QUICK_RANGE_DEG if given.quick else RANGE_DEG
    table = Table(f"SerialRED through instamatic, +-{half_range_deg:g} deg, {given.speed:g} times")
    with work_folder(given.work) as folder:
        for kind in kinds:
            say(kind)
            got = collect(kind, python, folder / kind, half_range_deg, given)
            judge(table, kind, got, half_range_deg, folder / kind)
    return table.show()


if __name__ == "__main__":
    sys.exit(main())
