"""Pages of orientations, of series with and without a study."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from matplotlib.figure import Figure

from ewaldflow.lib.geometry import Geometry, rotation_about
from ewaldflow.lib.orientation.goniometer import study_goniometer
from ewaldflow.lib.orientation.lomb_scargle import NO_WAVE
from ewaldflow.lib.orientation.observations import FrameOrientations, OrientationData
from ewaldflow.lib.orientation.series import OrientedLattice, OrientedSeries, Precision
from ewaldflow.lib.report import orientation_figures as figures
from ewaldflow.lib.report.goniometer_page import Visit, goniometer_page
from ewaldflow.lib.report.orientation_page import wave_text


def made(seed: int = 1, jitter: float = 0.02) -> OrientedSeries:
    """A series of 120 frames, two of them not used."""
    rng = np.random.default_rng(seed)
    n = 120
    angle = 0.2 * np.arange(n)
    geometry = Geometry(0.0251, 0.055, 400.0, (250.0, 250.0), (1.0, 0.0, 0.0))
    rotation = rotation_about(geometry.axis, angle)
    small = rng.normal(0, jitter, (n, 2))
    small[3] = np.nan
    covariance = np.tile(np.diag([1e-6, 2e-5]), (n, 1, 1))
    used = np.ones(n, bool)
    used[[3, 4]] = False
    data = OrientationData(
        "made-up", np.eye(3) * 0.1, np.eye(3) * 0.1, geometry, angle, np.full(n, 0.2), used,
        np.full(n, 250.0), np.full(n, 250.0), None,
    )  # fmt: skip
    found = FrameOrientations(
        "stage B", rotation, -rotation[:, 2] / 0.0251, np.nan_to_num(small), small, covariance,
        covariance, np.zeros(n), np.full(n, 0.01), np.ones(n), np.full(n, 20), np.ones(n),
        tuple("not <used>" if not u else "" for u in used), np.array([1.0, 0, 0]), 1.002,
        {"chi_square": 1.1}, ("a note",),
    )  # fmt: skip
    lattice = OrientedLattice(
        (10.0, 10.0, 10.0, 90.0, 90.0, 90.0), np.eye(3) * 0.1, geometry, angle, np.full(n, 0.2),
        used, found, None, (Precision("stage B", 0.01, 0.02, 0.005, 0.01),),
        study_goniometer(data, found), ("a note",),
    )  # fmt: skip
    return OrientedSeries("made-up", "twin", np.arange(n), (512, 512), (lattice,))


def test_every_figure_has_axes_with_units() -> None:
    lattice = made().lattices[0]
    study = lattice.study
    assert study is not None
    drawings: list[Figure] = [
        figures.deviations(lattice), figures.frame_quality(lattice),
        figures.step_histogram(study), figures.read_out_curves(study),
        figures.periodograms(study),
        figures.drift(["a", "b"], [[1, 2]], [[0.1, np.nan]], ["x / °"]),
    ]  # fmt: skip
    for drawing in drawings:
        labels = [axis.get_ylabel() for axis in drawing.axes]
        assert all(labels)
        assert any("°" in label for label in labels)
    assert figures.beam_path(lattice).axes


def test_a_frame_without_orientation_breaks_no_figure() -> None:
    lattice = made().lattices[0]
    found = lattice.found
    lost = replace(
        found,
        rotation=np.full_like(found.rotation, np.nan),
        centre=np.full_like(found.centre, np.nan),
        small_unshrunk_deg=np.full_like(found.small_unshrunk_deg, np.nan),
        covariance_deg2=np.full_like(found.covariance_deg2, np.nan),
        covariance_unshrunk_deg2=np.full_like(found.covariance_deg2, np.nan),
    )
    for draw in (figures.deviations, figures.frame_quality):
        assert draw(replace(lattice, found=lost)).axes


def test_waves_are_told_with_their_chance() -> None:
    study = made().lattices[0].study
    assert study is not None
    assert "no more than chance" in wave_text(replace(study.in_plane.best, p_value=0.4))
    assert "chance" not in wave_text(replace(study.in_plane.best, p_value=0.01))
    assert wave_text(NO_WAVE) == "too few frames"


def test_the_drift_page_lists_all_and_the_failed() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    visits = [
        Visit(f"s{i}", "twin", start + timedelta(days=7 - i), made(i), f"x{i}", i > 0)
        for i in range(3)
    ]  # fmt: skip
    bare = made(9)
    stage_a = replace(bare, lattices=(replace(bare.lattices[0], study=None),))
    visits.append(Visit("a", "other", start, stage_a, "xa", False))
    page = goniometer_page("week", visits, {"bad": "no <lattice>"}, "1.0")
    assert page.count("Drift of") == 2  # heading and contents, of one instrument
    assert "single frames are not known" in page
    assert "no &lt;lattice&gt;" in page
    # oldest first
    assert page.index(">s2<") < page.index(">s1<") < page.index(">s0<")


def test_nothing_told_is_said() -> None:
    bare = made()
    stage_a = replace(bare, lattices=(replace(bare.lattices[0], study=None),))
    visit = Visit("a", "twin", datetime(2026, 1, 1, tzinfo=UTC), stage_a, "x", False)
    assert "No series tells" in goniometer_page("t", [visit], {}, "1")


@pytest.mark.parametrize("study", [True, False])
def test_page_of_a_series(study: bool) -> None:
    from ewaldflow.lib.report.orientation_page import _facts, _flagged, _frames, _lead

    done = made()
    if not study:
        done = replace(done, lattices=(replace(done.lattices[0], study=None),))
    assert ("Jitter along" in _facts(done)) == study
    assert ("not known" in _lead(done.lattices[0])) == (not study)
    assert "not &lt;used&gt;" in _flagged(done)
    # errors of 0.001 and 0.0045 degrees: 4.5 times
    assert "118 of 120" in _frames(done.lattices[0]) or "120 of 120" in _frames(done.lattices[0])
