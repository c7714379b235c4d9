"""Small sessions on the twin: a few crystals put by hand where they are wanted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ewaldflow.hardware.config import load_control
from ewaldflow.hardware.lab import Lab
from ewaldflow.hardware.simulated.scatter import particles_of, specimen_of
from ewaldflow.hardware.simulated.scene import Scene
from ewaldflow.hardware.simulated.specimen import PhaseOptions, Specimen, SpecimenOptions, phase_of
from ewaldflow.hardware.simulated.twin import Twin, TwinOptions, open_twin
from ewaldflow.lib.serialred.raster import Box
from ewaldflow.lib.serialred.session import Height, Imaging, SessionConfig, Stop
from ewaldflow.lib.serialred.settings import RotationSettings
from ewaldflow.lib.simulation.conditions import random_rotation

NAME = "twin"
PHASE = PhaseOptions(structure="MFI")
RADIUS_UM = 0.4
THICKNESS_UM = 0.2


def grid_of(
    places_um: Sequence[tuple[float, float]], seed: int = 1, radius_um: float = RADIUS_UM
) -> Specimen:
    """Hexagonal plates of a zeolite at places (x, y) of a flat film without bars."""
    options = SpecimenOptions(phases=(PHASE,), bar_um=0.0)
    number = len(places_um)
    corners = 2 * math.pi * np.arange(6) / 6
    outline = radius_um * np.stack([np.cos(corners), np.sin(corners)], 1)
    particles = particles_of(
        np.array([(x, y, 0.0) for x, y in places_um]).reshape(-1, 3),
        np.zeros(number, int),
        np.array([random_rotation([seed, i]) for i in range(number)]).reshape(-1, 3, 3),
        np.full(number, THICKNESS_UM),
        [outline] * number,
    )
    return specimen_of(options, (phase_of(PHASE),), particles, seed)


def lab_with(specimen: Specimen, **options: Any) -> tuple[Lab, Twin]:
    """The instrument ``twin`` with this specimen, unguarded; options of the twin.

    Images of a wrong shape get through to the program, as from a server.
    """
    instrument, control = load_control(NAME)
    twin = open_twin(TwinOptions.model_validate(options), instrument, scene=Scene(specimen))
    twin.camera.checks_shape = False
    lab = Lab(NAME, instrument, control, twin.microscope, twin.camera, twin.clock, False, twin)
    return lab, twin


def short_session(**changes: Any) -> SessionConfig:
    """A few views, +-10 degrees, coarse frames: a session in about a second."""
    settings: dict[str, Any] = {
        "name": "short",
        "instrument": NAME,
        "area": Box(x_um=(-4, 4), y_um=(-4, 4)),
        "imaging": Imaging(exposure_s=0.5, overlap_um=2.6),
        "height": Height(exposure_s=0.5),
        "rotation": RotationSettings(
            range_deg=(-10, 10), widest=True, speed_deg_per_s=2.0, exposure_s=0.5, image_interval=5
        ),
        "stop": Stop(),
    }
    return SessionConfig(**{**settings, **changes})
