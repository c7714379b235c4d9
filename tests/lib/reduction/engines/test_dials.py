"""What DIALS leaves, read without DIALS, and what it is given."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ewaldflow.lib.errors import UserError
from ewaldflow.lib.formats import SeriesOverrides, read_series
from ewaldflow.lib.geometry import rotation_about, to_dials_frame
from ewaldflow.lib.reduction.config import ReductionConfig
from ewaldflow.lib.reduction.engines.dials import Dials
from ewaldflow.lib.reduction.engines.dials_reduce import _turned, _write_frames
from ewaldflow.lib.reduction.engines.dials_result import (
    best_setting,
    indexed_part,
    read_dials,
    reversed_axis,
    settings_found,
)
from ewaldflow.lib.reduction.result import Flag, Reduction
from ewaldflow.lib.series import RotationSeries
from ewaldflow.lib.simulation.truth import Truth

Simulated = tuple[RotationSeries, Truth]
TILT = rotation_about(np.array([0.6, 0.0, 0.8]), 0.4)  # of the whole experiment


def experiment(series: RotationSeries, reduction: Reduction, width: float) -> dict[str, Any]:
    """The faultless reduction in the terms of DIALS, and turned a little as DIALS may leave it."""
    lattice, g = reduction.lattices[0], reduction.lattices[0].geometry

    def theirs(vector: Any) -> list[float]:
        return (TILT @ to_dials_frame(vector)).tolist()

    row, column = g.beam_centre_px
    pixel = g.pixel_size_mm
    real = np.linalg.inv(lattice.orientation)
    return {
        "beam": [{"direction": theirs([0, 0, -1]), "wavelength": g.wavelength_A}],
        "detector": [
            {
                "panels": [
                    {
                        "fast_axis": theirs([1, 0, 0]),
                        "slow_axis": theirs([0, 1, 0]),
                        "origin": theirs(
                            [-(column + 0.5) * pixel, -(row + 0.5) * pixel, g.distance_mm]
                        ),
                        "pixel_size": [pixel, pixel],
                    }
                ]
            }
        ],
        "goniometer": [{"rotation_axis": theirs(np.sign(width) * np.array(g.axis))}],
        "crystal": [
            {
                **{f"real_space_{a}": theirs(real[i]) for i, a in enumerate("abc")},
                "space_group_hall_symbol": " P 2 2",
            }
        ],
    }


def write_results(folder: Path, series: RotationSeries, reduction: Reduction) -> None:
    lattice = reduction.lattices[0]
    r = lattice.reflections
    n = len(r)
    width = float(series.angle_width_deg[0])
    (folder / "integrated.expt").write_text(json.dumps(experiment(series, reduction, width)))
    z = r.frame + series.frame_number[0] - 0.5  # without gaps
    xyz = np.stack([r.column + 0.5, r.row + 0.5, z], axis=1)
    raw = r.intensity
    np.savez(
        folder / "tables.npz",
        cell_esd=np.array([0.1, 0.2, 0.3, 0.0, 0.0, 0.0]),
        profile_esd_deg=np.array([0.25]),
        spot_px=xyz[:50],
        spot_intensity=np.full(50, 80.0),
        spot_variance=np.full(50, 100.0),
        spot_indexed=np.arange(50) < 40,
        residual_px=np.full((40, 2), 0.5),
        residual_rad=np.full(40, np.deg2rad(0.1)),
        hkl=r.hkl,
        xyz_px=xyz,
        observed_px=xyz,
        phi_rad=np.deg2rad(np.sign(width) * r.angle_deg),
        first_z=np.floor(z - 1.5).astype(int),
        stop_z=np.ceil(z + 1.5).astype(int),
        background=np.full(n, 2.0),
        partiality=np.full(n, 0.997),
        overloaded=np.arange(n) == 1,
        masked=np.arange(n) == 2,
        overlapped=np.arange(n) == 3,
        no_background=np.arange(n) == 4,
        sum_intensity=raw + 1,
        sum_variance=np.full(n, 16.0),
        prf_intensity=np.where(np.arange(n) == 5, np.nan, raw),
        prf_variance=np.full(n, 9.0),
    )


@pytest.mark.parametrize("backwards", [False, True])
def test_its_results_are_read_into_our_frame(
    simulated: Simulated, reduction: Reduction, tmp_path: Path, backwards: bool
) -> None:
    series, true = simulated[0], reduction.lattices[0]
    if backwards:  # the same turn, counted the other way about the opposite axis
        geometry = series.geometry.with_(axis=tuple(-v for v in series.geometry.axis))
        series = series.with_(
            angle_start_deg=-series.angle_start_deg, angle_width_deg=-series.angle_width_deg,
            geometry=geometry,
        )  # fmt: skip
    written = simulated[0]
    write_results(tmp_path, written, reduction)
    found = read_dials(tmp_path, series)
    lattice = found.lattice
    spots, first = found.spots, true.reflections[:50]
    assert spots.row == pytest.approx(first.row)
    assert spots.column == pytest.approx(first.column)
    assert spots.frame == pytest.approx(first.frame, abs=1e-6)
    assert spots.significance.tolist() == [8.0] * 50  # 80 and a variance of 100
    assert spots.lattice.tolist() == [1] * 40 + [0] * 10
    sign = -1 if backwards else 1
    assert lattice.orientation == pytest.approx(true.orientation, abs=1e-9)
    assert lattice.geometry.axis == pytest.approx(
        tuple(sign * v for v in true.geometry.axis), abs=1e-9
    )
    assert lattice.geometry.beam_centre_px == pytest.approx(true.geometry.beam_centre_px)
    assert lattice.geometry.distance_mm == pytest.approx(true.geometry.distance_mm)
    assert lattice.bravais == "oP"
    assert lattice.cell_esd[:3] == (0.1, 0.2, 0.3)
    assert (lattice.rms_px, lattice.rms_deg) == pytest.approx((0.5, 0.1))

    order = np.argsort(true.reflections.frame, kind="stable")
    r, t = lattice.reflections, true.reflections[order]
    assert r.hkl.tolist() == t.hkl.tolist()
    assert r.frame == pytest.approx(t.frame, abs=1e-6)
    assert r.row == pytest.approx(t.row)
    assert r.column == pytest.approx(t.column)
    assert r.angle_deg == pytest.approx(sign * t.angle_deg)


def test_intensities_times_the_lorentz_factor_are_those_recorded(
    simulated: Simulated, reduction: Reduction, tmp_path: Path
) -> None:
    series, true = simulated[0], reduction.lattices[0].reflections
    write_results(tmp_path, series, reduction)
    found = read_dials(tmp_path, series)
    r = found.lattice.reflections
    order = np.argsort(true.frame, kind="stable")
    profile = np.isfinite(r.intensity)
    assert (r.intensity * r.lorentz)[profile] == pytest.approx(true.intensity[order][profile])
    assert (r.sigma * r.lorentz)[profile] == pytest.approx(3.0)
    assert r.intensity_sum * r.lorentz == pytest.approx((true.intensity[order] + 1) / 0.997)
    for number, flag in enumerate(
        (Flag.SATURATED, Flag.MASKED, Flag.OVERLAP, Flag.BACKGROUND, Flag.PROFILE_FAILED), 1
    ):
        assert r.hkl[r.has(flag)].tolist() == [true.hkl[number].tolist()]
    assert found.frames.n_spots.sum() == 50
    assert found.frames.n_indexed.sum() == 40


def test_what_lies_on_missing_frames_is_partial(
    simulated: Simulated, reduction: Reduction, tmp_path: Path
) -> None:
    series = simulated[0]
    write_results(tmp_path, series, reduction)
    blank = np.zeros(len(series), bool)
    blank[30] = True
    r = read_dials(tmp_path, series, blank).lattice.reflections
    # boxes of 4 frames: sigma 2/3, so a frame centred on the peak holds erf(3/4/sqrt(2)) = 0.5467
    centred = np.abs(r.frame - 30) < 0.02
    assert centred.any()
    assert r.partiality[centred] == pytest.approx(0.997 * (1 - 0.5467), abs=0.06)
    assert r.has(Flag.PARTIAL)[centred].all()
    far = np.abs(r.frame - 30) > 4
    assert r.partiality[far] == pytest.approx(0.997)
    assert not r.has(Flag.PARTIAL)[far].any()
    # the profile fit took zeros for counts: by summation
    assert r.intensity[centred] == pytest.approx(r.intensity_sum[centred])


def test_missing_frames_are_written_blank_and_in_their_places(
    simulated: Simulated, tmp_path: Path
) -> None:
    series = simulated[0].select(np.array([0, 1, 4, 5]))
    notes = _write_frames(series, tmp_path)
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == [
        f"0000{number}.img" for number in range(1, 7)
    ]
    assert any(note.startswith("2 frames that do not exist") for note in notes)
    axis = SeriesOverrides(rotation_axis=series.geometry.axis)
    back = read_series(tmp_path / "data", name="back", overrides=axis)
    assert back.angle_start_deg == pytest.approx(simulated[0].angle_start_deg[:6], abs=1e-5)
    frames = back.frames.compute()
    assert not frames[2:4].any()
    assert np.array_equal(frames[4], simulated[0].frames[4].compute())
    script = (tmp_path / "dials_import.sh").read_text()
    assert script.count("dials.import") == 1
    assert "$(seq -f data/%05g.img 1 6)" in script


def test_a_header_is_turned_by_steps() -> None:
    header = "{\nHEADER_BYTES=512;\nPHI=1.000000;\nOSC_START=1.000000;\nOSC_RANGE=0.250000;\n}\n"
    later = _turned(header.ljust(512), 3)
    assert len(later) == 512
    assert "PHI=1.750000;\nOSC_START=1.750000;\nOSC_RANGE=0.250000;" in later


def test_the_indexed_part_is_that_of_the_last_table() -> None:
    text = "|  0 | 10 | 90 | 10.0%  |\nmore\n|       0 |     579 |     125 | 82.2%       |"
    assert indexed_part(text) == pytest.approx(0.822)
    assert indexed_part("no lattice") == 0


def test_bravais_settings_come_highest_first(tmp_path: Path) -> None:
    row = {
        "bravais": "oC", "unit_cell": [18, 20.5, 7.5, 90, 90, 90], "max_angular_difference": 0.6,
        "rmsd": 0.04, "recommended": True, "cb_op": "b-c,b+c,a",
    }  # fmt: skip
    (tmp_path / "bravais_summary.json").write_text(
        json.dumps({"1": row | {"bravais": "aP"}, "10": row, "2": row | {"bravais": "mC"}})
    )
    found = settings_found(tmp_path)
    assert [one.number for one in found] == [10, 2, 1]
    assert found[0].fits((18.2, 20.4, 7.55, 90, 90, 90))
    assert not found[0].fits((20.4, 18.2, 7.55, 90, 90, 90))
    assert settings_found(tmp_path / "none") == ()


def test_a_lattice_that_intensities_contradict_is_not_taken(tmp_path: Path) -> None:
    """As DIALS 3.12 had it on simulated ZSM-5, a 20.1, b 19.7 Å: it recommended tP."""
    row = {
        "unit_cell": [20, 20, 13, 90, 90, 90], "max_angular_difference": 1.1, "rmsd": 0.04,
        "recommended": True, "cb_op": "a,b,c",
    }  # fmt: skip
    rows: dict[str, Any] = {
        "9": row | {"bravais": "tP", "correlation_coefficients": [0.96, 0.0, 0.04, 0.88],
                    "cc_nrefs": [2092, 243, 243, 678]},
        "5": row | {"bravais": "oP", "correlation_coefficients": [0.96, 0.88, 0.81, 0.80],
                    "cc_nrefs": [2092, 678, 936, 540]},
        "1": row | {"bravais": "aP", "correlation_coefficients": [0.96], "cc_nrefs": [2092]},
    }  # fmt: skip
    path = tmp_path / "bravais_summary.json"
    path.write_text(json.dumps(rows))
    assert best_setting(settings_found(tmp_path)).bravais == "oP"
    rows["9"]["cc_nrefs"] = [2092, 9, 9, 678]  # too few pairs to tell
    path.write_text(json.dumps(rows))
    assert best_setting(settings_found(tmp_path)).bravais == "tP"
    for one in rows.values():
        one["recommended"] = False
    path.write_text(json.dumps(rows))
    assert best_setting(settings_found(tmp_path)).bravais == "aP"


def test_the_axis_is_reversed_in_a_copy(tmp_path: Path) -> None:
    told = {"goniometer": [{"rotation_axis": [0.6, -0.8, 0.0]}], "beam": [1]}
    (tmp_path / "imported.expt").write_text(json.dumps(told))
    name = reversed_axis(tmp_path)
    assert json.loads((tmp_path / name).read_text()) == {
        "goniometer": [{"rotation_axis": [-0.6, 0.8, -0.0]}], "beam": [1],
    }  # fmt: skip
    assert json.loads((tmp_path / "imported.expt").read_text()) == told


def test_a_step_that_fails_leaves_a_verdict(
    script: Callable[..., Path], simulated: Simulated, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    for name in ("import", "generate_mask", "apply_mask"):
        script(f"dials.{name}", "touch imported.expt")
    script("dials.version", "echo 'DIALS 3.99'")
    script("dials.find_spots", "touch strong.refl")
    script("dials.index", "echo 'Sorry: No suitable lattice could be found.'; exit 1")
    script("dials.integrate", "exit 1")
    monkeypatch.setenv("PATH", f"{tmp_path / 'programs'}:/usr/bin:/bin")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    (scratch / "imported.expt").write_text('{"goniometer": []}')
    run = Dials().reduce(
        simulated[0].select(slice(0, 8)), ReductionConfig(cell=(20, 20, 13, 90, 90, 90)), scratch
    )
    assert run.version == "DIALS 3.99"
    assert run.reduction.lattices == ()
    assert run.reduction.verdict == (
        "DIALS found no lattice: at most 0.0 % of the spots lie on one lattice"
    )
    assert [one.what for one in run.tries] == [
        "index", "index with the known cell", "index by 1D Fourier transforms",
        "index with the axis reversed",
    ]  # fmt: skip
    assert all("No suitable lattice" in one.outcome for one in run.tries)
    assert len(run.logs) == 7


def test_without_dials_it_is_a_user_error(
    simulated: Simulated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UserError, match=r"dials\.import is not on the PATH"):
        Dials().reduce(simulated[0], ReductionConfig(), tmp_path)
