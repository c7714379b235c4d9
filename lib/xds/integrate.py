"""INTEGRATE.LP: what XDS measured on each image."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..crystal.cell import Floats
from .log import Lines, Log, count, number, read_lines, spans
from .refined import RefinedParameters, refined_blocks

CLOSING = "total elapsed wall-clock time for INTEGRATE"


@dataclass(frozen=True, eq=False)
class ImageTable:
    """One row per image, (n,) each, in the order of the log.

    Attributes
    ----------
    number : of the image.
    error : IER, 0 or -1 cannot be read or -3 wrong format.
    scale : factor of the image; NaN on overflow.
    n_background, n_overloaded, n_ewald, n_strong, n_rejected : background pixels, overloaded
        reflections, reflections near the Ewald sphere, strong and unexpected reflections; -1 on
        overflow.
    divergence_esd_deg, mosaicity_esd_deg : SIGMAB and SIGMAR, 0 where not determined.
    """

    number: NDArray[np.int64]
    error: NDArray[np.int64]
    scale: Floats
    n_background: NDArray[np.int64]
    n_overloaded: NDArray[np.int64]
    n_ewald: NDArray[np.int64]
    n_strong: NDArray[np.int64]
    n_rejected: NDArray[np.int64]
    divergence_esd_deg: Floats
    mosaicity_esd_deg: Floats

    def __len__(self) -> int:
        return len(self.number)


@dataclass(frozen=True)
class ProfileCorrelation:
    """One row of the correlations between observed and expected profiles.

    Attributes
    ----------
    min_i_over_sigma, max_i_over_sigma : the bin.
    correlation, esd : mean and its standard deviation, -1 to 1.
    mean_intensity : of the bin.
    n : reflections.
    """

    min_i_over_sigma: float
    max_i_over_sigma: float
    correlation: float
    esd: float
    mean_intensity: float
    n: int | None


@dataclass(frozen=True)
class Integrate(Log):
    """What INTEGRATE.LP says. What it does not say is None, NaN or empty.

    Attributes
    ----------
    data_range : first and last image asked for.
    batches : first and last image of each batch that was begun.
    images : one row per image.
    refinements : parameters refined per batch, if REFINE(INTEGRATE) asks for any.
    n_integrated : reflections integrated in each batch, None where not printed.
    beam_divergence_deg, beam_divergence_esd_deg, reflecting_range_deg,
    reflecting_range_esd_deg : the values suggested for XDS.INP.
    profile_correlations : by I/sigma.
    n_saved : reflections on INTEGRATE.HKL.
    gain : pixel value per count that INIT found, which includes the spread of the detector's
        response; NaN if not printed.
    """

    data_range: tuple[int, int] | None
    batches: tuple[tuple[int, int], ...]
    images: ImageTable
    refinements: tuple[RefinedParameters, ...]
    n_integrated: tuple[int | None, ...]
    beam_divergence_deg: float
    beam_divergence_esd_deg: float
    reflecting_range_deg: float
    reflecting_range_esd_deg: float
    profile_correlations: tuple[ProfileCorrelation, ...]
    n_saved: int | None
    gain: float


def read_integrate(path: str | Path) -> Integrate:
    """Read an INTEGRATE.LP, also of a run that failed or was cut (see `Log.complete`).

    Raises
    ------
    UserError : the file cannot be read, or is not a log of INTEGRATE.
    """
    lines = read_lines(path, "INTEGRATE", CLOSING)
    suggested = lines.find("SUGGESTED VALUES FOR INPUT PARAMETERS") or len(lines.all)
    return Integrate(
        data_range=lines.card_range("DATA_RANGE"),
        batches=_batches(lines),
        images=_images(lines),
        refinements=refined_blocks(lines),
        n_integrated=tuple(_integrated(lines)),
        beam_divergence_deg=number(lines.card("BEAM_DIVERGENCE", suggested)),
        beam_divergence_esd_deg=number(lines.card("BEAM_DIVERGENCE_E.S.D.", suggested)),
        reflecting_range_deg=number(lines.card("REFLECTING_RANGE", suggested)),
        reflecting_range_esd_deg=number(lines.card("REFLECTING_RANGE_E.S.D.", suggested)),
        profile_correlations=_profile_correlations(lines),
        n_saved=lines.leading("REFLECTIONS SAVED ON FILE"),
        gain=number(lines.after("WITH GAIN=")),
        **lines.common(),
    )


def _batches(lines: Lines) -> tuple[tuple[int, int], ...]:
    found = (_BATCH.search(line) for line in lines.all)
    return tuple((int(m[1]), int(m[2])) for m in found if m)


def _images(lines: Lines) -> ImageTable:
    rows: list[list[float]] = []
    for title in lines.find_all("IMAGE IER"):
        header = lines.all[title]
        edges = [m.end() for m in re.finditer(r"\S+", header)]
        if len(edges) != 10:
            lines.not_understood(title, "heading of the images")
            continue
        for index, line in lines.rows(title + 1):
            row = _image(line, edges)
            if row is None:
                lines.not_understood(index, "image")
            else:
                rows.append(row)
    table = np.array(rows, float).reshape(-1, 10)
    whole = np.where(np.isfinite(table), table, -1).astype(np.int64)
    image, error, _, background, overloaded, ewald, strong, rejected, _, _ = whole.T
    return ImageTable(
        number=image,
        error=error,
        scale=table[:, 2],
        n_background=background,
        n_overloaded=overloaded,
        n_ewald=ewald,
        n_strong=strong,
        n_rejected=rejected,
        divergence_esd_deg=table[:, 8],
        mosaicity_esd_deg=table[:, 9],
    )


def _image(line: str, edges: list[int]) -> list[float] | None:
    words = line.split()
    if len(words) != 10:  # columns touch: they end where the words of the heading do
        starts = [0, *edges]
        words = [line[a:b].strip() for a, b in zip(starts, edges, strict=False)]
    for i, word in enumerate(words):
        decimals = i in (2, 8, 9)
        if not re.fullmatch(r"\*+|-?\d*\.\d+" if decimals else r"\*+|-?\d{1,9}", word):
            return None
    values = [number(word) for word in words]
    return None if np.isnan(values[0]) else values


def _integrated(lines: Lines) -> Iterator[int | None]:
    starts = [i for i, line in enumerate(lines.all) if _BATCH.search(line)]
    for start, stop in spans(starts, len(lines.all)):
        yield lines.leading("REFLECTION INTENSITIES INTEGRATED", start, stop)


_BATCH = re.compile(r"PROCESSING OF IMAGES\s+(\d{1,9})\s*\.\.\.\s*(\d{1,9})")
_BIN = re.compile(r"^\s*(-?\d+)\.\.\.\s*(-?\d+)\s+(.*)$")


def _profile_correlations(lines: Lines) -> tuple[ProfileCorrelation, ...]:
    title = lines.find("I/Sigma        CORR")
    if title is None:
        return ()
    table = []
    for index, line in lines.rows(title + 1, skip=1):
        m = _BIN.match(line)
        words = re.findall(r"-?\d*\.\d{3}|-?\d+\.(?=\s|$)|-?\d+|\*+", m[3]) if m else []
        if m is None or len(words) != 4:
            lines.not_understood(index, "profile correlation")
            continue
        corr, esd, mean = (number(word) for word in words[:3])
        table.append(ProfileCorrelation(float(m[1]), float(m[2]), corr, esd, mean, count(words[3])))
    return tuple(table)
