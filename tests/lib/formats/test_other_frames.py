"""TIFF, MRC and miniCBF, written by the libraries that others write them with."""

from collections.abc import Callable
from pathlib import Path

import fabio
import mrcfile
import numpy as np
import pytest
import tifffile
from fabio.cbfimage import CbfImage

from ewaldflow.lib.errors import UserError
from ewaldflow.lib.formats import cbf, mrc, read_image, read_series, tiff, write_mrc, write_tiff
from ewaldflow.lib.formats.source import Reader
from ewaldflow.lib.instrument import SeriesOverrides
from ewaldflow.lib.series.rotation_series import RotationSeries
from ewaldflow.lib.series.storage import pixel_digest

ENOUGH = SeriesOverrides(
    voltage_kV=200,
    pixel_size_mm=0.05,
    distance_mm=400,
    rotation_axis=(1, 0, 0),
    oscillation_deg=0.5,
)
Make = Callable[..., RotationSeries]

DECTRIS = """
# Detector: EIGER2 1M-W, S/N E-02-0000
# Pixel_size 75e-6 m x 75e-6 m
# Exposure_time 0.2500000 s
# Count_cutoff 30000 counts
# Wavelength 0.02508 A
# Detector_distance 0.60000 m
# Beam_xy (16.50, 9.50) pixels
# Start_angle {start:.4f} deg.
# Angle_increment 0.2500 deg.
"""


def write_cbf(path: Path, image: np.ndarray, number: int) -> None:
    text = DECTRIS.format(start=-5 + 0.25 * (number - 1))
    CbfImage(
        data=image,
        header={
            "_array_data.header_convention": '"PILATUS_1.2"',
            "_array_data.header_contents": text,
        },
    ).write(str(path))


def test_minicbf(tmp_path: Path, pixels: Callable[..., np.ndarray]) -> None:
    for number in range(1, 7):
        image = pixels(number).astype(np.int32)
        image[4, 5] = -1
        image[6, 7] = -2
        write_cbf(tmp_path / f"x_{number:04d}.cbf", image, number)
    series = read_series(tmp_path, overrides=SeriesOverrides(rotation_axis=(1, 0, 0)))
    assert series.geometry.beam_centre_px == (9.0, 16.0)  # Beam_xy counts from the corner
    assert series.geometry.pixel_size_mm == pytest.approx(0.075)
    assert series.geometry.distance_mm == pytest.approx(600)
    assert series.saturation == 30000
    assert series.exposure_s == 0.25
    np.testing.assert_allclose(series.angle_start_deg, -5 + 0.25 * np.arange(6))
    np.testing.assert_array_equal(np.argwhere(series.mask), [[4, 5], [6, 7]])
    assert series.frames.dtype == np.int32
    np.testing.assert_array_equal(series.frames[2].compute()[~series.mask], pixels(3)[~series.mask])


def test_a_truncated_minicbf(tmp_path: Path, pixels: Callable[..., np.ndarray]) -> None:
    path = tmp_path / "1.cbf"
    write_cbf(path, pixels(1).astype(np.int32), 1)
    assert fabio.open(str(path)).data.shape == (20, 30)
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(ValueError, match="truncated"):
        cbf.read_header(path)


@pytest.mark.parametrize("dtype", ["u1", "<u2", ">u2", "<i4", "<f4"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_tiff_types(
    tmp_path: Path, pixels: Callable[..., np.ndarray], dtype: str, compression: str | None
) -> None:
    path, image = tmp_path / "00001.tif", pixels(1).astype(dtype)
    order = ">" if dtype[0] == ">" else "<"
    tifffile.imwrite(path, image, byteorder=order, compression=compression)
    header = tiff.read_header(path)
    read = tiff.read_pixels(path, header, 0, 1)
    assert header.n_frames == 1
    assert read.shape == (1, 20, 30)
    np.testing.assert_array_equal(read[0], image)


def test_tiff_of_instamatic(tmp_path: Path, pixels: Callable[..., np.ndarray]) -> None:
    # Its description is YAML with tags that would make Python objects: they are passed over.
    text = (
        "ImageExposureTime: 0.3\nbeam_center: [9.5, 16.5]\n"
        "StagePosition: !!python/object/apply:os.system ['touch pwned']\n"
        "GunTilt: !!python/tuple [1, 2]\n"
    )
    for number in (1, 2, 3):
        path = tmp_path / f"{number:05d}.tiff"
        tifffile.imwrite(path, pixels(number), description=text, metadata=None)
    series = read_series(tmp_path, overrides=ENOUGH)
    assert series.exposure_s == 0.3
    assert series.geometry.beam_centre_px == (9.0, 16.0)
    assert not (tmp_path / "pwned").exists()
    assert not Path("pwned").exists()


def test_damaged_tiff(tmp_path: Path, pixels: Callable[..., np.ndarray]) -> None:
    path = tmp_path / "1.tif"
    tifffile.imwrite(path, pixels(1))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="truncated"):
        tiff.read_header(path)
    tifffile.imwrite(path, np.zeros((20, 30, 3), np.uint8), photometric="rgb")
    with pytest.raises(ValueError, match="one channel"):
        tiff.read_header(path)


@pytest.mark.parametrize("dtype", ["i1", "i2", "u2", "f4", "f2"])
def test_mrc_types(tmp_path: Path, pixels: Callable[..., np.ndarray], dtype: str) -> None:
    path, image = tmp_path / "1.mrc", (pixels(1) // 40).astype(dtype)
    mrcfile.write(path, image)
    assert mrc.sniff(path.read_bytes()[:1024])
    header = mrc.read_header(path)
    np.testing.assert_array_equal(mrc.read_pixels(path, header, 0, 1)[0], image)
    assert header.dtype == np.dtype(dtype)


def test_mrc_of_instamatic_is_upside_down(
    tmp_path: Path, pixels: Callable[..., np.ndarray]
) -> None:
    for number in (1, 2):
        path = tmp_path / f"{number:05d}.mrc"
        mrcfile.write(path, pixels(number)[::-1])
        raw = bytearray(path.read_bytes())
        raw[208:216] = b"MAP\0\x00\x00\x41\x44"  # as its writer leaves them
        path.write_bytes(raw)
    series = read_series(tmp_path, overrides=ENOUGH)
    np.testing.assert_array_equal(series.frames[1].compute(), pixels(2))
    assert any("upside down" in note for note in series.notes)


def test_mrc_with_fei_header(tmp_path: Path, pixels: Callable[..., np.ndarray]) -> None:
    path = tmp_path / "stack.mrc"
    extended = np.zeros(3, mrcfile.dtypes.get_ext_header_dtype(b"FEI1"))
    extended["Metadata size"] = extended.dtype.itemsize
    extended["HT"] = 300e3
    extended["Camera length"] = 0.378
    extended["Pixel size X"] = 1.2e7  # 1/m of a pixel
    extended["Alpha tilt"] = [-1.0, -0.5, 0.0]
    with mrcfile.new(path) as file:
        file.set_data(np.array([pixels(n) for n in (1, 2, 3)]))
        file.set_extended_header(extended)
        file.header.exttyp = b"FEI1"
        file.set_image_stack()
    given = SeriesOverrides(pixel_size_mm=0.03, rotation_axis=(1, 0, 0))
    series = read_series(path, overrides=given)
    # L = p / (lambda * 1/A per px) = 0.03 mm / (0.0196875 A * 0.0012 / A)
    assert series.geometry.distance_mm == pytest.approx(0.03 / (0.01968749 * 1.2e-3), rel=1e-6)
    assert series.geometry.wavelength_A == pytest.approx(0.0196875, abs=5e-8)
    np.testing.assert_allclose(series.angle_start_deg, [-1.0, -0.5, 0.0])
    np.testing.assert_allclose(series.angle_width_deg, 0.5)
    np.testing.assert_array_equal(series.frames[2].compute(), pixels(3))


def test_damaged_mrc(tmp_path: Path, pixels: Callable[..., np.ndarray]) -> None:
    path = tmp_path / "1.mrc"
    mrcfile.write(path, pixels(1))
    whole = path.read_bytes()
    path.write_bytes(whole[:-2])
    with pytest.raises(ValueError, match="truncated"):
        mrc.read_header(path)
    path.write_bytes(whole[:12] + b"\x04" + whole[13:])  # mode 4: complex
    with pytest.raises(ValueError, match="mode 4"):
        mrc.read_header(path)


@pytest.mark.parametrize("write", [write_tiff, write_mrc])
@pytest.mark.parametrize("stack", [False, True])
def test_pixels_survive(
    tmp_path: Path, make_series: Make, write: Callable[..., object], stack: bool
) -> None:
    series = make_series(range(1, 71))  # more than two blocks
    suffix = ".tif" if write is write_tiff else ".mrc"
    path = tmp_path / (f"stack{suffix}" if stack else "frames")
    assert write(series, path).lossless  # type: ignore[attr-defined]
    read = read_series(path, overrides=ENOUGH)
    assert len(read) == 70
    assert pixel_digest(read) == pixel_digest(series)
    assert read.frames.numblocks[0] == 3


@pytest.mark.parametrize("write", [write_tiff, write_mrc])
def test_a_stack_has_no_gaps(
    tmp_path: Path, make_series: Make, write: Callable[..., object]
) -> None:
    suffix = ".tif" if write is write_tiff else ".mrc"
    with pytest.raises(UserError, match="write a folder"):
        write(make_series([1, 2, 4]), tmp_path / f"stack{suffix}")
    report = write(make_series([5, 6]), tmp_path / f"stack{suffix}")
    assert report.notes == ("frame 5 is number 1 in the stack",)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("lowest", "highest", "stored"),
    [(-5, 30000, "int16"), (0, 65535, "uint16"), (-5, 70000, "float32")],
)
def test_mrc_of_long_integers(
    tmp_path: Path, make_series: Make, lowest: int, highest: int, stored: str
) -> None:
    series = make_series([1])
    frames = series.frames.astype(np.int32)
    frames[0, 0, 0], frames[0, 0, 1] = lowest, highest
    series = series.with_(frames=frames)
    report = write_mrc(series, tmp_path)
    assert mrc.read_header(report.files[0]).dtype == np.dtype(stored)
    read = read_series(tmp_path, overrides=ENOUGH)
    assert pixel_digest(read) == pixel_digest(series)
    frames[0, 0, 1] = 2**24 + 1
    with pytest.raises(UserError, match="16777216"):
        write_mrc(series.with_(frames=frames), tmp_path / "more")


@pytest.mark.parametrize("reader", [tiff.READER, mrc.READER, cbf.READER])
def test_sniffing_refuses_other_bytes(reader: Reader) -> None:
    assert not reader.sniff(b"")
    assert not reader.sniff(b"{\nHEADER_BYTES=512;\n".ljust(1024))
    assert not reader.sniff(bytes(range(256)) * 4)


def test_a_size_that_no_compression_could_have_packed(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((16, 16), np.uint16), metadata=None)
    content = bytearray((tmp_path / "a.tif").read_bytes())
    width = content.index(b"\x00\x01")  # ImageWidth, a number of 32 bits 8 bytes behind its tag
    content[width + 8 : width + 12] = b"\xff\xff\xff\x7f"
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(UserError) as error:
        read_image(tmp_path / "a.tif")
    assert "2147483647" in str(error.value)
