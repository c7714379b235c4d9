"""Rotation series from and to the files of other programs."""

from ..instrument import Instrument, SeriesOverrides, available_instruments, load_instrument
from .dials_script import write_dials_script
from .export import write_series
from .image import DiffractionImage, read_image
from .mrc import write_mrc
from .read import read_series
from .smv import write_smv
from .tiff import write_tiff
from .write import WriteReport
from .xds_inp import write_xds_inp

__all__ = [
    "DiffractionImage",
    "Instrument",
    "SeriesOverrides",
    "WriteReport",
    "available_instruments",
    "load_instrument",
    "read_image",
    "read_series",
    "write_dials_script",
    "write_mrc",
    "write_series",
    "write_smv",
    "write_tiff",
    "write_xds_inp",
]
