"""Reduce a series with DIALS as one who knows it would, and read what it found."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import gemmi
import numpy as np
from _table import Ran, run_measured
from numpy.typing import NDArray

from ewaldflow.lib.crystal.cell import cell_from_reciprocal_basis
from ewaldflow.lib.geometry import Geometry, to_beam_frame, to_dials_frame
from ewaldflow.lib.reduction.result import Flag, FrameTable, Lattice, Reduction, Reflections

Floats = NDArray[np.float64]

# If less than this part of the spots is indexed, one who knows DIALS tries again.
POORLY_INDEXED = 0.5

# A lattice is the sample's if the edges of its reduced cell are no further off than this.
LARGEST_EDGE_ERROR = 0.05


@dataclass(frozen=True)
class Hints:
    """What one who knows the sample knows: its cell, its symmetry, how far spots reach."""

    cell: tuple[float, ...]
    lattice_group: str
    d_min_A: float

    def fit(self, cell: tuple[float, ...], centring: str) -> bool:
        """Whether a lattice is the sample's, in any setting, by the edges of its reduced cell."""
        own, known = reduced_edges(cell, centring), reduced_edges(self.cell, self.lattice_group[0])
        return bool(np.abs(own / known - 1).max() < LARGEST_EDGE_ERROR)


def reduced_edges(cell: tuple[float, ...], centring: str) -> Floats:
    """Edges of the Niggli cell, ascending, in Å."""
    vector = gemmi.GruberVector(gemmi.UnitCell(*cell), centring)
    vector.niggli_reduce()
    return np.sort(vector.cell_parameters()[:3])


@dataclass(frozen=True)
class DialsRun:
    """What DIALS did in a folder.

    Attributes
    ----------
    why : it ended before integration; empty if it did not.
    seconds : CPU of each program that the result needed.
    help : what it needed to index the spots, beyond being asked to; empty if nothing.
    tables : arrays of `_dials_tables`; empty if there is no result.
    """

    folder: Path
    why: str
    seconds: dict[str, float]
    help: str
    tables: dict[str, NDArray[np.generic]]

    @property
    def cpu_s(self) -> float:
        """CPU from import to integration; scaling, which only the figures need, not counted."""
        return sum(self.seconds.values()) - sum(
            self.seconds.get(step, 0.0) for step in ("symmetry", "scale")
        )

    def first_image(self) -> int:
        """Number of the first frame."""
        experiment = json.loads((self.folder / "integrated.expt").read_text())
        return int(experiment["scan"][0]["image_range"][0])

    def orientation(self, experiments: str) -> Floats:
        """``A``, (3, 3), of the crystal in one of its files, in our frame (beam along z)."""
        experiment = json.loads((self.folder / experiments).read_text())
        return _orientation(experiment)


def installed() -> bool:
    return shutil.which("dials.import") is not None


def version() -> str:
    """The first line of ``dials.version``."""
    ran = subprocess.run(["dials.version"], capture_output=True, text=True, check=False)
    return (ran.stdout.strip().splitlines() or ["DIALS of unknown version"])[0]


def run_dials(folder: Path, hints: Hints, *, scale: bool) -> DialsRun:
    """Import, find spots, index, refine and integrate the series that `write_series` left.

    `scale` : also determine the symmetry and scale, for figures on equivalents.
    """
    for old in ("*.expt", "*.refl", "*.npz"):
        for path in folder.glob(old):
            path.unlink()
    run = _Programs(folder)
    seconds = run.seconds

    def failed(step: str, ran: Ran) -> DialsRun:
        lines = [line for line in ran.output.splitlines() if line.strip()] or ["no output"]
        return DialsRun(folder, f"{step}: {lines[-1].strip()}", seconds, help_, {})

    help_ = ""
    ran = run("import", "sh", "dials_import.sh")
    if ran.code:
        return failed("import", ran)
    find = ("dials.find_spots", "imported.expt", "min_spot_size=6", "nproc=1")
    ran = run("find_spots", *find, "d_max=20", f"d_min={hints.d_min_A}")
    if ran.code:  # it fails so where the beam is at the very centre of a pixel
        ran = run("find_spots", *find)
    if ran.code:
        return failed("find_spots", ran)

    indexed, help_ = _index(run, hints)
    if indexed is None:
        return DialsRun(folder, "index: no lattice", seconds, help_, {})
    for suffix in ("expt", "refl"):
        shutil.copy(folder / f"{indexed}.{suffix}", folder / f"indexed.{suffix}")
    seconds["index"] = seconds[indexed]
    ran = run(
        "refine", "dials.refine", "indexed.expt", "indexed.refl", "detector.fix=distance",
        "crystal.unit_cell.force_static=True",
    )  # fmt: skip
    if ran.code:
        return failed("refine", ran)
    integrate = ("dials.integrate", "refined.expt", "refined.refl", "nproc=1")
    ran = run("integrate", *integrate)
    if ran.code:  # fewer than 50 reference profiles
        ran = run("integrate", *integrate, "profile.fitting=False")
    if ran.code:
        return failed("integrate", ran)
    if scale:
        found = ("integrated.expt", "integrated.refl")
        ran = run("symmetry", "dials.symmetry", *found)
        if not ran.code:
            found = ("symmetrized.expt", "symmetrized.refl")
        run("scale", "dials.scale", *found)
    script = Path(__file__).with_name("_dials_tables.py").absolute()
    ran = run_measured((_python(), script), folder, folder / "run_tables.log")
    if ran.code:
        return failed("reading its tables", ran)
    needed = ("import", "find_spots", "index", "refine", "integrate", "symmetry", "scale")
    seconds = {step: seconds[step] for step in needed if step in seconds}
    with np.load(folder / "tables.npz") as file:
        return DialsRun(folder, "", seconds, help_, dict(file))


@dataclass
class _Programs:
    """Runs programs in a folder and keeps the CPU seconds of those that succeed."""

    folder: Path
    seconds: dict[str, float] = field(default_factory=dict)

    def __call__(self, step: str, *command: str | Path) -> Ran:
        ran = run_measured(command, self.folder, self.folder / f"run_{step}.log")
        if ran.code == 0:
            self.seconds[step] = ran.cpu_s
        return ran


def _index(run: _Programs, hints: Hints) -> tuple[str | None, str]:
    """Index unaided; if the result is poor, told the cell.

    A result is poor if it is not the sample's cell, or explains too few spots. Returns the step
    (and name of the files) of the best, None if there is none, and the help it needed.
    """
    cell = ",".join(f"{value:g}" for value in hints.cell)
    told = (f"unit_cell={cell}", f"space_group={hints.lattice_group}")
    best: tuple[bool, float, str | None, str] = (False, 0.0, None, "")
    for step, options, words in (("index_0", (), ""), ("index_1", told, "told the cell")):
        if best[0] and best[1] >= POORLY_INDEXED:
            break
        ran = run(
            step, "dials.index", "imported.expt", "strong.refl", "detector.fix=distance",
            *options, f"output.experiments={step}.expt", f"output.reflections={step}.refl",
        )  # fmt: skip
        part = _indexed_part(ran)
        if part > 0:
            experiment = json.loads((run.folder / f"{step}.expt").read_text())
            bravais = _bravais(experiment["crystal"][0]["space_group_hall_symbol"])
            fits = hints.fit(cell_from_reciprocal_basis(_orientation(experiment)), bravais[1])
            if (fits, part) > best[:2]:
                best = (fits, part, step, words)
    return best[2:]


def _python() -> str:
    """The interpreter that runs DIALS."""
    found = shutil.which("dials.python")
    if found is not None:
        return found
    program = shutil.which("dials.index")
    assert program is not None
    with Path(program).open() as file:
        return file.readline().removeprefix("#!").strip()


def _indexed_part(ran: Ran) -> float:
    """Indexed part of the spots, from the last table ``| 0 | 590 | 121 | 83.0% |``."""
    rows = re.findall(r"\|\s*\d+ \|\s*\d+ \|\s*\d+ \|\s*([\d.]+)%", ran.output)
    return float(rows[-1]) / 100 if rows and not ran.code else 0.0


def reduction_of(run: DialsRun, kind: str, angle_mid_deg: Floats) -> Reduction:
    """What DIALS found as a `Reduction`, with its ``prf`` or ``sum`` intensities.

    They are Lorentz-corrected as DIALS does it (``lp``); those by summation are divided by the
    partiality, as dials.scale does. Reflections it did not integrate so have PROFILE_FAILED.
    """
    experiment = json.loads((run.folder / "integrated.expt").read_text())
    crystal, beam = experiment["crystal"][0], experiment["beam"][0]
    orientation = _orientation(experiment)
    axis = _to_our_frame(experiment["goniometer"][0]["rotation_axis"], beam)
    cell = cell_from_reciprocal_basis(orientation)
    t = run.tables
    x, y, z = t["xyz_px"].T
    sigma = np.sqrt(t[f"{kind}_variance"])
    partiality = t["partiality"] if kind == "sum" else np.ones(len(x))
    intensity = t[f"{kind}_intensity"] * t["lp"] / partiality
    flags = (
        Flag.SATURATED * t["overloaded"]
        + Flag.MASKED * t["masked"]
        + Flag.PROFILE_FAILED * ~np.isfinite(intensity)
    ).astype(np.uint32)
    nothing = np.full(len(x), np.nan)
    frame = z - 0.5 - (run.first_image() - 1)
    reflections = Reflections(
        **{f.name: nothing for f in fields(Reflections)}
        | {
            "hkl": t["hkl"].astype(np.int32),
            "intensity": intensity,
            "sigma": sigma * t["lp"] / partiality,
            "frame": frame,
            "angle_deg": np.interp(frame, np.arange(len(angle_mid_deg)), angle_mid_deg),
            "row": y - 0.5,
            "column": x - 0.5,
            "partiality": t["partiality"],
            "lorentz": 1 / t["lp"],
            "d_A": t["d_A"],
            "flags": flags,
        }
    )
    lattice = Lattice(
        bravais=_bravais(crystal["space_group_hall_symbol"]),
        orientation=orientation,
        cell=cell,
        cell_esd=cell,
        cell_p1=cell,
        cell_p1_esd=cell,
        niggli=cell,
        geometry=Geometry(beam["wavelength"], 1.0, 1.0, (0.0, 0.0), tuple(axis)),
        esd={},
        rotation_scale=1.0,
        candidates=(),
        mosaicity_deg=float("nan"),
        size_per_A=float("nan"),
        n_spots=int(t["n_spots"]),
        n_indexed=int(t["n_indexed"]),
        rms_px=float("nan"),
        rms_deg=float("nan"),
        reflections=reflections,
    )
    n = len(angle_mid_deg)
    frames = FrameTable(
        **{f.name: np.full(n, np.nan) for f in fields(FrameTable)} | {"angle_deg": angle_mid_deg}
    )
    return Reduction("DIALS", (lattice,), frames, 1.0)


def _orientation(experiment: dict[str, Any]) -> Floats:
    """``A`` of the first crystal; the real axes are the rows of its inverse."""
    crystal, beam = experiment["crystal"][0], experiment["beam"][0]
    real = [_to_our_frame(crystal[f"real_space_{axis}"], beam) for axis in "abc"]
    return np.linalg.inv(np.array(real))


def _to_our_frame(vector: list[float], beam: dict[str, Any]) -> Floats:
    """In the laboratory frame of ours in which the beam, that DIALS may have tilted, is z."""
    return to_beam_frame(to_dials_frame(vector), -to_dials_frame(beam["direction"]))


def _bravais(hall: str) -> str:
    """Pearson-style symbol of the lattice of a space group, as DIALS writes its name."""
    group = gemmi.find_spacegroup_by_ops(gemmi.symops_from_hall(hall))
    system = group.crystal_system_str()
    letter = {"triclinic": "a", "trigonal": "h"}.get(system, system[0])
    return letter + group.centring_type()
