"""One series' cell, as phases are found from it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import gemmi
import numpy as np

from ..crystal.cell import Cell, Floats, cell_from_real_basis, cell_volume, orthogonalisation
from ..crystal.lattice_symmetry import BRAVAIS, bravais_of_space_group
from ..crystal.niggli import niggli_reduce
from ..errors import UserError
from ..reduction.result import Lattice

# Edges and angles beyond these are no crystal's: a field out of place, or another unit.
EDGES_A = (2.0, 2000.0)
ANGLES_DEG = (10.0, 170.0)


@dataclass(frozen=True)
class CellRecord:
    """The cell that one series was indexed on.

    Attributes
    ----------
    name : of the series, unique in a session.
    cell : conventional cell, Å and degrees.
    bravais : lattice type of that setting (aP, mP, ... cI; hR on hexagonal or rhombohedral axes).
    cell_esd : its standard deviations, None if unknown.
    weight : number of observed reflections behind it, or another measure of trust.
    indexed_fraction : of the spots, NaN if unknown.
    source : reference of the artefact, or path of the file, that it was read from.
    """

    name: str
    cell: Cell
    bravais: str = "aP"
    cell_esd: Cell | None = None
    weight: float = 1.0
    indexed_fraction: float = float("nan")
    source: str = ""

    def __post_init__(self) -> None:
        reason = why_no_cell(self.cell) or (
            "" if self.bravais in BRAVAIS else f"lattice type {self.bravais!r}"
        )
        if reason:
            raise UserError(
                self.name, reason, f"a cell in Å and degrees, type {', '.join(BRAVAIS)}",
                "correct the cell",
            )  # fmt: skip

    @cached_property
    def primitive_basis(self) -> Floats:
        """(3, 3) a primitive basis, columns in Å, in the frame of `crystal.cell` for `cell`."""
        return orthogonalisation(self.cell) @ primitive_transform(self.bravais, self.cell)

    @cached_property
    def niggli_basis(self) -> Floats:
        """(3, 3) the reduced basis, columns in Å, in the same frame."""
        return niggli_reduce(self.primitive_basis)[0]

    @property
    def niggli(self) -> Cell:
        """The reduced cell."""
        return cell_from_real_basis(self.niggli_basis)

    @property
    def volume_A3(self) -> float:
        """Of the primitive cell."""
        return float(abs(np.linalg.det(self.niggli_basis)))

    @property
    def strain_esd(self) -> float | None:
        """Relative standard deviation of the cell's lengths (r.m.s. strain), None if unknown."""
        if self.cell_esd is None:
            return None
        edges = np.asarray(self.cell_esd[:3]) / np.asarray(self.cell[:3])
        # a change of angle by x is a shear strain of x / 2, twice in the tensor
        shears = np.deg2rad(self.cell_esd[3:])
        return float(np.sqrt((np.sum(edges**2) + 0.5 * np.sum(shears**2)) / 3))


def why_no_cell(cell: Cell) -> str:
    """What is wrong with six numbers as a cell, in words; empty if nothing is."""
    numbers = np.asarray(cell, float)
    if numbers.shape != (6,) or not np.all(np.isfinite(numbers)):
        return f"cell {list(cell)}"
    for name, value in zip("abc", numbers[:3], strict=True):
        if not EDGES_A[0] <= value <= EDGES_A[1]:
            return f"{name} = {value:g} Å"
    for name, value in zip(("alpha", "beta", "gamma"), numbers[3:], strict=True):
        if not ANGLES_DEG[0] <= value <= ANGLES_DEG[1]:
            return f"{name} = {value:g} degrees"
    cosines = np.cos(np.deg2rad(numbers[3:]))
    if not 1 + 2 * np.prod(cosines) - np.sum(cosines**2) > 1e-4:
        return f"angles {', '.join(f'{v:g}' for v in numbers[3:])} that close no cell"
    if not np.isfinite(cell_volume(cell)):
        return f"cell {list(cell)}"
    return ""


def primitive_transform(bravais: str, cell: Cell) -> Floats:
    """(3, 3) what takes a conventional basis (columns) to a primitive one."""
    centring = bravais[1]
    if bravais == "hR" and not np.allclose(cell[3:], (90, 90, 120), atol=1.0):
        centring = "P"  # rhombohedral axes are primitive
    unit = gemmi.UnitCell(1, 1, 1, 90, 90, 90)
    return np.asarray(unit.primitive_orth_matrix(centring).tolist(), float)


def record_from_lattice(name: str, lattice: Lattice, source: str = "") -> CellRecord:
    """The record of a lattice that the built-in engine reduced."""
    esd = np.asarray(lattice.cell_esd, float)
    a, b, c, alpha, beta, gamma = esd.tolist()
    return CellRecord(
        name=name,
        cell=lattice.cell,
        bravais=lattice.bravais,
        cell_esd=(a, b, c, alpha, beta, gamma) if np.all(np.isfinite(esd)) else None,
        weight=float(len(lattice.reflections)),
        indexed_fraction=lattice.indexed_fraction,
        source=source,
    )


def record_from_space_group(
    name: str,
    cell: Cell,
    number: int,
    *,
    cell_esd: Cell | None = None,
    weight: float = 1.0,
    indexed_fraction: float = float("nan"),
    source: str = "",
) -> CellRecord:
    """The record of a cell given with a space group's number, as XDS does.

    Raises
    ------
    UserError : if there is no such space group, or the six numbers are no cell.
    """
    try:
        bravais = bravais_of_space_group(number)
    except ValueError as error:
        raise UserError(
            name, f"space group {number}", "1 to 230 but not 38 to 41", "correct the number"
        ) from error
    return CellRecord(name, cell, bravais, cell_esd, weight, indexed_fraction, source)


def record_from_text(text: str, name: str = "") -> CellRecord:
    """A record from a line such as ``MFI 20.09 19.74 13.14 90 90 90 oP``.

    Six numbers, with or without a name before them and a lattice type or the number of a space
    group after; commas count as blanks.

    Raises
    ------
    UserError : if the line does not read so.
    """
    words = text.replace(",", " ").split()
    start = next((i for i in range(len(words) - 5) if all(map(_number, words[i : i + 6]))), None)
    if start is None:
        raise UserError(
            name or "cell", repr(text), "six numbers: a b c alpha beta gamma", "correct the line"
        )
    a, b, c, alpha, beta, gamma = (float(word) for word in words[start : start + 6])
    name = " ".join(words[:start]) or name or "cell"
    rest = words[start + 6 :]
    cell = (a, b, c, alpha, beta, gamma)
    if len(rest) == 1 and rest[0].isdigit():
        return record_from_space_group(name, cell, int(rest[0]))
    if len(rest) > 1:
        raise UserError(
            name, repr(" ".join(rest)), "a lattice type or nothing after the cell", "take it away"
        )
    return CellRecord(name, cell, rest[0] if rest else "aP")


def _number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
