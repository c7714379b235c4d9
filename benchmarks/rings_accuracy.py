"""Accuracy of calibration by rings: simulated gold under all conditions, tilt, a real grating."""

from __future__ import annotations

import math
import os
import sys
import time
from dataclasses import dataclass, replace

# One core for one process: before numpy counts them.
os.environ.update({f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "NUMBA")})

import numpy as np
from _real import add_data_option
from _table import Table, options, say

from ewaldflow.lib.errors import UserError
from ewaldflow.lib.formats.image import DiffractionImage
from ewaldflow.lib.optics import electron_wavelength_A
from ewaldflow.lib.rings.calibrants import CALIBRANTS, gold, load_calibrant
from ewaldflow.lib.rings.calibrate import calibrate_rings, fit_rings
from ewaldflow.lib.rings.calibration import CALIBRATED, RingCalibration
from ewaldflow.lib.rings.config import RingConfig
from ewaldflow.lib.rings.simulate import RingConditions, simulate_rings

SEEDS = (1, 2, 3, 4, 5, 6)
# Powders, sizes and instruments that nothing was tuned on are drawn with these.
DRAWN = tuple(range(100, 124))
HARD = {
    "12 degree gap, no holder": RingConditions(gap_deg=(30, 42), shaft_px=0),
    "12 degree gap": RingConditions(gap_deg=(30, 42)),
    "spotty, 150 grains a ring": RingConditions(grains=150),
    "spotty, 40 grains a ring": RingConditions(grains=40),
    "saturated centre, no stop": RingConditions(stop_px=0, shaft_px=0, saturation=4000),
    "no stop": RingConditions(stop_px=0, shaft_px=0, beam=20),
    "stop of 300 px over the centre": RingConditions(stop_px=300, shaft_px=60),
    "three-fold distortion": RingConditions(three_fold_per_px=(2e-6, -1e-6)),
    "three-fold distortion, 12 degree gap": RingConditions(
        three_fold_per_px=(2e-6, -1e-6), gap_deg=(30, 42)
    ),
    "low contrast": RingConditions(background=20),
    "low contrast, 20 counts/px": RingConditions(background=20, peak=20),
    "texture": RingConditions(texture=0.7),
}
PEER = {
    "normal": "pyFAI's control points on this image without background: 0.12 px (0.34)",
    "gap": "the published covariance: 3.6 % of the radius",
    "centre": "the published covariance with a stop: 7 px",
}


@dataclass(frozen=True)
class Errors:
    """Found less true: centre in px, distance relative, ratio, azimuth in degrees; CPU seconds."""

    centre_px: float
    distance: float
    ratio: float
    azimuth_deg: float
    cpu_s: float
    verdict: str


def measure(conditions: RingConditions, seed: int, config: RingConfig | None = None) -> Errors:
    image, centre = simulate_rings(gold(), conditions, seed)
    start = time.process_time()
    found = calibrate_rings([image], gold(), config)
    return errors_of(found, conditions, centre, time.process_time() - start)


def errors_of(
    found: RingCalibration, conditions: RingConditions, centre: tuple[float, float], cpu_s: float
) -> Errors:
    return Errors(
        math.dist(found.beam_centre_px, centre),
        abs(found.distance_mm / conditions.distance_mm - 1),
        abs(found.distortion.ratio - conditions.ratio),
        abs((found.distortion.azimuth_deg - conditions.azimuth_deg + 90) % 180 - 90),
        cpu_s,
        found.verdict,
    )


def gold_rows(table: Table, seeds: tuple[int, ...]) -> None:
    measure(RingConditions(), 0)  # compiles
    for name, peak, median, largest in (
        ("normal dose", 300.0, 0.02, 0.04), ("10 counts/px", 10.0, 0.1, 0.1),
    ):  # fmt: skip
        all_ = [measure(RingConditions(peak=peak), seed) for seed in seeds]
        centre = [e.centre_px for e in all_]
        head = f"gold, {name}"
        table.check(f"{head}: centre, median, px", float(np.median(centre)), at_most=median)
        table.check(
            f"{head}: centre, largest, px", max(centre), at_most=largest,
            peer=PEER["normal"] if peak > 100 else PEER["centre"],
        )  # fmt: skip
        if peak > 100:
            table.check(
                f"{head}: distance, largest, %", 100 * max(e.distance for e in all_), at_most=0.005
            )
            table.check(
                f"{head}: azimuth, largest, degrees", max(e.azimuth_deg for e in all_), at_most=0.1
            )
            table.check(f"{head}: ratio, largest", max(e.ratio for e in all_), at_most=0.0003)
            table.check(
                f"{head}: CPU seconds, median", float(np.median([e.cpu_s for e in all_])), at_most=2
            )
        else:
            table.tell(
                f"{head}: distance, largest, %", f"{100 * max(e.distance for e in all_):.3g}"
            )
            table.tell(f"{head}: azimuth, largest", f"{max(e.azimuth_deg for e in all_):.3g}")
            table.tell(f"{head}: ratio, largest", f"{max(e.ratio for e in all_):.2g}")
        trusted = sum(e.verdict == CALIBRATED for e in all_) / len(all_)
        table.check(f"{head}: calibrated, part", trusted, at_least=1)


def hard_rows(table: Table, seeds: tuple[int, ...]) -> None:
    for name, conditions in HARD.items():
        trusted, refused = [], 0
        for seed in seeds:
            try:
                found = measure(conditions, seed)
            except UserError as error:
                say(f"{name}: {error}")
                refused += 1
                continue
            if found.verdict == CALIBRATED:
                trusted.append(found.centre_px)
            else:
                refused += 1
        table.check(
            f"{name}: centre, largest of {len(trusted)} calibrated, px",
            max(trusted, default=0.0), at_most=0.1,
            peer=PEER["gap"] if "gap" in name else f"{refused} refused",
        )  # fmt: skip


def tilt_rows(table: Table) -> None:
    """Tilt 5 degrees and the ellipse: one camera length, two, and the ellipse known."""
    rot = math.radians(3), math.radians(4)
    tilted = RingConditions(rot1_rad=rot[0], rot2_rad=rot[1])
    images, centres = zip(
        *(
            simulate_rings(gold(), replace(tilted, distance_mm=distance), 3)
            for distance in (700.0, 400.0)
        ),
        strict=True,
    )
    ways = {
        "two camera lengths": (images, RingConfig(tilt=True)),
        "ellipse known": (images[:1], RingConfig(tilt=True, known_distortion=(1.024, 83.0))),
        "one camera length": (images[:1], RingConfig(tilt=True)),
    }
    for way, (chosen, config) in ways.items():
        found = calibrate_rings(chosen, gold(), config)
        off = math.degrees(math.hypot(found.rot1_rad - rot[0], found.rot2_rad - rot[1]))
        table.check(f"tilt 5 degrees, {way}: tilt, degrees", off, at_most=0.1)
        table.check(
            f"tilt 5 degrees, {way}: centre, px", math.dist(found.beam_centre_px, centres[0]),
            at_most=0.04,
        )  # fmt: skip
        table.check(
            f"tilt 5 degrees, {way}: ratio", abs(found.distortion.ratio - 1.024), at_most=0.0003
        )
    said = any("one camera length" in reason for reason in found.reasons)
    table.check("one camera length: the ambiguity is stated", float(said), at_least=1)
    plain = calibrate_rings(images[:1], gold())
    table.check(
        "tilt not fitted: refused", float(plain.verdict != CALIBRATED), at_least=1,
        peer="pyFAI with free rotations reads an ellipse of 1.024 as a tilt of 12 degrees",
    )  # fmt: skip


def wrong_rows(table: Table) -> None:
    """What is wrong must not pass."""
    small = RingConditions(shape=(1024, 1024), distance_mm=350.0)
    powders = {name: load_calibrant(name) for name in CALIBRANTS}
    alike = {"gold", "aluminium"}  # the same rings but for 0.7 % of scale
    passed = 0
    for name, powder in powders.items():
        for config in (RingConfig(), RingConfig(use_stated_scale=False)):
            image, _ = simulate_rings(powder, small, 5)
            for other in powders:
                if other == name or {name, other} == alike:
                    continue
                try:
                    verdict = calibrate_rings([image], powders[other], config).verdict
                except UserError:
                    continue
                passed += verdict == CALIBRATED
    table.check("wrong calibrants that pass, of 20", passed, at_most=0)
    passed = 0
    for voltage in (80.0, 120.0, 300.0):
        image, _ = simulate_rings(
            gold(), replace(small, wavelength_A=electron_wavelength_A(voltage)), 5
        )
        found = calibrate_rings([replace(image, wavelength_A=electron_wavelength_A(200))], gold())
        passed += found.verdict == CALIBRATED
    table.check("wrong voltages that pass, camera length stated, of 3", passed, at_most=0)


def drawn_rows(table: Table, seeds: tuple[int, ...]) -> None:
    """Powders, detectors and instruments drawn at random."""
    errors, refused, wrong = [], 0, 0
    for seed in seeds:
        powder, conditions = drawn(seed)
        image, centre = simulate_rings(powder, conditions, seed)
        try:
            found = calibrate_rings([image], powder)
        except UserError as error:
            say(f"drawn {seed}: {error}")
            refused += 1
            continue
        off = errors_of(found, conditions, centre, 0.0)
        say(f"drawn {seed}: {powder.name} {conditions.shape} {off}")
        if found.verdict != CALIBRATED:
            say(f"  {found.reasons[0]}")
            refused += 1
            continue
        errors.append(off.centre_px)
        wrong += off.centre_px > 0.3 or off.distance > 0.005
    if errors:
        table.tell("drawn at random: centre, median, px", f"{np.median(errors):.3g}")
        table.tell("drawn at random: centre, largest, px", f"{max(errors):.3g}")
    table.check(f"drawn at random: wrong that pass, of {len(seeds)}", wrong, at_most=0)
    table.check("drawn at random: refused, part", refused / len(seeds), at_most=0.25)


def drawn(seed: int):
    """A powder and conditions that nothing was tuned on."""
    rng = np.random.default_rng(seed)
    powder = load_calibrant(str(rng.choice(list(CALIBRANTS))))
    size = int(rng.choice([512, 1024, 2048]))
    wavelength = electron_wavelength_A(float(rng.choice([80.0, 120.0, 200.0, 300.0])))
    first = float(rng.uniform(0.1, 0.25)) * size  # radius of the first ring
    distance = first * 0.03 / math.tan(2 * math.asin(wavelength / (2 * powder.d_A[0])))
    return powder, RingConditions(
        shape=(size, size), wavelength_A=wavelength, distance_mm=distance,
        centre_px=tuple(size / 2 + rng.uniform(-0.15, 0.15, 2) * size),
        ratio=float(rng.uniform(1.0, 1.06)), azimuth_deg=float(rng.uniform(0, 180)),
        peak=float(10 ** rng.uniform(1.3, 3.5)), background=float(10 ** rng.uniform(-1, 0.7)),
        width_px=float(rng.uniform(1.0, 4.0)) * max(size / 1024, 0.8),
        grains=int(rng.choice([0, 0, 200, 60])), texture=float(rng.uniform(0, 0.5)),
        stop_px=0.03 * size, shaft_px=0.02 * size, shaft_deg=float(rng.uniform(0, 360)),
        stop_offset_px=tuple(rng.uniform(-3, 3, 2)), beam_px=3.0,
        stated_error=float(rng.uniform(-0.1, 0.1)), states=bool(rng.random() < 0.5),
    )  # fmt: skip


def real_rows(table: Table, folder) -> None:
    path = folder / "images" / "pyxem_au_xgrating_20cm.tif"
    if not path.is_file():
        table.tell("real gold grating", "absent")
        return
    import tifffile

    image = DiffractionImage(
        "gold grating", tifffile.imread(path), electron_wavelength_A(200), pixel_size_mm=0.055
    )
    found = fit_rings([image], gold()).calibrations[0]
    for reason in found.reasons:
        say(f"real gold: {reason}")
    sd = found.sd("ratio"), found.sd("azimuth_deg"), found.sd("distance_mm") / found.distance_mm
    table.check(
        "real gold: ratio", found.distortion.ratio, at_least=1.029, at_most=1.036,
        peer=f"pyxem 1.0353; our e.s.d. {sd[0]:.4f}", form=".4f",
    )  # fmt: skip
    table.check(
        "real gold: azimuth, degrees", found.distortion.azimuth_deg, at_least=146, at_most=148,
        peer=f"pyxem 147.4; our e.s.d. {sd[1]:.1f}", form=".1f",
    )  # fmt: skip
    table.check(
        "real gold: 1/Å per px", found.per_A_per_px, at_least=0.0098, at_most=0.0102,
        peer=f"pyxem 0.010237; our e.s.d. {sd[2]:.1%}", form=".5f",
    )  # fmt: skip
    table.tell("real gold: verdict", found.verdict)


def main() -> int:
    parser = options(__doc__ or "", work=False)
    add_data_option(parser)
    chosen = parser.parse_args()
    table = Table("Calibration by rings")
    seeds = SEEDS[:1] if chosen.quick else SEEDS
    gold_rows(table, seeds)
    real_rows(table, chosen.data)
    tilt_rows(table)
    if not chosen.quick:
        hard_rows(table, seeds[:3])
        wrong_rows(table)
        drawn_rows(table, DRAWN)
    return table.show()


if __name__ == "__main__":
    sys.exit(main())
