"""A solved structure as CIF."""

from __future__ import annotations

from pathlib import Path

import gemmi

from ..errors import UserError
from .solution import Solution

_CELL = ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma")


def write_cif(path: str | Path, solution: Solution, name: str) -> None:
    """Write the atoms of a solution, as peaks and composition gave them: nothing is refined.

    Raises
    ------
    UserError : if the file cannot be written.
    """
    group = gemmi.SpaceGroup(solution.space_group)
    document = gemmi.cif.Document()
    block = document.add_new_block("".join(c if c.isalnum() else "_" for c in name) or "solution")
    for field, value in zip(_CELL, solution.cell, strict=True):
        block.set_pair(f"_cell_{field}", f"{value:.4f}")
    block.set_pair("_space_group_name_H-M_alt", gemmi.cif.quote(group.xhm()))
    block.set_pair("_space_group_IT_number", str(group.number))
    operations = block.init_loop("_space_group_symop_", ["operation_xyz"])
    for op in group.operations():
        operations.add_row([gemmi.cif.quote(op.triplet())])
    atoms = block.init_loop(
        "_atom_site_",
        ["label", "type_symbol", "fract_x", "fract_y", "fract_z", "U_iso_or_equiv", "occupancy"],
    )
    for atom in solution.atoms:
        x, y, z = (f"{value:.5f}" for value in atom.position)
        atoms.add_row(
            [atom.label, atom.element, x, y, z, f"{atom.u_iso_A2:.4f}", f"{atom.occupancy:.3f}"]
        )
    try:
        Path(path).write_text(document.as_string(), encoding="utf-8")
    except OSError as error:
        raise UserError(
            path, str(error.strerror), "a file that can be written", "choose another place"
        ) from error
