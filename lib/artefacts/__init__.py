"""Versioned artefacts: what every stage writes, with all that is needed to trust it.

Importing this is cheap; `arrays` and `records`, which put arrays into an artefact, import zarr.
"""

from .artefact import Artefact
from .code_version import CodeVersion
from .draft import Draft
from .manifest import Input, Manifest, Recipe
from .store import ArtefactStore
from .upkeep import Problem, Removal

__all__ = [
    "Artefact",
    "ArtefactStore",
    "CodeVersion",
    "Draft",
    "Input",
    "Manifest",
    "Problem",
    "Recipe",
    "Removal",
]
