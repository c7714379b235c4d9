"""That a missed bar is told, and that a benchmark that cannot measure says so."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import reduction_real
import reduction_simulated
import reduction_vs_dials
from _table import SKIPPED, Table, run_measured, work_folder
from reduction_simulated import Judged, Overlaps


def test_bars_from_below_and_above(capsys):
    table = Table("figures")
    table.check("enough", 0.99, at_least=0.99)
    table.check("little enough", 4.0, at_most=4)
    table.check("between", 1.0, at_least=0.8, at_most=1.3)
    table.tell("no bar", "anything")
    assert table.missed == []
    assert table.show() == 0
    table.check("too little", 0.98, at_least=0.99)
    table.check("too much", 1.31, at_least=0.8, at_most=1.3)
    table.check("unknown", float("nan"), at_most=1)
    table.fail("crashed", "exit code 1")
    assert [words.split(":")[0] for words in table.missed] == [
        "too little",
        "too much",
        "unknown",
        "crashed",
    ]
    assert table.show() == 1
    assert "3 of 7 bars reached" in capsys.readouterr().out


def test_a_figure_to_check_needs_a_bar():
    with pytest.raises(ValueError, match="found no bar"):
        Table("figures").check("speed", 1.0)


def test_absent_real_data_are_told_and_are_no_failure(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["reduction_real.py", "--data", str(tmp_path)])
    assert reduction_real.main() == SKIPPED
    assert f"not below {tmp_path}" in capsys.readouterr().out


def test_without_dials_it_says_how_to_install_it(monkeypatch, capsys):
    monkeypatch.setattr(reduction_vs_dials, "installed", lambda: False)
    monkeypatch.setattr(sys, "argv", ["reduction_vs_dials.py"])
    assert reduction_vs_dials.main() == SKIPPED
    assert "apt-get install" in capsys.readouterr().out


def test_intermediate_files_are_kept_only_where_asked(tmp_path):
    with work_folder(None) as folder:
        assert folder.is_dir()
    assert not folder.exists()
    with work_folder(tmp_path / "kept") as folder:
        (folder / "file").touch()
    assert (tmp_path / "kept" / "file").exists()


def test_a_process_is_measured_with_its_children(tmp_path):
    burn = "import time\nwhile time.process_time() < 0.3: pass\nb = bytearray(200_000_000)"
    command = f"{sys.executable} -c '{burn}'; echo done; exit 3"
    ran = run_measured(["sh", "-c", command], tmp_path, tmp_path / "log")
    assert ran.code == 3
    assert 0.3 < ran.cpu_s < 3
    assert 200 < ran.memory_MB < 400
    assert ran.output == "done\n"


def lysozyme(cell, indexed=0.96):
    lattice = SimpleNamespace(cell=cell)
    return SimpleNamespace(lattices=(lattice,), statistics={"indexed_fraction": indexed})


def test_lysozyme_may_have_its_axes_in_any_order():
    table = Table("lysozyme")
    for cell in ((79, 79, 38, 90, 90, 90), (37.2, 77.5, 80.5, 90, 90, 90)):
        reduction_real.judge_real(table, "lysozyme", lysozyme(cell), None)
    assert table.missed == []
    reduction_real.judge_real(table, "lysozyme", lysozyme((79, 79, 39.5, 90, 90, 90)), None)
    assert len(table.missed) == 1
    reduction_real.judge_real(table, "lysozyme", lysozyme((79, 79, 38, 90, 90, 90), 0.94), None)
    assert len(table.missed) == 2


def test_no_lattice_is_a_missed_bar():
    table = Table("garnet")
    nothing = SimpleNamespace(lattices=(), verdict="no lattice: 5 spots")
    reduction_real.judge_real(table, "garnet", nothing, None)
    assert table.missed == ["garnet: a lattice: no lattice: 5 spots, not a result"]


GOOD = {
    "found": 1.0,
    "lattices_claimed": 1.0,
    "cell_edge_error_percent": 0.2,
    "cell_angle_error_deg": 0.1,
    "orientation_error_deg": 0.02,
    "cc_f2": 0.999,
    "saturated_missed": 0.0,
    "chi2_equivalents": 1.0,
}


def sets(**changes):
    return [Judged("first", (GOOD,)), Judged("second", (GOOD | changes,))]


@pytest.mark.parametrize(
    ("changes", "n_missed"),
    [
        ({}, 0),
        ({"found": 0.0, "cc_f2": float("nan")}, 1),
        ({"cell_edge_error_percent": 0.51}, 1),
        ({"orientation_error_deg": 0.08, "cc_f2": 0.98}, 2),
        ({"saturated_missed": 1.0}, 1),
        ({"chi2_equivalents": 1.4}, 1),
        ({"chi2_equivalents": float("nan")}, 0),  # no equivalents were recorded
    ],
)
def test_the_worst_standard_set_counts(changes, n_missed):
    table = Table("standard")
    reduction_simulated.standard(table, sets(**changes))
    assert len(table.missed) == n_missed


def test_a_set_that_ended_in_an_error_is_not_indexed():
    table = Table("standard")
    reduction_simulated.standard(table, [*sets(), Judged("third", (), verdict="too few frames")])
    assert len(table.missed) == 1
    reduction_simulated.stressed(table, Judged("x", (), verdict="too few frames"), "5 deg only")
    assert "5 deg only: too few frames, not a result" in table.missed


@pytest.mark.parametrize(("claimed", "n_missed"), [(0.0, 0), (1.0, 1)])
def test_noise_must_not_be_given_a_cell(claimed, n_missed):
    table = Table("stress")
    one = Judged("noise only", ({"lattices_claimed": claimed},))
    reduction_simulated.stressed(table, one, "noise only")
    assert len(table.missed) == n_missed


@pytest.mark.parametrize(
    ("found", "overlaps", "n_missed"),
    [((1.0, 1.0), (100, 90, 0), 0), ((1.0, 0.0), (100, 100, 0), 1), ((1.0, 1.0), (100, 89, 9), 1),
     ((1.0, 1.0), (), 1)],
)  # fmt: skip
def test_both_lattices_and_their_overlaps_count(found, overlaps, n_missed):
    table = Table("two")
    figures = tuple({"found": one, "cc_f2": 0.99} for one in found)
    reduction_simulated.stressed(
        table, Judged("two", figures, Overlaps(*overlaps)), "two lattices 60:40"
    )
    assert len(table.missed) == n_missed


def test_every_stress_has_a_bar_or_is_told():
    table = Table("stress")
    figures = GOOD | {"lattices_claimed": 0.0}
    for stress in reduction_simulated.STRESSES:
        reduction_simulated.stressed(
            table, Judged(stress, (figures, figures), Overlaps(9, 9)), stress
        )
    assert table.missed == []
    told = {row[0].split(":")[0] for row in table.rows}
    assert all(stress.split(":")[0] in told for stress in reduction_simulated.STRESSES)


def test_dials_sets_the_bar():
    table = Table("contest")
    theirs = SimpleNamespace(why="", help="", tables={"n_indexed": 90, "n_spots": 100})
    ours = SimpleNamespace(reduction=SimpleNamespace(statistics={"indexed_fraction": 0.99}))
    contest = SimpleNamespace(name="MFI 10", ours=ours, theirs=theirs)
    reduction_vs_dials.indexed(table, contest, 1.0, 1.0)
    reduction_vs_dials.indexed(table, contest, 0.0, 0.0)
    assert table.missed == []
    reduction_vs_dials.indexed(table, contest, 0.0, 1.0)
    assert len(table.missed) == 1


def test_cpu_is_compared_as_a_ratio():
    table = Table("contest")
    theirs = SimpleNamespace(why="", cpu_s=30.0, seconds={"index": 20.0})
    for cpu in (2.9, 3.1):
        ran = SimpleNamespace(cpu_s=cpu)
        contest = SimpleNamespace(name="x", ours=SimpleNamespace(ran=ran), theirs=theirs)
        reduction_vs_dials.cost(table, contest)
    assert len(table.missed) == 1


def test_a_lattice_is_the_samples_in_any_setting():
    hints = reduction_vs_dials.HINTS["garnet"]  # I-centred cubic, 12 Å
    edge = 12.06 * np.sqrt(3) / 2
    assert hints.fit((edge, edge, edge, 109.471, 109.471, 109.471), "P")
    assert hints.fit((12.1, 12.1, 12.1, 90, 90, 90), "I")
    assert not hints.fit((12.1, 12.1, 12.1, 90, 90, 90), "P")
    assert not hints.fit((14.0, 12.1, 12.1, 90, 90, 90), "I")
