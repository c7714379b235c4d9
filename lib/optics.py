"""Electron wavelength."""

from __future__ import annotations

import math

from scipy import constants


def electron_wavelength_A(voltage_kV: float) -> float:
    """De Broglie wavelength in ångström of an electron accelerated through `voltage_kV`.

    lambda = h / sqrt(2 m e V (1 + e V / 2 m c^2)), CODATA constants, never rounded.
    """
    if not voltage_kV > 0:
        raise ValueError(f"voltage_kV: found {voltage_kV}, expected a positive number")
    energy_J = constants.e * voltage_kV * 1e3
    rest_J = constants.m_e * constants.c**2
    momentum = math.sqrt(2 * constants.m_e * energy_J * (1 + energy_J / (2 * rest_J)))
    return constants.h / momentum * 1e10
