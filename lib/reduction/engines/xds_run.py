"""Running XDS: whether it can be, and one step after the other in one folder."""

from __future__ import annotations

import re
import tempfile
import time
from dataclasses import dataclass, field
from datetime import date, datetime
from math import inf
from pathlib import Path

from ...errors import UserError
from .programs import run_program
from .protocol import Progress
from .xds_document import XdsDocument

PROGRAM = "xds_par"
NAME = "XDS.INP"
PROBE_S = 20.0

_LICENSED = re.compile(r"licensed until\s+(\d{1,2}-[A-Za-z]{3}-\d{4})", re.IGNORECASE)
_EXPIRED = re.compile(
    r"[^\n]*\b(?:has expired|expired on|licen[cs]e expired|is expired)[^\n]*", re.I
)
_BANNER = re.compile(r"\(\s*VERSION\s+(.*?)\s*\)")
_ERROR = re.compile(r"!{2,}\s*ERROR\s*!{2,}\s*([^\n]*)")
# files that each step makes besides its log
_MADE_BY = {
    "COLSPOT": ("SPOT.XDS",),
    "IDXREF": ("XPARM.XDS",),
    "INTEGRATE": ("INTEGRATE.HKL",),
    "CORRECT": ("XDS_ASCII.HKL", "GXPARM.XDS"),
}
# what an attempt leaves that the next steps start from
STATE = ("SPOT.XDS", "XPARM.XDS", "IDXREF.LP")


def probe(program: Path, limit_s: float = PROBE_S, today: date | None = None) -> str | None:
    """Run XDS on nothing: None if it is licensed and runs, else the reason why not."""
    with tempfile.TemporaryDirectory(prefix="ewaldflow-xds-") as name:
        folder = Path(name)
        try:
            ended = run_program(
                [program], folder, folder / "probe.log", limit_s=limit_s, log_bytes=2**20
            )
        except UserError as error:
            return f"{program}: {error.found}"
        text = ended.text()
    if expired := _EXPIRED.search(text):
        return f"its licence has expired: {' '.join(expired[0].split())}"
    if licensed := _LICENSED.search(text):
        until = datetime.strptime(licensed[1].title(), "%d-%b-%Y").date()
        if until < (today or date.today()):
            return f"its licence has expired: {' '.join(licensed[0].split())}"
    if ended.by != "itself" or ended.code < 0 or ended.code in (126, 127):
        return ended.why
    if _BANNER.search(text) is None:
        said = " ".join(text.split())[:80]
        return f"{program.name} does not present itself as XDS" + (f": {said}" if said else "")
    return None


class Stopped(Exception):
    """Nothing can go on; the message says why."""


@dataclass
class XdsFolder:
    """One folder in which XDS is run step by step, within one time limit."""

    program: Path
    folder: Path
    deadline: float
    report: Progress
    seconds: dict[str, float] = field(default_factory=dict)
    logs: list[Path] = field(default_factory=list)
    version: str = "XDS"
    n_runs: int = 0

    def __call__(self, document: XdsDocument, job: str, fraction: float) -> str:
        """Run some steps; XDS's last error in its own words, empty if there was none."""
        self.report(f"XDS: {job.split()[-1]}", fraction)
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise Stopped(f"no time left for {job}")
        # a file of an earlier run must not be taken for one of this
        for step in job.split():
            for name in (f"{step}.LP", *_MADE_BY.get(step, ())):
                (self.folder / name).unlink(missing_ok=True)
        (self.folder / NAME).write_bytes(document.with_value("JOB", job).to_bytes())
        self.n_runs += 1
        log = self.folder / f"xds_{self.n_runs:02d}.log"
        self.logs.append(log)
        ended = run_program(
            [self.program], self.folder, log, limit_s=left if left < inf else None,
            environment={"OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        self.seconds[job] = self.seconds.get(job, 0.0) + ended.seconds
        text = ended.text()
        if banner := _BANNER.search(text):
            self.version = f"XDS {banner[1]}"
        if ended.by != "itself" or ended.code < 0 or ended.disk_full:
            raise Stopped(ended.why or "the disk is full")
        if expired := _EXPIRED.search(text):
            raise Stopped(" ".join(expired[0].split()))
        errors = _ERROR.findall(text)
        return " ".join(errors[-1].split()) if errors else ""

    def keep(self, name: str, number: int) -> None:
        """Set a log of a try aside before the next one overwrites it."""
        source = self.folder / name
        if source.exists():
            kept = self.folder / f"try_{number:02d}_{name}"
            kept.write_bytes(source.read_bytes())
            self.logs.append(kept)
