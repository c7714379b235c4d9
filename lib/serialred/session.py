"""A SerialRED session as its user writes it: configs/sessions/*.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    ValidationError,
)

from ..instrument import first_problem
from ..yaml_file import read_fields
from .isolation import Selection
from .particles import Finding
from .raster import ScanArea
from .settings import RotationSettings

SESSIONS = Path(__file__).resolve().parents[2] / "configs" / "sessions"
Fraction = Annotated[float, Field(ge=0, le=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Imaging(_Strict):
    """How the grid is looked at.

    Attributes
    ----------
    magnification, exposure_s : of a view.
    brightness : of a beam that fills the view.
    overlap_um : of neighbouring views; a crystal with its margins should fit in.
    least_counts : mean counts per pixel below which there is no beam.
    """

    magnification: PositiveInt = 2500
    exposure_s: PositiveFloat = 0.1
    brightness: Fraction = 1.0
    overlap_um: NonNegativeFloat = 1.5
    least_counts: NonNegativeFloat = 1.0


class Diffraction(_Strict):
    """How patterns are taken.

    Attributes
    ----------
    camera_length_mm : as the panel shows it.
    brightness : of the small beam that selects one crystal.
    snapshot_s : exposure of the pattern that decides whether a crystal is worth a series.
    least_quality : lattice-likeness, 0..1, below which it is not.
    """

    camera_length_mm: PositiveFloat = 300.0
    brightness: Fraction = 0.3655
    snapshot_s: PositiveFloat = 0.5
    least_quality: Fraction = 0.3


class Height(_Strict):
    """How crystals are brought to eucentric height.

    Attributes
    ----------
    method : ``swing`` fits the height to the motion on tilting; ``empirical`` is the thesis's
        15 degree method; ``none`` leaves z as it is.
    every_um : the height is adjusted when the last adjustment is farther away than this.
    exposure_s : of the images on the way.
    limit_um : z is never changed by more than this in all from where it was at the start.
    """

    method: Literal["swing", "empirical", "none"] = "swing"
    every_um: PositiveFloat = 20.0
    exposure_s: PositiveFloat = 0.1
    limit_um: PositiveFloat = 50.0


class Stop(_Strict):
    """When the session ends; whichever comes first. The scan area ends it in any case.

    Attributes
    ----------
    crystals : series that reached their whole range.
    hours : of the instrument's time.
    beam_hours : that the beam was on the specimen.
    failures : crystals in a row on which the instrument failed.
    completeness : 0..1, that every phase of at least `completeness_series` series reached when
        the series so far were merged; to the resolution of the merge.
    completeness_series : phases of fewer series are not waited for.
    """

    crystals: PositiveInt | None = None
    hours: PositiveFloat | None = None
    beam_hours: PositiveFloat | None = None
    failures: PositiveInt = 3
    completeness: Annotated[float, Field(gt=0, le=1)] | None = None
    completeness_series: PositiveInt = 3

    def complete(self, phases: Mapping[str, tuple[int, float]]) -> str:
        """Why a session is complete, one line; "" while it is not.

        Parameters
        ----------
        phases : (series merged, completeness 0..1) by name of the phase.
        """
        counted = {
            name: complete
            for name, (series, complete) in phases.items()
            if series >= self.completeness_series
        }
        if self.completeness is None or not counted:
            return ""
        if min(counted.values()) < self.completeness:
            return ""
        told = ", ".join(f"{name} to {100 * value:.0f} %" for name, value in counted.items())
        return f"Every phase is complete to {100 * self.completeness:g} %: {told}."


class SessionConfig(_Strict):
    """A session.

    Attributes
    ----------
    name : of the session and of its folder.
    instrument : as in configs/instruments, or a YAML file.
    area : where to look, stage coordinates.
    imaging, diffraction, height, rotation, stop : see there.
    finding, selection : what a particle is, and a suitable one.
    views_per_block : the best crystals of so many views are taken before looking further.
    approach_um : way on which x and y arrive from below, against their play; 0: directly.
    sample : what is looked at, as in configs/samples, or a YAML file; None if not known.
    dose_rate_e_per_A2_s : of the small beam, for the record; None if not known.
    options : of the simulated instrument, such as its seed.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9_.+-]+$")
    instrument: str
    area: ScanArea
    imaging: Imaging = Imaging()
    finding: Finding = Finding()
    selection: Selection = Selection()
    height: Height = Height()
    diffraction: Diffraction = Diffraction()
    rotation: RotationSettings = RotationSettings()
    stop: Stop = Stop()
    views_per_block: PositiveInt = 9
    approach_um: NonNegativeFloat = 3.0
    sample: str | None = None
    dose_rate_e_per_A2_s: PositiveFloat | None = None
    options: dict[str, object] = Field(default_factory=dict)


def load_session(name_or_path: str | Path) -> SessionConfig:
    """A session by its name in configs/sessions, or from a YAML file anywhere.

    Raises
    ------
    UserError : no such session or file; or a field that is unknown, missing or wrong.
    """
    path = Path(name_or_path)
    if path.suffix not in {".yaml", ".yml"}:
        path = SESSIONS / f"{name_or_path}.yaml"
    known = ", ".join(sorted(one.stem for one in SESSIONS.glob("*.yaml")))
    content = read_fields(
        path, "a session", expected=f"a YAML file, or one of {known}", do="check the name"
    )
    try:
        return SessionConfig.model_validate(content)
    except ValidationError as error:
        raise first_problem(path, error) from None
