"""A session by hand: all series that lie in its folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from ewaldflow.flows.session import _all_in, _label
from ewaldflow.lib.errors import UserError


def test_every_folder_with_frames_is_a_series(tmp_path: Path) -> None:
    for name in ("crystal_1", "crystal_2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0001.img").write_bytes(b"frame")
    (tmp_path / "notes").mkdir()
    found = _all_in(tmp_path)
    assert [(one.folder, one.files) for one in found] == [("crystal_1", 1), ("crystal_2", 1)]
    assert [_label("day", one) for one in found] == ["day-crystal_1", "day-crystal_2"]


def test_a_folder_without_any_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no frames"):
        _all_in(tmp_path)
    with pytest.raises(UserError, match="No such file"):
        _all_in(tmp_path / "nowhere")
