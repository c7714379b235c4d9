"""Fast exact 4D-STEM patterns of a periodic phase object.

A specimen one slice thick multiplies the probe by ``t(r) = exp(i phi(r))`` with Fourier
coefficients t_g, so at probe position r

    psi(k; r) = sum_g t_g P(k - g) exp(2 pi i g.r),
    I(k; r) = sum_q W_q(k) exp(2 pi i q.r),  W_q(k) = sum_g t_g t*_(g-q) P(k - g) P*(k - g + q).

W_q vanishes beyond |q| = 2 alpha / lambda, where two discs no longer overlap (Rodenburg,
McCallum and Nellist, Ultramicroscopy 48, 304, 1993): graphene at 60 kV and 31 mrad has 31 of
them, and any scan is one small real matrix product. Averages over a pixel's area and, in closed
form, over a Gaussian spread of defocus act on W_q once; the source's size multiplies it by a
Gaussian of q.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from ..stem4d.scan import Scan4D, scan_of
from .crystal import PlaneCrystal, graphene, scattering_factor_A
from .probe import FWHM_PER_SIGMA, Camera, Probe

Floats = NDArray[np.float64]
Floats32 = NDArray[np.float32]
Complex = NDArray[np.complex128]

PIXEL_MM = 0.055  # nominal: only its ratio to the camera length has a meaning here
BLOCK = 1024  # patterns made at a time


def transmission(crystal: PlaneCrystal, probe: Probe, grid: int = 96) -> Complex:
    """Fourier coefficients (grid, grid) of exp(i phi), index (h, k) as of `numpy.fft.fftfreq`.

    phi_g = gamma lambda / area * sum_j f_j(g) exp(-2 pi² u² g²) exp(-2 pi i g.x_j).
    """
    index = np.fft.fftfreq(grid, 1 / grid)
    g = np.stack(np.meshgrid(index, index, indexing="ij"), -1) @ crystal.reciprocal_per_A
    length = np.linalg.norm(g, axis=-1)
    phase_g = np.zeros((grid, grid), complex)
    for element, position in zip(crystal.elements, crystal.positions_A, strict=True):
        phase_g += scattering_factor_A(element, length) * np.exp(-2j * np.pi * (g @ position))
    phase_g *= np.exp(-2 * np.pi**2 * crystal.msd_A2 * length**2)
    phase_g *= probe.relativistic_factor * probe.wavelength_A / crystal.area_A2
    t: Complex = np.fft.fft2(np.exp(1j * np.fft.ifft2(phase_g).real * grid**2)) / grid**2
    return t


@dataclass(frozen=True)
class Spectrum:
    """The patterns of every probe position: a sum of `patterns` with weights of the position.

    Attributes
    ----------
    q_per_A : (n, 2), the frequencies beside 0; of q and -q only one.
    patterns : (1 + 2 n, rows, columns) float32: W_0, then 2 Re W_q, then -2 Im W_q.
    """

    q_per_A: Floats
    patterns: Floats32

    def at(self, positions_A: Floats) -> Floats32:
        """Patterns (..., rows, columns) at positions (..., 2), fraction of the beam per pixel."""
        angle = 2 * np.pi * np.asarray(positions_A, float) @ self.q_per_A.T
        ones = np.ones((*angle.shape[:-1], 1))
        weights = np.concatenate([ones, np.cos(angle), np.sin(angle)], -1).astype(np.float32)
        patterns = np.tensordot(weights, self.patterns, 1)
        return np.maximum(patterns, 0, out=patterns)  # rounding makes zeros negative


def spectrum(
    crystal: PlaneCrystal, probe: Probe, camera: Camera, *, oversample: int = 6
) -> Spectrum:
    """W_q of a crystal, averaged over each pixel's area on `oversample`² sub-pixels.

    Fractions of the beam's electrons per pixel: a camera that catches all of them sums to 1.
    """
    t = transmission(crystal, probe)
    k = camera.wave_vectors(probe.wavelength_A, oversample)
    reach = float(np.sqrt((k**2).sum(0).max())) + probe.cutoff_per_A
    indices = np.stack(np.meshgrid(*[np.fft.fftfreq(len(t), 1 / len(t))] * 2, indexing="ij"), -1)
    indices = indices.reshape(-1, 2).astype(np.int64)
    lengths = np.linalg.norm(indices @ crystal.reciprocal_per_A, axis=1)
    beams = indices[lengths <= reach]
    half = (indices[:, 0] > 0) | ((indices[:, 0] == 0) & (indices[:, 1] >= 0))
    differences = indices[half & (lengths < 2 * probe.cutoff_per_A)]
    differences = differences[np.argsort((differences != 0).any(1), kind="stable")]  # 0 first
    size = 2 * int(np.abs(beams).max()) + 1
    number = np.full((2 * size + 1, 2 * size + 1), -1)
    number[tuple((differences + size).T)] = np.arange(len(differences))
    w = _interference(
        k,
        beams @ crystal.reciprocal_per_A,
        beams,
        t[tuple(beams.T)],
        number,
        len(differences),
        probe.cutoff_per_A,
        np.pi * probe.wavelength_A * probe.defocus_A,
        np.pi * probe.wavelength_A * probe.focus_spread_fwhm_A / FWHM_PER_SIGMA,
    )
    q = differences[1:] @ crystal.reciprocal_per_A
    sigma = probe.source_fwhm_A / FWHM_PER_SIGMA
    w[1:] *= 2 * np.exp(-2 * np.pi**2 * sigma**2 * (q**2).sum(1))[:, None, None]
    pixel_area = np.prod(np.array(camera.pixel_mrad)) * 1e-6 / probe.wavelength_A**2
    w *= pixel_area / (np.pi * probe.cutoff_per_A**2)
    return Spectrum(q, np.concatenate([w.real, -w[1:].imag]).astype(np.float32))


@numba.njit(cache=True)
def _interference(
    k: Floats,
    g: Floats,
    indices: NDArray[np.int64],
    t: Complex,
    number: NDArray[np.int64],
    count: int,
    cutoff: float,
    defocus: float,
    spread: float,
) -> Complex:
    """(count, rows, columns): W_q, of every pair of beams whose discs a sub-pixel lies in."""
    _, rows, fine, columns, _ = k.shape
    out = np.zeros((count, rows, columns), np.complex128)
    inside = np.zeros(len(g), np.int64)
    distance = np.zeros(len(g))
    origin = number.shape[0] // 2
    for row in range(rows):
        for column in range(columns):
            for sub in range(fine * fine):
                y = k[0, row, sub // fine, column, sub % fine]
                x = k[1, row, sub // fine, column, sub % fine]
                n = 0
                for beam in range(len(g)):
                    k2 = (y - g[beam, 0]) ** 2 + (x - g[beam, 1]) ** 2
                    if k2 <= cutoff * cutoff:
                        inside[n], distance[n] = beam, k2
                        n += 1
                for a in range(n):
                    for b in range(n):
                        one, two = inside[a], inside[b]
                        q = number[
                            origin + indices[one, 0] - indices[two, 0],
                            origin + indices[one, 1] - indices[two, 1],
                        ]
                        if q >= 0:
                            d = distance[a] - distance[b]
                            factor = np.exp(1j * defocus * d - 0.5 * (spread * d) ** 2)
                            out[q, row, column] += t[one] * np.conj(t[two]) * factor
    out /= fine * fine
    return out


def scan_positions(
    scan_shape: tuple[int, int],
    scan_step_A: tuple[float, float],
    start_A: tuple[float, float] = (0.0, 0.0),
) -> Floats:
    """(scan rows, scan columns, 2) positions (row, column) in ångström."""
    axes = [
        first + step * np.arange(n)
        for n, step, first in zip(scan_shape, scan_step_A, start_A, strict=True)
    ]
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1)


def simulate_crystal(
    crystal: PlaneCrystal,
    probe: Probe | None = None,
    camera: Camera | None = None,
    *,
    scan_shape: tuple[int, int] = (64, 64),
    scan_step_A: tuple[float, float] = (0.176, 0.176),
    start_A: tuple[float, float] = (0.0, 0.0),
    oversample: int = 6,
    name: str = "simulated",
) -> Scan4D:
    """A scan without noise; frames float32, fraction of the beam's electrons in each pixel.

    The default step is a 14th of graphene's lattice constant, as in the paper.
    """
    probe, camera = probe or Probe(), camera or Camera()
    found = spectrum(crystal, probe, camera, oversample=oversample)
    positions = scan_positions(scan_shape, scan_step_A, start_A).reshape(-1, 2)
    frames = np.empty((len(positions), *camera.shape), np.float32)
    for first in range(0, len(positions), BLOCK):
        frames[first : first + BLOCK] = found.at(positions[first : first + BLOCK])
    return as_scan(frames.reshape(*scan_shape, *camera.shape), probe, camera, scan_step_A, name)


def simulate_graphene(msd_A2: float = 0.0, **options: Any) -> Scan4D:
    """A scan of pristine graphene; options as of `simulate_crystal`."""
    return simulate_crystal(graphene(msd_A2), name="graphene", **options)


def as_scan(
    frames: Floats32,
    probe: Probe,
    camera: Camera,
    scan_step_A: tuple[float, float],
    name: str,
) -> Scan4D:
    """A scan of simulated frames (scan row, scan column, row, column) with what made them."""
    return scan_of(
        frames,
        name,
        wavelength_A=probe.wavelength_A,
        pixel_size_mm=PIXEL_MM,
        camera_length_mm=PIXEL_MM / (camera.pixel_mrad[1] * 1e-3),
        scan_step_nm=(scan_step_A[0] / 10, scan_step_A[1] / 10),
        convergence_mrad=probe.semi_angle_mrad,
        instrument="simulated",
        notes=("simulated without noise: a frame holds fractions of the beam's electrons",),
    )


def with_dose(scan: Scan4D, electrons: float, seed: int, gain: float = 1.0) -> Scan4D:
    """Counts of a noise-free scan: Poisson electrons with `electrons` in the beam, times `gain`.

    Frames are uint32 where the gain is 1, otherwise float32. The same seed gives the same counts.
    """
    if not electrons > 0:
        raise ValueError(f"electrons: found {electrons}, expected a positive number")
    draw = np.random.default_rng(seed)
    counts = draw.poisson(np.asarray(scan.frames, float) * electrons)
    frames = counts.astype(np.uint32) if gain == 1 else (counts * gain).astype(np.float32)
    return scan.with_(
        frames=frames,
        gain=float(gain),
        notes=(f"simulated with {electrons:g} electrons in the beam, seed {seed}",),
    )
