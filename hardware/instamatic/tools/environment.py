"""An environment with instamatic 2.2.2, a folder of its settings, and its servers running in them.

``python -m ewaldflow.hardware.instamatic.tools.environment FOLDER`` makes the environment.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

INSTAMATIC = "instamatic==2.2.2"
VARIABLE = "EWALDFLOW_INSTAMATIC_PYTHON"
ABSENT = (
    f"no instamatic: name a python that has it in {VARIABLE}, or run "
    "python -m ewaldflow.hardware.instamatic.tools.environment"
)
HERE = Path(__file__).parent
DEFAULT = HERE.parents[2] / ".benchmarks-env" / "instamatic"
STARTED_WITHIN_S = 60.0


def make(folder: Path = DEFAULT) -> Path:
    """Make the environment, in a minute or two; gives its python. Does nothing if it is there."""
    python = _python_of(folder)
    if not python.exists():
        try:
            subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
            pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            subprocess.run([*pip, INSTAMATIC], check=True)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)  # half of one would pass for a whole one
            raise
    return python


def find() -> Path | None:
    """The python of such an environment: of the variable, or of where `make` puts it."""
    named = os.environ.get(VARIABLE)
    python = Path(named) if named else _python_of(DEFAULT)
    return python if python.exists() else None


@contextmanager
def tem_server(python: Path, work: Path, twin: tuple[str, int] | None = None) -> Iterator[int]:
    """Instamatic's TEM server on its simulator, or on the twin at (host, port); gives the port.

    `work` : an empty folder for its settings and log.
    """
    port = _free_port()
    settings: dict[str, Any] = {
        "tem_server_host": "127.0.0.1",
        "tem_server_port": port,
        "tem_communication_protocol": "json",
    }
    command: list[str | int] = ["-m", "instamatic.server.tem_server"]
    if twin is not None:
        command = [str(HERE / "serve_twin.py"), *twin]
    with _running(python, command, work, settings, port):
        yield port


@contextmanager
def camera_server(python: Path, work: Path, *, shared_memory: bool = False) -> Iterator[int]:
    """Instamatic's camera server on its simulated camera; gives the port."""
    port = _free_port()
    settings = {
        "cam_server_host": "127.0.0.1",
        "cam_server_port": port,
        "cam_use_shared_memory": shared_memory,
    }
    with _running(python, [str(HERE / "serve_camera.py")], work, settings, port):
        yield port


@contextmanager
def _running(
    python: Path, command: list[str | int], work: Path, settings: dict[str, Any], port: int
) -> Iterator[None]:
    home = _make_home(python, work / "home", settings)
    with (work / "server.log").open("w") as log:
        process = subprocess.Popen(
            [str(python), *(str(word) for word in command)],
            stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, cwd=work,
            env=os.environ | {"instamatic": str(home), "MPLBACKEND": "Agg"},
        )  # fmt: skip
    try:
        _wait_for(port, process, work / "server.log")
        yield
    finally:
        process.kill()
        process.wait()


def _make_home(python: Path, home: Path, settings: dict[str, Any]) -> Path:
    """The folder that the environment variable `instamatic` (in lower case) names."""
    where = "import instamatic; print(instamatic.__path__[0])"
    found = subprocess.run(
        [str(python), "-c", where], capture_output=True, text=True, check=True
    ).stdout.strip()
    config = Path(found) / "config"
    (home / "config").mkdir(parents=True)
    (home / "logs").mkdir()
    for name in ("microscope", "calibration", "camera"):
        shutil.copytree(config / name, home / "config" / name)
    for name in ("scripts", "alignments"):
        shutil.copytree(config / name, home / name)
    shutil.copy(config / "defaults.yaml", home / "config")
    known = yaml.safe_load((config / "settings.yaml").read_text(encoding="utf-8"))
    known |= {"data_directory": str(home / "data"), **settings}
    (home / "config" / "settings.yaml").write_text(yaml.safe_dump(known), encoding="utf-8")
    return home


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + STARTED_WITHIN_S
    while time.monotonic() < until and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1.0).close()
            return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"instamatic's server did not start; its log ends: {log.read_text()[-500:]}")


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _python_of(folder: Path) -> Path:
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


if __name__ == "__main__":
    print(make(Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT))
