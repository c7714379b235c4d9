"""Recentring by rings: its time and error beside pyFAI's extract_cp and the documented method.

All in one run on the same simulated images of gold (2048 x 2048, ellipse 1.024 at 83 degrees, a
beam stop, hot and dead pixels). Times are CPU times of one thread. PONI files are read back by
the installed pyFAI and, with ``--pyfai-python``, by the pyFAI of another environment.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

# One core for one process: before numpy counts them.
os.environ.update({f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "NUMBA")})

import numpy as np
from _table import Table, options, say, work_folder

from ewaldflow.lib.formats.image import DiffractionImage
from ewaldflow.lib.geometry import EllipticalDistortion
from ewaldflow.lib.rings.calibrants import gold
from ewaldflow.lib.rings.calibration import RingCalibration
from ewaldflow.lib.rings.ellipse import fit_ellipse_to_ring
from ewaldflow.lib.rings.poni import write_poni
from ewaldflow.lib.rings.recentre import recentre
from ewaldflow.lib.rings.simulate import RingConditions, simulate_rings

USUAL = RingConditions()
# conditions, images, and the bar for median and largest error in px
CASES: dict[str, tuple[RingConditions, int, float, float]] = {
    "usual dose": (USUAL, 6, 0.02, 0.04),
    "10 counts per pixel": (replace(USUAL, peak=10.0), 6, 0.1, 0.1),
    "12 degrees missing": (replace(USUAL, gap_deg=(30.0, 42.0)), 3, 0.1, 0.1),
    "spotty rings": (replace(USUAL, grains=60), 3, 0.1, 0.1),
    "no stop": (replace(USUAL, stop_px=0, shaft_px=0), 3, 0.1, 0.1),
    "no stop, saturated": (replace(USUAL, stop_px=0, shaft_px=0, saturation=3000.0), 3, 0.1, 0.1),
    "stop up to the first ring": (replace(USUAL, stop_px=230.0), 3, 0.1, 0.1),
    "three-fold distortion": (replace(USUAL, three_fold_per_px=(1e-5, 1e-5)), 3, 0.1, 0.1),
    "low contrast": (replace(USUAL, background=5.0), 3, 0.1, 0.1),
}
QUICK = ("usual dose", "10 counts per pixel")
WARM_S = 0.1

Point = tuple[float, float]  # (row, column), px

# finds where the beam of each PONI meets the detector: x = y = 0 in the laboratory, by Newton
READ_PONI = """
import json, logging, sys
logging.disable(logging.CRITICAL)
import numpy as np, pyFAI
found = {}
for path in sys.argv[1:]:
    ai = pyFAI.load(path)
    place = np.array([1000.0, 1000.0])
    def lab(place):
        z, y, x = ai.calc_pos_zyx(d1=np.array([place[0]]), d2=np.array([place[1]]))
        return np.array([float(np.ravel(y)[0]), float(np.ravel(x)[0])])
    for _ in range(8):
        slope = np.stack([lab(place + step) - lab(place - step) for step in np.eye(2)], 1) / 2
        place = place - np.linalg.solve(slope, lab(place))
    found[path] = place.tolist()
print(json.dumps({"version": pyFAI.version, "found": found}))
"""


def before(c: RingConditions) -> RingCalibration:
    """What is known when an image comes: all but the centre, which drifted by up to 40 px."""
    return RingCalibration(
        "before", c.shape, "gold", c.wavelength_A, c.pixel_size_mm, c.distance_mm,
        (c.shape[0] / 2, c.shape[1] / 2), EllipticalDistortion(c.ratio, c.azimuth_deg),
        c.three_fold_per_px, c.radial_per_mm2, c.rot1_rad, c.rot2_rad,
    )  # fmt: skip


def timed(method: Callable[[], Point], repeats: int = 1) -> tuple[Point, float]:
    """What a method returns and the least CPU seconds it took."""
    best = np.inf
    for _ in range(repeats):
        start = time.process_time()
        found = method()
        best = min(best, time.process_time() - start)
    return found, best


def documented_covariance(pixels: np.ndarray) -> Point:
    """The documented method: Otsu's threshold times 0.5, the largest region, its centroid."""
    from skimage.filters import threshold_otsu
    from skimage.measure import label
    from skimage.morphology import remove_small_objects

    binary = pixels > threshold_otsu(pixels) * 0.5
    regions = label(remove_small_objects(binary, max_size=50))
    sizes = np.bincount(regions.ravel())
    sizes[0] = 0
    row, column = np.nonzero(regions == np.argmax(sizes))
    x, y = column.astype(float), row.astype(float)
    np.linalg.eigh(np.cov(x - x.mean(), y - y.mean()))  # the semi-axes of the document
    return float(y.mean()), float(x.mean())


def documented_argmax(pixels: np.ndarray) -> Point:
    """The documented method without a beam stop: the brightest pixel."""
    row, column = np.unravel_index(int(np.argmax(pixels)), pixels.shape)
    return float(row), float(column)


def by_extract_cp(image: DiffractionImage, c: RingConditions, near: Point) -> Point:
    """pyFAI's control points on the raw image and its own refinement, without tilt.

    It starts `near` the truth, since it finds other rings than meant from far away.
    """
    from pyFAI.calibrant import Calibrant
    from pyFAI.detectors import Detector
    from pyFAI.geometry import Geometry
    from pyFAI.goniometer import SingleGeometry

    pixel_m, wavelength_m = c.pixel_size_mm * 1e-3, c.wavelength_A * 1e-10
    calibrant = Calibrant(dspacing=gold().d_A[:8].tolist(), wavelength=wavelength_m)
    detector = Detector(pixel_m, pixel_m, max_shape=c.shape)
    start = Geometry(
        dist=c.distance_mm * 1e-3, poni1=(near[0] + 0.5) * pixel_m,
        poni2=(near[1] + 0.5) * pixel_m, detector=detector, wavelength=wavelength_m,
    )  # fmt: skip
    single = SingleGeometry(
        "one", np.asarray(image.pixels, np.float32), calibrant=calibrant, detector=detector,
        geometry=start,
    )  # fmt: skip
    single.extract_cp(max_rings=5, pts_per_deg=1)
    refinement = single.geometry_refinement
    refinement.refine3(fix=["rot1", "rot2", "rot3", "wavelength"])
    return refinement.poni1 / pixel_m - 0.5, refinement.poni2 / pixel_m - 0.5


def measure(quick: bool, table: Table) -> None:
    """Errors and times of all methods, image by image."""
    for name, (c, seeds, median_bar, largest_bar) in CASES.items():
        if quick and name not in QUICK:
            continue
        seeds = 2 if quick else seeds
        known = before(c)
        off: dict[str, list[float]] = {}
        spent: dict[str, list[float]] = {}

        def take(
            what: str, method: Callable[[], Point], true: Point, repeats: int = 1,
            off: dict[str, list[float]] = off, spent: dict[str, list[float]] = spent,
        ) -> None:  # fmt: skip
            found, seconds = timed(method, repeats)
            off.setdefault(what, []).append(float(np.hypot(*np.subtract(found, true))))
            spent.setdefault(what, []).append(seconds)

        for seed in range(seeds):
            say(f"{name}, image {seed + 1} of {seeds}")
            image, true = simulate_rings(gold(), c, seed)
            recentre(image, known)  # compiles, and lays out the rays
            take("recentre", lambda i=image, k=known: recentre(i, k).beam_centre_px, true, 3)
            take("covariance", lambda i=image: documented_covariance(i.pixels), true)
            take("argmax", lambda i=image: documented_argmax(i.pixels), true)
            if name == "usual dose":
                take("one ring", lambda i=image: fit_ellipse_to_ring(i.pixels)[1::-1], true)
                if seed < (1 if quick else 3):
                    near = (true[0] + 1.5, true[1] - 1.5)
                    take("extract_cp", lambda i=image, k=c, n=near: by_extract_cp(i, k, n), true)
        report(name, off, spent, median_bar, largest_bar, table)


def report(
    name: str, off: dict[str, list[float]], spent: dict[str, list[float]],
    median_bar: float, largest_bar: float, table: Table,
) -> None:  # fmt: skip
    """The rows of one kind of image."""
    peers = "; ".join(
        f"{what} {np.median(values):.3g} px" for what, values in off.items() if what != "recentre"
    )
    ours, seconds = off["recentre"], float(np.median(spent["recentre"]))
    table.check(f"{name}: centre, median error, px", float(np.median(ours)), at_most=median_bar,
                peer=peers)  # fmt: skip
    table.check(f"{name}: largest error, px", float(np.max(ours)), at_most=largest_bar)
    table.check(f"{name}: recentring, CPU s, warm", seconds, at_most=WARM_S,
                peer="; ".join(f"{w} {np.median(v):.3g} s" for w, v in spent.items()
                               if w != "recentre"))  # fmt: skip
    for what in ("covariance", "extract_cp"):
        if what in spent:
            ratio = float(np.median(spent[what])) / seconds
            table.tell(f"{name}: CPU time of {what} over ours", f"{ratio:.3g}")
            table.check(f"{name}: error of {what} over ours",
                        float(np.median(off[what]) / np.median(ours)), at_least=1.0)  # fmt: skip


def poni_files(python: Path | None, folder: Path, table: Table) -> None:
    """Write PONI files in all orientations, with and without tilt; have pyFAI find the beam."""
    rng = np.random.default_rng(0)
    paths, truth = [], {}
    for orientation in (1, 2, 3, 4):
        for tilt in (0.0, 0.1):
            centre = tuple(float(value) for value in rng.uniform(900, 1150, 2))
            one = replace(before(USUAL), beam_centre_px=centre, rot1_rad=tilt, rot2_rad=-0.5 * tilt)
            path = folder / f"{orientation}-{tilt}.poni"
            write_poni(one, path, orientation=orientation)
            paths.append(str(path))
            truth[str(path)] = centre
    pythons = {"installed": Path(sys.executable)} | ({"other": python} if python else {})
    for which, program in pythons.items():
        run = subprocess.run(
            [program, "-c", READ_PONI, *paths], capture_output=True, text=True, check=False
        )
        if run.returncode:
            table.fail(f"PONI read by the {which} pyFAI", run.stderr.strip().splitlines()[-1])
            continue
        said = json.loads(run.stdout.strip().splitlines()[-1])
        worst = max(
            float(np.hypot(*np.subtract(place, truth[path])))
            for path, place in said["found"].items()
        )
        table.check(
            f"PONI read by pyFAI {said['version']}: largest error of the centre, px", worst,
            at_most=1e-4, peer="4 orientations, with and without tilt",
        )  # fmt: skip
    if python is None:
        table.tell("PONI read by another pyFAI", "not measured: no --pyfai-python")


def main() -> int:
    parser = options(__doc__ or "")
    parser.add_argument(
        "--pyfai-python", type=Path, help="python of an environment with another pyFAI (2025.12)"
    )
    arguments = parser.parse_args()
    logging.getLogger("pyFAI").setLevel(logging.ERROR)
    table = Table("Recentring by rings")
    with work_folder(arguments.work) as folder:
        poni_files(arguments.pyfai_python, folder, table)
    measure(arguments.quick, table)
    return table.show()


if __name__ == "__main__":
    sys.exit(main())
