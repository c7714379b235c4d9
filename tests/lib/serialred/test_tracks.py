from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ewaldflow.lib.errors import UserError
from ewaldflow.lib.serialred.tracks import read_track

FRAME = {"event": "exposure", "role": "diffraction", "exposure_s": 0.5}
SEEN = {"event": "decision", "decision": "sighting"}
LINES: list[dict[str, Any]] = [
    {"event": "series", "name": "c", "metadata": {}},
    {**FRAME, "number": 1, "t_s": 100.5, "alpha_start_deg": 10.0, "alpha_end_deg": 9.5},
    {**FRAME, "number": 2, "t_s": 101.0, "alpha_start_deg": 9.5, "alpha_end_deg": 9.0},
    {"event": "exposure", "role": "tracking", "t_s": 101.5},
    {**SEEN, "alpha_deg": 9.2, "found": True, "verdict": {"accepted": True, "innovation_um": 0.2}},
    {**SEEN, "alpha_deg": 9.0, "found": True, "verdict": {"accepted": False, "innovation_um": 3}},
    {**SEEN, "alpha_deg": 8.8, "found": False, "verdict": None},
    {"event": "decision", "decision": "beam moved", "alpha_deg": 9.1, "to_um": [0.3, -0.4]},
]


def written(folder: Path, lines: list[dict[str, Any]]) -> Path:
    path = folder / "tracking.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_angles_movements_and_sightings_by_hand(tmp_path: Path) -> None:
    track = read_track(written(tmp_path, LINES), "c")
    assert track.time_s.tolist() == [0.5, 1.0]  # the first frame began at 100.0
    assert track.alpha_deg.tolist() == [9.75, 9.25]
    assert track.moved_um.tolist() == [[0.3, -0.4]]
    assert track.drift_um == pytest.approx(0.5)
    np.testing.assert_array_equal(track.off_um, [0.2, 3.0, np.nan])
    assert track.believed.tolist() == [True, False, False]


def test_angles_by_the_whole_rotation_are_the_better_ones(tmp_path: Path) -> None:
    later = {"event": "angles", "frames": [[1, 10.2, 9.8], [2, 9.6, 9.2], [3, 9.0, 8.8]]}
    track = read_track(written(tmp_path, [*LINES, later]), "c")
    assert track.alpha_deg.tolist() == pytest.approx([10.0, 9.4])


def test_a_record_without_frames_is_empty(tmp_path: Path) -> None:
    track = read_track(written(tmp_path, LINES[:1]), "c")
    assert len(track.time_s) == len(track.off_um) == 0
    assert track.moved_um.shape == (0, 2)
    assert np.isnan(track.drift_um)


def test_a_line_that_lacks_something_is_named_by_file(tmp_path: Path) -> None:
    path = written(tmp_path, [{**FRAME, "number": 1, "t_s": 1.0}])
    with pytest.raises(UserError, match=r"tracking.jsonl: .*alpha_start_deg"):
        read_track(path, "c")


def test_no_record_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="record of a series"):
        read_track(tmp_path / "tracking.jsonl", "c")
