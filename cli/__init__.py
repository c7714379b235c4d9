"""The command line. What takes long to import is imported by the command that needs it."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer
from typer.exceptions import TyperException

from ..lib.errors import UserError
from . import (
    acquire,
    artefacts,
    cells,
    convert,
    instruments,
    merge,
    orient,
    overfocus,
    reduce,
    report,
    rings,
    rrvae,
    serve,
    session,
)

_EPILOG = """
**A first look**

- `ewaldflow demo` runs a whole session on a simulated microscope, from the grid to cells
- `ewaldflow reduce crystal_*/` reduces every folder of frames given
- `ewaldflow reduce DIR --instrument NAME` adds what the headers do not say

Results lie below `runs/`, or wherever `--store` says. Nothing there is ever overwritten, and a
stage that is finished is not run again.
"""

_INTERRUPTED = 130  # 128 + SIGINT, as shells have it; Typer returns it too

app = typer.Typer(
    name="ewaldflow",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)


@app.callback(epilog=_EPILOG)
def _about() -> None:
    """Electron diffraction, from the microscope to **merged intensities and structures**.

    Ewaldflow collects rotation series crystal by crystal, alone (`acquire`). It reads them from
    any camera's files (SMV, TIFF, MRC, CBF; `reduce`), finds the lattice, integrates the
    reflections, sorts the series into phases, merges and solves them. Every result is kept with
    what it was made from, down to the raw frames.
    """


app.command("acquire")(acquire.acquire)
app.command("calibrate-deflectors")(acquire.calibrate_deflectors)
app.command("reduce")(reduce.reduce)
app.command("merge")(merge.merge)
app.command("orient")(orient.orient)
app.command("calibrate-rings")(rings.calibrate_rings)
app.command("recenter")(rings.recenter)
app.command("check-drift")(rings.check_drift)
app.command("calibrate-axis")(rings.calibrate_axis)
app.command("calibrate-overfocus")(overfocus.calibrate_overfocus)
app.command("check-overfocus")(overfocus.check_overfocus)
app.add_typer(rrvae.app, name="rrvae")
app.command("demo")(acquire.demo)
app.command("report")(report.report)
app.command("compare")(report.compare)
app.command("cells")(cells.cells)
app.command("convert")(convert.convert)
app.command("instruments")(instruments.instruments)
app.add_typer(artefacts.app, name="artefacts")
app.command("session")(session.session)
app.command("serve")(serve.serve)
app.command("status")(serve.status)
app.command("stop")(serve.stop)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code.

    0: done. 1: some of several series failed, or `verify` found damage. 2: something the user
    must mend, said in one line on stderr. 130: interrupted.
    """
    try:
        code = app(arguments, prog_name="ewaldflow", standalone_mode=False)
    except UserError as error:
        return _say(2, str(error))
    except TyperException as error:
        return _say(2, f"{error.format_message()} (see ewaldflow --help)")
    except OSError as error:
        # a disk or a place that nobody foresaw
        return _say(2, f"{error.filename or 'a file'}: {error.strerror or error}")
    except (KeyboardInterrupt, typer.Abort):
        code = _INTERRUPTED
    except Exception as error:
        # Ctrl-C reaches Prefect's server too, and its flow then fails for want of it
        if not _after_interrupt(error):
            raise
        code = _INTERRUPTED
    if code == _INTERRUPTED:
        return _say(code, "interrupted; finished stages are kept")
    return code if isinstance(code, int) else 0


def _after_interrupt(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return True
        error = error.__cause__ or error.__context__
    return False


def _say(code: int, line: str) -> int:
    print(f"ewaldflow: {' '.join(line.split())}", file=sys.stderr)
    return code
