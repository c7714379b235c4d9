"""An XDS.INP as a document: read, changed where it must be, and otherwise kept byte for byte.

Bytes stand for themselves (as Latin-1), so that no encoding is guessed and none is lost;
comments, order, blanks and line ends stay. Of a keyword given more than once XDS takes the
last; only of those that add up (`REPEATED`) every one counts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from ...errors import UserError

_KEYWORD = re.compile(r"([A-Za-z][A-Za-z0-9_'()/.-]*)=")

REPEATED = frozenset(
    {
        "EXCLUDE_DATA_RANGE", "EXCLUDE_RESOLUTION_RANGE", "SPOT_RANGE", "UNTRUSTED_RECTANGLE",
        "UNTRUSTED_ELLIPSE", "UNTRUSTED_QUADRILATERAL", "SEGMENT",
    }
)  # fmt: skip
_ADDED = "! added by ewaldflow"


@dataclass(frozen=True)
class _Place:
    """A keyword's value: the line, and its first and last character (excluded) there."""

    key: str
    line: int
    start: int
    stop: int


@dataclass(frozen=True)
class XdsDocument:
    """The lines of an XDS.INP, each with its end."""

    lines: tuple[str, ...] = ()

    @classmethod
    def from_bytes(cls, data: bytes) -> XdsDocument:
        """The document of a file's bytes."""
        return cls(tuple(re.findall(r"[^\n]*\n|[^\n]+", data.decode("latin-1"))))

    @classmethod
    def read(cls, path: Path) -> XdsDocument:
        """The document in a file.

        Raises
        ------
        UserError : it cannot be read.
        """
        try:
            return cls.from_bytes(path.read_bytes())
        except OSError as error:
            raise UserError(path, str(error.strerror), "a readable XDS.INP", "check it") from None

    def to_bytes(self) -> bytes:
        """The bytes of the file."""
        return "".join(self.lines).encode("latin-1")

    def values(self, key: str) -> tuple[str, ...]:
        """Every value of a keyword, in order, blanks between words reduced to one."""
        return tuple(
            " ".join(self.lines[p.line][p.start : p.stop].split())
            for p in self._places()
            if p.key == key
        )

    def value(self, key: str) -> str | None:
        """The value that XDS takes, or None if the keyword is absent."""
        values = self.values(key)
        return values[-1] if values else None

    def with_value(self, key: str, value: str) -> XdsDocument:
        """The document in which XDS takes this value of a keyword."""
        if self.value(key) == value:
            return self
        places = [p for p in self._places() if p.key == key]
        if not places:
            return self._appended(f"{key}= {value}")
        return self._replaced(places[-1], value)

    def with_every(self, key: str, values: tuple[str, ...]) -> XdsDocument:
        """The document in which a keyword that adds up has these values too."""
        known = {value.upper() for value in self.values(key)}
        document = self
        for value in values:
            if value.upper() not in known:
                document = document._appended(f"{key}= {value}")
        return document

    def with_only(self, key: str, values: tuple[str, ...]) -> XdsDocument:
        """The document in which a keyword that adds up has these values and no others."""
        document = self
        while surplus := [
            p for p, v in zip(document._of(key), document.values(key), strict=True)
            if v not in values
        ]:  # fmt: skip
            document = document._commented(surplus[0])
        return document.with_every(key, values)

    def without(self, key: str) -> XdsDocument:
        """The document in which a keyword stands in comments only."""
        document = self
        while places := document._of(key):
            document = document._commented(places[0])
        return document

    def _of(self, key: str) -> list[_Place]:
        return [p for p in self._places() if p.key == key]

    def _places(self) -> list[_Place]:
        found = []
        for number, line in enumerate(self.lines):
            code = line.partition("!")[0]
            spots = list(_KEYWORD.finditer(code))
            ends = [*(spot.start() for spot in spots), len(code)][1:]
            for spot, end in zip(spots, ends, strict=True):
                value = code[spot.end() : end]
                start = spot.end() + len(value) - len(value.lstrip())
                stop = spot.end() + len(value.rstrip())
                found.append(_Place(spot[1].upper(), number, min(start, stop), stop))
        return found

    def _replaced(self, place: _Place, value: str) -> XdsDocument:
        line = self.lines[place.line]
        before, after = line[: place.start], line[place.stop :]
        if place.start == place.stop:  # there was no value: before the blanks that follow
            before = line[: place.stop]
            gap = "" if not after or after[0].isspace() else " "
            value = f"{'' if before.endswith(' ') else ' '}{value}{gap}"
        text = before + _plain(value) + after
        return replace(self, lines=(*self.lines[: place.line], text, *self.lines[place.line + 1 :]))

    def _commented(self, place: _Place) -> XdsDocument:
        """One keyword and its value moved into a comment line of its own, after its line."""
        line = self.lines[place.line]
        key = line.upper().rindex(place.key + "=", 0, place.start)
        stop = place.stop
        kept = line[:key] + line[stop:]
        gone = f"! {line[key:stop].strip()}"
        end = self._end()
        if not kept.strip():
            lines: tuple[str, ...] = (gone + (kept.lstrip(" \t") or end),)
        else:
            lines = (kept if kept.endswith("\n") else kept + end, gone + end)
        return replace(
            self, lines=(*self.lines[: place.line], *lines, *self.lines[place.line + 1 :])
        )

    def _appended(self, text: str) -> XdsDocument:
        end, lines = self._end(), list(self.lines)
        if lines and not lines[-1].endswith("\n"):
            lines[-1] += end
        if not any(line.strip() == _ADDED for line in lines):
            lines.append(_ADDED + end)
        return replace(self, lines=(*lines, _plain(text) + end))

    def _end(self) -> str:
        return "\r\n" if self.lines and self.lines[0].endswith("\r\n") else "\n"


def _plain(text: str) -> str:
    """Text of ours in the way that bytes of theirs are held."""
    return text.encode("utf-8").decode("latin-1")
