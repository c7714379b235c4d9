"""Merlin detectors of Quantum Detectors; see docs/cameras.md."""

from .camera import open_camera
from .options import Options

__all__ = ["Options", "open_camera"]
