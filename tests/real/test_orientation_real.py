"""Orientations of real series, and the files of other programs they may come from."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

import ewaldflow
from ewaldflow.lib.crystal.cell import cell_from_reciprocal_basis
from ewaldflow.lib.errors import UserError
from ewaldflow.lib.orientation.config import OrientationConfig
from ewaldflow.lib.orientation.from_pets import from_pets
from ewaldflow.lib.orientation.from_xds import from_xds
from ewaldflow.lib.orientation.hand_over import omega_of, pets_matrix
from ewaldflow.lib.orientation.refine import refine_orientations
from ewaldflow.lib.orientation.series import orient_lattice, orient_series
from ewaldflow.lib.reduction.engine import reduce_series

# The benchmarks know where the archives are; they are scripts, no package.
sys.path.insert(0, str(Path(ewaldflow.__file__).resolve().parent / "benchmarks"))
real = importlib.import_module("_real")

pytestmark = pytest.mark.real


def unpacked(name, tmp_path):
    data = real.default_data()
    folder = real.unpack(name, data, tmp_path)
    if folder is None:
        pytest.skip(f"real data absent: {real.REAL[name].archive} not below {data}")
    return folder


@pytest.mark.parametrize("name", ["lysozyme", pytest.param("garnet", marks=pytest.mark.long)])
def test_halves_agree_better_than_by_the_published_method(name, tmp_path):
    series = real.read_real(name, unpacked(name, tmp_path))
    done, _ = orient_series(series, reduce_series(series))
    lattice = done.lattices[0]
    ours, alone, published = lattice.precision
    assert [p.method for p in lattice.precision][::2] == ["stage B", "published"]
    assert ours.half_along_deg < published.half_along_deg
    assert ours.half_perp_deg < published.half_perp_deg
    # what is claimed of a half is what halves show, no prior helping
    assert 0.5 < alone.half_along_deg / alone.said_along_deg < 2
    assert 0.5 < alone.half_perp_deg / alone.said_perp_deg < 2
    # no absurd goniometer: within 2 % of the read-out, and jitter far below a tenth of a degree
    assert lattice.found.rotation_scale == pytest.approx(1, abs=0.02)
    assert lattice.study.jitter_along_deg < 0.05
    assert lattice.study.jitter_perp_deg < 0.05


def glycine():
    path = real.default_data() / "cred" / "glycine_pets" / "glycine.pts"
    if not path.exists():
        pytest.skip(f"real data absent: {path.name} not below {real.default_data()}")
    return path


def test_pets_peaks_are_indexed_and_lie_where_pets_has_them():
    path = glycine()
    data = from_pets(path)
    rows = data.intensities
    assert len(rows) > 3400  # of 3464
    assert (~data.used).sum() >= 7
    # x, y, z of the peaks, but for the scale, which PETS refined after it wrote them
    ub = pets_matrix(data.orientation, omega_of(data))
    table = np.loadtxt(path.with_suffix(".rpl"))
    places = {(int(t[11]) - 1, round(t[8] - 1, 3), round(t[7] - 1, 3)): t[:3] for t in table}
    pairs = [
        (ub @ h, places[key])
        for h, key in zip(
            rows.hkl,
            zip(rows.frame.tolist(), rows.row.round(3), rows.column.round(3), strict=True),
            strict=True,
        )
    ]
    ours, theirs = np.array(pairs).transpose(1, 0, 2)
    off = np.linalg.norm(ours - theirs, axis=1) / np.linalg.norm(theirs, axis=1)
    assert np.median(off) < 0.05


def test_pets_peaks_give_orientations():
    data = from_pets(glycine())
    cell = cell_from_reciprocal_basis(data.reciprocal_basis)
    lattice = orient_lattice(data, cell, OrientationConfig())
    ours, alone, published = lattice.precision
    # 0.084 and 0.059 degrees by the corrected published method were found for these data before
    assert alone.half_along_deg < published.half_along_deg < 0.2
    assert alone.half_perp_deg < published.half_perp_deg < 0.2
    assert ours.half_along_deg < 0.03
    # the read-out was 1.6 % off before too
    assert lattice.found.rotation_scale == pytest.approx(0.984, abs=0.004)


def test_centroids_of_xds_give_the_rotation(tmp_path):
    folder = unpacked("cinchonine", tmp_path) / "xds"
    if not (folder / "INTEGRATE.HKL").exists():
        pytest.skip("the archive holds no INTEGRATE.HKL")
    with pytest.raises(UserError, match="calculated"):
        from_xds(folder / "XDS_ASCII.HKL")
    scales = []
    for name in ("INTEGRATE.HKL", "SPOT.XDS"):
        found = refine_orientations(from_xds(folder / name))
        assert found.method == "stage A"
        scales.append(found.rotation_scale)
        assert np.isnan(found.small_unshrunk_deg).all()
    np.testing.assert_allclose(scales, 1, atol=0.005)
