"""Real electron data solved and refined: LTA and cinchonine, as XDS integrated them."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

import ewaldflow
from ewaldflow.lib.crystal.lattice_symmetry import candidate_operators
from ewaldflow.lib.merging.data_set import data_set_from_xds_ascii
from ewaldflow.lib.merging.merge import merge_scaled
from ewaldflow.lib.merging.scaling import scale_data_sets
from ewaldflow.lib.reduction.xds_ascii import read_xds_ascii
from ewaldflow.lib.structure.cctbx_process import cctbx_installed
from ewaldflow.lib.structure.charge_flipping import charge_flip, compare_with
from ewaldflow.lib.structure.refinement import atoms_of_cif, refine
from ewaldflow.lib.structure.shelx import read_hkl
from ewaldflow.lib.structure.shelxt import read_res
from ewaldflow.lib.structure.solution import Atom

sys.path.insert(0, str(Path(ewaldflow.__file__).resolve().parent / "benchmarks"))
real = importlib.import_module("_real")

pytestmark = pytest.mark.real
needs_cctbx = pytest.mark.skipif(not cctbx_installed(), reason="cctbx-base is not installed")
FOLDER = "xds/bstrb+BKinD"


def real_file(name: str) -> Path:
    path = real.default_data() / name
    if not path.exists():
        pytest.skip(f"real data absent: {path}")
    return path


@pytest.fixture(scope="module")
def cinchonine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = real.default_data()
    folder = real.unpack("cinchonine", data, tmp_path_factory.mktemp("cinchonine"))
    if folder is None:
        pytest.skip(f"real data absent: {real.REAL['cinchonine'].archive} not below {data}")
    return folder


@needs_cctbx
def test_lta_is_solved_with_t_and_three_oxygens_on_top() -> None:
    one = data_set_from_xds_ascii(real_file(f"{FOLDER}/XDS_ASCII.HKL"))
    scaled = scale_data_sets([one], candidate_operators("cP"))
    merged = merge_scaled(scaled, space_group="P m -3 m", d_min_A=0.8)
    result = charge_flip(merged, {"Si": 24, "O": 48})
    assert result.verdict == "solved"
    best = result.best
    assert best is not None
    assert best.height[3] > 3 * best.height[4]
    framework = (
        Atom("Si1", "Si", (0.0, 0.183, 0.370)),
        Atom("O1", "O", (0.0, 0.219, 0.5)),
        Atom("O2", "O", (0.0, 0.296, 0.296)),
        Atom("O3", "O", (0.111, 0.111, 0.343)),
    )
    match = compare_with(best, framework, tolerance_A=0.15)
    assert len(match) == 4


@needs_cctbx
def test_the_published_cinchonine_refines_to_the_published_r(cinchonine: Path) -> None:
    atoms, cell, group = atoms_of_cif(cinchonine / "shelxl" / "shelxl.cif")
    xds = read_xds_ascii(cinchonine / "xds" / "XDS_ASCII.HKL")
    good = ~xds.misfit
    refined = refine(
        atoms, xds.hkl[good], xds.intensity[good], xds.sigma[good], cell=cell, space_group=group,
        weight_a=0.2,
    )  # fmt: skip
    # SHELXL: R1 0.1765 with Friedel mates apart, 89 parameters
    assert refined.r1 == pytest.approx(0.1765, abs=0.01)
    assert refined.n_parameters == 89


def test_hkl_files_of_others_are_read(cinchonine: Path) -> None:
    file = read_hkl(cinchonine / "shelxl" / "shelxl.hkl")
    assert len(file.hkl) == 1950  # SHELXL leaves out four and reports 1946
    assert file.hkl[:2].tolist() == [[0, 0, 1], [0, 0, -1]]
    assert file.intensity[:2].tolist() == [292071.0, 251861.0]
    assert np.all(file.sigma > 0)
    other = read_hkl(real_file(f"{FOLDER}/ml_shelx.hkl"))
    assert len(other.hkl) == 14373  # as many as the XDS_ASCII file it was made from


def test_res_files_of_others_are_read(cinchonine: Path) -> None:
    atoms, cell = read_res(cinchonine / "shelxl" / "shelxl.res")
    published, _, _ = atoms_of_cif(cinchonine / "shelxl" / "shelxl.cif")
    assert cell == (10.732, 7.283, 11.107, 90.0, 108.06, 90.0)
    assert [a.label for a in atoms] == [a.label for a in published]
    for ours, theirs in zip(atoms, published, strict=True):
        assert ours.element == theirs.element
        assert ours.position == pytest.approx(theirs.position, abs=2e-3)
        assert ours.u_iso_A2 == pytest.approx(theirs.u_iso_A2, abs=5e-3)
