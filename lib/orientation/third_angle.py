"""The third angle: rotation about the beam, from where spots are on the camera.

Indices tell the direction of the beam in the crystal, but not how the pattern is turned on the
camera. Observed positions o and positions p predicted without such a turn, both about their
weighted means (beam drift drops out), differ by a rotation psi; the weighted Procrustes solution in
the plane is ``psi = atan2(sum w p x o, sum w p . o)``, with variance ``chi^2 / sum w |p|^2``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..crystal.cell import Floats

#: Error of a strong spot's position, px: pixels, distortion, overlap.
FLOOR_PX = 0.1
#: Spots that a frame needs.
LEAST_SPOTS = 4


@dataclass(frozen=True)
class ThirdAngle:
    """Rotation about the beam of each frame.

    Attributes
    ----------
    angle_deg, sd_deg : (frames,) right-handed about the beam; NaN with fewer than `LEAST_SPOTS`.
    offset_deg : median angle: the axis' azimuth on the camera is off by that.
    jitter_deg : sd of the angles beyond their errors.
    shrunk_deg : (frames,) as to be used: offset, and as much of a frame's own angle as its error
        leaves credible; the offset where there is none.
    agreement : correlation of observed with predicted places, 1 for a perfect match.
    rms_px : distance of spots from their predicted places, after shift and turn.
    strain : (3,) principal strains of the reciprocal lattice that places of spots ask for: zero
        with the right cell and camera (see `lattice_strain`).
    strain_sd : error of the least known of them.
    """

    angle_deg: Floats
    sd_deg: Floats
    offset_deg: float
    jitter_deg: float
    shrunk_deg: Floats
    agreement: float
    rms_px: float
    strain: Floats
    strain_sd: float


def third_angle(
    observed: Floats,
    predicted: Floats,
    frame: NDArray[np.int64],
    snr: Floats,
    n_frames: int,
    by_strain: Floats,
) -> ThirdAngle:
    """Turn of `observed` against `predicted`.

    Parameters
    ----------
    observed, predicted : (n, 2) row, column in px; rows with NaN do not count.
    frame : (n,).
    snr : (n,) intensity over its standard deviation: a spot's place is as well known as that.
    by_strain : (n, 2, 6) movement of the predicted (row, column) in px per unit of each component
        of a strain of the lattice: xx, yy, zz, xy, xz, yz.
    """
    seen = np.isfinite(observed).all(axis=1) & np.isfinite(predicted).all(axis=1) & (snr > 0)
    seen &= np.isfinite(snr)
    o, p = observed[seen][:, ::-1], predicted[seen][:, ::-1]  # x, y
    f = np.asarray(frame, np.int64)[seen]
    weight = 1 / (FLOOR_PX**2 + 1 / snr[seen] ** 2)

    def per_frame(values: Floats) -> Floats:
        return np.bincount(f, values, minlength=n_frames).astype(np.float64)

    base = weight
    with np.errstate(invalid="ignore", divide="ignore"):
        for _ in range(4):
            total = per_frame(weight)
            centre_o = np.stack([per_frame(weight * o[:, k]) / total for k in (0, 1)], axis=1)
            centre_p = np.stack([per_frame(weight * p[:, k]) / total for k in (0, 1)], axis=1)
            do, dp = o - centre_o[f], p - centre_p[f]
            cross = per_frame(weight * (dp[:, 0] * do[:, 1] - dp[:, 1] * do[:, 0]))
            dot = per_frame(weight * np.sum(dp * do, axis=1))
            psi = np.arctan2(cross, dot)
            c, s = np.cos(psi)[f], np.sin(psi)[f]
            turned = np.stack([c * dp[:, 0] - s * dp[:, 1], s * dp[:, 0] + c * dp[:, 1]], axis=1)
            residual2 = np.sum((do - turned) ** 2, axis=1)
            z2 = base * residual2
            scale = max(float(np.median(z2)) / 1.386 if len(z2) else 1.0, 1e-12)
            # Cauchy weights: a spot in the wrong place turns a frame by much
            weight = base / (1 + z2 / (5.7 * 2 * scale))
        number = np.bincount(f, minlength=n_frames)
        # a frame's own few spots and all of them together tell how wrong places are
        spread2 = (per_frame(weight * residual2) + 10 * scale) / (
            np.maximum(2 * number - 3, 0) + 10
        )
        sd = np.sqrt(spread2 / per_frame(weight * np.sum(dp * dp, axis=1)))
        length2 = (
            per_frame(weight * np.sum(do * do, axis=1)),
            per_frame(weight * np.sum(dp * dp, axis=1)),
        )
    few = number < LEAST_SPOTS
    psi, sd = np.where(few, np.nan, np.rad2deg(psi)), np.where(few, np.nan, np.rad2deg(sd))
    known = np.isfinite(psi) & np.isfinite(sd)
    if not known.any():
        nothing = np.full(n_frames, np.nan)
        return ThirdAngle(
            nothing, nothing, 0.0, 0.0, np.zeros(n_frames), np.nan, np.nan, np.zeros(3), np.inf
        )
    # the median on the circle
    mean = np.angle(np.mean(np.exp(1j * np.deg2rad(psi[known]))), deg=True)
    around = (psi - mean + 180) % 360 - 180
    offset = float(mean + np.median(around[known]))
    away = (psi - offset + 180) % 360 - 180
    jitter2 = max(0.0, float(np.median(away[known] ** 2) / 0.4549 - np.median(sd[known] ** 2)))
    share = np.where(known, jitter2 / np.maximum(jitter2 + sd**2, 1e-30), 0.0)
    agreement = np.sum((cross**2 + dot**2)[known] ** 0.5) / np.sum(
        np.sqrt(length2[0] * length2[1])[known]
    )
    design = by_strain[seen][:, ::-1]
    design = np.stack(
        [c[:, None] * design[:, 0] - s[:, None] * design[:, 1],
         s[:, None] * design[:, 0] + c[:, None] * design[:, 1]], axis=1,
    )  # fmt: skip
    kept = known[f]
    strain, strain_sd = lattice_strain((do - turned)[kept], design[kept], weight[kept])
    return ThirdAngle(
        offset + away,
        sd,
        offset,
        float(np.sqrt(jitter2)),
        offset + np.where(known, share * np.where(known, away, 0.0), 0.0),
        float(agreement),
        float(np.sqrt(np.median(residual2) / 1.386 * 2)),
        strain,
        strain_sd,
    )


def lattice_strain(residual: Floats, design: Floats, weight: Floats) -> tuple[Floats, float]:
    """Principal values (3,) of E in ``P -> (1 + E) P`` that takes residuals away, and their error.

    Rotation has gone into the orientations; what is left of a wrong cell is a symmetric strain.

    Parameters
    ----------
    residual : (n, 2) observed less predicted.
    design : (n, 2, 6) movement per unit of E's components.
    weight : (n,).
    """
    normal = np.einsum("nip,n,niq->pq", design, weight, design)
    right = np.einsum("nip,n,ni->p", design, weight, residual)
    number = max(2 * len(residual) - 6, 1)
    e = np.zeros(6)
    for _ in range(3):
        left = residual - np.einsum("nip,p->ni", design, e)
        scale = max(float(np.sum(weight[:, None] * left**2)) / number, 1e-12)
        # E is a few per cent at most: components the scan does not see stay zero
        whole = normal / scale + np.eye(6) / 0.05**2
        e = np.linalg.solve(whole, right / scale)
    sd = np.sqrt(np.diag(np.linalg.inv(whole)))
    matrix = np.array([[e[0], e[3], e[4]], [e[3], e[1], e[5]], [e[4], e[5], e[2]]])
    seen = sd < 0.01
    return np.linalg.eigvalsh(matrix), float(sd[seen].max(initial=0.0)) if seen.any() else np.inf
