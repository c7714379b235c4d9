"""XDS.INP and cRED_log.txt: what they say in our terms, with numbers worked out by hand."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ewaldflow.lib.errors import UserError
from ewaldflow.lib.formats import write_xds_inp
from ewaldflow.lib.formats.cred_log import read_cred_log
from ewaldflow.lib.formats.mask import rectangles
from ewaldflow.lib.formats.source import Sidecar
from ewaldflow.lib.formats.xds_inp import keywords, read_xds_inp
from ewaldflow.lib.geometry import EllipticalDistortion
from ewaldflow.lib.series.rotation_series import RotationSeries

XDS = """! ORGX= 1 in a comment
NAME_TEMPLATE_OF_DATA_FRAMES= data/0????.img   SMV
DATA_RANGE=           1 49
EXCLUDE_DATA_RANGE= 10 10
EXCLUDE_DATA_RANGE= 20 22  !tracking
FRIEDEL'S_LAW=TRUE   !no number
STARTING_ANGLE= -18.2800
STARTING_FRAME= 1
NX=516     NY=512
QX=0.0550  QY=0.0550          !Physical size of pixels (mm)
OVERLOAD= 11810
UNTRUSTED_RECTANGLE= 255 262 0 517
ORGX= 243.90    ORGY= 227.73 !x and y
DETECTOR_DISTANCE= +1481.74
OSCILLATION_RANGE= 0.6873
!OSCILLATION_RANGE 0.6805
ROTATION_AXIS= -0.6204 0.7843 0.0000
X-RAY_WAVELENGTH= 0.0251
INCIDENT_BEAM_DIRECTION= 0 0 1
REFINE(IDXREF)=    BEAM AXIS
"""

LOG = """Data Collection Time: 2019-06-03 18:45:00
Starting angle: -18.28 degrees
Ending angle: 15.40 degrees
Exposure Time: 1.500 s
Camera length: 800 mm
Rotation axis: -2.24 radians
Oscillation angle: 0.6873 degrees
Number of frames: 49
Image interval: every 10 frames an image with defocus 19988 (t=0.01 s).
"""


@pytest.fixture
def xds(tmp_path: Path) -> Callable[[str], Sidecar]:
    def read(text: str) -> Sidecar:
        (tmp_path / "XDS.INP").write_text(text)
        return read_xds_inp(tmp_path / "XDS.INP")

    return read


@pytest.fixture
def log(tmp_path: Path) -> Callable[[str], Sidecar]:
    def read(text: str) -> Sidecar:
        (tmp_path / "cRED_log.txt").write_text(text)
        return read_cred_log(tmp_path / "cRED_log.txt")

    return read


def test_xds_keywords() -> None:
    found = keywords(XDS)
    assert found["NX"] == [["516"]]
    assert found["NY"] == [["512"]]
    assert found["EXCLUDE_DATA_RANGE"] == [["10", "10"], ["20", "22"]]
    assert found["OSCILLATION_RANGE"] == [["0.6873"]]
    assert found["ORGX"] == [["243.90"]]


def test_xds_in_our_terms(xds: Callable[[str], Sidecar]) -> None:
    one = xds(XDS)
    said = one.metadata
    assert said.beam_centre_px == pytest.approx((226.73, 242.90))  # XDS counts from 1
    assert (said.distance_mm, said.pixel_size_mm, said.wavelength_A) == (1481.74, 0.055, 0.0251)
    np.testing.assert_allclose(said.rotation_axis, [-0.6204, 0.7843, 0.0])
    assert (said.start_deg, said.start_number, said.oscillation_deg) == (-18.28, 1, 0.6873)
    assert said.saturation == 11810
    assert one.shape == (512, 516)
    assert one.frame_range == (1, 49)
    assert one.excluded == ((10, 10), (20, 22))
    assert one.template == "data/0????.img"
    # 255 < x < 262 counted from 1 are columns 255 to 260 counted from 0, 0 < y < 517 all rows
    mask = np.zeros((516, 516), bool)
    mask[one.untrusted[0]] = True
    assert mask[:, 255:261].all()
    assert mask.sum() == 6 * 516


def test_xds_tilted_beam(xds: Callable[[str], Sidecar]) -> None:
    # CORRECT's result for cinchonine: 436.1 mm = 7929.09 px; the beam arrives
    # 7929.09 * 0.000478 / 39.8724 = 0.095 px beside ORGX and 7929.09 * 0.020118 / 39.8724
    # = 4.001 px below ORGY
    text = XDS.replace(
        "INCIDENT_BEAM_DIRECTION= 0 0 1", "INCIDENT_BEAM_DIRECTION= 0.000478 0.020118 39.872402"
    )
    text = text.replace("ORGX= 243.90    ORGY= 227.73", "ORGX= 257.428680 ORGY= 254.604279")
    text = text.replace("+1481.74", "436.100098")
    text = text.replace("-0.6204 0.7843 0.0000", "0.793326 -0.608797 -0.000425")
    said = xds(text).metadata
    assert said.beam_centre_px == pytest.approx(
        (254.604279 - 1 + 4.0007, 257.428680 - 1 + 0.0951), abs=2e-4
    )
    # z becomes the component along the beam, which leans 5.046e-4 to +y and 1.2e-5 to +x:
    # -0.000425 - 0.608797 * 5.046e-4 + 0.793326 * 1.2e-5 = -0.0007227
    np.testing.assert_allclose(
        said.rotation_axis,
        [0.793326, -0.608797, -0.0007227],
        atol=1e-6,
    )


def test_xds_other_detector_axes(xds: Callable[[str], Sidecar]) -> None:
    # The detector turned by 90 degrees: its x is the laboratory's y. An axis along the
    # laboratory's y is then along columns.
    text = XDS + "DIRECTION_OF_DETECTOR_X-AXIS= 0 1 0\nDIRECTION_OF_DETECTOR_Y-AXIS= -1 0 0\n"
    said = xds(text.replace("-0.6204 0.7843 0.0000", "0 1 0")).metadata
    np.testing.assert_allclose(said.rotation_axis, [1, 0, 0], atol=1e-15)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("ORGX= 243.90", "ORGX= abc", "ORGX=.*abc"),
        ("QY=0.0550", "QY=0.0500", "square pixels"),
        ("ROTATION_AXIS= -0.6204 0.7843 0.0000", "ROTATION_AXIS= 1 0", "ROTATION_AXIS"),
        ("ROTATION_AXIS= -0.6204 0.7843 0.0000", "ROTATION_AXIS= 0 0 0", "not all zero"),
        ("DETECTOR_DISTANCE= +1481.74", "DETECTOR_DISTANCE= -1481.74", "flip the frames"),
        ("X-RAY_WAVELENGTH= 0.0251", "X-RAY_WAVELENGTH= 0", "wavelength_A"),
        ("STARTING_ANGLE= -18.2800", "STARTING_ANGLE=", "STARTING_ANGLE"),
        ("UNTRUSTED_RECTANGLE= 255 262 0 517", "UNTRUSTED_RECTANGLE= 255 262 0", "RECTANGLE"),
        ("INCIDENT_BEAM_DIRECTION= 0 0 1", "INCIDENT_BEAM_DIRECTION= 0 0 -1", "flip the frames"),
    ],
)
def test_xds_errors(xds: Callable[[str], Sidecar], old: str, new: str, says: str) -> None:
    assert old in XDS
    with pytest.raises(UserError, match=says) as error:
        xds(XDS.replace(old, new))
    assert "XDS.INP" in str(error.value)


def test_xds_start_number_is_the_first_of_the_data(xds: Callable[[str], Sidecar]) -> None:
    text = XDS.replace("STARTING_FRAME= 1\n", "").replace("1 49", "5 49")
    assert xds(text).metadata.start_number == 5


def test_log_in_our_terms(log: Callable[[str], Sidecar]) -> None:
    one = log(LOG)
    np.testing.assert_allclose(one.metadata.rotation_axis, [-0.6204, 0.7843, 0.0], atol=5e-5)
    said = one.metadata
    assert (said.start_deg, said.start_number, said.oscillation_deg) == (-18.28, 1, 0.6873)
    assert (said.camera_length_mm, said.exposure_s) == (800, 1.5)
    assert one.image_interval == 10
    assert one.notes == ()


def test_log_of_a_stage_that_turned_backwards(log: Callable[[str], Sidecar]) -> None:
    one = log(LOG.replace("Ending angle: 15.40", "Ending angle: -51.96"))
    np.testing.assert_allclose(one.metadata.rotation_axis, [0.6204, -0.7843, 0.0], atol=5e-5)
    assert one.metadata.oscillation_deg == 0.6873
    assert "backwards" in one.notes[0]


def test_log_of_later_versions(log: Callable[[str], Sidecar]) -> None:
    # labelled px/Angstrom and um, but 1/(A px) and mm; the stretch is known to be swapped
    more = (
        "Pixelsize: 0.00412 px/Angstrom\nPhysical pixelsize: 0.055 um\n"
        "Wavelength: 0.025080 Angstrom\n"
        "Stretch amplitude: 83.37 %\nStretch azimuth: 2.43 degrees\n"
    )
    said, notes = log(LOG + more).metadata, log(LOG + more).notes
    assert (said.per_A_per_px, said.pixel_size_mm, said.wavelength_A) == (0.00412, 0.055, 0.02508)
    assert said.distortion is None
    assert "swap" in notes[0]
    # without a calibration it writes 1
    assert log(LOG + "Pixelsize: 1 px/Angstrom\n").metadata.per_A_per_px is None


def test_log_errors(log: Callable[[str], Sidecar]) -> None:
    with pytest.raises(UserError, match=r"cRED_log.txt: Rotation axis: found 'unknown'"):
        log(LOG.replace("-2.24 radians", "unknown"))


def test_write_xds_inp_by_hand(tmp_path: Path, make_series: Callable[..., RotationSeries]) -> None:
    series = make_series([2, 3, 5, 9])
    path = tmp_path / "XDS.INP"
    notes = write_xds_inp(series, path, template="data/?????.img", pedestal_added=3)
    assert notes == ()
    found = keywords(path.read_text())
    assert found["ORGX"] == [["17.7500"]]  # column 16.75, counted from 1
    assert found["ORGY"] == [["10.2500"]]
    assert found["DATA_RANGE"] == [["2", "9"]]
    assert found["EXCLUDE_DATA_RANGE"] == [["4", "4"], ["6", "8"]]
    assert found["STARTING_FRAME"] == [["2"]]
    assert float(found["STARTING_ANGLE"][0][0]) == -9.5
    assert float(found["OSCILLATION_RANGE"][0][0]) == 0.5
    assert found["OVERLOAD"] == [["11813"]]
    assert found["NX"] + found["NY"] == [["30"], ["20"]]
    # rows 9 and 10 are 9 < y < 12 counted from 1; the pixel (3, 7) is 7 < x < 9, 3 < y < 5
    assert found["UNTRUSTED_RECTANGLE"] == [["7", "9", "3", "5"], ["0", "31", "9", "12"]]
    back = read_xds_inp(path)
    mask = np.zeros(series.shape, bool)
    for block in back.untrusted:
        mask[block] = True
    np.testing.assert_array_equal(mask, series.mask)


def test_write_xds_inp_turns_angles_the_right_way(
    tmp_path: Path, make_series: Callable[..., RotationSeries]
) -> None:
    # Turning by -0.5 from 10 about the axis is turning by +0.5 from -10 about its opposite.
    series = make_series([1, 2])
    series = series.with_(
        angle_start_deg=np.array([10, 9.5]), angle_width_deg=np.array([-0.5, -0.5])
    )
    write_xds_inp(series, tmp_path / "XDS.INP")
    said = read_xds_inp(tmp_path / "XDS.INP").metadata
    assert (said.start_deg, said.oscillation_deg) == (-10, 0.5)
    np.testing.assert_allclose(said.rotation_axis, np.negative(series.geometry.axis), atol=1e-6)


def test_write_xds_inp_says_what_xds_cannot_be_told(
    tmp_path: Path, make_series: Callable[..., RotationSeries]
) -> None:
    series = make_series([0, 1, 2])
    geometry = series.geometry.with_(
        distortion=EllipticalDistortion(1.028, 83.0), radial_per_mm2=1e-4
    )
    series = series.with_(geometry=geometry, beam_centres_px=np.full((3, 2), 10.0))
    path = tmp_path / "XDS.INP"
    notes = " ".join(write_xds_inp(series, path, template="?????.mrc"))
    for words in ("1.02800", "83.00", "radial", "beam centre moves", "before number 1", "format"):
        assert words in notes
        assert words in path.read_text()
    with pytest.raises(UserError, match="rotation"):
        write_xds_inp(series.with_(angle_start_deg=np.zeros(3)), path)
    with pytest.raises(UserError, match="numbered 1 or more"):
        write_xds_inp(series.select(slice(0, 1)), path)


@given(
    st.integers(1, 12).flatmap(
        lambda n: st.lists(st.lists(st.booleans(), min_size=n, max_size=n), min_size=1, max_size=12)
    )
)
def test_rectangles_cover_a_mask_once(rows: list[list[bool]]) -> None:
    mask = np.array(rows)
    counted = np.zeros(mask.shape, int)
    for r0, r1, c0, c1 in rectangles(mask):
        counted[r0 : r1 + 1, c0 : c1 + 1] += 1
    np.testing.assert_array_equal(counted, mask)
