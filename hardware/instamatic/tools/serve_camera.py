"""Starts instamatic's own camera server away from Windows: a script for instamatic's environment.

Its timers of high precision are those of Windows; here they are left out.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType


def main() -> None:
    """Serve as ``instamatic.camserver`` does."""
    name = "instamatic.utils.high_precision_timers"
    timers = ModuleType(name)
    timers.enable = timers.disable = lambda *_: None  # type: ignore[attr-defined]
    sys.modules[name] = timers
    import_module("instamatic.server.cam_server").main()


if __name__ == "__main__":
    main()
