"""Every real file of XDS is read, or refused with its reason, and says what a person read in it."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

import ewaldflow
from ewaldflow.lib.geometry import rotation_about
from ewaldflow.lib.xds import KINDS, read_hkl, read_xparm

# The benchmark holds the figures read by hand; it is a script, no package.
sys.path.insert(0, str(Path(ewaldflow.__file__).resolve().parent / "benchmarks"))
bars, real, tables = (importlib.import_module(n) for n in ("xds_parsers", "_real", "_table"))

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    data = real.default_data()
    for needed in ("xds/MANIFEST.tsv", "cred/cinchonine_with_xds.tar.xz"):
        if not (data / needed).exists():
            pytest.skip(f"real data absent: {needed} not below {data}")
    return list(bars.real_files(data, tmp_path_factory.mktemp("xds")))


def test_every_file_is_read_or_refused(files):
    figures = tables.Table("files of XDS")
    bars.judge_all(figures, iter(files))
    assert len(figures.rows) > 100
    assert figures.missed == []


def test_the_figures_read_by_hand_are_of_files_that_are_there(files):
    assert set(bars.BY_HAND) <= {name for name, _ in files}
    assert len(bars.BY_HAND) >= bars.FEWEST_BY_HAND


def test_what_is_refused(files):
    judged = [bars.judge(name, path) for name, path in files]
    refused = {one.name: one.refused for one in judged if one.file is None}
    # images, and files of other programs; and one XDS.INP that is a template to be filled in
    others = [reason for name, reason in refused.items() if not name.endswith(".cbf")]
    assert len(others) == 10
    assert refused["galchenm+P09/stable_version/XDS.INP"] == "'$DETECTOR_DISTANCE'"
    assert all(refused.values())
    kinds = {one.file.kind for one in judged if one.file}
    assert kinds == set(KINDS)


def test_nothing_in_a_log_was_left_out(files):
    problems = {}
    for name, path in files:
        file = bars.judge(name, path).file
        if file is not None and getattr(file.content, "problems", ()):
            problems[name] = file.content.problems
    # two copies of a console, in which XSCALE's table was cut out
    assert {name.split("/")[0] for name in problems} <= {"instamatic-dev+edtools"}


@pytest.mark.parametrize(
    ("parameters", "reflections", "largest_px"),
    [
        # INTEGRATE predicted its reflections with XPARM.XDS and prints them to 0.1 px, so that
        # they are off by no more than half of that in each direction
        ("XPARM.XDS", "INTEGRATE.HKL", 0.071),
        # CORRECT refined the geometry afterwards and left the positions as they were
        ("GXPARM.XDS", "XDS_ASCII.HKL", 0.45),
    ],
)
def test_xparm_in_our_terms_puts_reflections_where_xds_did(
    files, parameters, reflections, largest_px
):
    """The complete electron-diffraction run: detector, beam, axis, cell and frame numbers."""
    paths = {Path(name).name: path for name, path in files if name.startswith(bars.CINCHONINE)}
    x, hkl = read_xparm(paths[parameters]), read_hkl(paths[reflections])
    geometry, seen = x.geometry(), hkl.observations
    turns = rotation_about(geometry.axis, x.angle_deg(seen.frame_number))
    q = np.einsum("nij,nj->ni", turns, hkl.hkl @ x.orientation().T)
    off = geometry.to_pixel(q) - np.stack([seen.row, seen.column], axis=1)
    assert len(hkl) == 2012
    assert np.linalg.norm(off, axis=1).max() < largest_px
    # at the angles of XDS they lie on the Ewald sphere; half a frame beside them, 1.2e-3 1/A off
    miss = np.linalg.norm(q + geometry.s0, axis=1) - 1 / geometry.wavelength_A
    assert np.median(np.abs(miss)) < 2e-4


def test_the_header_of_a_reflection_file_holds_the_geometry_of_xparm(files):
    paths = {Path(name).name: path for name, path in files if name.startswith(bars.CINCHONINE)}
    for parameters, reflections in (
        ("XPARM.XDS", "INTEGRATE.HKL"),
        ("GXPARM.XDS", "XDS_ASCII.HKL"),
    ):
        x, stated = read_xparm(paths[parameters]), read_hkl(paths[reflections]).header.geometry
        np.testing.assert_allclose(stated.orientation(), x.orientation(), atol=2e-5)
        np.testing.assert_allclose(
            stated.geometry().beam_centre_px, x.geometry().beam_centre_px, atol=0.02
        )
