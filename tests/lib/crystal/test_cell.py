import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ewaldflow.lib.crystal.cell import (
    cell_from_real_basis,
    cell_from_reciprocal_basis,
    cell_volume,
    d_spacing_A,
    orthogonalisation,
    reciprocal_basis,
)

edges = st.floats(3.0, 60.0)
angles = st.floats(65.0, 115.0)
cells = st.tuples(edges, edges, edges, angles, angles, angles)


def test_axes_follow_the_pdb_convention():
    basis = orthogonalisation((10, 20, 30, 90, 90, 120))
    assert np.allclose(basis[:, 0], [10, 0, 0])
    assert np.allclose(basis[:, 1], [-10, 20 * np.sqrt(3) / 2, 0])
    assert np.allclose(basis[:, 2], [0, 0, 30])


def test_hexagonal_volume_and_spacings():
    cell = (10, 10, 20, 90, 90, 120)
    assert cell_volume(cell) == pytest.approx(2000 * np.sqrt(3) / 2)
    # 1/d^2 = 4/3 (h^2 + hk + k^2) / a^2 + l^2 / c^2
    d = d_spacing_A([[1, 0, 0], [1, 1, 0], [0, 0, 2], [1, 0, 2]], cell)
    assert np.allclose(d, [np.sqrt(75), 5, 10, 1 / np.sqrt(4 / 300 + 4 / 400)])


def test_the_origin_has_no_spacing():
    assert d_spacing_A([0, 0, 0], (10, 10, 10, 90, 90, 90)) == np.inf


@given(cells)
def test_cell_and_bases_belong_together(cell):
    assert np.allclose(cell_from_real_basis(orthogonalisation(cell)), cell)
    assert np.allclose(cell_from_reciprocal_basis(reciprocal_basis(cell)), cell)
    assert np.allclose(reciprocal_basis(cell).T @ orthogonalisation(cell), np.eye(3), atol=1e-12)
