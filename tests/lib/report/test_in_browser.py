"""Pages in a real browser: nothing breaks the policy, nobody is shut out."""

from __future__ import annotations

import html as text_of
import json
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest

from ewaldflow.lib.report import html
from ewaldflow.lib.report.provenance import provenance_section
from ewaldflow.lib.report.session_page import session_page

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome")
     if (found := shutil.which(name))), None
)  # fmt: skip
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")

# Opens everything that is folded away, then says what axe found as text of the page.
_RUN_AXE = """
addEventListener("load", () => setTimeout(() => {
  for (const one of document.querySelectorAll("details")) one.open = true;
  axe.run().then(found => {
    const said = document.createElement("pre");
    said.id = "axe";
    said.textContent = JSON.stringify(found.violations.map(one =>
      [one.impact, one.id, one.nodes.map(node => node.html.slice(0, 150))]));
    document.body.append(said);
  });
}, 1500));
"""


def axe() -> str | None:
    """The source of axe-core: $EWALDFLOW_AXE, or what the package axe-core-python brings."""
    if path := os.environ.get("EWALDFLOW_AXE"):
        return Path(path).read_text(encoding="utf-8")
    spec = find_spec("axe_core_python")
    if spec is None or spec.origin is None:
        return None
    return (Path(spec.origin).parent / "axe.min.js").read_text(encoding="utf-8")


def opened(page: Path, budget_ms: int = 12000) -> tuple[str, str]:
    """The page as the browser has it in the end, and what was said on its console."""
    assert CHROMIUM is not None
    done = subprocess.run(
        [
            CHROMIUM, "--headless", "--no-sandbox", "--enable-unsafe-swiftshader",
            "--enable-logging=stderr", f"--user-data-dir={page.parent / 'profile'}",
            f"--virtual-time-budget={budget_ms}", "--dump-dom", page.as_uri(),
        ],
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    said = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return done.stdout, "\n".join(said)


def faults(page: str, folder: Path, source: str) -> list[list[Any]]:
    """What axe finds, serious or worse; the policy is lifted for axe itself."""
    bare = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page, count=1)
    watched = f"<script>{source}</script><script>{_RUN_AXE}</script></body>"
    path = folder / "page.html"
    path.write_text(bare.replace("</body>", watched), encoding="utf-8")
    dom, _ = opened(path, 60000)
    found = re.findall('<pre id="axe">(.*?)</pre>', dom, re.DOTALL)
    assert found, "axe did not finish"
    said: list[list[Any]] = json.loads(text_of.unescape(found[-1]))
    return [one for one in said if one[0] in ("serious", "critical")]


def many_parts() -> str:
    """A page with every part that pages are made of."""
    x = np.linspace(0, 1, 50, dtype=np.float32)
    wide = [[html.Exact(f"{v:.1f}", v) for v in x[:40].tolist()]] * 2
    return html.page(
        "Every part", "Test", "lead",
        [
            html.facts({"Number": 3, "Other": html.Safe("4 <small>Å</small>")}),
            html.advice(["Do `this`."]),
            html.paragraph("A warning.", warn=True),
            html.contents({"tables": "Tables", "figures": "Figures"}),
            html.section(
                "tables", "Tables",
                html.table(
                    ["a", ""], [["x, y", 'q"'], ["−1.5", ""]],
                    row_classes=["chosen", "failed"], caption="Caption.",
                ),
                html.table([f"column {k}" for k in range(40)], wide, numeric=range(40)),
                html.details("More", html.bullets(["one", "two"])),
            ),
            html.section(
                "figures", "Figures",
                html.interactive(go.Figure(go.Scatter3d(x=x, y=x, z=x)), "a line", "Line."),
                html.interactive(go.Figure(go.Scatter(x=x, y=x)), "the same, flat", "Line."),
            ),
            html.section("provenance", "Provenance", provenance_section([])),
        ],
        "footer",
    )  # fmt: skip


@needs_browser
def test_policy_holds_tables_get_buttons_and_figures_are_drawn(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    # what the button would save, written where it can be read; allowed by its own hash
    spy = html.script("""
        addEventListener("load", () => setTimeout(() => {
          URL.createObjectURL = blob => { blob.text().then(text => {
            const said = document.createElement("pre");
            said.className = "csv-text"; said.textContent = JSON.stringify(text);
            document.body.append(said); }); return "#"; };
          for (const one of document.querySelectorAll("button.csv")) one.click();
          const plot = document.querySelector(".live");
          const eye = () => plot._fullLayout.scene.camera.eye.x.toFixed(3);
          const press = key => plot.dispatchEvent(
            new KeyboardEvent("keydown", {key, bubbles: true, cancelable: true}));
          const first = eye();
          press("ArrowRight");
          setTimeout(() => { const turned = eye(); press("0"); setTimeout(() => {
            document.body.dataset.eye = [first, turned, eye()].join(" "); }, 500); }, 500);
        }, 3000));""")
    path.write_text(many_parts().replace("<footer>", f"{spy}<footer>").replace(
        "script-src ", f"script-src {_hash(spy)} "), encoding="utf-8")  # fmt: skip
    dom, said = opened(path)
    assert "Content Security Policy" not in said
    assert "Error" not in said
    saved = re.findall('<pre class="csv-text">(.*?)</pre>', dom, re.DOTALL)
    tables = [json.loads(text_of.unescape(one)) for one in saved]
    assert tables[0] == 'a,\r\n"x, y","q"""\r\n-1.5,\r\n'
    assert float(tables[1].split("\r\n")[1].split(",")[7]) == np.float32(7 / 49)  # unrounded
    assert dom.count('class="interactive drawn"') == 2
    assert dom.count('class="scroll" tabindex="0"') == 1  # only what scrolls
    before, turned, back = re.findall('data-eye="([^"]*)"', dom)[0].split()
    assert before == back != turned  # the keys turn it and put it back


def _hash(script: str) -> str:
    from base64 import b64encode
    from hashlib import sha256

    code = script.removeprefix("<script>").removesuffix("</script>")
    return f"'sha256-{b64encode(sha256(code.encode()).digest()).decode()}'"


@needs_browser
@pytest.mark.skipif(axe() is None, reason="axe-core is not there: pip install axe-core-python")
@pytest.mark.parametrize("kind", ["parts", "session", "axe itself"])
def test_axe_finds_no_serious_fault(kind: str, tmp_path: Path) -> None:
    source = axe()
    assert source is not None
    pages: dict[str, Sequence[str]] = {
        "parts": [many_parts()],
        "session": [session_page("s", [], [], None, {}, "1.0")],
        # what has faults is found to have them
        "axe itself": [many_parts().replace("<main", '<img src="data:,"><main')],
    }
    found = [fault for page in pages[kind] for fault in faults(page, tmp_path, source)]
    assert [one[1] for one in found] == (["image-alt"] if kind == "axe itself" else [])
