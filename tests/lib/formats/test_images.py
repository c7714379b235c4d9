"""Single images: DM, EMD, TIFF with the tags of other programs, and what is no image."""

import json
import struct
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile

from ewaldflow.lib.errors import UserError
from ewaldflow.lib.formats import dm, emd, read_image
from ewaldflow.lib.formats.units import reciprocal_A
from ewaldflow.lib.optics import electron_wavelength_A

_KINDS = {"i4": (3, 7), "f4": (6, 2), "u2": (4, 10), "f8": (7, 12)}  # element code, DataType


def _tag(name: str, body: bytes, kind: int) -> bytes:
    raw = name.encode()
    return struct.pack(">BH", kind, len(raw)) + raw + struct.pack(">Q", len(body)) + body


def _data(name: str, info: tuple[int, ...], raw: bytes) -> bytes:
    body = b"%%%%" + struct.pack(">Q", len(info)) + struct.pack(f">{len(info)}Q", *info) + raw
    return _tag(name, body, 21)


def _value(name: str, value: Any) -> bytes:
    if isinstance(value, dict):
        return _tag(name, _group(value), 20)
    if isinstance(value, list):
        return _tag(name, _group(dict.fromkeys(range(0))), 20) if not value else _tag(
            name, _group({f"\0{i}": one for i, one in enumerate(value)}), 20
        )  # fmt: skip
    if isinstance(value, str):
        raw = value.encode("utf-16-le")
        return _data(name, (20, 4, len(value)), raw)
    if isinstance(value, tuple):  # a struct of two floats
        return _data(name, (15, 0, 2, 0, 6, 0, 6), struct.pack("<2f", *value))
    if isinstance(value, np.ndarray):
        return _data(name, (20, _KINDS[value.dtype.str[1:]][0], value.size), value.tobytes())
    if isinstance(value, int):
        return _data(name, (5,), struct.pack("<I", value))
    return _data(name, (7,), struct.pack("<d", value))


def _group(tags: dict[str, Any]) -> bytes:
    inner = b"".join(_value("" if k.startswith("\0") else k, v) for k, v in tags.items())
    return struct.pack(">BBQ", 1, 0, len(tags)) + inner


def write_dm4(
    path: Path, pixels: np.ndarray, tags: dict[str, Any], scale: float, unit: str
) -> None:
    """As DigitalMicrograph lays it out: image, its calibration, its tags."""
    axis = {"Origin": 0.0, "Scale": scale, "Units": unit}
    image = {
        "ImageData": {
            "Calibrations": {
                "Brightness": {"Origin": 0.0, "Scale": 1.0, "Units": ""},
                "Dimension": [dict(axis) for _ in pixels.shape],
            },
            "Data": pixels,
            "DataType": _KINDS[pixels.dtype.str[1:]][1],
            "Dimensions": [int(n) for n in pixels.shape[::-1]],
            "PixelDepth": pixels.dtype.itemsize,
        },
        "ImageTags": tags,
        "Name": "one",
    }
    root = _group({"ImageList": [image], "InImageMode": 1})
    path.write_bytes(struct.pack(">IQI", 4, len(root) + 16, 1) + root + bytes(8))


TAGS = {
    "Microscope Info": {
        "Voltage": 200000.0,
        "Actual Magnification": 480.0,
        "Indicated Magnification": 400.0,
        "STEM Camera Length": 100.0,
        "Imaging Mode": "DIFFRACTION",
    },
    "Acquisition": {
        "Device": {"CCD": {"Pixel Size (um)": (15.0, 15.0)}, "Name": "OneView"},
        "Parameters": {"High Level": {"Binning": (2.0, 2.0), "Exposure (s)": 0.5}},
    },
}


def test_dm4(tmp_path: Path) -> None:
    pixels = np.arange(12, dtype="<i4").reshape(3, 4)
    write_dm4(tmp_path / "one.dm4", pixels, TAGS, 0.02, "1/nm")
    image = read_image(tmp_path / "one.dm4")
    np.testing.assert_array_equal(image.pixels, pixels)
    assert image.pixels.dtype == np.int32
    assert image.wavelength_A == electron_wavelength_A(200)
    # the calibrated length, not the displayed or the stale one; 15 um binned by 2
    assert (image.camera_length_mm, image.pixel_size_mm) == (480.0, 0.03)
    assert (image.per_A_per_px, image.exposure_s) == (pytest.approx(0.002), 0.5)
    assert (image.camera, image.name, image.notes) == ("OneView", "one", ())


def test_a_stack_of_dm4_frames(tmp_path: Path) -> None:
    pixels = np.arange(24, dtype="<u2").reshape(2, 3, 4)
    write_dm4(tmp_path / "one.dm4", pixels, TAGS, 0.02, "1/nm")
    header = dm.read_header(tmp_path / "one.dm4")
    assert (header.shape, header.n_frames) == ((3, 4), 2)
    np.testing.assert_array_equal(dm.read_pixels(tmp_path / "one.dm4", header, 1, 2), pixels[1:])
    with pytest.raises(UserError, match="a stack of 2 frames"):
        read_image(tmp_path / "one.dm4")
    with pytest.raises(UserError, match="frame: found 3, expected 1 to 2"):
        read_image(tmp_path / "one.dm4", 3)
    np.testing.assert_array_equal(read_image(tmp_path / "one.dm4", 2).pixels, pixels[1])


def test_a_dm4_that_states_nothing(tmp_path: Path) -> None:
    write_dm4(tmp_path / "one.dm4", np.zeros((3, 4), "<f4"), {"a": 1}, 1.0, "")
    image = read_image(tmp_path / "one.dm4")
    for name in ("wavelength_A", "pixel_size_mm", "camera_length_mm", "per_A_per_px"):
        assert getattr(image, name) is None
    assert {"the DM tags state no voltage", "the DM tags state no pixel size"} <= set(image.notes)


def test_a_dm4_of_an_image_has_no_camera_length(tmp_path: Path) -> None:
    tags = TAGS | {"Microscope Info": TAGS["Microscope Info"] | {"Imaging Mode": "IMAGING"}}
    write_dm4(tmp_path / "one.dm4", np.zeros((3, 4), "<f4"), tags, 1.0, "nm")
    assert read_image(tmp_path / "one.dm4").camera_length_mm is None


def test_a_dm4_of_uneven_binning_has_no_pixel_size(tmp_path: Path) -> None:
    device = TAGS["Acquisition"]["Device"]
    tags = TAGS | {
        "Acquisition": {"Device": device, "Parameters": {"High Level": {"Binning": (1.0, 26.0)}}}
    }
    write_dm4(tmp_path / "one.dm4", np.zeros((3, 4), "<f4"), tags, 0.02, "1/nm")
    image = read_image(tmp_path / "one.dm4")
    assert image.pixel_size_mm is None
    assert "0.015 x 0.39 mm" in image.notes[0]


@pytest.mark.parametrize("part", [0.001, 0.3, 0.9, 0.99])
def test_truncated_dm4(tmp_path: Path, part: float) -> None:
    write_dm4(tmp_path / "one.dm4", np.zeros((30, 40), "<f4"), TAGS, 0.02, "1/nm")
    whole = (tmp_path / "one.dm4").read_bytes()
    (tmp_path / "one.dm4").write_bytes(whole[: max(1, int(part * len(whole)))])
    with pytest.raises(UserError) as caught:
        read_image(tmp_path / "one.dm4")
    assert "\n" not in str(caught.value)
    assert "copy" in str(caught.value)


def write_velox(path: Path, data: np.ndarray, unit: str) -> None:
    said = {
        "Optics": {"AccelerationVoltage": "300000", "CameraLength": "0.378"},
        "BinaryResult": {
            "PixelSize": {"width": "2e8", "height": "2e8"},
            "PixelUnitX": unit, "PixelUnitY": unit, "DetectorIndex": "0", "Detector": "BM-Ceta",
        },
        "Detectors": {"Detector-0": {"ExposureTime": "0.8"}},
    }  # fmt: skip
    column = np.frombuffer(json.dumps(said).encode().ljust(2000, b"\0"), np.uint8)
    with h5py.File(path, "w") as file:
        group = file.create_group("Data/Image/abc")
        group["Data"] = data
        group["Metadata"] = np.repeat(column[:, None], data.shape[2], axis=1)


def test_velox(tmp_path: Path) -> None:
    data = np.arange(24, dtype=np.int16).reshape(3, 4, 2)  # frames are along the last axis
    write_velox(tmp_path / "one.emd", data, "1/m")
    header = emd.read_header(tmp_path / "one.emd")
    assert (header.shape, header.n_frames, header.camera) == ((3, 4), 2, "BM-Ceta")
    image = read_image(tmp_path / "one.emd", 2)
    np.testing.assert_array_equal(image.pixels, data[:, :, 1])
    assert image.per_A_per_px == pytest.approx(0.02)
    assert (image.camera_length_mm, image.exposure_s) == (pytest.approx(378.0), 0.8)
    assert image.wavelength_A == electron_wavelength_A(300)
    write_velox(tmp_path / "two.emd", data, "m")  # an image: its camera length is stale
    assert read_image(tmp_path / "two.emd", 1).camera_length_mm is None


def test_berkeley(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "one.emd", "w") as file:
        group = file.create_group("data/one")
        group.attrs["emd_group_type"] = 1
        group["data"] = np.arange(24, dtype=np.uint16).reshape(2, 3, 4)
        for axis, length in ((1, 2), (2, 3), (3, 4)):
            group[f"dim{axis}"] = 0.1 * np.arange(length)
            group[f"dim{axis}"].attrs["units"] = "[n_m^-1]"
        file.create_group("microscope").attrs.update({"voltage": 2e5, "camera length": 0.5})
    image = read_image(tmp_path / "one.emd", 2)
    np.testing.assert_array_equal(image.pixels, 12 + np.arange(12).reshape(3, 4))
    assert image.per_A_per_px == pytest.approx(0.01)
    assert (image.camera_length_mm, image.wavelength_A) == (500.0, electron_wavelength_A(200))


def test_emd_that_is_none(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "one.emd", "w") as file:
        file["a"] = np.zeros(3)
    with pytest.raises(UserError, match="0 data sets of images"):
        read_image(tmp_path / "one.emd")
    write_velox(tmp_path / "two.emd", np.zeros((64, 64, 1), np.int16), "1/m")
    whole = (tmp_path / "two.emd").read_bytes()
    (tmp_path / "two.emd").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="truncated"):
        read_image(tmp_path / "two.emd")
    (tmp_path / "three.emd").write_bytes(b"no HDF5 at all")
    with pytest.raises(UserError, match="content of no known kind"):
        read_image(tmp_path / "three.emd")


def test_tiff_with_the_scale_of_digital_micrograph(tmp_path: Path) -> None:
    for name, scale in (("one", (0.05, 0.05)), ("two", (0.05, 0.06))):
        tags = [(65003, "s", 0, "1/nm", True), (65004, "s", 0, "1/nm", True),
                (65009, "d", 1, scale[0], True), (65010, "d", 1, scale[1], True)]  # fmt: skip
        tifffile.imwrite(tmp_path / f"{name}.tif", np.zeros((3, 4), np.float32), extratags=tags)
    assert read_image(tmp_path / "one.tif").per_A_per_px == pytest.approx(0.005)
    odd = read_image(tmp_path / "two.tif")
    assert odd.per_A_per_px is None
    assert "0.005 and 0.006" in odd.notes[0]


def test_tiff_of_jeol(tmp_path: Path) -> None:
    text = (
        "<TemReporter><AccelerationVoltage>200000</AccelerationVoltage>"
        "<ImageFormingMode>modeDIFF</ImageFormingMode><SelectorValue>40</SelectorValue>"
        "<SelectorUnitString>cm</SelectorUnitString><Horizontal>4000</Horizontal>"
        "<Vertical>4000</Vertical><Modelname>EM</Modelname></TemReporter>"
    )
    pixels = np.zeros((3, 4), np.uint16)
    tifffile.imwrite(tmp_path / "one.tif", pixels, description=text, metadata=None)
    image = read_image(tmp_path / "one.tif")
    assert (image.camera_length_mm, image.pixel_size_mm, image.camera) == (400.0, 0.25, "EM")


def test_files_that_are_no_image(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No such file"):
        read_image(tmp_path / "none.dm4")
    (tmp_path / "one.docx").write_bytes(b"")
    with pytest.raises(UserError, match=r"suffix '.docx', expected .*\.dm4"):
        read_image(tmp_path / "one.docx")
    (tmp_path / "one.dm4").write_bytes(b"")
    with pytest.raises(UserError, match="an empty file"):
        read_image(tmp_path / "one.dm4")


@pytest.mark.parametrize(
    ("units", "factor"),
    [("1/nm", 0.1), ("nm^-1", 0.1), ("[n_m^-1]", 0.1), ("1/m", 1e-10), ("1/Å", 1.0),
     ("Å^-1", 1.0), ("1 / nm", 0.1), ("1/µm", 1e-4), ("nm", None), ("", None), ("mrad", None)],
)  # fmt: skip
def test_units(units: str, factor: float | None) -> None:
    found = reciprocal_A(2.0, units)
    assert found is None if factor is None else found == pytest.approx(2 * factor)
