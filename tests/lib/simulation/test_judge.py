"""The judge, on reductions made up from the truth with known faults."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ewaldflow.lib.crystal.cell import cell_from_reciprocal_basis
from ewaldflow.lib.geometry import rotation_about
from ewaldflow.lib.reduction.result import (
    Flag,
    FrameTable,
    Lattice,
    Reduction,
    Reflections,
)
from ewaldflow.lib.simulation import (
    Crystal,
    Truth,
    default_geometry,
    judge,
    random_rotation,
    simulate_series,
    zeolite,
)
from ewaldflow.lib.simulation.judge import chi2_equivalents, match_lattice

TRUTHS: dict[str, Truth] = {}


def truth_of(*codes: str) -> Truth:
    key = " ".join(codes)
    if key not in TRUTHS:
        crystals = [Crystal(zeolite(c), random_rotation(i)) for i, c in enumerate(codes)]
        TRUTHS[key] = simulate_series(
            crystals,
            geometry=default_geometry(),
            n_frames=30,
            step_deg=1.0,
            angle_start_deg=-10,
            seed=2,
            d_min_A=1.2,
        )[1]
    return TRUTHS[key]


def made_up(
    truth: Truth,
    which: int = 0,
    *,
    bravais: str = "oP",
    transform: np.ndarray | None = None,
    turn: np.ndarray | None = None,
    stretch: float = 1.0,
    noise: float = 0.0,
    seed: int = 0,
) -> Reduction:
    """What an engine would hand back that finds the truth in another setting, turned or so."""
    v = np.eye(3) if transform is None else transform
    true = truth.lattices[which]
    table = true.reflections[~true.reflections.grazing]
    orientation = true.orientation @ np.linalg.inv(v).T / stretch
    if turn is not None:
        orientation = turn @ orientation
    n = len(table)
    sigma = np.sqrt(table.intensity) + 1
    intensity = table.intensity + noise * sigma * np.random.default_rng(seed).normal(size=n)
    zero = np.zeros(n)
    reflections = Reflections(
        hkl=np.rint(table.hkl @ v).astype(np.int32),
        intensity_sum=intensity / table.lorentz,
        sigma_sum=sigma / table.lorentz,
        intensity=intensity / table.lorentz,
        sigma=sigma / table.lorentz,
        background=zero,
        frame=table.frame + 0.1,
        angle_deg=table.angle_deg,
        row=table.row,
        column=table.column + 0.2,
        observed_row=table.row,
        observed_column=table.column,
        partiality=np.ones(n),
        lorentz=table.lorentz,
        d_A=zero,
        flags=np.where(table.saturated, int(Flag.SATURATED), 0).astype(np.uint32),
    )
    cell = cell_from_reciprocal_basis(orientation)
    lattice = Lattice(
        bravais=bravais,
        orientation=orientation,
        cell=cell,
        cell_esd=cell,
        cell_p1=cell,
        cell_p1_esd=cell,
        niggli=cell,
        geometry=truth.geometry,
        esd={},
        rotation_scale=1.0,
        candidates=(),
        mosaicity_deg=0.1,
        size_per_A=1.6e-3,
        n_spots=100,
        n_indexed=97,
        rms_px=0.1,
        rms_deg=0.01,
        reflections=reflections,
    )
    m = len(truth.blank)
    frames = FrameTable(
        frame_number=np.arange(m),
        angle_deg=truth.angle_mid_deg,
        beam_row=np.zeros(m),
        beam_column=np.zeros(m),
        scale=np.ones(m),
        profile_ratio=np.ones(m),
        n_spots=np.zeros(m, np.int64),
        n_indexed=np.zeros(m, np.int64),
        background=np.zeros(m),
        blank=truth.blank,
    )
    return Reduction(series="made up", lattices=(lattice,), frames=frames, gain=1.0)


SETTINGS = {
    "as it is": np.eye(3),
    "inverted": -np.eye(3),
    "a, b swapped": np.array([[0, 1, 0], [1, 0, 0], [0, 0, -1]]),
    "two-fold": np.diag([1, -1, -1]),
    "skew": np.array([[1, 1, 0], [0, 1, 1], [0, 0, 1]]),
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_perfect_result_in_any_setting(setting):
    figures = judge(made_up(truth_of("MFI"), transform=SETTINGS[setting]), truth_of("MFI"))
    assert figures["found"] == 1
    assert figures["lattices_false"] == 0
    assert figures["indexed_fraction"] == pytest.approx(0.97)
    assert figures["cell_edge_error_percent"] < 1e-9
    assert figures["cell_angle_error_deg"] < 1e-6
    assert figures["orientation_error_deg"] < 1e-5
    assert figures["n_matched"] == figures["n_reflections"] > 300
    assert figures["frame_rms"] == pytest.approx(0.1)
    assert figures["position_rms_px"] == pytest.approx(0.2)
    assert figures["cc_f2"] == pytest.approx(1, abs=1e-6)
    assert figures["cc_f2_with_saturated"] == pytest.approx(1, abs=1e-6)
    assert figures["chi2_truth"] == pytest.approx(0, abs=1e-12)
    assert figures["intensity_ratio"] == pytest.approx(1)


def test_primitive_cell_of_a_centred_lattice():
    # C-centred mordenite by its primitive cell: a' = (a - b) / 2, b' = (a + b) / 2
    v = np.array([[0.5, 0.5, 0], [-0.5, 0.5, 0], [0, 0, 1]])
    truth = truth_of("MOR")
    figures = judge(made_up(truth, transform=v, bravais="aP"), truth)
    assert figures["found"] == 1
    assert figures["cc_f2"] == pytest.approx(1, abs=1e-6)
    assert judge(made_up(truth, bravais="oC"), truth)["found"] == 1
    # the conventional cell taken for primitive claims half of the lattice points
    assert judge(made_up(truth, bravais="oP"), truth)["found"] == 0


def test_known_faults_are_measured():
    truth = truth_of("MFI")
    turn = rotation_about(np.array([0.6, 0.0, 0.8]), 0.05)
    figures = judge(made_up(truth, turn=turn, stretch=1.003), truth)
    assert figures["orientation_error_deg"] == pytest.approx(0.05, rel=1e-6)
    assert figures["cell_edge_error_percent"] == pytest.approx(0.3, rel=1e-6)
    assert figures["cell_angle_error_deg"] < 1e-6

    reduction = made_up(truth)
    (lattice,) = reduction.lattices
    axis = rotation_about((0, 0, 1), 2.0) @ np.array(truth.geometry.axis)
    wrong_axis = replace(lattice, geometry=truth.geometry.with_(axis=tuple(axis)))
    figures = judge(replace(reduction, lattices=(wrong_axis,)), truth)
    assert figures["axis_error_deg"] == pytest.approx(2.0, abs=1e-6)
    # at angle phi the crystal is off by 2 * 2 * sin(phi / 2) degrees: 0.2 to 0.7 at -10 to 20
    assert 0.2 < figures["orientation_error_deg"] < 0.7


def test_wrong_lattices_are_not_found():
    truth = truth_of("MFI")
    doubled = made_up(truth, transform=np.diag([2, 1, 1]))
    mirrored = made_up(truth, turn=np.diag([1.0, 1.0, -1.0]))
    turned = made_up(truth, turn=rotation_about((0, 0, 1), 25.0))
    for wrong in (doubled, mirrored, turned):
        figures = judge(wrong, truth)
        assert (figures["found"], figures["lattices_false"]) == (0, 1)
        assert np.isnan(figures["cc_f2"])
    nothing = judge(replace(made_up(truth), lattices=()), truth)
    assert (nothing["found"], nothing["lattices_claimed"]) == (0, 0)
    assert match_lattice(made_up(truth).lattices[0], truth.lattices[0]) is not None


def test_two_lattices_are_judged_apart():
    truth = truth_of("MFI", "MOR")
    both = made_up(truth)
    both = replace(both, lattices=(made_up(truth, 1, bravais="oC").lattices[0], *both.lattices))
    for which in (0, 1):
        figures = judge(both, truth, which)
        assert (figures["found"], figures["lattices_claimed"]) == (1, 2)
        assert figures["lattices_false"] == 0
        assert figures["cc_f2"] == pytest.approx(1, abs=1e-6)


def test_honest_noise_has_a_chi_square_of_one():
    truth = truth_of("MFI")
    figures = judge(made_up(truth, noise=1.0), truth)
    n = figures["n_used"]
    assert figures["chi2_truth"] == pytest.approx(1, abs=5 * np.sqrt(2 / n))
    assert figures["chi2_equivalents"] == pytest.approx(1, abs=0.25)
    assert figures["cc_f2"] > 0.99
    tripled = judge(made_up(truth, noise=3.0), truth)
    assert tripled["chi2_truth"] == pytest.approx(9, rel=0.3)


def test_flagged_reflections_are_left_out():
    truth = truth_of("MFI")
    reduction = made_up(truth)
    (lattice,) = reduction.lattices
    r = lattice.reflections
    flags, intensity = r.flags.copy(), r.intensity.copy()
    strongest = np.argsort(r.intensity)[-10:]
    flags[strongest] = Flag.SATURATED
    intensity[strongest] /= 10
    flags[:5], intensity[:5] = Flag.MASKED, 1e9
    worse = replace(lattice, reflections=replace(r, flags=flags, intensity=intensity))
    figures = judge(replace(reduction, lattices=(worse,)), truth)
    assert figures["cc_f2"] == pytest.approx(1, abs=1e-6)
    assert figures["cc_f2_with_saturated"] < 0.95
    assert figures["n_saturated"] == 10
    assert figures["n_used"] == figures["n_matched"] - 15


def test_chi_square_by_hand():
    # 1 +- 1 and 3 +- 1 about 2: 2; 5 +- 2 twice: 0; a single one tells nothing: 2 / 2 freedoms
    value = chi2_equivalents(
        np.array([1.0, 3, 5, 5, 9]), np.array([1.0, 1, 2, 2, 1]), np.array([7, 7, 8, 8, 9])
    )
    assert value == pytest.approx(1.0)
    assert np.isnan(chi2_equivalents(np.ones(2), np.ones(2), np.array([1, 2])))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(-2, 2), min_size=9, max_size=9))
def test_any_basis_of_the_lattice_is_recognised(entries):
    v = np.reshape(entries, (3, 3))
    truth = truth_of("MFI")
    determinant = round(np.linalg.det(v))
    if determinant == 0:
        return
    try:
        found = made_up(truth, transform=v, bravais="aP").lattices[0]
    except ValueError:  # too flat a cell for its parameters to be told
        return
    match = match_lattice(found, truth.lattices[0])
    assert (match is not None) == (abs(determinant) == 1)
    if match is not None:
        np.testing.assert_array_equal(
            match.to_true_hkl(found.reflections.hkl),
            truth.lattices[0].reflections.hkl[~truth.lattices[0].reflections.grazing],
        )
