"""Deflector calibration with noise and shear, beside instamatic's own fit on the same data.

Two kinds of data: shifts with noise of 5 % of a grid step, fitted by both; and the whole measuring
loop on the twin, whose matrices have up to 15 % shear.
"""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
from _table import Table, options, say, work_folder
from numpy.typing import NDArray

from ewaldflow.hardware.calibrate_deflectors import DeflectorCalibration, calibrate_deflectors
from ewaldflow.hardware.moves import move
from ewaldflow.hardware.simulated.twin import Twin, TwinOptions, open_twin
from ewaldflow.lib.instrument import load_instrument
from ewaldflow.lib.serialred.calibration import ShiftCalibration
from ewaldflow.lib.serialred.fit_shifts import fit_shifts

Floats = NDArray[np.float64]

PEER = "instamatic==2.2.2"
SEEDS, QUICK_SEEDS = 20, 1
MATRICES = 50
NOISE, SHEAR, STEP, PX_PER_UNIT = 0.05, 0.15, 500.0, 0.05
# The loop measures grids until the expected error is small enough.
WANTED, MOST_GRIDS = DeflectorCalibration().max_error, DeflectorCalibration().max_grids

# Runs in the peer's environment: its module alone, for importing the package needs a microscope.
THEIR_FIT = """
import importlib.util, json, pathlib, sys
import numpy as np
found = importlib.util.find_spec("instamatic")
path = pathlib.Path(found.submodule_search_locations[0]) / "calibrate" / "fit.py"
spec = importlib.util.spec_from_file_location("fit", path)
fit = importlib.util.module_from_spec(spec)
spec.loader.exec_module(fit)
sys.stdout, out = open("/dev/null", "w"), sys.stdout
result = []
for shifts, pixels in json.load(sys.stdin):
    fitted = fit.fit_affine_transformation(np.array(pixels), np.array(shifts))
    result.append(np.asarray(fitted.r).tolist())
json.dump(result, out)
"""


def grid(n: int = 5) -> Floats:
    """(n n, 2) shifts of a grid."""
    line = (np.arange(n) - n // 2) * STEP
    return np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)


def matrix(rng: np.random.Generator, shear_by: float = SHEAR) -> Floats:
    """Any rotation and handedness, scales that differ a little, and the shear."""
    angle = rng.uniform(0, 2 * np.pi)
    c, s = np.cos(angle), np.sin(angle)
    shear = np.array([[1.0, shear_by], [0.0, 1.0]])
    spread = 0.1 if shear_by else 0.0
    scales = np.diag(rng.uniform(1 - spread, 1 + spread, 2) * [1.0, rng.choice([-1.0, 1.0])])
    result: Floats = PX_PER_UNIT * np.array([[c, -s], [s, c]]) @ shear @ scales
    return result


def off(found: Floats, true: Floats) -> float:
    """Error over the norm, in per cent."""
    return float(100 * np.linalg.norm(found - true) / np.linalg.norm(true))


def measured_until_good(true: Floats, rng: np.random.Generator) -> tuple[Floats, Floats, Floats]:
    """Shifts, pixels and the fitted matrix, as the measuring loop collects them."""
    shifts, pixels = np.zeros((0, 2)), np.zeros((0, 2))
    noise = NOISE * STEP * PX_PER_UNIT
    for _ in range(MOST_GRIDS):
        more = grid()
        shifts = np.vstack([shifts, more])
        pixels = np.vstack([pixels, more @ true.T + noise * rng.normal(size=more.shape)])
        fit = fit_shifts(shifts, pixels)
        if fit.relative_error <= WANTED:
            break
    return shifts, pixels, fit.px_per_unit


def peer(folder: Path) -> Path:
    """A Python with the peer, in an environment of its own."""
    python = folder / "instamatic" / "bin" / "python"
    if not python.exists():
        say(f"making an environment for {PEER}")
        venv.create(folder / "instamatic", with_pip=True)
        for what in (["--no-deps", PEER], ["lmfit", "numpy"]):
            subprocess.run(
                [str(python), "-m", "pip", "install", "-q", *what], check=True, capture_output=True
            )
    return python


def their_matrices(python: Path, data: list[tuple[Floats, Floats]]) -> list[Floats]:
    """What the peer fits: row vectors, from pixels to shifts; turned into our convention."""
    text = json.dumps([[shifts.tolist(), pixels.tolist()] for shifts, pixels in data])
    ran = subprocess.run(
        [str(python), "-c", THEIR_FIT], input=text, capture_output=True, text=True, check=True
    )
    return [np.linalg.inv(np.array(one)).T for one in json.loads(ran.stdout)]


def summary(errors: list[float]) -> str:
    """Median and largest."""
    return f"median {np.median(errors):.2f} %, worst {np.max(errors):.2f} %"


def synthetic(table: Table, folder: Path, n: int) -> None:
    """Shifts with noise."""
    rng = np.random.default_rng(1)
    true = [matrix(rng) for _ in range(n)]
    once, loop, data, grids = [], [], [], []
    for one in true:
        shifts, pixels, fitted = measured_until_good(one, rng)
        data.append((shifts, pixels))
        grids.append(len(shifts) / len(grid()))
        loop.append(off(fitted, one))
        once.append(off(fit_shifts(shifts[:25], pixels[:25]).px_per_unit, one))
    try:
        theirs = their_matrices(peer(folder), data)
        text = summary([off(a, b) for a, b in zip(theirs, true, strict=True)])
        first = [(shifts[:25], pixels[:25]) for shifts, pixels in data]
        only = their_matrices(peer(folder), first)
        text_once = summary([off(a, b) for a, b in zip(only, true, strict=True)])
        easy = [matrix(rng, 0.0) for _ in range(n)]
        clean = their_matrices(peer(folder), [(grid(), grid() @ one.T) for one in easy])
        text_clean = summary([off(a, b) for a, b in zip(clean, easy, strict=True)])
    except (subprocess.CalledProcessError, OSError) as error:
        text = text_once = text_clean = "instamatic could not be installed"
        say(f"{PEER}: {error}")
    easiest = [matrix(rng, 0.0) for _ in range(n)]
    ours = [off(fit_shifts(grid(), grid() @ one.T).px_per_unit, one) for one in easiest]
    table.tell("no noise, no shear, one grid of 25", summary(ours), text_clean)
    table.tell("noise 5 % of a step, shear 15 %, one grid of 25", summary(once), text_once)
    table.tell("grids until the expected error is 0.25 %", f"{np.mean(grids):.0f}")
    table.check(
        "noise 5 % of a step, shear 15 %: worst error, % of norm",
        float(np.max(loop)), at_most=0.5, peer=text,
    )  # fmt: skip
    table.tell("the same, median", f"{np.median(loop):.2f} %")


def on_bare_film(twin: Twin) -> None:
    """Move to where the beam meets bare film, with crystals in view and no bar."""
    particles = twin.truth.specimen.particles
    twin.microscope.lenses["brightness"].set(1.0)
    near = np.argsort(np.hypot(*particles.centre_um[:, :2].T))
    for k in near[particles.isolated[near]]:
        x, y = twin.truth.stage_um(particles.centre_um[k])
        beside = x + np.sqrt(particles.area_um2[k] / np.pi) + 0.6
        move(twin.microscope.stage, twin.clock, x_um=beside, y_um=y)
        view = twin.camera.expose(0.2).counts[:512, :512].reshape(32, 16, 32, 16).mean((1, 3))
        if (view < 0.3 * np.median(view)).mean() < 0.01 and np.median(view) > 1:
            return
    raise RuntimeError("no place to calibrate at")


def true_matrix(twin: Twin, one: ShiftCalibration) -> Floats:
    """The twin's own, in the condition of a calibration."""
    scope = twin.microscope
    scope.set_mode("imaging" if one.condition == "imaging" else "diffraction")
    scope.lenses["diffraction_focus"].set(one.defocus_um or 0.0)
    return twin.truth.px_per_unit(one.actuator, one.condition)


def on_the_twin(table: Table, seeds: range) -> None:
    """The whole measuring loop."""
    errors: dict[tuple[str, str], list[float]] = {}
    clock = []
    valid = ~load_instrument("twin").detector.mask
    for seed in seeds:
        twin = open_twin(TwinOptions(seed=seed), load_instrument("twin"))
        on_bare_film(twin)
        began = twin.clock.now()
        found = calibrate_deflectors(twin.microscope, twin.camera, twin.clock, valid=valid)
        clock.append(twin.clock.now() - began)
        for one in found:
            key = one.actuator, one.condition
            errors.setdefault(key, []).append(off(one.px_per_unit, true_matrix(twin, one)))
        say(f"seed {seed}: " + ", ".join(f"{k[0]} {k[1]} {v[-1]:.2f} %" for k, v in errors.items()))
    for (actuator, condition), values in errors.items():
        table.check(
            f"twin: {actuator}, {condition}: worst error, % (median {np.median(values):.2f})",
            float(np.max(values)), at_most=0.5,
        )  # fmt: skip
    table.tell("twin: instrument time for all eight", f"{np.median(clock):.0f} s")


def main() -> int:
    given = options(__doc__ or "").parse_args()
    table = Table("Deflector calibration")
    with work_folder(given.work) as folder:
        synthetic(table, folder, MATRICES if not given.quick else 10)
    on_the_twin(table, range(1, 1 + (QUICK_SEEDS if given.quick else SEEDS)))
    return table.show()


if __name__ == "__main__":
    sys.exit(main())
