"""Crystals kept in the beam, and patterns held still, on the twin with a badly set goniometer."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from _table import Table, options, say
from _twin import short_session
from numpy.typing import NDArray

from ewaldflow.hardware.calibrate_deflectors import calibrate_deflectors
from ewaldflow.hardware.moves import move
from ewaldflow.hardware.protocols import Exposure
from ewaldflow.hardware.serialred.rotation import RotationRecord, collect_rotation
from ewaldflow.hardware.simulated.calibrated import true_calibrations
from ewaldflow.hardware.simulated.scatter import particles_of, specimen_of
from ewaldflow.hardware.simulated.scene import Scene
from ewaldflow.hardware.simulated.specimen import PhaseOptions, Specimen, SpecimenOptions, phase_of
from ewaldflow.hardware.simulated.twin import Twin, TwinOptions, open_twin
from ewaldflow.lib.errors import UserError
from ewaldflow.lib.instrument import load_instrument
from ewaldflow.lib.serialred.alignment import pattern_centres
from ewaldflow.lib.serialred.calibration import CalibrationSet
from ewaldflow.lib.serialred.darkness import flat_of
from ewaldflow.lib.serialred.settings import RotationSettings
from ewaldflow.lib.serialred.shadow import sight_crystal
from ewaldflow.lib.simulation.conditions import random_rotation

Floats = NDArray[np.float64]

SEEDS, QUICK_SEEDS = 20, 2
RANGE_DEG = (-50.0, 50.0)
# The thesis's tracking is recognition in four steps and correction by the last offset.
WAYS = {
    "off": {"tracking": "none"},
    "thesis": {"tracking": "plain", "recognition": "published"},
    "plain, own recognition": {"tracking": "plain"},
    "predictive": {"tracking": "predictive"},
}
QUICK_WAYS = ("off", "thesis", "predictive")
EDGES = (0, 10, 20, 40, 60, 80, 98, 101)
# Diameters of crystals that a beam of 1 um is meant for, and how well they are centred at first.
DIAMETERS_UM, CENTRED_UM = (0.35, 0.85), 0.2
FARTHEST_UM, BESIDE_UM = 80.0, 1.1
WHOLE = 0.98
# Pale crystals, from a third of the beam's diameter to nearly all of it.
PALE_UM, PALE_THICKNESS_UM = (0.35, 0.9), 0.02


@dataclass
class Watch:
    """A sink that asks the twin where the crystal and the pattern truly were."""

    twin: Twin
    crystal_um: Floats
    alphas: list[float] = field(default_factory=list)
    off: list[float] = field(default_factory=list)
    places_um: list[Floats] = field(default_factory=list)
    patterns: list[Floats] = field(default_factory=list)
    frames: list[NDArray[Any]] = field(default_factory=list)
    measured: Floats | None = None
    images: list[NDArray[Any]] = field(default_factory=list)
    flats: list[NDArray[Any]] = field(default_factory=list)

    def frame(self, number: int, exposure: Exposure, start: float, end: float) -> None:
        """A diffraction frame."""
        view = self._seen(exposure)
        self.patterns.append(view.pattern_px)
        self.frames.append(exposure.counts)

    def tracking(self, number: int, exposure: Exposure, start: float, end: float) -> None:
        """A defocused image."""
        if len(self.images) < 40:
            self.images.append(exposure.counts)

    def flat(self, exposure: Exposure, alpha_deg: float) -> None:
        """The bare beam; the first of them is of the crystal."""
        self.flats.append(exposure.counts)

    def decision(self, what: dict[str, Any]) -> None:
        """Not looked at."""

    def _seen(self, exposure: Exposure) -> Any:
        truth = self.twin.truth
        middle = 0.5 * (exposure.started_s + exposure.ended_s)
        views = truth.column.views(exposure.started_s, exposure.ended_s)
        view = views[len(views) // 2]
        place = truth.lab_um(self.crystal_um, middle)[:2]
        self.places_um.append(place)
        self.off.append(float(np.hypot(*(place - view.beam_centre_um))) / view.beam_radius_um)
        self.alphas.append(truth.alpha_deg(middle))
        return view

    @property
    def range_deg(self) -> float:
        """Until the crystal's centre was first outside the beam."""
        outside = np.flatnonzero(np.array(self.off) > 1)
        last = outside[0] - 1 if outside.size else len(self.off) - 1
        return abs(self.alphas[last] - self.alphas[0]) if last > 0 else 0.0


@dataclass
class Series:
    """One series as it went."""

    record: RotationRecord
    watch: Watch

    @property
    def range_deg(self) -> float:
        """Collected with the crystal in the beam."""
        return min(self.watch.range_deg, self.record.range_deg)

    @property
    def whole(self) -> bool:
        """Whether that is the whole range."""
        return self.range_deg >= WHOLE * (RANGE_DEG[1] - RANGE_DEG[0])

    @property
    def drift_um(self) -> float:
        """Largest distance between two places of the crystal, over what was rotated."""
        places = np.array(self.watch.places_um)
        return float(np.hypot(*np.ptp(places, axis=0)))

    def still_px(self) -> tuple[float, float, float]:
        """Pattern: r.m.s. and largest distance from its mean; r.m.s. left by alignment."""
        at = np.array(self.watch.patterns)
        off = np.linalg.norm(at - at.mean(axis=0), axis=1)
        left = self.watch.measured - at
        left = left - left.mean(axis=0)
        return (
            float(np.sqrt(np.mean(off**2))),
            float(off.max()),
            float(np.sqrt(np.mean(np.sum(left**2, axis=1)))),
        )


def opened(seed: int) -> Twin:
    return open_twin(TwinOptions(seed=seed, goniometer="badly_set"), load_instrument("twin"))


def suitable(seed: int) -> Floats:
    """(3,) the centre of an isolated crystal of the wanted size, in a view without grid bars."""
    twin = opened(seed)
    particles = twin.truth.specimen.particles
    diameter = 2 * np.sqrt(particles.area_um2 / np.pi)
    good = particles.isolated & ~particles.faint & (particles.phase >= 0)
    good &= (diameter > DIAMETERS_UM[0]) & (diameter < DIAMETERS_UM[1])
    good &= np.hypot(*particles.centre_um[:, :2].T) < FARTHEST_UM
    twin.microscope.lenses["brightness"].set(1.0)
    for chosen in np.random.default_rng([seed, 7]).permutation(np.flatnonzero(good)):
        crystal = np.asarray(particles.centre_um[chosen], float)
        x, y = twin.truth.stage_um(crystal)
        move(twin.microscope.stage, twin.clock, x_um=x, y_um=y)
        view = twin.camera.expose(0.2).counts[:512, :512].reshape(32, 16, 32, 16).mean((1, 3))
        if (view < 0.3 * np.median(view)).mean() < 0.01 and np.median(view) > 1:
            return crystal
    raise RuntimeError(f"seed {seed}: no crystal to be had")


def go_to(twin: Twin, crystal_um: Floats, alpha_deg: float, seed: int) -> None:
    """Bring the crystal into the beam at a tilt, as well as a session does."""
    stage, clock, truth = twin.microscope.stage, twin.clock, twin.truth
    x, y = truth.stage_um(crystal_um)
    move(stage, clock, alpha_deg=alpha_deg - 2 * np.sign(alpha_deg))
    move(stage, clock, alpha_deg=alpha_deg, x_um=x - 3, y_um=y - 3)
    axis = np.array(load_instrument("twin").rotation_axis[:2])  # type: ignore[index]
    across = np.array([-axis[1], axis[0]])
    wanted = np.random.default_rng([seed, 8]).uniform(-1, 1, 2) * CENTRED_UM / np.sqrt(2)
    cosine = np.cos(np.deg2rad(alpha_deg))
    for _ in range(4):
        move(stage, clock, x_um=x - 3, y_um=y - 3)
        move(stage, clock, x_um=x, y_um=y)
        off = truth.off_beam_um(crystal_um)[:2] - wanted
        x, y = x - off @ axis, y - off @ across / cosine


def calibrated(seed: int, crystal_um: Floats, valid: NDArray[np.bool_]) -> CalibrationSet:
    """What `calibrate_deflectors` measures on that twin, the beam on bare film by the crystal."""
    twin = opened(seed)
    x, y = twin.truth.stage_um(crystal_um)
    move(twin.microscope.stage, twin.clock, x_um=x + BESIDE_UM, y_um=y)
    return calibrate_deflectors(twin.microscope, twin.camera, twin.clock, valid=valid)


def collect(
    seed: int, way: str, crystal: Floats, calibrations: CalibrationSet, valid: NDArray[np.bool_]
) -> Series:
    twin = opened(seed)
    go_to(twin, crystal, RANGE_DEG[0], seed)
    twin.microscope.set_mode("diffraction")
    watch = Watch(twin, crystal)
    settings = RotationSettings.model_validate({"range_deg": RANGE_DEG, **WAYS[way]})
    record = collect_rotation(
        twin.microscope, twin.camera, twin.clock, settings, calibrations, watch, valid=valid
    )
    if watch.frames:
        watch.measured = pattern_centres(watch.frames).centres_px
        watch.frames.clear()
    return Series(record, watch)


def pale_grid(seed: int) -> Specimen:
    """A crystal at the origin that takes a tenth of the light, and four more around it."""
    rng = np.random.default_rng([seed, 9])
    places = np.array([(0, 0, 0), (2.2, 0.3, 0), (-1.1, 2.0, 0), (0.2, -2.3, 0), (-2.2, -0.6, 0)])
    outlines = []
    for _ in places:
        corners = int(rng.integers(5, 9))
        turn = 2 * np.pi * (np.arange(corners) + rng.uniform(-0.3, 0.3, corners)) / corners
        outline = np.stack([1.2 * np.cos(turn), np.sin(turn)], 1)
        outlines.append(rng.uniform(*PALE_UM) / 2 * outline)
    n, phase = len(places), PhaseOptions(structure="MFI")
    particles = particles_of(
        places.astype(float), np.zeros(n, int),
        np.array([random_rotation([seed, i]) for i in range(n)]), np.full(n, PALE_THICKNESS_UM),
        outlines,
    )  # fmt: skip
    return specimen_of(SpecimenOptions(phases=(phase,), bar_um=0.0), (phase_of(phase),), particles)


def pale_reaches(seed: int, valid: NDArray[np.bool_]) -> float:
    """Degrees for which it is followed, with the twin's own calibrations."""
    instrument, crystal = load_instrument("twin"), np.zeros(3)
    twin = open_twin(
        TwinOptions(seed=seed, goniometer="badly_set"), instrument, scene=Scene(pale_grid(seed))
    )
    settings = RotationSettings(range_deg=RANGE_DEG)
    calibrations = true_calibrations(twin, short_session(rotation=settings))
    go_to(twin, crystal, RANGE_DEG[0], seed)
    twin.microscope.set_mode("diffraction")
    watch = Watch(twin, crystal)
    record = collect_rotation(
        twin.microscope, twin.camera, twin.clock, settings, calibrations, watch, valid=valid
    )
    say(f"pale, seed {seed}: {watch.range_deg:.1f} deg in the beam, {record.reason}")
    return min(watch.range_deg, record.range_deg)


def analysis_ms(series: list[Series], valid: NDArray[np.bool_]) -> float:
    """Median CPU time of one defocused image, in ms."""
    took = []
    for one in series:
        shadow, flat = None, flat_of(one.watch.flats[1:], valid)
        for image in one.watch.images:
            began = time.process_time()
            shadow = sight_crystal(image, valid, shadow, flat).shadow
            took.append(time.process_time() - began)
    return 1e3 * float(np.median(took[1:]))


def main() -> int:
    arguments = options(__doc__ or "", work=False)
    arguments.add_argument("--seeds", type=int, default=SEEDS, help="so many [%(default)s]")
    arguments.add_argument("--first-seed", type=int, default=1, help="[%(default)s]")
    arguments.add_argument("--ways", nargs="+", choices=WAYS, help="these only [all]")
    given = arguments.parse_args()
    n_seeds = QUICK_SEEDS if given.quick else given.seeds
    seeds = range(given.first_seed, given.first_seed + n_seeds)
    ways = tuple(given.ways or (QUICK_WAYS if given.quick else WAYS))
    valid = ~load_instrument("twin").detector.mask
    result: dict[str, list[Series]] = {way: [] for way in ways}
    errors = []
    for seed in seeds:
        crystal = suitable(seed)
        try:
            calibrations = calibrated(seed, crystal, valid)
        except UserError as error:
            say(f"seed {seed}: {error}")
            errors.append(seed)
            continue
        for way in ways:
            try:
                one = collect(seed, way, crystal, calibrations, valid)
            except UserError as error:  # a series that is not there did not reach its range
                say(f"seed {seed}, {way}: {error}")
                errors.append(seed)
                continue
            result[way].append(one)
            say(
                f"seed {seed}, {way}: {one.range_deg:.1f} deg in the beam of "
                f"{one.record.range_deg:.1f}, drift {one.drift_um:.1f} um, {one.record.reason}"
            )
    table = Table(
        f"SerialRED tracking on the twin, seeds {seeds[0]} to {seeds[-1]}, +-50 deg, badly set"
    )
    for way, series in result.items():
        ranges = [one.range_deg for one in series]
        counts = np.histogram(ranges, EDGES)[0]
        text = "  ".join(
            f"{low}-{high if high < 100 else 100}: {n}"
            for low, high, n in zip(EDGES[:-1], EDGES[1:], counts, strict=True)
        )
        table.tell(f"{way}: series by range reached, deg", text)
        reached20 = np.mean(np.array(ranges) >= 20) if ranges else np.nan
        table.tell(f"{way}: reach 20 deg", f"{reached20:.2f}", "thesis: about 0.40")
        if way == "predictive":
            table.check(
                "predictive: reach their full range",
                sum(one.whole for one in series) / len(seeds),
                at_least=0.90,
            )
    if not given.quick:
        pale = [pale_reaches(seed, valid) for seed in seeds]
        table.check(
            "pale crystals, a tenth of the light: reach their full range",
            float(np.mean(np.array(pale) >= WHOLE * (RANGE_DEG[1] - RANGE_DEG[0]))),
            at_least=0.90,
        )
    followed = [one for one in result.get("predictive", []) if len(one.watch.patterns) > 20]
    still = np.array([one.still_px() for one in followed]).reshape(-1, 3)
    whole = [one.drift_um for one in result.get("predictive", []) if one.whole]
    table.tell("drift over the range, median and largest, um",
               f"{np.median(whole):.1f}, {max(whole):.1f}" if whole else "none")  # fmt: skip
    if len(still):
        table.check(
            "pattern after descan, r.m.s. px (worst series)", still[:, 0].max(), at_most=1.5
        )
        table.check("pattern after descan, largest px", still[:, 1].max(), at_most=4.0)
        table.check(
            "left by sub-pixel alignment, r.m.s. px (worst)", still[:, 2].max(), at_most=0.2
        )
        table.check("analysis of a defocused image, median ms of CPU",
                    analysis_ms(followed, valid), at_most=3.0)  # fmt: skip
        rms = [one.record.alpha_rms_deg for one in followed]
        table.tell("stage read-outs about their line, r.m.s. deg", f"{np.median(rms):.3f}")
    else:
        table.fail("pattern after descan", "no series")
    if errors:
        table.fail("series that could not be begun", f"seeds {sorted(set(errors))}")
    return table.show()


if __name__ == "__main__":
    sys.exit(main())
