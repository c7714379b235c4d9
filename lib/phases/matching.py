"""Whether a series' lattice is that of a phase, and how its indices become the phase's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..crystal.cell import Floats
from ..crystal.lattice_symmetry import candidate_operators
from .cell_record import CellRecord
from .distance import SCALE_WEIGHT
from .phases import Phase, setting_transforms

# Cells of one lattice differ by less than this; in short series an axis may be off by several %.
TOLERANCE = 0.06

# Another way to index counts as possible if it strains the cell by no more than this beyond the
# best: the lattice is then nearly as symmetric as the two together (pseudo-merohedry).
AMBIGUITY = 0.03


@dataclass(frozen=True)
class Match:
    """One way in which a lattice is the phase's.

    Attributes
    ----------
    phase : its name.
    bravais : lattice type of the phase's setting.
    transform : (3, 3) real basis of the phase's setting = real basis of the series' @ transform:
        ``data_set.reindexed(match.transform, match.bravais)``.
    strain : distance as of `lattice_distances`.
    scale : mean length in the series over that in the phase, 1.01 for a camera length that is
        short by 1 %.
    """

    phase: str
    bravais: str
    transform: Floats
    strain: float
    scale: float


def matches_phase(
    record: CellRecord,
    phase: Phase,
    *,
    tolerance: float = TOLERANCE,
    ambiguity: float = AMBIGUITY,
    scale_weight: float = SCALE_WEIGHT,
) -> tuple[Match, ...]:
    """The ways to index a series in the phase's setting, best first; () if it is another lattice.

    Ways that differ by a rotation of the phase's lattice count once. More than one is
    a pseudo-symmetry of the cell that only intensities resolve.

    Parameters
    ----------
    record : the series' cell with its setting; `record_from_lattice`, or built from a `DataSet`.
    tolerance : largest distance, relative strain.
    ambiguity : how much farther than the best another way may be.
    scale_weight : see `lattice_distances`.
    """
    ways = setting_transforms(record, phase.record, within=ambiguity, scale_weight=scale_weight)
    if ways[0][1] > tolerance:
        return ()
    rotations = candidate_operators(phase.bravais).transpose(0, 2, 1)
    scale = float((record.volume_A3 / phase.record.volume_A3) ** (1 / 3))
    seen: set[bytes] = set()
    found = []
    for transform, distance in ways:
        if distance > tolerance or _key(transform) in seen:
            continue
        seen.update(_key(transform @ rotation) for rotation in rotations)
        found.append(Match(phase.name, phase.bravais, transform, distance, scale))
    return tuple(found)


def pseudo_symmetries(phase: Phase, *, ambiguity: float = AMBIGUITY) -> tuple[Floats, ...]:
    """Changes of setting, (3, 3) each, that the phase's cell hardly tells from none.

    The identity first, then one of every coset of the lattice's rotations: what a search for the
    indexing ambiguity has to try, as ``data_set.reindexed(transform)``, on data in the phase's
    setting. ZSM-5 has two (a and b differ by 1.8 %). A series whose engine took the higher
    symmetry for real (tP for oP) comes to the phase's setting either way, by chance.

    Parameters
    ----------
    ambiguity : largest strain.
    """
    return tuple(m.transform for m in matches_phase(phase.record, phase, ambiguity=ambiguity))


def best_phases(
    record: CellRecord, phases: Sequence[Phase], *, tolerance: float = TOLERANCE
) -> tuple[Match, ...]:
    """The best match with every phase within the tolerance, nearest first.

    More than one: the intensities must tell to which the series belongs.
    """
    found = [matches_phase(record, phase, tolerance=tolerance)[:1] for phase in phases]
    return tuple(sorted((m for one in found for m in one), key=lambda m: m.strain))


def _key(transform: Floats) -> bytes:
    twelfths: bytes = np.rint(np.asarray(transform, float) * 12).astype(np.int64).tobytes()
    return twelfths
