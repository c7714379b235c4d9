"""What is stated about a 4D-STEM scan, by its files or by a person; checked before it is used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, ValidationError

from ..optics import electron_wavelength_A

# limits that no instrument passes; a wrong unit does
StepNm = Annotated[float, Field(ge=1e-3, le=2000)]


class ScanMetadata(BaseModel):
    """Every field may be missing; a value out of its range is most often in a wrong unit.

    Attributes
    ----------
    scan_shape : (scan rows, scan columns), where a file holds only a stack of frames.
    voltage_kV : accelerating voltage; the wavelength follows from it.
    pixel_size_mm, camera_length_mm, scan_step_nm, convergence_mrad, gain, pedestal, saturation :
        as in `Scan4D`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    scan_shape: tuple[PositiveInt, PositiveInt] | None = None
    voltage_kV: float | None = Field(None, ge=1, le=3000)
    pixel_size_mm: float | None = Field(None, ge=1e-3, le=1)
    camera_length_mm: float | None = Field(None, ge=1, le=1e5)
    scan_step_nm: tuple[StepNm, StepNm] | None = None
    convergence_mrad: float | None = Field(None, gt=0, le=500)
    gain: PositiveFloat | None = None
    pedestal: float | None = None
    saturation: PositiveFloat | None = None

    @property
    def wavelength_A(self) -> float | None:
        """De Broglie wavelength, None if the voltage is unknown."""
        return None if self.voltage_kV is None else electron_wavelength_A(self.voltage_kV)

    def over(self, other: ScanMetadata) -> ScanMetadata:
        """What this one states, and where it is silent, what `other` does."""
        stated = self.model_dump(exclude_none=True)
        return ScanMetadata(**{**other.model_dump(exclude_none=True), **stated})


def from_file(where: object, fields: Mapping[str, Any]) -> tuple[ScanMetadata, list[str]]:
    """What a file states, and a note for each value that cannot be true and is not used.

    Zeros and NaN, by which many files say "unknown", are passed over without a note if they are
    zero.
    """
    kept, notes = {}, []
    for name, value in fields.items():
        if value is None or (name != "pedestal" and not np.any(np.asarray(value, object))):
            continue
        try:
            ScanMetadata(**{name: value})
        except ValidationError:
            notes.append(f"{name} {value} in {where} cannot be and was not used")
        else:
            kept[name] = value
    return ScanMetadata(**kept), notes
