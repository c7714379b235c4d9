"""Pages of reports: how long one takes from stored artefacts, how large it is, whether it works.

The real garnet series of 566 frames is converted and reduced into a store; then a fresh process
makes its page, which is what is measured. Where Chromium and axe-core are installed, the page is
opened and looked through for what shuts people out.
"""

from __future__ import annotations

import json
import sys
import time
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

from _real import REAL, add_data_option, unpack
from _table import Table, options, run_measured, say, skip, work_folder

SERIES = "garnet"
_STORE = """
import sys
from pathlib import Path
from ewaldflow.tasks.convert import convert_series
from ewaldflow.tasks.reduce import reduction_artefact
folder, store = Path(sys.argv[1]), Path(sys.argv[2])
series = convert_series("garnet", folder, store, sys.argv[3], None)
print(reduction_artefact(series, store, None))
"""
_PAGE = """
import json, sys, time
began, cpu = time.monotonic(), time.process_time()
from pathlib import Path
from ewaldflow.tasks.pages import page_artefact
page = page_artefact(sys.argv[1], Path(sys.argv[2]))
print(json.dumps({"path": str(page), "wall_s": time.monotonic() - began,
                  "cpu_s": time.process_time() - cpu}))
"""


def main() -> int:
    parser = options(__doc__ or "")
    add_data_option(parser)
    args = parser.parse_args()
    table = Table("Pages of reports")
    with work_folder(args.work) as work:
        folder = unpack(SERIES, args.data, work)
        if folder is None:
            return skip(f"{REAL[SERIES].archive} is not in {args.data}")
        say("convert and reduce 566 frames")
        program = [sys.executable, "-c", _STORE, folder, work / "runs", REAL[SERIES].instrument]
        made = run_measured(program, work, work / "reduce.log")
        if made.code:
            table.fail("reduction", made.output.strip().splitlines()[-1])
            return table.show()
        ref = made.output.strip().splitlines()[-1]
        say(f"page of {ref}")
        pages = []
        for store in (work / "runs", work / "again"):
            if store.name == "again":  # the same artefacts elsewhere, without the page
                _copy(work / "runs", store)
            ran = run_measured([sys.executable, "-c", _PAGE, ref, store], work, work / "page.log")
            if ran.code:
                table.fail("page", ran.output.strip().splitlines()[-1])
                return table.show()
            pages.append((ran, json.loads(ran.output.strip().splitlines()[-1])))
        first, second = (Path(told["path"]) for _, told in pages)
        ran, told = pages[0]
        table.check("page of 566 frames, CPU s", ran.cpu_s, at_most=20)
        table.tell("the same by the clock, s", f"{told['wall_s']:.3g}")
        table.check("page of 566 frames, MB", first.stat().st_size / 1e6, at_most=15)
        table.check("peak memory, MB", ran.memory_MB, at_most=2000)
        same = first.read_bytes() == second.read_bytes()
        table.check("made twice, the same bytes", float(same), at_least=1)
        _look(table, first, work)
    return table.show()


def _copy(store: Path, to: Path) -> None:
    import shutil

    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(store, to, ignore=shutil.ignore_patterns("report"))


def _look(table: Table, page: Path, work: Path) -> None:
    """Open the page in a browser, and let axe-core look through it."""
    browser = _browser()
    source = browser.axe()
    if browser.CHROMIUM is None or source is None:
        table.tell("in a browser", "not looked at: Chromium or axe-core is not installed")
        return
    began = time.monotonic()
    own = work / "opened"
    own.mkdir(exist_ok=True)
    (own / "page.html").write_bytes(page.read_bytes())
    _, said = browser.opened(own / "page.html", 20000)
    table.check("policy violations and errors", float(said.count("Content Security Policy")
                + said.count("Error")), at_most=0)  # fmt: skip
    faults = browser.faults(page.read_text(encoding="utf-8"), own, source)
    table.check("serious faults by axe-core", len(faults), at_most=0)
    for impact, rule, where in faults:
        table.tell(f"{impact}: {rule}", where[0])
    say(f"looked at in {time.monotonic() - began:.0f} s")


def _browser() -> ModuleType:
    file = Path(__file__).parents[1] / "tests" / "lib" / "report" / "test_in_browser.py"
    spec = spec_from_file_location("in_browser", file)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    raise SystemExit(main())
