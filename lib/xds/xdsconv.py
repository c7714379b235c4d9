"""XDSCONV.LP: reflections converted to the format of another program."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..crystal.cell import Cell
from .log import Log, cell_or_none, count, number, numbers, read_lines

CLOSING = "RECORDS ASSIGNED TO TEST SET"


@dataclass(frozen=True)
class Xdsconv(Log):
    """What XDSCONV.LP says. What it does not say is None or NaN.

    Attributes
    ----------
    input_file : as in the control cards, blanks kept.
    output_file, output_format : e.g. "shelxl.hkl" and "SHELX".
    space_group_number, cell : of the reflections.
    friedel, merged : FRIEDEL'S_LAW and MERGE, as applied.
    n_read, n_ignored, n_accepted : reflections on the input, below the limit of I / sigma, and
        accepted.
    shelx_scale : factor applied to intensities for SHELX; NaN for other formats.
    n_written : reflections on the output.
    """

    input_file: str | None
    output_file: str | None
    output_format: str | None
    space_group_number: int | None
    cell: Cell | None
    friedel: bool | None
    merged: bool | None
    n_read: int | None
    n_ignored: int | None
    n_accepted: int | None
    shelx_scale: float
    n_written: int | None


def read_xdsconv(path: str | Path) -> Xdsconv:
    """Read an XDSCONV.LP, also of a run that failed or was cut (see `Log.complete`).

    Raises
    ------
    UserError : the file cannot be read, or is not a log of XDSCONV.
    """
    lines = read_lines(path, "XDSCONV", CLOSING)
    words = (lines.after("OUTPUT_FILE=") or "").split()
    # the cards may state both as well; what was applied comes after the cell
    applied = lines.find("UNIT_CELL_CONSTANTS=") or len(lines.all)
    truth = {"TRUE": True, "FALSE": False}
    return Xdsconv(
        input_file=(lines.after("INPUT_FILE=") or "").strip() or None,
        output_file=words[0] if words else None,
        output_format=words[1] if len(words) > 1 else None,
        space_group_number=count(lines.card("SPACE_GROUP_NUMBER")),
        cell=cell_or_none(numbers(lines.card("UNIT_CELL_CONSTANTS"))),
        friedel=truth.get(lines.card("FRIEDEL'S_LAW", applied) or ""),
        merged=truth.get(lines.card("MERGE", applied) or ""),
        n_read=lines.trailing("NUMBER OF REFLECTION RECORDS ON INPUT FILE"),
        n_ignored=lines.trailing("NUMBER OF IGNORED REFLECTIONS"),
        n_accepted=lines.trailing("NUMBER OF REFLECTIONS ACCEPTED FROM INPUT FILE"),
        shelx_scale=number(lines.after("SCALING FACTOR APPLIED TO SHELX-OUTPUT DATA=")),
        n_written=lines.trailing("NUMBER OF REFLECTION RECORDS ON OUTPUT FILE"),
        **lines.common(),
    )
