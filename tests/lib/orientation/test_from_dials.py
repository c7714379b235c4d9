"""Shoeboxes and centroids of DIALS, from files written here byte by byte."""

import json
import struct

import numpy as np
import pytest

from ewaldflow.lib.errors import UserError
from ewaldflow.lib.orientation.dials_refl import read_refl
from ewaldflow.lib.orientation.from_dials import from_dials

HKL = [(1, 0, 0), (0, 2, -1)]


def text(word):
    return bytes([0xD9, len(word)]) + word.encode()


def binary(raw):
    return b"\xc6" + struct.pack(">I", len(raw)) + raw


def column(name, kind, n, raw):
    return text(name) + b"\x92" + text(kind) + b"\x92" + bytes([n]) + binary(raw)


def box(mask_kind="<i4", background=True):
    """One shoebox of 3 frames x 5 x 5 at frames 10 to 12: 2 electrons a pixel, and a spot."""
    data = np.full((3, 5, 5), 2.0, "<f4")
    mask = np.full((3, 5, 5), 19 if background else 0)
    mask[1, 1:4, 1:4] = 5  # a narrower foreground on the flanks
    mask[[0, 2], 2, 2] = 5
    data[1, 2, 2] += 100
    data[0, 2, 3] += 30
    raw = struct.pack("<I6iB", 0, 40, 45, 60, 65, 9, 12, 1)
    return raw + data.tobytes() + mask.astype(mask_kind).tobytes() + np.full(75, 2, "<f4").tobytes()


def refl(path, boxes=None, sliced=False):
    columns = [
        column("miller_index", "cctbx::miller::index<>", 2, np.array(HKL, "<i4").tobytes()),
        column("flags", "std::size_t", 2, np.array([36, 36], "<u8").tobytes()),
        column("xyzobs.px.value", "vec3<double>", 2,
               np.array([[42.5, 62.5, 10.25], [10.0, 11.0, 12.5]], "<f8").tobytes()),
        column("xyzobs.px.variance", "vec3<double>", 2, np.full(6, 0.04, "<f8").tobytes()),
        column("intensity.sum.value", "double", 2, np.array([130.0, 50], "<f8").tobytes()),
    ]  # fmt: skip
    if boxes is not None:
        columns.append(column("shoebox", "Shoebox<>", 2, boxes))
    if sliced:
        columns.append(column("frame_sliced_shoebox", "FrameSlicedShoebox<>", 2, b"1234"))
    table = b"\x83" + text("identifiers") + b"\x80" + text("nrows") + b"\x02" + text("data")
    table += bytes([0x80 + len(columns)]) + b"".join(columns)
    path.write_bytes(b"\x93" + text("dials::af::reflection_table") + b"\x01" + table)
    return path


EMPTY = struct.pack("<I6iB", 0, 1, 3, 1, 3, 9, 11, 0)


@pytest.fixture
def expt(tmp_path):
    panel = {
        "fast_axis": [1, 0, 0], "slow_axis": [0, -1, 0], "origin": [-14.1, 14.2, -500.0],
        "pixel_size": [0.055, 0.055],
    }  # fmt: skip
    whole = {
        "experiment": [{}],
        "beam": [{"direction": [0, 0, 1], "wavelength": 0.0251}],
        "detector": [{"panels": [panel]}],
        "goniometer": [{"rotation_axis": [1, 0, 0]}],
        "scan": [{"image_range": [10, 14], "oscillation": [-5.0, 0.5]}],
        "crystal": [{"real_space_a": [10, 0, 0], "real_space_b": [0, 12, 0],
                     "real_space_c": [0, 0, 15]}],
    }  # fmt: skip
    path = tmp_path / "x.expt"
    path.write_text(json.dumps(whole))
    return path


@pytest.mark.parametrize("kind", ["<i4", "u1"])
def test_slices_are_summed_over_the_same_pixels(expt, tmp_path, kind):
    data = from_dials(expt, refl(tmp_path / "x.refl", box(kind) + EMPTY))
    r = data.intensities
    assert r.hkl.tolist() == [[1, 0, 0]] * 3
    # array index 9 is image 10, the first
    assert r.frame.tolist() == [0, 1, 2]
    # the 30 stand outside the foreground of their own frame, but inside that of the next
    np.testing.assert_allclose(r.intensity, [30, 100, 0])
    # nine pixels of 2, the spot, and nine times 18 / 64 of the background
    used = 75 - 11
    np.testing.assert_allclose(r.variance, np.array([48, 118, 18]) + 9 * 18 / used)
    assert (r.row[1], r.column[1]) == (62.0, 42.0)
    assert np.isnan(r.row[2])


def test_geometry_is_ours(expt, tmp_path):
    data = from_dials(expt, refl(tmp_path / "x.refl"), centroids=True)
    # their (x, y, z) is our (x, -y, -z)
    np.testing.assert_allclose(data.geometry.axis, [1, 0, 0], atol=1e-12)
    assert data.geometry.distance_mm == pytest.approx(500)
    # 14.2 / 0.055 and 14.1 / 0.055 from the corner
    assert data.geometry.beam_centre_px == pytest.approx((257.6818, 255.8636), abs=1e-3)
    np.testing.assert_allclose(data.orientation, np.diag([0.1, -1 / 12, -1 / 15]), atol=1e-12)
    np.testing.assert_allclose(data.angle_deg, [-4.75, -4.25, -3.75, -3.25, -2.75])


def test_centroids_where_they_are_asked_for(expt, tmp_path):
    c = from_dials(expt, refl(tmp_path / "x.refl"), centroids=True).centroids
    np.testing.assert_allclose(c.frame, [0.75, 3.0])
    np.testing.assert_allclose(c.frame_sd, 0.2)
    np.testing.assert_allclose(c.row, [62.0, 10.5])


def test_without_shoeboxes_it_says_what_to_do(expt, tmp_path):
    with pytest.raises(UserError, match=r"no shoeboxes.*integration\.debug\.output"):
        from_dials(expt, refl(tmp_path / "a.refl"))
    with pytest.raises(UserError, match="only sliced shoeboxes"):
        from_dials(expt, refl(tmp_path / "b.refl", sliced=True))
    strong = box(background=False) + EMPTY
    with pytest.raises(UserError, match="without a background"):
        from_dials(expt, refl(tmp_path / "c.refl", strong))


def test_a_cut_table_is_refused(expt, tmp_path):
    path = refl(tmp_path / "x.refl", box() + EMPTY)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(UserError, match="reflection table"):
        read_refl(path)
    with pytest.raises(UserError, match="another layout"):
        from_dials(expt, refl(tmp_path / "y.refl", box() + EMPTY[:-3]))


def test_other_files_are_refused(tmp_path, expt):
    other = tmp_path / "x.expt.txt"
    other.write_text("{}")
    with pytest.raises(UserError, match=r"\.expt of an indexed scan"):
        from_dials(other, other)
    with pytest.raises(UserError, match="reflection table"):
        from_dials(expt, other)
