"""That the conformance suite finds an adapter that breaks its promises."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SLOPPY = '''
from contextlib import contextmanager
from dataclasses import replace

from ewaldflow.hardware.simulated.twin import TwinOptions, open_twin


class Around:
    """Everything of `inner` but what a subclass does in its own way."""

    def __init__(self, inner, clock):
        self.inner, self.clock = inner, clock

    def __getattr__(self, name):
        return getattr(self.inner, name)


class Stage(Around):
    def position(self):
        return self.inner.position()

    def start_move(self, **target):  # waits until it is there
        self.inner.start_move(**target)
        while self.inner.is_moving():
            self.clock.sleep(0.5)

    def is_moving(self):
        return self.inner.is_moving()

    def stop(self):
        pass


class Deflector(Around):
    unit = property(lambda self: self.inner.unit)
    limits = property(lambda self: self.inner.limits)
    step = property(lambda self: self.inner.step)

    def get(self):
        return self.inner.get()

    def set(self, xy):  # clips
        low, high = self.limits
        self.inner.set(tuple(min(max(v, low), high) if v == v else 0.0 for v in xy))


class Lens(Deflector):
    def get(self):
        return self.inner.get() + self.step  # off by one

    def set(self, value):
        self.inner.set(value)


class Microscope(Around):
    gone = False

    @property
    def stage(self):
        return Stage(self.inner.stage, self.clock)

    @property
    def deflectors(self):
        kept = {n: Deflector(d, self.clock) for n, d in self.inner.deflectors.items()}
        kept.pop("image_shift_2")  # but still among the capabilities
        return kept

    @property
    def lenses(self):
        return {n: Lens(d, self.clock) for n, d in self.inner.lenses.items()}

    def set_magnification(self, magnification):
        pass

    def blank(self):
        pass

    def release(self):
        if self.gone:
            raise RuntimeError("twice")
        self.gone = True


class Camera(Around):
    buffer = None

    def expose(self, exposure_s, binning=1):
        taken = self.inner.expose(exposure_s)
        if self.buffer is None:
            self.buffer = taken.counts
        self.buffer[:] = taken.counts
        return replace(taken, counts=self.buffer, number=0, started_s=self.clock.now() + 1)

    def stream(self, exposure_s, n_frames=None, binning=1):
        return iter([self.expose(exposure_s) for _ in range(n_frames or 100)])


@contextmanager
def opened():
    twin = open_twin(TwinOptions(specimen=None))
    yield Microscope(twin.microscope, twin.clock), Camera(twin.camera, twin.clock), twin.clock
'''
FOUND = {
    "test_stage.py": {
        "test_a_move_is_started_and_not_waited_for",
        "test_a_rotation_is_seen_under_way_and_stops",
    },
    "test_deflectors.py": {
        "test_the_mapping_holds_those_of_the_capabilities",
        "test_nothing_is_set_outside_the_limits",
        "test_no_number_that_is_none",
    },
    "test_lenses.py": {"test_what_is_set_is_what_is_got", "test_values_go_to_the_nearest_step"},
    "test_modes.py": {"test_magnification"},
    "test_beam.py": {"test_blank_and_unblank", "test_a_second_release_does_nothing"},
    "test_camera.py": {
        "test_an_exposure_is_as_asked_for",
        "test_every_binning_on_offer",
        "test_no_other_binning",
        "test_numbers_are_consecutive_and_times_in_order",
        "test_images_do_not_share_their_pixels",
        "test_a_stream_bins",
        "test_an_endless_stream_ends_when_closed",
    },
}


def _run(adapter: str, path: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "--adapter", adapter, "tests/hardware", "-q"]
    return subprocess.run(
        [*command, "-p", "no:cacheprovider", "-p", "no:xdist", "--tb=no"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(path)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_broken_promises_are_found(tmp_path: Path) -> None:
    (tmp_path / "sloppy.py").write_text(SLOPPY, encoding="utf-8")
    done = _run("sloppy:opened", tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    failed = [line.split("::") for line in done.stdout.splitlines() if line.startswith("FAILED")]
    found = {(file.rsplit("/", 1)[-1], test.split("[")[0].split(" ")[0]) for file, test in failed}
    missed = {(file, test) for file, tests in FOUND.items() for test in tests} - found
    assert not missed
    assert {file for file, _ in found} == set(FOUND)  # and nothing but the suite was run


def test_an_instrument_is_opened_by_its_yaml(tmp_path: Path) -> None:
    text = (ROOT / "configs" / "instruments" / "twin.yaml").read_text(encoding="utf-8")
    mine = tmp_path / "mylab.yaml"
    mine.write_text(text.replace("adapter: simulated}", "adapter: simulated, specimen: null}", 1))
    done = _run(str(mine), tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout
    assert "failed" not in done.stdout
