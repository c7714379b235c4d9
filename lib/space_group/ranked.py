"""From data sets to a ranked list of space groups."""

from __future__ import annotations

from collections.abc import Sequence

from ..merging.data_set import DataSet
from .verdict import SpaceGroupVerdict


def determine_space_group(
    data_sets: Sequence[DataSet] | DataSet,
    *,
    chiral: bool | None = None,
    max_obliquity_deg: float = 3.0,
    expected_leakage: float = 0.1,
    seed: int = 0,
) -> SpaceGroupVerdict:
    """Laue group, centring, absences and space groups of one phase.

    Parameters
    ----------
    data_sets : one or more crystals on one cell and one scale, with indexing ambiguities
        resolved; in any setting, P1 included.
    chiral : True leaves only groups of proper rotations, False only the others.
    max_obliquity_deg : how far two-fold axes may be from exact in the measured cell.
    expected_leakage : mean of the prior of the fraction of the mean intensity that multiple
        scattering puts into extinguished reflections.
    seed : of random pairing.
    """
    raise NotImplementedError
