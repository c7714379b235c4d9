"""A Merlin as `protocols.Camera`."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import suppress

from ..errors import CameraFailed, ConnectionLost
from ..frames import FrameTimes, Numbers, check_request, exposure, triggered
from ..protocols import Camera, Clock, Exposure
from .link import Link
from .options import Options

LIMITS_S = (1e-6, 3600.0)
ENDLESS = 1_000_000_000
INTERNAL, SOFT = 0, 5  # TRIGGERSTART


class MerlinCamera:
    """Single exposures by soft trigger, streams by the internal one. Made by `open_camera`.

    Between exposures of one length the detector stays armed; another length arms it anew.
    """

    def __init__(self, options: Options, clock: Clock) -> None:
        self._options, self._clock = options, clock
        self._link = Link(options, clock)
        self._name = f"Merlin {self._link.get('SOFTWAREVERSION')}".strip()
        self._numbers = Numbers(self._name)
        self._armed_s: float | None = None
        self._set_up = False
        self._released = False
        try:
            self._prepare()
        except BaseException:
            self._link.close()
            raise

    @property
    def name(self) -> str:
        """With the version of its software."""
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
        """What the counter holds: 1, 63, 4095 or 16777215."""
        return int(2**self._options.counter_depth - 1)

    @property
    def dead_time_s(self) -> float:
        """As the options state; none if continuous."""
        return self._options.dead_time_s

    def expose(self, exposure_s: float, binning: int = 1) -> Exposure:
        """Take one image; `started_s` is known to half an exchange with the software.

        Raises
        ------
        CameraFailed : no image in time, or none of this camera; the next call starts anew.
        ConnectionLost : the software does not answer.
        """
        check_request(self._name, exposure_s, binning, LIMITS_S)
        self._must_be_open()
        try:
            if self._armed_s != exposure_s:
                self._start(SOFT, exposure_s, ENDLESS)
                self._armed_s = exposure_s
            before = self._clock.now()
            self._link.command("SOFTTRIGGER")
            after = self._clock.now()
            header, counts = self._link.frame(exposure_s + self._options.timeout_s)
            return exposure(
                self._name,
                counts,
                self.shape,
                started_s=triggered(before, after, self._clock.now(), exposure_s),
                exposure_s=exposure_s,
                number=self._numbers.of(header.number - 1),
            )
        except BaseException:
            self._disarm()
            raise

    def stream(
        self, exposure_s: float, n_frames: int | None = None, binning: int = 1
    ) -> Generator[Exposure, None, None]:
        """Take images one after the other; one that was lost is missing from the numbers."""
        check_request(self._name, exposure_s, binning, LIMITS_S, n_frames)
        self._must_be_open()
        return self._stream(exposure_s, n_frames)

    def _stream(self, exposure_s: float, n_frames: int | None) -> Generator[Exposure, None, None]:
        if n_frames == 0:
            return
        period_s = exposure_s + self._options.dead_time_s
        last = ENDLESS if n_frames is None else n_frames - 1
        try:
            commanded_s = self._clock.now()
            self._start(INTERNAL, exposure_s, n_frames or ENDLESS)
            times = FrameTimes(exposure_s, period_s, commanded_s)
            index = -1
            while index < last:
                header, counts = self._link.frame(period_s + self._options.timeout_s)
                index = header.number - 1
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
            self._link.close()

    def _prepare(self) -> None:
        """Stop whatever runs, and set what holds for every exposure; again after a loss."""
        self._link.connect()
        with suppress(CameraFailed):  # refused where nothing runs
            self._link.command("STOPACQUISITION")
        self._link.set("COUNTERDEPTH", self._options.counter_depth)
        self._link.set("CONTINUOUSRW", int(self._options.continuous))
        for name, value in self._options.settings.items():
            self._link.set(name, value)
        self._set_up = True

    def _start(self, trigger: int, exposure_s: float, n: int) -> None:
        if not (self._set_up and self._link.whole):
            self._prepare()
        elif self._armed_s is not None:
            self._link.command("STOPACQUISITION")
        self._armed_s = None
        period_s = exposure_s + self._options.dead_time_s
        self._link.set("TRIGGERSTART", trigger)
        self._link.set("ACQUISITIONTIME", f"{exposure_s * 1e3:.6f}")  # ms
        self._link.set("ACQUISITIONPERIOD", f"{period_s * 1e3:.6f}")
        self._link.set("NUMFRAMESTOACQUIRE", n)
        self._link.set("NUMFRAMESPERTRIGGER", 1 if trigger == SOFT else n)
        self._numbers.new_acquisition()
        self._link.command("STARTACQUISITION")
        self._link.acquisition_header()

    def _disarm(self) -> None:
        """Stop, whatever the state; a lost connection was told already, or will be."""
        self._armed_s = None
        with suppress(ConnectionLost, CameraFailed):
            if not self._link.whole:
                self._set_up = False  # a restarted software has forgotten the settings
            self._link.command("STOPACQUISITION")

    def _must_be_open(self) -> None:
        if self._released:
            raise ConnectionLost(self._name, "a released camera", "an open one", "open it again")


def open_camera(options: Options, clock: Clock) -> Camera:
    """Connect to the Merlin software and stop whatever it acquires.

    Raises
    ------
    ConnectionLost : it does not answer.
    CameraFailed : it refuses a setting.
    """
    return MerlinCamera(options, clock)
