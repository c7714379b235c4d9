"""The real series against the bars of benchmarks/reduction_real.py."""

import importlib
import sys
from pathlib import Path

import pytest

import ewaldflow
from ewaldflow.lib.reduction.engine import reduce_series

# The benchmarks hold the bars and know where the archives are; they are scripts, no package.
sys.path.insert(0, str(Path(ewaldflow.__file__).resolve().parent / "benchmarks"))
bars, real, table = (importlib.import_module(n) for n in ("reduction_real", "_real", "_table"))

pytestmark = pytest.mark.real


@pytest.mark.parametrize(
    "name", ["lysozyme", "cinchonine", pytest.param("garnet", marks=pytest.mark.long)]
)
def test_a_real_series_reaches_its_bars(name, tmp_path):
    data = real.default_data()
    folder = real.unpack(name, data, tmp_path)
    if folder is None:
        pytest.skip(f"real data absent: {real.REAL[name].archive} not below {data}")
    reduction = reduce_series(real.read_real(name, folder))
    figures = table.Table(name)
    bars.judge_real(figures, name, reduction, tmp_path / name)
    assert len(figures.rows) >= 2
    assert figures.missed == []
