"""Clusters of real data: an XSCALE log of seven zeolites, and parts of one LTA crystal."""

import importlib
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import ewaldflow
from ewaldflow.lib.crystal.lattice_symmetry import candidate_operators
from ewaldflow.lib.merging.data_set import data_set_from_xds_ascii
from ewaldflow.lib.merging.hca import cluster
from ewaldflow.lib.merging.isomorphism import isomorphous_groups
from ewaldflow.lib.merging.pairwise import pairwise_correlations
from ewaldflow.lib.merging.pairwise_of_xscale import pairwise_of_xscale
from ewaldflow.lib.xds.xscale import read_xscale

sys.path.insert(0, str(Path(ewaldflow.__file__).resolve().parent / "benchmarks"))
real = importlib.import_module("_real")

pytestmark = pytest.mark.real


def file_of(name):
    path = real.default_data() / "xds" / name
    if not path.exists():
        pytest.skip(f"real data absent: {path}")
    return path


def test_the_dendrogram_of_the_edtools_demonstration():
    log = read_xscale(file_of("instamatic-dev+edtools/edtools_demo_xscale_stdout.txt"))
    pairwise = pairwise_of_xscale(log)
    found = cluster(pairwise, cut=0.252)
    # heights and clusters as its notebook prints them
    assert found.heights == pytest.approx([0.154, 0.169, 0.235, 0.248, 0.345, 0.380], abs=5e-4)
    assert found.members == ((0, 2, 4, 6), (1, 3))
    assert len(found.unassigned) == 1
    assert isomorphous_groups(pairwise).groups == (tuple(range(7)),)


def test_parts_of_one_crystal_are_one_structure():
    one = data_set_from_xds_ascii(file_of("bstrb+BKinD/XDS_ASCII.HKL"))
    part = np.minimum((12 * one.frame / one.n_frames).astype(int), 11)
    parts = [replace(one.select(part == k), name=f"part {k}") for k in range(12)]
    pairwise = pairwise_correlations(parts, candidate_operators("cP"))
    assert np.nanmin(pairwise.cc) > 0.6
    assert cluster(pairwise).members == (tuple(range(12)),)
    groups = isomorphous_groups(pairwise)
    assert groups.groups == (tuple(range(12)),)
    assert groups.unassigned == ()
