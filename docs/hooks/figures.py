"""The figures of the pages, made anew by the library each time the site is built.

Each public function makes one; its docstring says what is seen, for those who cannot see it, and
is the caption. All of them together take less than half a minute of one core.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ewaldflow.lib.report.html import BLUE, GREEN, ORANGE

SEED = 1
#: name -> what makes it
FIGURES: dict[str, Callable[[], Figure]] = {}


def figure(make: Callable[[], Figure]) -> Callable[[], Figure]:
    """Let pages show what this makes, by its name."""
    FIGURES[make.__name__] = make
    return make


def png(name: str) -> bytes:
    """A figure, twice as fine as a page shows it."""
    out = io.BytesIO()
    FIGURES[name]().savefig(out, format="png", dpi=120)
    return out.getvalue()


def caption(name: str) -> str:
    """What the figure shows, in one paragraph."""
    return " ".join((FIGURES[name].__doc__ or "").split())


@figure
def particles_found() -> Figure:
    """A view of the simulated grid, with what is made of it:
    outlines of suitable particles in green, of the others in orange with the first reason."""
    from scipy.ndimage import gaussian_filter

    from ewaldflow.hardware.moves import move
    from ewaldflow.hardware.simulated.specimen import SpecimenOptions
    from ewaldflow.hardware.simulated.twin import TwinOptions, open_twin
    from ewaldflow.lib.serialred.isolation import judge_particles
    from ewaldflow.lib.serialred.particles import find_particles

    twin = open_twin(TwinOptions(seed=SEED, specimen=SpecimenOptions(crystals_per_um2=0.15)))
    microscope = twin.microscope
    microscope.set_mode("imaging")
    microscope.set_magnification(2500)
    microscope.set_screen(down=False)
    microscope.unblank()
    microscope.lenses["brightness"].set(twin.column.optics.brightness_for(9.6))
    move(microscope.stage, twin.clock, x_um=12.0, y_um=14.0)
    picture = twin.camera.expose(0.5).counts
    um_per_px = 0.01155
    found = find_particles(picture, um_per_px * np.eye(2))
    drawing = Figure(figsize=(6.4, 6.2), layout="constrained")
    panel = drawing.subplots()
    panel.imshow(gaussian_filter(picture.astype(float), 2), cmap="gray")
    for i, one in enumerate(judge_particles(found)):
        colour = GREEN if one.suitable else ORANGE
        panel.contour(found.labels == i + 1, [0.5], colors=[colour], linewidths=1.4)
        if not one.suitable:
            at = found.particles.column[i], found.particles.row[i]
            words = textwrap.fill(str(one.rejections[0].reason), 16)
            panel.text(*at, words, color="white", fontsize=7.5, ha="center", va="center")
    _scale_bar(panel, picture.shape, um_per_px, 1.0, "1 µm")
    return drawing


@figure
def conventions() -> Figure:
    """A frame of a simulated series with the conventions that every number obeys: x along
    increasing columns, y along increasing rows, the beam into the page, the rotation axis as the
    geometry states it, and the beam centre in pixels whose centres are integers."""
    from ewaldflow.lib.simulation import demo_series

    series, _ = demo_series(SEED)
    frame = np.asarray(series.frames[30], float)
    row, column = series.geometry.beam_centre_px
    x, y, _ = series.geometry.axis
    drawing = Figure(figsize=(5.6, 5.6), layout="constrained")
    panel = drawing.subplots()
    panel.imshow(np.sqrt(np.maximum(frame, 0)), cmap="gray_r", vmax=12)
    panel.plot(
        [column - 230 * x, column + 230 * x], [row - 230 * y, row + 230 * y], "-.", lw=1.6,
        color=ORANGE, label="rotation axis",
    )  # fmt: skip
    panel.plot(column, row, "+", ms=16, mew=1.6, color=GREEN, label="beam centre")
    for name, along, down in (("x", 90, 0), ("y", 0, 90)):
        panel.annotate(
            "", (20 + along, 20 + down), (20, 20),
            arrowprops={"arrowstyle": "->", "color": BLUE, "lw": 2.2},
        )  # fmt: skip
        panel.text(20 + 1.1 * along, 26 + 1.1 * down, name, color=BLUE, fontsize=13)
    panel.set(xlabel="column", ylabel="row")
    panel.legend(loc="lower right", framealpha=0.9)
    return drawing


@figure
def rings_measured() -> Figure:
    """A simulated image of gold rings behind a beam stop, elliptical by 2.4 %, in polar view: as
    recorded, and with the ellipse that was found taken out. Lines are the fitted rings."""
    from ewaldflow.lib.report.ring_figures import polar_views

    image, fit = _rings()
    return polar_views(image, fit.calibrations[0], fit.good[0])


@figure
def ring_residuals() -> Figure:
    """How far the measured points of each ring lie from the fitted one, along the azimuth."""
    from ewaldflow.lib.report.ring_figures import residuals_of_rings

    _, fit = _rings()
    return residuals_of_rings(fit.points, fit.calibrations[0], 0)


@cache
def _rings() -> Any:
    from ewaldflow.lib.rings.calibrants import gold
    from ewaldflow.lib.rings.calibrate import fit_rings
    from ewaldflow.lib.rings.simulate import RingConditions, simulate_rings

    conditions = RingConditions(
        shape=(512, 512), pixel_size_mm=0.12, stop_px=15, shaft_px=11, width_px=1.2,
        stop_offset_px=(1.5, -1.0),
    )  # fmt: skip
    image, _ = simulate_rings(gold(), conditions, SEED)
    return image, fit_rings([image], gold())


@figure
def overfocus_superposed() -> Figure:
    """A simulated overfocused scan of a cross grating, 20 by 20 points: one frame, and all of them
    superposed without and with the calibration that was found, no start value given."""
    from ewaldflow.lib.overfocus.calibrate import calibrate
    from ewaldflow.lib.overfocus.parameters import OverfocusParameters
    from ewaldflow.lib.overfocus.views import views_of
    from ewaldflow.lib.report.overfocus_figures import sharp
    from ewaldflow.lib.stem4d.simulate import simulate_scan

    step = 3.0 * 50e-6 * 20e-6 / (0.5 + 20e-6)
    truth = OverfocusParameters(
        20e-6, step, 0.5, 50e-6, 64.2, 62.7, 37.3, False, ((0.05, -0.03), (0.02, 0.06))
    )
    scan = simulate_scan(truth, (20, 20), (128, 128), disc_radius_px=50, seed=5)
    found = calibrate(scan)
    views = views_of(scan, found)
    frames = np.asarray(scan.frames[...], float)
    drawing = Figure(figsize=(9.6, 3.4), layout="constrained")
    shown = {
        "one frame": frames[10, 10],
        "sum of all frames": frames.sum(axis=(0, 1)),
        "superposed by the calibration": sharp(views),
    }
    for panel, (title, picture) in zip(drawing.subplots(1, 3), shown.items(), strict=True):
        panel.imshow(picture, cmap="gray")
        panel.set_title(title, fontsize=10)
        panel.set(xticks=[], yticks=[])
    return drawing


@figure
def frames_with_predictions() -> Figure:
    """Frames of a simulated ZSM-5 series with what the built-in engine predicts for them after
    refinement; the axis of the header was wrong by 0.2 degrees and the beam drifted."""
    from ewaldflow.lib.report.frame_figures import montage

    return montage(*_reduced(), n=3)


@figure
def residuals_of_spots() -> Figure:
    """What the refinement leaves: observed less predicted positions of the same series."""
    from ewaldflow.lib.report.lattice_figures import residuals

    lattice = _reduced()[1].lattices[0]
    seen = np.flatnonzero(np.isfinite(lattice.reflections.observed_row))
    return residuals(lattice, seen)


@cache
def _reduced() -> Any:
    from ewaldflow.lib.reduction.config import ReductionConfig
    from ewaldflow.lib.reduction.engine import reduce_series
    from ewaldflow.lib.simulation import demo_series

    series, _ = demo_series(SEED)
    return series, reduce_series(series, ReductionConfig(engine="builtin"))


@figure
def clusters_found() -> Figure:
    """Tree and cut of 22 simulated crystals of one cell: 14 of MFI and 8 with calcium in its
    pores. Intensities alone tell them apart; the distance is √(1 − CC²)."""
    from ewaldflow.lib.crystal.lattice_symmetry import candidate_operators
    from ewaldflow.lib.merging.hca import cluster
    from ewaldflow.lib.merging.pairwise import pairwise_correlations
    from ewaldflow.lib.report.cluster_figures import dendrogram
    from ewaldflow.lib.simulation.data_sets import crystal, filled, framework

    empty, full = framework("MFI", d_min_A=1.2), filled("MFI", d_min_A=1.2)
    crystals = [crystal(empty, i, name=f"MFI {i + 1}") for i in range(14)]
    crystals += [crystal(full, 50 + i, name=f"Ca-MFI {i + 1}") for i in range(8)]
    return dendrogram(cluster(pairwise_correlations(crystals, candidate_operators("oP"))))


@figure
def orientations_found() -> Figure:
    """A simulated series of 150 frames whose goniometer shakes by 0.03 degrees: how far each frame
    is off the smooth rotation, as it truly is and as the refinement finds it from rocking curves
    alone."""
    from ewaldflow.lib.orientation.refine import refine_orientations
    from ewaldflow.lib.orientation.simulate import Rotation, simulate_orientation

    made = simulate_orientation(
        Rotation(step_deg=0.2, jitter_deg=(0.03, 0.03)), seed=SEED, axis_error_deg=0.3,
        direction_error_deg=0.3,
    )  # fmt: skip
    found = refine_orientations(made.data)
    drawing = Figure(figsize=(9.6, 4.2), layout="constrained")
    panels = drawing.subplots(2, 1, sharex=True)
    for k, (panel, name) in enumerate(zip(panels, ("along", "out of plane"), strict=True)):
        angle = made.data.angle_deg
        sd = np.sqrt(np.maximum(found.covariance_deg2[:, k, k], 0))
        true = made.small_deg[:, k] - made.small_deg[:, k].mean()
        mine = found.small_deg[:, k] - found.small_deg[:, k].mean()
        panel.plot(angle, true, "-", color="#8a96a3", lw=3, alpha=0.6, label="truth")
        panel.errorbar(angle, mine, sd, fmt=".", ms=4, lw=0.7, color=BLUE, label="found")
        panel.set_ylabel(f"{name} / °")
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].legend(frameon=False, ncols=2)
    panels[1].set_xlabel("goniometer angle / °")
    return drawing


@figure
def rotation_map() -> Figure:
    """Simulated graphene, 24 by 24 patterns of 10,000 electrons: magnitude and direction that the
    rotationally invariant autoencoder finds without being told anything, beside the centre of mass
    and two ways that need no network."""
    import torch

    from ewaldflow.lib.cbed.simulated import Simulation, simulated
    from ewaldflow.lib.report.rrvae_figures import beside_baselines
    from ewaldflow.lib.rrvae.config import HarmonicConfig
    from ewaldflow.lib.rrvae.learn import learn
    from ewaldflow.lib.rrvae.plan import Plan
    from ewaldflow.lib.rrvae.preprocess_config import PreprocessConfig

    torch.set_num_threads(1)
    scan = simulated(Simulation(scan_shape=(24, 24), shape=(32, 32), electrons=1e4, seed=SEED))
    model = HarmonicConfig(epochs=30, seeds=(0, 1), hidden=64)
    plan = Plan(prepare=PreprocessConfig(shape=(32, 32)), model=model)
    found = learn(scan, plan)
    result = found.result
    best = result.best
    content = found.maps.content[best][..., result.leading[best]]
    return beside_baselines(
        found.maps,
        content,
        best,
        result.agreements[best],
        result.baselines,
        result.prepared.com_unit,
    )


def _scale_bar(panel: Any, shape: tuple[int, ...], unit_per_px: float, length: float,
               text: str) -> None:  # fmt: skip
    row, column = shape[0] * 0.06, shape[1] * 0.05
    panel.plot([column, column + length / unit_per_px], [row, row], "-", color="white", lw=3)
    panel.text(column, row - 10, text, color="white", fontsize=9)
    panel.set(xticks=[], yticks=[])
