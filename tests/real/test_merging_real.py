"""Statistics and scaling of real electron data: zeolite LTA, as XDS integrated it."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import gemmi
import numpy as np
import pytest

import ewaldflow
from ewaldflow.lib.crystal.lattice_symmetry import candidate_operators
from ewaldflow.lib.merging.coverage import beam_path
from ewaldflow.lib.merging.data_set import data_set_from_xds_ascii
from ewaldflow.lib.merging.merging_statistics import merging_statistics
from ewaldflow.lib.merging.scaling import scale_data_sets
from ewaldflow.lib.merging.shell_statistics import shell_statistics
from ewaldflow.lib.reduction.result import Flag

pytestmark = pytest.mark.real
CUBIC = candidate_operators("cP")

CCTBX = """
import json, sys
try:
    from iotbx import merging_statistics, reflection_file_reader
except ImportError:
    sys.exit(77)
file = reflection_file_reader.any_reflection_file(sys.argv[1])
found = merging_statistics.dataset_statistics(
    i_obs=file.as_miller_arrays(merge_equivalents=False)[0], n_bins=10, sigma_filtering="scala"
).overall
names = ["n_obs", "n_uniq", "r_merge", "r_meas", "r_pim", "i_over_sigma_mean", "completeness",
         "cc_one_half_sigma_tau", "d_max"]
json.dump({n: getattr(found, n) for n in names}, sys.stdout)
"""


@pytest.fixture(scope="module")
def path():
    root = Path(ewaldflow.__file__).resolve().parent
    data = Path(os.environ.get("EWALDFLOW_REAL_DATA", root.parent / "shared" / "data"))
    path = data / "xds" / "bstrb+BKinD" / "XDS_ASCII.HKL"
    if not path.exists():
        pytest.skip(f"real data absent: {path.name} of LTA not below {data}")
    return path


@pytest.fixture(scope="module")
def lta(path):
    data = data_set_from_xds_ascii(path)
    return data.select(~data.has(Flag.OUTLIER))


@pytest.mark.parametrize(
    ("weights", "letter"), [("unweighted", "U"), ("xds", "X"), ("aimless", "Y")]
)
def test_statistics_of_lta_equal_gemmi(path, lta, weights, letter):
    reference = gemmi.Intensities()
    reference.import_xds(gemmi.read_xds_ascii(str(path)))
    reference.sort()
    theirs = reference.calculate_merging_stats(None, letter)[0]
    ours = shell_statistics(
        lta.hkl, lta.intensity, lta.sigma, lta.cell, "cP", CUBIC, n_shells=1, weights=weights
    )[0]
    assert (ours.n_observed, ours.n_unique) == (14373, 872)
    assert (theirs.all_refl, theirs.unique_refl) == (14373, 872)
    assert ours.r_merge == pytest.approx(theirs.r_merge(), rel=1e-6)
    assert ours.r_meas == pytest.approx(theirs.r_meas(), rel=1e-6)
    assert ours.r_pim == pytest.approx(theirs.r_pim(), rel=1e-6)
    assert ours.cc_half_sigma_tau == pytest.approx(theirs.cc_half(), rel=1e-6)


def test_statistics_of_lta_equal_cctbx(path, lta):
    done = subprocess.run(
        [sys.executable, "-c", CCTBX, str(path)], capture_output=True, text=True, check=False
    )
    if done.returncode == 77:
        pytest.skip("cctbx-base is not installed")
    assert done.returncode == 0, done.stderr
    theirs = json.loads(done.stdout[done.stdout.index("{") :])
    arguments = (lta.hkl, lta.intensity, lta.sigma, lta.cell, "cP", CUBIC)
    ours = shell_statistics(
        *arguments, n_shells=1, d_max_A=theirs["d_max"], internal_variance=True
    )[0]
    plain = shell_statistics(*arguments, n_shells=1, weights="unweighted")[0]
    assert (ours.n_observed, ours.n_unique) == (theirs["n_obs"], theirs["n_uniq"])
    for mine, name in (
        (ours.r_merge, "r_merge"), (ours.r_meas, "r_meas"), (ours.r_pim, "r_pim"),
        (ours.i_over_sigma, "i_over_sigma_mean"), (ours.completeness, "completeness"),
        (plain.cc_half_sigma_tau, "cc_one_half_sigma_tau"),
    ):  # fmt: skip
        assert mine == pytest.approx(theirs[name], rel=1e-6), name


def test_lta_scaled_and_split_into_crystals_agrees_with_itself(lta):
    """Wedges of one series as crystals: scales near one, agreement no worse."""
    alone = merging_statistics(scale_data_sets([lta], CUBIC))
    assert alone.overall.r_meas < 0.33
    assert alone.overall.cc_half_sigma_tau > 0.95
    wedges = []
    for k in range(6):
        first = k * lta.n_frames / 6
        inside = (lta.frame >= first) & (lta.frame < first + lta.n_frames / 6)
        part = lta.select(inside)
        wedges.append(
            replace(
                part,
                name=f"wedge {k}",
                frame=part.frame - first,
                n_frames=lta.n_frames // 6,
                range_deg=lta.range_deg / 6,
                intensity=part.intensity * 3.0**k,
                sigma=part.sigma * 3.0**k,
            )
        )
    scaled = scale_data_sets(wedges, CUBIC)
    relative = np.log([s.scale / 3.0**k for k, s in enumerate(scaled.sets)])
    assert np.std(relative) < 0.25
    together = merging_statistics(scaled)
    assert together.overall.r_meas < alone.overall.r_meas + 0.01
    assert 0.8 < scaled.chi_square < 1.3


def test_the_beam_of_lta_turns_by_what_the_header_says(lta):
    found = beam_path(lta)
    assert not isinstance(found, str), found
    ends = found.at([0.0, lta.range_deg])
    # the axis is all but normal to the beam, so that the beam turns as much as the crystal
    assert np.rad2deg(np.arccos(ends[0] @ ends[1])) == pytest.approx(lta.range_deg, abs=0.5)
