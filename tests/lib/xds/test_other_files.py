"""XDSCONV.LP, XPARM.XDS, SPOT.XDS, XSCALE.INP and the log of POINTLESS."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ewaldflow.lib.crystal.cell import cell_from_reciprocal_basis
from ewaldflow.lib.errors import UserError
from ewaldflow.lib.geometry import rotation_about
from ewaldflow.lib.xds import (
    read_pointless,
    read_spot_xds,
    read_xdsconv,
    read_xparm,
    read_xscale_inp,
)

LAUE = "   Laue group confidence               0.949"


def test_xdsconv(layout, written):
    read = read_xdsconv(written(layout("XDSCONV.LP")))
    assert read.input_file == "my crystal/XDS_ASCII.HKL"
    assert (read.output_file, read.output_format) == ("out.hkl", "SHELX")
    assert (read.space_group_number, read.cell) == (19, (10, 12, 15, 90, 90, 90))
    assert (read.friedel, read.merged) == (False, False)  # as applied, not as asked for
    assert (read.n_read, read.n_ignored, read.n_accepted) == (1400, 7, 1393)
    assert (read.shelx_scale, read.n_written) == (269.6869, 1390)
    assert read.complete


def test_xdsconv_that_failed(layout, written):
    text = layout("XDSCONV.LP")[:80] + '\n  !!! ERROR !!! CANNOT OPEN OR READ "XDSCONV.INP"\n'
    read = read_xdsconv(written(text))
    assert read.errors[0].headline == 'CANNOT OPEN OR READ "XDSCONV.INP"'
    assert read.n_written is None


def test_both_layouts_of_xparm_say_the_same(layout, written):
    new, old = (
        read_xparm(written(layout("XPARM.XDS"), "a")),
        read_xparm(written(layout("XPARM_2011.XDS"), "b")),
    )
    assert (new.version, new.build) == ("Feb 30, 2031", 20310230)
    assert (old.version, old.build) == ("", None)
    for name in new.__dataclass_fields__:
        if name not in ("source", "version", "build"):
            assert getattr(new, name) == getattr(old, name), name
    assert (new.nx, new.ny, new.qx_mm, new.distance_mm) == (256, 260, 0.055, 440.0)
    assert (new.orgx, new.orgy) == (129.25, 131.5)
    assert (new.space_group_number, new.cell) == (16, (10, 12, 15, 90, 90, 90))


def test_geometry_in_our_terms(layout, written):
    x = read_xparm(written(layout("XPARM.XDS")))
    geometry = x.geometry()
    # 440 / 0.055 = 8000 px; the beam meets the detector 8000 * 0.01 / 39.84 = 2.008 px beside the
    # foot in x and -4.016 px in y; XDS counts from 1
    assert geometry.beam_centre_px == pytest.approx(
        (131.5 - 1 - 4.016, 129.25 - 1 + 2.008), abs=1e-3
    )
    assert geometry.distance_mm == 440.0
    np.testing.assert_allclose(geometry.axis, [0.6, -0.8, 0.001], atol=2e-3)
    assert x.tilt_deg == pytest.approx(np.rad2deg(np.hypot(0.01, 0.02) / 39.840637), rel=1e-4)
    # frame 1 starts at -20 degrees and covers 0.3
    assert x.angle_deg(1) == pytest.approx(-19.85)
    assert x.angle_deg(101.5) == pytest.approx(-20 + 0.3 * 101)
    cell = cell_from_reciprocal_basis(x.orientation())
    assert cell == pytest.approx(x.cell, abs=1e-9)


@given(
    tilt=st.floats(-0.9, 0.9),
    turn=st.floats(-180, 180),
    indices=st.tuples(*[st.integers(-3, 3)] * 3),
)
def test_turning_everything_changes_nothing(layout, tmp_path_factory, tilt, turn, indices):
    """XDS's frame is arbitrary: a detector turned with beam, axis and crystal is the same."""
    path = tmp_path_factory.mktemp("x") / "XPARM.XDS"
    path.write_text(layout("XPARM.XDS"))
    x = read_xparm(path)
    r = rotation_about([0.0, 1.0, 0.0], tilt * 40) @ rotation_about([0.0, 0.0, 1.0], turn)

    def turned(v):
        return tuple(float(c) for c in r @ np.array(v))

    y = type(x)(**{
        **{name: getattr(x, name) for name in x.__dataclass_fields__},
        "rotation_axis": turned(x.rotation_axis), "beam": turned(x.beam),
        "axes": tuple(turned(a) for a in x.axes),
        "detector_x": turned(x.detector_x), "detector_y": turned(x.detector_y),
    })  # fmt: skip
    np.testing.assert_allclose(y.geometry().beam_centre_px, x.geometry().beam_centre_px, atol=1e-6)
    np.testing.assert_allclose(y.geometry().axis, x.geometry().axis, atol=1e-9)
    np.testing.assert_allclose(
        y.orientation() @ np.array(indices), x.orientation() @ np.array(indices), atol=1e-9
    )


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ("39.840637", "3.9840637e1 7", "found .* expected 4 numbers"),
        ("440.000000", "440.0OO000", "line 9: .* expected 3 numbers"),
        ("0.025100", "0.000000", "wavelength"),
        ("15.0000  90.000", "15.0000 190.000", "cell"),
        (
            "       0.000000      12.000000       0.000000",
            "       1.0       0.0       0.0",
            "cell axes",
        ),
        ("0.600000 -0.800000  0.001000", "0.0 0.0 0.0", "rotation axis"),
    ],
)
def test_an_xparm_that_cannot_be(layout, written, old, new, match):
    with pytest.raises(UserError, match=match):
        read_xparm(written(layout("XPARM.XDS").replace(old, new, 1)))


def test_an_xparm_that_was_cut(layout, written):
    text = layout("XPARM.XDS")
    with pytest.raises(UserError, match="the end after line 8"):
        read_xparm(written(text[: text.index("440.0") + 4]))


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ("0.055000    0.055000", "0.055000    0.050000", "square pixels"),
        ("440.000000", "-440.000000", "both positive"),
        ("1.000000       0.000000       0.000000\n", "0.8 0.0 0.6\n", "36.9 degrees"),
    ],
)
def test_a_geometry_that_ours_cannot_hold(layout, written, old, new, match):
    cell, detector = layout("XPARM.XDS").split(" 0.055000    0.055000\n")
    text = f"{cell} 0.055000    0.055000\n{detector.replace(old, new, 1)}"
    x = read_xparm(written(text.replace(old, new, 1) if "055" in old else text))
    with pytest.raises(UserError, match=match):
        x.geometry()


@pytest.mark.parametrize("columns", [4, 5, 7, 8])
def test_spots(layout, written, columns):
    spots = read_spot_xds(written(layout(f"SPOT_{columns}.XDS")))
    np.testing.assert_array_equal(spots.column, [100.5, 0.0])
    np.testing.assert_array_equal(spots.row, [50.25, 0.0])
    np.testing.assert_array_equal(spots.frame_number, [11.0, 1.0])
    np.testing.assert_array_equal(spots.intensity, [2000.0, 30.0])
    assert spots.complete
    if columns in (5, 8):
        assert spots.segment.tolist() == [1, 2]
    else:
        assert spots.segment is None
    if columns in (7, 8):
        assert spots.hkl.tolist() == [[1, -2, 3], [0, 0, 0]]
        assert spots.indexed.tolist() == [True, False]
    else:
        assert spots.hkl is None
        assert spots.indexed.tolist() == [False, False]


def test_a_spot_that_was_cut_is_left_out(layout, written):
    spots = read_spot_xds(written(layout("SPOT_4.XDS")[:-6]))
    assert (len(spots), spots.complete) == (1, False)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (" 1.0 2.0 3.0\n", "3 columns"),
        (" 1.0 2.0 3.0 4.0 \n 1.0 2.0 3.0 4.0 5\n", "line 2: .* 4 numbers"),
        (" 1.0 2.0 3.0 4.0 \n 1.0 2.0 x 4.0\n", "line 2: .* 4 numbers"),
        (" 1.0 2.0 3.0 4.0 1.5 0 0\n", "line 1"),
        (" 1.0 2.0 3.0 NaN \n", "line 1"),
        (" 1.0 2.0 3.0 4.0", "0 columns"),
    ],
)
def test_spots_that_are_refused(written, text, match):
    with pytest.raises(UserError, match=match):
        read_spot_xds(written(text))


def test_xscale_inp(layout, written):
    read = read_xscale_inp(written(layout("XSCALE.INP")))
    assert read.cards == (
        ("SPACE_GROUP_NUMBER", "16"),
        ("UNIT_CELL_CONSTANTS", "10 12 15 90 90 90"),
    )
    one, two = read.outputs
    assert (one.name, one.cards) == ("one.ahkl", (("MERGE", "TRUE"),))
    first, second = one.inputs
    assert (first.name, first.reference) == ("a/XDS_ASCII.HKL", True)
    assert first.cards == (("INCLUDE_RESOLUTION_RANGE", "20 0.8"),)
    assert (second.name, second.reference) == ("b/XDS_ASCII.HKL", False)
    assert [file.name for file in two.inputs] == ["c/XDS_ASCII.HKL"]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("INPUT_FILE=a.HKL\nOUTPUT_FILE=b\n", "line 1: .* an OUTPUT_FILE= before it"),
        ("OUTPUT_FILE=\n", "without a name"),
        ("OUTPUT_FILE=b\nINPUT_FILE= *\n", "line 2: .* without a name"),
        ("MERGE=TRUE\n", "no OUTPUT_FILE"),
    ],
)
def test_an_xscale_inp_with_errors(written, text, match):
    with pytest.raises(UserError, match=match):
        read_xscale_inp(written(text))


def test_pointless(layout, written):
    read = read_pointless(written(layout("pointless.log")))
    assert read.version == "1.99.7"
    assert (read.best, read.best_is_point_group, read.reindex) == ("P 1 21 1", False, "[h,k,l]")
    assert (read.laue_probability, read.absence_probability) == (0.956, 0.95)
    assert read.total_probability == 0.908
    assert read.cell == (10, 12, 15, 90, 95, 90)
    assert (read.twinned, read.complete, read.problems) == (False, True, ())
    assert read.warnings == ("WARNING: You will have to look at it",)


def test_pointless_scores(layout, written):
    read = read_pointless(written(layout("pointless.log")))
    assert [e.name for e in read.elements] == ["identity", "2-fold k ( 0 1 0)", "2-fold   ( 1-1 0)"]
    assert (read.elements[1].cc, read.elements[1].n, read.elements[1].stars) == (0.92, 259, 3)
    assert read.elements[2].operators == "{-k,-h,-l}"
    best, other = read.laue_groups
    assert read.laue_group is best
    assert (best.name, best.mark, best.stars, best.net_z) == ("P 1 2/m 1", ">", 3, 9.28)
    assert (other.name, other.mark, other.cc_against, other.reindex) == (
        "P m m m",
        "-",
        0.44,
        "[k,h,-l]",
    )
    screw, glide = read.zones
    assert (screw.zone, screw.n, screw.peak_height, screw.probability, screw.condition) == (
        "screw axis 2(1) [b]", 12, 0.985, 0.95, "0k0: k=2n")  # fmt: skip
    assert glide.n == 0
    assert math.isnan(glide.probability)
    assert read.absences_tested
    first, second = read.space_groups
    assert (first.name, first.number, first.absence_probability) == ("P 1 21 1", 4, 0.95)
    assert first.conditions == "0k0: k=2n (zone 1)"
    assert (second.name, second.reindex, second.conditions) == ("P 1 2 1", "[h,k,l]", "")


@pytest.mark.parametrize(
    ("laue", "confidence"),
    [
        ("   Laue group confidence               0.949", 0.949),
        ("   Laue group confidence:              0.949", 0.949),
        ("", 0.95),  # only the line above the result has it, with two decimals
    ],
)
def test_spellings_of_the_confidence(layout, written, laue, confidence):
    read = read_pointless(written(layout("pointless.log").replace(LAUE, laue)))
    assert read.laue_group_confidence == confidence
    assert read.space_group_confidence == 0.863


def test_pointless_that_leaves_the_space_group_open(layout, written):
    read = read_pointless(
        written(
            layout("pointless.log").replace("    space group P 1 21 1", "    point group P 1 2 1")
        )
    )
    assert (read.best, read.best_is_point_group) == ("P 1 2 1", True)


def test_pointless_that_was_cut(layout, written):
    text = layout("pointless.log")
    read = read_pointless(written(text[: text.index("Best Solution")]))
    assert (read.complete, read.best) == (False, None)
    assert math.isnan(read.laue_probability)
    assert read.laue_group_confidence == 0.95
    assert len(read.laue_groups) == 2
