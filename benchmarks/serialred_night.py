"""A night on the twin: eight hours of instrument time in one process, whose memory must not grow.

A whole session as `ewaldflow acquire` runs it, without the reductions (they are other processes').
The calibrations are the true ones, so that all of the time is spent on crystals. The frames of a
series are deleted when it ends; what counts is what stays in the memory.
"""

from __future__ import annotations

import gc
import os
import shutil
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from _table import Table, options, say, work_folder

from ewaldflow.hardware.guard import guarded
from ewaldflow.hardware.lab import open_lab
from ewaldflow.hardware.serialred.acquire import begin, crystals
from ewaldflow.hardware.simulated.calibrated import true_calibrations
from ewaldflow.lib.errors import UserError
from ewaldflow.lib.serialred.acquisition import Acquisition, CrystalOutcome
from ewaldflow.lib.serialred.raster import Box
from ewaldflow.lib.serialred.session import Height, Imaging, SessionConfig, Stop
from ewaldflow.lib.serialred.settings import RotationSettings

HOURS, QUICK_HOURS = 8.0, 0.75
SEED = 5
# Enough crystals for a night; how far from the middle they are looked for.
SPECIMEN = {"width_um": 300.0, "crystals_per_um2": 0.03}
SCANNED_UM, QUICK_SCANNED_UM = 145.0, 20.0
# Memory after the last hour over that after the first; the quick night has quarters of hours.
FLAT = 0.1
PAGE_MB = os.sysconf("SC_PAGE_SIZE") / 2**20


@dataclass
class Sample:
    """At the end of an hour of the instrument (a quarter of one in the quick night)."""

    hour: float
    memory_MB: float
    objects: int
    cpu_s: float


@dataclass
class Watch:
    """Samples the process when another stretch of the instrument's time is over."""

    every_h: float
    began_s: float
    samples: list[Sample] = field(default_factory=list)

    def look(self, now_s: float) -> None:
        """Call it now and then."""
        hour = (now_s - self.began_s) / 3600
        if hour < self.every_h * (len(self.samples) + 1):
            return
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        one = Sample(hour, pages * PAGE_MB, len(gc.get_objects()), time.process_time())
        self.samples.append(one)
        say(f"hour {hour:.2f}: {one.memory_MB:.0f} MB, {one.objects} objects, {one.cpu_s:.0f} s")


def session_of(hours: float, scanned_um: float) -> SessionConfig:
    """As one would run it over night: all of the grid, coarse frames, the widest range."""
    return SessionConfig(
        name="night",
        instrument="twin",
        area=Box(x_um=(-scanned_um, scanned_um), y_um=(-scanned_um, scanned_um)),
        imaging=Imaging(exposure_s=0.5, overlap_um=2.0),
        height=Height(exposure_s=0.5),
        rotation=RotationSettings(widest=True, speed_deg_per_s=1.0, exposure_s=0.5),
        stop=Stop(hours=hours),
    )


def run_night(
    session: SessionConfig, every_h: float, folder: Path
) -> tuple[Acquisition, list[CrystalOutcome], Watch, str]:
    """The session; what it did, its series, the samples, and the line that ended it if one did."""
    failure = ""
    lab = open_lab(session.instrument, seed=SEED, specimen=SPECIMEN)
    assert lab.twin is not None
    calibrations = true_calibrations(lab.twin, session)
    watch, outcomes = Watch(every_h, lab.clock.now()), []
    with guarded(lab) as safe:
        hunt = begin(safe, session, calibrations, folder)
        try:
            for one in crystals(hunt, lambda *_: watch.look(lab.clock.now())):
                outcomes.append(one)
                shutil.rmtree(one.folder)
        except UserError as error:
            failure = str(error)
    watch.look(lab.clock.now())
    return hunt.acquisition(), outcomes, watch, failure


def main() -> int:
    """Simulate the night and show the table."""
    given = options(__doc__ or "").parse_args()
    hours, every_h, scanned_um = HOURS, 1.0, SCANNED_UM
    if given.quick:
        hours, every_h, scanned_um = QUICK_HOURS, 0.25, QUICK_SCANNED_UM
    with work_folder(given.work) as folder:
        session = session_of(hours, scanned_um)
        done, outcomes, watch, failure = run_night(session, every_h, folder / "raw")
    table = Table(f"A night of {hours:g} h on the twin")
    if failure:
        table.fail("session", failure)
    spent_h = done.duration_s / 3600
    table.check("hours of the instrument", spent_h, at_least=hours, form=".2f")
    table.tell("views", f"{len(done.views)}")
    table.tell("particles", f"{len(done.crystals)}")
    whole = [one for one in outcomes if one.status == "taken"]
    table.tell("series", f"{len(outcomes)}, {len(outcomes) / spent_h:.1f} an hour")
    table.tell("series of the whole range", f"{len(whole)}, {len(whole) / spent_h:.1f} an hour")
    ranges = sorted(one.range_deg for one in outcomes)
    if ranges:
        table.tell("range reached: least, median, degrees", _least_and_median(ranges))
    table.tell("frames", f"{sum(one.n_frames for one in outcomes)}")
    for one in watch.samples:
        what = f"{one.memory_MB:.0f} MB, {one.objects} objects, {one.cpu_s:.0f} s of CPU"
        table.tell(f"after {one.hour:.2f} h", what)
    if len(watch.samples) > 1:
        first, rest = watch.samples[0], watch.samples[1:]
        highest = max(one.memory_MB for one in rest) / first.memory_MB
        table.check("highest memory over that after the first sample", highest, at_most=1 + FLAT)
        growth = rest[-1].objects / first.objects
        table.tell("Python objects, last over first", f"{growth:.3f}")
    else:
        table.fail("memory", f"{len(watch.samples)} samples")
    return table.show()


def _least_and_median(ranges: list[float]) -> str:
    return f"{ranges[0]:.1f}, {ranges[len(ranges) // 2]:.1f}"


if __name__ == "__main__":
    sys.exit(main())
