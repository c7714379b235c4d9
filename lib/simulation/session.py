"""A simulated session: rotation series of many crystals, of several phases, some of them junk.

Every series is drawn from a plan of its own (small, and of plain numbers), so that series can be
made one at a time, in any order and by several processes, and are the same to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import gemmi
import numpy as np

from ..errors import UserError
from ..series.rotation_series import RotationSeries
from .conditions import Beam, Crystal, HeaderErrors, default_geometry, random_rotation
from .simulate import simulate_series
from .structures import caesium_mordenite, garnet, zeolite
from .truth import Truth

Kind = Literal["good", "two crystals", "no crystal", "moved out"]
JUNK: tuple[Kind, ...] = ("two crystals", "no crystal", "moved out")

PHASES: dict[str, Callable[[], gemmi.SmallStructure]] = {
    "MFI": lambda: zeolite("MFI"),
    "MOR": lambda: zeolite("MOR"),
    "CHA": lambda: zeolite("CHA"),
    "Cs-MOR": caesium_mordenite,
    "andradite": garnet,
}

# Of the series' ranges, and what a frame covers.
RANGES_DEG = (5.0, 60.0)
STEPS_DEG = (0.25, 0.5)
TILT_LIMIT_DEG = 65.0

# A crystal that moves out does so here; the stage keeps turning.
LEAVES_AFTER_DEG = 3.0


@dataclass(frozen=True)
class SeriesPlan:
    """All there is to know about one series of a session before it is simulated.

    Attributes
    ----------
    name : of the series.
    kind : good, or what is wrong with it.
    phases : of the crystals in the beam, by the names in `PHASES`; () without a crystal.
    shares : of the beam, of each crystal.
    n_frames, step_deg, angle_start_deg : the rotation.
    dose : electrons per degree over the default beam's.
    thickness_A, mosaicity_deg : of the crystals.
    drift_px, illumination_change, crystal_stays_deg : see `Beam`.
    ellipse_ratio : true distortion, of which the headers say nothing.
    axis_error_deg, beam_error_px, distance_error_percent : of the headers.
    seed : of orientations, drift and noise.
    """

    name: str
    kind: Kind
    phases: tuple[str, ...]
    shares: tuple[float, ...]
    n_frames: int
    step_deg: float
    angle_start_deg: float
    dose: float
    thickness_A: float
    mosaicity_deg: float
    drift_px: float
    illumination_change: float
    crystal_stays_deg: float
    ellipse_ratio: float
    axis_error_deg: float
    beam_error_px: float
    distance_error_percent: float
    seed: int

    @property
    def range_deg(self) -> float:
        """Rotation of the stage."""
        return self.n_frames * self.step_deg

    @property
    def phase(self) -> str:
        """The phase a good series is of; empty for junk."""
        return self.phases[0] if self.kind == "good" else ""


@dataclass(frozen=True)
class SimulatedSeries:
    """One series of a session with its truth."""

    plan: SeriesPlan
    series: RotationSeries
    truth: Truth


def simulated_session(
    seed: int,
    n: int = 40,
    *,
    phases: tuple[str, ...] = ("MFI", "MOR"),
    junk: float = 0.2,
    ranges_deg: tuple[float, float] = RANGES_DEG,
) -> Iterator[SimulatedSeries]:
    """The series of a session, one at a time; parameters as of `session_plan`."""
    for plan in session_plan(seed, n, phases=phases, junk=junk, ranges_deg=ranges_deg):
        yield simulate_plan(plan)


def similar_session(seed: int, n: int = 40) -> tuple[SeriesPlan, ...]:
    """The plan of a session with a third phase whose cell is within 0.5 % of another's.

    Mordenite with caesium in its channels beside plain mordenite and ZSM-5: only intensities tell
    them apart (the true |F|^2 of the two mordenites correlate by 0.83).
    """
    return session_plan(seed, n, phases=("MFI", "MOR", "Cs-MOR"))


def session_plan(
    seed: int,
    n: int = 40,
    *,
    phases: tuple[str, ...] = ("MFI", "MOR"),
    junk: float = 0.2,
    ranges_deg: tuple[float, float] = RANGES_DEG,
) -> tuple[SeriesPlan, ...]:
    """What a session consists of.

    Parameters
    ----------
    seed : of everything random.
    n : number of series.
    phases : names in `PHASES`; good series are shared out evenly.
    junk : part of the series that is junk, of the three kinds in turn.
    ranges_deg : shortest and longest range; even in the logarithm between.

    Raises
    ------
    UserError : for an unknown phase, or a part or range that makes no sense.
    """
    for phase in phases:
        if phase not in PHASES:
            raise UserError("phases", repr(phase), f"some of {', '.join(PHASES)}", "choose those")
    if n < 1 or not phases or not 0 <= junk <= 1 or not 0 < ranges_deg[0] <= ranges_deg[1] <= 120:
        raise UserError(
            "session", f"n = {n}, {len(phases)} phases, junk = {junk:g}, ranges {ranges_deg}",
            "at least one series and phase, a part of 0 to 1, ranges up to 120 degrees",
            "correct it",
        )  # fmt: skip
    rng = np.random.default_rng([seed, 0])
    n_junk = round(junk * n)
    kinds: list[Kind] = [JUNK[i % len(JUNK)] for i in range(n_junk)]
    kinds += ["good"] * (n - n_junk)
    order = rng.permutation(n)
    # One microscope: its ellipse, and an error of the camera length that all series share.
    ellipse, distance_percent = 1 + 0.01 * rng.random(), float(rng.normal(0, 0.5))
    plans, n_good = [], 0
    for place, which in enumerate(order):
        kind = kinds[which]
        first = phases[n_good % len(phases)]
        n_good += kind == "good"
        own = np.random.default_rng([seed, 1, place])
        plans.append(
            _plan(f"crystal_{place + 1:04d}", kind, first, phases, ranges_deg, ellipse,
                  distance_percent, int(own.integers(2**31)), own)
        )  # fmt: skip
    return tuple(plans)


def _plan(
    name: str, kind: Kind, first: str, phases: tuple[str, ...], ranges_deg: tuple[float, float],
    ellipse: float, distance_percent: float, seed: int, rng: np.random.Generator,
) -> SeriesPlan:  # fmt: skip
    step = float(rng.uniform(*STEPS_DEG))
    low, high = ranges_deg
    range_deg = float(np.exp(rng.uniform(np.log(low), np.log(high))))
    if kind == "moved out":
        range_deg = max(range_deg, 4 * LEAVES_AFTER_DEG)
    n_frames = max(int(np.ceil(range_deg / step - 1e-9)), 8)
    latest = TILT_LIMIT_DEG - n_frames * step
    second = str(rng.choice(phases))
    crystals = {"no crystal": (), "two crystals": (first, second)}.get(kind, (first,))
    share = float(rng.uniform(0.5, 0.55))
    return SeriesPlan(
        name=name,
        kind=kind,
        phases=crystals,
        shares={0: (), 1: (1.0,), 2: (share, 1 - share)}[len(crystals)],
        n_frames=n_frames,
        step_deg=step,
        angle_start_deg=float(rng.uniform(-TILT_LIMIT_DEG, max(latest, -TILT_LIMIT_DEG))),
        dose=float(np.exp(rng.uniform(np.log(0.2), np.log(1.5)))),
        thickness_A=float(rng.uniform(150, 400)),
        mosaicity_deg=float(rng.uniform(0.05, 0.2)),
        drift_px=float(rng.uniform(0, 2)),
        illumination_change=float(rng.uniform(0, 0.3)),
        crystal_stays_deg=LEAVES_AFTER_DEG if kind == "moved out" else np.inf,
        ellipse_ratio=ellipse,
        axis_error_deg=float(rng.normal(0, 0.3)),
        beam_error_px=float(rng.uniform(0, 1)),
        # the height of the specimen changes from crystal to crystal
        distance_error_percent=distance_percent + float(rng.normal(0, 0.2)),
        seed=seed,
    )


def simulate_plan(plan: SeriesPlan) -> SimulatedSeries:
    """Simulate one series of a session."""
    usual = Beam()
    series, truth = simulate_series(
        [
            Crystal(
                PHASES[phase](), random_rotation([plan.seed, i]), share,
                thickness_A=plan.thickness_A, mosaicity_deg=plan.mosaicity_deg,
            )
            for i, (phase, share) in enumerate(zip(plan.phases, plan.shares, strict=True))
        ],
        geometry=default_geometry(plan.ellipse_ratio),
        n_frames=plan.n_frames,
        step_deg=plan.step_deg,
        angle_start_deg=plan.angle_start_deg,
        seed=plan.seed,
        beam=Beam(
            electrons_per_deg=usual.electrons_per_deg * plan.dose,
            drift_px=plan.drift_px,
            illumination_change=plan.illumination_change,
            crystal_stays_deg=plan.crystal_stays_deg,
        ),
        header=HeaderErrors(
            axis_deg=plan.axis_error_deg,
            beam_px=plan.beam_error_px,
            distance_percent=plan.distance_error_percent,
        ),
        blank_every=10,
        name=plan.name,
    )  # fmt: skip
    return SimulatedSeries(plan, series, truth)
