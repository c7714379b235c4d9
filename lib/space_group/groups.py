"""Space groups of a Laue group and lattice, and the reflections that each extinguishes.

All from gemmi's tables of settings and operations; reflection conditions are worked out: an
operation (R, t) extinguishes the reflections with h R = h and h.t not a whole number.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cache

import gemmi
import numpy as np
from numpy.typing import NDArray

from ..crystal.cell import Floats, Integers
from ..crystal.lattice_symmetry import holohedral_group, reindex_absences

Booleans = NDArray[np.bool_]

# Indices up to six show every condition there is: l = 6n of a 6_1 axis asks for most.
_BOX = 6


@dataclass(frozen=True)
class Element:
    """A screw axis or glide plane with all that the Laue group makes of it.

    Attributes
    ----------
    name, condition : as `verdict.Absences`.
    operations : (rotation (3, 3), translation (3,)) of each, acting on coordinates.
    """

    name: str
    condition: str
    operations: tuple[tuple[Integers, Floats], ...]

    def extinguishes(self, hkl: Integers) -> Booleans:
        """(n,) which reflections."""
        absent = np.zeros(len(hkl), bool)
        for rotation, translation in self.operations:
            phase = hkl @ translation
            fixed = np.all(hkl @ rotation == hkl, axis=1)
            absent |= fixed & (np.abs(phase - np.rint(phase)) > 1e-3)
        return absent


@dataclass(frozen=True)
class Extinction:
    """Space groups with the same absences.

    Attributes
    ----------
    groups : of gemmi's table, in the setting asked for.
    elements : indices of those that they ask for.
    """

    groups: tuple[gemmi.SpaceGroup, ...]
    elements: tuple[int, ...]

    def absent(self, hkl: Integers) -> Booleans:
        """(n,) which reflections the groups extinguish."""
        mask: Booleans = np.asarray(
            self.groups[0].operations().systematic_absences(np.asarray(hkl, np.int32)), bool
        )
        return mask


def possible_groups(
    operators: Integers, bravais: str
) -> tuple[tuple[Extinction, ...], tuple[Element, ...]]:
    """Every set of absences of a Laue group and lattice, and their elements.

    Parameters
    ----------
    operators : (m, 3, 3) rotations of the Laue group, acting on columns of indices.
    bravais : lattice of the setting.
    """
    return _possible(np.asarray(operators, np.int64).tobytes(), bravais)


@cache
def _possible(operators: bytes, bravais: str) -> tuple[tuple[Extinction, ...], tuple[Element, ...]]:
    rotations = np.frombuffer(operators, np.int64).reshape(-1, 3, 3)
    real = np.rint(np.linalg.inv(rotations)).astype(np.int64).transpose(0, 2, 1)
    laue = {m.tobytes() for m in (*real, *-real)}
    centring = {tuple(c) for c in holohedral_group(bravais).operations().cen_ops}
    box = np.indices((2 * _BOX + 1,) * 3).reshape(3, -1).T - _BOX
    box = box[~reindex_absences(bravais, box)]

    by_absences: dict[bytes, list[gemmi.SpaceGroup]] = {}
    seen = set()
    for group in gemmi.spacegroup_table():
        operations = group.operations()
        if {tuple(c) for c in operations.cen_ops} != centring:
            continue
        mine = {_rotation(op).tobytes() for op in operations.sym_ops}
        if mine | {(-np.frombuffer(m, np.int64)).tobytes() for m in mine} != laue:
            continue
        absent = operations.systematic_absences(box.astype(np.int32)).tobytes()
        # other origins, and names of the same group such as C m m b for C m m a
        key = (group.number, absent, frozenset(mine))
        if key not in seen:
            seen.add(key)
            # the origin at an inversion centre, where there is a choice
            group = gemmi.find_spacegroup_by_name(f"{group.hm}:2") if group.ext == "1" else group
            by_absences.setdefault(absent, []).append(group)

    elements: dict[bytes, Element] = {}
    uses: dict[bytes, set[bytes]] = {absent: set() for absent in by_absences}
    known: dict[tuple[bytes, bytes], bytes | None] = {}
    for absent, groups in by_absences.items():
        for op in (op for group in groups for op in group.operations().sym_ops):
            rotation, translation = _rotation(op), np.array(op.tran) / op.DEN
            pair = rotation.tobytes(), translation.tobytes()
            if pair not in known:
                element = _element(rotation, translation, real)
                mask = element.extinguishes(box)
                known[pair] = mask.tobytes() if mask.any() else None
                if mask.any():
                    kept = elements.setdefault(mask.tobytes(), element)
                    elements[mask.tobytes()] = min(kept, element, key=_rank)
            found_mask = known[pair]
            if found_mask is not None:
                uses[absent].add(found_mask)
    order = sorted(elements, key=lambda m: (np.frombuffer(m, bool).sum(), elements[m].name))
    number = {mask: i for i, mask in enumerate(order)}
    found = [
        Extinction(tuple(groups), tuple(sorted(number[m] for m in uses[absent])))
        for absent, groups in by_absences.items()
    ]
    found.sort(key=lambda e: (len(e.elements), e.groups[0].number))
    return tuple(found), tuple(elements[mask] for mask in order)


def _rotation(op: gemmi.Op) -> Integers:
    rotation: Integers = np.array(op.rot, dtype=np.int64) // op.DEN
    return rotation


def _element(rotation: Integers, translation: Floats, real: Integers) -> Element:
    """An operation with its conjugates; their intrinsic translations are all that counts."""
    order = 1
    power, shift = rotation.copy(), translation.copy()
    while np.any(power != np.eye(3)):
        shift = rotation @ shift + translation
        power = rotation @ power
        order += 1
    along = shift / order
    conjugates = {}
    for m in real:
        turned = m @ rotation @ np.rint(np.linalg.inv(m)).astype(np.int64)
        moved = np.round(m @ along * 24) / 24
        conjugates[turned.tobytes(), moved.tobytes()] = (turned, moved)
    operations = tuple(conjugates.values())
    # the conjugate with the fewest minus signs reads best
    words = (_words(*pair) for pair in operations)
    name, condition = min(words, key=lambda w: (str(w).count("-"), str(w).count("["), w))
    return Element(name, condition, operations)


def _rank(element: Element) -> tuple[int, int, str]:
    return (0 if " glide " in element.name else 1, len(element.name), element.name)


# --- words -----------------------------------------------------------------------------------


def _words(rotation: Integers, along: Floats) -> tuple[str, str]:
    determinant = round(float(np.linalg.det(rotation)))
    proper = determinant * rotation
    order = {3: 1, -1: 2, 0: 3, 1: 4, 2: 6}[int(np.trace(proper))]
    direction = _direction(proper, order)
    if determinant > 0:
        # the screw part in steps of the shortest lattice vector along the axis
        step = float(along @ direction / (direction @ direction))
        name = f"{order}_{round(step * order) % order} along {_axis(direction)}"
    else:
        name = f"{_glide(along, direction)} glide normal to {_axis(direction)}"
    return name, _condition(rotation, along)


def _direction(proper: Integers, order: int) -> Integers:
    mean = np.sum([np.linalg.matrix_power(proper, k) for k in range(order)], axis=0)
    axis = mean[:, int(np.argmax(np.abs(mean).sum(axis=0)))]
    axis = axis // max(int(np.gcd.reduce(axis)), 1)
    result: Integers = axis if axis[np.flatnonzero(axis)[0]] > 0 else -axis
    return result


def _axis(direction: Integers) -> str:
    names = {(1, 0, 0): "a", (0, 1, 0): "b", (0, 0, 1): "c"}
    return names.get(tuple(direction.tolist()), f"[{' '.join(map(str, direction.tolist()))}]")


def _glide(along: Floats, direction: Integers) -> str:
    part = np.abs(along - np.rint(along))
    if np.any(np.abs(part - 0.25) < 1e-3):
        # half of a centring vector, unless the plane is diagonal: there it may be a whole glide
        return "d" if np.count_nonzero(direction) == 1 or np.all(part > 1e-3) else "n"
    halves = np.flatnonzero(np.abs(part - 0.5) < 1e-3)
    return "abc"[halves[0]] if len(halves) == 1 else "n"


def _condition(rotation: Integers, along: Floats) -> str:
    """The reflection condition, as in International Tables: "0 k l: k + l = 2n"."""
    free = _fixed_indices(rotation)
    letters = []
    for row in free:
        letters.append("hkl"[int(np.flatnonzero(row)[0])])
    zone = []
    for index in range(3):
        terms = [_term(int(row[index]), x) for row, x in zip(free, letters, strict=True)]
        zone.append(_sum(terms) or "0")
    phases = [Fraction(float(row @ along)).limit_denominator(24) % 1 for row in free]
    denominator = int(np.lcm.reduce([p.denominator for p in phases])) if phases else 1
    steps = [int(p * denominator) for p in phases]
    steps = [s - denominator if 2 * s > denominator else s for s in steps]
    if next((s for s in steps if s), 0) < 0:
        steps = [-s for s in steps]
    rule = _sum([_term(s, x) for s, x in zip(steps, letters, strict=True)])
    rule = rule.replace("-", " - ").replace("+", " + ").strip()
    return f"{' '.join(zone)}: {rule} = {denominator}n"


def _fixed_indices(rotation: Integers) -> Integers:
    """Basis (rows) of the indices with h R = h, in echelon form."""
    grid = np.indices((5, 5, 5)).reshape(3, -1).T - 2
    fixed = grid[np.all(grid @ rotation == grid, axis=1)]
    rows: list[Integers] = []
    for column in range(3):
        here = fixed[(fixed[:, column] > 0) & np.all(fixed[:, :column] == 0, axis=1)]
        if len(here):
            order = np.lexsort((np.abs(here).sum(axis=1), here[:, column]))
            rows.append(here[order[0]])
    # what follows a pivot is reduced by the rows below, so that letters are not mixed
    for i, row in enumerate(rows):
        for other in rows[i + 1 :]:
            pivot = int(np.flatnonzero(other)[0])
            row = row - (row[pivot] // other[pivot]) * other
        rows[i] = row
    return np.array(rows, np.int64).reshape(-1, 3)


def _term(factor: int, letter: str) -> str:
    if factor == 0:
        return ""
    sign = "-" if factor < 0 else "+"
    return f"{sign}{abs(factor) if abs(factor) > 1 else ''}{letter}"


def _sum(terms: list[str]) -> str:
    return "".join(terms).removeprefix("+")
