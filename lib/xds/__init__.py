"""Files of XDS, XSCALE, XDSCONV and POINTLESS, read into types.

One module per kind of file; `read_any` tells them by their content. Readers raise `UserError`
and nothing else; logs that were cut are read as far as they go and say where they stop
(`log.Log`), reflection files that were cut are refused.
"""

from .correct import Correct, read_correct
from .hkl import HklHeader, HklSet, XdsHkl, read_hkl
from .idxref import Idxref, IndexOrigin, SpotIndexing, read_idxref
from .integrate import ImageTable, Integrate, ProfileCorrelation, read_integrate
from .log import Banner, Log, Message
from .pointless import Pointless, read_pointless
from .read_any import KINDS, SessionLog, XdsFile, read_any, recognise
from .refined import RefinedParameters
from .shells import Shell, ShellTable
from .spot_xds import SpotList, read_spot_xds
from .xdsconv import Xdsconv, read_xdsconv
from .xparm import XdsGeometry, Xparm, read_xparm
from .xscale import PairCorrelation, ScaledInput, ScaledOutput, Xscale, read_xscale
from .xscale_inp import XscaleInp, read_xscale_inp

__all__ = [
    "KINDS",
    "Banner",
    "Correct",
    "HklHeader",
    "HklSet",
    "Idxref",
    "ImageTable",
    "IndexOrigin",
    "Integrate",
    "Log",
    "Message",
    "PairCorrelation",
    "Pointless",
    "ProfileCorrelation",
    "RefinedParameters",
    "ScaledInput",
    "ScaledOutput",
    "SessionLog",
    "Shell",
    "ShellTable",
    "SpotIndexing",
    "SpotList",
    "XdsFile",
    "XdsGeometry",
    "XdsHkl",
    "Xdsconv",
    "Xparm",
    "Xscale",
    "XscaleInp",
    "read_any",
    "read_correct",
    "read_hkl",
    "read_idxref",
    "read_integrate",
    "read_pointless",
    "read_spot_xds",
    "read_xdsconv",
    "read_xparm",
    "read_xscale",
    "read_xscale_inp",
    "recognise",
]
