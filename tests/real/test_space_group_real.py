"""LTA, cinchonine and garnet against the bars of benchmarks/merging_real.py."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

import ewaldflow
from ewaldflow.lib.merging.data_set import data_set_from_xds_ascii

# The benchmarks hold the bars and know where the archives are; they are scripts, no package.
sys.path.insert(0, str(Path(ewaldflow.__file__).resolve().parent / "benchmarks"))
bars, real, table = (importlib.import_module(n) for n in ("merging_real", "_real", "_table"))

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def lta():
    path = real.default_data() / bars.LTA_FILE
    if not path.exists():
        pytest.skip(f"real data absent: {path.name} of LTA not below {real.default_data()}")
    return data_set_from_xds_ascii(path)


def test_lta(lta):
    figures = table.Table("LTA")
    verdict = bars.lta_symmetry(figures, lta)
    assert figures.missed == []
    assert all(rotation.cc > 0.6 for rotation in verdict.laue.rotations)
    assert all(e.probability < 0.02 for e in verdict.absences)
    assert not any(e.found for e in verdict.centring)


@pytest.mark.parametrize("n", [20, 100])
def test_a_few_reflections_of_lta_decide_nothing(lta, n):
    some = lta.select(np.random.default_rng(1).choice(len(lta), n, replace=False))
    verdict = bars.determine_space_group(bars.replace(some, bravais="aP"))
    assert (verdict.space_group, verdict.decided) == ("P -1", False)
    assert f"{verdict.laue.n_pairs} pairs" in verdict.reason


@pytest.mark.parametrize("name", ["cinchonine", pytest.param("garnet", marks=pytest.mark.long)])
def test_a_series_reduced_by_the_built_in_engine(name, tmp_path):
    data = real.default_data()
    folder = real.unpack(name, data, tmp_path)
    if folder is None:
        pytest.skip(f"real data absent: {real.REAL[name].archive} not below {data}")
    figures = table.Table(name)
    judge = {"cinchonine": bars.cinchonine_symmetry, "garnet": bars.garnet_symmetry}[name]
    judge(figures, bars.reduced(name, folder))
    assert len(figures.rows) >= 2
    assert figures.missed == []
