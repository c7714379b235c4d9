"""Files of detectors' own programs: TVIPS, SER, blockfiles, Dectris; and any of them gzipped."""

from __future__ import annotations

import gzip
import pickle
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from ewaldflow.lib.errors import UserError
from ewaldflow.lib.formats import SeriesOverrides, blo, nexus, read_image, read_series, ser, tvips
from ewaldflow.lib.formats.registry import reader_of_suffix
from ewaldflow.lib.formats.source import CHUNK_FRAMES, block_frames
from ewaldflow.lib.optics import electron_wavelength_A
from ewaldflow.lib.series.rotation_series import RotationSeries

Make = Callable[..., RotationSeries]
ENOUGH = SeriesOverrides(
    voltage_kV=200, pixel_size_mm=0.05, distance_mm=400, rotation_axis=(0, 1, 0),
    oscillation_deg=0.5, start_deg=-10,
)  # fmt: skip
ROWS, COLUMNS = 3, 5


def counts(n: int, dtype: str = "<u2") -> np.ndarray:
    return (np.arange(n * ROWS * COLUMNS).reshape(n, ROWS, COLUMNS) % 251).astype(dtype)


# ---- TVIPS


def tvips_bytes(
    frames: np.ndarray, *, first: bool = True, mode: int = 2, alpha: list[float] | None = None,
    version: int = 2,
) -> bytes:  # fmt: skip
    """A file of a stream, as EMMENU's recorder writes it: 200 kV, 15.6 um pixels binned by 2."""
    said = (256, version, COLUMNS, ROWS, 16, 0, 0, 2, 2, 15600, 200, 1500, 100)
    data = struct.pack("<13I", *said).ljust(256, b"T") if first else b""
    for k, frame in enumerate(frames):
        header = struct.pack("<4IfII", k, 0, 0, 0, 0.0, 1500, mode)
        header += struct.pack("<5f", 0, 0, 0, alpha[k] if alpha else 0.0, 0)
        data += header.ljust(12 if version == 1 else 100, b"\0")[: 12 if version == 1 else 100]
        data += frame.astype("<u2").tobytes()
    return data


def test_a_tvips_series_over_three_files(tmp_path: Path) -> None:
    frames = counts(9)
    angles = [-2 + 0.25 * k for k in range(9)]
    for i, part in enumerate((slice(0, 4), slice(4, 7), slice(7, 9))):
        data = tvips_bytes(frames[part], first=i == 0, alpha=angles[part])
        (tmp_path / f"rec_{i:03d}.tvips").write_bytes(data)
    header = tvips.read_header(tmp_path / "rec_000.tvips")
    assert (header.n_frames, header.shape, header.dtype) == (9, (3, 5), np.dtype("<u2"))
    assert header.metadata.voltage_kV == 200
    assert header.metadata.pixel_size_mm == pytest.approx(0.0312)
    assert header.metadata.camera_length_mm == 1500
    np.testing.assert_allclose(header.start_deg, angles)
    for first in range(9):
        for stop in range(first + 1, 10):
            found = tvips.read_pixels(tmp_path / "rec_000.tvips", header, first, stop)
            np.testing.assert_array_equal(found, frames[first:stop])
    given = SeriesOverrides(distance_mm=1500, rotation_axis=(1, 0, 0))
    series = read_series(tmp_path, overrides=given)
    assert (series.name, len(series)) == ("rec", 9)
    np.testing.assert_array_equal(series.frames.compute(), frames)
    np.testing.assert_allclose(series.angle_start_deg, angles)
    # the digests of all three are kept
    assert [Path(one.path).name for one in series.sources] == [
        "rec_000.tvips", "rec_001.tvips", "rec_002.tvips",
    ]  # fmt: skip
    with pytest.raises(UserError, match="continues another"):
        read_series(tmp_path / "rec_001.tvips")


def test_other_tvips(tmp_path: Path) -> None:
    path = tmp_path / "rec_000.tvips"
    path.write_bytes(tvips_bytes(counts(2), version=1))
    old = tvips.read_header(path)
    np.testing.assert_array_equal(tvips.read_pixels(path, old, 0, 2), counts(2))
    assert old.start_deg == ()
    path.write_bytes(tvips_bytes(counts(3), mode=1, alpha=[0, 1, 1]))
    image = tvips.read_header(path)
    assert image.metadata.camera_length_mm is None
    assert "not in diffraction" in image.notes[0]
    assert "do not go on" in image.notes[1]
    path.write_bytes(tvips_bytes(counts(2))[:-1])
    with pytest.raises(ValueError, match="truncated: rec_000"):
        tvips.read_header(path)
    assert not tvips.sniff(b"\0" * 1024)


# ---- SER


def ser_bytes(frames: np.ndarray, *, version: int = 0x0210, kind: int = 0x4122) -> bytes:
    code = {"<u2": 2, "<i4": 6, "<f4": 7}[frames.dtype.str]
    wide = "Q" if version >= 0x0220 else "I"
    head = struct.pack("<3H4I", 0x4949, 0x0197, version, kind, 0x4152, len(frames), len(frames))
    table = len(head) + struct.calcsize("<" + wide) + 4
    element = struct.calcsize("<2di2diHii")
    size = element + frames[0].nbytes
    start = table + 2 * len(frames) * struct.calcsize("<" + wide)
    offsets = [start + k * size for k in range(len(frames))]
    data = head + struct.pack(f"<{wide}I", table, 1)
    data += struct.pack(f"<{len(frames)}{wide}", *offsets) * 2
    for frame in frames:
        data += struct.pack("<2di2diHii", 0, 3.5e7, 0, 0, 3.5e7, 0, code, COLUMNS, ROWS)
        data += frame[::-1].tobytes()  # from the bottom up
    return data


EMI = """junk\0<ObjectInfo><ExperimentalDescription><Root>
<Data><Label>High tension</Label><Value>200</Value><Unit>kV</Unit></Data>
<Data><Label>Camera length</Label><Value>0.52</Value><Unit>m</Unit></Data>
<Data><Label>Mode</Label><Value>TEM uP SA Zoom {mode}</Value><Unit></Unit></Data>
</Root></ExperimentalDescription><AcquireInfo><CameraNamePath>Ceta</CameraNamePath>
<IntegrationTime>0.5</IntegrationTime></AcquireInfo></ObjectInfo>\0junk"""


@pytest.mark.parametrize("version", [0x0210, 0x0220])
def test_ser(tmp_path: Path, version: int) -> None:
    path = tmp_path / "pattern_1.ser"
    frames = counts(4, "<i4")
    path.write_bytes(ser_bytes(frames, version=version))
    header = ser.read_header(path)
    assert (header.n_frames, header.shape, header.dtype) == (4, (3, 5), np.dtype("<i4"))
    np.testing.assert_array_equal(ser.read_pixels(path, header, 1, 4), frames[1:])
    (tmp_path / "pattern.emi").write_text(EMI.format(mode="Diffraction"))
    image = read_image(path, 2)
    assert image.wavelength_A == electron_wavelength_A(200)
    assert (image.camera_length_mm, image.exposure_s, image.camera) == (520, 0.5, "Ceta")
    assert image.per_A_per_px == pytest.approx(3.5e-3)
    (tmp_path / "pattern.emi").write_text(EMI.format(mode="Image"))
    assert read_image(path, 2).camera_length_mm is None
    (tmp_path / "pattern.emi").write_text("<ObjectInfo><broken></ObjectInfo>")
    assert "can be read" in ser.read_header(path).notes[1]


def test_damaged_ser(tmp_path: Path) -> None:
    path = tmp_path / "a.ser"
    whole = ser_bytes(counts(2))
    for data, says in (
        (whole[:-2], "truncated"),
        (whole[:20], "truncated"),
        (whole[:30], "truncated"),
        (ser_bytes(counts(2), kind=0x4120), "spectra"),
        (ser_bytes(counts(2), kind=0x4100), "expected images"),
        (whole.replace(struct.pack("<H2i", 2, 5, 3), struct.pack("<H2i", 9, 5, 3)), "type 9"),
    ):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=says):
            ser.read_header(path)


# ---- blockfiles


def test_blockfile(tmp_path: Path) -> None:
    side, rows, columns = 4, 2, 3
    patterns = np.arange(rows * columns * side * side, dtype=np.uint8).reshape(-1, side, side)
    head = struct.pack(
        "<6sHIIIHHHHHddIHI", b"IMGBLO", 0x0102, 512, 600, 0, side, 0, columns, rows, 0, 1.0, 1.0,
        200000, 6250, 2000,
    )  # fmt: skip
    data = head.ljust(600, b"\0")
    for k, pattern in enumerate(patterns):
        data += struct.pack("<HI", 0x55AA, k) + pattern.tobytes()
    path = tmp_path / "a.blo"
    path.write_bytes(data)
    header = blo.read_header(path)
    assert (header.n_frames, header.shape) == (6, (4, 4))
    np.testing.assert_array_equal(blo.read_pixels(path, header, 2, 5), patterns[2:5])
    # 6250 in hundredths of pixels per cm: 0.16 mm; 2000 in tenths of mm
    assert header.metadata.pixel_size_mm == pytest.approx(0.16)
    assert header.metadata.camera_length_mm == 200
    path.write_bytes(data[:-1])
    with pytest.raises(ValueError, match="truncated"):
        blo.read_header(path)
    path.write_bytes(data[:20])
    with pytest.raises(ValueError, match="truncated"):
        blo.read_header(path)


# ---- Dectris


def dectris(
    folder: Path, frames: list[np.ndarray], *, description: str = "Dectris EIGER2 Si 1M",
    energy_eV: float = 12650.0, wavelength_A: float | None = None,
) -> Path:  # fmt: skip
    """A master and its data files, as the filewriter makes them."""
    import hdf5plugin

    n = sum(map(len, frames))
    path = folder / "run_7_master.h5"
    with h5py.File(path, "w") as file:
        data = file.create_group("entry/data")
        for k, part in enumerate(frames, 1):
            name = f"run_7_data_{k:06d}.h5"
            with h5py.File(folder / name, "w") as beside:
                beside.create_dataset("entry/data/data", data=part, **hdf5plugin.Bitshuffle())
            data[f"data_{k:06d}"] = h5py.ExternalLink(name, "/entry/data/data")
        detector = file.create_group("entry/instrument/detector")
        detector["description"] = np.bytes_(description)
        for name, value, units in (
            ("x_pixel_size", 7.5e-5, "m"), ("y_pixel_size", 7.5e-5, "m"),
            ("detector_distance", 0.4, "m"), ("beam_center_x", 2.5, "pixel"),
            ("beam_center_y", 1.5, "pixel"), ("count_time", 0.099, "s"), ("frame_time", 0.1, "s"),
        ):  # fmt: skip
            detector[name] = value
            detector[name].attrs["units"] = units
        specific = detector.create_group("detectorSpecific")
        specific["photon_energy"] = energy_eV
        specific["countrate_correction_count_cutoff"] = 9000
        mask = np.zeros((ROWS, COLUMNS), np.uint32)
        mask[1] = 1
        specific["pixel_mask"] = mask
        if wavelength_A:
            file["entry/instrument/beam/incident_wavelength"] = wavelength_A
        file["entry/sample/goniometer/omega"] = -30 + 0.2 * np.arange(n)
        file["entry/sample/goniometer/omega_increment"] = 0.2
    return path


def test_a_dectris_master(tmp_path: Path) -> None:
    frames = counts(7, "<u4")
    frames[:, 1] = 2**32 - 1  # as the detector marks a gap
    path = dectris(tmp_path, [frames[:3], frames[3:6], frames[6:]])
    series = read_series(tmp_path, overrides=SeriesOverrides(rotation_axis=(0, 1, 0)))
    assert (series.name, len(series)) == ("run_7", 7)
    np.testing.assert_array_equal(series.frames.compute(), frames)
    np.testing.assert_allclose(series.angle_start_deg, -30 + 0.2 * np.arange(7))
    np.testing.assert_allclose(series.angle_width_deg, 0.2)
    assert series.geometry.wavelength_A == pytest.approx(12398.4198 / 12650, rel=1e-6)
    np.testing.assert_allclose(series.geometry.beam_centre_px, (1.0, 2.0))  # from the corner
    assert series.geometry.distance_mm == pytest.approx(400)
    np.testing.assert_array_equal(series.mask, np.arange(ROWS)[:, None] == [1] * COLUMNS)
    assert (series.saturation, series.exposure_s) == (9000, 0.1)
    assert not any("saturation" in note for note in series.notes)  # of pixels that are none
    assert len(series.sources) == 4
    header = nexus.read_header(path)
    np.testing.assert_array_equal(nexus.read_pixels(path, header, 2, 7), frames[2:])
    with pytest.raises(UserError, match="continues another"):
        read_series(tmp_path / "run_7_data_000002.h5")
    (tmp_path / "run_7_data_000002.h5").unlink()
    with pytest.raises(UserError, match="put them into its folder"):
        read_series(path, overrides=SeriesOverrides(rotation_axis=(0, 1, 0)))


@pytest.mark.parametrize(
    ("wavelength_A", "expected"),
    [(None, None), (12398.419843 / 3e5, None), (0.0196875, 0.0196875)],
    ids=["none", "that of photons", "that of electrons"],
)
def test_the_energy_of_a_camera_for_electrons(
    tmp_path: Path, wavelength_A: float | None, expected: float | None
) -> None:
    path = dectris(
        tmp_path, [counts(2, "<u4")], description="Dectris ARINA CZT", energy_eV=3e5,
        wavelength_A=wavelength_A,
    )  # fmt: skip
    found = nexus.read_header(path)
    assert found.metadata.exact_wavelength_A == (expected or electron_wavelength_A(300))
    assert any("keV" in note for note in found.notes) == (expected is None)


def test_other_hdf5(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["somewhere/else"] = counts(2)
    with pytest.raises(UserError, match="without frames in entry/data"):
        read_image(path)
    path.write_bytes(nexus.MAGIC + bytes(100))
    with pytest.raises(UserError, match="cannot be opened"):
        read_image(path)


# ---- HyperSpy


def test_hspy(tmp_path: Path) -> None:
    frames = np.arange(2 * 3 * 4 * 5, dtype=np.uint16).reshape(2, 3, 4, 5)
    path = tmp_path / "scan.hspy"

    def write(scale: float, units: str) -> None:
        with h5py.File(path, "w") as file:
            signal = file.create_group("Experiments/pattern")
            signal["data"] = frames
            for n in range(4):
                axis = signal.create_group(f"axis-{n}")
                axis.attrs["scale"], axis.attrs["units"] = (2.0, "nm") if n < 2 else (scale, units)
            tem = signal.create_group("metadata/Acquisition_instrument/TEM")
            tem.attrs["beam_energy"], tem.attrs["camera_length"] = 200.0, 80.0

    write(0.05, "1 / nm")
    image = read_image(path, 5)
    np.testing.assert_array_equal(image.pixels, frames[1, 1])
    assert image.per_A_per_px == pytest.approx(0.005)
    assert image.camera_length_mm == 80
    assert image.wavelength_A == electron_wavelength_A(200)
    write(1e-20, "1/nm")
    assert "not used" in read_image(path, 1).notes[0]
    write(0.05, "nm")
    assert "not calibrated" in read_image(path, 1).notes[0]
    with h5py.File(path, "w") as file:
        file["Experiments/line/data"] = np.arange(9)
    with pytest.raises(UserError, match="expected images"):
        read_image(path)
    with h5py.File(path, "w") as file:
        file["other"] = frames
    with pytest.raises(UserError, match="without a signal"):
        read_image(path)


# ---- gzip, blocks


def test_gzipped_frames(tmp_path: Path, smv_folder: Callable[..., Path]) -> None:
    plain = smv_folder(tmp_path / "plain", range(1, 6))
    packed = tmp_path / "packed"
    packed.mkdir()
    for path in plain.iterdir():
        with gzip.open(packed / f"{path.name}.gz", "wb") as file:
            file.write(path.read_bytes())
    given = SeriesOverrides(voltage_kV=200, rotation_axis=(0, 1, 0))
    a, b = (read_series(folder, overrides=given) for folder in (plain, packed))
    np.testing.assert_array_equal(a.frames.compute(), b.frames.compute())
    np.testing.assert_array_equal(a.frame_number, b.frame_number)
    np.testing.assert_array_equal(a.angle_start_deg, b.angle_start_deg)
    assert a.geometry == b.geometry
    reader = reader_of_suffix(packed / "00001.img.gz")
    assert pickle.loads(pickle.dumps(reader)).name == "SMV"  # workers are sent it
    broken = packed / "00003.img.gz"
    broken.write_bytes(broken.read_bytes()[:-200])
    series = read_series(packed, overrides=given)
    assert series.missing_numbers == (3,)
    assert any("00003.img.gz" in note for note in series.notes)
    shutil.copy(plain / "00001.img", tmp_path / "not.img.gz")
    with pytest.raises(UserError, match=r"no known kind|SMV"):
        read_image(tmp_path / "not.img.gz")


def test_frames_in_memory_at_a_time() -> None:
    assert block_frames((512, 512), 2) == CHUNK_FRAMES
    # 4096 x 4096 of 16 bits are 32 MiB each, of which two make 64
    assert block_frames((4096, 4096), 2) == 2
    assert block_frames((16384, 16384), 4) == 1
    for shape in ((1, 1), (516, 516), (1030, 514), (2048, 2048), (4096, 4096)):
        held = block_frames(shape, 4) * shape[0] * shape[1] * 4
        assert held <= 1 << 26 or block_frames(shape, 4) == 1
