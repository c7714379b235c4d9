from __future__ import annotations

from pathlib import Path

import pytest

from ewaldflow.lib.errors import UserError
from ewaldflow.lib.xds.run_xscale import run_xscale

LAYOUT = Path(__file__).parent / "layouts" / "XSCALE.LP"


def stand_in(folder: Path, body: str) -> tuple[str, ...]:
    path = folder / "xscale_par"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return (str(path),)


def test_its_log_is_read(tmp_path: Path) -> None:
    (tmp_path / "XSCALE.LP").write_text("of an earlier run")
    found = run_xscale(tmp_path, programs=stand_in(tmp_path, f"cp '{LAYOUT}' XSCALE.LP"))
    assert found is not None
    assert found.saved is not None


def test_not_installed_is_no_error(tmp_path: Path) -> None:
    assert run_xscale(tmp_path, programs=("no-such-xscale",)) is None


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("exit 3", "an XSCALE.LP"),
        ("kill -9 $$", "an XSCALE.LP"),
        (
            f"head -8 '{LAYOUT}' > XSCALE.LP; echo ' !!! ERROR !!! CANNOT OPEN X' >> XSCALE.LP",
            "CANNOT OPEN",
        ),
    ],
)
def test_what_fails_is_told_in_one_line(tmp_path: Path, body: str, words: str) -> None:
    with pytest.raises(UserError, match=words) as error:
        run_xscale(tmp_path, programs=stand_in(tmp_path, body))
    assert "\n" not in str(error.value)
