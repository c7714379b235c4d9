import json
import subprocess
import sys

import gemmi
import numpy as np
import pytest

from ewaldflow.lib.crystal.cell import d_spacing_A
from ewaldflow.lib.crystal.lattice_symmetry import candidate_operators
from ewaldflow.lib.merging.merging_statistics import merging_statistics, table, wilson_plot
from ewaldflow.lib.merging.scaling import scale_data_sets
from ewaldflow.lib.merging.shell_statistics import MergingShell, cc_significance, shell_statistics
from ewaldflow.lib.reduction.statistics import cc_half, r_meas

CELL = (11.0, 12.0, 13.0, 90.0, 90.0, 90.0)
MMM = candidate_operators("oP")

CCTBX = """
import json, sys
try:
    from iotbx import merging_statistics
    from cctbx import crystal, miller
    from cctbx.array_family import flex
except ImportError:
    sys.exit(77)
given = json.load(sys.stdin)
symmetry = crystal.symmetry(unit_cell=given["cell"], space_group_symbol=given["group"])
array = miller.array(
    miller.set(symmetry, flex.miller_index([tuple(h) for h in given["hkl"]]), False),
    data=flex.double(given["i"]), sigmas=flex.double(given["s"]),
).set_observation_type_xray_intensity()
found = merging_statistics.dataset_statistics(
    i_obs=array, n_bins=5, sigma_filtering="scala", log=open("/dev/null", "w")
).overall
names = ["n_obs", "n_uniq", "r_merge", "r_meas", "r_pim", "i_over_sigma_mean", "i_mean",
         "completeness", "mean_redundancy", "cc_one_half", "cc_one_half_sigma_tau",
         "d_max", "d_min"]
json.dump({n: getattr(found, n) for n in names}, sys.stdout)
"""


def cctbx_statistics(cell, group, hkl, i, s):
    """What iotbx.merging_statistics finds; it dies beside gemmi, so that it has its own process."""
    given = {"cell": list(cell), "group": group, "hkl": np.asarray(hkl).tolist(),
             "i": i.tolist(), "s": s.tolist()}  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", CCTBX], input=json.dumps(given), capture_output=True, text=True
    )
    if done.returncode == 77:
        pytest.skip("cctbx-base is not installed")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout[done.stdout.index("{") :])


@pytest.fixture(scope="module")
def unmerged():
    """5000 noisy observations of an orthorhombic crystal, anywhere on the sphere."""
    rng = np.random.default_rng(5)
    hkl = rng.integers(-9, 10, (9000, 3))
    d = d_spacing_A(hkl, CELL)
    hkl = hkl[np.isfinite(d) & (d > 1.25)][:5000]
    true = np.random.default_rng(6).exponential(100, (10, 10, 10))[tuple(np.abs(hkl).T)]
    sigma = np.sqrt(true + 9) * rng.uniform(0.7, 3, len(hkl))
    return hkl, true + sigma * rng.normal(size=len(hkl)), sigma


@pytest.mark.parametrize(
    ("weights", "letter"), [("unweighted", "U"), ("xds", "X"), ("aimless", "Y")]
)
def test_equal_to_gemmi(unmerged, weights, letter):
    hkl, i, s = unmerged
    reference = gemmi.Intensities()
    reference.set_data(
        gemmi.UnitCell(*CELL), gemmi.SpaceGroup("P m m m"), np.abs(hkl).astype(np.int32), i, s
    )
    reference.sort()
    theirs = reference.calculate_merging_stats(None, letter)[0]
    ours = shell_statistics(hkl, i, s, CELL, "oP", MMM, n_shells=1, weights=weights)[0]
    assert ours.n_observed == theirs.all_refl
    assert ours.n_unique == theirs.unique_refl
    assert ours.cc_half_n == theirs.stats_refl
    assert ours.r_merge == pytest.approx(theirs.r_merge(), rel=1e-9)
    assert ours.r_meas == pytest.approx(theirs.r_meas(), rel=1e-9)
    assert ours.r_pim == pytest.approx(theirs.r_pim(), rel=1e-9)
    assert ours.cc_half_sigma_tau == pytest.approx(theirs.cc_half(), rel=1e-9)


def test_equal_to_gemmi_in_every_shell(unmerged):
    hkl, i, s = unmerged
    d = d_spacing_A(hkl, CELL)
    for shell in shell_statistics(hkl, i, s, CELL, "oP", MMM, n_shells=4):
        mine = (d <= shell.d_max_A * (1 + 1e-9)) & (d > shell.d_min_A * (1 + 1e-9))
        if shell.d_min_A == pytest.approx(d.min()):
            mine |= d == d.min()
        reference = gemmi.Intensities()
        reference.set_data(
            gemmi.UnitCell(*CELL), gemmi.SpaceGroup("P m m m"),
            np.abs(hkl[mine]).astype(np.int32), i[mine], s[mine],
        )  # fmt: skip
        reference.sort()
        theirs = reference.calculate_merging_stats(None, "X")[0]
        assert (shell.n_observed, shell.n_unique) == (theirs.all_refl, theirs.unique_refl)
        assert shell.r_meas == pytest.approx(theirs.r_meas(), rel=1e-9)
        assert shell.cc_half_sigma_tau == pytest.approx(theirs.cc_half(), rel=1e-9)


def test_equal_to_cctbx(unmerged):
    hkl, i, s = unmerged
    theirs = cctbx_statistics(CELL, "P m m m", hkl, i, s)
    ours = shell_statistics(
        hkl, i, s, CELL, "oP", MMM, n_shells=1, d_max_A=theirs["d_max"], internal_variance=True
    )[0]
    assert (ours.n_observed, ours.n_unique) == (theirs["n_obs"], theirs["n_uniq"])
    for mine, name in (
        (ours.r_merge, "r_merge"), (ours.r_meas, "r_meas"), (ours.r_pim, "r_pim"),
        (ours.i_over_sigma, "i_over_sigma_mean"), (ours.mean_intensity, "i_mean"),
        (ours.completeness, "completeness"), (ours.multiplicity, "mean_redundancy"),
        (ours.d_min_A, "d_min"),
    ):  # fmt: skip
        assert mine == pytest.approx(theirs[name], rel=1e-6), name
    plain = shell_statistics(hkl, i, s, CELL, "oP", MMM, n_shells=1, weights="unweighted")[0]
    assert plain.cc_half_sigma_tau == pytest.approx(theirs["cc_one_half_sigma_tau"], rel=1e-6)
    # random halves: other ones
    assert ours.cc_half == pytest.approx(theirs["cc_one_half"], abs=0.02)


def test_unweighted_figures_are_those_of_the_engine(unmerged):
    from ewaldflow.lib.reduction.statistics import equivalents

    hkl, i, s = unmerged
    group = equivalents(hkl, MMM)
    ours = shell_statistics(hkl, i, s, CELL, "oP", MMM, n_shells=1, weights="unweighted", seed=3)[0]
    assert ours.r_meas == pytest.approx(r_meas(group, i), rel=1e-12)
    assert ours.cc_half == pytest.approx(cc_half(group, i, seed=3), rel=1e-12)


def test_by_hand():
    hkl = [(1, 2, 3), (-1, -2, -3), (1, 2, -3), (2, 0, 0)]
    i, s = np.array([8.0, 10.0, 12.0, 5.0]), np.array([1.0, 1.0, 1.0, 0.5])
    found = shell_statistics(hkl, i, s, CELL, "oP", MMM, n_shells=1)[0]
    assert found.r_merge == pytest.approx(4 / 30)
    assert found.r_meas == pytest.approx(np.sqrt(3 / 2) * 4 / 30)
    assert found.r_pim == pytest.approx(np.sqrt(1 / 2) * 4 / 30)
    assert found.mean_intensity == pytest.approx(7.5)
    assert found.i_over_sigma == pytest.approx((10 * np.sqrt(3) + 10) / 2)
    assert found.chi_square == pytest.approx(8 / 2)
    assert np.isnan(found.cc_half)  # one reflection has no correlation
    assert not found.significant


def test_completeness_holds_for_the_stated_range(unmerged):
    hkl, i, s = unmerged
    whole = shell_statistics(hkl, i, s, CELL, "oP", MMM, n_shells=1)[0]
    assert whole.d_max_A == pytest.approx(13.0)  # 001, though it was never observed
    half = np.asarray(hkl)[:, 0] % 2 == 0
    even = shell_statistics(np.asarray(hkl)[half], i[half], s[half], CELL, "oP", MMM, n_shells=1)[0]
    assert even.completeness == pytest.approx(0.5, abs=0.08)
    ranged = shell_statistics(hkl, i, s, CELL, "oP", MMM, n_shells=3, d_max_A=5.0, d_min_A=2.0)
    assert ranged[0].d_max_A == pytest.approx(5.0)
    assert ranged[-1].d_min_A == pytest.approx(2.0)
    d = d_spacing_A(hkl, CELL)
    assert sum(r.n_observed for r in ranged) == np.sum((d <= 5) & (d >= 2))
    with pytest.raises(ValueError, match="no observation"):
        shell_statistics(hkl, i, s, CELL, "oP", MMM, d_max_A=0.5, d_min_A=0.4)


def test_absences_are_neither_counted_nor_expected(unmerged):
    hkl, i, s = unmerged
    plain = shell_statistics(hkl, i, s, CELL, "oP", MMM, n_shells=1)[0]
    glides = shell_statistics(hkl, i, s, CELL, "oP", MMM, n_shells=1, space_group="P n m a")[0]
    assert glides.n_possible < plain.n_possible
    assert glides.n_unique < plain.n_unique
    assert glides.completeness == pytest.approx(plain.completeness, abs=0.05)


def test_significance_of_a_correlation():
    # t = 0.5 sqrt(8 / 0.75) = 1.633 with 8 degrees of freedom
    assert cc_significance(0.5, 10) == pytest.approx(0.0706, abs=2e-4)
    assert cc_significance(0.3, 1000) < 1e-20
    assert cc_significance(1.0, 10) < 1e-100
    assert np.isnan(cc_significance(0.9, 2))
    rng = np.random.default_rng(0)
    chance = [
        cc_significance(np.corrcoef(*rng.normal(size=(2, 30)))[0, 1], 30) for _ in range(2000)
    ]
    assert np.mean(np.array(chance) < 0.05) == pytest.approx(0.05, abs=0.015)


def shell_with(d_max, d_min, intensity):
    nan = float("nan")
    return MergingShell(d_max, d_min, 9, 9, 9, 1.0, 1.0, intensity, *(nan,) * 5, 0, *(nan,) * 3)


def test_wilson_b_comes_back():
    edges = np.linspace(0.02, 1.0, 11) ** -0.5
    middle = 0.25 * 0.5 * (edges[:-1] ** -2 + edges[1:] ** -2)
    mean = 7 * np.exp(-2 * 3.5 * middle)
    shells = [shell_with(a, b, m) for a, b, m in zip(edges[:-1], edges[1:], mean, strict=True)]
    found = wilson_plot(shells, {})
    assert found.b_A2 == pytest.approx(3.5, abs=1e-6)
    assert found.error_A2 == pytest.approx(0, abs=1e-6)
    f = np.array(gemmi.Element("Si").c4322.get_coefs())
    atoms = (np.exp(-middle[:, None] * f[5:]) @ f[:5]) ** 2
    silicon = [
        shell_with(a, b, m) for a, b, m in zip(edges[:-1], edges[1:], mean * atoms, strict=True)
    ]
    assert wilson_plot(silicon, {"Si": 12.0}).b_A2 == pytest.approx(3.5, abs=1e-6)
    assert np.isnan(wilson_plot(shells[:2], {}).b_A2)


def test_the_whole_table(crystals):
    made = crystals(4)
    scaled = scale_data_sets(made.sets, candidate_operators("oC"))
    found = merging_statistics(scaled, n_shells=5)
    assert len(found.shells) == 5
    assert found.overall.n_unique == sum(s.n_unique for s in found.shells)
    assert found.overall.n_observed == sum(np.sum(~o) for o in scaled.outlier)
    assert found.overall.cc_half > 0.99
    assert all(s.significant for s in found.shells)
    assert found.overall.chi_square == pytest.approx(scaled.chi_square)
    assert "seed 0" in found.halves
    assert found.cells.n == 4
    assert found.cells.deviation == pytest.approx((0,) * 6, abs=1e-9)
    assert 0.3 < found.coverage.covered <= 1
    text = table(found)
    assert len(text.splitlines()) == 7
    assert f"{found.overall.r_meas:.3f}" in text.splitlines()[-1]
