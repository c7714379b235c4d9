"""Rotation series of one crystal, taken by the microscope twin."""

from __future__ import annotations

import math

import dask.array as da
import numpy as np

from ewaldflow.hardware.simulated.scatter import particles_of, specimen_of
from ewaldflow.hardware.simulated.scene import Scene
from ewaldflow.hardware.simulated.specimen import PhaseOptions, Specimen, SpecimenOptions, phase_of
from ewaldflow.hardware.simulated.twin import TwinOptions, open_twin
from ewaldflow.lib.instrument import load_instrument
from ewaldflow.lib.series import RotationSeries
from ewaldflow.lib.simulation.conditions import random_rotation

BESIDE_CROSS_PX = np.array([238.0, 243.0])


def one_crystal(phase: PhaseOptions, seed: int) -> Specimen:
    """A crystal of usual size at the origin, on film without bars."""
    options = SpecimenOptions(phases=(phase,), bar_um=0.0)
    turn = 2 * math.pi * (np.arange(6) + 0.3 * random_rotation(seed)[0, 0]) / 6
    side = phase.diameter_um / 2 * math.sqrt(math.pi / (1.5 * math.sqrt(3)))
    outline = side * np.stack([np.cos(turn), np.sin(turn)], 1)
    thickness = min(phase.thickness * phase.diameter_um, phase.thickest_um)
    particles = particles_of(
        np.zeros((1, 3)), np.zeros(1, int), random_rotation([seed, 0])[None],
        np.array([thickness]), [outline],
    )  # fmt: skip
    return specimen_of(options, (phase_of(phase),), particles, seed)


def twin_series(
    phase: PhaseOptions,
    seed: int,
    *,
    range_deg: float = 60.0,
    speed_deg_per_s: float = 0.8,
    exposure_s: float = 0.3,
    name: str | None = None,
) -> tuple[RotationSeries, Specimen]:
    """A crystal turned through the beam at the twin's defaults, without tracking."""
    specimen = one_crystal(phase, seed)
    twin = open_twin(TwinOptions(seed=seed, goniometer="well_set"), scene=Scene(specimen))
    stage, camera = twin.microscope.stage, twin.camera
    twin.microscope.set_mode("diffraction")
    # as an operator does: the direct beam beside the detector's cross
    per_unit = twin.truth.px_per_unit("diffraction_shift", "focused")
    wanted = np.linalg.solve(per_unit, BESIDE_CROSS_PX - twin.truth.view().pattern_px)
    twin.microscope.deflectors["diffraction_shift"].set((float(wanted[0]), float(wanted[1])))
    stage.start_move(alpha_deg=-range_deg / 2)
    while stage.is_moving():
        twin.clock.sleep(0.1)
    stage.start_move(alpha_deg=range_deg / 2 + 2, speed_deg_per_s=speed_deg_per_s)
    twin.clock.sleep(1.5)
    counts, angles = [], []
    for exposure in camera.stream(exposure_s):
        counts.append(exposure.counts)
        ends = (exposure.started_s, exposure.started_s + exposure_s)
        angles.append([twin.truth.alpha_deg(t) for t in ends])
        if angles[-1][1] > range_deg / 2:
            break
    angle = np.array(angles)
    nominal_mm = load_instrument("twin").camera_lengths[twin.microscope.camera_length_mm()]
    geometry = twin.truth.view().geometry.with_(distance_mm=nominal_mm)
    n = len(counts)
    # DIALS reads no pauses: the camera's dead time is taken as half before, half after
    middle = angle.mean(axis=1)
    step = float(middle[-1] - middle[0]) / (n - 1)
    middle = middle[0] + step * np.arange(n)
    mask = np.zeros(counts[0].shape, bool)
    mask[255:261] = mask[:, 255:261] = True
    series = RotationSeries(
        name=name or f"{phase.structure} {seed}",
        frames=da.from_array(np.array(counts), chunks=(16, *counts[0].shape)),
        frame_number=np.arange(1, n + 1),
        angle_start_deg=middle - step / 2,
        angle_width_deg=np.full(n, step),
        geometry=geometry,
        mask=mask,
        gain=1.0,
        saturation=float(camera.dynamic_range),
        instrument="twin",
    )
    return series, specimen
