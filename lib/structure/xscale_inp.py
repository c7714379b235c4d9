"""XSCALE.INP for XDS_ASCII files, wherever they lie.

XSCALE cuts file names at blanks and after 50 characters (its page in the XDS documentation), so
each input that does not lie beside XSCALE.INP under such a name gets a short link there; the
original is named in a comment.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import gemmi

from ..crystal.cell import Cell
from ..errors import UserError
from .charge_flipping import named_group


@dataclass(frozen=True)
class XscaleInput:
    """An XDS_ASCII file to be scaled.

    Attributes
    ----------
    path : of the file.
    resolution_A : (coarsest, finest) to use; all by default.
    reference : take its indices as the reference for the others, where indexing is ambiguous.
    """

    path: Path
    resolution_A: tuple[float, float] | None = None
    reference: bool = False


def write_xscale_inp(
    folder: str | Path,
    inputs: Sequence[XscaleInput],
    *,
    space_group: str,
    cell: Cell,
    output: str = "MERGED.HKL",
    friedel: bool = True,
    merge: bool = False,
    snrc: float = 2.0,
    shells_A: Sequence[float] = (),
) -> Path:
    """Write XSCALE.INP and the links to its inputs into a folder; returns its path.

    Parameters
    ----------
    inputs : at least one.
    space_group, cell : of the output; XDS numbers know standard settings only.
    output : name of the scaled file.
    friedel : whether hkl and -hkl are one reflection.
    merge : whether the output is merged.
    snrc : least signal-to-noise for the correction factors (SNRC).
    shells_A : resolution shells of the tables.

    Raises
    ------
    UserError : no inputs, one that is missing, or a folder that cannot be written.
    """
    where = Path(folder)
    if not inputs:
        raise UserError(where, "no data sets", "at least one XDS_ASCII file", "choose some")
    group = named_group(space_group)
    standard = group == gemmi.find_spacegroup_by_number(group.number)
    lines = [
        *([] if standard else [f"! asked for in the setting {group.xhm()}"]),
        f"SPACE_GROUP_NUMBER= {group.number}",
        "UNIT_CELL_CONSTANTS= " + " ".join(f"{v:.4f}" for v in cell),
        f"SNRC= {snrc:g}",
        "SAVE_CORRECTION_IMAGES= FALSE",
        *(["RESOLUTION_SHELLS= " + " ".join(f"{d:.3f}" for d in shells_A)] if shells_A else []),
        "",
        f"OUTPUT_FILE= {output}",
        f"FRIEDEL'S_LAW= {str(friedel).upper()}  MERGE= {str(merge).upper()}",
    ]
    where.mkdir(parents=True, exist_ok=True)
    for number, one in enumerate(inputs, 1):
        target = one.path.absolute()
        if not target.is_file():
            raise UserError(
                one.path, "no such file", "an XDS_ASCII file", "reduce the series first"
            )
        if target.parent == where.absolute() and " " not in target.name and len(target.name) <= 50:
            lines.append("")
            link = target
        else:
            link = where / f"{number:04d}.HKL"
            _link(target, link)
            lines += ["", f"! {target}"]
        lines.append(f"INPUT_FILE= {'*' if one.reference else ''}{link.name}")
        if one.resolution_A is not None:
            coarse, fine = one.resolution_A
            if not coarse > fine > 0:
                raise UserError(
                    one.path,
                    f"resolution {coarse} to {fine}",
                    "coarsest before finest",
                    "swap them",
                )
            lines.append(f"INCLUDE_RESOLUTION_RANGE= {coarse:.3f} {fine:.3f}")
    path = where / "XSCALE.INP"
    try:
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(
            path, str(error.strerror), "a file that can be written", "choose another place"
        ) from error
    return path


def _link(target: Path, link: Path) -> None:
    """A symbolic link, or a copy where the filesystem has none."""
    link.unlink(missing_ok=True)
    try:
        os.symlink(target, link)
    except OSError:
        shutil.copyfile(target, link)
