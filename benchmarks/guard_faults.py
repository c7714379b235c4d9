"""Each of the twin's faults at random moments of whole sessions: is the instrument safe afterwards?

In this process: short sessions (two crystals, +-10 degrees) as `ewaldflow acquire` runs them, a
fault in each, of random kind of moment, moment and length. Afterwards the twin's truth is asked
whether the beam is blank, the stage still and everything as it was found, and the disk whether
each frame that the camera gave is there.

With processes: the twin behind its server, driven through the instamatic adapter by a program that
is killed (SIGKILL) at a random moment. The guard's watcher has to bring the twin to rest.
"""

from __future__ import annotations

import json
import logging
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import numpy as np
import yaml
from _table import Table, options, say, work_folder
from _twin import grid_of, lab_with, short_session

from ewaldflow.hardware.errors import ConnectionLost
from ewaldflow.hardware.guard import NotMadeSafe, guarded
from ewaldflow.hardware.protocols import Exposure
from ewaldflow.hardware.serialred.acquire import Session, begin, crystals, refuse_impossible
from ewaldflow.hardware.simulated.calibrated import true_calibrations
from ewaldflow.hardware.simulated.camera import SimulatedCamera
from ewaldflow.hardware.simulated.faults import Fault, FaultKind
from ewaldflow.hardware.simulated.optics import STEPS
from ewaldflow.hardware.simulated.twin import Twin, TwinOptions, open_twin
from ewaldflow.lib.errors import UserError
from ewaldflow.lib.formats.read import read_series
from ewaldflow.lib.formats.series_record import NAME as RECORD
from ewaldflow.lib.formats.series_record import read_record
from ewaldflow.lib.instrument import load_instrument
from ewaldflow.lib.serialred.calibration import calibrations_from_dict, calibrations_to_dict
from ewaldflow.lib.serialred.raster import Box
from ewaldflow.lib.serialred.session import Diffraction, SessionConfig, load_session

KINDS: tuple[FaultKind, ...] = get_args(FaultKind)
SESSIONS, QUICK_SESSIONS = 104, 13
KILLS, QUICK_KILLS = 8, 2
PLACES_UM = ((-2.0, 1.5), (2.0, -1.5))
# The guard waits for a connection for a minute: a shorter fault must end well.
LONGEST_S, FOR_GOOD = 40.0, 0.25
# Left by the operator: none is where the twin begins.
FOUND = {
    "beam_shift": (60.0, -40.0),
    "image_shift_1": (30.0, 20.0),
    "image_shift_2": (-20.0, 50.0),
    "beam_tilt": (0.2, -0.1),
}
FOUND_BRIGHTNESS = 0.5
# Of a frame; the snapshot is exposed for another time, so that they are told apart.
EXPOSURE_S, SNAPSHOT_S = 0.5, 0.4


@dataclass
class Judged:
    """What was found after one session; each text is something wrong."""

    kind: str
    state: list[str] = field(default_factory=list)
    series: list[str] = field(default_factory=list)
    ending: list[str] = field(default_factory=list)
    how: str = ""
    line: str = ""
    n_series: int = 0

    @property
    def wrong(self) -> list[str]:
        """All of it."""
        return [*self.state, *self.series, *self.ending]


class Counted:
    """The twin's camera, counting the frames it gave."""

    def __init__(self, camera: SimulatedCamera, twin: Twin) -> None:
        self._camera, self._twin = camera, twin
        self.frames = self.exposures = 0

    def __getattr__(self, name: str) -> Any:
        """Everything else is the camera's."""
        return getattr(self._camera, name)

    def expose(self, exposure_s: float, binning: int = 1) -> Exposure:
        """As the camera."""
        self.exposures += 1
        exposure = self._camera.expose(exposure_s, binning)
        whole = exposure.counts.shape == tuple(self._camera.shape)
        settings = self._twin.truth.settings
        if settings.mode == "diffraction" and exposure_s == EXPOSURE_S and whole:
            self.frames += 1
        return exposure


def session_() -> SessionConfig:
    """Four views, two crystals."""
    return short_session(
        area=Box(x_um=(-3, 3), y_um=(-3, 3)), diffraction=Diffraction(snapshot_s=SNAPSHOT_S)
    )


def fault_of(kind: FaultKind, rng: np.random.Generator, length: Mapping[str, float]) -> Fault:
    """One at a random moment of a session that goes on for so many seconds, calls, exposures."""
    when = rng.choice(["at_s", "at_call", "at_exposure"])
    at = rng.uniform(0.02, 0.98) * length[when]
    moment = {when: float(at) if when == "at_s" else int(at)}
    lasts = None if rng.random() < FOR_GOOD else float(np.exp(rng.uniform(-1, np.log(LONGEST_S))))
    way = rng.normal(size=2) * (0.01 if "drift" in kind else 0.5)
    return Fault(kind=kind, duration_s=lasts, x_um=way[0], y_um=way[1], **moment)


def run(seed: int, fault: Fault | None, folder: Path) -> tuple[Judged, dict[str, float]]:
    """One session with one fault, and how long it was, by the ways to set a fault's moment."""
    lab, twin = lab_with(grid_of(PLACES_UM, seed=2), seed=seed)
    for name, xy in FOUND.items():
        twin.microscope.deflectors[name].set(xy)  # type: ignore[index]
    twin.microscope.lenses["brightness"].set(FOUND_BRIGHTNESS)
    found = twin.truth.settings
    camera = Counted(twin.camera, twin)
    object.__setattr__(lab, "camera", camera)
    session = session_()
    calibrations = true_calibrations(twin, session)
    if fault is not None:
        twin.faults.add(fault, twin.clock.now())
    judged = Judged(fault.kind if fault else "none")
    hunt: Session | None = None
    not_safe = ""
    try:  # as flows/acquire.py
        with guarded(lab) as safe:
            refuse_impossible(safe, session)
            hunt = begin(safe, session, calibrations, folder)
            for _ in crystals(hunt):
                pass
    except NotMadeSafe as error:
        not_safe, judged.line = str(error), str(error)
        inner = error.__cause__ or error.__context__
        if inner is not None and not isinstance(inner, UserError):
            judged.ending.append(f"{type(inner).__name__}: {inner}")
    except UserError as error:
        judged.line = str(error)
    except Exception as error:
        judged.ending.append(f"{type(error).__name__}: {error}")
    if judged.line.count("\n"):
        judged.ending.append("more than one line")
    judged.how = "not made safe" if not_safe else "stopped" if judged.line else "went on"
    _judge_state(judged, twin, found, fault, not_safe)
    if hunt is not None:
        _judge_series(judged, hunt, folder, camera.frames)
    calls, exposures = twin.faults.calls, camera.exposures
    return judged, {"at_s": twin.clock.now(), "at_call": calls, "at_exposure": exposures}


def _judge_state(judged: Judged, twin: Twin, found: Any, fault: Fault | None, told: str) -> None:
    """The instrument, by its truth; what could not be done must have been told."""
    s, wrong = twin.truth.settings, judged.state
    lost = fault is not None and fault.kind in ("connection_lost", "microscope_lost")
    hung = fault is not None and fault.kind == "stage_hung_for_good"
    for_good = fault is not None and fault.duration_s is None
    if told and not ((lost and for_good) or hung):
        wrong.append(f"not made safe: {told}")
    if lost and for_good and told:
        # Nothing can be done any more; the line must name all of it.
        missing = [name for name in ("stop the stage", "blank the beam") if name not in told]
        wrong += [f"not told: {name}" for name in missing]
        return
    if hung and told and "stop the stage" not in told:
        wrong.append(f"not told: stop the stage ({told})")
    if not s.blanked:
        wrong.append("the beam is on")
    if twin.truth.is_moving():
        wrong.append("the stage moves")
    if s.mode != found.mode or s.magnification != found.magnification:
        wrong.append(f"{s.mode} at {s.magnification}")
    if s.camera_length_mm != found.camera_length_mm:
        wrong.append(f"camera length {s.camera_length_mm} mm")
    for name in (*FOUND, "diffraction_shift", "brightness", "diffraction_focus"):
        away = np.abs(np.subtract(getattr(s, name), getattr(found, name))).max()
        if away > STEPS.get(name, 1e-4):
            wrong.append(f"{name} is {getattr(s, name)}, was {getattr(found, name)}")
    twin.restore()
    try:
        twin.microscope.mode()
        wrong.append("the microscope is not released")
    except ConnectionLost:
        pass
    if not twin.camera.released:
        wrong.append("the camera is not released")


def _judge_series(judged: Judged, hunt: Session, folder: Path, given: int) -> None:
    """Every frame given by the camera is on the disk, and what the session says is true."""
    wrong, instrument = judged.series, load_instrument("twin")
    done = hunt.acquisition()
    told = {Path(one.folder).name: one for one in done.taken}
    judged.n_series = len(told)
    kept = 0
    for path in sorted(folder.glob("crystal-*")):
        frames = sorted((path / "frames").glob("*.img"))
        kept += len(frames)
        wrong += _unreadable(path, instrument)
        if frames and path.name not in told:
            wrong.append(f"{path.name}: {len(frames)} frames that no outcome tells of")
        elif frames and told[path.name].n_frames != len(frames):
            wrong.append(f"{path.name}: {told[path.name].n_frames} frames told")
    if kept != given:
        wrong.append(f"{given} frames given, {kept} kept")
    unreasoned = [one.number for one in done.crystals if one.status != "taken" and not one.reason]
    if unreasoned:
        judged.ending.append(f"crystals {unreasoned} without a reason")
    if not (done.ended or judged.line):
        judged.ending.append("the session does not say why it ended")


def _unreadable(path: Path, instrument: Any) -> list[str]:
    """What is wrong with the folder of a series; nothing if it has no frames."""
    frames = sorted((path / "frames").glob("*.img"))
    if not frames:
        return []
    try:
        lines = list(read_record(path / RECORD))
        numbers = [one["number"] for one in lines if one.get("role") == "diffraction"]
        if numbers != [int(one.stem) for one in frames]:
            return [f"{path.name}: record of frames {numbers}"]
        series = read_series(path / "frames", instrument=instrument)
        counts = np.asarray(series.frames)
    except Exception as error:
        return [f"{path.name}: {type(error).__name__}: {error}"]
    if len(counts) != len(frames):
        return [f"{path.name}: {len(counts)} of {len(frames)} frames read"]
    return []


def inject_all(number: int, seed: int, folder: Path) -> list[Judged]:
    """So many sessions, the kinds in turn."""
    start = time.process_time()
    judged, length = run(seed, None, folder / "without")
    if judged.wrong or judged.line:
        raise SystemExit(f"the session without a fault: {judged.wrong} {judged.line}")
    say(f"without a fault: {judged.n_series} series, {length['at_s']:.0f} s of the twin's time")
    results = []
    for k in range(number):
        kind = KINDS[k % len(KINDS)]
        fault = fault_of(kind, np.random.default_rng([seed, k]), length)
        one, _ = run(seed + k % 4, fault, folder / f"{k:03d}")
        results.append(one)
        say(f"{k + 1:3d} {kind}: {one.how}, {one.n_series} series {one.line}")
        for text in one.wrong:
            say(f"    WRONG {text} ({fault.model_dump(exclude_defaults=True)})")
    say(f"{(time.process_time() - start) / (number + 1):.2f} s of CPU a session")
    return results


# --- with processes -----------------------------------------------------------------------------

SPEED = 10.0
SERVED = "guard-faults-twin"
SAFE_WITHIN_S, LONGEST_WAY_S = 60.0, 300.0
# A driver is killed so long after it said that it was at this.
AFTER = ("driving", "rotate", "approach", "rotate")
KILLED_S = (0.2, 3.0)
DRIVER = """
import sys
sys.path.insert(0, {here!r})
from guard_faults import drive
drive(*sys.argv[1:])
"""


def drive(instrument_yaml: str, session_yaml: str, calibrations_yaml: str, folder: str) -> None:
    """What the program that is killed runs."""
    from ewaldflow.hardware.config import load_control
    from ewaldflow.hardware.lab import Lab, open_microscope
    from ewaldflow.hardware.simulated import door
    from ewaldflow.hardware.simulated.clock import ScaledClock

    instrument, control = load_control(instrument_yaml)
    clock = ScaledClock(SPEED)
    camera = door.open_camera(door.Options.model_validate(control.camera.options), clock)
    microscope = open_microscope(instrument, control, clock)
    lab = Lab(instrument_yaml, instrument, control, microscope, camera, clock, shared=True)
    session = load_session(session_yaml)
    known = calibrations_from_dict(yaml.safe_load(Path(calibrations_yaml).read_text()))
    with guarded(lab) as safe:
        hunt = begin(safe, session, known, Path(folder))
        print("driving", flush=True)
        for one in crystals(hunt, lambda what, k, n: print(what, flush=True)):
            print(one.status, one.reason, flush=True)
    reasons = [f"{one.status} {one.reason}" for one in hunt.acquisition().crystals]
    print(f"ended: {reasons}", flush=True)


class Server:
    """The TEM port of a twin's server, asked as instamatic's is."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=30)

    def __call__(self, name: str, *args: Any) -> Any:
        """Ask for something, and wait for the answer."""
        self._socket.sendall(json.dumps({"func_name": name, "args": args}).encode())
        text = ""
        while True:
            part = self._socket.recv(65536).decode()
            if not part:
                raise ConnectionError("the twin's server hung up")
            text += part
            try:
                status, data = json.loads(text)
            except json.JSONDecodeError:
                continue
            if status != 200:
                raise RuntimeError(f"{name}: {data}")
            return data

    def settings(self) -> dict[str, Any]:
        """What a session must leave as it found it, and what must be safe."""
        truth = self("truth")
        names = ("mode", "magnification", "camera_length_mm", "deflectors", "brightness")
        return {name: truth[name] for name in (*names, "diffraction_focus", "blanked", "moving")}


@contextmanager
def served(folder: Path, seed: int) -> Iterator[tuple[Server, list[str]]]:
    """A twin in a process of its own, and the arguments of a driver for it."""
    twin_options = {"seed": seed, "specimen": {"width_um": 60.0, "bar_um": 0.0}}
    chosen = folder / "twin.yaml"
    chosen.write_text(yaml.safe_dump(twin_options))
    command = [sys.executable, "-m", "ewaldflow.hardware.simulated.server"]
    command += ["--options", str(chosen), "--speed", str(SPEED)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            ports = json.loads(process.stdout.readline())
            instrument = yaml.safe_load(_yaml_of_twin().read_text())
            instrument["name"] = SERVED
            instrument["control"] = {
                **instrument["control"],
                "microscope": {"adapter": "instamatic", "port": ports["tem_port"],
                               "rotation_speeds": {2.5: 3}},
                "camera": {"adapter": "ewaldflow.hardware.simulated.door",
                           "port": ports["camera_port"], "speed": SPEED, "timeout_s": 60.0},
            }  # fmt: skip
            twin = open_twin(TwinOptions.model_validate(twin_options))
            session = _one_crystal(twin)
            known = calibrations_to_dict(true_calibrations(twin, session))
            for one in known["calibrations"]:
                one["instrument"] = SERVED
            files = {"instrument": instrument, "calibrations": known,
                     "session": session.model_dump(mode="json")}  # fmt: skip
            for name, content in files.items():
                (folder / f"{name}.yaml").write_text(yaml.safe_dump(content))
            paths = [str(folder / f"{name}.yaml") for name in ("instrument", "session")]
            yield Server(ports["tem_port"]), [*paths, str(folder / "calibrations.yaml")]
        finally:
            process.terminate()


def _one_crystal(twin: Twin) -> SessionConfig:
    """A session that comes soon to rotating the isolated crystal nearest to the middle."""
    p = twin.truth.specimen.particles
    good = np.flatnonzero(p.isolated & (p.phase >= 0) & ~p.faint & (abs(p.area_um2 - 0.5) < 0.3))
    place_um = p.centre_um[good[np.argmin(np.hypot(*p.centre_um[good, :2].T))]]
    x, y = (float(v) for v in twin.truth.stage_um(place_um))
    rotation = short_session().rotation
    # at this speed of the clock a call by TCP takes half a second
    late = rotation.abort.model_copy(update={"off_line_deg": 10.0})
    rotation = rotation.model_copy(
        update={
            "range_deg": (-40.0, 40.0),
            "speed_deg_per_s": 2.5,
            "positioning_deg_per_s": 2.5,
            "abort": late,
        }
    )
    return short_session(
        area=Box(x_um=(x - 2, x + 2), y_um=(y - 2, y + 2)),
        diffraction=Diffraction(brightness=0.44),
        rotation=rotation,
    )


def _yaml_of_twin() -> Path:
    from ewaldflow.lib.instrument import INSTRUMENTS

    return INSTRUMENTS / "twin.yaml"


def kill_all(number: int, seed: int, folder: Path) -> tuple[list[Judged], Counter[str]]:
    """A driver killed so many times at a random moment; what it did when it was."""
    folder.mkdir(parents=True)
    os.environ["EWALDFLOW_STATE"] = str(folder / "state")
    results, doing = [], Counter[str]()
    rng = random.Random(seed)
    script = folder / "drive.py"
    script.write_text(DRIVER.format(here=str(Path(__file__).parent)))
    with served(folder, seed) as (server, paths):
        for k, xy in enumerate(((33000, 32500), (32800, 32700)), 1):
            server(f"setImageShift{k}", *xy)
        server("setBrightness", 30000)
        found = server.settings()
        for k in range(number):
            raw = folder / f"raw-{k}"
            told, after_s = AFTER[k % len(AFTER)], rng.uniform(*KILLED_S)
            judged, what = _kill(script, [*paths, str(raw)], told, after_s, server, found)
            for path in sorted(raw.glob("crystal-*")):
                judged.series += _unreadable(path, load_instrument("twin"))
            doing[what] += 1
            say(f"kill {k + 1}, {what}: {'; '.join(judged.wrong) or 'safe'} {judged.line}")
            results.append(judged)
    return results, doing


def _kill(
    script: Path,
    arguments: list[str],
    told: str,
    after_s: float,
    server: Server,
    found: dict[str, Any],
) -> tuple[Judged, str]:
    """Let it drive, kill it so long after it told this, and look until the twin is safe."""
    judged, log = Judged("killed"), script.with_suffix(".log")
    command = [sys.executable, str(script), *arguments]
    with log.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, text=True)
        until = time.monotonic() + LONGEST_WAY_S
        while told not in log.read_text():
            if process.poll() is not None or time.monotonic() > until:
                process.kill()
                judged.ending.append(f"never came to {told}: {log.read_text()[-300:]}")
                return judged, "starting"
            time.sleep(0.1)
        time.sleep(after_s)
        ended, before = process.poll() is not None, server.settings()
        process.send_signal(signal.SIGKILL)
        process.wait()
    lines = [one for one in log.read_text().split("\n") if one]
    what = "ended" if ended else lines[-1].partition(": ")[2] or lines[-1]
    if ended:
        judged.ending.append(f"it had ended before: {lines[-1]}")
    judged.line = f"(beam {'off' if before['blanked'] else 'on'}, stage " + (
        "moving)" if before["moving"] else "still)"
    )
    killed = time.monotonic()
    wanted = {**found, "blanked": True, "moving": False}
    state = script.parent / "state"
    while time.monotonic() - killed < SAFE_WITHIN_S:
        now = server.settings()
        if now == wanted and not list(state.glob("*.found.json")):
            judged.line += f" after {time.monotonic() - killed:.1f} s"
            time.sleep(0.5)  # the watcher gives the lock back
            return judged, what
        time.sleep(0.2)
    judged.state.append(f"found {server.settings()}, expected {wanted}")
    return judged, what


def main() -> int:
    """Run both parts and show the table."""
    parser = options(__doc__ or "")
    parser.add_argument("--seed", type=int, default=1, help="of sessions, faults and moments")
    given = parser.parse_args()
    logging.getLogger("ewaldflow").setLevel(logging.ERROR)
    number, kills = (QUICK_SESSIONS, QUICK_KILLS) if given.quick else (SESSIONS, KILLS)
    with work_folder(given.work) as folder:
        injected = inject_all(number, given.seed, folder / "injected")
        killed, doing = kill_all(kills, given.seed, folder / "killed")
    table = Table("Faults at random moments of sessions")
    for kind in KINDS:
        ours = [one for one in injected if one.kind == kind]
        how = Counter(one.how for one in ours)
        right = sum(not one.wrong for one in ours)
        counted = ", ".join(f"{how[name]} {name}" for name in how)
        table.tell(kind, f"{right} of {len(ours)} right; {counted}")
    n = len(injected)
    for what, wrong in (
        ("guard state correct", sum(bool(one.state) for one in injected)),
        ("no frame lost, all series readable", sum(bool(one.series) for one in injected)),
        ("went on, or stopped with one line", sum(bool(one.ending) for one in injected)),
    ):
        table.check(f"{what}, sessions of {n}", n - wrong, at_least=n, form="d")
    table.tell("series collected meanwhile", f"{sum(one.n_series for one in injected)}")
    safe = sum(not one.wrong for one in killed)
    table.tell("killed while", ", ".join(f"{what}: {k}" for what, k in sorted(doing.items())))
    table.check(f"made safe after SIGKILL, of {kills}", safe, at_least=kills, form="d")
    return table.show()


if __name__ == "__main__":
    sys.exit(main())
