"""Microscopes and cameras behind instamatic's servers (docs/instamatic.md)."""

from .camera import open_camera
from .microscope import open_microscope
from .options import CameraOptions, Options

__all__ = ["CameraOptions", "Options", "open_camera", "open_microscope"]
