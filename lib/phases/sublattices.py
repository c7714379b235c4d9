"""Cells that are a multiple or a part of a phase's cell: the usual way to index wrongly."""

from __future__ import annotations

from functools import cache

import numpy as np

from ..crystal.cell import Floats, Integers
from ..crystal.niggli import niggli_reduce
from .cell_record import CellRecord
from .distance import lattice_distances

MAX_INDEX = 4
# Derived lattices this near are taken as the same, as relative strain.
TOLERANCE = 0.05


@cache
def sublattice_matrices(index: int) -> Integers:
    """(m, 3, 3) Hermite normal forms of the sublattices of an index: basis @ matrix."""
    found = []
    for a in range(1, index + 1):
        for b in range(1, index // a + 1):
            if index % (a * b):
                continue
            c = index // (a * b)
            found += [
                [[a, i, j], [0, b, k], [0, 0, c]]
                for i in range(a)
                for j in range(a)
                for k in range(b)
            ]
    return np.array(found, dtype=np.int64)


def nearest_derived(basis: Floats, other: Floats, scale_weight: float) -> tuple[int, float]:
    """Index and distance of the sublattice of `basis` that `other` is nearest to."""
    ratio = abs(np.linalg.det(other) / np.linalg.det(basis))
    best = (0, np.inf)
    for index in range(2, MAX_INDEX + 1):
        if abs(np.log(ratio / index)) > 3 * TOLERANCE:
            continue
        reduced = [niggli_reduce(basis @ m)[0] for m in sublattice_matrices(index)]
        distance = min(
            float(lattice_distances([one, other], scale_weight)[0, 1]) for one in reduced
        )
        if distance < best[1]:
            best = (index, distance)
    return best


def relation_in_words(phase: CellRecord, record: CellRecord, scale_weight: float) -> str:
    """How a cell is a multiple or a part of the phase's; empty if it is neither."""
    ours, theirs = phase.niggli_basis, record.niggli_basis
    for start, end, words in (
        (ours, theirs, "{} times the cell of {}"),
        (theirs, ours, "{} of the cell of {}"),
    ):
        index, distance = nearest_derived(start, end, scale_weight)
        if distance < TOLERANCE:
            part = {2: "half", 3: "a third", 4: "a quarter"}[index]
            text = words.format(index if start is ours else part, phase.name)
            return f"its cell is {text}, within {100 * distance:.1f} % of strain"
    return ""
