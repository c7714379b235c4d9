"""From raw scans to `Patterns`: every step a named choice, every scale that of the noise."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError
from ..geometry import EllipticalDistortion
from ..overfocus.calibration import ScanCalibration
from ..rings.calibration import RingCalibration
from ..stem4d.bright_disc import find_disc
from ..stem4d.rows import for_each_rows
from ..stem4d.scan import Scan4D
from .denoise import components, project
from .noise import noise_ratio
from .patterns import Floats32, Patterns
from .preprocess_config import PreprocessConfig
from .resample import CONSTANT, NEGATIVE, NOT_FINITE, SATURATED, Binning, binning

__all__ = ["PreprocessConfig", "prepare"]

Floats = NDArray[np.float64]

LOOK_FRAMES = 256  # read first, for the disc and pixels that are always saturated
OFTEN = 0.01  # of frames in which a pixel may be saturated before it is masked
FAR_PX = 0.25  # of a prepared pixel that descan may move the disc unmentioned
FEW = 100  # patterns from which no rotation is learnt
SIGMAS_BELOW = 8.0  # of read noise that a count may lie below the pedestal
LEAST_RATIO, LARGEST_RATIO = 0.85, 1.5  # of seen over stated variance, else it is noted
WHY = {
    NOT_FINITE: "hold numbers that are not finite",
    NEGATIVE: "hold counts below the pedestal by more than the read noise explains",
    CONSTANT: "have the same value in all pixels",
    SATURATED: "hold saturated pixels",
}


def prepare(
    scan: Scan4D,
    config: PreprocessConfig | None = None,
    *,
    calibration: ScanCalibration | None = None,
    rings: RingCalibration | None = None,
    spool: Path | None = None,
    threads: int = 1,
) -> Patterns:
    """Patterns in electrons with their noise, binned about their centre.

    The scan is read once, a run of frames at a time, after a look at up to 256 of its frames.

    Parameters
    ----------
    calibration : of the same scan geometry, where `centre` is "calibration".
    rings : of the same camera, where `distortion` is "rings".
    spool : file to keep the patterns in instead of memory.
    threads : that read and bin.

    Raises
    ------
    UserError : no gain and no pseudo-dose, no disc, a calibration that is missing or of another
        shape, or no pattern that can be used. Single bad patterns are left out and noted.
    """
    config = config or PreprocessConfig()
    notes: list[str] = []
    look = _look(scan)
    raw_mask, hot = _raw_mask(scan, look)
    if hot:
        notes.append(f"{hot} pixels are saturated in more than 1 % of the patterns and masked")
    pedestal = scan.pedestal if config.pedestal is None else config.pedestal
    electrons = _electrons_per_count(scan, config, look, raw_mask, pedestal)
    mean_look = np.nanmean(np.where(np.isfinite(look), look, np.nan), axis=0)
    mean_look = np.nan_to_num(mean_look - pedestal)
    centre, radius = _centre(scan, config, calibration, mean_look, raw_mask, notes)
    bin_px = config.bin_px or _fitting_bin(scan.shape, config.shape)
    bins = binning(raw_mask, centre, config.shape, bin_px, _ellipse(scan, config, rings))
    data, index = _read(scan, config, bins, pedestal, electrons, spool, threads, notes)
    if len(index) < FEW:
        notes.append(f"only {len(index)} patterns: a network learns no rotation from so few")
    _tell_descan(scan, calibration, bin_px, notes)
    mask = bins.mask | _ring_mask(config, radius / bin_px if radius else None, notes)
    data[:, mask] = 0
    mean = np.where(mask, 0.0, _mean(data))
    variance = config.excess_noise * mean + (config.read_noise_e * bin_px) ** 2
    dose = float(mean.sum())
    if config.subtract == "mean":
        for first in range(0, len(data), 4096):
            data[first : first + 4096] -= mean.astype(np.float32)
    else:
        mean = np.zeros_like(mean)
    found = {
        "centre_px": [float(c) for c in centre],
        "bin_px": float(bin_px),
        "electrons_per_count": float(electrons),
        "pedestal": float(pedestal),
        "noise_ratio": None,
    }
    if config.pseudo_dose is None and config.subtract == "mean":
        ratio = noise_ratio(data, mean, variance * bins.smoothing, mask)
        _tell_noise(ratio, notes)
        found["noise_ratio"] = ratio
    patterns = Patterns(
        data=data,
        variance=np.maximum(variance, config.least_variance_e2).astype(np.float32)[None],
        mask=mask,
        scan_shape=scan.scan_shape,
        index=index,
        centre_px=((config.shape[0] - 1) / 2, (config.shape[1] - 1) / 2),
        mean=mean,
        dose=dose,
        pixel_mrad=_pixel_mrad(scan, bin_px),
        disc_radius_px=radius / bin_px if radius else None,
        choices=MappingProxyType(config.model_dump(mode="json") | {"found": found}),
        notes=tuple(notes),
    )
    return patterns if config.pca is None else _denoised(patterns, config.pca)


def _look(scan: Scan4D) -> Floats32:
    """Some frames, evenly from the scan, of those not missing; float32 (n, rows, columns)."""
    there = np.argwhere(~scan.missing)
    if len(there) == 0:
        raise UserError(scan.name, "no pattern at all", "patterns", "check the file that was read")
    rows = np.unique(there[:, 0])
    per_row = max(1, LOOK_FRAMES // 16)
    picked = []
    for row in rows[np.linspace(0, len(rows) - 1, min(16, len(rows))).astype(int)]:
        columns = np.flatnonzero(~scan.missing[row])
        columns = columns[np.linspace(0, len(columns) - 1, min(per_row, len(columns))).astype(int)]
        picked.append(np.asarray(scan.frames[row : row + 1])[0][columns].astype(np.float32))
    return np.concatenate(picked)


def _raw_mask(scan: Scan4D, look: Floats32) -> tuple[NDArray[np.bool_], int]:
    """The scan's mask with pixels that are often saturated, and how many those are."""
    if scan.saturation is None:
        return scan.mask, 0
    often = ((look >= scan.saturation).mean(0) > OFTEN) & ~scan.mask
    return scan.mask | often, int(often.sum())


def _electrons_per_count(
    scan: Scan4D,
    config: PreprocessConfig,
    look: Floats32,
    mask: NDArray[np.bool_],
    pedestal: float,
) -> float:
    if config.pseudo_dose is not None:
        with np.errstate(invalid="ignore"):
            sums = (look[:, ~mask].astype(float) - pedestal).sum(1)
        sums = sums[np.isfinite(sums)]
        if not (len(sums) and sums.mean() > 0):
            raise UserError(scan.name, "patterns without intensity", "some", "check the file")
        return config.pseudo_dose / float(sums.mean())
    gain = scan.gain if config.gain is None else config.gain
    if gain is None:
        raise UserError(
            f"{scan.name}, gain",
            "none stated",
            "counts per electron, from which the noise follows",
            "state gain, or pseudo_dose if the patterns have no noise",
        )
    return 1 / gain


def _centre(
    scan: Scan4D,
    config: PreprocessConfig,
    calibration: ScanCalibration | None,
    mean: Floats,
    mask: NDArray[np.bool_],
    notes: list[str],
) -> tuple[tuple[float, float], float | None]:
    """(row, column) and the disc's radius, raw pixels; the radius None if not known."""
    if config.centre == "disc":
        disc = find_disc(mean, mask, f"{scan.name}, mean pattern")
        expected = _pixel_mrad(scan, 1.0)
        if expected and scan.convergence_mrad:
            told = scan.convergence_mrad / expected
            if abs(disc.radius_px / told - 1) > 0.05:
                notes.append(
                    f"the disc's radius is {disc.radius_px:.1f} px; convergence angle and camera "
                    f"length say {told:.1f} px"
                )
        return disc.centre_px, disc.radius_px
    if config.centre == "calibration":
        if calibration is None or calibration.shape != scan.shape:
            found = "none" if calibration is None else f"one for frames of {calibration.shape}"
            raise UserError(
                f"{scan.name}, overfocus calibration",
                found,
                f"one for frames of {scan.shape}",
                "give it, or fit the centre to the disc (centre: disc)",
            )
        return calibration.centre_px, calibration.disc_radius_px
    row, column = config.centre
    if not (0 <= row < scan.shape[0] and 0 <= column < scan.shape[1]):
        raise UserError(
            "centre", f"({row}, {column})", f"a pixel of {scan.shape}", "state it as (row, column)"
        )
    pixel = _pixel_mrad(scan, 1.0)
    return (row, column), scan.convergence_mrad / pixel if pixel and scan.convergence_mrad else None


def _ellipse(
    scan: Scan4D, config: PreprocessConfig, rings: RingCalibration | None
) -> EllipticalDistortion | None:
    if config.distortion == "none":
        return None
    if rings is None or rings.shape != scan.shape:
        found = "none" if rings is None else f"one for frames of {rings.shape}"
        raise UserError(
            f"{scan.name}, ring calibration",
            found,
            f"one for frames of {scan.shape}",
            "give it, or leave the ellipse in (distortion: none)",
        )
    return rings.distortion


def _fitting_bin(raw: tuple[int, int], shape: tuple[int, int]) -> float:
    return float(max(1, *(-(-a // b) for a, b in zip(raw, shape, strict=True))))


def _read(
    scan: Scan4D,
    config: PreprocessConfig,
    bins: Binning,
    pedestal: float,
    electrons: float,
    spool: Path | None,
    threads: int,
    notes: list[str],
) -> tuple[Floats32, NDArray[np.int64]]:
    """Binned patterns in electrons and their place in the scan, bad ones left out."""
    total = scan.scan_shape[0] * scan.scan_shape[1]
    size = (total, *config.shape)
    data: Floats32
    if spool is None:
        data = np.empty(size, np.float32)
    else:
        data = np.lib.format.open_memmap(spool, "w+", np.float32, size)
    flags = np.zeros(total, np.uint8)
    lowest = pedestal - SIGMAS_BELOW * config.read_noise_e / electrons
    saturation = np.inf if scan.saturation is None else float(scan.saturation)
    missing = scan.missing.ravel()

    def work(first: int, frames: NDArray[Any]) -> None:
        part = slice(first, first + len(frames))
        flags[part] = bins.apply(frames, data[part], pedestal, electrons, lowest, saturation)

    for_each_rows(scan, work, threads=threads)
    flags[missing] = 0
    _tell_bad(scan, flags, notes)
    good = np.flatnonzero((flags == 0) & ~missing)
    if len(good) < 2:
        why = Counter(WHY[b] for f in flags for b in WHY if f & b).most_common(1)
        raise UserError(
            scan.name,
            f"{len(good)} patterns to learn from; the others {why[0][0] if why else 'are missing'}",
            "at least 2",
            "check gain, pedestal, read_noise_e and the mask",
        )
    if missing.any():
        notes.append(f"{int(missing.sum())} scan points have no pattern")
    for to, source in enumerate(good):  # in place: `good` ascends
        if to != source:
            data[to] = data[source]
    return data[: len(good)], good.astype(np.int64)


def _tell_bad(scan: Scan4D, flags: NDArray[np.uint8], notes: list[str]) -> None:
    for bit, why in WHY.items():
        bad = np.flatnonzero(flags & bit)
        if len(bad):
            where = divmod(int(bad[0]), scan.scan_shape[1])
            notes.append(f"{len(bad)} patterns, the first at {where}, {why} and are left out")


def _mean(data: Floats32) -> Floats:
    total = np.zeros(data.shape[1:])
    for first in range(0, len(data), 4096):
        total += data[first : first + 4096].sum(0, dtype=float)
    return total / len(data)


def _ring_mask(
    config: PreprocessConfig, disc_radius_px: float | None, notes: list[str]
) -> NDArray[np.bool_]:
    """(rows, columns) bool, True in the ring to mask and too far out."""
    row, column = (np.arange(n) - (n - 1) / 2 for n in config.shape)
    radius = np.hypot(row[:, None], column)
    out = np.zeros(config.shape, bool)
    if config.ring_px:
        out |= (radius >= config.ring_px[0]) & (radius <= config.ring_px[1])
    if config.outer_discs:
        if disc_radius_px is None:
            raise UserError(
                "outer_discs",
                f"{config.outer_discs} radii of a disc of unknown size",
                "a disc that was fitted or calibrated",
                "let centre be disc or calibration, or state convergence and camera length",
            )
        out |= radius > config.outer_discs * disc_radius_px
    if out.all():
        raise UserError("ring_px, outer_discs", "every pixel masked", "some left", "mask less")
    return out


def _pixel_mrad(scan: Scan4D, bin_px: float) -> float | None:
    if scan.pixel_size_mm is None or scan.camera_length_mm is None:
        return None
    return scan.pixel_size_mm * bin_px / scan.camera_length_mm * 1e3


def _tell_descan(
    scan: Scan4D, calibration: ScanCalibration | None, bin_px: float, notes: list[str]
) -> None:
    if calibration is None:
        return
    corners = np.array(scan.scan_shape) / 2 * [[1, 1], [1, -1]]
    moved = float(np.linalg.norm(corners @ np.asarray(calibration.descan).T, axis=1).max()) / bin_px
    if moved > FAR_PX:
        notes.append(
            f"descan moves the disc by up to {moved:.2f} prepared pixels from its middle, which "
            "is left in"
        )


def _tell_noise(ratio: float | None, notes: list[str]) -> None:
    if ratio is not None and not LEAST_RATIO <= ratio <= LARGEST_RATIO:
        notes.append(
            f"counts vary {ratio:.2f} times as much as gain, excess_noise and read_noise_e say, "
            "where there is the least signal; weights are off by as much"
        )


def _denoised(patterns: Patterns, count: int | Literal["noise"]) -> Patterns:
    basis = components(patterns, count)
    kept = len(basis.eigenvalues)
    if kept == 0:
        return patterns.with_(
            notes=(*patterns.notes, "no principal component stands out of the noise; all kept")
        )
    project(patterns, basis)
    over = int((basis.eigenvalues > basis.edge).sum())
    text = f"denoised to {kept} principal components, {over} of which stand out of the noise"
    found = dict(patterns.choices["found"]) | {"pca_eigenvalues": basis.eigenvalues.tolist()}
    choices = MappingProxyType({**patterns.choices, "found": found})
    return patterns.with_(notes=(*patterns.notes, text), choices=choices)
