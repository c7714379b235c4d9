"""The same atoms up to origin and hand, and origins found in phases."""

from __future__ import annotations

import gemmi
import numpy as np
import pytest

from ewaldflow.lib.crystal.cell import orthogonalisation
from ewaldflow.lib.simulation.structures import MFI, MOR, structure_factors_at, zeolite
from ewaldflow.lib.structure.charge_flipping import group_operations
from ewaldflow.lib.structure.compare import match_positions, origin_shifts, polar_directions
from ewaldflow.lib.structure.origin import likely_origins


def operations(name: str) -> tuple[np.ndarray, np.ndarray]:
    return group_operations(gemmi.find_spacegroup_by_name(name))


def images(sites: np.ndarray, name: str, rng: np.random.Generator) -> np.ndarray:
    """Each site replaced by one of its images, cells apart."""
    turn, move = operations(name)
    k = rng.integers(0, len(turn), len(sites))
    moved: np.ndarray = np.einsum("nij,nj->ni", turn[k], sites)
    moved = moved + move[k] + rng.integers(-2, 3, (len(sites), 3))
    return moved


SITES = np.random.default_rng(3).random((12, 3))
CELL = {
    "P n m a": (20.0, 19.0, 13.0, 90.0, 90.0, 90.0),
    "P 1 21 1": (10.7, 7.3, 11.1, 90.0, 108.0, 90.0),
    "P 21 21 21": (8.0, 10.0, 13.0, 90.0, 90.0, 90.0),
    "P 1": (8.0, 9.0, 11.0, 80.0, 95.0, 105.0),
    "I 41/a m d:2": (7.0, 7.0, 12.0, 90.0, 90.0, 90.0),
    "F d d 2": (12.0, 13.0, 8.0, 90.0, 90.0, 90.0),
}


@pytest.mark.parametrize(
    ("name", "shift", "inverted"),
    [
        ("P n m a", (0.5, 0.0, 0.5), False),
        ("P n m a", (0.0, 0.0, 0.0), True),
        ("P 1 21 1", (0.5, 0.3137, 0.0), False),
        ("P 1 21 1", (0.0, -0.1234, 0.5), True),
        ("P 21 21 21", (0.5, 0.5, 0.0), True),
        ("P 1", (0.123, 0.456, 0.789), True),
        ("I 41/a m d:2", (0.0, 0.0, 0.5), False),
        ("F d d 2", (0.0, 0.0, 0.4321), False),
    ],
)
def test_all_atoms_are_found_again(
    name: str, shift: tuple[float, float, float], inverted: bool
) -> None:
    rng = np.random.default_rng(1)
    moved = (-SITES if inverted else SITES) + shift
    found = images(moved, name, rng)[::-1] + rng.normal(0, 0.002, SITES.shape)
    turn, move = operations(name)
    match = match_positions(
        SITES, found, orthogonalisation=orthogonalisation(CELL[name]), rotations=turn,
        translations=move, tolerance_A=0.2,
    )  # fmt: skip
    assert len(match) == 12
    assert np.array_equal(match.pairs[np.argsort(match.pairs[:, 0]), 1], np.arange(12)[::-1])
    assert match.distance_A.max() < 0.15


def test_a_shift_that_the_group_does_not_leave_open_matches_nothing() -> None:
    turn, move = operations("P n m a")
    ortho = orthogonalisation(CELL["P n m a"])
    match = match_positions(
        SITES, SITES + np.array([0.13, 0.07, 0.21]), orthogonalisation=ortho, rotations=turn,
        translations=move, tolerance_A=0.2,
    )  # fmt: skip
    assert len(match) <= 3


def test_only_equal_kinds_pair() -> None:
    turn, move = operations("P n m a")
    kinds = ["Si"] * 6 + ["O"] * 6
    match = match_positions(
        SITES, SITES, orthogonalisation=orthogonalisation(CELL["P n m a"]), rotations=turn,
        translations=move, reference_kind=kinds, found_kind=kinds[::-1], tolerance_A=0.2,
    )  # fmt: skip
    assert len(match) <= 2


def test_nothing_to_compare() -> None:
    turn, move = operations("P 1")
    match = match_positions(
        [], SITES, orthogonalisation=np.eye(3), rotations=turn, translations=move
    )
    assert len(match) == 0


@pytest.mark.parametrize(
    ("name", "n_origins", "n_polar"),
    # International Tables A, Euclidean normalisers: halves along each free axis
    [("P n m a", 8, 0), ("C m c m", 4, 0), ("P m -3 m", 2, 0), ("P 1 21 1", 4, 1), ("P 1", 1, 3),
     ("P -1", 8, 0), ("I a -3 d", 1, 0), ("P m c 21", 4, 1)],
)  # fmt: skip
def test_origins_that_a_group_leaves_open(name: str, n_origins: int, n_polar: int) -> None:
    turn, move = operations(name)
    assert len(polar_directions(turn)) == n_polar
    assert len(origin_shifts(turn, move)) == n_origins


@pytest.mark.parametrize("framework", [MFI, MOR], ids=lambda f: f.code)
def test_the_origin_is_found_in_phases_of_a_shifted_structure(framework: object) -> None:
    structure = zeolite(framework.code)  # type: ignore[attr-defined]
    axis = np.arange(-7, 8)
    hkl = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    f = structure_factors_at(structure, hkl)
    hkl, f = hkl[np.abs(f) > 1e-6], f[np.abs(f) > 1e-6]
    shift = np.array([0.137, 0.291, 0.418])
    # F = G exp(2 pi i h.s)
    g = f * np.exp(-2j * np.pi * (hkl @ shift))
    turn, move = group_operations(structure.spacegroup)
    ortho = np.array(structure.cell.orth.mat.tolist())
    found = likely_origins(hkl, g, turn, move, ortho, 4)
    centrings = move[np.all(turn == np.eye(3), axis=(1, 2))]
    rest = found[0] - shift - (origin_shifts(turn, move)[:, None] + centrings).reshape(-1, 3)
    rest -= np.rint(rest)
    assert np.linalg.norm(rest @ ortho.T, axis=1).min() < 0.4
