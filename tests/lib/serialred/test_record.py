"""The folder of an acquired series, written and read back as a rotation series."""

import json

import numpy as np
import pytest

from ewaldflow.lib.errors import UserError
from ewaldflow.lib.formats import read_series
from ewaldflow.lib.formats.series_record import FRAMES, read_record
from ewaldflow.lib.formats.series_record import NAME as RECORD
from ewaldflow.lib.geometry import Geometry
from ewaldflow.lib.instrument import SeriesMetadata, SeriesOverrides
from ewaldflow.lib.serialred.record import TRACKING, SeriesFolder

GEOMETRY = Geometry(0.025079, 0.055, 452.0, (10.0, 12.0), (-0.6204, 0.7843, 0.0))
METADATA = SeriesMetadata(
    voltage_kV=200, pixel_size_mm=0.055, distance_mm=452.0, rotation_axis=(-0.6204, 0.7843, 0.0)
)
# measured starts: not evenly spaced, the exposure shorter than the step, number 3 a tracking image
STARTS = {1: 10.0, 2: 9.48, 4: 8.46, 5: 7.95}
WIDTH = -0.49


def write(folder, close=True):
    series = SeriesFolder(folder, GEOMETRY, METADATA, saturation=11810, about={"crystal": 7})
    rng = np.random.default_rng(1)
    for number in range(1, 6):
        counts = rng.poisson(5, (24, 32)).astype(np.uint16)
        if number in STARTS:
            start = STARTS[number]
            series.frame(number, counts, start, start + WIDTH, 0.5, t_s=float(number))
        else:
            series.image(TRACKING, f"{number:05d}", counts, role="tracking", number=number)
            series.image(TRACKING, "00000-1", counts, role="tracking", number=0)
            series.line("decision", offset_um=np.array([0.1, -0.2]), kept=np.bool_(True))
    if close:
        series.close(reason="full range")
    return folder


def test_reads_back_with_the_measured_angles(tmp_path):
    series = read_series(write(tmp_path / "crystal-0007"))
    assert series.name == "crystal-0007"
    assert series.frame_number.tolist() == [1, 2, 4, 5]
    np.testing.assert_allclose(series.angle_start_deg, list(STARTS.values()), atol=1e-12)
    np.testing.assert_allclose(series.angle_width_deg, WIDTH, atol=1e-12)
    assert series.tracking_numbers == (3,)
    assert series.missing_numbers == ()
    assert series.geometry.beam_centre_px == pytest.approx((10.0, 12.0))
    rng = np.random.default_rng(1)
    first = rng.poisson(5, (24, 32))
    assert np.array_equal(series.frames[0].compute(), first)


def test_angles_by_all_read_outs_replace_those_known_at_the_time(tmp_path):
    folder = write(tmp_path / "x", close=False)
    with (folder / RECORD).open("a") as file:
        better = [[n, start + 0.01, start + 0.01 - 0.48] for n, start in STARTS.items()]
        file.write(json.dumps({"event": "angles", "frames": better}) + "\n")
    series = read_series(folder)
    np.testing.assert_allclose(series.angle_start_deg, np.array(list(STARTS.values())) + 0.01)
    np.testing.assert_allclose(series.angle_width_deg, -0.48)


def test_a_person_may_correct_the_angles(tmp_path):
    folder = write(tmp_path / "x")
    series = read_series(folder, overrides=SeriesOverrides(oscillation_deg=-0.5, start_deg=3.0))
    np.testing.assert_allclose(series.angle_start_deg, [3.0, 2.5, 1.5, 1.0])


def test_a_crash_loses_no_frame_that_was_taken(tmp_path):
    folder = write(tmp_path / "x", close=False)
    with (folder / RECORD).open("a") as file:
        file.write('{"event": "exposure", "role": "diffr')  # cut short
    (folder / FRAMES / "00006.part").write_bytes(b"half a frame")
    series = read_series(folder)
    assert series.frame_number.tolist() == [1, 2, 4, 5]
    np.testing.assert_allclose(series.angle_start_deg, list(STARTS.values()))


def test_the_record_is_lines_of_plain_json(tmp_path):
    lines = list(read_record(write(tmp_path / "x") / RECORD))
    assert [line["event"] for line in lines] == [
        "series", *["exposure"] * 4, "decision", *["exposure"] * 2, "end",
    ]  # fmt: skip
    assert lines[0]["crystal"] == 7
    assert lines[5] == {"event": "decision", "offset_um": [0.1, -0.2], "kept": True}
    assert lines[-1] == {"event": "end", "n_frames": 4, "reason": "full range"}


def test_damage_in_the_middle_is_told(tmp_path):
    folder = write(tmp_path / "x")
    path = folder / RECORD
    lines = path.read_text().split("\n")
    lines[2] = lines[2][:20]
    path.write_text("\n".join(lines))
    with pytest.raises(UserError, match="line 3"):
        read_series(folder)
    lines[2] = json.dumps({"event": "exposure", "role": "diffraction", "number": 2})
    path.write_text("\n".join(lines))
    with pytest.raises(UserError, match="alpha_start_deg"):
        read_series(folder)


def test_refusals(tmp_path):
    write(tmp_path / "x")
    with pytest.raises(UserError, match="none yet"):
        write(tmp_path / "x")
    series = SeriesFolder(tmp_path / "y", GEOMETRY, METADATA)
    with pytest.raises(UserError, match="a count of 70000"):
        series.frame(1, np.full((4, 4), 70000, np.uint32), 0.0, 0.1, 0.1)
