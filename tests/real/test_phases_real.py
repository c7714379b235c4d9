"""The cells of the edtools demonstration, as its notebook printed them."""

import importlib
import re
import sys
from pathlib import Path

import numpy as np
import pytest

import ewaldflow
from ewaldflow.lib.phases.cell_record import record_from_space_group, record_from_text
from ewaldflow.lib.phases.phases import find_phases

# The benchmarks know where the data are; they are scripts, no package.
sys.path.insert(0, str(Path(ewaldflow.__file__).resolve().parent / "benchmarks"))
real = importlib.import_module("_real")

pytestmark = pytest.mark.real

CONSOLE = "xds/instamatic-dev+edtools/edtools_demo_all_outputs.txt"


@pytest.fixture(scope="module")
def console():
    path = real.default_data() / CONSOLE
    if not path.exists():
        pytest.skip(f"real data absent: {CONSOLE} not below {real.default_data()}")
    return path.read_text()


def reduced_cells(console):
    """The 13 primitive cells, and the three clusters that edtools found with a cut by hand."""
    part = console[console.index("Cluster #1 (4 items)") : console.index("Wrote cluster 1 to")]
    records, clusters = [], []
    for line in part.splitlines():
        if line.startswith("Cluster"):
            clusters.append(set())
        elif found := re.match(r" +(\d+) \[(.*)\]", line):
            clusters[-1].add(found[1])
            records.append(record_from_text(found[2], name=found[1]))
    return records, clusters


def test_all_three_phases_come_out_at_default_settings(console):
    records, clusters = reduced_cells(console)
    assert [len(c) for c in clusters] == [4, 3, 6]
    found = find_phases(records)
    assert not found.outliers
    assert sorted(map(sorted, (p.names for p in found.phases))) == sorted(map(sorted, clusters))


def test_in_any_order_and_with_the_scale_at_full_weight(console):
    records, clusters = reduced_cells(console)
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(len(records))
        shuffled = [records[i] for i in order]
        for weight in (0.5, 0.7, 1.0):
            found = find_phases(shuffled, scale_weight=weight)
            assert {frozenset(p.names) for p in found.phases} == set(map(frozenset, clusters))


def test_the_distance_of_the_thesis_mixes_them(console):
    records, clusters = reduced_cells(console)
    found = find_phases(records, metric="thesis")
    assert {frozenset(p.names) for p in found.phases} != set(map(frozenset, clusters))


def test_as_xds_gave_them_with_a_doubled_cell_among_them(console):
    """All 14, in the settings and lattice types of the first run of XDS."""
    part = console[console.index("### !edtools.extract_xds_info") :]
    part = part[: part.index("Wrote 14 cells")]
    entries = re.findall(r"^ +(\d+): .*\nSpgr +(\d+) - Cell (.*?) - Vol", part, re.M)
    records = [
        record_from_space_group(number, tuple(map(float, cell.split())), int(group))
        for number, group, cell in entries
    ]
    assert len(records) == 14
    _, clusters = reduced_cells(console)
    found = find_phases(records)
    assert {frozenset(p.names) for p in found.phases} == set(map(frozenset, clusters))
    (outlier,) = found.outliers
    assert outlier.record.name == "14"
    assert "2 times the cell of phase 1" in outlier.reason
