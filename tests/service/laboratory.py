"""A server of its own for tests: `ewaldflow serve` in a folder, an instrument beside it."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import httpx
import psutil
import yaml

from ewaldflow.lib.artefacts import ArtefactStore
from ewaldflow.lib.formats import write_series
from ewaldflow.lib.series import RotationSeries
from ewaldflow.lib.simulation import Crystal, default_geometry, random_rotation, simulate_series
from ewaldflow.lib.simulation import zeolite as known_zeolite
from ewaldflow.service import programs
from ewaldflow.service.processes import Program
from ewaldflow.service.revival import processes_of_runs
from ewaldflow.service.settings import ServiceSettings, load_settings

NOTIFY = Path(__file__).parents[2] / "deploy" / "instrument" / "notify.py"
PASSWORD = "a-long-enough-word"
FINAL = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
T = TypeVar("T")


def small_series(number: int, frames: int = 20) -> RotationSeries:
    """A few frames of 258 x 258 pixels, reduced in seconds."""
    geometry = replace(default_geometry(), pixel_size_mm=0.11, beam_centre_px=(123.0, 119.6))
    series, _ = simulate_series(
        [Crystal(known_zeolite("MFI"), random_rotation([number, 0]))],
        geometry=geometry,
        n_frames=frames,
        step_deg=1.0,
        angle_start_deg=-frames / 2,
        seed=number,
        shape=(258, 258),
        d_min_A=1.0,
        name="small",
    )
    return series


def until(found: Callable[[], T], limit_s: float, what: str) -> T:
    """What `found` returns once it is true."""
    end = time.monotonic() + limit_s
    while not (value := found()):
        assert time.monotonic() < end, f"no {what} after {limit_s} s"
        time.sleep(0.25)
    return value


@dataclass(frozen=True)
class Laboratory:
    """A server in a folder of its own, and what is asked of it."""

    folder: Path

    @classmethod
    def made(cls, folder: Path, **settings: Any) -> Laboratory:
        """Settings on free ports; nothing is started."""
        (folder / "data").mkdir(parents=True)
        ports = free_ports(2)
        content = {
            "home": str(folder / "service"),
            "store": str(folder / "runs"),
            "roots": {"data": str(folder / "data")},
            "password": PASSWORD,
            "prefect_port": ports[0],
            "gateway_port": ports[1],
            **settings,
        }
        (folder / "serve.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
        (folder / "password.txt").write_text(PASSWORD + "\n", encoding="utf-8")
        return cls(folder)

    @property
    def file(self) -> Path:
        return self.folder / "serve.yaml"

    @property
    def settings(self) -> ServiceSettings:
        return load_settings(self.file)

    @property
    def store(self) -> ArtefactStore:
        return ArtefactStore(self.settings.store)

    def programs(self) -> dict[str, Program]:
        return {one.name: one for one in programs.all_programs(self.settings, self.file)}

    def ewaldflow(self, verb: str, limit_s: float = 300) -> subprocess.CompletedProcess[str]:
        """`ewaldflow serve`, `status` or `stop`."""
        return subprocess.run(
            [str(Path(sys.executable).with_name("ewaldflow")), verb, "--settings", str(self.file)],
            capture_output=True, text=True, timeout=limit_s, check=False,
            env={
                **os.environ, "OMP_NUM_THREADS": "1", "EWALDFLOW_STATE": str(self.folder / "state"),
            },
        )  # fmt: skip

    def session(self, name: str, series: dict[str, RotationSeries]) -> Path:
        """A folder of a session with its frames."""
        folder = self.folder / "data" / name
        for one, frames in series.items():
            write_series(frames, folder / one, "SMV")
        return folder

    def notify(
        self, session: Path, *more: str, spool: str = "spool", wait: bool = True
    ) -> subprocess.Popen[str]:
        """Announce a session as its instrument does."""
        sent = subprocess.Popen(
            [
                sys.executable, str(NOTIFY),
                "--server", f"http://127.0.0.1:{self.settings.gateway_port}",
                "--user", "lab", "--password-file", str(self.folder / "password.txt"),
                "--root", str(self.folder / "data"), "--root-name", "data",
                "--spool", str(self.folder / spool), *more, str(session),
            ],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        if wait:
            sent.wait(timeout=900)
        return sent

    def ask(self, path: str, content: Any = None, timeout_s: float = 30) -> Any:
        """Prefect's answer; a server that is away or busy is asked again for two minutes."""
        end = time.monotonic() + 120
        while True:
            try:
                reply = httpx.request(
                    "GET" if content is None else "POST",
                    f"{self.settings.api_url}/{path}",
                    json=content,
                    auth=("lab", PASSWORD),
                    timeout=timeout_s,
                )
                if reply.status_code < 500:
                    reply.raise_for_status()
                    return reply.json() if reply.content else None
            except httpx.TransportError:
                pass
            assert time.monotonic() < end, f"{path}: no answer"
            time.sleep(0.5)

    def runs(self, **filters: Any) -> list[dict[str, Any]]:
        """Runs of the server, oldest first."""
        found: list[dict[str, Any]] = []
        while True:
            wanted = {**filters, "limit": 200, "offset": len(found), "sort": "ID_DESC"}
            page = self.ask("flow_runs/filter", wanted)
            found += page
            if len(page) < 200:
                return sorted(found, key=lambda run: run["created"])

    def run(self, run_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.ask(f"flow_runs/{run_id}")
        return found

    def ended(self, run_id: str, limit_s: float = 300) -> dict[str, Any]:
        """The run, once it is completed or there is no hope for it."""
        attempts = self.settings.attempts

        def final() -> dict[str, Any] | None:
            run = self.run(run_id)
            going = run["state_type"] == "CRASHED" and run["run_count"] < attempts
            return run if run["state_type"] in FINAL and not going else None

        found = until(final, limit_s, f"end of run {run_id}")
        assert found is not None
        return found

    def start(self, deployment: str, parameters: dict[str, Any], name: str) -> str:
        """A run of a deployment, as a click in the pages makes it; its id."""
        found = self.ask(f"deployments/name/{deployment}")["id"]
        run: dict[str, Any] = self.ask(
            f"deployments/{found}/create_flow_run", {"parameters": parameters, "name": name}
        )
        return str(run["id"])

    def cancel(self, run_id: str) -> None:
        """As the pages do it."""
        state = {"type": "CANCELLING", "name": "Cancelling"}
        self.ask(f"flow_runs/{run_id}/set_state", {"state": state})

    def processes_of(self, run_id: str) -> list[psutil.Process]:
        """What works for a run. Prefect looks for hooks in a further process, when it is over."""
        found = []
        for one in processes_of_runs(self.settings.api_url).get(run_id, []):
            with suppress(psutil.Error):
                if "hook" not in one.cmdline():
                    found.append(one)
        return found

    def everything(self) -> list[psutil.Process]:
        """Every process of this server, whoever started it."""
        home, found = str(self.settings.home), []
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                if process.environ().get("PREFECT_HOME", "").startswith(home) and (
                    process.status() != psutil.STATUS_ZOMBIE
                ):
                    found.append(process)
        return found

    def versions(self) -> dict[str, int]:
        """How many versions there are of each artefact."""
        counted: dict[str, int] = {}
        for ref in self.store.refs():
            name = ref.partition("@")[0]
            counted[name] = counted.get(name, 0) + 1
        return counted


def free_ports(n: int) -> list[int]:
    """Ports below those that outgoing connections take, so that they stay free over a restart."""
    found: list[int] = []
    while len(found) < n:
        port = random.randint(15_000, 30_000)
        with socket.socket() as one, suppress(OSError):
            one.bind(("127.0.0.1", port))
            if port not in found:
                found.append(port)
    return found


def running(folder: Path, **settings: Any) -> Iterator[Laboratory]:
    """A laboratory that serves; ended at the end, whatever happens."""
    laboratory = Laboratory.made(folder, **settings)
    try:
        started = laboratory.ewaldflow("serve")
        assert started.returncode == 0, started.stdout + started.stderr
        yield laboratory
    finally:
        laboratory.ewaldflow("stop")
        for process in laboratory.everything():
            with suppress(psutil.Error):
                process.kill()
