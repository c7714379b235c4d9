"""SMV: both dialects, every pixel type, headers written wrongly, and writing them rightly."""

from collections.abc import Callable
from pathlib import Path

import dask.array as da
import numpy as np
import pytest

from ewaldflow.lib.errors import UserError
from ewaldflow.lib.formats import smv, write_smv
from ewaldflow.lib.formats.source import FrameHeader
from ewaldflow.lib.series.rotation_series import RotationSeries

Header = Callable[..., FrameHeader]


@pytest.fixture
def header(tmp_path: Path, smv_bytes: Callable[..., bytes]) -> Header:
    def read(dtype: str = "<u2", **changes: str | None) -> FrameHeader:
        path = tmp_path / "00001.img"
        path.write_bytes(smv_bytes(1, dtype, **changes))
        return smv.read_header(path)

    return read


def test_timepix_centre_is_in_pixels_from_the_corner(header: Header) -> None:
    one = header()
    assert one.shape == (20, 30)
    assert one.metadata.beam_centre_px == (9.0, 16.0)  # Y 9.5, X 16.5
    assert one.metadata.distance_mm == 400
    assert one.metadata.wavelength_A == 0.0251
    assert one.metadata.oscillation_deg == 0.5
    assert one.metadata.exposure_s == 0.3
    assert one.start_deg == (-10,)
    assert one.notes == ()


def test_adsc_centre_is_in_mm_with_x_along_rows(header: Header) -> None:
    # 0.475 mm / 0.05 mm = 9.5 px down from the corner; 0.825 / 0.05 = 16.5 px to the right
    one = header(BEAMLINE="ALS831", BEAM_CENTER_X="0.475", BEAM_CENTER_Y="0.825")
    assert one.metadata.beam_centre_px == pytest.approx((9.0, 16.0))
    assert one.notes == ()


def test_a_centre_beyond_the_edge_in_mm_must_be_pixels(header: Header) -> None:
    # the detector is 1.5 mm wide
    one = header(BEAMLINE="ALS831", BEAM_CENTER_X="16.5", BEAM_CENTER_Y="9.5")
    assert one.metadata.beam_centre_px == (9.0, 16.0)
    assert "16.5, 9.5" in one.notes[0]
    assert "1.5 mm" in one.notes[0]


def test_a_centre_off_the_detector_in_any_unit_is_not_used(header: Header) -> None:
    one = header(BEAMLINE="fake", BEAM_CENTER_X="-1e+102", BEAM_CENTER_Y="1e+102")
    assert one.metadata.beam_centre_px is None
    assert "off the detector" in one.notes[0]


def test_literal_phi_of_instamatic(header: Header) -> None:
    one = header(PHI="{phi:.4f}")
    assert one.start_deg == (-10,)
    assert "PHI in the SMV headers is '{phi:.4f}'" in one.notes[0]


def test_phi_where_there_is_no_osc_start(header: Header) -> None:
    assert header(OSC_START=None, PHI="3.5").start_deg == (3.5,)
    assert header(OSC_START=None, PHI=None).start_deg == ()
    two = header(OSC_START="1.0", PHI="2.0")
    assert two.start_deg == (1.0,)
    assert "disagree" in two.notes[0]


@pytest.mark.parametrize(
    ("dtype", "kind", "order"),
    [
        ("<u2", "unsigned_short", "little_endian"),
        (">u2", "unsigned_short", "big_endian"),
        ("<i4", "signed_long", "little_endian"),
        (">i4", "long_integer", "big_endian"),
        ("<u4", "unsigned_long", "little_endian"),
        ("<i2", "signed_short", "little_endian"),
        ("<f4", "float", "little_endian"),
        (">f4", "float IEEE", "big_endian"),
        ("<u2", "unsigned short int", "little_endian"),
    ],
)
def test_pixel_types(
    tmp_path: Path,
    header: Header,
    pixels: Callable[..., np.ndarray],
    dtype: str,
    kind: str,
    order: str,
) -> None:
    one = header(dtype, TYPE=kind, BYTE_ORDER=order)
    read = smv.read_pixels(tmp_path / "00001.img", one, 0, 1)
    assert read.dtype == np.dtype(dtype).newbyteorder("=")
    np.testing.assert_array_equal(read[0], pixels(1).astype(dtype))


@pytest.mark.parametrize("size", [1024, 4096])
def test_longer_headers(
    tmp_path: Path, header: Header, pixels: Callable[..., np.ndarray], size: int
) -> None:
    one = header(HEADER_BYTES=str(size), COMMENT="x" * 300)
    assert one.offset == size
    np.testing.assert_array_equal(smv.read_pixels(tmp_path / "00001.img", one, 0, 1)[0], pixels(1))


def test_header_bytes_last_and_spaces(tmp_path: Path, smv_bytes: Callable[..., bytes]) -> None:
    raw = smv_bytes(1)
    first, rest = raw[:512].rstrip(b" ")[:-2], raw[512:]
    moved = first.replace(b"HEADER_BYTES=512;\n", b"") + b"\nHEADER_BYTES=  512;\n}"
    path = tmp_path / "1.img"
    path.write_bytes(moved.ljust(512) + rest)
    one = smv.read_header(path)
    assert smv.sniff(moved.ljust(512))
    assert (one.shape, one.offset, one.metadata.distance_mm) == ((20, 30), 512, 400)


def test_without_type_the_file_size_tells(header: Header) -> None:
    assert "16-bit" in header(TYPE=None).notes[0]
    with pytest.raises(ValueError, match="TYPE"):
        header("<u4", TYPE=None)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"TYPE": "complex"}, "TYPE is 'complex'"),
        ({"BYTE_ORDER": "middle_endian"}, "BYTE_ORDER"),
        ({"SIZE1": None}, "no SIZE1"),
        ({"SIZE2": "ten"}, "SIZE2 is 'ten'"),
        ({"SIZE2": "0"}, "SIZE2 is 0"),
        ({"SIZE2": "21"}, "truncated: 1712 bytes, the header promises 1772"),
    ],
)
def test_damaged_headers(header: Header, changes: dict[str, str | None], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        header(**changes)


@pytest.mark.parametrize("key", ["WAVELENGTH", "DISTANCE", "PIXEL_SIZE", "TIME"])
@pytest.mark.parametrize("value", ["0", "-1", "nan", "n/a"])
def test_values_that_cannot_be_are_noted(header: Header, key: str, value: str) -> None:
    one = header(**{key: value})
    assert any(note.startswith(f"{key} in the SMV headers is") for note in one.notes)
    field = {"WAVELENGTH": "wavelength_A", "DISTANCE": "distance_mm", "PIXEL_SIZE": "pixel_size_mm"}
    assert getattr(one.metadata, field.get(key, "exposure_s")) is None


def test_what_is_written(tmp_path: Path, make_series: Callable[..., RotationSeries]) -> None:
    series = make_series(shape=(516, 516), numbers=[7])
    report = write_smv(series, tmp_path / "data")
    assert report.lossless
    (path,) = report.files
    raw = path.read_bytes()
    assert path.name == "00007.img"
    assert len(raw) == 512 + 2 * 516 * 516
    assert raw.startswith(b"{\nHEADER_BYTES=512;\n")  # DIALS looks for these 15 bytes
    items = smv.header_items(path)
    # beam at row 9.25, column 16.75: from the corner X 17.25, Y 9.75
    assert (items["BEAM_CENTER_X"], items["BEAM_CENTER_Y"]) == ("17.25000", "9.75000")
    assert items["BEAMLINE"] == "TIMEPIX_SU"
    assert float(items["OSC_START"]) == float(items["PHI"]) == -7.0
    needed = "DISTANCE WAVELENGTH PIXEL_SIZE OSC_RANGE SIZE1 SIZE2 BYTE_ORDER DETECTOR_SN TIME TYPE"
    assert set(needed.split()) <= set(items)
    assert not any("=" in value for value in items.values())


def test_other_sizes_are_written_as_adsc(
    tmp_path: Path, make_series: Callable[..., RotationSeries]
) -> None:
    report = write_smv(make_series(numbers=[1]), tmp_path)
    items = smv.header_items(report.files[0])
    # in mm, X along rows: (9.25 + 0.5) * 0.05 and (16.75 + 0.5) * 0.05
    assert (float(items["BEAM_CENTER_X"]), float(items["BEAM_CENTER_Y"])) == (0.4875, 0.8625)
    assert smv.read_header(report.files[0]).metadata.beam_centre_px == pytest.approx((9.25, 16.75))


def test_nothing_is_clipped_in_silence(
    tmp_path: Path, make_series: Callable[..., RotationSeries]
) -> None:
    frames = np.zeros((2, 20, 30), np.float64)
    frames[0, 0, :5] = [-3.0, 1.5, 70000.0, np.nan, 4.0]
    series = make_series(numbers=[1, 2], frames=da.from_array(frames))
    report = write_smv(series, tmp_path / "lifted")
    # -3 needs a pedestal of 3
    assert report.pedestal_added == 3
    assert (report.n_clipped_low, report.n_clipped_high) == (0, 1)
    assert (report.n_rounded, report.n_not_finite) == (1, 1)
    assert not report.lossless
    assert len(report.notes) == 4
    one = smv.read_header(report.files[0])
    read = smv.read_pixels(report.files[0], one, 0, 1)
    np.testing.assert_array_equal(read[0, 0, :5], [0, 4, 65535, 3, 7])
    assert one.metadata.pedestal == 3
    assert one.metadata.saturation == 11813

    kept = write_smv(series, tmp_path / "asis", pedestal=0)
    assert (kept.n_clipped_low, kept.pedestal_added) == (1, 0)


def test_never_over_other_frames(
    tmp_path: Path, make_series: Callable[..., RotationSeries]
) -> None:
    series = make_series(numbers=[1])
    write_smv(series, tmp_path)
    with pytest.raises(UserError, match="none yet"):
        write_smv(series, tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file"):
        write_smv(series, tmp_path / "file" / "data")


def test_pauses_between_exposures_are_not_told_to_programs_that_know_none(
    make_series: Callable[..., RotationSeries], tmp_path: Path
) -> None:
    """Exposures of 0.49 degrees every 0.51: the headers state 0.51, centred on the exposures."""
    number = np.array([1, 2, 4, 5])
    series = make_series(
        number,
        angle_start_deg=10 + 0.51 * (number - 1),
        angle_width_deg=np.full(4, 0.49),
    )
    report = write_smv(series, tmp_path / "x")
    headers = [smv.read_header(path) for path in report.files]
    starts = [one.start_deg[0] for one in headers]
    np.testing.assert_allclose(starts, 9.99 + 0.51 * (number - 1), atol=1e-5)
    assert [one.metadata.oscillation_deg for one in headers] == pytest.approx([0.51] * 4)
    assert "even rotation by 0.51000 degrees" in report.notes[0]
