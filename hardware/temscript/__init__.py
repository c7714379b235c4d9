"""Thermo Fisher (FEI) microscopes through temscript; docs/temscript.md says what they lack."""

from .microscope import open_microscope
from .options import Options

__all__ = ["Options", "open_microscope"]
