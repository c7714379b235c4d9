"""CORRECT.LP: symmetry, refined cell, error model and statistics of one data set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..crystal.cell import Cell
from .lattice_table import LatticeCharacter
from .log import Log, Vector
from .refined import RefinedParameters
from .shells import ShellTable


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
class SpaceGroupRow:
    """One row of the test of space groups.

    Attributes
    ----------
    number : of the Sohncke group without screw axes that stands for its point group.
    cell : conventional, symmetry imposed.
    n_unique : reflections it needs.
    r_meas : fraction; NaN if nothing was compared.
    n_compared : reflections in `r_meas`.
    character, bravais : of the lattice.
    selected : marked with an asterisk.
    """

    number: int
    cell: Cell | None
    n_unique: int | None
    r_meas: float
    n_compared: int | None
    character: int
    bravais: str
    selected: bool


@dataclass(frozen=True)
class CellSetting:
    """One setting of a cell that was given, where there are several.

    Attributes
    ----------
    selected : marked with an asterisk.
    cc_reference : correlation with the reference data set; NaN without one.
    n_pairs : of it.
    r_meas : fraction; NaN if nothing was compared.
    n_compared : reflections in `r_meas`.
    esd : agreement with the given cell.
    reindex : 12 integers, as REIDX.
    """

    selected: bool
    cc_reference: float
    n_pairs: int | None
    r_meas: float
    n_compared: int | None
    esd: float
    reindex: tuple[int, ...]


@dataclass(frozen=True)
class Selected:
    """The space group and cell that CORRECT settled on before refining.

    Attributes
    ----------
    space_group_number : as printed.
    cell : Å and degrees.
    axes : a, b, c in Å in the laboratory frame; None if not printed.
    reindex : 12 integers and their divisor: H' = (r1 H + r2 K + r3 L) / divisor + r4.
    divisor : 1 for a primitive lattice, 2, 3 or 4 for a centred one.
    """

    space_group_number: int
    cell: Cell
    axes: tuple[Vector, Vector, Vector] | None
    reindex: tuple[int, ...]
    divisor: int


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
class WilsonLine:
    """``log <I> = A - 2 B (sin(theta) / lambda)^2``.

    Attributes
    ----------
    a, b, correlation : of the line through all shells; `b` in Å^2; NaN on overflow.
    """

    a: float
    b: float
    correlation: float


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
    raise NotImplementedError
