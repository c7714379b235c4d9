"""Stand-ins for programs that are not there: scripts that the tests write."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

Script = Callable[..., Path]

BANNER = """
 ***** XDS ***** (VERSION Jun 30, 2024  BUILT=20241002)   5-Nov-2024
 Author: Wolfgang Kabsch
 Copy licensed until 31-Aug-2999 to
  academic users for non-commercial applications
 No redistribution.

"""


@pytest.fixture
def script(tmp_path: Path) -> Script:
    """``script(name, text)``: an executable shell script in a folder of its own."""

    def write(name: str, text: str) -> Path:
        folder = tmp_path / "programs"
        folder.mkdir(exist_ok=True)
        path = folder / name
        path.write_text("#!/bin/sh\n" + textwrap.dedent(text))
        path.chmod(0o755)
        return path

    return write
