"""The XDS engine on a stand-in that the tests write."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from ewaldflow.lib.errors import UserError
from ewaldflow.lib.reduction.config import ReductionConfig
from ewaldflow.lib.reduction.engines.protocol import EngineRun
from ewaldflow.lib.reduction.engines.xds import Xds
from ewaldflow.lib.reduction.engines.xds_run import probe
from ewaldflow.lib.reduction.result import Flag, Reduction
from ewaldflow.lib.series import RotationSeries
from ewaldflow.lib.simulation.truth import Truth

FakeXds = Callable[..., Path]
Lp = Callable[..., str]
Simulated = tuple[RotationSeries, Truth]


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


@pytest.fixture
def few(simulated: Simulated) -> RotationSeries:
    """The first frames of the series, which are quicker to write."""
    return simulated[0].select(slice(0, 20))


def run(program: Path, series: RotationSeries, scratch: Path, **config: object) -> EngineRun:
    return Xds(program).reduce(series, ReductionConfig(**config), scratch)


def jobs(scratch: Path) -> list[str]:
    return (scratch / "jobs").read_text().splitlines()


# --- the results --------------------------------------------------------------------------


def test_its_results_are_read_into_our_types(
    fake_xds: FakeXds, simulated: Simulated, reduction: Reduction, scratch: Path
) -> None:
    series = simulated[0]
    done = run(fake_xds(), series, scratch)
    lattice, true = done.reduction.lattices[0], reduction.lattices[0]
    assert lattice.bravais == "oP"
    assert lattice.orientation == pytest.approx(true.orientation, abs=1e-6)
    assert lattice.geometry.axis == pytest.approx(true.geometry.axis, abs=2e-6)
    assert lattice.geometry.beam_centre_px == pytest.approx(true.geometry.beam_centre_px, abs=0.006)
    assert lattice.cell_esd[:3] == (0.022, 0.014, 0.022)
    assert (lattice.rms_px, lattice.rms_deg) == (0.93, 0.11)

    ours = lattice.reflections
    finite = np.isfinite(true.reflections.intensity) & (true.reflections.sigma > 0)
    theirs = true.reflections[finite]
    order = np.argsort(theirs.frame, kind="stable")
    assert len(ours) == len(theirs)
    assert ours.frame == pytest.approx(theirs.frame[order], abs=0.05)
    assert ours.angle_deg == pytest.approx(theirs.angle_deg[order], abs=0.02)
    by_index = {tuple(h): k for k, h in enumerate(theirs.hkl.tolist())}
    at = np.array([by_index[tuple(h)] for h in ours.hkl.tolist()])
    # XDS counts pixels as the detector does, with 2 counts an electron by INTEGRATE.LP
    scale = 1 / (2 * lattice.geometry.wavelength_A)
    assert ours.intensity == pytest.approx(theirs.intensity[at] * scale, rel=1e-4)
    assert ours.row == pytest.approx(theirs.row[at], abs=0.006)
    assert ours.column == pytest.approx(theirs.column[at], abs=0.006)
    assert np.isnan(ours.intensity_sum).all()
    assert done.reduction.gain == 2
    assert done.reduction.frames.scale[:2].tolist() == [0.714, 0.715]
    assert np.isnan(done.reduction.frames.scale[2:]).all()
    strong = done.reduction.spots
    assert strong is not None
    assert len(strong) == lattice.n_spots
    assert np.sum(strong.lattice == 1) == lattice.n_indexed
    # each stands where a reflection does
    nearest = [
        np.min(np.hypot(ours.row - row, ours.column - column))
        for row, column in zip(strong.row, strong.column, strict=True)
    ]
    assert np.quantile(nearest, 0.9) < 1.5
    spots = done.reduction.frames
    assert spots.n_spots.sum() == spots.n_indexed.sum() == lattice.n_spots > 100


def test_misfits_are_outliers_and_parts_are_partial(
    fake_xds: FakeXds, few: RotationSeries, scratch: Path, tmp_path: Path
) -> None:
    program = fake_xds()
    path = tmp_path / "outputs" / "XDS_ASCII.HKL"
    lines = path.read_text().splitlines()
    first = next(i for i, line in enumerate(lines) if not line.startswith("!"))
    words = lines[first].split()
    words[4], words[9] = "-" + words[4], "40"
    lines[first] = " ".join(words)
    path.write_text("\n".join(lines) + "\n")
    r = run(program, few, scratch).reduction.lattices[0].reflections
    odd = r[r.has(Flag.OUTLIER)]
    assert odd.hkl.tolist() == [[int(word) for word in words[:3]]]
    assert odd.partiality.tolist() == [0.4]
    assert odd.has(Flag.PARTIAL).all()
    assert odd.sigma > 0


def test_its_logs_are_named_and_its_version(
    fake_xds: FakeXds, few: RotationSeries, scratch: Path
) -> None:
    done = run(fake_xds(), few, scratch)
    assert done.version == "XDS Jun 30, 2024  BUILT=20241002"
    names = {path.name for path in done.logs}
    assert {"XDS.INP", "IDXREF.LP", "INTEGRATE.LP", "CORRECT.LP", "xds_01.log"} <= names
    assert all(path.parent == scratch for path in done.logs)
    assert "IDXREF" in (scratch / "xds_01.log").read_text()


# --- what it tries ------------------------------------------------------------------------


def test_a_good_series_is_run_in_two_steps(
    fake_xds: FakeXds, few: RotationSeries, scratch: Path
) -> None:
    done = run(fake_xds(), few, scratch)
    assert jobs(scratch) == ["XYCORR INIT COLSPOT IDXREF", "DEFPIX INTEGRATE CORRECT"]
    assert [one.outcome for one in done.tries] == ["90 % of 100 spots indexed", "done"]


def test_a_wrong_axis_sign_is_found(
    fake_xds: FakeXds, few: RotationSeries, scratch: Path, make_idxref_lp: Lp
) -> None:
    x = f"{-few.geometry.axis[0]:.5f}"[:5]
    program = fake_xds(
        {
            f"^ROTATION_AXIS= {x}": make_idxref_lp(160, 200),
            "": make_idxref_lp(60, 200, error="INSUFFICIENT PERCENTAGE (< 50%)"),
        }
    )
    done = run(program, few, scratch)
    assert done.tries[-2].what == "IDXREF with the axis reversed"
    assert done.tries[-2].outcome == "80 % of 200 spots indexed"
    assert done.tries[0].outcome == "30 % of 200 spots indexed; INSUFFICIENT PERCENTAGE (< 50%)"
    assert (scratch / "try_01_IDXREF.LP").exists()
    # what was only tried is not in the input of the last step
    last = (scratch / "XDS.INP").read_text()
    assert f"ROTATION_AXIS= {x}" in last
    assert "MINIMUM_NUMBER_OF_PIXELS_IN_A_SPOT= 6" in last


def test_the_axis_is_not_reversed_where_that_is_not_wanted(
    fake_xds: FakeXds, few: RotationSeries, scratch: Path, make_idxref_lp: Lp
) -> None:
    done = run(fake_xds({"": make_idxref_lp(10, 200)}), few, scratch, try_reversed_axis=False)
    assert all("axis" not in one.what for one in done.tries)


def test_the_best_of_all_tries_is_taken(
    fake_xds: FakeXds, few: RotationSeries, scratch: Path, make_idxref_lp: Lp
) -> None:
    half = r"^SPOT_RANGE= 11 20"
    program = fake_xds({half: make_idxref_lp(60, 150), "": make_idxref_lp(20, 300)})
    done = run(program, few, scratch)
    assert done.reduction.lattices
    assert "SPOT_RANGE= 11 20" in (scratch / "XDS.INP").read_text()
    assert "60 OUT OF" in " ".join((scratch / "IDXREF.LP").read_text().split())


def test_no_lattice_is_told_with_all_that_was_tried(
    fake_xds: FakeXds, few: RotationSeries, scratch: Path, make_idxref_lp: Lp
) -> None:
    text = make_idxref_lp(5, 50, error="CANNOT CONTINUE WITH A TWO-DIMENSIONAL LATTICE")
    done = run(fake_xds({"": text}), few, scratch)
    assert done.reduction.lattices == ()
    assert done.reduction.verdict == (
        "XDS found no lattice: at most 10 % of 50 spots lie on one lattice; "
        "CANNOT CONTINUE WITH A TWO-DIMENSIONAL LATTICE"
    )
    assert done.tries[1].what == "IDXREF with weaker spots"
    assert len(done.tries) <= 10
    again = run(fake_xds({"": text}), few, scratch.parent / "programs")
    assert again.tries == done.tries


def test_a_known_cell_gives_the_setting(
    fake_xds: FakeXds, few: RotationSeries, scratch: Path, make_idxref_lp: Lp
) -> None:
    done = run(fake_xds(), few, scratch, cell=(12.1, 10.0, 14.0, 90, 90, 90))
    assert done.tries[1].what == "IDXREF with the known cell, oP"
    last = (scratch / "XDS.INP").read_text()
    assert "SPACE_GROUP_NUMBER= 16" in last
    assert "UNIT_CELL_CONSTANTS= 12.1 10 14 90 90 90" in last


def test_another_cell_than_the_known_one_is_told(
    fake_xds: FakeXds, few: RotationSeries, scratch: Path
) -> None:
    done = run(fake_xds(), few, scratch, cell=(31, 10, 14, 90, 90, 90))
    assert "another one" in done.tries[1].outcome


def test_a_size_of_spots_is_given_where_none_is_found(
    fake_xds: FakeXds, few: RotationSeries, scratch: Path
) -> None:
    broken = """
  if [ $step = INTEGRATE ] && ! grep -q REFLECTING_RANGE= XDS.INP; then
    echo ' !!! ERROR !!! AUTOMATIC DETERMINATION OF SPOT SIZE PARAMETERS HAS FAILED'
    exit 0
  fi
"""
    done = run(fake_xds(before=broken), few, scratch)
    assert done.reduction.lattices
    assert "HAS FAILED" in done.tries[-2].outcome
    assert done.tries[-1].what == "INTEGRATE with a given size of spots"


def test_a_users_own_input_is_run(
    fake_xds: FakeXds, few: RotationSeries, scratch: Path, tmp_path: Path, make_idxref_lp: Lp
) -> None:
    mine = tmp_path / "XDS.INP"
    mine.write_bytes(b"JOB= ALL ! M\xf6ller\r\nDATA_RANGE= 1\r\nNX= a\r\nSIGNAL_PIXEL= 4\r\n")
    program = fake_xds({"": make_idxref_lp(20, 300)})
    done = Xds(program, user_input=mine).reduce(few, ReductionConfig(), scratch)
    assert len(done.tries) > 3  # odd values in it stop nothing of ours
    told = (scratch / "XDS.INP").read_bytes()
    assert told.startswith(
        b"JOB= IDXREF ! M\xf6ller\r\nDATA_RANGE= 1\r\nNX= 516\r\nSIGNAL_PIXEL= 4"
    )
    assert done.reduction.notes[0] == f"XDS.INP is the user's own, {mine}"
    assert mine.read_bytes().startswith(b"JOB= ALL")


# --- what can go wrong --------------------------------------------------------------------


@pytest.mark.parametrize("step", ["INIT", "IDXREF", "INTEGRATE", "CORRECT"])
@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("kill -SEGV $$", "crashed with signal 11"),
        ("exec sleep 1000", "time limit"),
        ("exec yes", "without end|time limit"),
        ("exec dd if=/dev/zero of=x bs=1M count=1000000", "without end|time limit"),
    ],
)
def test_a_run_that_dies_leaves_a_verdict(
    fake_xds: FakeXds, few: RotationSeries, scratch: Path, step: str, fault: str, said: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    from ewaldflow.lib.reduction.engines import programs

    monkeypatch.setitem(programs.run_program.__kwdefaults__, "log_bytes", 10**6)
    monkeypatch.setitem(programs.run_program.__kwdefaults__, "file_bytes", 10**7)
    program = fake_xds(before=f"  if [ $step = {step} ]; then {fault}; fi")
    done = Xds(program).reduce(few, ReductionConfig(), scratch, limit_s=1.5)
    assert done.reduction.lattices == ()
    assert any(part in done.reduction.verdict for part in said.split("|"))
    assert (scratch / "xds_01.log") in done.logs


def test_a_licence_that_expires_is_named(
    fake_xds: FakeXds, few: RotationSeries, scratch: Path
) -> None:
    program = fake_xds(before="  echo ' Your license has expired on 31-Aug-2025'; exit 0")
    done = run(program, few, scratch)
    assert "license has expired on 31-Aug-2025" in done.reduction.verdict


@pytest.mark.parametrize("name", ["CORRECT.LP", "XDS_ASCII.HKL", "INTEGRATE.LP", "SPOT.XDS"])
@pytest.mark.parametrize("keep", [0, 40, 300])
def test_a_cut_file_is_told_not_believed(
    fake_xds: FakeXds, few: RotationSeries, scratch: Path, tmp_path: Path, name: str, keep: int
) -> None:
    program = fake_xds()
    path = tmp_path / "outputs" / name
    path.write_bytes(path.read_bytes()[:keep])
    done = run(program, few, scratch)
    if name == "XDS_ASCII.HKL" or keep == 0:
        assert done.reduction.lattices == ()
        assert done.reduction.verdict.startswith("XDS ")


def test_a_cut_idxref_is_told(
    fake_xds: FakeXds, few: RotationSeries, scratch: Path, make_idxref_lp: Lp
) -> None:
    done = run(fake_xds({"": make_idxref_lp(90, 100, cut=True)}), few, scratch)
    assert "cut at line" in done.tries[0].outcome


def test_blank_frames_are_excluded(fake_xds: FakeXds, few: RotationSeries, scratch: Path) -> None:
    frames = few.frames.compute()
    frames[4:6] = 0
    import dask.array as da

    done = run(fake_xds(), few.with_(frames=da.from_array(frames)), scratch)
    assert "EXCLUDE_DATA_RANGE= 5 6" in (scratch / "XDS.INP").read_text()
    assert np.flatnonzero(done.reduction.frames.blank).tolist() == [4, 5]
    assert not (scratch / "data" / "00005.img").exists()


def test_a_series_of_blank_frames_is_a_user_error(
    fake_xds: FakeXds, few: RotationSeries, scratch: Path
) -> None:
    with pytest.raises(UserError, match="at least 4"):
        run(fake_xds(), few.with_(frames=few.frames * 0), scratch)


def test_a_missing_program_is_a_user_error(few: RotationSeries, scratch: Path) -> None:
    with pytest.raises(UserError, match="is not there"):
        run(Path("/no/such/xds_par"), few, scratch)


# --- whether it can run -------------------------------------------------------------------


def test_a_licensed_xds_is_available(fake_xds: FakeXds) -> None:
    assert Xds(fake_xds()).available() is None


def test_a_licence_is_read_from_what_it_prints(fake_xds: FakeXds) -> None:
    program = fake_xds(banner=" ***** XDS ***** (VERSION Jun 30, 2024  BUILT=20241002)\n"
                              " Copy licensed until 31-Aug-2025 to\n")  # fmt: skip
    assert probe(program, today=date(2025, 8, 31)) is None
    assert probe(program, today=date(2025, 9, 1)) == (
        "its licence has expired: licensed until 31-Aug-2025"
    )


def test_what_says_that_it_has_expired_has(fake_xds: FakeXds) -> None:
    why = Xds(fake_xds(banner="!!! ERROR !!! XDS license expired\n")).available()
    assert why == "its licence has expired: !!! ERROR !!! XDS license expired"


def test_what_is_not_xds_is_not_taken_for_it(script: Callable[..., Path]) -> None:
    why = Xds(script("xds_par", "echo command not licensed")).available()
    assert why == "xds_par does not present itself as XDS: command not licensed"


def test_what_hangs_is_not_available(script: Callable[..., Path]) -> None:
    began = time.monotonic()
    why = Xds(script("xds_par", "sleep 1000"), probe_s=0.5).available()
    assert why is not None
    assert "time limit" in why
    assert time.monotonic() - began < 20


def test_what_crashes_is_not_available(script: Callable[..., Path]) -> None:
    why = Xds(script("xds_par", "kill -SEGV $$")).available()
    assert why == "xds_par crashed with signal 11"


def test_what_is_absent_or_no_program_is_not_available(tmp_path: Path) -> None:
    assert Xds("no-such-xds").available() == "no-such-xds is not on the PATH"
    path = tmp_path / "xds_par"
    assert Xds(path).available() == f"{path} is not there"
    path.write_text("")
    assert Xds(path).available() == f"{path} cannot be executed"
