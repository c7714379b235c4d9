"""Scattering particles on a grid, from a seed."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist
from scipy.spatial.transform import Rotation

from ...lib.crystal.cell import reciprocal_basis
from ...lib.simulation.structures import cell_of
from .specimen import DIRT, Particles, Phase, Specimen, SpecimenOptions, phase_of

Floats = NDArray[np.float64]

# Side faces lean inwards by this much.
BEVEL_DEG = 20.0
# Faint crystals are this much thinner.
FAINT = 0.2
# Outlines are compared at so many points.
OUTLINE_POINTS = 48
# Neighbours are looked for within this distance, um, edge to edge.
FARTHEST_UM = 5.0


def scatter(options: SpecimenOptions, seed: int) -> Specimen:
    """A specimen; the same arguments give the same one to the bit."""
    rng = np.random.default_rng([seed, 0x5BEC])
    phases = tuple(phase_of(p) for p in options.phases)
    number = int(rng.poisson(options.crystals_per_um2 * options.width_um**2))
    shares = np.array([p.weight for p in options.phases])
    phase = rng.choice(len(phases), number, p=shares / shares.sum()).astype(np.int64)
    phase[rng.random(number) < options.dirt] = DIRT
    faint = (rng.random(number) < options.faint) & (phase != DIRT)
    outlines, thickness = [], np.empty(number)
    for i in range(number):
        outline, thickness[i] = _body(phases, int(phase[i]), rng)
        outlines.append(outline)
    thickness[faint] *= FAINT
    reach_xy = np.array([np.linalg.norm(o, axis=1).max() for o in outlines])
    xy = rng.uniform(-0.5, 0.5, (number, 2)) * options.width_um
    cluster = np.arange(number)
    for i in np.flatnonzero(rng.random(number) < options.clustered)[1:].tolist():
        host = int(rng.integers(i))  # those before have their places
        azimuth = rng.uniform(0, 2 * math.pi)
        distance = rng.uniform(0.3, 0.9) * (reach_xy[i] + reach_xy[host])
        xy[i] = xy[host] + distance * np.array([math.cos(azimuth), math.sin(azimuth)])
        cluster[i] = cluster[host]
    turned = Rotation.random(number, rng=rng).as_matrix() if number else np.zeros((0, 3, 3))
    for i in range(number):
        if phase[i] != DIRT and rng.random() < options.phases[phase[i]].preferred:
            turned[i] = _flat(phases[phase[i]], rng)
    particles = particles_of(
        np.column_stack([xy, film_height(options, seed, xy)]),
        phase, turned, thickness, outlines, cluster=cluster, faint=faint,
    )  # fmt: skip
    return specimen_of(options, phases, particles, seed)


def specimen_of(
    options: SpecimenOptions, phases: tuple[Phase, ...], particles: Particles, seed: int = 0
) -> Specimen:
    """A specimen of particles put there by hand."""
    return Specimen(options, phases, particles, cKDTree(particles.centre_um[:, :2]), seed)


def particles_of(
    centre_um: Floats,
    phase: NDArray[np.integer],
    orientation: Floats,
    thickness_um: Floats,
    outlines_um: list[Floats],
    *,
    cluster: NDArray[np.integer] | None = None,
    faint: NDArray[np.bool_] | None = None,
    bevel_deg: float = BEVEL_DEG,
) -> Particles:
    """Plates on convex outlines, each (v, 2) counter-clockwise about its centre, um.

    An outline is what is seen along z: the larger, lower face.
    """
    number = len(outlines_um)
    slope = math.tan(math.radians(bevel_deg))
    area, reach, faces = np.empty(number), np.empty(number), []
    for i, outline in enumerate(outlines_um):
        following = np.roll(outline, -1, axis=0)
        edge = following - outline
        area[i] = 0.5 * np.sum(outline[:, 0] * following[:, 1] - outline[:, 1] * following[:, 0])
        reach[i] = math.hypot(np.linalg.norm(outline, axis=1).max(), thickness_um[i])
        normal = np.stack([edge[:, 1], -edge[:, 0]], 1) / np.linalg.norm(edge, axis=1)[:, None]
        sides = np.column_stack(
            [normal, np.full(len(edge), slope), np.sum(normal * outline, axis=1)]
        )
        caps = np.array([[0.0, 0.0, 1.0, thickness_um[i]], [0.0, 0.0, -1.0, 0.0]])
        faces.append(np.vstack([caps, sides]))
    centre = np.asarray(centre_um, float).reshape(number, 3)
    return Particles(
        centre_um=centre,
        phase=np.asarray(phase, np.int64),
        orientation=np.asarray(orientation, float).reshape(number, 3, 3),
        thickness_um=np.asarray(thickness_um, float),
        area_um2=area,
        reach_um=reach,
        vertices_um=tuple(outlines_um),
        faces=tuple(faces),
        cluster=np.arange(number) if cluster is None else np.asarray(cluster, np.int64),
        faint=np.zeros(number, bool) if faint is None else faint,
        gap_um=_gaps(centre[:, :2], outlines_um),
    )


def film_height(options: SpecimenOptions, seed: int, xy_um: Floats) -> Floats:
    """(n,) z of the film, um: the grid's tilt, and in each mesh a sag and a tilt of its own."""
    xy = np.asarray(xy_um, float).reshape(-1, 2)
    whole = np.random.default_rng([seed, 0xF1])
    grid = np.tan(np.deg2rad(whole.uniform(-1, 1, 2) * options.grid_tilt_deg))
    mesh = np.floor(xy / options.pitch_um + 0.5)
    within = xy - mesh * options.pitch_um
    z: Floats = xy @ grid
    half = 0.5 * options.pitch_um
    for square in np.unique(mesh, axis=0):
        here = np.all(mesh == square, axis=1)
        own = np.random.default_rng([seed, 0xF2, *(int(v) + 100_000 for v in square)])
        sag = options.bow_um * own.uniform(-1, 1)
        slope = np.tan(np.deg2rad(own.uniform(-1, 1, 2) * options.tilt_deg))
        u = within[here] / half
        dome = (1 - u[:, 0] ** 2) * (1 - u[:, 1] ** 2)
        z[here] += sag * dome + dome * (within[here] @ slope)
    return z


def _body(phases: tuple[Phase, ...], phase: int, rng: np.random.Generator) -> tuple[Floats, float]:
    """Outline (v, 2) and thickness, um, of one particle."""
    if phase == DIRT:
        diameter, elongation = 0.6 * math.exp(0.5 * rng.normal()), 1 + rng.random()
        thickness, corners = 0.3 * diameter, int(rng.integers(9, 14))
    else:
        o = phases[phase].options
        diameter = o.diameter_um * math.exp(o.diameter_spread * rng.normal())
        elongation = 1 + (o.elongation - 1) * rng.uniform(0.4, 1.6)
        thickness = min(o.thickness * diameter * math.exp(0.2 * rng.normal()), o.thickest_um)
        corners = int(rng.integers(5, 9))
    if phase != DIRT and elongation > 2.5:  # a lath with cut corners
        cut = rng.uniform(0.05, 0.3)
        quarter = np.array([[1, -1 + cut], [1, 1 - cut], [1 - cut, 1], [-1 + cut, 1]])
        outline = np.vstack([quarter, -quarter])
    else:
        angle = 2 * math.pi * (np.arange(corners) + rng.uniform(-0.3, 0.3, corners)) / corners
        outline = np.stack([np.cos(angle), np.sin(angle)], 1)
    outline = outline * [elongation, 1.0]
    azimuth = rng.uniform(0, 2 * math.pi)
    c, s = math.cos(azimuth), math.sin(azimuth)
    outline = outline @ np.array([[c, s], [-s, c]])
    following = np.roll(outline, -1, axis=0)
    cross = outline[:, 0] * following[:, 1] - outline[:, 1] * following[:, 0]
    area = 0.5 * cross.sum()
    centre = ((outline + following) * cross[:, None]).sum(0) / (6 * area)
    scale = math.sqrt(math.pi * diameter**2 / 4 / area)
    return (outline - centre) * scale, thickness


def _flat(phase: Phase, rng: np.random.Generator) -> Floats:
    """U of a crystal with c* along z, up or down, at any azimuth."""
    c_star = reciprocal_basis(cell_of(phase.structure))[:, 2]
    c_star = c_star / np.linalg.norm(c_star)
    up = np.array([[0.0, 0.0, rng.choice([-1.0, 1.0])]])
    to_z = Rotation.align_vectors(up, c_star[None])[0]
    turn = Rotation.from_rotvec([0.0, 0.0, rng.uniform(0, 2 * math.pi)])
    turned: Floats = (turn * to_z).as_matrix()
    return turned


def _gaps(xy: Floats, outlines: list[Floats]) -> Floats:
    """(n,) shortest distance from each outline to any other, um; at most `FARTHEST_UM`."""
    gap = np.full(len(outlines), FARTHEST_UM)
    if len(outlines) < 2:
        return gap
    rims = [_rim(outline) + at for outline, at in zip(outlines, xy, strict=True)]
    reach = np.array([np.linalg.norm(o, axis=1).max() for o in outlines])
    pairs = cKDTree(xy).query_pairs(FARTHEST_UM + 2 * float(reach.max()), output_type="ndarray")
    for i, j in pairs:
        apart = float(np.linalg.norm(xy[i] - xy[j])) - reach[i] - reach[j]
        if apart >= max(gap[i], gap[j]):
            continue
        inside = _holds(outlines[i], rims[j] - xy[i]) or _holds(outlines[j], rims[i] - xy[j])
        distance = 0.0 if inside else float(cdist(rims[i], rims[j]).min())
        gap[i], gap[j] = min(gap[i], distance), min(gap[j], distance)
    return gap


def _rim(outline: Floats) -> Floats:
    """Points (`OUTLINE_POINTS`, 2) along an outline, corners' neighbourhoods included."""
    closed = np.vstack([outline, outline[:1]])
    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(closed, axis=0), axis=1))])
    at = np.linspace(0, length[-1], OUTLINE_POINTS, endpoint=False)
    return np.stack([np.interp(at, length, closed[:, 0]), np.interp(at, length, closed[:, 1])], 1)


def _holds(outline: Floats, points: Floats) -> bool:
    """Whether any point (n, 2) lies within a convex outline."""
    edge = np.roll(outline, -1, axis=0) - outline
    away = points[:, None] - outline
    cross = edge[:, 0] * away[..., 1] - edge[:, 1] * away[..., 0]
    return bool(np.any(np.all(cross > 0, axis=1)))
