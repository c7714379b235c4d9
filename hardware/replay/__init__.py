"""A recorded session as an instrument, to try an algorithm on yesterday's night."""

from .clock import ReplayClock
from .microscope import ReplayMicroscope
from .recording import ReplayOptions
from .session import Difference, open_replay

__all__ = ["Difference", "ReplayClock", "ReplayMicroscope", "ReplayOptions", "open_replay"]
