"""A server of its own, for tests of the service."""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

HERE = Path(__file__).parent


def _laboratory() -> None:
    """Let tests import `laboratory`, which lies beside this file and is no package."""
    spec = spec_from_file_location("laboratory", HERE / "laboratory.py")
    assert spec is not None
    assert spec.loader is not None
    sys.modules[spec.name] = module_from_spec(spec)
    spec.loader.exec_module(sys.modules[spec.name])


_laboratory()
