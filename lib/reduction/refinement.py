"""Refinement of crystal and geometry against spot positions and rocking centroids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..crystal.cell import Cell
from .model import Model
from .residuals import RADIAL_UNIT, Observations, Problem

__all__ = ["TRICLINIC_STRAINS", "Model", "Observations", "Refined", "refine"]

Floats = NDArray[np.float64]

# Relative damping of the normal equations: at first, and at least.
_DAMPING, _LEAST_DAMPING = 1e-3, 1e-6
# A step that would lower the cost by less than this part of it changes nothing that matters:
# with a thousand observations it is a hundredth of a standard deviation.
_LEAST_GAIN = 1e-7


@dataclass(frozen=True)
class Refined:
    """Outcome of a refinement.

    Attributes
    ----------
    model : refined.
    esd : e.s.d. by parameter name: centre_row_px, centre_column_px, axis_azimuth_deg,
        axis_elevation_deg, rotation_scale, distortion_ratio, distortion_azimuth_deg,
        distance_percent, orientation_deg.
    cell_esd : e.s.d. of the six cell parameters.
    rms_px, rms_excitation : weighted r.m.s. residuals of the observations, px and 1/Å.
    residuals : (n, 3) row px, column px, excitation error 1/Å.
    """

    model: Model
    esd: dict[str, float]
    cell_esd: Cell
    rms_px: float
    rms_excitation: float
    residuals: Floats


def refine(
    model: Model,
    observations: Observations,
    free: Sequence[str],
    strain_basis: Floats,
    *,
    priors: dict[str, float] | None = None,
    robust: bool = True,
    max_evaluations: int = 30,
) -> Refined:
    """Robust least squares of the `free` parameter blocks.

    Parameters
    ----------
    model : starting point.
    observations : indexed spots with standard deviations.
    free : names of the blocks in the table of `residuals`.
    strain_basis : (k, 3, 3) strains the lattice allows (crystal Cartesian frame).
    priors : sigma of a zero-mean Gaussian prior on each parameter of a block, about the
        starting model (px, radians or relative, as the block).
    robust : use the soft L1 loss, which wrong indices hardly sway; else plain least squares.
    max_evaluations : of the model.
    """
    problem = Problem(model, observations, free, strain_basis)
    prior = np.zeros(problem.n)
    for name, sigma in (priors or {}).items():
        if name in problem.slices:
            prior[problem.slices[name]] = 1 / sigma
    x, flat, information = _minimise(problem, prior, robust, max_evaluations)
    n = len(observations.hkl)
    unit = flat.reshape(3, n).T
    residual = unit * np.stack(
        [observations.sigma_px, observations.sigma_px, observations.sigma_excitation], axis=1
    )
    # a robust chi-square scales the e.s.d.s: 1.4826 MAD is the sigma of a normal core
    spread = 1.4826 * np.median(np.abs(flat - np.median(flat)))
    covariance = np.linalg.pinv(information, rcond=1e-12) * max(spread, 1e-3) ** 2
    weight_px = 1 / (1 + (unit[:, :2] ** 2).sum(axis=1) / 9)
    weight_e = 1 / (1 + unit[:, 2] ** 2 / 9)
    return Refined(
        model=problem.updated(x),
        esd=_esds(problem, x, covariance),
        cell_esd=_cell_esd(problem, x, covariance),
        rms_px=float(np.sqrt(np.average((residual[:, :2] ** 2).sum(axis=1), weights=weight_px))),
        rms_excitation=float(np.sqrt(np.average(residual[:, 2] ** 2, weights=weight_e))),
        residuals=residual,
    )


def _minimise(
    problem: Problem, prior: Floats, robust: bool, max_evaluations: int
) -> tuple[Floats, Floats, Floats]:
    """x, residuals and information matrix at the least sum of losses.

    Levenberg-Marquardt on the normal equations, with the loss 2 (sqrt(1 + r^2) - 1) of each
    residual r (soft L1), priors included, and its Gauss-Newton weights as in Triggs et al., "Bundle
    adjustment", Lecture Notes in Computer Science 1883 (2000) 298.
    """

    def at(x: Floats) -> tuple[float, Floats, Floats, Floats]:
        residual, jacobian = problem.evaluate(x, True)
        root, prior_root = np.ones(len(residual)), np.ones(len(x))
        if robust:
            root, prior_root = np.sqrt(1 + residual * residual), np.sqrt(1 + (prior * x) ** 2)
            cost = float((root - 1).sum() + (prior_root - 1).sum())
        else:
            cost = 0.5 * float(residual @ residual + (prior * x) @ (prior * x))
        gradient = jacobian.T @ (residual / root) + prior * prior * x / prior_root
        weighted = jacobian.T * root**-1.5
        information = weighted @ weighted.T
        information[np.diag_indices(problem.n)] += prior * prior * prior_root**-3
        return cost, residual, gradient, information

    x = np.zeros(problem.n)
    cost, residual, gradient, information = at(x)
    damping = _DAMPING
    for _ in range(max_evaluations - 1):
        scale = np.sqrt(np.maximum(np.diag(information), 1e-30))
        damped = information / np.outer(scale, scale) + damping * np.eye(problem.n)
        step = -np.linalg.solve(damped, gradient / scale) / scale
        gain = -(gradient @ step + 0.5 * step @ information @ step)
        if gain <= _LEAST_GAIN * cost:
            break
        tried = at(x + step)
        if tried[0] < cost:
            x = x + step
            cost, residual, gradient, information = tried
            damping = max(0.1 * damping, _LEAST_DAMPING)
        elif damping > 1e6:
            break
        else:
            damping *= 10
    return x, residual, information


def _esds(problem: Problem, x: Floats, covariance: Floats) -> dict[str, float]:
    sigma = np.sqrt(np.maximum(np.diag(covariance), 0))
    esd: dict[str, float] = {}
    for name, where in problem.slices.items():
        s = sigma[where]
        if name == "orientation":
            esd["orientation_deg"] = float(np.rad2deg(s.max()))
        elif name == "centre":
            half = len(s) // 2
            esd["centre_row_px"], esd["centre_column_px"] = (
                float(s[:half].max()),
                float(s[half:].max()),
            )
        elif name in ("axis", "axis_azimuth"):
            esd["axis_azimuth_deg"] = float(np.rad2deg(s[0]))
            if name == "axis":
                esd["axis_elevation_deg"] = float(np.rad2deg(s[1]))
        elif name == "rotation_scale":
            esd["rotation_scale"] = float(s[0])
        elif name == "radial":
            esd["radial_per_mm2"] = float(RADIAL_UNIT * s[0])
        elif name == "distance":
            esd["distance_percent"] = float(100 * s[0])
        elif name == "distortion":
            # ratio = (1 + e) / (1 - e), azimuth = atan2(e2, e1) / 2
            e1, e2 = problem.e0[0] + x[where][0], problem.e0[1] + x[where][1]
            e = float(np.hypot(e1, e2))
            esd["distortion_ratio"] = float(2 * s.mean() / (1 - e) ** 2)
            esd["distortion_azimuth_deg"] = float(np.rad2deg(s.mean() / (2 * max(e, s.mean()))))
    return esd


def _cell_esd(problem: Problem, x: Floats, covariance: Floats) -> Cell:
    """Propagate the strain's covariance to the cell.

    The real basis is (1 + S)^-1 of that without strain, so it changes by -(1 + S)^-1 dS of
    itself.
    """
    if "strain" not in problem.slices:
        return (0.0,) * 6
    where = problem.slices["strain"]
    unstrain = np.linalg.inv(problem.strained(x))
    real = unstrain @ problem.real0
    length = np.linalg.norm(real, axis=0)
    change = -unstrain @ problem.strain @ real  # (k, 3, 3)
    d_length = np.einsum("ki,nki->ni", real, change) / length
    gradient = np.zeros((6, where.stop - where.start))
    gradient[:3] = d_length.T
    for k, (i, j) in enumerate(((1, 2), (2, 0), (0, 1)), 3):
        cosine = real[:, i] @ real[:, j] / (length[i] * length[j])
        d_cosine = (change[:, :, i] @ real[:, j] + change[:, :, j] @ real[:, i]) / (
            length[i] * length[j]
        ) - cosine * (d_length[:, i] / length[i] + d_length[:, j] / length[j])
        gradient[k] = np.rad2deg(-d_cosine / np.sqrt(1 - cosine * cosine))
    variance = np.einsum("ik,kl,il->i", gradient, covariance[where, where], gradient)
    # what the symmetry fixes has no error, whatever rounding says
    sigma = np.sqrt(np.where(variance > 1e-16, variance, 0.0))
    a, b, c, alpha, beta, gamma = (float(v) for v in sigma)
    return a, b, c, alpha, beta, gamma


# Strains of a lattice without symmetry: an orthonormal basis of the symmetric tensors.
TRICLINIC_STRAINS: Floats = np.array(
    [
        np.diag([1.0, 0, 0]),
        np.diag([0, 1.0, 0]),
        np.diag([0, 0, 1.0]),
        np.array([[0, 1, 0], [1, 0, 0], [0, 0, 0]]) / np.sqrt(2),
        np.array([[0, 0, 1], [0, 0, 0], [1, 0, 0]]) / np.sqrt(2),
        np.array([[0, 0, 0], [0, 0, 1], [0, 1, 0]]) / np.sqrt(2),
    ]
)
