"""What orchestration costs: a session announced to a server against the same functions called.

One run: the functions of the flow `session` are called one after the other in a process of their
own, without any of Prefect; then the same frames are announced to a server as an instrument does
it, and the time counts from the announcement to the end of the run, with the start of its process.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from datetime import datetime
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

from _table import Table, options, say, work_folder

# A plain call in place of each task, and nothing in place of what is shown in Prefect's pages.
_DIRECT = """
import json, sys, time
import prefect, prefect.artifacts
for name in dir(prefect.artifacts):
    if name.startswith(("create_", "update_")):
        setattr(prefect.artifacts, name, lambda *_, **__: None)
prefect.Task.__call__ = lambda task, *a, **k: task.fn(*a, **k)
from pathlib import Path
from ewaldflow.flows.session import session
from ewaldflow.lib.series.announced import series_below
began = time.monotonic()
folder = Path(sys.argv[1])
done = session.fn(folder, series_below(folder), Path(sys.argv[2]), "session")
wall_s = time.monotonic() - began
print(json.dumps({
    "wall_s": wall_s, "reduced": sum(bool(one.reduction) for one in done.outcomes),
}))
"""


def _laboratory() -> ModuleType:
    file = Path(__file__).parents[1] / "tests" / "service" / "laboratory.py"
    spec = spec_from_file_location("laboratory", file)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules["laboratory"] = module
    spec.loader.exec_module(module)
    return module


def _direct(frames: Path, store: Path) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-c", _DIRECT, str(frames), str(store)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> int:
    """Measure and show; 1 if orchestration costs too much."""
    parser = options(__doc__.splitlines()[0])
    parser.add_argument("--series", type=int, default=12)
    parser.add_argument("--frames", type=int, default=60)
    chosen = parser.parse_args()
    n_series, n_frames = (4, 20) if chosen.quick else (chosen.series, chosen.frames)
    laboratory = _laboratory()
    with work_folder(chosen.work) as folder:
        for here in laboratory.running(folder / "laboratory", compute_slots=1):
            say("frames are simulated")
            few = here.session("few", {"crystal": laboratory.small_series(1, 20)})
            every = {
                f"crystal_{k:02d}": laboratory.small_series(k, n_frames)
                for k in range(1, n_series + 1)
            }
            frames = here.session("session", every)
            say("direct calls")
            _direct(few, folder / "few")  # compiles what numba compiles, for both
            direct = _direct(frames, folder / "direct")
            say("the same announced")
            began = time.time()
            assert here.notify(frames).returncode == 0
            run = here.ended(here.runs()[0]["id"], 3600)
            assert run["state_type"] == "COMPLETED", run["state"]
            start, end = (
                datetime.fromisoformat(run[key]).timestamp() for key in ("start_time", "end_time")
            )
            tasks = here.ask("task_runs/count", {"flow_runs": {"id": {"any_": [run["id"]]}}})
            reduced = sum(one.startswith("reduction/") for one in here.versions())
    announced_s = end - began
    table = Table(f"Orchestration of {n_series} series of {n_frames} frames of 258 x 258 pixels")
    table.tell("direct calls, s", f"{direct['wall_s']:.1f}")
    table.tell("announced to reported, s", f"{announced_s:.1f}")
    table.tell("  until the flow began, s", f"{start - began:.1f}")
    table.tell(f"  the flow with {tasks} tasks, s", f"{end - start:.1f}")
    table.check(
        "cost of orchestration, %", 100 * (announced_s / direct["wall_s"] - 1),
        at_most=10.0, form=".1f",
    )  # fmt: skip
    table.check("series reduced, of the direct ones, %", 100 * reduced / direct["reduced"],
                at_least=100.0, form=".0f")  # fmt: skip
    return table.show()


if __name__ == "__main__":
    sys.exit(main())
