"""Which reflections of a crystal are excited during an exposure, and how much.

The point ``q = R U B h`` has the excitation error ``s = k - |q + s0|`` (as in
`lib.simulation.rocking`). Over an exposure s runs from s1 to s2, linearly in time to good
approximation, so that the rocking curve P (of unit area) is seen as its mean

    Pbar = (C(s2) - C(s1)) / (s2 - s1),    C' = P,

and the crystal scatters, per unit length, the fraction ``rate = (lambda |F| / V)^2 Pbar`` of the
electrons (Williams & Carter, Transmission Electron Microscopy, ch. 13; `lib.simulation.expose`).
P is a Gaussian of standard deviation ``hypot(0.376 / T, eta |g|)``, T being a length
along the beam, of which a share `tail` is replaced by a Lorentzian of the same full width at
half maximum: the mean of the shape function ``sinc^2(pi T s)`` over many T falls as 1 / s^2 too.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .contrast import middle
from .specimen import DIRT, DIRT_FREE_PATH_UM, Phase, Specimen
from .view import View

Floats = NDArray[np.float64]

# Standard deviations of the Gaussian to its half width at half maximum.
HALF_WIDTH = math.sqrt(2.0 * math.log(2.0))

# Excitation errors are followed to so many standard deviations.
REACH = 6.0

# A plate seen more edge-on than this is thick to no more than 1 / that.
EDGE_ON = 0.3

# Pictures show what reflections to here take away; the others take little.
PICTURE_D_MIN_A = 1.2


class Excited(NamedTuple):
    """Reflections of a crystal during an exposure.

    Attributes
    ----------
    row : (m,) in the phase's list.
    mean : (m,) Pbar, Å.
    s1, s2 : (m,) excitation errors at its beginning and end, 1/Å.
    sigma : (m,) of the rocking curve, 1/Å.
    when : (m,) mean time of the scattering, 0 to 1.
    """

    row: NDArray[np.int64]
    mean: Floats
    s1: Floats
    s2: Floats
    sigma: Floats
    when: Floats


@njit(cache=True)
def curve(x: float, tail: float) -> float:
    """P at x standard deviations, times the standard deviation."""
    gauss = math.exp(-0.5 * x * x) / math.sqrt(2.0 * math.pi)
    u = x / HALF_WIDTH
    return (1.0 - tail) * gauss + tail / (math.pi * HALF_WIDTH * (1.0 + u * u))


@njit(cache=True)
def area(x: float, tail: float) -> float:
    """Its integral from 0 to x."""
    gauss = 0.5 * math.erf(x / math.sqrt(2.0))
    return (1.0 - tail) * gauss + tail * math.atan(x / HALF_WIDTH) / math.pi


@njit(cache=True)
def _excite(
    q0: Floats, start: Floats, end: Floats, k: float, size: float, eta: float, tail: float,
    longest: float,
) -> tuple[NDArray[np.int64], Floats, Floats, Floats, Floats, Floats]:  # fmt: skip
    n, found = len(q0), 0
    rows = np.empty(n, np.int64)
    table = np.empty((5, n))
    turn = 0.0  # by how much |s| may change over the exposure, per |q|
    for i in range(3):
        for j in range(3):
            turn += (end[i, j] - start[i, j]) ** 2
    turn = math.sqrt(turn)
    for i in range(n):
        x, y, z = q0[i, 0], q0[i, 1], q0[i, 2]
        q2 = x * x + y * y + z * z
        if q2 > longest * longest:
            continue
        # near the sphere s = -(q_z + q^2 / 2 k) to second order
        rough = start[2, 0] * x + start[2, 1] * y + start[2, 2] * z + q2 / (2.0 * k)
        length = math.sqrt(q2)
        sigma = math.sqrt(size * size + (eta * length) ** 2)
        reach = REACH * sigma
        if abs(rough) > 1.1 * reach + turn * length:
            continue
        a = q2 + 2.0 * k * (start[2, 0] * x + start[2, 1] * y + start[2, 2] * z)
        b = q2 + 2.0 * k * (end[2, 0] * x + end[2, 1] * y + end[2, 2] * z)
        s1 = -a / (k + math.sqrt(k * k + a))
        s2 = -b / (k + math.sqrt(k * k + b))
        if min(s1, s2) > reach or max(s1, s2) < -reach:
            continue
        x1, x2 = s1 / sigma, s2 / sigma
        if abs(x2 - x1) < 1e-3:
            mean = curve(0.5 * (x1 + x2), tail) / sigma
            when = 0.5
        else:
            part = area(x2, tail) - area(x1, tail)
            mean = part / (x2 - x1) / sigma
            # centroid of the Gaussian between the two
            whole = 0.5 * (math.erf(x2 / math.sqrt(2.0)) - math.erf(x1 / math.sqrt(2.0)))
            when = 0.5
            if abs(whole) > 1e-6 * abs(x2 - x1):
                fall = math.exp(-0.5 * x1 * x1) - math.exp(-0.5 * x2 * x2)
                centre = fall / math.sqrt(2.0 * math.pi) / whole
                when = min(max((centre - x1) / (x2 - x1), 0.0), 1.0)
        rows[found] = i
        table[0, found], table[1, found], table[2, found] = mean, s1, s2
        table[3, found], table[4, found] = sigma, when
        found += 1
    t = table[:, :found].copy()
    return rows[:found].copy(), t[0], t[1], t[2], t[3], t[4]


def excited(
    phase: Phase, start: Floats, end: Floats, wavelength_A: float, domain_A: float,
    d_min_A: float = 0.0,
) -> Excited:  # fmt: skip
    """Reflections within reach of the Ewald sphere.

    Parameters
    ----------
    start, end : (3, 3) ``R U`` at both ends of the exposure.
    domain_A : T, along the beam.
    """
    longest = 1 / d_min_A if d_min_A > 0 else np.inf
    eta = math.radians(phase.options.mosaicity_deg)
    return Excited(
        *_excite(
            phase.q0, start, end, 1 / wavelength_A, 0.376 / domain_A, eta, phase.options.tail,
            longest,
        )
    )  # fmt: skip


def along_beam_A(specimen: Specimen, i: int, rotation: Floats, length_A: float) -> float:
    """A length of crystal `i` that its plate may cut short: more of it when the plate is tilted."""
    plate = min(length_A, 1e4 * float(specimen.particles.thickness_um[i]))
    return plate / max(abs(float(rotation[2, 2])), EDGE_ON)


def lost_per_um(specimen: Specimen, i: int, view: View) -> float:
    """What particle `i` takes from the beam per um of path: into reflections, and otherwise."""
    p = specimen.particles
    if p.phase[i] == DIRT:
        return 1 / DIRT_FREE_PATH_UM
    phase = specimen.phases[p.phase[i]]
    rotation = middle(view).rotation
    turned = rotation @ p.orientation[i]
    domain = along_beam_A(specimen, i, rotation, phase.options.domain_A)
    wavelength = view.geometry.wavelength_A
    found = excited(phase, turned, turned, wavelength, domain, PICTURE_D_MIN_A)
    rate = wavelength**2 * float(phase.strength[found.row] @ found.mean)
    return 1 / phase.options.mean_free_path_um + 1e4 * rate
