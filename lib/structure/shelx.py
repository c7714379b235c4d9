"""Hand-over to SHELX and what reads its files: ``.hkl`` (HKLF 4) and ``.ins``.

Formats after the SHELX-97 manual (G. M. Sheldrick): reflections in 3I4, 2F8.2, ended by
0 0 0; numbers with a decimal point keep it wherever it stands, so that small ones can have
more digits than two. Electron scattering factors stand on long SFAC lines.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import gemmi
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..crystal.cell import Cell, Floats
from ..errors import UserError
from .charge_flipping import named_group
from .scattering import four_gaussians

# The largest number leaves a blank before it, for programs that part columns at blanks.
LARGEST = 9999.0
_LATTICES = {"P": 1, "I": 2, "R": 3, "F": 4, "A": 5, "B": 6, "C": 7}


@dataclass(frozen=True)
class HklFile:
    """What a `.hkl` file holds: hkl (n, 3) int32, intensity and sigma (n,)."""

    hkl: NDArray[np.int32]
    intensity: Floats
    sigma: Floats


def write_hkl(path: str | Path, hkl: ArrayLike, intensity: ArrayLike, sigma: ArrayLike) -> float:
    """Write intensities as HKLF 4, merged or not; returns the factor they were multiplied by.

    The factor makes the largest 9999; negative intensities stay. Small numbers get more
    decimals, so that no sigma becomes zero.

    Parameters
    ----------
    hkl : (n, 3) int, within -999 to 999.
    intensity, sigma : (n,) finite, sigma positive.

    Raises
    ------
    UserError : nothing to write, a number the format cannot hold, or the file cannot be written.
    """
    h = np.asarray(hkl, np.int64).reshape(-1, 3)
    i, s = np.asarray(intensity, float), np.asarray(sigma, float)
    if len(h) == 0:
        raise UserError(path, "no reflections", "some", "reduce and merge first")
    if np.abs(h).max() > 999:
        raise UserError(path, f"index {np.abs(h).max()}", "at most 999", "use MTZ instead")
    bad = int(np.sum(~np.isfinite(i) | ~np.isfinite(s) | (s <= 0)))
    if bad:
        raise UserError(
            path, f"{bad} without finite intensity and positive sigma", "none", "leave them out"
        )
    scale = LARGEST / float(max(np.abs(i).max(), s.max()))
    smallest = float(s.min()) * scale
    if smallest < 5e-6:
        raise UserError(
            path, f"sigmas from {s.min():.3g} to intensities of {np.abs(i).max():.3g}",
            "a range that eight columns hold", "leave out the reflections with sigmas near zero",
        )  # fmt: skip
    rows = [
        f"{a:4d}{b:4d}{c:4d}{_number(x)}{_number(y)}\n"
        for (a, b, c), x, y in zip(h.tolist(), i * scale, s * scale, strict=True)
    ]
    _write(path, "".join(rows) + "   0   0   0    0.00    0.00\n")
    return scale


def _number(value: float) -> str:
    """Eight columns: two decimals, five for what would lose its digits by that."""
    return f"{value:8.2f}" if abs(value) >= 1 else f"{value:8.5f}"


def read_hkl(path: str | Path) -> HklFile:
    """Read HKLF 4 in fixed columns, up to 0 0 0 or the end.

    Raises
    ------
    UserError : no such file, or a line that is no reflection.
    """
    try:
        lines = Path(path).read_text(encoding="latin-1").splitlines()
    except OSError as error:
        raise UserError(path, str(error.strerror), "a .hkl file", "check the path") from None
    rows = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            break
        try:
            h, k, m = int(line[0:4]), int(line[4:8]), int(line[8:12])
            i, s = float(line[12:20]), float(line[20:28])
        except ValueError:
            raise UserError(
                f"{path}, line {number}", repr(line[:28]), "3I4,2F8.2", "give a file of HKLF 4"
            ) from None
        if h == k == m == 0:
            break
        rows.append((h, k, m, i, s))
    table = np.array(rows, float).reshape(-1, 5)
    return HklFile(table[:, :3].astype(np.int32), table[:, 3], table[:, 4])


def instructions(
    *,
    title: str,
    cell: Cell,
    cell_esd: Cell,
    wavelength_A: float,
    space_group: str,
    formula: Mapping[str, float],
    formula_units: float,
    remarks: tuple[str, ...] = (),
) -> str:
    """The text of a `.ins` file that SHELXT, SHELXS and SHELXD start from.

    Parameters
    ----------
    title : one line.
    cell, cell_esd : Å and degrees; e.s.d.s of zero for angles that symmetry fixes.
    wavelength_A : of the electrons.
    space_group : Hermann-Mauguin symbol in any setting gemmi knows.
    formula : atoms of each element in a formula unit.
    formula_units : of them in the cell (Z).
    remarks : a line each.

    Raises
    ------
    UserError : an unknown space group or element, or no composition.
    """
    group = named_group(space_group)
    if not formula or not formula_units > 0:
        raise UserError("composition", "none", "elements with counts, and Z", "give a sample")
    elements = _shelx_order(formula)
    a, b, c, alpha, beta, gamma = cell
    lines = [
        f"TITL {' '.join(title.split())[:72]} in {group.xhm()}",
        *(f"REM {' '.join(text.split())[:74]}" for text in remarks),
        f"CELL {wavelength_A:.7f} {a:.4f} {b:.4f} {c:.4f} {alpha:.3f} {beta:.3f} {gamma:.3f}",
        f"ZERR {formula_units:.2f} " + " ".join(f"{e:.4f}" for e in cell_esd),
        *lattice_lines(group),
        *(line for element in elements for line in _sfac(element)),
        "UNIT " + " ".join(f"{formula[e] * formula_units:g}" for e in elements),
        "TREF",
        "HKLF 4",
        "END",
    ]
    return "\n".join(lines) + "\n"


def write_ins(path: str | Path, text: str) -> None:
    """Write `instructions` to a file.

    Raises
    ------
    UserError : if it cannot be written.
    """
    _write(path, text)


def lattice_lines(group: gemmi.SpaceGroup) -> list[str]:
    """LATT and SYMM of a space group in its setting.

    LATT is positive where the inversion is at the origin: then only half of the operations are
    written. A centring that SHELX has no number for is written out, on LATT 1.
    """
    operations = group.operations()
    den = gemmi.Op.DEN
    symbol = group.centring_type()
    reverse = symbol == "R" and [8, 16, 16] not in [list(c) for c in operations.cen_ops]
    number = 1 if reverse else _LATTICES.get(symbol, 1)
    listed = list(operations.sym_ops)
    if number == 1 and len(operations.cen_ops) > 1:
        listed = list(operations)
        centrings = [[0, 0, 0]]
    else:
        centrings = [list(c) for c in operations.cen_ops]

    def at_origin(op: gemmi.Op) -> bool:
        return [t % den for t in op.tran] in [[t % den for t in c] for c in centrings]

    minus = [[-den, 0, 0], [0, -den, 0], [0, 0, -den]]
    centric = any(op.rot == minus and at_origin(op) for op in listed)
    kept: list[gemmi.Op] = []
    seen: set[str] = set()
    for op in listed:
        rotation = [tuple(row) for row in op.rot]
        negative = [tuple(-x for x in row) for row in op.rot]
        key = str((rotation, _modulo(op.tran, centrings, den)))
        twin = str((negative, _modulo([-t for t in op.tran], centrings, den)))
        if key in seen or (centric and twin in seen):
            continue
        seen.add(key)
        kept.append(op)
    identity = [[den, 0, 0], [0, den, 0], [0, 0, den]]
    lines = [f"LATT {number if centric else -number}"]
    lines += [
        f"SYMM {op.triplet().upper().replace(',', ', ')}"
        for op in kept
        if not (op.rot == identity and at_origin(op))
    ]
    return lines


def _modulo(tran: list[int], centrings: list[list[int]], den: int) -> tuple[int, ...]:
    """A translation up to centrings and whole cells: the smallest of its equals."""
    equals = [tuple((t + c) % den for t, c in zip(tran, shift, strict=True)) for shift in centrings]
    return min(equals)


def _shelx_order(formula: Mapping[str, float]) -> list[str]:
    """Carbon and hydrogen first, as is the custom, then by the alphabet."""
    first = [e for e in ("C", "H", "D") if e in formula]
    return first + sorted(e for e in formula if e not in first)


def _sfac(element: str) -> list[str]:
    """The long SFAC instruction: label, a1 b1 ... a4 b4 c, f' f'' mu, radius, weight."""
    try:
        a, b, c = four_gaussians(element)
    except ValueError as error:
        raise UserError("composition", element, "a neutral element", str(error)) from None
    radius, weight = gemmi.Element(element).covalent_r, gemmi.Element(element).weight
    pairs = [f"{x:.4f} {y:.4f}" for x, y in zip(a, b, strict=True)]
    return [
        f"SFAC {element:<2} {' '.join(pairs[:3])} =",
        f"    {pairs[3]} {c:.4f} 0 0 0 {radius:.2f} {weight:.3f}",
    ]


def _write(path: str | Path, text: str) -> None:
    try:
        Path(path).write_text(text, encoding="ascii", errors="replace")
    except OSError as error:
        raise UserError(
            path, str(error.strerror), "a file that can be written", "choose another place"
        ) from error
