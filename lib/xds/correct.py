"""CORRECT.LP: symmetry, refined cell, error model and statistics of one data set."""

from __future__ import annotations

from dataclasses import dataclass
from math import nan
from pathlib import Path

from ..crystal.cell import Cell
from .data_statistics import (
    AxialReflection,
    DataStatistics,
    ErrorShell,
    axial_reflections,
    data_statistics,
    error_shells,
)
from .error_model import ErrorModelAB, WilsonLine, error_model, wilson_line
from .lattice_table import LatticeCharacter, lattice_table
from .log import Lines, Log, cell_or_none, count, number, numbers, read_lines
from .refined import RefinedParameters, refined_blocks
from .symmetry_test import (
    CellSetting,
    Selected,
    SpaceGroupRow,
    cell_settings,
    selected,
    space_group_rows,
)

CLOSING = "elapsed wall-clock time"


@dataclass(frozen=True)
class Correct(Log):
    """What CORRECT.LP says. What it does not say is None, NaN or empty.

    Attributes
    ----------
    integrate_space_group_number, integrate_cell : used in INTEGRATE.
    given_space_group_number, given_cell : of XDS.INP; None if unknown.
    friedel : FRIEDEL'S_LAW.
    data_range : first and last image.
    oscillation_deg, wavelength_A : of the input.
    resolution_A : (coarse, fine) of INCLUDE_RESOLUTION_RANGE.
    beam_divergence_esd_deg, reflecting_range_esd_deg : of the input, in degrees.
    n_read, n_corrupted, n_outside, n_overloaded, n_accepted : reflections on INTEGRATE.HKL,
        corrupted, incomplete or outside the images, overloaded, and accepted.
    lattices : the 44 characters.
    space_groups : the test of space groups; empty if the group was given.
    settings : of a given cell, where several fit.
    selected : what was chosen; None if the log was cut before.
    refined : None if refinement was not accepted, or the log was cut before.
    refinement_accepted : False if XDS says that it was not.
    fit_chi_square : of the three correction surfaces (decay, modulation, absorption), as many
        as were fitted.
    error_model : None if the log was cut before.
    error_shells, error_total : standard errors by resolution.
    statistics : for every cumulative range of images, and last for the saved data set.
    axial : reflections on the axes and others expected to be absent, of the saved data set.
    n_absent_tested, absent_percent : reflections which should be absent, and their mean
        intensity in percent of the mean intensity.
    wilson : None if not printed.
    n_aliens : unique reflections marked as aliens.
    """

    integrate_space_group_number: int | None
    integrate_cell: Cell | None
    given_space_group_number: int | None
    given_cell: Cell | None
    friedel: bool | None
    data_range: tuple[int, int] | None
    oscillation_deg: float
    wavelength_A: float
    resolution_A: tuple[float, float]
    beam_divergence_esd_deg: float
    reflecting_range_esd_deg: float
    n_read: int | None
    n_corrupted: int | None
    n_outside: int | None
    n_overloaded: int | None
    n_accepted: int | None
    lattices: tuple[LatticeCharacter, ...]
    space_groups: tuple[SpaceGroupRow, ...]
    settings: tuple[CellSetting, ...]
    selected: Selected | None
    refined: RefinedParameters | None
    refinement_accepted: bool
    fit_chi_square: tuple[float, ...]
    error_model: ErrorModelAB | None
    error_shells: tuple[ErrorShell, ...]
    error_total: ErrorShell | None
    statistics: tuple[DataStatistics, ...]
    axial: tuple[AxialReflection, ...]
    n_absent_tested: int | None
    absent_percent: float
    wilson: WilsonLine | None
    n_aliens: int | None

    @property
    def saved(self) -> DataStatistics | None:
        """Statistics of the data set on XDS_ASCII.HKL; None if the log was cut before."""
        return next((s for s in reversed(self.statistics) if s.saved), None)

    @property
    def cell(self) -> Cell | None:
        """The refined cell, or the selected one where refinement was not accepted."""
        if self.refined and self.refined.cell:
            return self.refined.cell
        return self.selected.cell if self.selected else None

    @property
    def space_group_number(self) -> int | None:
        """That of `cell`."""
        return self.selected.space_group_number if self.selected else None


def read_correct(path: str | Path) -> Correct:
    """Read a CORRECT.LP, also of a run that failed or was cut (see `Log.complete`).

    Raises
    ------
    UserError : the file cannot be read, or is not a log of CORRECT.
    """
    lines = read_lines(path, "CORRECT", CLOSING)
    end = lines.find("AUTOMATIC SPACE GROUP ASSIGNMENT") or len(lines.all)
    user = lines.find("Specifications provided by the user")
    told = (0, 0) if user is None else (user, user + 4)
    coarse, fine = [*numbers(lines.card("INCLUDE_RESOLUTION_RANGE", 0, end)), nan, nan][:2]
    saved = lines.find("STATISTICS OF SAVED DATA SET")
    should = lines.find("REFLECTIONS WHICH SHOULD", saved or 0)
    refined = refined_blocks(lines)
    shells, total = error_shells(lines)
    return Correct(
        integrate_space_group_number=_group(lines.card("SPACE_GROUP_NUMBER", 0, end)),
        integrate_cell=cell_or_none(numbers(lines.card("UNIT_CELL_CONSTANTS", 0, end))),
        given_space_group_number=_group(lines.card("SPACE_GROUP_NUMBER", *told)),
        given_cell=cell_or_none(numbers(lines.card("UNIT_CELL_CONSTANTS", *told))),
        friedel={"TRUE": True, "FALSE": False}.get(lines.card("FRIEDEL'S_LAW", 0, end) or ""),
        data_range=lines.card_range("DATA_RANGE", 0, end),
        oscillation_deg=number(lines.card("OSCILLATION_RANGE", 0, end)),
        wavelength_A=number(lines.card("X-RAY_WAVELENGTH", 0, end)),
        resolution_A=(coarse, fine),
        beam_divergence_esd_deg=number(lines.card("BEAM_DIVERGENCE_E.S.D.", 0, end)),
        reflecting_range_esd_deg=number(lines.card("REFLECTING_RANGE_E.S.D.", 0, end)),
        n_read=lines.leading('REFLECTIONS ON FILE "INTEGRATE.HKL"', 0, end),
        n_corrupted=lines.leading("CORRUPTED REFLECTION RECORDS", 0, end),
        n_outside=lines.leading("REFLECTIONS INCOMPLETE OR OUTSIDE IMAGE RANGE", 0, end),
        n_overloaded=lines.leading("OVERLOADED REFLECTIONS", 0, end),
        n_accepted=lines.leading("REFLECTIONS ACCEPTED", 0, end),
        lattices=lattice_table(lines),
        space_groups=space_group_rows(lines),
        settings=cell_settings(lines),
        selected=selected(lines),
        refined=refined[-1] if refined else None,
        refinement_accepted=bool(refined)
        and not any("RESULTS NOT ACCEPTED" in message.text for message in lines.messages),
        fit_chi_square=tuple(
            number(lines.all[i].partition("FACTORS")[2])
            for i in lines.find_all("CHI^2-VALUE OF FIT OF CORRECTION FACTORS")
        ),
        error_model=_error_model(lines),
        error_shells=shells,
        error_total=total,
        statistics=data_statistics(lines),
        axial=axial_reflections(lines),
        n_absent_tested=None if should is None else _between(lines.all[should], "FOR"),
        absent_percent=_absent_percent(lines, should),
        wilson=wilson_line(lines),
        n_aliens=lines.trailing("NUMBER OF UNIQUE ALIEN REFLECTIONS"),
        **lines.common(),
    )


def _group(text: str | None) -> int | None:
    words = (text or "").split()
    value = count(words[0]) if words else None
    return value if value and 1 <= value <= 230 else None


def _between(line: str, word: str) -> int | None:
    return count((line.partition(word)[2].split() or [""])[0])


def _absent_percent(lines: Lines, should: int | None) -> float:
    if should is None or should + 1 >= len(lines.all):
        return nan
    return number(lines.all[should + 1].partition("ABSENT IS")[2].partition("%")[0])


def _error_model(lines: Lines) -> ErrorModelAB | None:
    titles = [i for i, line in enumerate(lines.all) if line.split() == ["a", "b", "ISa"]]
    if not titles or titles[-1] + 1 >= len(lines.all):
        return None
    values = numbers(lines.all[titles[-1] + 1])
    if len(values) != 3:
        lines.not_understood(titles[-1] + 1, "error model")
        return None
    return error_model(*values)
