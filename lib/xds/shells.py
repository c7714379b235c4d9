"""The table of completeness and quality by resolution, as CORRECT and XSCALE print it.

Fourteen columns. Since 2012 the eleventh is CC(1/2); before, Rmrgd-F, and the anomalous
correlation has a percent sign. "-99.9%" and an I/sigma of -99.00 mean undefined; so do 0.0 for
CC(1/2) and 0.00 for I/sigma where R-meas is undefined, and the anomalous figures where no
reflection had both parities.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from math import inf, isnan, nan

from .log import Lines, count, number, percent, undefined

TITLE = "SUBSET OF INTENSITY DATA WITH SIGNAL/NOISE >="
# "0.0" is printed for CC(1/2) where fewer reflections were compared than this.
FEWEST_COMPARED = 10

_WORD = re.compile(r"total|\*{2,}%?|[-+]?\d*\.?\d+[%*]?")


@dataclass(frozen=True)
class Shell:
    """One resolution shell, or the total.

    Attributes
    ----------
    d_max_A, d_min_A : limits; inf and the finest for the total, as the table does not say
        where the first shell starts.
    n_observed, n_unique, n_possible : reflections; None on overflow.
    completeness : fraction, 0 to 1.
    r_observed, r_expected, r_meas : fractions; NaN if undefined, may exceed 1.
    n_compared : reflections in the R-factors.
    i_over_sigma : mean of the unique reflections; NaN if undefined.
    cc_half : fraction, -1 to 1; NaN if undefined or before 2012.
    cc_half_significant : marked with an asterisk, at the 0.1 % level.
    r_mrgd_f : fraction, only before 2012; otherwise NaN.
    cc_anomalous : fraction; NaN if undefined.
    cc_anomalous_significant : marked with an asterisk.
    sig_ano : mean anomalous difference over its standard deviation; NaN if undefined.
    n_anomalous : unique reflections in the anomalous figures.
    """

    d_max_A: float
    d_min_A: float
    n_observed: int | None
    n_unique: int | None
    n_possible: int | None
    completeness: float
    r_observed: float
    r_expected: float
    n_compared: int | None
    i_over_sigma: float
    r_meas: float
    cc_half: float
    cc_half_significant: bool
    r_mrgd_f: float
    cc_anomalous: float
    cc_anomalous_significant: bool
    sig_ano: float
    n_anomalous: int | None


@dataclass(frozen=True)
class ShellTable:
    """The shells and their total.

    Attributes
    ----------
    shells : from coarse to fine.
    total : None if the table was cut before it.
    min_signal_to_noise : of the subset, usually -3.
    line : where the table starts, from 1.
    """

    shells: tuple[Shell, ...]
    total: Shell | None
    min_signal_to_noise: float
    line: int


def shell_table(lines: Lines, start: int, stop: int | None = None) -> ShellTable | None:
    """The first table at or after line index `start`; None if there is none before `stop`."""
    title = lines.find(TITLE, start, stop)
    if title is None:
        return None
    old = any("Rmrgd-F" in line for line in lines.all[title : title + 3])
    shells: list[Shell] = []
    total, d_max = None, inf
    for index, line in lines.rows(title + 3, skip=1):
        if total is not None:
            break
        finest = shells[-1].d_min_A if shells else nan
        shell = _shell(line, finest, d_max, old)
        if shell is None:
            lines.not_understood(index, "resolution shell")
        elif line.split()[0] == "total":
            total = replace(shell, d_max_A=inf)
        else:
            shells.append(shell)
            d_max = shell.d_min_A
    ratio = re.search(r">=\s*(-?[\d.]+)", lines.all[title])
    return ShellTable(
        tuple(shells), total, number(ratio[1] if ratio else None), lines.offset + title + 1
    )


def _shell(line: str, finest: float, d_max: float, old: bool) -> Shell | None:
    words = _WORD.findall(line)
    if len(words) != 14 or _WORD.sub("", line).strip():
        return None
    limit = finest if words[0] == "total" else number(words[0])
    n_compared, n_anomalous = count(words[7]), count(words[13])
    r_meas = percent(words[9])
    i_over_sigma = undefined(number(words[8]))
    if isnan(r_meas) and i_over_sigma == 0:
        i_over_sigma = nan
    cc, few = percent(words[10]), n_compared is not None and n_compared < FEWEST_COMPARED
    if old or ((isnan(r_meas) or few) and not words[10].endswith("*")):
        cc = nan
    return Shell(
        d_max_A=d_max,
        d_min_A=limit,
        n_observed=count(words[1]),
        n_unique=count(words[2]),
        n_possible=count(words[3]),
        completeness=percent(words[4]),
        r_observed=percent(words[5]),
        r_expected=percent(words[6]),
        n_compared=n_compared,
        i_over_sigma=i_over_sigma,
        r_meas=r_meas,
        cc_half=cc,
        cc_half_significant=not old and _significant(words[10]),
        r_mrgd_f=percent(words[10]) if old else nan,
        cc_anomalous=nan if n_anomalous == 0 else percent(words[11]),
        cc_anomalous_significant=_significant(words[11]),
        sig_ano=nan if n_anomalous == 0 else number(words[12]),
        n_anomalous=n_anomalous,
    )


def _significant(word: str) -> bool:
    return word.endswith("*") and word.strip("*") != ""
