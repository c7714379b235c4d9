"""Which particles are suitable: isolated by the distance matrix, whole, of the right size.

The distance between two particles is that of their outlines: large crystals may touch with
centres far apart. Every particle that is refused carries its reasons with their numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, model_validator

from .particles import Found


class Reason(StrEnum):
    """Why a particle is not suitable; the value is what stands in the record."""

    NEIGHBOUR = "too near to another particle"
    EDGE = "too near to the edge of the view"
    SMALL = "too small"
    LARGE = "too large"
    FAINT = "too little contrast"
    DARK = "too thick"
    SHAPE = "not convex: likely several crystals"
    UNEVEN = "uneven inside: likely several crystals"


UNITS = {
    Reason.NEIGHBOUR: " um",
    Reason.EDGE: " um",
    Reason.SMALL: " um^2",
    Reason.LARGE: " um^2",
}


class Selection(BaseModel):
    """What a suitable particle must be.

    Attributes
    ----------
    isolation_um : at least from outline to outline of any other particle.
    edge_um : at least from outline to edge of the view: beyond it there may be a neighbour.
    area_um2 : smallest and largest area.
    contrast : smallest and largest mean contrast; electrons must get through.
    solidity : smallest area over that of the convex hull.
    unevenness : largest spread of the mass thickness over its mean.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    isolation_um: NonNegativeFloat = 1.0
    edge_um: NonNegativeFloat = 1.0
    area_um2: tuple[NonNegativeFloat, NonNegativeFloat] = (0.04, 2.0)
    contrast: tuple[NonNegativeFloat, NonNegativeFloat] = (0.06, 0.9)
    solidity: float = Field(default=0.88, ge=0, le=1)
    unevenness: NonNegativeFloat = 0.15

    @model_validator(mode="after")
    def _ordered(self) -> Selection:
        for low, high in (self.area_um2, self.contrast):
            if not low < high:
                raise ValueError("expected [smallest, largest]")
        return self


@dataclass(frozen=True)
class Rejection:
    """One reason against a particle, with the number found and the limit it breaks."""

    reason: Reason
    found: float
    limit: float

    def __str__(self) -> str:
        unit = UNITS.get(self.reason, "")
        return f"{self.reason}: {self.found:.2f}{unit} (limit {self.limit:g}{unit})"


@dataclass(frozen=True)
class Suitability:
    """Whether a particle may be taken; if not, why.

    Attributes
    ----------
    nearest_um : distance of its outline from the next one; infinite if it is alone.
    rejections : none if it is suitable.
    """

    nearest_um: float
    rejections: tuple[Rejection, ...] = ()

    @property
    def suitable(self) -> bool:
        """No reason speaks against it."""
        return not self.rejections

    def __str__(self) -> str:
        return "; ".join(map(str, self.rejections)) or "suitable"


def judge_particles(found: Found, selection: Selection | None = None) -> tuple[Suitability, ...]:
    """The suitability of each particle, in their order."""
    wanted = selection or Selection()
    p = found.particles
    nearest = found.distance_um.min(axis=1, initial=np.inf)
    checks = (  # reason, numbers, limit, refused if
        (Reason.NEIGHBOUR, nearest, wanted.isolation_um, np.less),
        (Reason.EDGE, p.edge_um, wanted.edge_um, np.less),
        (Reason.SMALL, p.area_um2, wanted.area_um2[0], np.less),
        (Reason.LARGE, p.area_um2, wanted.area_um2[1], np.greater),
        (Reason.FAINT, p.contrast, wanted.contrast[0], np.less),
        (Reason.DARK, p.contrast, wanted.contrast[1], np.greater),
        (Reason.SHAPE, p.solidity, wanted.solidity, np.less),
        (Reason.UNEVEN, p.unevenness, wanted.unevenness, np.greater),
    )
    return tuple(
        Suitability(
            float(nearest[i]),
            tuple(
                Rejection(reason, float(numbers[i]), limit)
                for reason, numbers, limit, refused in checks
                if refused(numbers[i], limit)
            ),
        )
        for i in range(len(p))
    )
