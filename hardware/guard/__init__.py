"""The guard: whatever happens, the instrument ends safe and as it was found.

Three layers, each for what the one before cannot see:

1. `with guarded(lab) as safe_lab`: on every way out of the block (its end, an exception, Ctrl-C,
   SIGTERM, SIGHUP) the stage is stopped, the beam blanked, the settings found are put back and
   the instrument is released (`safe`).
2. A watcher process of its own (`watcher`) holds the other end of a pipe. If the driving program
   dies without having said that all is safe, or gives no sign of life for `dead_man_s` (then it
   is ended first), the watcher connects to the instrument itself and does the same.
3. The settings found are kept in a file until they are restored (`found`). If both processes
   died, the next session restores them before it begins.

A file lock (`lock`), which the watcher shares, lets one session at a time have the instrument; it
lasts until the instrument is safe. Private instruments (the twin in this process, a replay) need
only the first layer.
"""

from .guard import guarded
from .safe import NotMadeSafe, make_safe
from .state import OpticalState, read_state

__all__ = ["NotMadeSafe", "OpticalState", "guarded", "make_safe", "read_state"]
