"""Reducing a series with DIALS: its programs one after the other, and what to try on."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ...formats.dials_script import write_dials_script
from ...formats.registry import WRITERS
from ...formats.write import frame_template
from ...series import RotationSeries
from ..config import ReductionConfig
from ..survey import survey
from .dials_result import best_setting, indexed_part, read_dials, reversed_axis, settings_found
from .frames import lit_frames
from .outcome import frame_table, reduction_from
from .programs import Ended, find_program, run_program
from .protocol import LIMIT_S, EngineRun, Progress, Try
from .steady import put_back, steady

# If less than this part of the spots is indexed, one who knows DIALS tries again.
POORLY_INDEXED = 0.5
# Less than this is no lattice.
NOT_INDEXED = 0.15

_REFINE = ("detector.fix=distance", "crystal.unit_cell.force_static=True")


class _StepFailed(Exception):
    """A step that nothing can go on without."""


@dataclass
class _Steps:
    """Runs the programs one after the other, within one time limit."""

    folder: Path
    deadline: float
    report: Progress
    seconds: dict[str, float] = field(default_factory=dict)
    logs: list[Path] = field(default_factory=list)

    def __call__(self, step: str, *command: str | Path, fraction: float = 0.0) -> Ended:
        self.report(f"DIALS: {step}", fraction)
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise _StepFailed(f"{step}: no time left")
        log = self.folder / f"dials_{len(self.logs) + 1:02d}_{step.replace(' ', '_')}.log"
        self.logs.append(log)
        threads = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}
        ended = run_program(
            command, self.folder, log, limit_s=left if np.isfinite(left) else None,
            environment=threads,
        )  # fmt: skip
        self.seconds[step] = self.seconds.get(step, 0.0) + ended.seconds
        if ended.by != "itself":
            raise _StepFailed(f"{step}: {ended.why}")
        return ended

    def must(self, step: str, *command: str | Path, fraction: float = 0.0) -> Ended:
        """The same, where failure is the end."""
        ended = self(step, *command, fraction=fraction)
        if not ended.good:
            raise _StepFailed(f"{step}: {ended.why}")
        return ended


def reduce_with_dials(
    series: RotationSeries,
    config: ReductionConfig,
    scratch: Path,
    progress: Progress | None = None,
    limit_s: float | None = LIMIT_S,
    *,
    nproc: int = 1,
) -> EngineRun:
    """Import, find spots, index, choose the lattice, refine, integrate, in an empty folder.

    Raises
    ------
    UserError : the folder cannot be written, too few frames hold a signal, or nothing rotates.
    """
    deadline = time.monotonic() + (np.inf if limit_s is None else limit_s)
    run = _Steps(scratch, deadline, progress or (lambda step, fraction: None))
    seen = survey(series)
    stays = steady(series.with_(gain=seen.gain))
    kept, blank = lit_frames(stays.series)
    notes = [*seen.notes, *stays.notes, *_write_frames(kept, scratch)]
    tries: list[Try] = []
    version = _version(run)
    try:
        _integrate(config, run, notes, tries, nproc)
        found = read_dials(scratch, series, blank)
        reduction = reduction_from(
            series, (found.lattice,), found.frames, gain=seen.gain, seconds=run.seconds,
            notes=[*notes, *found.notes], seed=config.seed, spots=found.spots,
        )  # fmt: skip
    except _StepFailed as failed:
        reduction = reduction_from(
            series, (), frame_table(series, blank=blank), gain=seen.gain, seconds=run.seconds,
            notes=notes,
            why=f"DIALS found no lattice: {failed}",
        )  # fmt: skip
    run.report("done", 1.0)
    reduction = put_back(reduction, stays.shift_px)
    return EngineRun("dials", version, reduction, tuple(tries), tuple(run.logs))


def _integrate(
    config: ReductionConfig, run: _Steps, notes: list[str], tries: list[Try], nproc: int
) -> None:
    """All steps, up to ``tables.npz``."""
    run.must("import", "sh", "dials_import.sh")
    find = [
        "dials.find_spots", "imported.expt", f"min_spot_size={config.min_spot_pixels}",
        f"nproc={nproc}",
    ]  # fmt: skip
    limits = [f"d_max={config.d_max_A}"]
    if config.d_min_A is not None:
        limits.append(f"d_min={config.d_min_A}")
    ended = run("find spots", *find, *limits, fraction=0.1)
    if not ended.good:  # it fails so where the beam is at the very centre of a pixel
        tries.append(Try("find spots", "as a rule", ended.why))
        run.must("find spots", *find, fraction=0.1)
    name = _index(run, config, tries, nproc)
    experiments, reflections = _choose_lattice(run, config, name, tries)
    ended = run(
        "refine", "dials.refine", experiments, reflections, *_REFINE,
        "output.experiments=refined.expt", "output.reflections=refined.refl", fraction=0.6,
    )  # fmt: skip
    if not ended.good:
        tries.append(Try("refine", "as a rule", ended.why))
        shutil.copy(run.folder / experiments, run.folder / "refined.expt")
        shutil.copy(run.folder / reflections, run.folder / "refined.refl")
        notes.append("refinement failed: integrated with the model that indexing left")
    integrate = ["dials.integrate", "refined.expt", "refined.refl", f"nproc={nproc}"]
    if config.d_min_A is not None:
        integrate.append(f"prediction.d_min={config.d_min_A}")
    ended = run("integrate", *integrate, fraction=0.7)
    if not ended.good:  # fewer than 50 spots to learn profiles from
        tries.append(Try("integrate", "as a rule", ended.why))
        run.must("integrate", *integrate, "profile.fitting=False", fraction=0.8)
        tries.append(Try("integrate without profiles", "profiles failed", "done"))
    # copied, for beside this module "dials" would be this module
    script = shutil.copy(Path(__file__).with_name("dials_tables.py"), run.folder)
    run.must("read tables", _python(), script, fraction=0.95)


def _version(run: _Steps) -> str:
    if find_program("dials.version") is None:
        return "DIALS of unknown version"
    lines = run("version", "dials.version").text().splitlines()
    return lines[0].strip() if lines else "DIALS of unknown version"


def _python() -> str:
    """The interpreter that DIALS runs with: its own launcher, or that of its scripts."""
    if (found := find_program("dials.python")) is not None:
        return str(found)
    program = find_program("dials.index")
    assert program is not None
    with program.open(encoding="utf-8", errors="replace") as file:
        return file.readline().removeprefix("#!").split()[0]


def _write_frames(series: RotationSeries, folder: Path) -> tuple[str, ...]:
    """Frames as SMV, blank ones in the place of those missing, and the script that imports them."""
    writer = next(one for one in WRITERS if one.name == "SMV")
    written = writer.write(series, folder / "data")
    notes = list(written.notes)
    present = set(series.frame_number.tolist())
    every = range(int(series.frame_number[0]), int(series.frame_number[-1]) + 1)
    missing = [number for number in every if number not in present]
    template = frame_template(series, ".img")
    if missing:
        header = written.files[0].read_bytes()[:512].decode("ascii")
        level = round(series.pedestal + written.pedestal_added)
        nothing = np.full(series.shape, level, "<u2").tobytes()
        digits = template.count("?")
        for number in missing:
            blank = _turned(header, number - every[0]).encode("ascii") + nothing
            (folder / "data" / f"{number:0{digits}d}.img").write_bytes(blank)
        notes.append(
            f"{len(missing)} frames that do not exist are zero: reflections on them are partial"
        )
    return *notes, *write_dials_script(
        series, folder / "dials_import.sh", template=f"data/{template}",
        pedestal_added=written.pedestal_added, gaps_filled=True,
    )  # fmt: skip


def _turned(header: str, steps: int) -> str:
    """An SMV header so many steps later; else DIALS takes the frame for one of another scan."""

    def item(key: str) -> float:
        found = re.search(rf"^{key}=(.*);", header, re.MULTILINE)
        assert found is not None
        return float(found[1])

    start = f"{item('OSC_START') + steps * item('OSC_RANGE'):.6f}"
    text = re.sub(r"^(PHI|OSC_START)=.*;", rf"\1={start};", header.rstrip(" "), flags=re.MULTILINE)
    return text.ljust(512)


def _index(run: _Steps, config: ReductionConfig, tries: list[Try], nproc: int) -> str:
    """Index in P1, trying what one who knows DIALS tries; the name of the best one's files."""
    reverse: Callable[[], str] = lambda: reversed_axis(run.folder)  # noqa: E731
    plain: Callable[[], str] = lambda: "imported.expt"  # noqa: E731
    attempts: list[tuple[str, str, Callable[[], str], list[str]]] = [
        ("index", "as a rule", plain, []),
        ("index by 1D Fourier transforms", "few spots on the first lattice", plain,
         ["indexing.method=fft1d"]),
    ]  # fmt: skip
    if config.cell is not None:
        cell = ",".join(f"{value:g}" for value in config.cell)
        attempts.insert(1, (
            "index with the known cell", "few spots on the first lattice", plain,
            [f"unit_cell={cell}", "indexing.method=real_space_grid_search"],
        ))  # fmt: skip
    if config.try_reversed_axis:
        attempts.append(("index with the axis reversed", "it may be", reverse, []))
    best, best_part = "", 0.0
    for number, (what, reason, experiments, options) in enumerate(attempts, 1):
        name = f"indexed_{number}"
        ended = run(
            what, "dials.index", experiments(), "strong.refl", "detector.fix=distance",
            f"indexing.nproc={nproc}", *options,
            f"max_cell={config.max_axis_A:g}", f"min_cell={config.min_axis_A:g}",
            f"output.experiments={name}.expt", f"output.reflections={name}.refl",
            fraction=0.2 + 0.08 * number,
        )  # fmt: skip
        part = indexed_part(ended.text()) if ended.good else 0.0
        outcome = f"{100 * part:.1f} % of the spots indexed" if ended.good else ended.why
        tries.append(Try(what, reason, outcome))
        if part > best_part:
            best, best_part = name, part
        if best_part >= POORLY_INDEXED:
            break
    if best_part < NOT_INDEXED:
        raise _StepFailed(f"at most {100 * best_part:.1f} % of the spots lie on one lattice")
    return best


def _choose_lattice(
    run: _Steps, config: ReductionConfig, name: str, tries: list[Try]
) -> tuple[str, str]:
    """Experiments and reflections in the setting of the highest lattice that fits."""
    ended = run(
        "refine Bravais settings", "dials.refine_bravais_settings", f"{name}.expt",
        f"{name}.refl", *_REFINE, "best_monoclinic_beta=False", "nproc=1", fraction=0.5,
    )  # fmt: skip
    found = settings_found(run.folder) if ended.good else ()
    reason = "the lattice's symmetry"
    if not found:
        tries.append(Try("refine Bravais settings", reason, ended.why or "no setting"))
        return f"{name}.expt", f"{name}.refl"
    known = [one for one in found if config.cell is not None and one.fits(config.cell)]
    chosen = known[0] if known else best_setting(found)
    outcome = f"{chosen.bravais}, {chosen.angle_deg:.2f} degrees off the metric"
    if chosen.correlations:
        outcome += f", intensities correlate {min(chosen.correlations):.2f} or better"
    if config.cell is not None and not known:
        outcome += "; none has the known cell"
    tries.append(Try("refine Bravais settings", reason, outcome))
    run.must(
        "reindex", "dials.reindex", f"{name}.refl", f"change_of_basis_op={chosen.change_of_basis}",
        "output.reflections=reindexed.refl", fraction=0.55,
    )  # fmt: skip
    return f"bravais_setting_{chosen.number}.expt", "reindexed.refl"
