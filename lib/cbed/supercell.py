"""4D-STEM patterns of any phase object by shifting the probe over a supercell with FFTs.

For what does not repeat: dopants, vacancies, atoms displaced by heat. The supercell repeats, so
it must be wide enough that the probe does not see the next defect, and its reciprocal lattice is
the fine grid on which patterns are computed; `oversample`² of its points make up a pixel, whose
mean is the pixel's area average. Vectors are (row, column).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy import ndimage

from ..errors import UserError
from ..stem4d.scan import Scan4D
from .crystal import GRAPHENE_A, scattering_factor_A
from .phase_object import as_scan, scan_positions
from .probe import FWHM_PER_SIGMA, Camera, Probe

Floats = NDArray[np.float64]
Complex64 = NDArray[np.complex64]

FINE_A = 0.12  # grid on which exp(i phi) is taken
BLOCK = 64  # patterns at a time
TRUNCATE = 4.0  # sigmas of the source
BOND_A = GRAPHENE_A / math.sqrt(3)


@dataclass(frozen=True)
class Supercell:
    """Atoms in a rectangle that repeats.

    Attributes
    ----------
    size_A : (rows, columns) of the rectangle.
    elements : (atoms,) names.
    positions_A : (atoms, 2).
    site : index of the atom that was changed, or the atom nearest to the middle.
    site_A : (2,) where it is or was.
    """

    size_A: tuple[float, float]
    elements: tuple[str, ...]
    positions_A: Floats
    site: int
    site_A: tuple[float, float]

    def camera(
        self, probe: Probe, shape: tuple[int, int] = (64, 64), oversample: int = 2
    ) -> Camera:
        """The camera whose pixels are `oversample` steps of the supercell's reciprocal lattice."""
        row, column = (oversample * probe.wavelength_A / length * 1e3 for length in self.size_A)
        return Camera(shape, (row, column))


def graphene_supercell(cells: tuple[int, int] = (22, 38)) -> Supercell:
    """Graphene, `cells` of 4.268 x 2.464 Å (rows, columns): 93.9 x 93.6 Å unless told otherwise."""
    height, width = math.sqrt(3) * GRAPHENE_A, GRAPHENE_A
    basis = np.array([[0, 0], [1 / 6, 1 / 2], [1 / 2, 1 / 2], [2 / 3, 0]]) * [height, width]
    corners = np.stack(np.meshgrid(*map(np.arange, cells), indexing="ij"), -1).reshape(-1, 1, 2)
    positions = (corners * [height, width] + basis).reshape(-1, 2)
    size = (cells[0] * height, cells[1] * width)
    site = int(np.argmin(np.linalg.norm(positions - np.array(size) / 2, axis=1)))
    return Supercell(
        size,
        ("C",) * len(positions),
        positions,
        site,
        (float(positions[site, 0]), float(positions[site, 1])),
    )


def with_silicon(pristine: Supercell, bond_A: float = 1.6) -> Supercell:
    """A silicon atom in place of a carbon atom, bound to three ("3-fold").

    Its neighbours are pushed out until the bond, seen along the beam, is `bond_A`; atoms further
    out by as much less as they are further away. Silicon bulges out of the plane, which a phase
    object does not tell; 1.6 Å is our projection of the 1.69 Å and 0.5 Å of density functional
    theory (Zhou et al., Phys. Rev. Lett. 109, 206803, 2012).
    """
    elements = list(pristine.elements)
    elements[pristine.site] = "Si"
    offset = pristine.positions_A - np.array(pristine.site_A)
    distance = np.linalg.norm(offset, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        push = np.where(distance > 0, (bond_A - BOND_A) * BOND_A / distance**2, 0.0)
    push[distance > 4 * BOND_A] = 0
    return replace(
        pristine,
        elements=tuple(elements),
        positions_A=pristine.positions_A + np.nan_to_num(push)[:, None] * offset,
    )


def with_vacancy(pristine: Supercell) -> Supercell:
    """One atom taken out, the others left where they are."""
    keep = [i for i in range(len(pristine.elements)) if i != pristine.site]
    return replace(
        pristine,
        elements=tuple(pristine.elements[i] for i in keep),
        positions_A=pristine.positions_A[keep],
        site=-1,
    )


def shaken_positions(positions_A: Floats, msd_A2: float, seed: int) -> Floats:
    """Positions (atoms, 2 or 3) displaced at random (Einstein model), `msd_A2` along each axis."""
    draw = np.random.default_rng(seed)
    return positions_A + draw.normal(0, math.sqrt(msd_A2), positions_A.shape)


def centred_start(
    cell: Supercell, scan_shape: tuple[int, int], scan_step_A: tuple[float, float]
) -> tuple[float, float]:
    """Where a scan must start to have the cell's site in its middle."""
    row, column = (
        at - step * (n - 1) / 2
        for at, n, step in zip(cell.site_A, scan_shape, scan_step_A, strict=True)
    )
    return row, column


def simulate_supercell(
    cell: Supercell,
    probe: Probe | None = None,
    *,
    shape: tuple[int, int] = (64, 64),
    oversample: int = 2,
    scan_shape: tuple[int, int] = (64, 64),
    scan_step_A: tuple[float, float] = (0.176, 0.176),
    start_A: tuple[float, float] | None = None,
    msd_A2: float = 0.0,
    phonon_seeds: tuple[int, ...] = (),
    name: str = "supercell",
) -> Scan4D:
    """A scan without noise; frames float32, fraction of the beam's electrons in each pixel.

    Parameters
    ----------
    start_A : (row, column) of the first point; None: the cell's site is in the middle.
    msd_A2 : mean square displacement along one axis. Without `phonon_seeds` it smears the
        potential; with them every seed displaces the atoms anew and patterns are averaged.

    Raises
    ------
    UserError : a scan too coarse for the size of the source; see `probe.source_fwhm_A`.
    """
    probe = probe or Probe()
    camera = cell.camera(probe, shape, oversample)
    margin = source_margin(probe, scan_step_A)
    start = start_A or centred_start(cell, scan_shape, scan_step_A)
    wide = (scan_shape[0] + 2 * margin[0], scan_shape[1] + 2 * margin[1])
    first = (start[0] - margin[0] * scan_step_A[0], start[1] - margin[1] * scan_step_A[1])
    positions = scan_positions(wide, scan_step_A, first).reshape(-1, 2)
    frames = np.zeros((len(positions), *shape), np.float32)
    for seed in phonon_seeds or (None,):
        moved = cell
        if seed is not None:
            moved = replace(cell, positions_A=shaken_positions(cell.positions_A, msd_A2, seed))
        _add_patterns(
            frames,
            moved,
            probe,
            camera,
            positions,
            oversample,
            msd_A2 if seed is None else 0.0,
            1 / max(len(phonon_seeds), 1),
        )
    scan = frames.reshape(*wide, *shape)
    if probe.source_fwhm_A:
        scan = source_smoothed(scan, probe, scan_step_A)
    return as_scan(np.ascontiguousarray(scan), probe, camera, scan_step_A, name)


def source_smoothed(
    frames: NDArray[np.float32], probe: Probe, scan_step_A: tuple[float, float]
) -> NDArray[np.float32]:
    """Patterns (scan row, scan column, row, column) averaged over the source's image.

    Loses `source_margin` scan points on every side.
    """
    margin = source_margin(probe, scan_step_A)
    sigma = [probe.source_fwhm_A / FWHM_PER_SIGMA / step for step in scan_step_A]
    out = ndimage.gaussian_filter(frames, (*sigma, 0, 0), truncate=TRUNCATE)
    rows, columns = (n - m for n, m in zip(frames.shape[:2], margin, strict=True))
    return np.asarray(out[margin[0] : rows, margin[1] : columns])


def source_margin(probe: Probe, scan_step_A: tuple[float, float]) -> tuple[int, int]:
    """Scan points beyond the scan's rim that the source's size lets in."""
    if probe.source_fwhm_A == 0:
        return 0, 0
    sigma = probe.source_fwhm_A / FWHM_PER_SIGMA
    if max(scan_step_A) > sigma:
        raise UserError(
            "scan_step_A",
            f"{max(scan_step_A)} Å",
            f"at most {sigma:.2f} Å, to add up a source of {probe.source_fwhm_A} Å",
            "take a finer scan step or a larger source",
        )
    row, column = (math.ceil(TRUNCATE * sigma / step) for step in scan_step_A)
    return row, column


def _add_patterns(
    frames: NDArray[np.float32],
    cell: Supercell,
    probe: Probe,
    camera: Camera,
    positions: Floats,
    oversample: int,
    msd_A2: float,
    share: float,
) -> None:
    """Add `share` of the patterns at all positions to `frames`."""
    # beams that reach the camera, and a grid on which none of the others folds back onto it
    step = 1 / np.array(cell.size_A)
    corner = np.hypot(*(camera.wave_vectors(probe.wavelength_A).reshape(2, -1))).max()
    reach = corner + probe.cutoff_per_A + 2 * step.max()
    grid = [scipy.fft.next_fast_len(int(np.ceil((2 * reach) / d)) + 2) for d in step]
    t = _transmission(cell, probe, tuple(grid), reach, msd_A2)
    # with an even number of points per pattern the middle lies between two of them
    fine = [n * oversample for n in camera.shape]
    shift = [((n - 1) / 2) % 1 for n in fine]
    k = [(np.fft.fftfreq(n, 1 / n) + s) * d for n, s, d in zip(grid, shift, step, strict=True)]
    k_row, k_column = k[0][:, None], k[1][None]
    k2 = k_row**2 + k_column**2
    inside = k2 <= probe.cutoff_per_A**2
    pick = [
        (np.arange(n) - int((n - 1) / 2 + s)) % g for n, s, g in zip(fine, shift, grid, strict=True)
    ]
    norm = share / inside.sum()
    for defocus, weight in zip(*probe.defoci(), strict=True):
        wave = np.where(inside, np.exp(1j * np.pi * probe.wavelength_A * defocus * k2), 0)
        wave = wave.astype(np.complex64)
        for first in range(0, len(positions), BLOCK):
            part = positions[first : first + BLOCK]
            row = np.exp(-2j * np.pi * part[:, :1] * k[0]).astype(np.complex64)
            column = np.exp(-2j * np.pi * part[:, 1:] * k[1]).astype(np.complex64)
            psi = wave * row[:, :, None] * column[:, None, :]
            psi = scipy.fft.ifft2(psi, overwrite_x=True)
            psi *= t
            psi = scipy.fft.fft2(psi, overwrite_x=True)
            psi = psi[:, pick[0][:, None], pick[1]]
            intensity = psi.real**2 + psi.imag**2
            intensity = intensity.reshape(
                len(part), camera.shape[0], oversample, camera.shape[1], oversample
            )
            frames[first : first + BLOCK] += intensity.sum((2, 4)) * np.float32(norm * weight)


def _transmission(
    cell: Supercell, probe: Probe, grid: tuple[int, ...], reach: float, msd_A2: float
) -> Complex64:
    """exp(i phi) on a coarse grid, without the beams that do not reach the camera."""
    shape = [scipy.fft.next_fast_len(math.ceil(length / FINE_A)) for length in cell.size_A]
    g = [np.fft.fftfreq(n, length / n) for n, length in zip(shape, cell.size_A, strict=True)]
    length = np.hypot(g[0][:, None], g[1])
    phase = np.zeros(shape, complex)
    for element in sorted(set(cell.elements)):
        at = cell.positions_A[[e == element for e in cell.elements]]
        row = np.exp(-2j * np.pi * np.outer(g[0], at[:, 0]))
        column = np.exp(-2j * np.pi * np.outer(at[:, 1], g[1]))
        phase += (row @ column) * scattering_factor_A(element, length)
    phase *= np.exp(-2 * np.pi**2 * msd_A2 * length**2)
    phase *= probe.relativistic_factor * probe.wavelength_A / math.prod(cell.size_A)
    t = scipy.fft.fft2(np.exp(1j * scipy.fft.ifft2(phase).real * phase.size)) / phase.size
    t = np.where(length <= reach, t, 0)
    index = [np.fft.fftfreq(n, 1 / n).astype(int) for n in grid]
    out: Complex64 = scipy.fft.ifft2(t[index[0][:, None], index[1]] * math.prod(grid)).astype(
        np.complex64
    )
    return out
