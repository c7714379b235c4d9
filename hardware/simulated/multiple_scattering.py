"""Multiple scattering within and between the coherent blocks of a crystal.

*Within a block* of length T amplitudes add up. The second order of the many-beam equations
``dphi_g/dz = 2 pi i s_g phi_g + i (lambda / V) sum_g' F_(g-g') phi_g'`` (A. Howie and M. J. Whelan,
Proc. R. Soc. A263, 217, 1961) gives a reflection at its Bragg position the structure factor

    F_g + i (lambda T / V) sum_g' F_g' F_(g-g') G(2 pi s_g' T),
    G(x) = (1 - cos x) / x^2 + i (1 - sin x / x) / x.

That series knows no end of the direct beam. The two-beam solution does: integrated over the rocking
curve, a reflection of a block has, over its kinematic intensity (M. Blackman, Proc. R. Soc. A173,
68, 1939),

    B(A) = 1/A integral from 0 to A of J_0(2 x) dx,    A = lambda |F_g| T / V = pi T / xi_g,

1 for weak reflections, 1 / 2A for those whose extinction distance xi_g is far below T.

*Between blocks* intensities add up, and the beams obey Darwin's transfer equations for all of
them together,

    dI_g / dt = sum_g' W_gg' (I_g' - I_g),
    W_gg' = (lambda |F_(g-g')| / V)^2 B_(g-g') Pbar(s_g - s_g'),

t being the depth. (For two beams: W. H. Zachariasen, Theory of X-ray Diffraction in Crystals,
1945, ch. IV.) A reflection of no structure factor fills up over pairs g', g - g' that are both
excited; the strongest lose; electrons are conserved.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.special import itj0y0

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Complexes = NDArray[np.complex128]

# So many of the strongest beams, and the direct one, are sources of others.
SOURCES = 32

# B is looked up, linearly in A, to here; beyond it is 1 / 2A.
LARGEST_A, STEP_A = 30.0, 0.02
_A = np.arange(STEP_A, LARGEST_A + 2 * STEP_A, STEP_A)
_B = np.concatenate([[1.0], itj0y0(2 * _A)[0] / (2 * _A)])

# The series ends where all but this share of the electrons is accounted for.
REST = 1e-7


@njit(cache=True)
def blackman(a: float) -> float:
    """B(A); see the module."""
    if a >= LARGEST_A:
        return 0.5 / a
    k = int(a / STEP_A)
    part = a / STEP_A - k
    return (1.0 - part) * _B[k] + part * _B[k + 1]


@njit(cache=True)
def _coherent(
    hkl: Ints, factor: Complexes, s1: Floats, s2: Floats, when: Floats, source: Ints, target: Ints,
    factor_at: Complexes, wavelength_A: float, coherent_A: float, two_beam: bool,
) -> Floats:  # fmt: skip
    strength = factor.real**2 + factor.imag**2
    limit = np.array([n // 2 for n in factor_at.shape])
    for g in target:
        real, imaginary = 0.0, 0.0
        for a in source:
            h0, h1, h2 = hkl[g, 0] - hkl[a, 0], hkl[g, 1] - hkl[a, 1], hkl[g, 2] - hkl[a, 2]
            if g == a or abs(h0) > limit[0] or abs(h1) > limit[1] or abs(h2) > limit[2]:
                continue
            pair = factor[a] * factor_at[h0 + limit[0], h1 + limit[1], h2 + limit[2]]
            x = 2.0 * math.pi * coherent_A * (s1[a] + when[g] * (s2[a] - s1[a]))
            if abs(x) < 0.05:
                even, odd = 0.5, x / 6.0
            else:
                even, odd = (1.0 - math.cos(x)) / (x * x), (1.0 - math.sin(x) / x) / x
            # i (even + i odd) times the pair
            real += -odd * pair.real - even * pair.imag
            imaginary += even * pair.real - odd * pair.imag
        scale = wavelength_A * coherent_A
        strength[g] = (factor[g].real + scale * real) ** 2 + (
            factor[g].imag + scale * imaginary
        ) ** 2
        if two_beam:
            strength[g] *= blackman(scale * math.sqrt(strength[g]))
    return strength


def coherent_strength(
    hkl: Ints, factor: Complexes, s1: Floats, s2: Floats, when: Floats, target: Ints,
    factor_at: Complexes, wavelength_A: float, coherent_A: float, two_beam: bool,
) -> Floats:  # fmt: skip
    """(n,) ``|F|^2 / V^2`` in Å^-4 with double scattering within a coherent block.

    With `two_beam` times Blackman's B.

    `factor` (n,) is ``F / V``, and `when` (n,) the time in the exposure, 0 to 1, at which each
    reflection scatters: the excitation errors of the others are taken then. `target` (k,) are
    those that scatter enough to matter; the others stay kinematic.
    """
    turn = 2 * np.pi * coherent_A * 0.5 * (s1 + s2)
    weight = np.abs(factor) / (1 + np.abs(turn))
    source = np.sort(np.argsort(-weight, kind="stable")[:SOURCES])
    strength: Floats = _coherent(
        hkl, factor, s1, s2, when, source, target, factor_at, wavelength_A, coherent_A, two_beam
    )
    return strength


@njit(cache=True)
def transfer_rates(
    hkl: Ints, s1: Floats, s2: Floats, sigma: Floats, source: Ints, factor_at: Complexes,
    wavelength_A: float, block_A: float,
) -> Floats:  # fmt: skip
    """(sources, beams) W in 1/Å from each source to each beam; see the module.

    The exposure widens the Gaussian by the sweep of s_g - s_g', as if that were Gaussian.
    `block_A` is the T of Blackman's B; 0: kinematic.
    """
    rates = np.zeros((len(source), len(hkl)))
    limit = np.array([n // 2 for n in factor_at.shape])
    for j in range(len(source)):
        a = source[j]
        for g in range(len(hkl)):
            h0, h1, h2 = hkl[g, 0] - hkl[a, 0], hkl[g, 1] - hkl[a, 1], hkl[g, 2] - hkl[a, 2]
            if g == a or abs(h0) > limit[0] or abs(h1) > limit[1] or abs(h2) > limit[2]:
                continue
            factor = factor_at[h0 + limit[0], h1 + limit[1], h2 + limit[2]]
            strength = factor.real * factor.real + factor.imag * factor.imag
            if strength <= 0.0:
                continue
            from_, to = s1[g] - s1[a], s2[g] - s2[a]
            width2 = sigma[g] ** 2 + (to - from_) ** 2 / 12.0
            s = 0.5 * (from_ + to)
            x2 = s * s / width2
            if x2 < 25.0:
                mean = math.exp(-0.5 * x2) / math.sqrt(2.0 * math.pi * width2)
                rates[j, g] = wavelength_A * wavelength_A * strength * mean
                if block_A > 0.0:
                    rates[j, g] *= blackman(wavelength_A * math.sqrt(strength) * block_A)
    return rates


@njit(cache=True)
def _spread(direct: Floats, source: Ints, rates: Floats, thickness_A: float) -> Floats:
    """Shares of the direct beam (first) and all others behind the crystal.

    By uniformisation, exp(M t) = sum_n Poisson(n; L t) (1 + M / L)^n, in which no term is
    negative.
    """
    n, m = len(direct), len(source)
    out = np.empty(m + 1)
    out[m] = direct.sum()
    for j in range(m):
        out[j] = rates[j].sum() + direct[source[j]]
    fastest = out.max()
    total = np.zeros(n + 1)
    total[0] = 1.0
    if fastest * thickness_A <= 0.0:
        return total
    mean = fastest * thickness_A
    state, weight = total.copy(), math.exp(-mean)
    given = weight
    total = weight * state
    k = 0
    while given < 1.0 - REST and k < 400:
        k += 1
        new = state.copy()
        part = state[0] / fastest
        new[0] -= part * out[m]
        for g in range(n):
            new[g + 1] += part * direct[g]
        for j in range(m):
            part = state[source[j] + 1] / fastest
            if part <= 0.0:
                continue
            new[source[j] + 1] -= part * out[j]
            new[0] += part * direct[source[j]]
            for g in range(n):
                new[g + 1] += part * rates[j, g]
        state = new
        weight *= mean / k
        given += weight
        total += weight * state
    return total / total.sum()


def beams_behind(
    hkl: Ints, rate: Floats, s1: Floats, s2: Floats, sigma: Floats, factor_at: Complexes,
    wavelength_A: float, thickness_A: float, block_A: float = 0.0,
) -> tuple[float, Floats]:  # fmt: skip
    """Shares of the electrons in the direct beam and in the reflections behind a crystal.

    Parameters
    ----------
    hkl : (n, 3) of the excited reflections.
    rate : (n,) from the direct beam, 1/Å.
    s1, s2, sigma : (n,) excitation errors at both ends of the exposure, rocking widths, 1/Å.
    factor_at : ``F / V`` by index, see `specimen.Phase`.
    block_A : see `transfer_rates`.

    Returns
    -------
    A number and (n,); all together are 1.
    """
    if not len(rate):
        return 1.0, np.zeros(0)
    strongest = np.argsort(-rate, kind="stable")[:SOURCES]
    source = np.sort(strongest[rate[strongest] > 1e-3 * rate[strongest[0]]])
    rates = transfer_rates(hkl, s1, s2, sigma, source, factor_at, wavelength_A, block_A)
    shares = _spread(rate, source, rates, thickness_A)
    return float(shares[0]), shares[1:]
