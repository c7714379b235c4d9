"""The simulated series by which the reduction engine is measured."""

from __future__ import annotations

from typing import Any

from ..errors import UserError
from ..series.rotation_series import RotationSeries
from .conditions import (
    Beam,
    Crystal,
    Detector,
    HeaderErrors,
    RockingShape,
    default_geometry,
    random_rotation,
)
from .simulate import simulate_series
from .structures import zeolite
from .truth import Truth

STANDARD_RANGES_DEG = (10, 20, 30, 45, 60)

# Frames in a standard series of so many degrees: steps of 0.2 to 0.5 degrees.
STANDARD_FRAMES = {5: 25, 10: 50, 20: 80, 30: 100, 45: 120, 60: 120}

# What each stress changes in the standard series of 30 degrees.
STRESSES: dict[str, dict[str, Any]] = {
    "drift 5 px": {"drift_px": 5.0},
    "axis 6 deg off": {"axis_error_deg": 6.0},
    "dose / 33": {"dose": 1 / 33},
    "5 deg only": {"range_deg": 5},
    "ellipse 3 %": {"ellipse_ratio": 1.03},
    "detector x16": {"detector": Detector(gain=16.0, saturation=65535.0)},
    "detector / 16": {"detector": Detector(gain=1 / 16, saturation=738.0)},
    "noise only": {"shares": (), "detector": Detector(zingers_per_frame=30.0)},
    "two lattices 60:40": {"shares": (0.6, 0.4)},
    "a third alien": {"alien_fraction": 1 / 3},
    # Beyond the bars: crystals unlike the engine's models.
    "lorentzian rocking": {"rocking": "lorentzian"},
    "sinc2 rocking": {"rocking": "sinc2"},
    "leakage 19 %": {"leakage": 0.19},
    "illumination 50 %": {"illumination_change": 0.5},
}


def standard_set(
    code: str,
    range_deg: int,
    seed: int,
    *,
    drift_px: float = 1.5,
    ellipse_ratio: float = 1.01,
    axis_error_deg: float = 0.3,
    beam_error_px: float = 0.7,
    blank_every: int = 10,
    dose: float = 1.0,
    detector: Detector | None = None,
    shares: tuple[float, ...] = (1.0,),
    alien_fraction: float = 0.0,
    rocking: RockingShape = "gaussian",
    leakage: float = 0.0,
    illumination_change: float = 0.0,
    name: str | None = None,
) -> tuple[RotationSeries, Truth]:
    """One of the standard series; the bars are for MFI and MOR, 5 ranges, 3 seeds.

    Parameters
    ----------
    code : zeolite, by its IZA code.
    range_deg : one of `STANDARD_FRAMES`; the series is centred on zero.
    seed : gives the orientations too.
    drift_px, ellipse_ratio, axis_error_deg, beam_error_px, blank_every : the usual troubles.
    dose : relative to the default beam.
    detector : other than the default Timepix.
    shares : of the beam, of each of one or more crystals in random orientations.
    alien_fraction, rocking, leakage, illumination_change : see `simulate_series`, `Crystal` and
        `Beam`.
    """
    if range_deg not in STANDARD_FRAMES:
        ranges = ", ".join(map(str, STANDARD_FRAMES))
        raise UserError("range_deg", str(range_deg), f"one of {ranges}", "use simulate_series")
    structure = zeolite(code)
    usual = Beam()
    n_frames = STANDARD_FRAMES[range_deg]
    return simulate_series(
        [
            Crystal(structure, random_rotation([seed, i]), share, rocking=rocking, leakage=leakage)
            for i, share in enumerate(shares)
        ],
        geometry=default_geometry(ellipse_ratio),
        n_frames=n_frames,
        angle_start_deg=-range_deg / 2,
        step_deg=range_deg / n_frames,
        seed=seed,
        beam=Beam(
            electrons_per_deg=usual.electrons_per_deg * dose,
            drift_px=drift_px,
            illumination_change=illumination_change,
        ),
        detector=detector,
        header=HeaderErrors(axis_deg=axis_error_deg, beam_px=beam_error_px),
        blank_every=blank_every,
        alien_fraction=alien_fraction,
        name=name or f"{code} {range_deg} deg, seed {seed}",
    )


def stress_set(stress: str, seed: int = 1, code: str = "MFI") -> tuple[RotationSeries, Truth]:
    """The standard series of 30 degrees with one trouble made much worse, by name."""
    if stress not in STRESSES:
        raise UserError("stress", repr(stress), f"one of {', '.join(STRESSES)}", "choose one")
    changes = {"range_deg": 30, "name": f"{code}, {stress}, seed {seed}", **STRESSES[stress]}
    return standard_set(code, seed=seed, **changes)


def demo_series(seed: int) -> tuple[RotationSeries, Truth]:
    """A small ZSM-5 series of 60 frames over 30 degrees, with little wrong."""
    return simulate_series(
        [Crystal(zeolite("MFI"), random_rotation([seed, 0]))],
        geometry=default_geometry(ellipse_ratio=1.005),
        n_frames=60,
        angle_start_deg=-15.0,
        step_deg=0.5,
        seed=seed,
        beam=Beam(drift_px=0.5),
        header=HeaderErrors(axis_deg=0.2, beam_px=0.5),
        name="demo",
    )
