"""What the logs of XDS's programs have in common: banner, warnings, Fortran numbers, endings.

How odd numbers are told: -99.9 % and -99.00 are XDS's words for "undefined" and become NaN, as
do fields of asterisks, which are numbers too wide for their format. Counts that overflow become
None. A field is split by the number of decimals of its format where columns may touch.

A log may be cut anywhere, by a killed program or a full disk. What stands in whole lines is
read; the last line counts only if it was ended, since half a number looks like a number.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import isfinite, nan
from pathlib import Path
from typing import Literal, TypedDict

from ..crystal.cell import Cell
from ..errors import UserError

Vector = tuple[float, float, float]

# The largest real log seen (INTEGRATE.LP of 3600 images) has 8 MB.
MAX_BYTES = 512 * 1024**2

MAX_LINE = 1000  # characters; a path may be long

_BANNER = re.compile(
    r"\*{5}\s*([A-Z]+)\s*\*{5}\s*\(\s*VERSION\s+(.*?)(?:\s+BUILT=\s*(\d+))?\s*\)\s*(.*)"
)
# also "!!! ERROR IN REFINE !!! ..." and "!!! Warning !!!"
_MESSAGE = re.compile(r"!!\s{0,9}(ERROR|WARNING)([^!]*)!!+\s*(.*)", re.IGNORECASE)
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[EeDd][-+]?\d+)?|\*+|[Nn]a[Nn]|[-+]?[Ii]nf\w*")


@dataclass(frozen=True)
class Banner:
    """Which program wrote a log.

    Attributes
    ----------
    program : IDXREF, INTEGRATE, CORRECT, XSCALE, XDSCONV, ...
    version : as printed, e.g. "Jan 31, 2020" or "December 6, 2010".
    build : BUILT=, e.g. 20200131; None before 2015.
    run_date : as printed, e.g. "14-Feb-2025".
    line : where it stands, from 1.
    """

    program: str
    version: str
    build: int | None
    run_date: str
    line: int


@dataclass(frozen=True)
class Message:
    """A ``!!! ERROR !!!`` or ``!!! WARNING !!!`` of XDS.

    Attributes
    ----------
    kind : ERROR or WARNING.
    headline : its first line.
    text : with the lines that continue it, up to the next empty line.
    line : where it stands, from 1.
    """

    kind: Literal["ERROR", "WARNING"]
    headline: str
    text: str
    line: int


@dataclass(frozen=True)
class Log:
    """What every log tells, whichever program wrote it.

    Attributes
    ----------
    banner : program and version; of the last run if several were appended to one file.
    messages : every ERROR and WARNING anywhere in that run, in order.
    complete : False if the log stops before its closing line and without an ERROR: the program
        was killed, or the file was cut.
    stops_at : the last line, with its number; empty if complete.
    problems : lines that should have been understood and were not, with their numbers.
    n_runs : of the program in this file; the last one is read.
    """

    banner: Banner
    messages: tuple[Message, ...]
    complete: bool
    stops_at: str
    problems: tuple[str, ...]
    n_runs: int

    @property
    def errors(self) -> tuple[Message, ...]:
        """The messages that stopped the program."""
        return tuple(message for message in self.messages if message.kind == "ERROR")

    @property
    def warnings(self) -> tuple[Message, ...]:
        """The messages that did not."""
        return tuple(message for message in self.messages if message.kind == "WARNING")


class LogFields(TypedDict):
    """The fields of `Log`."""

    banner: Banner
    messages: tuple[Message, ...]
    complete: bool
    stops_at: str
    problems: tuple[str, ...]
    n_runs: int


class LogText:
    """Lines of a log, and which of them could not be understood.

    Parameters
    ----------
    lines : without their ends.
    offset : lines of the file before the first of them.
    """

    def __init__(self, lines: list[str], offset: int = 0) -> None:
        self.offset = offset
        # no program writes such lines; patterns would search them for ever
        self.problems = [
            f"line {offset + i}: {len(line)} characters, not read"
            for i, line in enumerate(lines, 1)
            if len(line) > MAX_LINE
        ]
        self.all = [line.rstrip() if len(line) <= MAX_LINE else "" for line in lines]

    def find(self, text: str, start: int = 0, stop: int | None = None) -> int | None:
        """Index of the first line that contains `text`, at or after `start`."""
        end = len(self.all) if stop is None else min(stop, len(self.all))
        return next((i for i in range(max(start, 0), end) if text in self.all[i]), None)

    def find_all(self, text: str) -> list[int]:
        """Indices of all lines that contain `text`."""
        return [i for i, line in enumerate(self.all) if text in line]

    def after(self, text: str, start: int = 0, stop: int | None = None) -> str | None:
        """What follows `text` on the first line that has it."""
        index = self.find(text, start, stop)
        return None if index is None else self.all[index].partition(text)[2]

    def card(self, keyword: str, start: int = 0, stop: int | None = None) -> str | None:
        """The value of the first ``KEYWORD= value``, without what follows on the same line."""
        pattern = re.compile(rf"(?:^|\s){re.escape(keyword)}=(.*?)(?=\s[A-Z][^\s=]*=|$)")
        for line in self.all[start:stop]:
            if (keyword in line) and (found := pattern.search(line)):
                return found[1].strip()
        return None

    def card_range(
        self, keyword: str, start: int = 0, stop: int | None = None
    ) -> tuple[int, int] | None:
        """The two whole numbers of a card such as DATA_RANGE; None without them."""
        words = [count(word) for word in (self.card(keyword, start, stop) or "").split()[:2]]
        first, last = words if len(words) == 2 else (None, None)
        return None if first is None or last is None else (first, last)

    def rows(self, start: int, skip: int = 0) -> Iterator[tuple[int, str]]:
        """Lines with their indices up to the next empty one; first up to `skip` empty ones."""
        for _ in range(skip):
            if start < len(self.all) and not self.all[start].strip():
                start += 1
        for index in range(start, len(self.all)):
            if not self.all[index].strip():
                return
            yield index, self.all[index]

    def leading(self, text: str, start: int = 0, stop: int | None = None) -> int | None:
        """The whole number before the first `text`."""
        index = self.find(text, start, stop)
        return None if index is None else count(self.all[index].partition(text)[0])

    def trailing(self, text: str, start: int = 0, stop: int | None = None) -> int | None:
        """The whole number that ends the first line with `text`."""
        words = (self.after(text, start, stop) or "").split()
        return count(words[-1]) if words else None

    def not_understood(self, index: int, what: str) -> None:
        """Remember that a line could not be read."""
        text = self.all[index].strip()[:80]
        self.problems.append(f"line {self.offset + index + 1}: {what} not understood: {text!r}")


def banners_of(lines: Sequence[str]) -> list[Banner]:
    """Every banner of a program, in order."""
    return [
        Banner(m[1], m[2].strip(), int(m[3]) if m[3] else None, m[4].strip(), number)
        for number, line in enumerate(lines, 1)
        if "*****" in line[:20] and len(line) < 200 and (m := _BANNER.search(line))
    ]


def messages_of(lines: Sequence[str], offset: int = 0) -> Iterator[Message]:
    """Every ERROR and WARNING, in order; `offset` lines stand before the first."""
    for index, line in enumerate(lines):
        found = _MESSAGE.search(line[:MAX_LINE]) if "!!" in line else None
        if not found:
            continue
        headline = " ".join(f"{found[2]} {found[3]}".split())
        words = [headline]
        for more in lines[index + 1 : index + 20]:
            if not more.strip() or "!!" in more or set(more.strip()) <= set("*-"):
                break
            words.append(more[:MAX_LINE])
        kind: Literal["ERROR", "WARNING"] = "ERROR" if found[1].upper() == "ERROR" else "WARNING"
        text = " ".join(" ".join(words).split())
        yield Message(kind, headline, text, offset + index + 1)


class Lines(LogText):
    """The lines of the last run of one program in a log.

    Parameters
    ----------
    path : of the file.
    text : of the file.
    expected : the program.
    closing : what stands on its closing line.
    """

    def __init__(self, path: Path, text: str, expected: str, closing: str) -> None:
        every = text.splitlines()
        ended = every
        if not text.endswith("\n") and not _closes(every[-1], closing):
            ended = every[:-1]
        banners = banners_of(ended)
        mine = [banner for banner in banners if banner.program == expected]
        if not mine:
            found = f"no banner of {expected}"
            if banners:
                found = f"a log of {banners[0].program}"
            raise UserError(path, found, f"a log of {expected}", "give the file that it wrote")
        self.path, self.banner = path, mine[-1]
        self.n_runs = len(mine)
        after = [banner.line for banner in banners if banner.line > self.banner.line]
        offset = self.banner.line - 1
        run = slice(offset, after[0] - 1 if after else None)
        super().__init__(ended[run], offset)
        self.messages = tuple(messages_of(every[run], offset))  # words need not be ended
        self.complete = any(closing in line for line in self.all[-40:]) or bool(self.errors)

    def common(self) -> LogFields:
        """The fields of `Log`; to be called last, when all problems are known."""
        stops_at = ""
        if not self.complete:
            index = max((i for i, line in enumerate(self.all) if line.strip()), default=0)
            text = self.all[index].strip()[:80] if self.all else ""
            stops_at = f"line {self.offset + index + 1}: {text}"
        return {
            "banner": self.banner,
            "messages": self.messages,
            "complete": self.complete,
            "stops_at": stops_at,
            "problems": tuple(self.problems),
            "n_runs": self.n_runs,
        }

    @property
    def errors(self) -> tuple[Message, ...]:
        """The messages that stopped the program."""
        return tuple(message for message in self.messages if message.kind == "ERROR")


def _closes(line: str, closing: str) -> bool:
    """An unended last line that is nevertheless whole enough: only its words matter."""
    return closing in line or bool(_MESSAGE.search(line[:MAX_LINE]))


def read_text(path: str | Path, what: str) -> str:
    """The text of a file, bytes that are not ASCII kept as Latin-1.

    Raises
    ------
    UserError : the file cannot be read, is empty, is binary, or is far too large.
    """
    where, do = Path(path), "give the file that the program wrote"
    try:
        size = where.stat().st_size
        if size > MAX_BYTES:
            raise UserError(where, f"{size / 1e6:.0f} MB", f"{what} below 512 MB", do)
        data = where.read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(where, str(reason), f"{what} that can be read", do) from None
    if not data.strip():
        raise UserError(where, "an empty file", what, "run the program again")
    text = data.decode("latin-1")
    # a crash may leave a tail of zero bytes; form feeds and the like would add lines
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return re.sub(r"[\x00\x0b\x0c\x1c-\x1f\x85]", " ", text)


def read_lines(path: str | Path, program: str, closing: str) -> Lines:
    """The lines of the last run of `program` in a log, which `closing` ends.

    Raises
    ------
    UserError : the file cannot be read, or is not a log of that program.
    """
    return Lines(Path(path), read_text(path, f"a log of {program}"), program, closing)


def number(word: str | None) -> float:
    """A Fortran number; NaN for asterisks, for nothing and for anything else."""
    try:
        value = float((word or "").strip().replace("D", "E").replace("d", "e"))
    except ValueError:
        return nan
    return value if isfinite(value) else nan


def count(word: str | None) -> int | None:
    """A whole number; None for asterisks, for nothing and for anything else."""
    text = (word or "").strip()
    return int(text) if re.fullmatch(r"[-+]?\d{1,18}", text) else None


def numbers(text: str | None) -> list[float]:
    """All numbers in a line, with NaN for asterisks; E-format numbers may touch."""
    return [number(word) for word in _NUMBER.findall(text or "")]


def fixed(text: str, decimals: int) -> list[float]:
    """Numbers of one fixed format, which may touch: ``5324.610528.6`` with one decimal is two.

    Asterisks become NaN; a run of them is one field, as touching ones cannot be told apart.
    """
    words = re.findall(rf"[-+]?\d*\.\d{{{decimals}}}|\*+", text)
    return [number(word) for word in words]


def spans(starts: Sequence[int], end: int) -> list[tuple[int, int]]:
    """From each start to the next, and from the last to `end`."""
    return list(zip(starts, [*starts[1:], end], strict=False))


def percent(word: str) -> float:
    """A percentage as a fraction; NaN where undefined or overflown."""
    return round(undefined(number(word.rstrip("%*"))) / 100, 6)


def undefined(value: float, marks: Iterable[float] = (-99.9, -99.0)) -> float:
    """`value`, or NaN where XDS prints one of the `marks` for "undefined"."""
    return nan if any(abs(value - mark) < 1e-6 for mark in marks) else value


def cell_or_none(values: list[float]) -> Cell | None:
    """Six finite numbers as a cell; None if they are not, or XDS's zeros for an unknown cell."""
    if len(values) < 6 or not all(isfinite(v) for v in values[:6]):
        return None
    if min(values[:6]) <= 0 or max(values[3:6]) >= 180:
        return None
    return values[0], values[1], values[2], values[3], values[4], values[5]


def vector_or_none(values: list[float]) -> Vector | None:
    """Three finite numbers, or None."""
    if len(values) < 3 or not all(isfinite(v) for v in values[:3]):
        return None
    return values[0], values[1], values[2]
