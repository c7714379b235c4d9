"""Prepared patterns as if fewer electrons had been recorded."""

from __future__ import annotations

from types import MappingProxyType

import numpy as np

from ..errors import UserError
from .patterns import Patterns

MOST = 0.5  # of the electrons, so that enough are left to compare with


def thinned(patterns: Patterns, electrons: float, seed: int) -> tuple[Patterns, Patterns]:
    """Patterns of so many electrons, and of the others, with independent noise.

    Of the electrons x the part f x + e, e of variance f (1 - f) var x, is as if a fraction f had
    been recorded, and independent of the rest x - f x - e for normal noise (data thinning;
    Neufeld et al., 2024, J. Mach. Learn. Res. 25, 57). To patterns that have no noise yet (those
    with a pseudo-dose) that of so many electrons is added, and the others are they themselves.

    Raises
    ------
    UserError : more than half of the electrons that there are.
    """
    part = electrons / patterns.dose
    clean = bool(patterns.choices.get("pseudo_dose"))
    if part > (1.0 if clean else MOST):
        raise UserError(
            "dose_curve", f"{electrons:.3g} electrons in a pattern",
            f"at most {(1.0 if clean else MOST) * patterns.dose:.3g}, of {patterns.dose:.3g} "
            "recorded", "ask for fewer",
        )  # fmt: skip
    random = np.random.default_rng([seed, 3])
    noise = random.standard_normal(patterns.data.shape, np.float32)
    noise *= np.sqrt(patterns.variance) * ~patterns.mask
    spread = part if clean else part * (1 - part)
    data = np.float32(part) * patterns.data + np.float32(np.sqrt(spread)) * noise
    few = patterns.with_(
        data=data,
        variance=np.float32(part) * patterns.variance,
        mean=part * patterns.mean,
        dose=part * patterns.dose,
        choices=MappingProxyType({**patterns.choices, "pseudo_dose": None}),
    )
    if clean:
        return few, patterns
    rest = patterns.with_(
        data=patterns.data - data,
        variance=np.float32(1 - part) * patterns.variance,
        mean=(1 - part) * patterns.mean,
        dose=(1 - part) * patterns.dose,
    )
    return few, rest
