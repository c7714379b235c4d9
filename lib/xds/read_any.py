"""Any file of XDS, told by its content, since names are often changed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from ..errors import UserError
from ..formats.xds_inp import keywords, read_xds_inp
from .correct import read_correct
from .hkl import read_hkl
from .idxref import read_idxref
from .integrate import read_integrate
from .log import Banner, Message, banners_of, messages_of, read_text
from .pointless import read_pointless
from .spot_xds import COLUMNS, read_spot_xds
from .xdsconv import read_xdsconv
from .xparm import read_xparm
from .xscale import read_xscale
from .xscale_inp import read_xscale_inp

Kind = Literal[
    "IDXREF.LP", "INTEGRATE.LP", "CORRECT.LP", "XSCALE.LP", "XDSCONV.LP", "session log",
    "reflections", "XPARM.XDS", "SPOT.XDS", "XDS.INP", "XSCALE.INP", "POINTLESS log",
]  # fmt: skip
KINDS: tuple[Kind, ...] = get_args(Kind)

_READERS: dict[Kind, Any] = {
    "IDXREF.LP": read_idxref,
    "INTEGRATE.LP": read_integrate,
    "CORRECT.LP": read_correct,
    "XSCALE.LP": read_xscale,
    "XDSCONV.LP": read_xdsconv,
    "reflections": read_hkl,
    "XPARM.XDS": read_xparm,
    "SPOT.XDS": read_spot_xds,
    "XDS.INP": read_xds_inp,
    "XSCALE.INP": read_xscale_inp,
    "POINTLESS log": read_pointless,
}
_HEAD = 20_000  # characters in which a file must show what it is

# What stands beside the files of XDS, and is not read here.
_OTHERS = {
    r"###CBF": "an image or a table as CBF",
    r"Processing summary for data set": "a summary of XDSAPP",
    r"XDSSTAT version": "a log of XDSSTAT",
    r"SHELX[A-Z]": "a log of SHELX",
    r"(?m)^#\$URL.*\.hkl|^(?: *-?\d{1,3}){3} +-?[\d.]+ +[\d.]+": "reflections of SHELX",
}


@dataclass(frozen=True)
class SessionLog:
    """Several programs' logs in one file, such as XDS.LP, or the log of a step without numbers.

    Attributes
    ----------
    banners : of the programs, in order.
    messages : every ERROR and WARNING, in order.
    """

    banners: tuple[Banner, ...]
    messages: tuple[Message, ...]


@dataclass(frozen=True)
class XdsFile:
    """What a file is, and what it says.

    Attributes
    ----------
    path : of the file.
    kind : one of `KINDS`.
    content : what the reader of that kind returns.
    """

    path: Path
    kind: Kind
    content: Any


def recognise(path: str | Path) -> Kind:
    """What a file is, told by its content.

    Raises
    ------
    UserError : it cannot be read, or is none of `KINDS`; says what it looks like, if known.
    """
    text = read_text(path, "a file of XDS")
    head = text[:_HEAD]
    if re.match(r"!FORMAT=XDS_ASCII|!OUTPUT_FILE=INTEGRATE\.HKL", head):
        return "reflections"
    if re.search(r"POINTLESS\s+version\s+[\d.]+", head):
        return "POINTLESS log"
    programs = [banner.program for banner in banners_of(text.splitlines())]
    if programs:
        kind = f"{programs[0]}.LP"
        found = next((known for known in _READERS if known == kind), None)
        return found if found and len(set(programs)) == 1 else "session log"
    numbers = _numbers(head)
    if re.match(r"\s*XPARM\.XDS\s+VERSION", head) or numbers[:4] == [6, 4, 4, 3]:
        return "XPARM.XDS"
    cards = keywords(head)
    if "NAME_TEMPLATE_OF_DATA_FRAMES" in cards or "JOB" in cards:
        return "XDS.INP"
    if "INPUT_FILE" in cards and "OUTPUT_FILE" in cards:
        if list(cards).index("OUTPUT_FILE") < list(cards).index("INPUT_FILE"):
            return "XSCALE.INP"
        raise UserError(path, "the input of XDSCONV", "a file of XDS or XSCALE", "leave it")
    other = next((what for mark, what in _OTHERS.items() if re.search(mark, head)), None)
    if len(set(numbers)) == 1 and numbers[0] in COLUMNS and other is None:
        return "SPOT.XDS"
    raise UserError(
        path, other or "something else", "a file of XDS, XSCALE, XDSCONV or POINTLESS", "leave it"
    )


def read_any(path: str | Path) -> XdsFile:
    """Recognise a file and read it.

    Raises
    ------
    UserError : it is not a file of XDS, or cannot be read as the one it seems to be.
    """
    kind = recognise(path)
    if kind == "session log":
        lines = read_text(path, "a log of XDS").splitlines()
        content: Any = SessionLog(tuple(banners_of(lines)), tuple(messages_of(lines)))
    else:
        content = _READERS[kind](Path(path))
    return XdsFile(Path(path), kind, content)


def _numbers(head: str) -> list[int]:
    """How many numbers stand in each of the first lines; empty if anything else does."""
    sizes = []
    for line in [one for one in head.splitlines()[:12] if one.strip()]:
        words = line.split()
        if not all(re.fullmatch(r"[-+]?\d*\.?\d*(?:[EeDd][-+]?\d+)?", word) for word in words):
            return []
        sizes.append(len(words))
    return sizes
