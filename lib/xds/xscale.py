"""XSCALE.LP: data sets scaled together, how they agree, and what was saved.

Pairs without common reflections are absent from the table of correlations, never zero: XSCALE
leaves them out, or names the data sets ("no common reflections with data set 5"). A single
input prints no table, and PRINT_CORRELATIONS=FALSE suppresses it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from math import nan
from pathlib import Path
from typing import TypeVar

from ..crystal.cell import Cell
from .error_model import ErrorModelAB, WilsonLine, error_model, wilson_line
from .log import (
    Lines,
    Log,
    cell_or_none,
    count,
    number,
    numbers,
    percent,
    read_lines,
    spans,
    undefined,
)
from .shells import ShellTable, shell_table

CLOSING = "elapsed wall-clock time"


@dataclass(frozen=True)
class ScaledInput:
    """One input reflection file.

    Attributes
    ----------
    number : as in the tables of the log, from 1.
    name : the file, blanks kept.
    mean_intensity : NaN on overflow.
    n_accepted, n_rejected : reflections read.
    k, b : factor ``K exp(B s^2)`` with ``s = 2 sin(theta) / lambda``; NaN if not printed.
    error_model : after scaling; None if not printed.
    isa_alone : ISa0, before it was compared with the others; NaN if unknown (printed -1).
    r_shells : R-factors by resolution, empty if not printed.
    r_total : their total.
    """

    number: int
    name: str
    mean_intensity: float
    n_accepted: int | None
    n_rejected: int | None
    k: float
    b: float
    error_model: ErrorModelAB | None
    isa_alone: float
    r_shells: tuple[InputShell, ...]
    r_total: InputShell | None


@dataclass(frozen=True)
class InputShell:
    """R-factors of one input in one shell.

    Attributes
    ----------
    d_min_A : limit; that of the finest shell for the total.
    r_observed, r_expected : fractions; NaN if undefined.
    n_compared : reflections.
    """

    d_min_A: float
    r_observed: float
    r_expected: float
    n_compared: int | None


@dataclass(frozen=True)
class PairCorrelation:
    """How two inputs agree.

    Attributes
    ----------
    i, j : numbers of the inputs, i < j.
    n_common : common reflections.
    cc : correlation of their intensities; NaN on overflow.
    ratio : of the common intensities, i over j.
    b : relative B factor, Å^2.
    """

    i: int
    j: int
    n_common: int | None
    cc: float
    ratio: float
    b: float


@dataclass(frozen=True)
class ScaledOutput:
    """One output file and its statistics.

    Attributes
    ----------
    name : of the file.
    merged : MERGE.
    friedel : FRIEDEL'S_LAW.
    n_rejected, n_read : reflections rejected out of those read.
    n_written : reflections on the file.
    table : by resolution; None if not printed.
    """

    name: str
    merged: bool | None
    friedel: bool | None
    n_rejected: int | None
    n_read: int | None
    n_written: int | None
    table: ShellTable | None


@dataclass(frozen=True)
class Xscale(Log):
    """What XSCALE.LP says. What it does not say is None or empty.

    Attributes
    ----------
    cards : the control cards as given.
    space_group_number, cell : that the statistics assume.
    inputs : in the order of the log.
    pairs : of inputs with common reflections; empty with a single input.
    unconnected : inputs without any reflection in common with the others.
    outputs : in the order of the log; `saved` is the last.
    wilson : of the last output; None if not printed.
    """

    cards: tuple[str, ...]
    space_group_number: int | None
    cell: Cell | None
    inputs: tuple[ScaledInput, ...]
    pairs: tuple[PairCorrelation, ...]
    unconnected: tuple[int, ...]
    outputs: tuple[ScaledOutput, ...]
    wilson: WilsonLine | None

    @property
    def saved(self) -> ScaledOutput | None:
        """The last output; None if the log stops before."""
        return self.outputs[-1] if self.outputs else None


def read_xscale(path: str | Path) -> Xscale:
    """Read an XSCALE.LP, also of a run that failed or was cut (see `Log.complete`).

    Of several runs appended to one file the last is read.

    Raises
    ------
    UserError : the file cannot be read, or is not a log of XSCALE.
    """
    lines = read_lines(path, "XSCALE", CLOSING)
    assumed = lines.find("STATISTICS REPORTED BELOW ASSUMES")
    told = (0, 0) if assumed is None else (assumed, assumed + 3)
    outputs = _outputs(lines)
    if lines.complete and not lines.errors and any(o.table is None for o in outputs):
        lines.problems.append("the log has no table of completeness and quality")
    return Xscale(
        cards=_cards(lines),
        space_group_number=count(lines.card("SPACE_GROUP_NUMBER", *told)),
        cell=cell_or_none(numbers(lines.card("UNIT_CELL_CONSTANTS", *told))),
        inputs=_inputs(lines),
        pairs=tuple(_pairs(lines)),
        unconnected=_unconnected(lines),
        outputs=outputs,
        wilson=wilson_line(lines),
        **lines.common(),
    )


def _cards(lines: Lines) -> tuple[str, ...]:
    title = lines.find("CONTROL CARDS")
    if title is None:
        return ()
    cards = []
    for line in lines.all[title + 2 :]:
        if "STATISTICS REPORTED BELOW" in line or "!!!" in line or line.startswith(" ***"):
            break
        if line.strip():
            cards.append(line.strip())
    return tuple(cards)


_INPUT = re.compile(
    r"^\s*(\d{1,6})\s+(-?\d*\.\d+E[+-]?\d+|\*+)\s+(\d+|\*+)\s+(\d+|\*+)  ?(\S.*?)\s*$"
)


def _inputs(lines: Lines) -> tuple[ScaledInput, ...]:
    title = lines.find("SET# INTENSITY")
    if title is None:
        return ()
    read = []
    for index, line in lines.rows(title + 1):
        m = _INPUT.match(line)
        if m:
            read.append((int(m[1]), m[5], number(m[2]), count(m[3]), count(m[4])))
        elif _UNCONNECTED not in line and "!!!" not in line:
            lines.not_understood(index, "input data set")
    names = [name for _, name, *_ in read]
    k_b = _in_order(names, _named(lines, "K        B           DATA SET NAME", 2))
    models = _in_order(names, _named(lines, "ISa    ISa0   INPUT DATA SET", 4))
    shells = _in_order(names, _input_shells(lines))
    found = []
    for (n, name, mean, accepted, rejected), factors, model, rows in zip(
        read, k_b, models, shells, strict=True
    ):
        k, b = factors or (nan, nan)
        found.append(
            ScaledInput(
                number=n,
                name=name,
                mean_intensity=mean,
                n_accepted=accepted,
                n_rejected=rejected,
                k=k,
                b=b,
                error_model=error_model(model[0], model[1], model[2]) if model else None,
                isa_alone=undefined(model[3], (-1.0,)) if model else nan,
                r_shells=tuple(row for total, row in rows or () if not total),
                r_total=next((row for total, row in rows or () if total), None),
            )
        )
    return tuple(found)


T = TypeVar("T")


def _in_order(names: list[str], table: list[tuple[str, T]]) -> list[T | None]:
    """Rows of a table for the inputs: by position if all are there, else by their names.

    A name may come twice, and then only its position tells which is meant.
    """
    if len(table) == len(names):
        return [row for _, row in table]
    often = Counter(names) + Counter(name for name, _ in table)
    rows = dict(table)
    return [rows.get(name) if often[name] == 2 else None for name in names]


def _named(lines: Lines, title: str, n: int) -> list[tuple[str, list[float]]]:
    """Name and the `n` numbers before it, of the last table with that heading."""
    titles = lines.find_all(title)
    if not titles:
        return []
    table = []
    for index, line in lines.rows(titles[-1] + 1):
        words = line.split(None, n)
        values = [number(word) for word in words[:n]]
        if len(words) < n + 1 or not all(re.fullmatch(r"\*+|[-+.\dE]+", w) for w in words[:n]):
            lines.not_understood(index, "row of a data set")
        else:
            table.append((words[n].strip(), values))
    return table


_PAIR = re.compile(
    r"^\s*(\d{1,6})\s+(\d{1,6})\s+(\d++|\*++)\s*(-?\d*\.\d{3}|\*++)\s*(-?\d*\.\d{4}|\*++)"
    r"\s*(-?\d*\.\d{4}|\*++)\s*$"
)


def _pairs(lines: Lines) -> Iterator[PairCorrelation]:
    titles = lines.find_all("CORRELATIONS BETWEEN INPUT DATA SETS AFTER CORRECTIONS")
    title = lines.find("#i   #j", titles[-1]) if titles else None
    if title is None:
        return
    for index, line in lines.rows(title + 1, skip=1):
        m = _PAIR.match(line)
        if m is None:
            lines.not_understood(index, "pair of data sets")
            continue
        yield PairCorrelation(
            int(m[1]), int(m[2]), count(m[3]), number(m[4]), number(m[5]), number(m[6])
        )


_UNCONNECTED = "no common reflections with data set"


def _unconnected(lines: Lines) -> tuple[int, ...]:
    found = (lines.all[i].split(_UNCONNECTED)[1].split() for i in lines.find_all(_UNCONNECTED))
    return tuple(int(words[0]) for words in found if words and words[0].isdecimal())


_OUTPUT = "STATISTICS OF SCALED OUTPUT DATA SET :"


def _outputs(lines: Lines) -> tuple[ScaledOutput, ...]:
    bounds = spans(lines.find_all(_OUTPUT), len(lines.all))
    return tuple(_output(lines, start, end) for start, end in bounds)


def _output(lines: Lines, start: int, end: int) -> ScaledOutput:
    truth = {"TRUE": True, "FALSE": False}
    head = min(end, start + 8)
    rejected = re.search(
        r"(\d+|\*+)\s+OUT OF\s+(\d+|\*+)\s+REFLECTIONS REJECTED", "\n".join(lines.all[start:head])
    )
    return ScaledOutput(
        name=lines.all[start].partition(_OUTPUT)[2].strip(),
        merged=truth.get(lines.card("MERGE", start, head) or ""),
        friedel=truth.get(lines.card("FRIEDEL'S_LAW", start, head) or ""),
        n_rejected=count(rejected[1]) if rejected else None,
        n_read=count(rejected[2]) if rejected else None,
        n_written=lines.leading("REFLECTIONS ON OUTPUT FILE", start, head),
        table=shell_table(lines, start, end),
    )


def _input_shells(lines: Lines) -> list[tuple[str, list[tuple[bool, InputShell]]]]:
    title = "R-FACTORS FOR INTENSITIES OF DATA SET"
    return [
        (lines.all[i].partition(title)[2].strip(), _shells_of_input(lines, i))
        for i in lines.find_all(title)
    ]


def _shells_of_input(lines: Lines, title: int) -> list[tuple[bool, InputShell]]:
    heading = lines.find("LIMIT      observed", title, title + 5)
    if heading is None:
        return []
    shells: list[tuple[bool, InputShell]] = []
    finest = nan
    for index, line in lines.rows(heading + 1, skip=1):
        words = re.findall(r"total|-?\d*\.?\d+%?|\*+%?", line)
        if len(words) != 4:
            lines.not_understood(index, "R-factors of a data set")
            continue
        total = words[0] == "total"
        finest = finest if total else number(words[0])
        rows = InputShell(finest, percent(words[1]), percent(words[2]), count(words[3]))
        shells.append((total, rows))
    return shells
