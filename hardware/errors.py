"""What an instrument can fail with; each is one line that a person can act on."""

from __future__ import annotations

from ..lib.errors import UserError


class InstrumentError(UserError):
    """Something on the instrument failed; the guard then makes it safe."""


class ConnectionLost(InstrumentError):
    """A server no longer answers, or answers nonsense."""


class StageHung(InstrumentError):
    """The stage did not arrive within the time that its speed allows, or does not move."""


class CameraFailed(InstrumentError):
    """No image within the time limit, or one of the wrong shape or content."""


class BeamLost(InstrumentError):
    """The beam should be there and is not."""


class LimitExceeded(InstrumentError):
    """A move or setting outside the limits was asked for; nothing was moved."""


class Unsupported(InstrumentError):
    """The instrument lacks a part that the method needs."""
