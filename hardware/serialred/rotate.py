"""A rotation series of the crystal in the beam, into its folder."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ...lib.serialred.record import TRACKING, SeriesFolder
from ..guard.state import read_state
from ..protocols import Exposure
from .rotation import RotationRecord, collect_rotation
from .station import Station


class FolderSink:
    """Hands what a rotation yields to the folder of its series, as a replay can play it back."""

    def __init__(self, station: Station, series: SeriesFolder) -> None:
        self.station, self.series = station, series
        scope = station.lab.microscope
        state, stage = read_state(scope), asdict(scope.stage.position())
        series.line("set", t_s=station.now, **state.as_dict())
        series.line("position", t_s=station.now, stage=stage)
        self._stage = stage
        self._focused_um = state.lenses["diffraction_focus"]

    def frame(
        self, number: int, exposure: Exposure, alpha_start_deg: float, alpha_end_deg: float
    ) -> None:
        """A diffraction frame."""
        self.station.refuse_wrong_shape(exposure)
        self.series.frame(
            number,
            exposure.counts,
            alpha_start_deg,
            alpha_end_deg,
            exposure.exposure_s,
            t_s=exposure.started_s,
            lenses={"diffraction_focus": self._focused_um},
        )

    def tracking(
        self, number: int, exposure: Exposure, alpha_start_deg: float, alpha_end_deg: float
    ) -> None:
        """A defocused image; those before the rotation have number 0."""
        self._defocused("tracking", number, exposure, alpha_start_deg, alpha_end_deg)

    def flat(self, exposure: Exposure, alpha_deg: float) -> None:
        """A defocused image of the bare beam."""
        self._defocused("flat", 0, exposure, alpha_deg, alpha_deg)

    def _defocused(
        self, role: str, number: int, exposure: Exposure, start_deg: float, end_deg: float
    ) -> None:
        self.station.refuse_wrong_shape(exposure)
        defocus_um = self.station.session.rotation.tracking_defocus_um
        self.series.image(
            TRACKING,
            f"{number:05d}-{exposure.number:07d}",
            exposure.counts,
            role=role,
            number=number,
            t_s=exposure.started_s,
            exposure_s=exposure.exposure_s,
            alpha_start_deg=start_deg,
            alpha_end_deg=end_deg,
            lenses={"diffraction_focus": self._focused_um + defocus_um},
        )

    def decision(self, what: dict[str, Any]) -> None:
        """What was decided, with its numbers."""
        self.series.line("decision", **what)
        if what["decision"] == "stage read":
            stage = {**self._stage, "alpha_deg": what["alpha_deg"]}
            self.series.line("position", t_s=what["t_s"], stage=stage)


def rotate(station: Station, series: SeriesFolder) -> RotationRecord:
    """Collect a series with the beam on; its last line has the angles by all read-outs."""
    lab = station.lab
    with station.lit():
        record = collect_rotation(
            lab.microscope,
            lab.camera,
            lab.clock,
            station.session.rotation,
            station.calibrations,
            FolderSink(station, series),
            valid=station.valid,
        )
    series.line(
        "angles",
        frames=[(one.number, one.alpha_start_deg, one.alpha_end_deg) for one in record.frames],
        speed_deg_per_s=record.speed_deg_per_s,
        rms_deg=record.alpha_rms_deg,
    )
    return record
