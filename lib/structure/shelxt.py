"""SHELXT, where it is installed: run on a hand-over, its solutions read.

Source: G. M. Sheldrick (2015), Acta Cryst. A71, 3. The program is licensed and not ours to
bring along; it is looked up on PATH.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import gemmi

from ..crystal.cell import Cell
from ..errors import UserError
from ..reduction.engines.programs import find_program, run_program
from .solution import Atom

# R1 Rweak Alpha orientation space-group [Flack] file formula, as in the .lxt file
_ROW = re.compile(
    r"^\s*(\d\.\d+)\s+(-?\d\.\d+)\s+(\d\.\d+)\s+(.*?)\s\s+(\S+)\s+(?:-?[\d.]+\s+)?(\S+_[a-z])\s+(.*)$"
)


@dataclass(frozen=True)
class ShelxtSolution:
    """A row of SHELXT's table, and the atoms of its .res file.

    Attributes
    ----------
    r1, r_weak, alpha : its figures of merit, each better when smaller.
    orientation : how its axes follow from the input's, in its words.
    space_group : in its notation, such as P2(1)/c.
    formula : that it assigned.
    file : the .res file.
    atoms, cell : of that file.
    """

    r1: float
    r_weak: float
    alpha: float
    orientation: str
    space_group: str
    formula: str
    file: Path
    atoms: tuple[Atom, ...]
    cell: Cell


def run_shelxt(
    folder: str | Path,
    name: str,
    *,
    program: str | Path = "shelxt",
    options: tuple[str, ...] = (),
    time_limit_s: float = 600.0,
) -> tuple[ShelxtSolution, ...]:
    """Run SHELXT on name.ins and name.hkl in a folder; its solutions in its own order.

    Raises
    ------
    UserError : no such program, it failed or found nothing (its last words are quoted).
    """
    where = Path(folder)
    if find_program(program) is None:
        raise UserError("shelxt", f"no program '{program}'", "SHELXT", "install it, or charge flip")
    ended = run_program(
        [program, name, *options], where, where / f"{name}.shelxt.log", limit_s=time_limit_s
    )
    table = where / f"{name}.lxt"
    if not ended.good or not table.exists():
        why = ended.why or "no .lxt file"
        raise UserError(where / name, why, "solutions of SHELXT", "see its log")
    found = read_lxt(table)
    if not found:
        raise UserError(table, "no solution", "at least one", "try another space group or data")
    return found


def read_lxt(path: str | Path) -> tuple[ShelxtSolution, ...]:
    """The solutions that a .lxt file lists and whose .res files are there."""
    solutions = []
    for line in Path(path).read_text(encoding="latin-1").splitlines():
        row = _ROW.match(line)
        if row is None:
            continue
        r1, r_weak, alpha, orientation, group, file, formula = row.groups()
        res = Path(path).with_name(f"{file}.res")
        if not res.exists():
            continue
        atoms, cell = read_res(res)
        solutions.append(
            ShelxtSolution(
                float(r1), float(r_weak), float(alpha), orientation.strip(), group,
                formula.strip(), res, atoms, cell,
            )
        )  # fmt: skip
    return tuple(solutions)


def read_res(path: str | Path) -> tuple[tuple[Atom, ...], Cell]:
    """Atoms (up to HKLF or END) and cell of a .res or .ins file; anisotropic ones as isotropic.

    Raises
    ------
    UserError : no such file, or no CELL or SFAC in it.
    """
    try:
        text = Path(path).read_text(encoding="latin-1")
    except OSError as error:
        raise UserError(path, str(error.strerror), "a .res file", "check the path") from None
    text = re.sub(r"=[^\n]*\n\s+", " ", text)
    elements: list[str] = []
    cell: Cell | None = None
    atoms: list[Atom] = []
    for line in text.splitlines():
        words = line.split("!")[0].split()
        if not words or line[0].isspace():
            continue
        key = words[0].upper()
        if key[:4] in {"HKLF", "END"}:
            break
        if key == "CELL" and len(words) >= 8:
            a, b, c, alpha, beta, gamma = (float(v) for v in words[2:8])
            cell = (a, b, c, alpha, beta, gamma)
        elif key == "SFAC":
            long = len(words) > 2 and not words[2].lstrip("$").isalpha()
            elements += [w.lstrip("$").capitalize() for w in (words[1:2] if long else words[1:])]
        elif elements and len(words) >= 6 and words[1].isdigit():
            number = int(words[1])
            if not 1 <= number <= len(elements) or elements[number - 1] == "Q":
                continue
            x, y, z, occupancy = (_free(float(v)) for v in words[2:6])
            u = _free(float(words[6])) if len(words) > 6 else 0.05
            if len(words) >= 12:
                u = sum(float(v) for v in words[6:9]) / 3
            atoms.append(
                Atom(
                    label=words[0],
                    element=elements[number - 1],
                    position=(x, y, z),
                    u_iso_A2=u if u > 0 else 0.05,
                    occupancy=occupancy,
                )
            )
    if cell is None or not elements:
        raise UserError(path, "no CELL or SFAC", "a SHELX file", "give a .res or .ins file")
    known = {gemmi.Element(e).name for e in elements}
    if "X" in known:
        raise UserError(path, f"elements {elements}", "chemical symbols on SFAC", "mend the file")
    return tuple(atoms), cell


def _free(value: float) -> float:
    """A coordinate that is held fixed is written with 10 added."""
    return value - 10 if 5 < value < 15 else value
