"""What is seen of the specimen itself: pictures, and the shadows in a defocused disc."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from .contrast import BEAM, Rays, attenuate, box_of, density_at, middle, planes_of, rays_through
from .excitation import lost_per_um
from .specimen import Specimen
from .view import View

Floats = NDArray[np.float64]

# The film's texture repeats after TEXTURE_CELLS cells of TEXTURE_UM.
TEXTURE_CELLS, TEXTURE_UM = 512, 0.05

# The film's z differs by no more than this from that of the plane z = 0 (sag, tilt).
HIGHEST_UM = 10.0


@lru_cache(maxsize=4)
def film_texture(seed: int) -> NDArray[np.float32]:
    """Relative thickness of the film about its mean, of unit standard deviation."""
    noise = np.random.default_rng([seed, 0xF3]).normal(size=(TEXTURE_CELLS, TEXTURE_CELLS))
    texture = sum(
        weight * _unit(gaussian_filter(noise, sigma, mode="wrap"))
        for weight, sigma in ((0.8, 2.0), (0.6, 20.0))
    )
    return np.asarray(texture, np.float32)


def _unit(field: Floats) -> Floats:
    unit: Floats = (field - field.mean()) / field.std()
    return unit


def lit_film(specimen: Specimen, view: View, rays: Rays) -> Floats:
    """Electrons per pixel behind film and grid bars, before any particle, (rows, columns).

    The beam's density follows the lab (x, y); the film has the thickness ``t / cos`` along the
    beam; where a ray meets it is taken on the plane z = 0 of the specimen.
    """
    o = specimen.options
    to_lab: Floats = np.linalg.inv(view.picture_px_per_um).astype(np.float64)
    per_px = view.electrons / BEAM.integral_um2(view.beam_radius_um) * abs(np.linalg.det(to_lab))
    image = np.empty(view.shape)
    # on the plane z = 0 of the specimen
    slope = rays.direction[:2] / rays.direction[2]
    at, row, column = (v[:2] - v[2] * slope for v in (rays.origin, rays.per_row, rays.per_column))
    film = o.film_nm * 1e-3 / o.film_free_path_um / abs(rays.direction[2])
    _light(
        image, to_lab, view.origin_px, BEAM.parameters(view), per_px * math.exp(-film),
        at, row, column, film * o.film_texture, film_texture(specimen.seed),
        o.pitch_um, 0.5 * o.bar_um,
    )  # fmt: skip
    return image


@njit(cache=True)
def _light(
    image: Floats, to_lab: Floats, origin_px: Floats, beam: Floats, scale: float,
    at: Floats, per_row: Floats, per_column: Floats,
    contrast: float, texture: NDArray[np.float32], pitch: float, half_bar: float,
) -> None:  # fmt: skip
    cells, meshes, mask = 1.0 / TEXTURE_UM, 1.0 / pitch, TEXTURE_CELLS - 1
    bar = half_bar * meshes
    for i in range(image.shape[0]):
        u = i - origin_px[0]
        for j in range(image.shape[1]):
            v = j - origin_px[1]
            x = to_lab[0, 0] * u + to_lab[0, 1] * v
            y = to_lab[1, 0] * u + to_lab[1, 1] * v
            value = density_at(x, y, beam)
            if value > 0.0:
                p = at[0] + per_row[0] * i + per_column[0] * j
                q = at[1] + per_row[1] * i + per_column[1] * j
                if bar > 0.0:  # bars run midway between the meshes' centres
                    s, t = p * meshes, q * meshes
                    if abs(s - math.floor(s) - 0.5) < bar or abs(t - math.floor(t) - 0.5) < bar:
                        image[i, j] = 0.0
                        continue
                if contrast > 0.0:
                    p, q = p * cells, q * cells
                    k, m = math.floor(p), math.floor(q)
                    f, g = p - k, q - m
                    k, m = k & mask, m & mask
                    k1, m1 = (k + 1) & mask, (m + 1) & mask
                    upper = texture[k, m] + g * (texture[k, m1] - texture[k, m])
                    lower = texture[k1, m] + g * (texture[k1, m1] - texture[k1, m])
                    value *= 1.0 - contrast * (upper + f * (lower - upper))
                value *= scale
            image[i, j] = value


def planes_for(specimen: Specimen, i: int, rays: Rays) -> Floats:
    """The faces of particle `i` as `contrast.path_um` takes them."""
    p = specimen.particles
    planes: Floats = planes_of(
        p.faces[i], p.centre_um[i], rays.origin, rays.per_row, rays.per_column, rays.direction
    )
    return planes


def corners_um(specimen: Specimen, i: int) -> Floats:
    """(2 v, 3) of the prism around particle `i`, in the specimen's frame."""
    p = specimen.particles
    outline = p.vertices_um[i]
    low = np.column_stack([outline, np.zeros(len(outline))])
    high = low + np.array([0.0, 0.0, p.thickness_um[i]])
    corners: Floats = p.centre_um[i] + np.vstack([low, high])
    return corners


def shadows(
    specimen: Specimen, view: View, lost_per_um: Callable[[int], float]
) -> tuple[Floats, Rays, list[int]]:
    """Electrons per pixel behind film and particles, in the light of the beam's disc.

    Parameters
    ----------
    lost_per_um : what a particle takes from the beam per um of path.

    Returns
    -------
    (rows, columns), the rays of the pixels, and the particles that are in the light.
    """
    rays = rays_through(middle(view), view.picture_px_per_um, view.origin_px)
    image = lit_film(specimen, view, rays)
    lit = within(specimen, view, rays)
    for i in lit:
        box = box_of(rays.to_px(corners_um(specimen, i)), view.shape)
        if box[0] < box[1] and box[2] < box[3]:
            attenuate(image, planes_for(specimen, i, rays), box, lost_per_um(i))
    return image, rays, lit


def within(specimen: Specimen, view: View, rays: Rays) -> list[int]:
    """Particles that the beam can meet and, where there is a picture, that are in it."""
    reach_um = BEAM.reach_um(view.beam_radius_um)
    centre_um = np.asarray(view.beam_centre_um, float)
    if view.picture_px_per_um.any():
        size = np.asarray(view.shape, float) - 1
        to_lab = np.linalg.inv(view.picture_px_per_um)
        field_um = float(np.linalg.norm(to_lab, 2)) * 0.5 * float(np.hypot(*size))
        if field_um < reach_um:
            reach_um, centre_um = field_um, to_lab @ (0.5 * size - view.origin_px)
    p = specimen.particles
    # a circle in the lab is an ellipse on the film, longer by 1 / cos(tilt)
    cosine = max(abs(float(rays.direction[2])), 0.2)
    on_film = rays.on_film(centre_um)
    return [
        i
        for i in specimen.near(on_film, (reach_um + HIGHEST_UM * (1 - cosine**2) ** 0.5) / cosine)
        if np.linalg.norm(rays.to_lab(p.centre_um[i])[:2] - centre_um) < reach_um + p.reach_um[i]
    ]


def picture(specimen: Specimen, view: View) -> Floats:
    """A bright-field picture: mass thickness, and what a crystal's reflections take away."""
    return shadows(specimen, view, lambda i: lost_per_um(specimen, i, view))[0]
