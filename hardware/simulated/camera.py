"""The twin's cameras (`protocols.Camera`): one image at a time, or a stream that runs by itself."""

from __future__ import annotations

from collections.abc import Callable, Generator

import numpy as np
from numpy.typing import NDArray

from ..errors import CameraFailed, ConnectionLost
from ..protocols import Exposure
from .column import Column
from .detector import Cmos, Readout, Timepix
from .faults import FaultKind
from .view import View

Scene = Callable[[View], NDArray[np.float64]]
LOST: tuple[FaultKind, ...] = ("connection_lost", "camera_lost")
# a stream keeps so many images for somebody who comes late; older ones are lost
BUFFERED = 16


class SimulatedCamera:
    """A camera that looks at a column.

    Parameters
    ----------
    column : what it is mounted on.
    scene : electrons expected in every pixel of a view, (rows, columns).
    options, seed : its kind, and of its noise and defects.
    call_s : what asking for an image costs beside the exposure.
    timeout_s : after which it gives up, on a time-out.
    """

    def __init__(
        self,
        column: Column,
        scene: Scene,
        options: Timepix | Cmos,
        seed: int,
        call_s: float,
        timeout_s: float,
    ) -> None:
        self._column, self._scene, self._options = column, scene, options
        self._readout = Readout(options, seed)
        self._seed, self._call_s, self._timeout_s = seed, call_s, timeout_s
        self._free_s, self._number, self._streaming = -np.inf, 0, False
        self.released = False
        # off in the server: there it is for the client to notice
        self.checks_shape = True

    @property
    def name(self) -> str:
        """The kind."""
        return f"simulated {self._options.kind}"

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns) without binning."""
        return self._options.shape

    @property
    def pixel_size_mm(self) -> float:
        """Without binning."""
        return self._options.pixel_size_mm

    @property
    def binnings(self) -> tuple[int, ...]:
        """Bins add up counts."""
        return self._options.binnings

    @property
    def dynamic_range(self) -> int:
        """Highest count."""
        return self._options.saturation

    @property
    def dead_time_s(self) -> float:
        """Between two exposures."""
        return self._options.dead_time_s

    def expose(self, exposure_s: float, binning: int = 1) -> Exposure:
        """Take one image."""
        self._check(exposure_s, binning)
        self._connected()
        clock = self._column.clock
        begin = max(clock.now() + self._call_s, self._free_s)
        return self._take(begin, exposure_s, binning)

    def stream(
        self, exposure_s: float, n_frames: int | None = None, binning: int = 1
    ) -> Generator[Exposure, None, None]:
        """Images one after the other, whether somebody asks for the next one or not.

        They begin when the first is asked for. Who comes late gets the images that were taken
        meanwhile; of more than 16 the oldest are lost, and missing in `number`.
        """
        self._check(exposure_s, binning)
        return self._stream(exposure_s, n_frames, binning)

    def release(self) -> None:
        """Give it back: every later call raises `ConnectionLost`."""
        self.released = True

    def _stream(
        self, exposure_s: float, n_frames: int | None, binning: int
    ) -> Generator[Exposure, None, None]:
        self._connected()
        clock = self._column.clock
        period = exposure_s + self.dead_time_s
        begin = max(clock.now() + self._call_s, self._free_s)
        self._streaming, given = True, 0
        try:
            while n_frames is None or given < n_frames:
                late = int((clock.now() - begin) / period) - BUFFERED
                if late > 0:
                    begin, self._number = begin + late * period, self._number + late
                self._connected(streaming=True)
                yield self._take(begin, exposure_s, binning)
                begin, given = begin + period, given + 1
        finally:
            self._streaming = False
            self._free_s = max(self._free_s, clock.now() + self.dead_time_s)

    def _take(self, begin_s: float, exposure_s: float, binning: int) -> Exposure:
        column = self._column
        clock, faults = column.clock, column.faults
        number, self._number = self._number, self._number + 1
        faults.exposed(number, begin_s)
        clock.sleep(begin_s - clock.now())
        end = begin_s + exposure_s
        if faults.windows and faults.active(("camera_timeout",), begin_s):
            clock.sleep(exposure_s + self._timeout_s)
            raise CameraFailed(
                self.name, f"no image within {self._timeout_s:g} s", "one", "look at the camera"
            )
        clock.sleep(end - clock.now())
        self._free_s = end + self.dead_time_s
        seen = [self._scene(view) for view in column.views(begin_s, end)]
        expected = sum(seen[1:], seen[0]) if seen else np.zeros(self.shape)
        counts = self._readout.counts(expected, exposure_s, number, binning)
        if faults.windows:
            counts = self._corrupted(counts, begin_s, number)
        return Exposure(counts, begin_s, exposure_s, number, binning)

    def _corrupted(
        self, counts: NDArray[np.unsignedinteger], begin_s: float, number: int
    ) -> NDArray[np.unsignedinteger]:
        faults = self._column.faults
        if faults.active(("corrupt_shape",), begin_s):
            rows, columns = counts.shape
            if not self.checks_shape:
                return counts[:-1]
            raise CameraFailed(
                self.name, f"an image of {rows - 1} x {columns}", f"{rows} x {columns}",
                "look at the camera's settings",
            )  # fmt: skip
        if faults.active(("corrupt_zeros",), begin_s):
            return np.zeros_like(counts)
        if faults.active(("corrupt_noise",), begin_s):
            rng = np.random.default_rng([self._seed, 0xBAD, number])
            return rng.integers(0, 256, counts.shape, counts.dtype)
        return counts

    def _check(self, exposure_s: float, binning: int) -> None:
        if not (np.isfinite(exposure_s) and exposure_s > 0):
            raise CameraFailed(
                self.name, f"an exposure of {exposure_s} s", "more than 0", "ask for another"
            )
        if binning not in self.binnings:
            raise CameraFailed(
                self.name,
                f"binning {binning}",
                f"one of {', '.join(map(str, self.binnings))}",
                "ask for another",
            )

    def _connected(self, *, streaming: bool = False) -> None:
        faults, now = self._column.faults, self._column.clock.now()
        faults.called(now)
        if self.released:
            raise ConnectionLost(self.name, "a released one", "an open one", "connect again")
        if faults.windows and faults.active(LOST, now):
            raise ConnectionLost(
                self.name,
                "no answer",
                "one",
                "the fault is on purpose; wait for it to end, or clear it",
            )
        if self._streaming and not streaming:
            raise CameraFailed(self.name, "a stream under way", "none", "close it first")
