"""A kinematic simulator of rotation series, its standard test sets, and their judge."""

from .conditions import (
    NO_BACKGROUND,
    Background,
    Beam,
    BeamStop,
    Crystal,
    Detector,
    HeaderErrors,
    default_geometry,
    random_rotation,
)
from .judge import judge
from .sets import STANDARD_RANGES_DEG, STRESSES, demo_series, standard_set, stress_set
from .simulate import simulate_series
from .structures import structure_factors, structure_factors_at, structure_from_cif, zeolite
from .truth import TrueLattice, TrueReflections, Truth

__all__ = [
    "NO_BACKGROUND",
    "STANDARD_RANGES_DEG",
    "STRESSES",
    "Background",
    "Beam",
    "BeamStop",
    "Crystal",
    "Detector",
    "HeaderErrors",
    "TrueLattice",
    "TrueReflections",
    "Truth",
    "default_geometry",
    "demo_series",
    "judge",
    "random_rotation",
    "simulate_series",
    "standard_set",
    "stress_set",
    "structure_factors",
    "structure_factors_at",
    "structure_from_cif",
    "zeolite",
]
