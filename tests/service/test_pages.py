"""What a person sees in Prefect's own pages, in a real browser: the run, its progress, pictures."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from laboratory import PASSWORD, Laboratory, running, small_series, until
from websockets.sync.client import connect

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")


class Browser:
    """Headless Chromium, steered by its DevTools protocol."""

    def __init__(self, folder: Path) -> None:
        port = folder / "DevToolsActivePort"
        self._process = subprocess.Popen(
            [
                str(CHROMIUM), "--headless=new", "--no-sandbox", "--disable-gpu",
                "--disable-dev-shm-usage", "--remote-debugging-port=0", "--no-first-run",
                f"--user-data-dir={folder}", "--window-size=1400,1800", "about:blank",
            ],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        until(lambda: port.exists() and "\n" in port.read_text(), 60, "browser")
        address = f"http://127.0.0.1:{port.read_text().splitlines()[0]}/json"
        (page,) = (one for one in httpx.get(address).json() if one["type"] == "page")
        self._socket, self._number = connect(page["webSocketDebuggerUrl"], max_size=None), 0
        self.ask("Page.enable")
        # as if the password had been given on the page that asks for it
        word = base64.b64encode(f"lab:{PASSWORD}".encode()).decode()
        source = f"localStorage.setItem('prefect-password', '{word}')"
        self.ask("Page.addScriptToEvaluateOnNewDocument", source=source)

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The browser's answer to a command of the protocol."""
        self._number += 1
        content = {"id": self._number, "method": method, "params": parameters}
        self._socket.send(json.dumps(content))
        while True:
            answer: dict[str, Any] = json.loads(self._socket.recv(timeout=60))
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                found: dict[str, Any] = answer["result"]
                return found

    def evaluate(self, script: str) -> Any:
        """What a script says on the page."""
        answer = self.ask("Runtime.evaluate", expression=script, returnByValue=True)
        return answer["result"].get("value")

    def open(self, url: str, *words: str) -> str:
        """Go to a page; its text, once all these words are on it."""
        self.ask("Page.navigate", url=url)
        return self.wait(*words)

    def wait(self, *words: str) -> str:
        """The text of the page, once all these words are on it."""
        end = time.monotonic() + 60
        while True:
            text = str(self.evaluate("document.body ? document.body.innerText : ''") or "")
            missing = [word for word in words if word not in text]
            if not missing:
                return text
            assert time.monotonic() < end, f"not on the page: {missing}\n{text}"
            time.sleep(0.25)

    def click(self, tab: str) -> None:
        """Turn to a tab of the page."""
        script = f"""[...document.querySelectorAll("[role=tab], .p-tab-navigation *")]
            .find(one => one.innerText.trim() === "{tab}").click()"""
        self.evaluate(script)

    def photograph(self, path: Path) -> None:
        """Keep what the page looks like."""
        time.sleep(1)  # things still move into place
        picture = self.ask("Page.captureScreenshot", format="png")
        path.write_bytes(base64.b64decode(picture["data"]))

    def close(self) -> None:
        """End the browser."""
        self._socket.close()
        self._process.terminate()
        self._process.wait(30)


@pytest.fixture(scope="module")
def laboratory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laboratory]:
    yield from running(tmp_path_factory.mktemp("laboratory"), compute_slots=1)


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    found = Browser(tmp_path / "browser")
    yield found
    found.close()


def test_the_run_its_progress_and_its_pictures(
    laboratory: Laboratory, browser: Browser, tmp_path: Path
) -> None:
    pages = laboratory.settings.ui_url
    session = laboratory.session("day/grid_1", {f"crystal_{n}": small_series(n) for n in (1, 2)})
    assert laboratory.notify(session).returncode == 0
    (run,) = laboratory.runs()

    # while it runs
    artifacts = _shown(laboratory, run["id"])
    until(lambda: "progress-session-day-grid-1" in artifacts(), 180, "progress")
    bar = artifacts()["progress-session-day-grid-1"]
    browser.open(f"{pages}/artifacts/artifact/{bar['id']}", "progress-session-day-grid-1")
    browser.photograph(tmp_path / "progress.png")
    assert laboratory.ended(run["id"])["state_type"] == "COMPLETED"

    # afterwards: the run, its log, all that it shows
    browser.open(
        f"{pages}/runs/flow-run/{run['id']}", "day-grid_1", "Completed",
        "day-grid_1-crystal_1: tetragonal P", "day-grid_1-crystal_2: tetragonal P",
        "day-grid_1, phase 1: ",
    )  # fmt: skip
    browser.photograph(tmp_path / "run.png")
    browser.click("Artifacts")
    browser.wait("progress-session-day-grid-1", "session-day-grid-1", "phases-day-grid-1")
    browser.photograph(tmp_path / "artifacts.png")
    browser.click("Task Runs")
    browser.wait("day-grid_1 crystal_2", "summarise day-grid_1")
    browser.photograph(tmp_path / "tasks.png")

    # pictures, as pictures
    shown = artifacts()
    assert shown["progress-session-day-grid-1"]["data"] == 100
    browser.open(
        f"{pages}/artifacts/artifact/{shown['session-day-grid-1']['id']}", "Phases of day-grid_1"
    )
    until(lambda: browser.evaluate(_PICTURES), 30, "picture")
    for words, width in browser.evaluate(_PICTURES):
        assert words in ("tree of the series by their cells",
                         "completeness of each phase against the series merged")  # fmt: skip
        assert width == 800
    browser.photograph(tmp_path / "pictures.png")

    # tables
    browser.open(
        f"{pages}/artifacts/artifact/{shown['series-day-grid-1']['id']}", "day-grid_1-crystal_2"
    )
    browser.photograph(tmp_path / "table.png")


@pytest.mark.parametrize(
    ("deployment", "words"),
    [
        ("session/session", ("of the session on this machine", "series to reduce at once")),
        ("acquire/acquire", ("see configs/sessions", "measure them now instead", "completeness")),
    ],
)
def test_a_form_says_what_it_wants(
    deployment: str, words: tuple[str, ...], laboratory: Laboratory, browser: Browser,
    tmp_path: Path,
) -> None:  # fmt: skip
    found = laboratory.ask(f"deployments/name/{deployment}")["id"]
    browser.open(f"{laboratory.settings.ui_url}/deployments/deployment/{found}/run", *words)
    browser.photograph(tmp_path / "form.png")


# words and width of each picture that is drawn
_PICTURES = """
[...document.images].filter(one => one.src.startsWith("data:image/png") && one.naturalWidth > 0)
    .map(one => [one.alt, one.naturalWidth])
"""


def _shown(laboratory: Laboratory, run: str) -> Callable[[], dict[str, dict[str, Any]]]:
    """What a run shows by now, by key; the last of each."""
    wanted = {"artifacts": {"flow_run_id": {"any_": [run]}}, "limit": 200, "sort": "CREATED_DESC"}

    def artifacts() -> dict[str, dict[str, Any]]:
        found = laboratory.ask("artifacts/filter", wanted)
        return {one["key"]: one for one in reversed(found)}

    return artifacts
