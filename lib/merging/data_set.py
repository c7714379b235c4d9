"""A data set: the unmerged observations of one crystal, whoever integrated them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..crystal.cell import Cell, Floats, cell_from_real_basis, d_spacing_A, orthogonalisation
from ..reduction.result import Flag, Lattice

# Observations with any of these are not compared or merged; the others stand, with their sigmas.
UNUSABLE = Flag.OVERLAP | Flag.BACKGROUND | Flag.PROFILE_FAILED
# Least part of the rocking curve that must have been recorded.
MIN_PARTIALITY = 0.7


@dataclass(frozen=True)
class DataSet:
    """Unmerged observations of one crystal, indexed on one cell.

    Attributes
    ----------
    name : of the series.
    cell : conventional cell that `hkl` counts in.
    bravais : lattice type of that setting (aP, mP, ... cI).
    hkl : (n, 3) int32.
    intensity, sigma : (n,) finite, sigma positive; Lorentz-corrected, any common scale.
    frame : (n,) centroid of the rocking curve in frame positions, from 0.
    d_A : (n,) resolution.
    flags : (n,) uint32, bits of `reduction.result.Flag`.
    wavelength_A : of the electrons.
    range_deg : rotation that was recorded.
    n_frames : of the series.
    orientation : (3, 3) ``A = U B`` in 1/Å at zero rotation; None if unknown.
    source : reference of the artefact, or path of the file, that it was read from.
    angle_deg : (n,) the same centroid as an angle of the goniometer, for frames unevenly spaced;
        None where frames are even.
    """

    name: str
    cell: Cell
    bravais: str
    hkl: NDArray[np.int32]
    intensity: Floats
    sigma: Floats
    frame: Floats
    d_A: Floats
    flags: NDArray[np.uint32]
    wavelength_A: float
    range_deg: float
    n_frames: int
    orientation: Floats | None = None
    source: str = ""
    angle_deg: Floats | None = None

    def __len__(self) -> int:
        return len(self.hkl)

    def __post_init__(self) -> None:
        bad = ~np.isfinite(self.intensity) | ~np.isfinite(self.sigma) | (self.sigma <= 0)
        if bad.any():
            raise ValueError(
                f"{self.name}: found {int(bad.sum())} observations without a finite intensity and "
                "a positive sigma, expected none"
            )

    def select(self, index: ArrayLike) -> DataSet:
        """Some of the observations (a mask or indices)."""
        rows = ("hkl", "intensity", "sigma", "frame", "d_A", "flags", "angle_deg")
        columns = {name: getattr(self, name) for name in rows}
        chosen: dict[str, Any] = {
            name: None if column is None else column[np.asarray(index)]
            for name, column in columns.items()
        }
        return replace(self, **chosen)

    def has(self, flag: Flag) -> NDArray[np.bool_]:
        """(n,) True where any bit of `flag` is set."""
        result: NDArray[np.bool_] = (self.flags & np.uint32(flag)) != 0
        return result

    def reindexed(self, transform: ArrayLike, bravais: str | None = None) -> DataSet:
        """The same data on the basis ``real basis @ transform`` (columns a, b, c).

        Parameters
        ----------
        transform : (3, 3) integer; indices become ``transform^T h`` (covariant like the axes).
        bravais : lattice type of the new setting, the same by default.

        Raises
        ------
        ValueError : if indices are no longer whole numbers.
        """
        matrix = np.asarray(transform, float)
        indices = self.hkl @ matrix
        whole = np.rint(indices)
        if not np.allclose(indices, whole, atol=1e-6):
            raise ValueError(f"transform: found fractional indices from {matrix.tolist()}")
        cell = cell_from_real_basis(orthogonalisation(self.cell) @ matrix)
        return replace(
            self,
            hkl=whole.astype(np.int32),
            cell=cell,
            bravais=bravais or self.bravais,
            orientation=(
                None if self.orientation is None else self.orientation @ np.linalg.inv(matrix).T
            ),
        )


def data_set_from_lattice(
    name: str, lattice: Lattice, *, range_deg: float, n_frames: int, source: str = ""
) -> DataSet:
    """The usable reflections of an integrated lattice.

    Left out are overlaps, reflections without a known background or a profile-fitted
    intensity, and those of which less than `MIN_PARTIALITY` was recorded.
    """
    r = lattice.reflections
    usable = ~r.has(UNUSABLE) & np.isfinite(r.intensity) & np.isfinite(r.sigma) & (r.sigma > 0)
    usable &= r.partiality > MIN_PARTIALITY
    r = r[usable]
    return DataSet(
        name=name,
        cell=lattice.cell,
        bravais=lattice.bravais,
        hkl=r.hkl,
        intensity=r.intensity,
        sigma=r.sigma,
        frame=r.frame,
        d_A=r.d_A,
        flags=r.flags,
        wavelength_A=lattice.geometry.wavelength_A,
        range_deg=range_deg,
        n_frames=n_frames,
        orientation=lattice.orientation,
        source=source,
        angle_deg=r.angle_deg,
    )


def data_set_from_xds_ascii(path: str | Path, name: str | None = None) -> DataSet:
    """The observations of an unmerged XDS_ASCII file; misfits are flagged as outliers.

    Raises
    ------
    UserError : if the file cannot be read as one, or is merged.
    """
    from ..crystal.lattice_symmetry import bravais_of_space_group
    from ..reduction.xds_ascii import read_xds_ascii

    file = read_xds_ascii(path)
    usable = np.isfinite(file.intensity) & np.isfinite(file.sigma) & (file.sigma > 0)
    frame = file.frame_number[usable] - np.floor(file.frame_number[usable].min(initial=0.0))
    n_frames = int(np.ceil(frame.max(initial=0.0))) + 1
    return DataSet(
        name=name or Path(path).stem,
        cell=file.cell,
        bravais=bravais_of_space_group(file.space_group_number),
        hkl=file.hkl[usable],
        intensity=file.intensity[usable],
        sigma=file.sigma[usable],
        frame=frame,
        d_A=d_spacing_A(file.hkl[usable], file.cell),
        flags=np.where(file.misfit[usable], np.uint32(Flag.OUTLIER), np.uint32(0)),
        wavelength_A=file.wavelength_A,
        range_deg=abs(file.oscillation_deg) * n_frames,
        n_frames=n_frames,
        source=str(path),
    )
