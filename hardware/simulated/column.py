"""The simulated instrument behind its handles: settings over time, and what the beam sees."""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from ...lib.geometry import EllipticalDistortion, Geometry
from ..protocols import Clock
from .faults import Faults
from .goniometer import Goniometer
from .optics import Optics, Settings
from .view import Pose, View

# changes of settings kept: enough for any exposure that may still be read out
KEPT_CHANGES = 600
# an instant between two changes shorter than this puts nothing on the camera
SHORTEST_S = 1e-6


class Column:
    """One simulated microscope: the parts that all handles share.

    Attributes
    ----------
    clock, goniometer, optics, faults : its parts.
    geometry : nominal, with the true distortion; camera length and centre are set per view.
    shape, pixel_size_mm : of the camera.
    voltage_V : accelerating voltage.
    """

    def __init__(
        self,
        clock: Clock,
        goniometer: Goniometer,
        optics: Optics,
        faults: Faults,
        geometry: Geometry,
        shape: tuple[int, int],
        voltage_V: float,
        settings: Settings,
    ) -> None:
        o = optics.options
        self.clock, self.goniometer, self.optics, self.faults = clock, goniometer, optics, faults
        self.geometry = geometry.with_(
            distortion=EllipticalDistortion(o.ellipticity, o.ellipse_azimuth_deg % 180),
            radial_per_mm2=o.radial_per_mm2,
        )
        self.shape, self.pixel_size_mm, self.voltage_V = shape, geometry.pixel_size_mm, voltage_V
        self._centre_px = (np.array(shape) - 1) / 2
        self._changes, self._times = [settings], [-np.inf]
        self.lock = threading.RLock()

    @property
    def settings(self) -> Settings:
        """As they are now."""
        return self._changes[-1]

    def set(self, **changes: Any) -> None:
        """Change settings, now."""
        with self.lock:
            self._changes.append(self._changes[-1]._replace(**changes))
            self._times.append(self.clock.now())
            if len(self._changes) > 2 * KEPT_CHANGES:
                del self._changes[:-KEPT_CHANGES], self._times[:-KEPT_CHANGES]

    def stage_time(self, t_s: float) -> float:
        """The stage's own time: it stands still while the stage is hung."""
        return t_s - self.faults.hung_s(t_s) if self.faults.windows else t_s

    def pose(self, t_s: float) -> Pose:
        """The true pose at a time of the clock."""
        moved = (0.0, 0.0)
        if self.faults.windows:
            moved = self.faults.moved_um("stage_drift", t_s)
            jump = self.faults.moved_um("specimen_jump", t_s)
            moved = (moved[0] + jump[0], moved[1] + jump[1])
        return self.goniometer.pose(self.stage_time(t_s), t_s, moved)

    def views(self, begin_s: float, end_s: float) -> list[View]:
        """What the camera sees between two times: one view per stretch of unchanged settings.

        Stretches without electrons (beam blanked or lost, screen down) are left out.
        """
        with self.lock:
            first = bisect_right(self._times, begin_s)
            last = bisect_left(self._times, end_s)
            edges = [begin_s, *self._times[first:last], end_s]
            if self.faults.windows:
                edges = sorted({*edges, *self.faults.edges(begin_s, end_s)})
            views = []
            for start, end in pairwise(edges):
                settings = self._changes[max(bisect_right(self._times, start) - 1, 0)]
                dark = settings.blanked or settings.screen_down
                if end - start < SHORTEST_S or dark or self.faults.active(("beam_lost",), start):
                    continue
                views.append(self._view(settings, start, end))
            return views

    def view(self, t_s: float, exposure_s: float) -> View:
        """As if everything stood still from `t_s` on, whatever keeps the beam away."""
        with self.lock:
            now = self._view(self.settings, t_s, t_s)
            electrons = self.optics.options.electrons_per_s * exposure_s
            return replace(now, electrons=electrons)

    def _view(self, settings: Settings, start_s: float, end_s: float) -> View:
        rays = self.optics.rays(settings, start_s)
        beam = rays.beam_um
        if self.faults.windows:
            beam = beam + self.faults.moved_um("beam_drift", start_s)
        px, centre = self.pixel_size_mm, self._centre_px
        pattern = rays.pattern_mm / px + centre
        still = not self.goniometer.is_moving(self.stage_time(start_s))
        start = self.pose(start_s)
        return View(
            mode=settings.mode,
            start=start,
            end=start if still else self.pose(end_s),
            electrons=self.optics.options.electrons_per_s * (end_s - start_s),
            beam_centre_um=beam,
            beam_radius_um=rays.radius_um,
            picture_px_per_um=rays.picture_mm_per_um / px,
            origin_px=rays.origin_mm / px + centre,
            pattern_px=pattern,
            geometry=self.geometry.with_(
                distance_mm=rays.distance_mm,
                beam_centre_px=(float(pattern[0]), float(pattern[1])),
            ),
            defocused=rays.defocused,
            shape=self.shape,
        )
