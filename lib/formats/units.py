"""Units of axes as files write them."""

from __future__ import annotations

import re

_PER_ANGSTROM = {"m": 1e-10, "um": 1e-4, "nm": 0.1, "pm": 1e2, "a": 1.0, "ang": 1.0}


def reciprocal_A(scale: float, units: str) -> float | None:
    """A size in 1/Å from one in ``1/nm``, ``nm^-1``, ``[n_m^-1]`` ...; None for other units."""
    if not scale:
        return None
    text = units.strip("[] ").replace(" ", "").replace("_", "").replace("−", "-").lower()
    text = text.replace("å", "a").replace("angstrom", "a").replace("µ", "u").replace("μ", "u")
    match = re.fullmatch(r"1/([a-z]+)|([a-z]+)\^?\(?-1\)?", text)
    factor = _PER_ANGSTROM.get(match[1] or match[2]) if match else None
    return None if factor is None else scale * factor
