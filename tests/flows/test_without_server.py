"""Every flow called as a plain function, where nobody ever started or set up a Prefect server."""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

from prefect import Flow

from ewaldflow import flows

# What each is called with: things that are not there, so that it is over soon. What it says of them
# shows that it got to its own work.
_CALLS = """
import json, sys
from pathlib import Path
from ewaldflow.flows.environment import prepare_prefect
from ewaldflow.lib.artefacts import ArtefactStore

store, none, empty = Path("runs"), Path("none.tif"), Path("empty")
empty.mkdir()
ArtefactStore(store).create()
prepare_prefect(store)

from ewaldflow.flows.acquire import acquire, calibrate_only
from ewaldflow.flows.apply_rrvae import apply_rrvae
from ewaldflow.flows.calibrate_axis import calibrate_axis
from ewaldflow.flows.calibrate_overfocus import calibrate_overfocus
from ewaldflow.flows.calibrate_rings import calibrate_rings, check_drift
from ewaldflow.flows.check_overfocus import check_overfocus
from ewaldflow.flows.maintain import maintain
from ewaldflow.flows.merge_project import merge_project
from ewaldflow.flows.orient import orient
from ewaldflow.flows.recenter import recenter
from ewaldflow.flows.reduce import reduce
from ewaldflow.flows.session import session
from ewaldflow.flows.sweep_rrvae import sweep_rrvae
from ewaldflow.flows.train_rrvae import train_rrvae
from ewaldflow.lib.serialred.session import load_session

elsewhere = load_session("twin-demo").model_copy(update={"instrument": "no-such-microscope"})
calls = {
    "acquire": lambda: acquire(elsewhere, store),
    "calibrate": lambda: calibrate_only(elsewhere, store),
    "apply-rrvae": lambda: apply_rrvae("rrvae/none", ["none.tif"], store),
    "calibrate-axis": lambda: calibrate_axis(["reduction/none"], store),
    "calibrate-overfocus": lambda: calibrate_overfocus(["none.tif"], store),
    "calibrate-rings": lambda: calibrate_rings([none], store),
    "check-drift": lambda: check_drift(empty, store),
    "check-overfocus": lambda: check_overfocus("overfocus/none", "none.tif", store),
    "maintain": lambda: maintain(store),
    "merge-project": lambda: merge_project("none", store),
    "orient": lambda: orient(["reduction/none"], store),
    "recenter": lambda: recenter([none], "rings/none", store),
    "reduce": lambda: reduce([Path("none")], store),
    "session": lambda: session(empty, None, store, "none"),
    "sweep-rrvae": lambda: sweep_rrvae("none.tif", store, {"latents": [1, 2]}),
    "train-rrvae": lambda: train_rrvae(["none.tif"], store),
}
said = {}
for name, call in calls.items():
    try:
        said[name] = ["returned", repr(call())]
    except Exception as error:
        said[name] = [type(error).__name__, str(error)]
print("SAID", json.dumps(said))
"""
_EXPECTED = {
    "acquire": ("UserError", "instrument: found 'no-such-microscope'"),
    "calibrate": ("UserError", "instrument: found 'no-such-microscope'"),
    "apply-rrvae": ("returned", "none.tif: found no such file"),
    "calibrate-axis": ("UserError", "reduction/none"),
    "calibrate-overfocus": ("returned", "none.tif: found no such file"),
    "calibrate-rings": ("UserError", "none.tif"),
    "check-drift": ("UserError", "empty"),
    "check-overfocus": ("UserError", "overfocus/none"),
    "maintain": ("returned", "()"),
    "merge-project": ("UserError", "no session named none"),
    "orient": ("returned", "reduction/none"),
    "recenter": ("UserError", "rings/none"),
    "reduce": ("returned", "none: found no such"),
    "session": ("UserError", "empty: found no frames"),
    "sweep-rrvae": ("UserError", "none.tif: found no such file"),
    "train-rrvae": ("returned", "none.tif: found no such file"),
}


def _all_flows() -> set[str]:
    found = set()
    for one in pkgutil.iter_modules(flows.__path__):
        module = importlib.import_module(f"ewaldflow.flows.{one.name}")
        found |= {value.name for value in vars(module).values() if isinstance(value, Flow)}
    return found


def test_each_is_a_function(tmp_path: Path) -> None:
    assert set(_EXPECTED) == _all_flows()
    bare = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    done = subprocess.run(
        [sys.executable, "-c", _CALLS], cwd=tmp_path, env={**bare, "HOME": str(tmp_path)},
        capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    line = next((one for one in done.stdout.splitlines() if one.startswith("SAID ")), None)
    assert line is not None, done.stderr[-2000:]
    said = json.loads(line.removeprefix("SAID "))
    for name, (how, words) in _EXPECTED.items():
        assert said[name][0] == how, (name, said[name])
        assert words in said[name][1], name
        if how == "UserError":
            assert "\n" not in said[name][1]
    assert (tmp_path / "runs" / ".prefect").is_dir()
