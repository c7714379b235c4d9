"""A crystal brought to eucentric height and into the beam, rotated, recorded; and what may happen.

The twin's truth is asked, which no program on a real instrument could.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ewaldflow.hardware.errors import ConnectionLost
from ewaldflow.hardware.replay.recording import read_image, read_recording
from ewaldflow.hardware.serialred.acquire import crystals
from ewaldflow.hardware.serialred.approach import CrystalLost, approach
from ewaldflow.hardware.serialred.survey import Candidate, look
from ewaldflow.lib.formats.read import read_series
from ewaldflow.lib.formats.series_record import read_record
from ewaldflow.lib.instrument import load_instrument
from ewaldflow.lib.serialred.raster import Box
from ewaldflow.lib.serialred.session import Diffraction, Height, Stop
from ewaldflow.lib.serialred.settings import AbortSettings, RotationSettings

Make = Callable[..., Any]
CRYSTAL = np.array([0.3, -0.2, 0.0])
LIMIT_DEG = 12.0
# without the height, and short: what is tried is what happens on the way
QUICK = {
    "height": Height(method="none"),
    "rotation": RotationSettings(
        range_deg=(-LIMIT_DEG, LIMIT_DEG), speed_deg_per_s=1.0, exposure_s=0.5, image_interval=4
    ),
}


def candidate_in(hunt: Any) -> Candidate:
    """The one particle of the first view."""
    _, found = look(hunt.station, hunt.raster[0], 1)
    [one] = [c for c in found if not c.verdict]
    return one


@pytest.mark.parametrize("method", ["swing", "empirical"])
def test_height_and_beam(bench: Make, method: str) -> None:
    # what wanders with the tilt has a part like a height's, and is adjusted for as one
    still = {"wander_um": 0.0, "runout_um": 0.0}
    one = bench(session={"height": Height(method=method, exposure_s=0.5)}, goniometer=still)
    events: list[str] = []
    with one.begun() as hunt:
        here = approach(
            hunt.station, candidate_in(hunt), adjust=True, record=lambda e, **_: events.append(e)
        )
        assert one.twin.truth.settings.mode == "diffraction"
        off_um = one.twin.truth.off_beam_um(CRYSTAL)
        goniometer, clock = one.twin.column.goniometer, one.twin.clock
        x, y, z = goniometer.followers(clock.now())[:3]
    height_um = z + CRYSTAL[2] - goniometer.axis_height(x, y)
    assert abs(goniometer.axis_height(0, 0)) > 0.5
    assert abs(height_um) < (0.3 if method == "swing" else 1.0)
    assert np.hypot(*off_um) < 0.15
    assert here.pattern.score > 0.5
    assert here.height_um is not None
    assert events[0] == "height"
    assert events[-1] == "snapshot"
    one.assert_safe()


def test_a_crystal_that_is_gone_is_lost(bench: Make) -> None:
    one = bench(session=QUICK)
    with one.begun() as hunt:
        candidate = candidate_in(hunt)
        one.twin.inject("specimen_jump", x_um=2.5)
        with pytest.raises(CrystalLost, match="not found again"):
            approach(hunt.station, candidate, adjust=False, record=lambda *_, **__: None)


def taken(bench: Any) -> Any:
    """The first series."""
    with bench.begun() as hunt:
        bench.hunt = hunt
        return next(crystals(hunt))


def test_forty_degrees_complete_and_readable(bench: Make) -> None:
    one = bench(
        session={
            "rotation": RotationSettings(
                range_deg=(-20, 20), widest=True, speed_deg_per_s=2.0, exposure_s=0.5
            ),
            "dose_rate_e_per_A2_s": 0.1,
        }
    )
    outcome = taken(one)
    one.assert_safe()
    assert (outcome.status, outcome.reason.startswith("the end of the range")) == ("taken", True)
    assert outcome.range_deg > 37.0
    assert outcome.dose_e_per_A2 == pytest.approx(0.1 * outcome.beam_s)
    assert outcome.beam_s > 20
    folder = Path(outcome.folder)
    series = read_series(folder / "frames", instrument=load_instrument("twin"))
    assert len(series.frames) == outcome.n_frames
    assert np.abs(series.angle_width_deg) == pytest.approx(1.0, abs=0.05)
    assert series.angle_start_deg[0] == pytest.approx(outcome.alpha_start_deg, abs=0.05)
    recording = read_recording(folder)
    roles = [shot.role for shot in recording.shots]
    assert roles.count("diffraction") == outcome.n_frames
    assert roles.count("tracking") >= 5
    np.testing.assert_array_equal(
        read_image(next(s.path for s in recording.shots if s.role == "diffraction")),
        np.asarray(series.frames[0]),
    )
    made = [line["decision"] for line in read_record(folder / "tracking.jsonl")
            if line["event"] == "decision"]  # fmt: skip
    assert {"height", "beam", "snapshot", "sighting", "rotation ended"} <= set(made)


def test_the_next_series_begins_where_the_last_ended(bench: Make) -> None:
    one = bench(session=QUICK)
    outcome = taken(one)
    assert outcome.status == "taken"
    assert outcome.alpha_start_deg == pytest.approx(0.0, abs=1.0)
    assert abs(outcome.alpha_end_deg) == pytest.approx(LIMIT_DEG, abs=1.0)


def jump(bench: Any, at_frame: int, by_um: float) -> None:
    """The specimen jumps along x at that frame of the first series."""
    frame = bench.lab.camera._camera._take
    seen = [0]

    def take(begin_s: float, exposure_s: float, binning: int) -> Any:
        focused = abs(bench.twin.truth.settings.diffraction_focus) < 10.0
        if bench.twin.truth.settings.mode == "diffraction" and focused:
            seen[0] += 1
            if seen[0] == at_frame:
                bench.twin.inject("specimen_jump", x_um=by_um)
        return frame(begin_s, exposure_s, binning)

    bench.lab.camera._camera._take = take


def test_a_crystal_that_jumps_is_followed(bench: Make) -> None:
    one = bench(session=QUICK)
    jump(one, 5, 0.4)
    with one.begun() as hunt:
        outcome = next(crystals(hunt))
    assert outcome.status == "taken"
    record = list(read_record(Path(outcome.folder) / "tracking.jsonl"))
    offsets = [np.hypot(*line["offset_px"]) for line in record
               if line.get("decision") == "sighting" and line["found"]]  # fmt: skip
    assert max(offsets) > 3 * offsets[-1]


def test_a_crystal_that_jumps_out_of_the_beam_ends_its_series(bench: Make) -> None:
    """What is left in the beam is film, whose uneven light must not pass for the crystal."""
    rotation = QUICK["rotation"].model_copy(update={"abort": AbortSettings(lost_images=3)})
    one = bench(session={**QUICK, "rotation": rotation})
    jump(one, 4, 6.0)
    outcome = taken(one)
    assert outcome.status == "short"
    assert "crystal lost" in outcome.reason
    one.assert_safe()


def test_a_series_that_the_camera_breaks_off_is_kept(bench: Make) -> None:
    one = bench(session=QUICK)
    one.twin.faults.add(fault("camera_timeout", one, 12), 0.0)
    outcome = taken(one)
    assert outcome.status == "short"
    assert "no image" in outcome.reason
    assert "\n" not in outcome.reason
    assert outcome.n_frames == len(list(Path(outcome.folder, "frames").glob("*.img"))) > 2
    series = read_series(Path(outcome.folder, "frames"), instrument=load_instrument("twin"))
    assert len(series.frames) == outcome.n_frames
    one.assert_safe()


def test_a_series_is_kept_although_the_connection_is_lost(bench: Make) -> None:
    one = bench(session=QUICK)
    one.twin.faults.add(fault("connection_lost", one, 12), 0.0)
    outcomes = []
    with pytest.raises(ConnectionLost), one.begun() as hunt:
        for outcome in crystals(hunt):
            outcomes.append(outcome)
    [outcome] = outcomes
    assert outcome.status == "short"
    assert outcome.n_frames > 2
    assert hunt.acquisition().taken == (outcome,)
    one.assert_safe()  # the connection came back while the guard waited


def fault(kind: str, bench: Any, after: int) -> Any:
    """For twenty seconds, so many exposures after those before the rotation."""
    from ewaldflow.hardware.simulated.faults import Fault

    # beam, view, crystal, at most four looks at the beam, snapshot; seven of the bare beam
    return Fault(kind=kind, at_exposure=13 + after, duration_s=20.0)  # type: ignore[arg-type]


def test_no_lattice_no_series(bench: Make) -> None:
    one = bench(session={**QUICK, "diffraction": Diffraction(least_quality=1.0)})
    with one.begun() as hunt:
        assert list(crystals(hunt)) == []
    [outcome] = [c for c in hunt.acquisition().crystals if c.quality is not None]
    assert outcome.status == "refused"
    assert outcome.reason.startswith("no lattice: score 0.")
    assert outcome.beam_s > 0.5
    assert not one.folder.exists()
    one.assert_safe()


@pytest.mark.parametrize(
    ("stop", "ended", "series"),
    [
        (Stop(crystals=1), "The 1 crystals wanted were taken.", 1),
        (Stop(hours=0.01), "The time of 0.01 h was over.", 1),
        (Stop(beam_hours=0.003), "The beam was on for 0.003 h.", 1),
        (Stop(hours=1e-4), "The time of 0.0001 h was over.", 0),
    ],
    ids=["crystals", "hours", "beam", "at once"],
)
def test_stop_rules(bench: Make, stop: Stop, ended: str, series: int) -> None:
    one = bench(
        places_um=((-2.0, 1.5), (2.0, -1.5)),
        session={**QUICK, "stop": stop, "area": Box(x_um=(-3, 3), y_um=(-3, 3))},
    )
    with one.begun() as hunt:
        taken = list(crystals(hunt))
    done = hunt.acquisition()
    assert done.ended == ended
    assert len(taken) == len(done.taken) == series
    if series:
        left = [c for c in done.crystals if c.status == "left"]
        assert [c.reason for c in left] == ["suitable, its turn never came"]
    one.assert_safe()
