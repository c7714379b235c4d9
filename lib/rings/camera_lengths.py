"""Effective camera lengths between those that were calibrated, with errors.

The microscope displays a nominal camera length; the effective one, and with it the pixel's size in
1/Å, differs from it by a factor that every lens setting has for itself. From two or more settings
calibrated by rings the others are interpolated (thesis, section 2.2.3.1.1): the factor is taken as
linear in the logarithm of the nominal length, so that a constant factor is exact.

A setting that was calibrated has the error of its calibration. One between has besides it the
scatter of settings tau about the line through their neighbours: with weights w and 1 - w,

``sd^2 = w^2 sd_1^2 + (1 - w)^2 sd_2^2 + tau^2 (1 + w^2 + (1 - w)^2)``

where tau comes from how far each inner setting is off its own neighbours or, with two settings
only, from the difference of their factors. Nothing is extrapolated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError
from .calibration import CALIBRATED, RingCalibration
from .ideal import effective

Floats = NDArray[np.float64]

#: Nominal camera lengths closer than this, relatively, are the same setting.
SAME = 0.005


@dataclass(frozen=True)
class CameraLengths:
    """Calibrated settings, by increasing nominal camera length.

    Attributes
    ----------
    nominal_mm : (n,) as displayed, strictly increasing.
    distance_mm, sd_mm : (n,) effective, and its standard error.
    wavelength_A, pixel_size_mm : of all calibrations, from which pixel sizes in 1/Å follow.
    scatter : tau, relative scatter of settings about a line through their neighbours; NaN for one
        setting.
    """

    nominal_mm: Floats
    distance_mm: Floats
    sd_mm: Floats
    wavelength_A: float
    pixel_size_mm: float
    scatter: float

    def at(self, nominal_mm: float) -> tuple[float, float]:
        """Effective camera length and its standard error, mm.

        Raises
        ------
        UserError : the setting lies outside of those calibrated.
        """
        off = np.abs(self.nominal_mm / nominal_mm - 1)
        nearest = int(np.argmin(off))
        if off[nearest] < SAME:
            return float(self.distance_mm[nearest]), float(self.sd_mm[nearest])
        if not self.nominal_mm[0] < nominal_mm < self.nominal_mm[-1]:
            known = ", ".join(f"{one:g}" for one in self.nominal_mm)
            raise UserError(
                "camera length", f"{nominal_mm:g} mm", f"one of or between those calibrated "
                f"({known} mm)", "calibrate this camera length too",
            )  # fmt: skip
        right = int(np.searchsorted(self.nominal_mm, nominal_mm))
        log = np.log(self.nominal_mm)
        factor, variance = _between(
            np.log(nominal_mm), log[[right - 1, right]], self._factors[[right - 1, right]],
            self._relative_sd[[right - 1, right]], self.scatter,
        )  # fmt: skip
        distance = nominal_mm * float(np.exp(factor))
        return distance, distance * float(np.sqrt(variance))

    def per_A_per_px(self, nominal_mm: float) -> tuple[float, float]:
        """Reciprocal-space size of a pixel and its standard error, 1/Å."""
        distance, sd = self.at(nominal_mm)
        size = self.pixel_size_mm / (distance * self.wavelength_A)
        return size, size * sd / distance

    @property
    def _factors(self) -> Floats:
        return np.asarray(np.log(self.distance_mm / self.nominal_mm))

    @property
    def _relative_sd(self) -> Floats:
        return np.asarray(self.sd_mm / self.distance_mm)


def camera_lengths(calibrations: Sequence[RingCalibration]) -> CameraLengths:
    """The table of calibrations at several camera lengths of one camera.

    Several of one setting are averaged, weighted by their errors; where they disagree by more, the
    error grows accordingly.

    Raises
    ------
    UserError : none is given; one failed, or does not say its nominal camera length; or they are of
        different pixels or voltages.
    """
    if not calibrations:
        raise UserError("camera lengths", "no calibration", "one or more", "calibrate rings first")
    first = calibrations[0]
    for one in calibrations:
        _check(one, first)
    nominal = np.array([float(one.camera_length_mm or 0) for one in calibrations])
    distance = np.array([effective(one)[0] for one in calibrations])
    sd = np.array([_distance_sd(one) for one in calibrations])
    rows = [_averaged(nominal[some], distance[some], sd[some]) for some in _settings(nominal)]
    table = np.array(rows)
    return CameraLengths(
        table[:, 0], table[:, 1], table[:, 2], first.wavelength_A, first.pixel_size_mm,
        _scatter(*table.T),
    )  # fmt: skip


def _check(one: RingCalibration, first: RingCalibration) -> None:
    if one.verdict != CALIBRATED:
        raise UserError(one.name, f"the verdict '{one.verdict}'", f"'{CALIBRATED}'", "leave it out")
    if not one.camera_length_mm:
        raise UserError(
            one.name, "no nominal camera length", "the one the microscope displayed",
            "give --camera-length to its calibration",
        )  # fmt: skip
    for name in ("wavelength_A", "pixel_size_mm"):
        here, there = getattr(one, name), getattr(first, name)
        if abs(here / there - 1) > 1e-4:
            raise UserError(
                f"{one.name}: {name}", f"{here:g}", f"{there:g}, as in {first.name}",
                "give calibrations of one camera at one voltage",
            )  # fmt: skip


def _distance_sd(one: RingCalibration) -> float:
    """Standard error of the distance, mm, whatever the fit called its scale."""
    sd = one.sd("distance_mm")
    return sd if np.isfinite(sd) else 0.0


def _settings(nominal: Floats) -> list[NDArray[np.int64]]:
    """Which calibrations are of one setting, by increasing nominal length."""
    order = np.argsort(nominal, kind="stable")
    new = np.diff(nominal[order]) > SAME * nominal[order][1:]
    return list(np.split(order, np.flatnonzero(new) + 1))


def _averaged(nominal: Floats, distance: Floats, sd: Floats) -> tuple[float, float, float]:
    if len(distance) == 1:
        return float(nominal[0]), float(distance[0]), float(sd[0])
    weight = 1 / np.maximum(sd, 1e-9 * distance) ** 2
    mean = float(np.average(distance, weights=weight))
    chi2 = float(weight @ (distance - mean) ** 2) / (len(distance) - 1)
    error = np.sqrt(max(chi2, 1.0) / weight.sum())
    return float(nominal.mean()), mean, float(error)


def _between(
    at: float, log: Floats, factor: Floats, sd: Floats, scatter: float
) -> tuple[float, float]:
    """Factor (its logarithm) between two settings, and its variance."""
    w = (log[1] - at) / (log[1] - log[0])
    variance = (w * sd[0]) ** 2 + ((1 - w) * sd[1]) ** 2
    variance += scatter**2 * (1 + w * w + (1 - w) ** 2)
    return float(w * factor[0] + (1 - w) * factor[1]), float(variance)


def _scatter(nominal: Floats, distance: Floats, sd: Floats) -> float:
    """Relative scatter of settings, errors of the calibrations taken off."""
    factor, own, log = np.log(distance / nominal), (sd / distance) ** 2, np.log(nominal)
    n = len(factor)
    if n == 1:
        return float("nan")
    if n == 2:
        return float(np.sqrt(max((factor[1] - factor[0]) ** 2 - own.sum(), 0.0) / 2))
    taken = []
    for i in range(1, n - 1):
        w = (log[i + 1] - log[i]) / (log[i + 1] - log[i - 1])
        miss = factor[i] - w * factor[i - 1] - (1 - w) * factor[i + 1]
        errors = own[i] + w * w * own[i - 1] + (1 - w) ** 2 * own[i + 1]
        taken.append((miss * miss - errors) / (1 + w * w + (1 - w) ** 2))
    return float(np.sqrt(max(np.mean(taken), 0.0)))
