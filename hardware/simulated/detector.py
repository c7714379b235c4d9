"""How electrons become counts: a counting Timepix, and a CMOS sensor that adds up light.

Random numbers come from a counter hashed with the seed and the exposure's number (splitmix64,
Steele, Lea and Flood 2014): an image depends on nothing else, and costs no state.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
from numba import njit
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, PositiveInt
from scipy.special import gammaln, ndtri, xlogy

Floats = NDArray[np.float64]
Counts = NDArray[np.unsignedinteger[Any]]
# tabulated means: every 1 / FINE below TABLED; counts below OUTCOMES (beyond it lies 1e-13)
TABLED, FINE, OUTCOMES = 20, 8, 64


class Timepix(BaseModel):
    """2 x 2 chips of 256 x 256 pixels; those between the chips are three times as wide.

    The wide ones are read as three pixels each, among which their count is shared, so that the
    image has 516 x 516 pixels: rows and columns 255 to 257 are one wide pixel, 258 to 260 too.

    Attributes
    ----------
    shape : of the image; fixed.
    pixel_size_mm, saturation, dead_time_s, binnings : see `protocols.Camera`.
    spread : share of a pixel's electrons that each of its four neighbours sees.
    dead_pixels, hot_pixels : how many, anywhere; a hot one counts `hot_per_s` by itself.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: Literal["timepix"] = "timepix"
    shape: tuple[Literal[516], Literal[516]] = (516, 516)
    pixel_size_mm: PositiveFloat = 0.055
    saturation: PositiveInt = Field(default=11810, le=16383)
    dead_time_s: NonNegativeFloat = 0.010
    binnings: tuple[int, ...] = (1, 2)
    spread: float = Field(default=0.04, ge=0, le=0.2)
    dead_pixels: int = Field(default=30, ge=0)
    hot_pixels: int = Field(default=10, ge=0)
    hot_per_s: NonNegativeFloat = 300.0


class Cmos(BaseModel):
    """A scintillator on a sensor: ``counts = pedestal + gain * electrons + read noise``.

    Attributes
    ----------
    shape, pixel_size_mm, saturation, dead_time_s, binnings : see `protocols.Camera`.
    gain : counts per electron.
    read_noise : standard deviation, counts.
    pedestal : counts without light.
    spread : share of a pixel's light that each of its four neighbours sees.
    dead_pixels, hot_pixels, hot_per_s : as of a Timepix; `hot_per_s` in electrons.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: Literal["cmos"] = "cmos"
    shape: tuple[PositiveInt, PositiveInt] = (1024, 1024)
    pixel_size_mm: PositiveFloat = 0.031
    saturation: PositiveInt = Field(default=65535, le=65535)
    dead_time_s: NonNegativeFloat = 0.002
    binnings: tuple[int, ...] = (1, 2, 4)
    gain: PositiveFloat = 8.0
    read_noise: NonNegativeFloat = 3.0
    pedestal: NonNegativeFloat = 100.0
    spread: float = Field(default=0.09, ge=0, le=0.2)
    dead_pixels: int = Field(default=20, ge=0)
    hot_pixels: int = Field(default=10, ge=0)
    hot_per_s: NonNegativeFloat = 500.0


class Readout:
    """One camera's pixels, with their defects drawn from a seed."""

    def __init__(self, options: Timepix | Cmos, seed: int) -> None:
        self.options, self._seed = options, seed
        rng = np.random.default_rng([seed, 0xCA])
        n = options.shape[0] * options.shape[1]
        bad = rng.choice(n, options.dead_pixels + options.hot_pixels, replace=False)
        self.dead, self.hot = bad[: options.dead_pixels], bad[options.dead_pixels :]

    def counts(self, electrons: Floats, exposure_s: float, number: int, binning: int) -> Counts:
        """An image from the electrons expected in each pixel, (rows, columns).

        Bins add up the pixels' counts, up to what their unsigned integers hold.
        """
        o = self.options
        key = np.uint64(_mix(_mix(self._seed & (2**64 - 1)) ^ number))
        expected = _blurred(np.asarray(electrons, np.float64), o.spread)
        expected.flat[self.hot] += o.hot_per_s * exposure_s
        expected.flat[self.dead] = 0.0
        if o.kind == "timepix":
            wide = _gather(expected)
            shown = _scatter(_poisson(wide, key, SHARE, OTHER, QUANTILES), o.saturation)
        else:
            drawn = _poisson(expected, key, SHARE, OTHER, QUANTILES)
            shown = _read(drawn, key, o.gain, o.read_noise, o.pedestal, o.saturation, QUANTILES)
        if binning == 1:
            return shown
        rows, columns = (length // binning for length in shown.shape)
        cut = shown[: rows * binning, : columns * binning]
        summed = cut.reshape(rows, binning, columns, binning).sum((1, 3), dtype=np.uint32)
        return np.minimum(summed, np.iinfo(np.uint16).max).astype(np.uint16)


def _mix(z: int) -> int:
    mask = 2**64 - 1
    z = (z + 0x9E3779B97F4A7C15) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return z ^ (z >> 31)


@njit(cache=True)
def _uniform(key: np.uint64, n: np.uint64) -> float:
    """The n-th number of a key's sequence, within (0, 1)."""
    z = key + n * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return (float(z >> np.uint64(11)) + 0.5) / 9007199254740992.0


@njit(cache=True)
def _normal(u: float) -> float:
    """Quantile of the normal distribution (Acklam's rational approximation, 1e-9)."""
    if 0.02425 <= u <= 0.97575:
        q = u - 0.5
        r = q * q
        a = (
            ((((-3.969683028665376e1 * r + 2.209460984245205e2) * r - 2.759285104469687e2) * r
              + 1.383577518672690e2) * r - 3.066479806614716e1) * r + 2.506628277459239
        )  # fmt: skip
        b = (
            ((((-5.447609879822406e1 * r + 1.615858368580409e2) * r - 1.556989798598866e2) * r
              + 6.680131188771972e1) * r - 1.328068155288572e1) * r + 1.0
        )  # fmt: skip
        return a * q / b
    q = math.sqrt(-2.0 * math.log(min(u, 1.0 - u)))
    c = (
        ((((-7.784894002430293e-3 * q - 3.223964580411365e-1) * q - 2.400758277161838) * q
          - 2.549732539343734) * q + 4.374664141464968) * q + 2.938163982698783
    )  # fmt: skip
    d = (
        (((7.784695709041462e-3 * q + 3.224671290700398e-1) * q + 2.445134137142996) * q
         + 3.754408661907416) * q + 1.0
    )  # fmt: skip
    return c / d if u < 0.5 else -c / d


def _alias_tables() -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Walker's alias tables of the Poisson distributions with tabulated means."""
    share = np.ones((TABLED * FINE, OUTCOMES))
    other = np.zeros((TABLED * FINE, OUTCOMES), np.uint8)
    counts = np.arange(OUTCOMES)
    for row in range(TABLED * FINE):
        probability = np.exp(xlogy(counts, row / FINE) - row / FINE - gammaln(counts + 1))
        scaled = (probability * OUTCOMES).tolist()
        small = [k for k, p in enumerate(scaled) if p < 1]
        large = [k for k, p in enumerate(scaled) if p >= 1]
        while small and large:
            little, much = small.pop(), large[-1]
            share[row, little], other[row, little] = scaled[little], much
            scaled[much] -= 1 - scaled[little]
            if scaled[much] < 1:
                small.append(large.pop())
    return share.astype(np.float32), other  # small enough for the nearest cache


SHARE, OTHER = _alias_tables()


# quantiles of the normal distribution, to be interpolated: right to 5e-4 between the outermost
KNOTS, OUTERMOST = 4096, 8
QUANTILES = ndtri(np.clip(np.arange(KNOTS + 1) / KNOTS, 1e-9, 1 - 1e-9))


@njit(cache=True)
def _deviate(u: float, quantiles: Floats) -> float:
    """A normal deviate from one uniform number."""
    place = u * KNOTS
    k = int(place)
    if OUTERMOST <= k < KNOTS - OUTERMOST:
        return quantiles[k] + (place - k) * (quantiles[k + 1] - quantiles[k])
    return _normal(u)


@njit(cache=True)
def _poisson(
    expected: Floats,
    key: np.uint64,
    share: NDArray[np.float32],
    other: NDArray[np.uint8],
    quantiles: Floats,
) -> NDArray[np.int32]:
    """Poisson deviates.

    Below a mean of 20 exact: the sum of a deviate of the tabulated mean below, from its alias
    table (a random loop would mostly wait for mispredicted branches), and one of the small rest.
    Above, the rounded Cornish-Fisher expansion of the normal deviate to the third cumulant: its
    distribution function is right to 5e-4.
    """
    rows, columns = expected.shape
    half = np.uint64(rows * columns)
    drawn = np.empty((rows, columns), np.int32)
    for i in range(rows):
        for j in range(columns):
            mean = expected[i, j]
            if mean <= 0.0:
                drawn[i, j] = 0
                continue
            n = np.uint64(i * columns + j + 1)
            u = _uniform(key, n)
            if mean >= TABLED:
                z = _deviate(u, quantiles)
                root = math.sqrt(mean - 1.0 / 12.0)  # rounding adds the rest
                value = mean + root * z + (z * z - 1.0) / 6.0
                value += (z - z * z * z) / (72.0 * root)
                drawn[i, j] = max(math.floor(value + 0.5), 0)
                continue
            row = int(mean * FINE)
            k = 0
            if row:
                place = u * OUTCOMES
                k = int(place)
                if place - k >= share[row, k]:
                    k = int(other[row, k])
                u = _uniform(key, n + half)
            rest = mean - row / FINE
            if u > 1.0 - rest:
                p = math.exp(-rest)
                more, total = 0, p
                while u > total and more < OUTCOMES:
                    more += 1
                    p *= rest / more
                    total += p
                k += more
            drawn[i, j] = k
    return drawn


@njit(cache=True)
def _blurred(image: Floats, share: float) -> Floats:
    """Each pixel gives `share` to each of its four neighbours; at the edges it keeps it."""
    rows, columns = image.shape
    result = np.empty((rows, columns))
    keep = 1.0 - 4.0 * share
    for i in range(rows):
        above, below = max(i - 1, 0), min(i + 1, rows - 1)
        result[i, 0] = keep * image[i, 0] + share * (
            image[above, 0] + image[below, 0] + image[i, 0] + image[i, min(1, columns - 1)]
        )
        for j in range(1, columns - 1):
            result[i, j] = keep * image[i, j] + share * (
                image[above, j] + image[below, j] + image[i, j - 1] + image[i, j + 1]
            )
        j = columns - 1
        result[i, j] = keep * image[i, j] + share * (
            image[above, j] + image[below, j] + image[i, max(j - 1, 0)] + image[i, j]
        )
    return result


@njit(cache=True)
def _chip(i: int) -> int:
    """Which of 512 pixels a row or column of 516 belongs to."""
    if i < 255:
        return i
    if i < 258:
        return 255
    if i < 261:
        return 256
    return i - 4


@njit(cache=True)
def _gather(image: Floats) -> Floats:
    """(516, 516) to the (512, 512) pixels that count."""
    pixels = np.zeros((512, 512))
    for i in range(516):
        row = _chip(i)
        for j in range(516):
            pixels[row, _chip(j)] += image[i, j]
    return pixels


@njit(cache=True)
def _scatter(pixels: NDArray[np.int32], saturation: int) -> NDArray[np.uint16]:
    """Counts of (512, 512) pixels as a (516, 516) image; wide ones shared among their parts."""
    image = np.empty((516, 516), np.uint16)
    for i in range(516):
        row = _chip(i)
        tall = 3 if 255 <= i < 261 else 1
        for j in range(516):
            parts = 3 * tall if 255 <= j < 261 else tall
            count = min(pixels[row, _chip(j)], saturation)
            image[i, j] = (count + parts // 2) // parts
    return image


@njit(cache=True)
def _read(
    electrons: NDArray[np.int32],
    key: np.uint64,
    gain: float,
    noise: float,
    pedestal: float,
    saturation: int,
    quantiles: Floats,
) -> NDArray[np.uint16]:
    """Electrons to counts of a sensor that is read with noise."""
    key = key ^ np.uint64(0x5DEECE66D5DEECE6)
    rows, columns = electrons.shape
    image = np.empty((rows, columns), np.uint16)
    for i in range(rows):
        for j in range(columns):
            u = _uniform(key, np.uint64(i * columns + j + 1))
            value = pedestal + gain * electrons[i, j] + noise * _deviate(u, quantiles)
            image[i, j] = np.uint16(min(max(math.floor(value + 0.5), 0.0), float(saturation)))
    return image
