"""Defocused images: where the crystal is in the beam, told to the tracker and to the descan."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...lib.serialred.darkness import Flat, flat_of
from ...lib.serialred.disc import find_disc
from ...lib.serialred.settings import RotationSettings
from ...lib.serialred.shadow import Sighting, sight_crystal
from ...lib.serialred.thesis import sight_crystal_as_published
from ...lib.serialred.tracking import Verdict, hexagon
from ..protocols import Camera, Clock, Exposure, Microscope
from .beam_follower import BeamFollower, SeriesStopped
from .rotation_record import Sink

Floats = NDArray[np.float64]
# the tilt, in degrees, at a time of the clock
Tilt = Callable[[float], float]

# The bare beam is looked at so many beam radii from a crystal that may be as wide as the beam.
BESIDE_RADII = 2.5


class Lookout:
    """Takes the defocused images of one rotation.

    Attributes
    ----------
    flat : the beam's own light, once it was recorded.
    sighting : the last.
    n_images : taken so far.

    Parameters
    ----------
    beam : told what is seen; None: nobody follows.
    valid : (rows, columns) False on pixels that tell nothing.
    """

    def __init__(
        self,
        microscope: Microscope,
        camera: Camera,
        clock: Clock,
        settings: RotationSettings,
        sink: Sink,
        beam: BeamFollower | None,
        valid: NDArray[np.bool_],
    ) -> None:
        self.camera, self.clock, self.settings = camera, clock, settings
        self.sink, self.beam, self.valid = sink, beam, valid
        self.focus = microscope.lenses["diffraction_focus"]
        self.focused_um = self.focus.get()
        self.flat: Flat | None = None
        self.sighting: Sighting | None = None
        self.n_images = 0

    def put_back(self) -> None:
        """Focus as it was."""
        self.focus.set(self.focused_um)

    def look(self, number: int, tilt: Tilt) -> tuple[Sighting, Verdict | None]:
        """Take an image, say where the crystal is, and let the followers learn."""
        exposure = self._image(self.settings.tracking_exposure_s)
        self.sink.tracking(number, exposure, tilt(exposure.started_s), tilt(exposure.ended_s))
        if self.settings.recognition == "published":
            sighting = sight_crystal_as_published(exposure.counts, self.valid)
        else:
            shadow = self.sighting.shadow if self.sighting else None
            sighting = sight_crystal(exposure.counts, self.valid, shadow, self.flat)
        self.sighting = sighting
        verdict = displaced = None
        alpha = 0.5 * (tilt(exposure.started_s) + tilt(exposure.ended_s))
        if self.beam is not None and sighting.found:
            verdict = self.beam.crystal_seen(alpha, sighting)
        if self.beam is not None and sighting.disc is not None:
            displaced = self.beam.disc_seen(sighting.disc)
        self._decide(
            "sighting",
            number=number,
            alpha_deg=alpha,
            found=sighting.found,
            offset_px=plain(sighting.offset_px),
            sigma_px=sighting.sigma_px,
            confidence=sighting.confidence,
            variance=sighting.variance,
            disc_px=plain(sighting.disc.centre_px) if sighting.disc else None,
            radius_px=sighting.disc.radius_px if sighting.disc else None,
            disc_displaced_px=None if displaced is None else plain(displaced),
            verdict=None if verdict is None else asdict(verdict),
        )
        return sighting, verdict

    def record_flat(self, alpha_deg: float) -> None:
        """The beam's own light, from images at six places around the crystal; the beam comes back.

        The stage is at rest.
        Without a beam follower, with the published recognition or with `flat_s` 0 there is none.
        """
        s, beam = self.settings, self.beam
        if beam is None or s.recognition == "published" or not s.flat_s:
            return
        disc = find_disc(self._flat_image(alpha_deg).counts, self.valid)
        if disc is None:  # the next look will say so
            return
        beam.disc_seen(disc)
        here, images = beam.beam_um, []
        for place in hexagon(BESIDE_RADII * beam.radius_um):
            try:
                beam.point(here + place)
            except SeriesStopped:  # beyond the deflectors' range: five places will do
                continue
            images.append(self._flat_image(alpha_deg).counts)
        beam.point(here)
        self.flat = flat_of(images, self.valid)
        found = self.flat
        self._decide(
            "flat",
            n_images=found.n_images if found else 0,
            uneven_by=found.uneven_by if found else None,
        )

    def _flat_image(self, alpha_deg: float) -> Exposure:
        exposure = self._image(self.settings.flat_s)
        self.sink.flat(exposure, alpha_deg)
        return exposure

    def _image(self, exposure_s: float) -> Exposure:
        with self._defocused():
            exposure = self.camera.expose(exposure_s)
        self.n_images += 1
        return exposure

    @contextmanager
    def _defocused(self) -> Iterator[None]:
        s = self.settings
        self.focus.set(self.focused_um + s.tracking_defocus_um)
        self.clock.sleep(s.settling_s)
        try:
            yield
        finally:
            self.focus.set(self.focused_um)
        self.clock.sleep(s.settling_s)

    def _decide(self, what: str, **numbers: Any) -> None:
        self.sink.decision({"decision": what, "t_s": self.clock.now(), **numbers})


def plain(values: Floats) -> list[float | None]:
    """For a record: numbers, None for NaN."""
    return [float(v) if np.isfinite(v) else None for v in values]
