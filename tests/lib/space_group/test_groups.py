"""Space groups of a lattice, and their reflection conditions."""

import gemmi
import numpy as np
import pytest

from ewaldflow.lib.crystal.lattice_symmetry import (
    BRAVAIS,
    bravais_of_space_group,
    candidate_operators,
    reindex_absences,
)
from ewaldflow.lib.space_group.groups import possible_groups


def operators_of(group):
    rotations = np.array([op.rot for op in group.operations().sym_ops]) // gemmi.Op.DEN
    proper = {(int(np.linalg.det(m).round()) * m).tobytes(): None for m in rotations}
    proper = [np.frombuffer(m, rotations.dtype).reshape(3, 3) for m in proper]
    identity_first = sorted(proper, key=lambda m: -np.trace(m))
    return np.rint(np.linalg.inv(identity_first)).astype(np.int64).transpose(0, 2, 1)


@pytest.mark.parametrize("bravais", BRAVAIS)
def test_elements_explain_what_gemmi_calls_absent(bravais):
    hkl = np.indices((25, 25, 25)).reshape(3, -1).T - 12
    hkl = hkl[~reindex_absences(bravais, hkl)]
    extinctions, elements = possible_groups(candidate_operators(bravais), bravais)
    seen = set()
    for extinction in extinctions:
        together = np.zeros(len(hkl), bool)
        for i in extinction.elements:
            together |= elements[i].extinguishes(hkl)
        for group in extinction.groups:
            theirs = group.operations().systematic_absences(hkl.astype(np.int32))
            np.testing.assert_array_equal(together, theirs, group.xhm())
        assert together.tobytes() not in seen  # sets differ
        seen.add(together.tobytes())


def test_every_space_group_is_offered_in_its_standard_setting():
    for number in range(1, 231):
        if 38 <= number <= 41:  # A-centred; offered as C- or B-centred
            continue
        group = gemmi.find_spacegroup_by_number(number)
        extinctions, _ = possible_groups(operators_of(group), bravais_of_space_group(number))
        names = [g.xhm() for e in extinctions for g in e.groups]
        assert group.xhm().replace(":1", ":2") in names
        assert len(names) == len(set(names))


def test_conditions_of_pnma_as_in_international_tables():
    extinctions, elements = possible_groups(candidate_operators("oP"), "oP")
    mine = next(e for e in extinctions if any(g.xhm() == "P n m a" for g in e.groups))
    assert [g.xhm() for g in mine.groups] == ["P n 21 a", "P n m a"]
    assert {(elements[i].name, elements[i].condition) for i in mine.elements} == {
        ("n glide normal to a", "0 k l: k + l = 2n"),
        ("a glide normal to c", "h k 0: h = 2n"),
        ("2_1 along a", "h 0 0: h = 2n"),
        ("2_1 along b", "0 k 0: k = 2n"),
        ("2_1 along c", "0 0 l: l = 2n"),
    }


@pytest.mark.parametrize(
    ("bravais", "name", "condition"),
    [
        ("hP", "6_1 along c", "0 0 l: l = 6n"),
        ("hP", "c glide normal to [1 -1 0]", "h h l: l = 2n"),
        ("tI", "d glide normal to [1 -1 0]", "h h l: 2h + l = 4n"),
        ("oF", "d glide normal to a", "0 k l: k + l = 4n"),
        ("cI", "4_1 along a", "h 0 0: h = 4n"),
        ("mC", "c glide normal to b", "h 0 l: l = 2n"),
    ],
)
def test_elements_in_words(bravais, name, condition):
    elements = possible_groups(candidate_operators(bravais), bravais)[1]
    assert (name, condition) in [(e.name, e.condition) for e in elements]


def test_groups_that_share_their_absences_stand_together():
    extinctions, _ = possible_groups(candidate_operators("mP"), "mP")
    assert [[g.xhm() for g in e.groups] for e in extinctions][:2] == [
        ["P 1 2 1", "P 1 m 1", "P 1 2/m 1"],
        ["P 1 21 1", "P 1 21/m 1"],
    ]
    assert len(extinctions) == 8
    cubic = possible_groups(candidate_operators("cI"), "cI")[0]
    assert [g.xhm() for g in cubic[-1].groups] == ["I a -3 d"]
