"""Simulated convergent-beam patterns of a scan, atom by atom: graphene, its defects, ZnS.

`phase_object` is exact for a periodic specimen one slice thick and takes a fraction of a second;
`supercell` shifts the probe over any phase object; `multislice` runs abTEM, which also checks
the first two.
"""

from .crystal import PlaneCrystal, graphene
from .phase_object import simulate_crystal, simulate_graphene, with_dose
from .probe import Camera, Probe

__all__ = [
    "Camera",
    "PlaneCrystal",
    "Probe",
    "graphene",
    "simulate_crystal",
    "simulate_graphene",
    "with_dose",
]
