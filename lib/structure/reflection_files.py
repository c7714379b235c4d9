"""Hand-over as MTZ and mmCIF, merged and unmerged, through gemmi."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import gemmi
import numpy as np
from numpy.typing import NDArray

from ..crystal.cell import Cell, Floats
from ..errors import UserError
from ..merging.data_set import DataSet
from ..merging.merge import mean_cell
from ..merging.merged_reflections import MergedReflections
from ..reduction.result import Flag
from .charge_flipping import named_group

# Batches of data set k are numbered from k times this (more, if a series is longer).
BATCHES_PER_SET = 1000


def merged_mtz(merged: MergedReflections, *, title: str = "", project: str = "") -> gemmi.Mtz:
    """Merged intensities as an MTZ object: H K L IMEAN SIGIMEAN NOBS, in the MTZ asymmetric unit.

    The format holds the wavelength to five decimals only.

    Parameters
    ----------
    title, project : of the file's header.
    """
    group = named_group(merged.space_group)
    mtz = _empty(group, merged.cell, title)
    data_set = mtz.add_dataset(project or "merged")
    _describe(data_set, project or "merged", merged.cell, merged.wavelength_A)
    mtz.add_column("IMEAN", "J", dataset_id=1)
    mtz.add_column("SIGIMEAN", "Q", dataset_id=1)
    mtz.add_column("NOBS", "I", dataset_id=1)
    mtz.set_data(
        np.column_stack([merged.hkl, merged.intensity, merged.sigma, merged.multiplicity]).astype(
            np.float32
        )
    )
    # no M/ISYM, so indices move to the asymmetric unit of MTZ as they are
    mtz.ensure_asu()
    mtz.sort(3)
    return mtz


def unmerged_mtz(
    data_sets: Sequence[DataSet],
    space_group: str,
    *,
    scales: Sequence[Floats] | None = None,
    title: str = "",
) -> gemmi.Mtz:
    """Unmerged observations: H K L M/ISYM BATCH I SIGI FLAG, a batch for each frame.

    Parameters
    ----------
    data_sets : on one lattice in the setting of the space group.
    scales : for each data set (n,) or a number, what intensities and sigmas are multiplied by.
    """
    group = named_group(space_group)
    if not data_sets:
        raise UserError("data_sets", "none", "at least one", "reduce some series first")
    cell = mean_cell(tuple(data_sets))
    mtz = _empty(group, cell, title)
    for label, kind in (
        ("M/ISYM", "Y"), ("BATCH", "B"), ("I", "J"), ("SIGI", "Q"), ("FLAG", "I"),
    ):  # fmt: skip
        mtz.add_column(label, kind, dataset_id=0)
    step = max([BATCHES_PER_SET, *(one.n_frames + 1 for one in data_sets)])
    rows = []
    for k, one in enumerate(data_sets):
        data_set = mtz.add_dataset(one.name[:64] or f"set{k + 1}")
        _describe(data_set, one.name, one.cell, one.wavelength_A)
        factor = np.asarray(1.0 if scales is None else scales[k], float)
        number = k * step + 1 + np.clip(np.rint(one.frame), 0, one.n_frames - 1)
        for frame in range(one.n_frames):
            mtz.batches.append(_batch(k * step + 1 + frame, data_set.id, one))
        rows.append(
            np.column_stack(
                [
                    *_asymmetric_unit(one.hkl, group), number, one.intensity * factor,
                    one.sigma * factor, one.has(Flag.SATURATED),
                ]
            )
        )  # fmt: skip
    mtz.set_data(np.concatenate(rows).astype(np.float32))
    mtz.sort(5)
    return mtz


def write_mtz(path: str | Path, mtz: gemmi.Mtz) -> None:
    """Write an MTZ file.

    Raises
    ------
    UserError : if it cannot be written.
    """
    try:
        mtz.write_to_file(str(path))
    except (OSError, RuntimeError) as error:
        raise UserError(
            path, str(error), "a file that can be written", "choose another place"
        ) from error


def write_mmcif(path: str | Path, mtz: gemmi.Mtz) -> None:
    """Write the reflections of an MTZ object as mmCIF, merged or unmerged.

    Raises
    ------
    UserError : if it cannot be written.
    """
    converter = gemmi.MtzToCif()
    if not mtz.batches:
        converter.spec_lines = [
            "H H index_h",
            "K H index_k",
            "L H index_l",
            "IMEAN J intensity_meas",
            "SIGIMEAN Q intensity_sigma",
            "NOBS I pdbx_redundancy",
        ]
    text = converter.write_cif_to_string(mtz)
    try:
        Path(path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(
            path, str(error.strerror), "a file that can be written", "choose another place"
        ) from error


def _empty(group: gemmi.SpaceGroup, cell: Cell, title: str) -> gemmi.Mtz:
    mtz = gemmi.Mtz(with_base=True)
    mtz.title = title[:70]
    mtz.spacegroup = group
    mtz.set_cell_for_all(gemmi.UnitCell(*cell))
    return mtz


def _describe(data_set: gemmi.Mtz.Dataset, name: str, cell: Cell, wavelength_A: float) -> None:
    data_set.project_name = "ewaldflow"
    data_set.crystal_name = name[:64] or "crystal"
    data_set.cell = gemmi.UnitCell(*cell)
    data_set.wavelength = wavelength_A


def _batch(number: int, data_set: int, one: DataSet) -> gemmi.Mtz.Batch:
    batch = gemmi.Mtz.Batch()
    batch.number = number
    batch.dataset_id = data_set
    batch.cell = gemmi.UnitCell(*one.cell)
    batch.wavelength = one.wavelength_A
    return batch


def _asymmetric_unit(
    hkl: NDArray[np.int32], group: gemmi.SpaceGroup
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Indices in the MTZ asymmetric unit, and the M/ISYM that tells the original ones."""
    asu, operations = gemmi.ReciprocalAsu(group), group.operations()
    unique, inverse = np.unique(hkl, axis=0, return_inverse=True)
    moved = [asu.to_asu(one, operations) for one in unique.tolist()]
    indices = np.array([list(one[0]) for one in moved], np.int32).reshape(-1, 3)
    isym = np.array([one[1] for one in moved], np.int64)
    rows = inverse.reshape(-1)
    return indices[rows], isym[rows]
