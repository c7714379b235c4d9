"""Electron wavelength."""

from __future__ import annotations

import math

# CODATA 2022, SI units; all but the electron's mass are exact by definition. Written out, as
# to import scipy.constants takes longer than to read a series.
PLANCK = 6.62607015e-34
ELEMENTARY_CHARGE = 1.602176634e-19
LIGHT_SPEED = 299792458.0
ELECTRON_MASS = 9.1093837139e-31


def electron_wavelength_A(voltage_kV: float) -> float:
    """De Broglie wavelength in ångström of an electron accelerated through `voltage_kV`.

    lambda = h / sqrt(2 m e V (1 + e V / 2 m c^2)), CODATA constants, never rounded.
    """
    if not voltage_kV > 0:
        raise ValueError(f"voltage_kV: found {voltage_kV}, expected a positive number")
    energy_J = ELEMENTARY_CHARGE * voltage_kV * 1e3
    rest_J = ELECTRON_MASS * LIGHT_SPEED**2
    momentum = math.sqrt(2 * ELECTRON_MASS * energy_J * (1 + energy_J / (2 * rest_J)))
    return PLANCK / momentum * 1e10
