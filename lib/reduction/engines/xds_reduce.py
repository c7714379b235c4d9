"""Reducing a series with XDS: index, try on where that fails, integrate, correct."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...errors import UserError
from ...geometry import centre_to_xds
from ...series import RotationSeries
from ...xds.idxref import read_idxref
from ..config import ReductionConfig
from ..result import Reduction
from .frames import beam_seen, lit_frames
from .outcome import frame_table, reduction_from
from .protocol import LIMIT_S, EngineRun, Progress, Try
from .steady import put_back, steady
from .xds_document import XdsDocument
from .xds_input import prepare
from .xds_result import read_xds
from .xds_run import NAME, STATE, Stopped, XdsFolder
from .xds_strategy import (
    BETTER,
    ENOUGH,
    FINISH,
    FIRST,
    GOOD,
    Attempt,
    Facts,
    Indexing,
    further_attempts,
    known_cell_attempt,
    lattice_with_known_cell,
)


def reduce_with_xds(
    program: Path,
    series: RotationSeries,
    config: ReductionConfig,
    scratch: Path,
    progress: Progress | None = None,
    limit_s: float | None = LIMIT_S,
    *,
    user_input: Path | None = None,
    processors: int = 1,
) -> EngineRun:
    """Run XDS in an empty folder, and what one who knows it would try where it fails.

    Raises
    ------
    UserError : the folder cannot be written, or the series or the user's XDS.INP cannot be used.
    """
    deadline = time.monotonic() + (np.inf if limit_s is None else limit_s)
    run = XdsFolder(program, scratch, deadline, progress or (lambda step, fraction: None))
    # who brings an XDS.INP of their own has put its beam centre and its masks there
    stays = steady(series) if user_input is None else None
    kept, blank = lit_frames(series if stays is None else stays.series)
    document, notes = prepare(
        kept, config, scratch, user_input=user_input, processors=processors,
    )  # fmt: skip
    tries: list[Try] = []
    told = [*(() if stays is None else stays.notes), *notes]
    if blank.any():
        told.append(f"{int(blank.sum())} of {len(series)} frames are blank and were left out")
    try:
        document = _index(run, document, kept, config, tries)
        _finish(run, document, tries)
        reduction = _read(run, series, blank, config, told)
    except Stopped as stopped:
        reduction = _failed(run, series, blank, told, f"XDS found no lattice: {stopped}")
    except UserError as error:  # of a reader: what XDS wrote is cut or odd
        reduction = _failed(run, series, blank, told, f"XDS left nothing that can be read: {error}")
    made = [scratch / name for name in (NAME, "XDS_ASCII.HKL", "GXPARM.XDS")]
    logs = [*made, *sorted(scratch.glob("*.LP")), *run.logs]
    if stays is not None:
        reduction = put_back(reduction, stays.shift_px)
    run.report("done", 1.0)
    return EngineRun(
        "xds", run.version, reduction, tuple(tries),
        tuple(dict.fromkeys(path for path in logs if path.exists())),
    )  # fmt: skip


def _failed(
    run: XdsFolder, series: RotationSeries, blank: NDArray[np.bool_], notes: list[str], why: str
) -> Reduction:
    return reduction_from(
        series, (), frame_table(series, blank=blank), gain=series.gain or 1.0, seconds=run.seconds,
        notes=notes, why=why,
    )  # fmt: skip


def _read(
    run: XdsFolder, series: RotationSeries, blank: NDArray[np.bool_], config: ReductionConfig,
    notes: list[str],
) -> Reduction:  # fmt: skip
    found = read_xds(run.folder, series, blank)
    return reduction_from(
        series, (found.lattice,), found.frames, gain=found.gain, seconds=run.seconds,
        notes=[*notes, *found.notes], seed=config.seed, spots=found.spots,
    )  # fmt: skip


def _indexing(run: XdsFolder, error: str) -> Indexing:
    """What IDXREF.LP says of the last run; a log that is not there or cut counts as failed."""
    try:
        log = read_idxref(run.folder / "IDXREF.LP")
    except UserError as unread:
        return Indexing(0.0, 0, error or f"IDXREF.LP: {unread.found}")
    words = error or "; ".join(message.text for message in log.errors)
    if not log.complete:
        words = words or f"IDXREF.LP is cut at {log.stops_at}"
    count = log.indexing
    there = (run.folder / "XPARM.XDS").exists()
    fraction = count.fraction if count is not None and there else 0.0
    n_spots = count.n_spots if count is not None else (log.n_spots_used or 0)
    return Indexing(fraction, n_spots, words[:200], log.reduced_cell)


def _index(
    run: XdsFolder, document: XdsDocument, series: RotationSeries, config: ReductionConfig,
    tries: list[Try],
) -> XdsDocument:  # fmt: skip
    """Index, trying on where it fails; the document that did best, its files in place."""

    def attempt(one: Attempt, base: XdsDocument) -> tuple[XdsDocument, Indexing]:
        changed = base
        for key, value in one.changes:
            changed = (
                changed.with_only(key, (value,)) if key == "SPOT_RANGE"
                else changed.with_value(key, value)
            )  # fmt: skip
        error = run(changed, one.job, 0.1 + 0.05 * len(tries))
        result = _indexing(run, error)
        tries.append(Try(one.what, one.reason, result.outcome))
        run.keep("IDXREF.LP", len(tries))
        return changed, result

    best_document, best = attempt(FIRST, document)
    if not (run.folder / "SPOT.XDS").exists():
        raise Stopped(best.error or "COLSPOT left no spots")
    state = _state(run.folder)
    if best.fraction < GOOD:
        for one in further_attempts(best, _facts(document, series, config)):
            _restore(run.folder, state)
            changed, result = attempt(one, best_document)
            if result.fraction > best.fraction + BETTER:
                best_document, best, state = changed, result, _state(run.folder)
            if best.fraction >= GOOD:
                break
    _restore(run.folder, state)
    if best.fraction < ENOUGH:
        share = f"at most {100 * best.fraction:.0f} % of {best.n_spots} spots lie on one lattice"
        raise Stopped(f"{share}; {best.error}" if best.error else share)
    if config.cell is not None and best.reduced_cell is not None:
        bravais = lattice_with_known_cell(best.reduced_cell, config.cell)
        if bravais is None:
            tries.append(Try("compare cells", "one is known", "the lattice found is another one"))
        elif best_document.value("SPACE_GROUP_NUMBER") in (None, "0"):
            changed, result = attempt(known_cell_attempt(bravais, config.cell), best_document)
            if result.fraction > best.fraction - 0.1:
                return changed
            _restore(run.folder, state)
    return best_document


def _state(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in STATE if (folder / name).exists()}


def _restore(folder: Path, state: dict[str, bytes]) -> None:
    for name in STATE:
        (folder / name).unlink(missing_ok=True)
        if name in state:
            (folder / name).write_bytes(state[name])


def _finish(run: XdsFolder, document: XdsDocument, tries: list[Try]) -> None:
    """Integrate and correct, with one more try for each of the two steps."""
    error = run(document, FINISH, 0.7)
    integrated = (run.folder / "INTEGRATE.HKL").exists()
    tries.append(Try(FINISH, "as a rule", error or "done"))
    if not integrated:
        divergence = _guessed_divergence_deg(run, document)
        for key, value in (
            ("BEAM_DIVERGENCE", 8 * divergence), ("BEAM_DIVERGENCE_E.S.D.", divergence),
            ("REFLECTING_RANGE", 1.8), ("REFLECTING_RANGE_E.S.D.", 0.3),
        ):  # fmt: skip
            document = document.with_value(key, f"{value:.4f}")
        error = run(document, "INTEGRATE CORRECT", 0.8)
        why = "the size of spots could not be determined"
        tries.append(Try("INTEGRATE with a given size of spots", why, error or "done"))
        if not (run.folder / "INTEGRATE.HKL").exists():
            raise Stopped(f"INTEGRATE failed: {error or 'no INTEGRATE.HKL'}")
    if not (run.folder / "XDS_ASCII.HKL").exists():
        gentle = document.with_value("REFINE(CORRECT)", "ORIENTATION CELL")
        error = run(gentle, "CORRECT", 0.9)
        tries.append(Try("CORRECT refining less", "it failed", error or "done"))
        if not (run.folder / "XDS_ASCII.HKL").exists():
            raise Stopped(f"CORRECT failed: {error or 'no XDS_ASCII.HKL'}")


def _guessed_divergence_deg(run: XdsFolder, document: XdsDocument) -> float:
    """A spot's e.s.d. as an angle: that of the spots' positions, or one pixel."""
    spread = 1.0
    try:
        block = read_idxref(run.folder / "IDXREF.LP").start_of_integration
    except UserError:
        block = None
    if block is not None and np.isfinite(block.sd_spot_px):
        spread = max(block.sd_spot_px, 1.0)
    pixel, distance = (float(document.value(key) or 1) for key in ("QX", "DETECTOR_DISTANCE"))
    return float(np.rad2deg(np.arctan(spread * pixel / abs(distance))))


def _facts(document: XdsDocument, series: RotationSeries, config: ReductionConfig) -> Facts:
    def numbers(key: str, *otherwise: float) -> tuple[float, ...]:
        words = (document.value(key) or "").split()
        try:
            values = tuple(float(word) for word in words[: len(otherwise)])
        except ValueError:  # XDS has said so by now
            return otherwise
        return values if len(values) == len(otherwise) else otherwise

    seen = beam_seen(series)
    first, last = numbers("DATA_RANGE", 1, 1)
    coarse, fine = numbers("INCLUDE_RESOLUTION_RANGE", 20, 0.7)
    x, y, z = numbers("ROTATION_AXIS", 1, 0, 0)
    (orgx,), (orgy,) = numbers("ORGX", 0), numbers("ORGY", 0)
    return Facts(
        axis=(x, y, z),
        frames=(int(first), int(last)),
        resolution_A=(coarse, fine),
        min_pixels=int(numbers("MINIMUM_NUMBER_OF_PIXELS_IN_A_SPOT", 6)[0]),
        cell=config.cell,
        beam_seen=None if seen is None else centre_to_xds(seen),
        beam_told=(orgx, orgy),
        reverse_axis=config.try_reversed_axis,
    )
