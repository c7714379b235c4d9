"""A camera behind instamatic's camera server as `protocols.Camera`."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import CameraFailed, ConnectionLost, InstrumentError, LimitExceeded, Unsupported
from ..frames import exposure
from ..protocols import Camera, Clock, Exposure
from .connection import Connection, NoAnswer, numbers, text
from .dialects import Nonsense, Pickle, PickledArray
from .options import CameraOptions

# an image can come a little early by the clocks of two computers, not by half an exposure
EARLIEST = 0.5
BYTES_PER_PIXEL = 8


class InstamaticCamera:
    """One exposure at a time, by request. Made by `open_camera`."""

    def __init__(self, options: CameraOptions, clock: Clock) -> None:
        if not options.trust_pickle_from_camera_server:
            raise Unsupported(
                "instamatic's camera server",
                "trust_pickle_from_camera_server: false",
                "true, for it speaks nothing but pickle",
                "read docs/instamatic.md on the risk; Serval and Merlin have adapters of their own",
            )
        self._options, self._clock = options, clock
        rows, columns = options.shape
        self._connection = Connection(
            options,
            Pickle(rows * columns * BYTES_PER_PIXEL + (1 << 16)),
            "instamatic's camera",
            "see that it is instamatic's camera server",
        )
        self._number = 0
        try:
            self._name = f"{self._connection.call('get_name', read=text)} (instamatic)"
            found = self._connection.call("get_camera_dimensions", read=numbers(2))
        except BaseException:
            self._connection.close()
            raise
        if sorted(found) != sorted(options.shape):
            self._connection.close()
            raise CameraFailed(
                self._name,
                f"a camera of {found[0]:g} x {found[1]:g} pixels",
                f"{rows} x {columns}",
                "mend shape in the instrument's YAML",
            )

    @property
    def name(self) -> str:
        """As instamatic is configured."""
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
        """As the options state."""
        return self._options.binnings

    @property
    def dynamic_range(self) -> int:
        """As the options state."""
        return self._options.dynamic_range

    @property
    def dead_time_s(self) -> float:
        """As the options state."""
        return self._options.dead_time_s

    def expose(self, exposure_s: float, binning: int = 1) -> Exposure:
        """Take one image; `started_s` is known to half of what the exchange took besides.

        Raises
        ------
        CameraFailed : no image in time, or none of this camera. It is not asked for again, for
            the sake of the dose; the next call starts on a new line.
        ConnectionLost : no server.
        """
        self._check(exposure_s, binning, 1)
        rows, columns = (length // binning for length in self.shape)
        before = self._clock.now()
        try:
            found = self._connection.call(
                "get_image",
                exposure=exposure_s,
                binsize=binning,
                read=_image,
                timeout_s=exposure_s + self._options.timeout_s,
                once=True,
            )
        except NoAnswer as error:
            raise CameraFailed(
                self._name, f"no image: {error}", "one", "look at the camera server's messages"
            ) from None
        except (ConnectionLost, CameraFailed):
            raise
        except InstrumentError as error:
            raise CameraFailed(
                self._name, error.found, "an image", "look at the camera server's messages"
            ) from None
        took_s = self._clock.now() - before
        if took_s < EARLIEST * exposure_s:
            raise CameraFailed(
                self._name,
                f"an image after {took_s:.3g} s",
                f"one that was exposed for {exposure_s:g} s",
                "see that nothing else is connected to the camera server",
            )
        made = exposure(
            self._name,
            _unsigned(self._name, found),
            (rows, columns),
            started_s=before + max(took_s - exposure_s, 0.0) / 2,
            exposure_s=exposure_s,
            number=self._number,
        )
        self._number += 1
        return made if binning == 1 else _binned(made, binning)

    def stream(
        self, exposure_s: float, n_frames: int | None = None, binning: int = 1
    ) -> Generator[Exposure, None, None]:
        """Exposures one after the other, each when it is asked for."""
        self._check(exposure_s, binning, n_frames)
        return self._stream(exposure_s, n_frames, binning)

    def _stream(
        self, exposure_s: float, n_frames: int | None, binning: int
    ) -> Generator[Exposure, None, None]:
        taken = 0
        while n_frames is None or taken < n_frames:
            yield self.expose(exposure_s, binning)
            taken += 1

    def release(self) -> None:
        """Hang up; the server keeps the camera. A second time does nothing."""
        self._connection.close()

    def _check(self, exposure_s: float, binning: int, n_frames: int | None) -> None:
        o = self._options
        if not o.shortest_exposure_s <= exposure_s <= o.longest_exposure_s:
            raise LimitExceeded(
                self._name,
                f"an exposure of {exposure_s:g} s",
                f"{o.shortest_exposure_s:g} to {o.longest_exposure_s:g} s",
                "choose one within",
            )
        if binning not in o.binnings:
            known = ", ".join(str(one) for one in o.binnings)
            raise Unsupported(self._name, f"binning {binning}", known, "choose one of these")
        if n_frames is not None and n_frames < 0:
            raise LimitExceeded(self._name, f"{n_frames} frames", "0 or more", "ask for more")


def _image(data: Any) -> NDArray[Any]:
    if isinstance(data, dict) and "name" in data:
        raise CameraFailed(
            "instamatic's camera",
            "an image in shared memory",
            "one that is sent",
            "set cam_use_shared_memory: false in instamatic's settings.yaml",
        )
    if not isinstance(data, PickledArray):
        raise Nonsense(f"{str(data)[:40]!r} for an image")
    return data.array()


def _unsigned(name: str, image: NDArray[Any]) -> NDArray[Any]:
    """Counts as they are, in the smallest unsigned type that holds them.

    Raises `CameraFailed` for what are no counts: below zero, or not whole.
    """
    if image.size and image.dtype.kind in "if":
        low = image.min()
        if not low >= 0:
            raise CameraFailed(
                name, f"counts down to {low:g}", "none below zero", "have a pedestal added"
            )
        if image.dtype.kind == "f" and (image != np.rint(image)).any():
            raise CameraFailed(
                name, "counts that are not whole", "whole ones", "leave corrections to Ewaldflow"
            )
        most = float(image.max())
        kind = np.uint16 if most < 2**16 else np.uint32 if most < 2**32 else np.uint64
        return image.astype(kind)
    return image


def _binned(one: Exposure, binning: int) -> Exposure:
    return Exposure(one.counts, one.started_s, one.exposure_s, one.number, binning)


def open_camera(options: CameraOptions, clock: Clock) -> Camera:
    """Connect to a running camera server.

    Raises
    ------
    Unsupported : pickle is not trusted.
    ConnectionLost : nothing answers, or nothing that makes sense.
    CameraFailed : a camera of another size.
    """
    return InstamaticCamera(options, clock)
