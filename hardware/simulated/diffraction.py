"""Diffraction patterns, focused and defocused, of all particles that the beam meets."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...lib.simulation.conditions import Beam
from ...lib.simulation.frames import RADIAL_STEP_PX, add_spots, paint_radial
from .contrast import BEAM, box_of, dark_field, middle, rays_through, sample_beam
from .excitation import along_beam_A, excited
from .imaging import corners_um, planes_for, shadows, within
from .multiple_scattering import beams_behind, coherent_strength
from .specimen import DIRT, DIRT_FREE_PATH_UM, Specimen
from .view import View

Floats = NDArray[np.float64]

# The beam's disc is sampled at the square of so many points.
SAMPLES = 64

# Spots of fewer electrons than this are not drawn.
FAINTEST_E = 0.05

# Of the rocking curve (its top is 0.4): reflections less excited scatter once.
NOTABLE = 0.01

# Tails of fewer electrons than this would not be seen; they are drawn with the core.
FAINTEST_TAIL_E = 10.0

# Of a defocused pattern so many of the strongest discs are drawn.
DISCS = 4


@dataclass(frozen=True)
class PatternOptions:
    """How a pattern looks; the values are those of real frames, see docs/twin.md.

    Attributes
    ----------
    fwhm_px, tail_fraction, tail_px : of all spots, see `lib.simulation.conditions.Beam`.
    halo, film : shares of the electrons that crystals, and that film and dirt, scatter
        diffusely: (share, decay in 1/Å) an exponential in the distance from the direct beam,
        (share, d in Å, sigma in 1/Å) a ring.
    """

    fwhm_px: float = 2.8
    tail_fraction: float = 0.04
    tail_px: float = 4.0
    halo: tuple[tuple[float, ...], ...] = ((0.03, 0.02), (0.24, 0.06), (0.73, 0.33))
    film: tuple[tuple[float, ...], ...] = ((0.75, 0.2), (0.15, 2.1, 0.06), (0.1, 1.2, 0.09))

    @property
    def spots(self) -> Beam:
        """As `lib.simulation` takes it."""
        return Beam(fwhm_px=self.fwhm_px, tail_fraction=self.tail_fraction, tail_px=self.tail_px)


PATTERN = PatternOptions()


class Scattered(NamedTuple):
    """What one crystal does to the beam.

    Attributes
    ----------
    particle : which.
    share : of the beam's electrons that pass it.
    path_um : mean path of those.
    direct, diffuse : shares of those in the direct beam, and scattered otherwise.
    row : (m,) reflections in the phase's list.
    part : (m,) shares of those in the reflections.
    offset_px : (m, 2) of the reflections from the direct beam, (row, column).
    """

    particle: int
    share: float
    path_um: float
    direct: float
    diffuse: float
    row: NDArray[np.int64]
    part: Floats
    offset_px: Floats


def share_of_beam(specimen: Specimen, i: int, view: View) -> tuple[float, float]:
    """Share of the beam that passes particle `i` on average, and that share's mean path, um."""
    reach = BEAM.reach_um(view.beam_radius_um)
    step = 2 * reach / SAMPLES
    corner = np.asarray(view.beam_centre_um, float) + 0.5 * (1 - SAMPLES) * step
    px_per_um = np.array([[0.0, 1.0], [1.0, 0.0]]) / step
    rays = rays_through(middle(view), px_per_um, -px_per_um @ corner)
    share, path = sample_beam(planes_for(specimen, i, rays), BEAM.parameters(view), SAMPLES)
    return float(share), float(path)


def scattered(specimen: Specimen, view: View) -> list[Scattered]:
    """What each particle in the beam does to it, as if it were alone."""
    rays = rays_through(middle(view), np.eye(2), np.zeros(2))
    result = []
    for i in within(specimen, replace(view, picture_px_per_um=np.zeros((2, 2))), rays):
        share, path = share_of_beam(specimen, i, view)
        if share <= 0:
            continue
        if specimen.particles.phase[i] == DIRT:
            passed = math.exp(-path / DIRT_FREE_PATH_UM)
            nothing = np.zeros(0, np.int64), np.zeros(0), np.zeros((0, 2))
            result.append(Scattered(i, share, path, passed, 1 - passed, *nothing))
        else:
            result.append(_by_crystal(specimen, i, view, share, path))
    return result


def _by_crystal(specimen: Specimen, i: int, view: View, share: float, path_um: float) -> Scattered:
    phase = specimen.phases[specimen.particles.phase[i]]
    u = specimen.particles.orientation[i]
    start, end = view.start.rotation @ u, view.end.rotation @ u
    wavelength = view.geometry.wavelength_A
    rotation, o = middle(view).rotation, phase.options
    domain = along_beam_A(specimen, i, rotation, o.domain_A)
    coherent = along_beam_A(specimen, i, rotation, o.coherent_A)
    found = excited(phase, start, end, wavelength, domain)
    hkl = phase.hkl[found.row]
    notable = np.flatnonzero(found.mean * found.sigma > NOTABLE)
    strength = coherent_strength(
        hkl, phase.factor[found.row], found.s1, found.s2, found.when, notable, phase.factor_at,
        wavelength, coherent, o.two_beam,
    )  # fmt: skip
    direct, part = beams_behind(
        hkl, wavelength**2 * strength * found.mean, found.s1, found.s2, found.sigma,
        phase.factor_at, wavelength, 1e4 * path_um, coherent if o.two_beam else 0.0,
    )  # fmt: skip
    q0 = phase.q0[found.row]
    when = found.when[:, None]
    q = (1 - when) * (q0 @ start.T) + when * (q0 @ end.T)
    passed = math.exp(-path_um / phase.options.mean_free_path_um)
    offset = view.geometry.to_pixel(q, centre=(0.0, 0.0))
    return Scattered(
        i, share, path_um, passed * direct, 1 - passed, found.row, passed * part, offset
    )


def shares_out(particles: list[Scattered]) -> Floats:
    """(n,) factor for what each particle takes out of the beam, as they lie on one another.

    Alone they would take ``o_i = share (1 - direct)`` of it. The direct beam keeps
    ``prod (1 - o_i)``, and what is gone is shared among them in proportion.
    """
    out = np.array([p.share * (1 - p.direct) for p in particles])
    total = out.sum()
    factor = (1 - np.prod(1 - out)) / total if total > 0 else 1.0
    return np.full(len(out), factor)


@lru_cache(maxsize=32)
def _radial(
    components: tuple[tuple[float, ...], ...], per_A_per_px: float, wavelength_A: float,
    px_per_length: float, longest_px: float,
) -> Floats:  # fmt: skip
    """Share of the scattered electrons per pixel at radii 0, `RADIAL_STEP_PX`, ... in px.

    (share, decay) are exponentials, (share, d, sigma) rings; each adds up to its share over an
    endless flat detector.
    """
    radius = np.arange(0.0, longest_px + 2 * RADIAL_STEP_PX, RADIAL_STEP_PX)
    q = 2 * np.sin(np.arctan(radius * px_per_length) / 2) / wavelength_A
    profile = np.zeros(len(radius))
    for share, *shape in components:
        if len(shape) == 1:
            profile += share * np.exp(-q / shape[0]) / (2 * np.pi * shape[0] ** 2)
        else:
            ring = np.exp(-0.5 * ((q - 1 / shape[0]) / shape[1]) ** 2)
            fine = np.linspace(0, 1 / shape[0] + 6 * shape[1], 2000)
            whole = np.exp(-0.5 * ((fine - 1 / shape[0]) / shape[1]) ** 2) * 2 * np.pi * fine
            profile += share * ring / float(np.sum(whole) * fine[1])
    return profile * per_A_per_px**2


def _diffuse(
    view: View, halo_e: float, ring_e: float, options: PatternOptions, blur_px: float = 0.0
) -> Floats:
    """An image of the electrons that are scattered diffusely, about the direct beam."""
    g = view.geometry
    longest = g.distortion.ratio * 2 * float(np.hypot(*view.shape))
    numbers = (g.per_A_per_px, g.wavelength_A, g.pixel_size_mm / g.distance_mm, longest)
    profile = halo_e * _radial(options.halo, *numbers) + ring_e * _radial(options.film, *numbers)
    if blur_px:  # the disc's mean over directions, for smooth profiles
        at = np.arange(len(profile))
        profile = np.interp(np.hypot(at, blur_px / math.sqrt(2) / RADIAL_STEP_PX), at, profile)
    image = np.empty(view.shape)
    centre = np.asarray(view.pattern_px, float)
    undistort: Floats = np.linalg.inv(g.distortion.matrix).astype(np.float64)
    paint_radial(image, profile, centre, undistort)
    return image


def focused_pattern(specimen: Specimen, view: View, options: PatternOptions = PATTERN) -> Floats:
    """Spots of every crystal in the beam, the direct beam, halo and rings."""
    o = specimen.options
    film = math.exp(-o.film_nm * 1e-3 / o.film_free_path_um / abs(middle(view).rotation[2, 2]))
    behind = view.electrons * film  # of the film, unscattered
    particles = scattered(specimen, view)
    halo, rings, direct = 0.0, view.electrons - behind, behind
    spots: list[tuple[Floats, Floats]] = []
    for p, factor in zip(particles, shares_out(particles), strict=True):
        met = behind * p.share * factor
        direct -= met * (1 - p.direct)
        if specimen.particles.phase[p.particle] == DIRT:
            rings += met * p.diffuse
        else:
            halo += met * p.diffuse
            spots.append((p.offset_px, met * p.part))
    image = _diffuse(view, halo, rings, options)
    centre = np.asarray(view.pattern_px, float)
    spots.append((np.zeros((1, 2)), np.array([direct])))
    for offset, electrons in spots:
        rc = offset + centre
        margin = 4 * options.tail_px + 2
        drawn = (electrons > FAINTEST_E) & np.all(
            (rc > -margin) & (rc < np.array(view.shape) + margin), axis=1
        )
        add_spots(
            image, rc[drawn, 0], rc[drawn, 1], electrons[drawn], options.spots, FAINTEST_TAIL_E
        )
    return image


def defocused_pattern(specimen: Specimen, view: View, options: PatternOptions = PATTERN) -> Floats:
    """The beam's disc with the shadows in it, and the strongest reflections' dark-field discs."""
    alone = {p.particle: p for p in scattered(specimen, view)}

    def lost_per_um(i: int) -> float:
        p = alone.get(i)
        if p is None or p.direct <= 0:
            return 1e4 if p else 0.0
        return -math.log(p.direct) / p.path_um

    image, rays, _ = shadows(specimen, view, lost_per_um)
    particles = list(alone.values())
    o = specimen.options
    film = math.exp(-o.film_nm * 1e-3 / o.film_free_path_um / abs(rays.direction[2]))
    halo, rings = 0.0, view.electrons * (1 - film)
    to_lab: Floats = np.linalg.inv(view.picture_px_per_um).astype(np.float64)
    per_px = view.electrons * film / BEAM.integral_um2(view.beam_radius_um)
    per_px *= abs(np.linalg.det(to_lab))
    beam = BEAM.parameters(view)
    for p, factor in zip(particles, shares_out(particles), strict=True):
        met = view.electrons * film * p.share * factor
        if specimen.particles.phase[p.particle] == DIRT:
            rings += met * p.diffuse
            continue
        halo += met * p.diffuse
        planes = planes_for(specimen, p.particle, rays)
        corners = rays.to_px(corners_um(specimen, p.particle))
        for g in np.argsort(-p.part, kind="stable")[:DISCS]:
            moved = p.offset_px[g]
            box = box_of(corners + moved, view.shape)
            if box[0] < box[1] and box[2] < box[3]:
                scale = per_px * factor * p.part[g] / p.path_um
                dark_field(image, planes, box, beam, to_lab, view.origin_px, moved, scale)
    radius_px = view.beam_radius_um * math.sqrt(abs(np.linalg.det(view.picture_px_per_um)))
    image += _diffuse(view, halo, rings, options, blur_px=radius_px)
    return image
