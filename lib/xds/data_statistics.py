"""Statistics of a data set in CORRECT.LP: standard errors, ranges of images, axial reflections."""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import nan

from .log import Lines, count, number, percent, spans, undefined
from .shells import ShellTable, shell_table


@dataclass(frozen=True)
class ErrorShell:
    """One row of the standard errors by resolution.

    Attributes
    ----------
    d_max_A, d_min_A : limits.
    i_over_sigma : mean of the observations.
    chi_square : of equivalents about their mean; NaN if nothing was compared.
    r_observed, r_expected : fractions; NaN if undefined.
    n_compared, n_accepted, n_rejected : reflections.
    """

    d_max_A: float
    d_min_A: float
    i_over_sigma: float
    chi_square: float
    r_observed: float
    r_expected: float
    n_compared: int | None
    n_accepted: int | None
    n_rejected: int | None


@dataclass(frozen=True)
class AxialReflection:
    """An axial reflection, or one expected to be absent.

    Attributes
    ----------
    hkl : indices.
    d_A : resolution.
    intensity, sigma : merged.
    n_observed : observations.
    absent : expected to be absent in the space group chosen.
    """

    hkl: tuple[int, int, int]
    d_A: float
    intensity: float
    sigma: float
    n_observed: int | None
    absent: bool


@dataclass(frozen=True)
class DataStatistics:
    """Statistics of a range of images.

    Attributes
    ----------
    data_range : first and last image.
    saved : True for those of the data set on XDS_ASCII.HKL.
    table : by resolution; None if the log was cut before it.
    n_reflections : in the selected images.
    n_misfits : rejected.
    n_absent : systematic absences.
    n_accepted, n_unique : accepted observations and unique reflections.
    """

    data_range: tuple[int, int]
    saved: bool
    table: ShellTable | None
    n_reflections: int | None
    n_misfits: int | None
    n_absent: int | None
    n_accepted: int | None
    n_unique: int | None


_ERRORS = re.compile(r"^\s*(\d+\.\d{3})\s*(\d+\.\d{3})(.*)$")


def error_shells(lines: Lines) -> tuple[tuple[ErrorShell, ...], ErrorShell | None]:
    """Standard errors by resolution, and over all; the last such table of the log."""
    titles = lines.find_all("RESOLUTION RANGE  I/Sigma")
    if not titles:
        return (), None
    shells, total, ruled = [], None, False
    for index, line in lines.rows(titles[-1] + 2, skip=1):
        if set(line.strip()) == {"-"}:
            ruled = True
            continue
        shell = _error_shell(line)
        if shell is None:
            lines.not_understood(index, "standard errors")
        elif ruled:
            total = shell
        else:
            shells.append(shell)
    return tuple(shells), total


def _error_shell(line: str) -> ErrorShell | None:
    m = _ERRORS.match(line)
    words = re.findall(r"-?\d*\.\d{2}|\*+|-?\d+", m[3]) if m else []
    if m is None or len(words) != 7:
        return None
    i_over_sigma, chi_square = number(words[0]), number(words[1])
    n_compared = count(words[4])
    return ErrorShell(
        d_max_A=float(m[1]),
        d_min_A=float(m[2]),
        i_over_sigma=undefined(i_over_sigma, (-99.0,)),
        chi_square=nan if n_compared == 0 else chi_square,
        r_observed=percent(words[2]),
        r_expected=percent(words[3]),
        n_compared=n_compared,
        n_accepted=count(words[5]),
        n_rejected=count(words[6]),
    )


_RANGE = re.compile(
    r"STATISTICS (FOR IMAGE|OF SAVED DATA SET).*DATA_RANGE=\s*(\d{1,9})\s+(\d{1,9})"
)


def data_statistics(lines: Lines) -> tuple[DataStatistics, ...]:
    """Of every cumulative range of images, and of the data set saved."""
    found = [(i, m) for i, line in enumerate(lines.all) if (m := _RANGE.search(line))]
    bounds = spans([i for i, _ in found], len(lines.all))
    return tuple(_statistics(lines, *span, m) for span, (_, m) in zip(bounds, found, strict=True))


def _statistics(lines: Lines, start: int, end: int, title: re.Match[str]) -> DataStatistics:
    def total(text: str) -> int | None:
        words = (lines.after(text, start, end) or "").split()
        return count(words[0]) if words else None

    return DataStatistics(
        data_range=(int(title[2]), int(title[3])),
        saved=title[1] == "OF SAVED DATA SET",
        table=shell_table(lines, start, end),
        n_reflections=total("NUMBER OF REFLECTIONS IN SELECTED SUBSET OF IMAGES"),
        n_misfits=total("NUMBER OF REJECTED MISFITS  "),
        n_absent=total("NUMBER OF SYSTEMATIC ABSENT REFLECTIONS"),
        n_accepted=total("NUMBER OF ACCEPTED OBSERVATIONS  "),
        n_unique=total("NUMBER OF UNIQUE ACCEPTED REFLECTIONS"),
    )


_AXIAL = re.compile(
    r"^\s*(-?\d+)\s+(-?\d+)\s+(-?\d+)\s+(\d+\.\d{3}|\*+)\s+(-?\d*\.\d+E[+-]\d\d|\*+)"
    r"\s+(-?\d*\.\d+E[+-]\d\d|\*+)\s+(?:-?\d*\.\d\d|\*+)\s+(\d+)([* ]?)\s*$"
)


def axial_reflections(lines: Lines) -> tuple[AxialReflection, ...]:
    """Those of the saved data set; empty if the log was cut before."""
    saved = lines.find("STATISTICS OF SAVED DATA SET")
    title = None if saved is None else lines.find("#OBSERVED", saved)
    if title is None:
        return ()
    rows = []
    for index, line in lines.rows(title + 1, skip=1):
        if not line.strip()[:1].strip("-").isdigit() and line.strip()[:1] != "-":
            break  # none was measured, and the next heading follows
        m = _AXIAL.match(line)
        if m is None:
            lines.not_understood(index, "axial reflection")
            continue
        rows.append(
            AxialReflection(
                hkl=(int(m[1]), int(m[2]), int(m[3])),
                d_A=number(m[4]),
                intensity=number(m[5]),
                sigma=number(m[6]),
                n_observed=count(m[7]),
                absent=m[8] == "*",
            )
        )
    return tuple(rows)
