"""XSCALE.INP: which reflection files are scaled into which output, with which cards.

Global cards stand before the first OUTPUT_FILE; cards after an INPUT_FILE hold for that file.
"!" starts a comment. A file name is one word, except that older files give the format after it
("INPUT_FILE= a.HKL XDS_ASCII 100 1.5"), and an asterisk before it marks the reference.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ..errors import UserError
from .log import read_text

_CARD = re.compile(r"([A-Z][^\s=]*)=")


@dataclass(frozen=True)
class XscaleInpFile:
    """One INPUT_FILE.

    Attributes
    ----------
    name : of the file.
    reference : marked with an asterisk: all data sets are scaled to it.
    cards : keyword and value, in order, of this file only.
    """

    name: str
    reference: bool
    cards: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class XscaleInpOutput:
    """One OUTPUT_FILE with its inputs.

    Attributes
    ----------
    name : of the file.
    cards : keyword and value, in order, of this output.
    inputs : in order.
    """

    name: str
    cards: tuple[tuple[str, str], ...]
    inputs: tuple[XscaleInpFile, ...]


@dataclass(frozen=True)
class XscaleInp:
    """An XSCALE.INP.

    Attributes
    ----------
    cards : global keyword and value, in order.
    outputs : in order.
    """

    cards: tuple[tuple[str, str], ...]
    outputs: tuple[XscaleInpOutput, ...]


def read_xscale_inp(path: str | Path) -> XscaleInp:
    """Read an XSCALE.INP.

    Raises
    ------
    UserError : the file cannot be read, or an OUTPUT_FILE or INPUT_FILE has no name, or the
        latter stands before the former.
    """
    do = "mend this card"
    general: list[tuple[str, str]] = []
    outputs: list[tuple[str, list[tuple[str, str]], list[XscaleInpFile]]] = []
    for number, line in enumerate(read_text(path, "an XSCALE.INP").splitlines(), 1):
        for key, value in _cards(line):
            where = f"{path}: line {number}"
            if key in ("OUTPUT_FILE", "INPUT_FILE") and not value.strip("* "):
                raise UserError(where, f"{key}= without a name", "a file name", do)
            if key == "OUTPUT_FILE":
                outputs.append((value.split()[0], [], []))
            elif key == "INPUT_FILE":
                if not outputs:
                    expected = "an OUTPUT_FILE= before it"
                    raise UserError(where, "INPUT_FILE= first", expected, "add one above")
                marked = value.startswith("*")
                name = value.removeprefix("*").split()[0]
                outputs[-1][2].append(XscaleInpFile(name, marked, ()))
            elif not outputs:
                general.append((key, value))
            elif not outputs[-1][2]:
                outputs[-1][1].append((key, value))
            else:
                last = outputs[-1][2][-1]
                cards = (*last.cards, (key, value))
                outputs[-1][2][-1] = XscaleInpFile(last.name, last.reference, cards)
    if not outputs:
        raise UserError(path, "no OUTPUT_FILE=", "at least one", "give an XSCALE.INP")
    return XscaleInp(
        tuple(general),
        tuple(XscaleInpOutput(name, tuple(own), tuple(files)) for name, own, files in outputs),
    )


def _cards(line: str) -> list[tuple[str, str]]:
    text = line.partition("!")[0]
    found = list(_CARD.finditer(text))
    ends = [*(m.start() for m in found[1:]), len(text)]
    return [(m[1], text[m.end() : end].strip()) for m, end in zip(found, ends, strict=False)]
