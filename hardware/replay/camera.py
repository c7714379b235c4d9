"""The camera of a replay: recorded images, next in time."""

from __future__ import annotations

from collections.abc import Generator

from ..errors import ConnectionLost
from ..frames import check_request, exposure
from ..protocols import Exposure
from .recording import read_image
from .session import Session


class ReplayCamera:
    """Gives the recorded images of the kind that mode and diffraction focus make."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._shape: tuple[int, int] = read_image(session.recording.shots[0].path).shape
        self._number = 0
        self._released = False

    @property
    def name(self) -> str:
        """Tells that it is a replay."""
        return f"replay of {self._session.options.folder.name}"

    @property
    def shape(self) -> tuple[int, int]:
        """Of the first recorded image."""
        return self._shape

    @property
    def pixel_size_mm(self) -> float:
        """As the options state."""
        return self._session.options.pixel_size_mm

    @property
    def binnings(self) -> tuple[int, ...]:
        """Images come as recorded."""
        return (1,)

    @property
    def dynamic_range(self) -> int:
        """As the options state."""
        return self._session.options.dynamic_range

    @property
    def dead_time_s(self) -> float:
        """As the options state."""
        return self._session.options.dead_time_s

    def expose(self, exposure_s: float, binning: int = 1) -> Exposure:
        """The next image of that kind, with its recorded times.

        Raises
        ------
        CameraFailed : the record ends, or the file of the image is missing or damaged; the
            next call goes on with the image after it.
        """
        check_request(self.name, exposure_s, binning, (1e-6, 1e6))
        if self._released:
            raise ConnectionLost(self.name, "a released camera", "an open one", "open it again")
        shot = self._session.expose(exposure_s)
        number, self._number = self._number, self._number + 1  # an unreadable one leaves a gap
        return exposure(
            str(shot.path),
            read_image(shot.path),
            self._shape,
            started_s=shot.t_s,
            exposure_s=shot.exposure_s,
            number=number,
        )

    def stream(
        self, exposure_s: float, n_frames: int | None = None, binning: int = 1
    ) -> Generator[Exposure, None, None]:
        """One `expose` after the other."""
        check_request(self.name, exposure_s, binning, (1e-6, 1e6), n_frames)
        return self._stream(exposure_s, n_frames, binning)

    def _stream(
        self, exposure_s: float, n_frames: int | None, binning: int
    ) -> Generator[Exposure, None, None]:
        taken = 0
        while n_frames is None or taken < n_frames:
            yield self.expose(exposure_s, binning)
            taken += 1

    def release(self) -> None:
        """Nothing more is played."""
        self._released = True
