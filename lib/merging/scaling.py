"""Scaling of many crystals: what each was multiplied by, and what their sigmas are worth.

The measured intensity of observation j of reflection h in data set i is ``g_ij J_h`` with

``ln g = K_i + B_i u + k_i(frame) + sum_m P_m(u) c_im(frame)``

where u runs from -1 to 1 in 1/d^2 over the range of the data and P_1, P_2 are Legendre
polynomials. K and B are the classical scale and fall-off; k follows the illuminated volume, and
the c what tilting and thickness do to the fall-off, which for electrons is no constant of a
crystal. k and c are piecewise linear over the rotation and penalised, so that they are zero
unless equivalents say otherwise. See `scale_model` for how it is solved.

K and B have a weak prior: the scale at which each data set has the mean intensity of all the
others in shells of resolution (Wilson's). Common reflections overrule it by orders of magnitude,
and data sets without any stay on it, which is stated.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from ..crystal.cell import Floats, Integers
from ..errors import UserError
from ..reduction.result import Flag
from ..reduction.scaling import ErrorModel, mean_at_resolution
from ..reduction.statistics import chi_square_of_equivalents, merge
from .data_set import DataSet
from .error_model import common_error_model, corrected_sigmas, set_error_models
from .observations import Observations, find_copies, observations
from .outliers import find_outliers
from .scale_model import (
    Design,
    LostFrames,
    build_design,
    frame_and_surface,
    lost_frames,
    solve,
)

# Equivalents contradict each other if they are off their mean by this many sigmas (r.m.s.).
_WILD = 4.0


@dataclass(frozen=True)
class SetScale:
    """How one data set was scaled.

    Attributes
    ----------
    name : of the data set.
    scale : geometric mean of what its intensities were divided by.
    b_A2 : its fall-off relative to the mean of all: ``exp(-2 b / (4 d^2))`` was divided out.
    frame_scale : (n_frames,) smooth (and, if asked for, frame-wise) scale, mean logarithm 0.
    surface : (k, 2) coefficients of P_1 and P_2 at k positions evenly over the rotation.
    n_common : unique reflections it shares with other data sets.
    component : number of the group of data sets linked by common reflections, largest first.
    error : its error model.
    n_outliers : observations found to contradict their equivalents.
    """

    name: str
    scale: float
    b_A2: float
    frame_scale: Floats
    surface: Floats
    n_common: int
    component: int
    error: ErrorModel
    n_outliers: int


@dataclass(frozen=True)
class Scaled:
    """Data sets on a common scale, with sigmas that repeats justify.

    Attributes
    ----------
    data : the data sets, intensities and sigmas corrected, outliers flagged `Flag.OUTLIER`.
    factor : per data set, (n,) what each intensity was divided by.
    outlier : per data set, (n,) bool: contradicts its equivalents, here or in the series.
    sets : how each was scaled, in the order of `data`.
    operators : (m, 3, 3) rotations taken as symmetry.
    error : error model common to all; those of the sets differ from it where they have repeats.
    chi_square : of equivalents after everything, outliers left out; NaN without repeats.
    excluded : data sets that could not be used, by name, and why.
    notes : every choice and oddity, one sentence each.
    """

    data: tuple[DataSet, ...]
    factor: tuple[Floats, ...]
    outlier: tuple[NDArray[np.bool_], ...]
    sets: tuple[SetScale, ...]
    operators: Integers
    error: ErrorModel
    chi_square: float
    excluded: Mapping[str, str]
    notes: tuple[str, ...]


def scale_data_sets(
    data_sets: Sequence[DataSet],
    operators: ArrayLike,
    *,
    min_common: int = 10,
    surface: bool = True,
    frame_jitter: float = 0.0,
    outlier_sigma: float = 4.0,
) -> Scaled:
    """Scale data sets together, correct their sigmas and find outliers.

    Parameters
    ----------
    data_sets : in one setting of one cell, indexing ambiguity resolved; names differ.
    operators : (m, 3, 3) rotations of the Laue class, acting on columns of indices.
    min_common : data sets with fewer reflections in common are not said to be linked.
    surface : whether the fall-off may change smoothly with rotation.
    frame_jitter : standard deviation (in ln) by which each frame may leave the smooth scale; 0:
        not at all. 0.1 for a flickering beam.
    outlier_sigma : observations farther than this from their equivalents are outliers.

    Raises
    ------
    UserError : if names repeat, lattice types or cells differ, or no data set is usable.
    """
    rotations = np.asarray(operators, np.int64)
    _check(data_sets)
    kept, excluded, notes = _usable(data_sets, rotations)
    obs = observations(kept, rotations)
    design = build_design(obs, surface=surface, frame_jitter=frame_jitter)
    # the strongest reflections of all are known from their flanks alone
    steady = ~obs.rejected & ~obs.saturated
    p = solve(design, obs, steady)
    lost: list[LostFrames] = []
    for _ in range(2):  # without them the scale of their neighbours may fall as well
        found, in_lost = lost_frames(design, p, obs, steady)
        if not found:
            break
        lost += found
        obs = replace(obs, rejected=obs.rejected | in_lost)
        steady &= ~in_lost
        p = solve(design, obs, steady)
    notes += _lost_notes(kept, lost)
    scaled, errors = _judged(design, p, obs, outlier_sigma, rounds=0)
    if scaled.outlier.any():
        p = solve(design, obs, steady & ~scaled.outlier)
    scaled, errors = _judged(design, p, obs, outlier_sigma, rounds=2)
    common, label = _linked(obs, ~obs.rejected, min_common)
    notes += _notes(kept, errors, label, common, obs, scaled)

    sets, data, factors, outliers = [], [], [], []
    for i, (d, low, high) in enumerate(zip(kept, obs.bounds[:-1], obs.bounds[1:], strict=True)):
        mine = slice(low, high)
        out = scaled.outlier[mine] | obs.rejected[mine]
        data.append(
            replace(
                d,
                intensity=scaled.intensity[mine],
                sigma=scaled.sigma[mine],
                flags=d.flags | np.where(out, np.uint32(Flag.OUTLIER), np.uint32(0)),
            )
        )
        factors.append(scaled.factor[mine])
        outliers.append(out)
        frame_scale, surface_terms = frame_and_surface(design, p, i, d.n_frames)
        sets.append(
            SetScale(
                name=d.name,
                scale=float(np.exp(np.mean(np.log(scaled.factor[mine])))),
                b_A2=float(-0.5 * p[design.first[i] + 1] * design.u_slope),
                frame_scale=frame_scale,
                surface=surface_terms,
                n_common=int(common[i]),
                component=int(label[i]),
                error=errors.sets[i],
                n_outliers=int(scaled.outlier[mine].sum()),
            )
        )
    chi_square, note = _agreement(obs, scaled)
    notes += note
    return Scaled(
        data=tuple(data),
        factor=tuple(factors),
        outlier=tuple(outliers),
        sets=tuple(sets),
        operators=rotations,
        error=errors.common or ErrorModel(),
        chi_square=chi_square,
        excluded=excluded,
        notes=tuple(notes),
    )


def _check(data_sets: Sequence[DataSet]) -> None:
    if not data_sets:
        raise UserError("scaling", "no data sets", "at least one", "reduce some series first")
    name, times = Counter(d.name for d in data_sets).most_common(1)[0]
    if times > 1:
        raise UserError(name, f"{times} data sets of this name", "one", "rename the others")
    first = data_sets[0]
    for d in data_sets[1:]:
        edges = np.array(d.cell[:3]) / np.array(first.cell[:3]) - 1
        angles = np.array(d.cell[3:]) - np.array(first.cell[3:])
        if d.bravais != first.bravais or np.abs(edges).max() > 0.1 or np.abs(angles).max() > 6:
            raise UserError(
                d.name,
                f"{d.bravais} cell {' '.join(f'{x:.2f}' for x in d.cell)}",
                f"{first.bravais} cell {' '.join(f'{x:.2f}' for x in first.cell)} as {first.name}",
                "merge one phase at a time, in one setting",
            )


def _usable(
    data_sets: Sequence[DataSet], operators: Integers
) -> tuple[list[DataSet], dict[str, str], list[str]]:
    """The data sets to scale, the others with their reasons, and notes."""
    excluded: dict[str, str] = {}
    for d in data_sets:
        if len(d) == 0:
            excluded[d.name] = "no observations"
        elif not np.any(d.intensity):
            excluded[d.name] = f"all {len(d)} intensities are zero"
        elif d.intensity.mean() <= 0:
            excluded[d.name] = f"the mean intensity, {d.intensity.mean():.3g}, is not positive"
    kept = [d for d in data_sets if d.name not in excluded]
    copies = find_copies(kept, operators)
    for i, original in copies.items():
        excluded[kept[i].name] = f"a copy of {kept[original].name}: counted once"
    if not set(range(len(kept))) - set(copies):
        name, reason = next(iter(excluded.items()))
        raise UserError(name, reason, "at least one data set with intensities", "reduce it again")
    notes = [f"{name} left out: {reason}" for name, reason in list(excluded.items())[:20]]
    if len(excluded) > 20:
        notes.append(f"and {len(excluded) - 20} more left out, for the reasons listed with them")
    return [d for i, d in enumerate(kept) if i not in copies], excluded, notes


@dataclass(frozen=True)
class _Judged:
    """Observations after scaling: (n,) each."""

    factor: Floats
    intensity: Floats
    sigma: Floats
    outlier: NDArray[np.bool_]


@dataclass(frozen=True)
class _Errors:
    common: ErrorModel | None
    sets: tuple[ErrorModel, ...]


def _judged(
    design: Design, p: Floats, obs: Observations, outlier_sigma: float, rounds: int
) -> tuple[_Judged, _Errors]:
    """Apply the scales, fit the error models, find outliers, in turn as these need each other."""
    factor = np.exp(design.matrix @ p)
    intensity, sigma = obs.intensity / factor, obs.sigma / factor
    d_A = 0.5 / np.sqrt(obs.s2)
    around = np.zeros(len(factor))
    good = ~obs.rejected
    around[good] = mean_at_resolution(d_A[good], intensity[good])
    outlier = np.zeros(len(factor), bool)
    corrected, errors = sigma, _Errors(None, (ErrorModel(),) * obs.n_sets)
    rows = np.flatnonzero(good)
    for k in range(rounds + 1):
        kept = np.flatnonzero(good & ~outlier)
        group = np.unique(obs.group[kept], return_inverse=True)[1]
        common = common_error_model(group, intensity[kept], sigma[kept], around[kept])
        if common is None:
            break
        models = set_error_models(
            obs.member[kept], group, intensity[kept], sigma[kept], around[kept],
            common, obs.n_sets, robust=k == 0,
        )  # fmt: skip
        errors = _Errors(common, models)
        mean = _robust_mean(obs.group, intensity, sigma, good & ~outlier)
        corrected = corrected_sigmas(models, obs.member, sigma, mean, around)
        outlier = np.zeros(len(factor), bool)
        outlier[rows] = find_outliers(
            obs.group[rows], intensity[rows], corrected[rows], outlier_sigma
        )
    return _Judged(factor, intensity, corrected, outlier), errors


def _robust_mean(
    group: Integers, intensity: Floats, sigma: Floats, good: NDArray[np.bool_]
) -> Floats:
    """(n,) mean of the equivalents that are good; the intensity itself where there is none."""
    n = int(group.max()) + 1
    weight = np.where(good, 1 / (sigma**2 + (0.1 * intensity) ** 2), 0.0)
    total = np.bincount(group, weight, n)[group]
    mean = np.bincount(group, weight * intensity, n)[group] / np.where(total > 0, total, 1.0)
    return np.where(total > 0, mean, intensity)


def _linked(
    obs: Observations, good: NDArray[np.bool_], min_common: int
) -> tuple[Integers, Integers]:
    """Reflections each set shares with others, and the component it belongs to."""
    n = obs.n_sets
    seen = coo_matrix(
        (np.ones(int(good.sum()), np.float32), (obs.member[good], obs.group[good])),
        shape=(n, obs.n_groups),
    ).tocsc()
    seen.data[:] = 1
    shared = np.diff(seen.indptr) > 1
    n_common = np.asarray(seen[:, shared].sum(axis=1)).ravel()
    pairs = np.zeros((n, n), np.float32)
    for start in range(0, obs.n_groups, 8192):
        some = seen[:, start : start + 8192].toarray()
        pairs += some @ some.T
    label = connected_components(coo_matrix(pairs >= min_common), directed=False)[1]
    size = np.bincount(label)
    return n_common.astype(np.int64), np.argsort(np.argsort(-size, kind="stable"))[label]


def _agreement(obs: Observations, scaled: _Judged) -> tuple[float, list[str]]:
    """Chi^2 of equivalents, and a note where it comes from a few that cannot be settled."""
    good = ~(scaled.outlier | obs.rejected)
    group = np.unique(obs.group[good], return_inverse=True)[1]
    i, sigma = scaled.intensity[good], scaled.sigma[good]
    chi_square = chi_square_of_equivalents(group, i, sigma)
    square = np.bincount(group, ((i - merge(group, i, sigma).intensity[group]) / sigma) ** 2)
    wild = square > _WILD**2 * np.bincount(group)
    if not wild.any():
        return chi_square, []
    rest = np.unique(group[~wild[group]], return_inverse=True)[1]
    calm = chi_square_of_equivalents(rest, i[~wild[group]], sigma[~wild[group]])
    return chi_square, [
        f"{int(wild.sum())} of {len(wild)} unique reflections have observations that contradict "
        "each other, too few to tell which is wrong: chi^2 of equivalents is "
        f"{chi_square:.2f} with them and {calm:.2f} without; merged, they get the sigma of their "
        "scatter"
    ]


def _lost_notes(data: Sequence[DataSet], lost: Sequence[LostFrames]) -> list[str]:
    notes = []
    for m in sorted({stretch.member for stretch in lost}):
        mine = [stretch for stretch in lost if stretch.member == m]
        where = ", ".join(f"{s.first}-{s.last}" for s in mine[:5])
        notes.append(
            f"{data[m].name}: frames {where} hold {100 * np.mean([s.fraction for s in mine]):.0f} "
            "% of the intensity that equivalents have: the crystal was not in the beam; left out"
        )
    return notes


def _notes(
    data: Sequence[DataSet],
    errors: _Errors,
    label: Integers,
    common: Integers,
    obs: Observations,
    scaled: _Judged,
) -> list[str]:
    notes = []
    n_components = int(label.max()) + 1
    if n_components > 1:
        apart = [d.name for d, k in zip(data, label, strict=True) if k > 0]
        names = ", ".join(apart[:5]) + (f" and {len(apart) - 5} more" if len(apart) > 5 else "")
        notes.append(
            f"{len(data)} data sets fall into {n_components} groups with too few reflections in "
            f"common: {names} kept the scale of their mean intensities (Wilson), with an error "
            "of some 10 to 30 %"
        )
    elif len(data) > 1:
        notes.append(
            f"{len(data)} data sets linked by {int(np.median(common))} common reflections each "
            "(median)"
        )
    if errors.common is None:
        notes.append("fewer than 100 repeats: sigmas are as integrated, no outlier was looked for")
    else:
        e = errors.common
        notes.append(
            f"sigma^2 = {e.a:.2f}^2 (sigma^2 + {e.c:.3g} I <I> + ({e.b:.3f} I)^2) in common; "
            f"{int(scaled.outlier.sum())} outliers of {len(scaled.outlier)}, "
            f"{int(obs.rejected.sum())} rejected in their series"
        )
    return notes
