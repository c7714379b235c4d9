"""A detector behind Serval as `protocols.Camera`."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import suppress
from typing import Any

from ..errors import CameraFailed, ConnectionLost, InstrumentError
from ..frames import FrameTimes, Numbers, check_request, exposure, triggered
from ..protocols import Camera, Clock, Exposure
from .images import HttpImages, Images, TcpImages
from .options import Options
from .server import Server

LIMITS_S = (1e-6, 10.0)  # Serval's own
ENDLESS = 1_000_000_000
RESTING = ("DA_IDLE", "DA_STOPPED")
_POLL_S = 0.005


class ServalCamera:
    """Single exposures by software trigger, streams by Serval's own. Made by `open_camera`.

    Between exposures of one length the detector stays armed; another length arms it anew.
    """

    def __init__(self, options: Options, clock: Clock) -> None:
        self._options, self._clock = options, clock
        self._server = Server(options, clock)
        self._armed_s: float | None = None
        self._released = False
        detector = self._server.json("/dashboard").get("Detector")
        if not detector:
            raise InstrumentError(
                self._server.name, "no detector connected", "one", "switch it on, see its cables"
            )
        self._name = f"{detector.get('DetectorType', 'detector')} (Serval)"
        self._numbers = Numbers(self._name)
        self._images: Images = (
            TcpImages(options, self._name)
            if options.frames == "tcp"
            else HttpImages(options, self._server)
        )
        try:
            self._stop()
            if options.detector:
                self._configure(options.detector)
        except BaseException:
            self._images.close()
            raise

    @property
    def name(self) -> str:
        """Type of the detector, as Serval has it."""
        return self._name

    @property
    def shape(self) -> tuple[int, int]:
        """As the options state; each image is checked against it."""
        return self._options.shape

    @property
    def pixel_size_mm(self) -> float:
        """As the options state."""
        return self._options.pixel_size_mm

    @property
    def binnings(self) -> tuple[int, ...]:
        """The chips do not bin."""
        return (1,)

    @property
    def dynamic_range(self) -> int:
        """As the options state."""
        return self._options.dynamic_range

    @property
    def dead_time_s(self) -> float:
        """As the options state."""
        return self._options.dead_time_s

    def expose(self, exposure_s: float, binning: int = 1) -> Exposure:
        """Take one image; `started_s` is known to half an exchange with the server.

        Raises
        ------
        CameraFailed : no image in time, or none of this camera; the next call starts anew.
        ConnectionLost : Serval does not answer.
        """
        check_request(self._name, exposure_s, binning, LIMITS_S)
        self._must_be_open()
        try:
            if self._armed_s != exposure_s:
                self._start("SOFTWARESTART_TIMERSTOP", exposure_s, ENDLESS)
                self._wait_for(("DA_RECORDING",))
                self._armed_s = exposure_s
            before = self._clock.now()
            self._server.once("/measurement/trigger/start")
            after = self._clock.now()
            index, counts = self._images.next(exposure_s + self._options.timeout_s)
            return exposure(
                self._name,
                counts,
                self.shape,
                started_s=triggered(before, after, self._clock.now(), exposure_s),
                exposure_s=exposure_s,
                number=self._numbers.of(index),
            )
        except BaseException:
            self._disarm()
            raise

    def stream(
        self, exposure_s: float, n_frames: int | None = None, binning: int = 1
    ) -> Generator[Exposure, None, None]:
        """Take images one after the other; one that Serval lost is missing from the numbers."""
        check_request(self._name, exposure_s, binning, LIMITS_S, n_frames)
        self._must_be_open()
        return self._stream(exposure_s, n_frames)

    def _stream(self, exposure_s: float, n_frames: int | None) -> Generator[Exposure, None, None]:
        if n_frames == 0:
            return
        gapless = self._options.dead_time_s == 0
        period_s = exposure_s + self._options.dead_time_s
        last = ENDLESS if n_frames is None else n_frames - 1
        try:
            commanded_s = self._clock.now()
            mode = "CONTINUOUS" if gapless else "AUTOTRIGSTART_TIMERSTOP"
            self._start(mode, exposure_s, n_frames or ENDLESS)
            times = FrameTimes(exposure_s, period_s, commanded_s)
            index = -1
            while index < last:
                index, counts = self._images.next(period_s + self._options.timeout_s)
                yield exposure(
                    self._name,
                    counts,
                    self.shape,
                    started_s=times.began(index, self._clock.now()),
                    exposure_s=exposure_s,
                    number=self._numbers.of(index),
                )
        finally:
            self._disarm()

    def release(self) -> None:
        """Stop the detector and close the connections."""
        if not self._released:
            self._released = True
            self._disarm()
            self._images.close()
            self._server.close()

    def _start(self, mode: str, exposure_s: float, n: int) -> None:
        self._armed_s = None
        self._stop()
        self._configure(
            {
                "TriggerMode": mode,
                "ExposureTime": exposure_s,
                "TriggerPeriod": exposure_s + self._options.dead_time_s,
                "nTriggers": n,
            }
        )
        self._server.put("/server/destination", self._images.destination())
        self._numbers.new_acquisition()
        self._server.once("/measurement/start")
        self._images.begin(self._options.timeout_s)

    def _configure(self, settings: dict[str, Any]) -> None:
        # Serval takes the whole configuration.
        whole = self._server.json("/detector/config")
        self._server.put("/detector/config", {**whole, **settings})

    def _wait_for(self, states: tuple[str, ...]) -> None:
        """A trigger before Serval records would be lost, a start before it rests refused."""
        end = time.monotonic() + self._options.timeout_s
        while True:
            measurement = self._server.json("/dashboard").get("Measurement") or {}
            state = measurement.get("Status") or "DA_IDLE"
            if state in states:
                return
            if time.monotonic() > end:
                raise CameraFailed(
                    self._name,
                    f"{state} after {self._options.timeout_s:g} s",
                    " or ".join(states),
                    "look at Serval's log",
                )
            time.sleep(_POLL_S)

    def _stop(self) -> None:
        self._images.end()
        self._server.stop()
        self._wait_for(RESTING)

    def _disarm(self) -> None:
        """Stop, whatever the state; a lost connection was told already, or will be."""
        self._armed_s = None
        with suppress(ConnectionLost, CameraFailed):
            self._stop()

    def _must_be_open(self) -> None:
        if self._released:
            raise ConnectionLost(self._name, "a released camera", "an open one", "open it again")


def open_camera(options: Options, clock: Clock) -> Camera:
    """Connect to Serval and stop whatever it measures.

    Raises
    ------
    ConnectionLost : Serval does not answer.
    InstrumentError : it has no detector.
    CameraFailed : it refuses the settings.
    """
    return ServalCamera(options, clock)
