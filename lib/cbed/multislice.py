"""Multislice patterns by abTEM, for specimens that are not thin: ZnS, and a check of the rest.

Needs the extra ``abtem`` (Madsen and Susi, Open Res. Europe 1, 24, 2021). Its first axis is our
row axis, its second our column axis; the beam runs along its third.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError
from ..stem4d.scan import Scan4D
from .crystal import GRAPHENE_A
from .phase_object import as_scan, scan_positions
from .probe import Camera, Probe
from .supercell import shaken_positions

ZNS_A = 5.409
ZNS_THICKNESS_A = 76.0
ZNS_SLICE_A = ZNS_A / math.sqrt(8)
BLOCK = 16  # patterns at a time


@dataclass(frozen=True)
class Atoms:
    """Atoms in a box that repeats in the plane.

    Attributes
    ----------
    size_A : (rows, columns, thickness).
    elements : (atoms,) names.
    positions_A : (atoms, 3), the last along the beam.
    """

    size_A: tuple[float, float, float]
    elements: tuple[str, ...]
    positions_A: NDArray[np.float64]

    def camera(self, probe: Probe, shape: tuple[int, int] = (64, 64)) -> Camera:
        """The camera whose pixels are the box's reciprocal lattice, the beam on one of them."""
        row, column = (probe.wavelength_A / length * 1e3 for length in self.size_A[:2])
        return Camera(shape, (row, column), (float(shape[0] // 2), float(shape[1] // 2)))


def repeated(
    cell_A: tuple[float, float, float],
    elements: tuple[str, ...],
    fractions: NDArray[np.float64],
    times: tuple[int, int, int],
) -> Atoms:
    """A rectangular cell repeated."""
    corners = np.stack(np.meshgrid(*map(np.arange, times), indexing="ij"), -1).reshape(-1, 1, 3)
    positions = ((corners + fractions) * np.array(cell_A)).reshape(-1, 3)
    size = (cell_A[0] * times[0], cell_A[1] * times[1], cell_A[2] * times[2])
    return Atoms(size, elements * math.prod(times), positions)


def graphene_atoms(times: tuple[int, int] = (11, 19)) -> Atoms:
    """Graphene in a slice of 2 Å: 46.9 x 46.8 Å unless told otherwise."""
    fractions = np.array([[0, 0, 0.5], [1 / 6, 1 / 2, 0.5], [1 / 2, 1 / 2, 0.5], [2 / 3, 0, 0.5]])
    cell = (math.sqrt(3) * GRAPHENE_A, GRAPHENE_A, 2.0)
    return repeated(cell, ("C",) * 4, fractions, (*times, 1))


def zns_atoms(thickness_A: float = ZNS_THICKNESS_A, times: tuple[int, int] = (8, 12)) -> Atoms:
    """Zinc sulphide along [011]: rows along [100], columns along [01-1].

    Cells of 5.409 x 3.825 Å, 3.825 Å thick, as many as come nearest to the thickness; a column of
    zinc in the origin and its sulphur 1.352 Å further along the rows, the dumbbell. Slices of
    1.9125 Å (`ZNS_SLICE_A`) hold a layer each.
    """
    cell = (ZNS_A, ZNS_A / math.sqrt(2), ZNS_A / math.sqrt(2))
    low, high = 1 / 4, 3 / 4  # in the middle of slices of half a cell
    fractions = np.array([[0, 0, low], [1 / 2, 1 / 2, high], [1 / 4, 0, high], [3 / 4, 1 / 2, low]])
    layers = max(1, round(thickness_A / cell[2]))
    return repeated(cell, ("Zn", "Zn", "S", "S"), fractions, (*times, layers))


def simulate_multislice(
    atoms: Atoms,
    probe: Probe | None = None,
    *,
    shape: tuple[int, int] = (64, 64),
    grid: int = 512,
    slice_A: float = 2.0,
    scan_shape: tuple[int, int] = (16, 16),
    scan_step_A: tuple[float, float] = (0.176, 0.176),
    start_A: tuple[float, float] = (0.0, 0.0),
    msd_A2: float = 0.0,
    phonon_seeds: tuple[int, ...] = (),
    name: str = "multislice",
) -> Scan4D:
    """A scan without noise; frames float32, fraction of the beam's electrons in each pixel.

    Pixels are the points of the box's reciprocal lattice, not area averages; the aperture's edge
    is abTEM's, one pixel wide. The beam arrives at pixel (rows // 2, columns // 2).

    Parameters
    ----------
    grid : points along each edge of the box.
    slice_A : thickness of a slice.
    msd_A2, phonon_seeds : mean square displacement along one axis, and one frozen configuration
        per seed, whose patterns are averaged; without seeds the atoms are still.

    Raises
    ------
    UserError : abTEM is not installed, or the grid is too coarse for the camera.
    """
    probe = probe or Probe()
    if probe.source_fwhm_A:
        raise UserError(
            "source_fwhm_A",
            f"{probe.source_fwhm_A}",
            "0, as multislice computes points of the scan",
            "simulate a finer and wider scan and smooth it with `source_smoothed`",
        )
    camera = atoms.camera(probe, shape)
    _check_grid(atoms, shape, grid)
    positions = scan_positions(scan_shape, scan_step_A, start_A).reshape(-1, 2)
    frames = np.zeros((len(positions), *shape), np.float32)
    configurations: tuple[int | None, ...] = phonon_seeds or (None,)
    for seed in configurations:
        potential = _potential(atoms, grid, slice_A, msd_A2, seed)
        for defocus, weight in zip(*probe.defoci(), strict=True):
            share = float(weight) / len(configurations)
            _add_patterns(frames, potential, probe, float(defocus), positions, share)
    return as_scan(frames.reshape(*scan_shape, *shape), probe, camera, scan_step_A, name)


def _abtem() -> Any:
    try:
        import abtem
    except ImportError:
        raise UserError(
            "abtem", "not installed", "the package", "install ewaldflow with the extra abtem"
        ) from None
    return abtem


def _check_grid(atoms: Atoms, shape: tuple[int, int], grid: int) -> None:
    # abTEM keeps waves up to two thirds of what the grid resolves
    if max(shape) / 2 > grid / 3:
        raise UserError(
            "grid",
            f"{grid} points",
            f"at least {2 * max(shape)} for the camera",
            "take a finer one",
        )
    coarse = max(atoms.size_A[:2]) / grid
    if coarse > 0.25:
        raise UserError(
            "grid", f"{coarse:.2f} Å between points", "at most 0.25 Å", "take a finer grid"
        )


def _potential(atoms: Atoms, grid: int, slice_A: float, msd_A2: float, seed: int | None) -> Any:
    import ase

    positions = atoms.positions_A
    if seed is not None:
        positions = shaken_positions(positions, msd_A2, seed)
    body = ase.Atoms(
        list(atoms.elements), positions=positions, cell=atoms.size_A, pbc=(True, True, False)
    )
    body.wrap(pbc=True)  # type: ignore[no-untyped-call]
    potential = _abtem().Potential(
        body, gpts=(grid, grid), slice_thickness=slice_A, projection="infinite"
    )
    return potential.build(lazy=False)


def _add_patterns(
    frames: NDArray[np.float32],
    potential: Any,
    probe: Probe,
    defocus_A: float,
    positions: NDArray[np.float64],
    share: float,
) -> None:
    import dask

    abtem = _abtem()
    beam = abtem.Probe(
        energy=probe.voltage_kV * 1e3,
        semiangle_cutoff=probe.semi_angle_mrad,
        aberrations={"defocus": defocus_A},
    )
    beam.grid.match(potential)
    rows, columns = frames.shape[1:]
    with dask.config.set(scheduler="synchronous"):
        for first in range(0, len(positions), BLOCK):
            scan = abtem.CustomScan(positions[first : first + BLOCK])
            waves = beam.multislice(potential, scan=scan, lazy=False)
            found = np.asarray(waves.diffraction_patterns(max_angle=None).array)
            top, left = found.shape[1] // 2 - rows // 2, found.shape[2] // 2 - columns // 2
            part = found[:, top : top + rows, left : left + columns]
            frames[first : first + BLOCK] += np.float32(share) * part
