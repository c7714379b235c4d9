"""The error model of CORRECT and XSCALE, and the Wilson line that both fit."""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import isnan, nan

from .log import Lines, number

# What XDS prints where it could not fit the model, for example without repeated reflections.
_DEFAULT_A, _DEFAULT_B = 4.0, 1e-4


@dataclass(frozen=True)
class ErrorModelAB:
    """XDS's error model ``v(I) = a (v0(I) + b I^2)``, and its asymptotic I/sigma.

    Attributes
    ----------
    a, b : as printed; NaN on overflow.
    isa : ``1 / sqrt(a b)``, Diederichs (2010), Acta Cryst. D66, 733; NaN if not determined.
        XDS prints a=4, b=1e-4, ISa=50.00 where it could not fit, e.g. without repeats.
    determined : False for those numbers.
    """

    a: float
    b: float
    isa: float
    determined: bool


@dataclass(frozen=True)
class WilsonLine:
    """``log <I> = A - 2 B (sin(theta) / lambda)^2``.

    Attributes
    ----------
    a, b, correlation : of the line through all shells; `b` in Å^2; NaN on overflow.
    """

    a: float
    b: float
    correlation: float


def error_model(a: float, b: float, isa: float) -> ErrorModelAB:
    """The model of the numbers as printed."""
    default = abs(a - _DEFAULT_A) < 1e-9 and abs(b - _DEFAULT_B) < 1e-12
    determined = not (default or isnan(isa) or isa <= 0)
    return ErrorModelAB(a, b, isa if determined else nan, determined)


_WILSON = re.compile(r"A=\s*(-?[\d.]+|\*+)\s*B=\s*(-?[\d.]+|\*+)\s*CORRELATION=\s*(-?[\d.]+|\*+)")


def wilson_line(lines: Lines) -> WilsonLine | None:
    """The last Wilson line of a log; None if there is none."""
    titles = lines.find_all("WILSON LINE")
    if not titles:
        return None
    m = _WILSON.search(lines.all[titles[-1]])
    if m is None:
        lines.not_understood(titles[-1], "Wilson line")
        return None
    return WilsonLine(*(number(word) for word in m.groups()))
