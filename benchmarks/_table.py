"""What all benchmarks share: a table of figures against bars, the options, running a program."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table as RichTable

SKIPPED = 77  # the exit code by which test drivers know that nothing was measured


@dataclass
class Table:
    """Figures, each measured | bar | peer | verdict."""

    title: str
    rows: list[tuple[str, str, str, str, str]] = field(default_factory=list)

    @property
    def missed(self) -> list[str]:
        """The figures that missed their bars, with what was measured."""
        return [f"{row[0]}: {row[1]}, not {row[2]}" for row in self.rows if row[4] == "MISSED"]

    def check(
        self,
        figure: str,
        measured: float,
        *,
        at_least: float | None = None,
        at_most: float | None = None,
        peer: str = "",
        form: str = ".3g",
    ) -> None:
        """A figure with a bar, or with two; NaN misses every bar."""
        reached, bars = True, []
        if at_least is not None:
            reached &= bool(measured >= at_least)
            bars.append(f">= {at_least:{form}}")
        if at_most is not None:
            reached &= bool(measured <= at_most)
            bars.append(f"<= {at_most:{form}}")
        if not bars:
            raise ValueError(f"{figure}: found no bar, expected at_least or at_most")
        verdict = "reached" if reached else "MISSED"
        self.rows.append((figure, f"{measured:{form}}", " and ".join(bars), peer, verdict))

    def tell(self, figure: str, measured: str, peer: str = "") -> None:
        """A figure without a bar."""
        self.rows.append((figure, measured, "", peer, ""))

    def fail(self, figure: str, why: str) -> None:
        """A figure that could not be measured, which misses its bar."""
        self.rows.append((figure, why, "a result", "", "MISSED"))

    def show(self) -> int:
        """Print the table; returns the exit code, 1 if a bar was missed."""
        table = RichTable(title=self.title, title_justify="left")
        table.add_column("figure", overflow="fold")
        for name in ("measured", "bar", "peer", "verdict"):
            table.add_column(name, overflow="fold")
        for row in self.rows:
            style = {"MISSED": "bold red", "reached": "green"}.get(row[-1], "")
            table.add_row(*row[:-1], f"[{style}]{row[-1]}[/]" if style else row[-1])
        on_terminal = sys.stdout.isatty()
        Console(width=None if on_terminal else 150, highlight=False).print(table)
        reached = sum(row[-1] == "reached" for row in self.rows)
        print(f"{reached} of {reached + len(self.missed)} bars reached")
        return int(bool(self.missed))


def options(about: str, *, work: bool = True) -> argparse.ArgumentParser:
    """The options of every benchmark; `work`: it leaves files that may be kept."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--quick", action="store_true", help="a subset, in less than a minute")
    if work:
        parser.add_argument("--work", type=Path, help="keep intermediate files in this folder")
    return parser


@contextmanager
def work_folder(kept: Path | None) -> Iterator[Path]:
    """The folder for intermediate files: `kept`, or one that is deleted in the end."""
    if kept is not None:
        kept.mkdir(parents=True, exist_ok=True)
        yield kept.absolute()
    else:
        with tempfile.TemporaryDirectory(prefix="ewaldflow-benchmark-") as folder:
            yield Path(folder)


def say(text: str) -> None:
    """Progress, apart from the table."""
    print(text, file=sys.stderr, flush=True)


def skip(why: str) -> int:
    """Say that nothing was measured, and why; returns the exit code for it."""
    print(f"skipped: {why}")
    return SKIPPED


@dataclass(frozen=True)
class Ran:
    """How a process ended: exit code, CPU seconds (user + system), peak memory, its output."""

    code: int
    cpu_s: float
    memory_MB: float
    output: str


# A process is born with the memory of its parent, and that counts as its peak: so a small one
# starts the program, not this one.
_LAUNCHER = """
import json, os, sys
pid = os.posix_spawnp(sys.argv[2], sys.argv[2:], os.environ)
_, status, usage = os.wait4(pid, 0)
told = [os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024]
with open(sys.argv[1], "w") as out:
    json.dump(told, out)
"""


def run_measured(command: Sequence[str | Path], folder: Path, log: Path) -> Ran:
    """Run a program on one core in `folder`; what it prints goes to `log`.

    CPU time and memory are those of the process and of all that it waited for.
    """
    threads = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "NUMBA")}
    told = log.with_suffix(".usage.json")
    told.unlink(missing_ok=True)
    with log.open("w") as out:
        subprocess.run(
            [sys.executable, "-S", "-c", _LAUNCHER, str(told), *(str(word) for word in command)],
            cwd=folder, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
            env=os.environ | threads, check=False,
        )  # fmt: skip
    if not told.exists():
        raise FileNotFoundError(f"{command[0]} could not be started; see {log}")
    code, cpu_s, memory_MB = json.loads(told.read_text())
    return Ran(
        code,
        cpu_s,
        memory_MB,
        log.read_text(errors="replace"),
    )
