"""The log of POINTLESS: Laue group, systematic absences, space group (versions 1.9 to 1.12).

Evans (2006), Acta Cryst. D62, 72; (2011), D67, 282. Two spellings of each confidence stand in a
log, "Laue group confidence  (= Sqrt(...)) = 0.86" with two decimals and, in the result, "Laue
group confidence  0.857" without a colon; the result's is taken.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import nan
from pathlib import Path

from ..crystal.cell import Cell
from ..errors import UserError
from .log import LogText, cell_or_none, count, fixed, number, numbers, read_text

_WIDTH = 200  # characters of a row; the tables are narrower


@dataclass(frozen=True)
class SymmetryElement:
    """How well one rotation of the lattice relates intensities.

    Attributes
    ----------
    likelihood, z_cc, cc : of the element; `cc` is a correlation.
    n : pairs.
    r_meas : fraction.
    name : e.g. "2-fold l ( 0 0 1)"; operators after it.
    operators : e.g. "{-h,-k,l}".
    stars : 0 to 3.
    """

    likelihood: float
    z_cc: float
    cc: float
    n: int | None
    r_meas: float
    name: str
    operators: str
    stars: int


@dataclass(frozen=True)
class LaueGroupScore:
    """One Laue group that was tried.

    Attributes
    ----------
    name : e.g. "C m m m".
    mark : ">" accepted, "=" accepted and that of the input, "-" that of the input but rejected.
    stars : 0 to 3.
    likelihood, net_z, z_for, z_against, cc, cc_against, r_meas, r_against : as printed.
    delta_deg : largest change of an angle that its constraints ask for.
    reindex : from the input's indices, e.g. "[h,k,l]".
    """

    name: str
    mark: str
    stars: int
    likelihood: float
    net_z: float
    z_for: float
    z_against: float
    cc: float
    cc_against: float
    r_meas: float
    r_against: float
    delta_deg: float
    reindex: str


@dataclass(frozen=True)
class AbsenceZone:
    """An axis or plane of which some reflections may be absent.

    Attributes
    ----------
    laue_group : that it was tested in.
    zone : e.g. "screw axis 2(1) [c]".
    n : reflections; 0 if none was observed.
    peak_height, sd : Fourier component of I'/sigma, 1 if the element is there; NaN without any.
    probability : that the element is there; NaN without observations.
    condition : e.g. "00l: l=2n".
    """

    laue_group: str
    zone: str
    n: int | None
    peak_height: float
    sd: float
    probability: float
    condition: str


@dataclass(frozen=True)
class SpaceGroupScore:
    """A possible space group.

    Attributes
    ----------
    name : e.g. "P 31 2 1".
    number : International Tables.
    total_probability, absence_probability : as printed, not normalised.
    reindex : from the input's indices.
    conditions : reflection conditions, empty if none.
    """

    name: str
    number: int
    total_probability: float
    absence_probability: float
    reindex: str
    conditions: str


@dataclass(frozen=True)
class Pointless:
    """What the log of POINTLESS says. What it does not say is None, NaN or empty.

    Attributes
    ----------
    version : e.g. "1.12.1".
    elements, laue_groups, zones, space_groups : in the order of the log, best first.
    best : the solution, e.g. "C 1 2 1"; None if the log was cut before.
    best_is_point_group : the space group was left open, as several have the same score.
    reindex : from the input's indices to those of `best`.
    laue_probability, absence_probability, total_probability : of `best`.
    space_group_confidence, laue_group_confidence : 0 to 1.
    cell : of `best`.
    twinned : what the L-test says; None if it was not done.
    absences_tested : False if there are no zones, or none was observed.
    warnings, errors : lines that say so.
    complete : the log reaches its result.
    problems : lines that should have been understood and were not, with their numbers.
    """

    version: str
    elements: tuple[SymmetryElement, ...]
    laue_groups: tuple[LaueGroupScore, ...]
    zones: tuple[AbsenceZone, ...]
    space_groups: tuple[SpaceGroupScore, ...]
    best: str | None
    best_is_point_group: bool
    reindex: str | None
    laue_probability: float
    absence_probability: float
    total_probability: float
    space_group_confidence: float
    laue_group_confidence: float
    cell: Cell | None
    twinned: bool | None
    absences_tested: bool
    warnings: tuple[str, ...]
    errors: tuple[str, ...]
    complete: bool
    problems: tuple[str, ...]

    @property
    def laue_group(self) -> LaueGroupScore | None:
        """The best Laue group."""
        return self.laue_groups[0] if self.laue_groups else None


def read_pointless(path: str | Path) -> Pointless:
    """Read a log of POINTLESS, also one that was cut (see `Pointless.complete`).

    Raises
    ------
    UserError : the file cannot be read, or is not a log of POINTLESS.
    """
    text = read_text(path, "a log of POINTLESS")
    version = re.search(r"POINTLESS\s+version\s+([\d.]+)", text[:20_000])
    if version is None:
        raise UserError(
            path, "no banner of POINTLESS", "a log of POINTLESS", "give the file that it wrote"
        )
    every = text.splitlines()
    lines = LogText(every if text.endswith("\n") else every[:-1])
    result = lines.find("Best Solution:")
    end = len(lines.all)
    start = end if result is None else result
    named = re.search(r"(space|point) group\s+(.*\S)", lines.all[result]) if result else None
    zones = tuple(_zones(lines))
    return Pointless(
        version=version[1],
        elements=tuple(_elements(lines)),
        laue_groups=tuple(_laue_groups(lines)),
        zones=zones,
        space_groups=tuple(_space_groups(lines)),
        best=named[2] if named else None,
        best_is_point_group=bool(named and named[1] == "point"),
        reindex=(lines.after("Reindex operator:", start) or "").strip() or None,
        laue_probability=number(lines.after("Laue group probability:", start)),
        absence_probability=number(lines.after("Systematic absence probability:", start)),
        total_probability=number(lines.after("Total probability:", start)),
        space_group_confidence=_confidence(lines, "Space group confidence", start),
        laue_group_confidence=_confidence(lines, "Laue group confidence", start),
        cell=cell_or_none(fixed(lines.after("Unit cell:", start) or "", 2)),
        twinned=_twinned(lines),
        absences_tested=any(zone.n for zone in zones),
        warnings=tuple(_notes(lines, "WARNING")),
        errors=tuple(_notes(lines, "ERROR")),
        complete=named is not None,
        problems=tuple(lines.problems),
    )


def _twinned(lines: LogText) -> bool | None:
    """The sentence on the L-test, which names it and says "twinned" or "not ... twinned"."""
    said = [line for line in lines.all if "L-test" in line and " twinned" in line]
    return " not " not in said[-1] if said else None


def _confidence(lines: LogText, name: str, start: int) -> float:
    """From the result, or else from the line above it."""
    for text in (lines.after(name, start), lines.after(f"{name} ")):
        if text is not None and (values := numbers(text.rpartition("=")[2])):
            return values[-1]
    return nan


def _notes(lines: LogText, word: str) -> list[str]:
    found = []
    for i, line in enumerate(lines.all):
        if re.match(rf"[\s*!]*{word}\b", line):
            below = " ".join(text.strip() for _, text in lines.rows(i + 1))
            note = (line.strip(" *!") + " " + below.partition("<!--")[0]).strip()
            if note not in found:
                found.append(note[:300])
    return found


_ELEMENT = re.compile(
    r"^\s*\d+\s+(-?[\d.]+)\s+(-?[\d.]+)\s+(-?[\d.]+)\s+(\d+)\s+(-?[\d.]+)\s+(\*{0,3})\s*([^{]*?)\s*"
    r"((?:\{[^}]*\})*)\s*$"
)


def _elements(lines: LogText) -> list[SymmetryElement]:
    title = lines.find("Nelmt  Lklhd")
    found = []
    for i, line in lines.rows(title + 1, skip=1) if title is not None else ():
        m = _ELEMENT.match(line[:_WIDTH])
        if m is None:
            lines.not_understood(i, "symmetry element")
            continue
        scores = (number(m[1]), number(m[2]), number(m[3]))
        found.append(SymmetryElement(*scores, count(m[4]), number(m[5]), m[7], m[8], len(m[6])))
    return found


_LAUE = re.compile(
    r"^([>=\- ])\s*\d+\s+([A-Z]\s.*?)\s+(\*{0,3})((?:\s+-?\d+\.\d+){9})\s*(\[.*\])\s*$"
)


def _laue_groups(lines: LogText) -> list[LaueGroupScore]:
    title = lines.find("Laue Group        Lklhd")
    found = []
    for i, line in lines.rows(title + 1, skip=1) if title is not None else ():
        m = _LAUE.match(line[:_WIDTH])
        values = numbers(m[4]) if m else []
        if m is None or len(values) != 9:
            lines.not_understood(i, "Laue group")
            continue
        likelihood, net_z, z_for, z_against, cc, cc_against, r_meas, r_against, delta = values
        found.append(
            LaueGroupScore(
                name=m[2],
                mark=m[1].strip(),
                stars=len(m[3]),
                likelihood=likelihood,
                net_z=net_z,
                z_for=z_for,
                z_against=z_against,
                cc=cc,
                cc_against=cc_against,
                r_meas=r_meas,
                r_against=r_against,
                delta_deg=delta,
                reindex=m[5],
            )
        )
    return found


_ZONE = re.compile(
    r"^\s*\d+\s+(\S.*?\])\s+(?:No observations|(\d+)\s+(-?[\d.]+)\s+(-?[\d.]+)\s+\**\s*(-?[\d.]+)"
    r"\s*(\S.*?)?)\s*$"
)


def _zones(lines: LogText) -> list[AbsenceZone]:
    found = []
    for start in lines.find_all("Zones for Laue group"):
        group = lines.all[start].partition("Zones for Laue group")[2].strip()
        for i, line in lines.rows(start + 1):
            if "Zones for Laue group" in line:
                break
            m = _ZONE.match(line[:_WIDTH])
            if m is None:
                lines.not_understood(i, "zone of absences")
                continue
            found.append(
                AbsenceZone(
                    laue_group=group,
                    zone=m[1],
                    n=int(m[2]) if m[2] else 0,
                    peak_height=number(m[3]),
                    sd=number(m[4]),
                    probability=number(m[5]),
                    condition=m[6] or "",
                )
            )
    return found


_GROUP = re.compile(
    r"^\s*<?\s*([A-Z][ \w()/-]*?)\s*\(\s*(\d{1,3})\)\s+(-?\d+\.\d+)\s+(-?\d+\.\d+)"
    r"\s*(\[[^\]]*\])?\s*(.*?)\s*$"
)


def _space_groups(lines: LogText) -> list[SpaceGroupScore]:
    title = lines.find("Spacegroup         TotProb")
    end = None if title is None else lines.find("-----", title)
    found = []
    for i in range(title + 1, end or len(lines.all)) if title is not None else ():
        line = lines.all[i]
        m = _GROUP.match(line[:_WIDTH])
        if m:
            found.append(
                SpaceGroupScore(
                    m[1], int(m[2]), number(m[3]), number(m[4]), m[5] or "[h,k,l]", m[6]
                )
            )
        elif line.strip(" .-") and "<!--" not in line:
            lines.not_understood(i, "space group")
    return found
