"""Drawings of how the series of a session went: angles, drift, dose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..serialred.acquisition import CrystalOutcome
from ..serialred.tracks import Track
from .frame_figures import tidy
from .html import BLUE, LATTICE_COLOURS, SKY, VERMILION

# Lines differ in colour and in dashes, for those who see no colours.
_DASHES = ("-", "--", "-.", ":")
_NAMED = 24  # more than these are told apart by nobody


def tilt_tracks(tracks: Sequence[Track]) -> Figure:
    """The goniometer's angle over the time of each series, and what a straight line leaves."""
    drawing = Figure(figsize=(10, 6.4), layout="constrained")
    whole, rest = drawing.subplots(2, 1, sharex=True)
    for k, one in enumerate(tracks):
        order = np.argsort(one.time_s, kind="stable")
        time, alpha = one.time_s[order], one.alpha_deg[order]
        whole.plot(time, alpha, lw=1.1, **_style(k), label=one.name)
        if len(time) > 2:
            line = np.polynomial.Polynomial.fit(time, alpha, 1)
            rest.plot(time, alpha - line(time), lw=0.9, **_style(k))
    whole.set_ylabel("alpha / °")
    rest.set(xlabel="time since the first frame began / s", ylabel="beside a straight line / °")
    _names(whole, len(tracks))
    for axes in (whole, rest):
        tidy(axes)
    return drawing


def drift_curves(tracks: Sequence[Track]) -> Figure:
    """How far each crystal was followed, and how far it was from where it was expected."""
    drawing = Figure(figsize=(10, 6.4), layout="constrained")
    far, off = drawing.subplots(2, 1, sharex=True)
    for k, one in enumerate(tracks):
        order = np.argsort(one.moved_alpha_deg, kind="stable")
        away = np.hypot(*one.moved_um[order].T) if len(order) else np.zeros(0)
        far.plot(one.moved_alpha_deg[order], away, lw=1.1, **_style(k), label=one.name)
        good = one.believed
        off.plot(one.seen_alpha_deg[good], one.off_um[good], ".", ms=3, color=BLUE)
        off.plot(one.seen_alpha_deg[~good], one.off_um[~good], "x", ms=5, color=VERMILION)
    far.set_ylabel("followed by / µm")
    off.set(xlabel="alpha / °", ylabel="off the expected place / µm")
    off.plot([], [], ".", color=BLUE, label="used")
    off.plot([], [], "x", color=VERMILION, label="not used")
    off.legend(frameon=False, fontsize=8)
    _names(far, len(tracks))
    for axes in (far, off):
        tidy(axes)
    return drawing


def dose_of_crystals(taken: Sequence[CrystalOutcome]) -> Figure:
    """Dose of each crystal, or the time the beam was on it where the dose rate is not known."""
    known = all(one.dose_e_per_A2 is not None for one in taken)
    values = [(one.dose_e_per_A2 or 0.0) if known else one.beam_s for one in taken]
    drawing = Figure(figsize=(10, 1.2 + 0.24 * max(len(taken), 1)), layout="constrained")
    axes = drawing.subplots()
    axes.barh(range(len(taken)), values, color=SKY, height=0.65)
    axes.set_yticks(range(len(taken)), [one.name for one in taken], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("dose / e Å⁻²" if known else "beam on the crystal / s")
    tidy(axes)
    return drawing


def _style(k: int) -> dict[str, Any]:
    n = len(LATTICE_COLOURS)
    return {"color": LATTICE_COLOURS[k % n], "linestyle": _DASHES[k // n % len(_DASHES)]}


def _names(axes: Axes, n: int) -> None:
    if 0 < n <= _NAMED:
        axes.legend(
            loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, fontsize=8, borderpad=0
        )
