import h5py
import numpy as np
import pytest
import zarr

from ewaldflow.lib.errors import UserError
from ewaldflow.lib.formats.scan4d import read_scan
from ewaldflow.lib.optics import electron_wavelength_A
from ewaldflow.lib.stem4d.lazy_scan import LazyScan
from ewaldflow.lib.stem4d.metadata import ScanMetadata
from ewaldflow.lib.stem4d.scan import scan_of
from ewaldflow.lib.stem4d.storage import write_scan

# (scan_row, scan_column, row, column), every value another
FRAMES = np.arange(3 * 4 * 5 * 6, dtype=np.uint16).reshape(3, 4, 5, 6)
STACK = FRAMES.reshape(12, 5, 6)
SHAPE = ScanMetadata(scan_shape=(3, 4))


def _npy(folder):
    np.save(folder / "scan.npy", FRAMES)
    return folder / "scan.npy", None


def _npy_stack(folder):
    np.save(folder / "stack.npy", STACK)
    return folder / "stack.npy", SHAPE


def _npy_big_endian(folder):
    np.save(folder / "be.npy", FRAMES.astype(">u2"))
    return folder / "be.npy", None


def _zarr_ours(folder):
    write_scan(zarr.open_group(folder / "ours.zarr", mode="w"), scan_of(FRAMES))
    return folder / "ours.zarr", None


def _zarr_array(folder):
    zarr.create_array(folder / "array.zarr", data=FRAMES)
    return folder / "array.zarr", None


def _zarr_group(folder):
    group = zarr.open_group(folder / "group", mode="w", zarr_format=2)
    group.create_array("detector/frames", data=FRAMES)
    group.create_array("detector/mean", data=FRAMES.mean((0, 1)))
    return folder / "group", None


def _hdf5(folder):
    with h5py.File(folder / "scan.h5", "w") as file:
        file["a/frames"] = FRAMES
        file["a/sum"] = FRAMES.sum((2, 3))
    return folder / "scan.h5", None


def _dectris(folder):
    with h5py.File(folder / "gold_data_000001.h5", "w") as file:
        file["entry/data/data"] = STACK[:7]
    with h5py.File(folder / "gold_data_000002.h5", "w") as file:
        file["entry/data/data"] = STACK[7:]
    with h5py.File(folder / "gold_master.h5", "w") as file:
        for n in (1, 2):
            name = f"gold_data_00000{n}.h5"
            file[f"entry/data/data_00000{n}"] = h5py.ExternalLink(name, "/entry/data/data")
        detector = file.create_group("entry/instrument/detector")
        detector["x_pixel_size"] = detector["y_pixel_size"] = 1e-4
        detector["detector_distance"] = 0.0
        detector["saturation_value"] = 8352
        mask = np.zeros((5, 6), np.uint32)
        mask[2, 3] = 1
        detector["detectorSpecific/pixel_mask"] = mask
    return folder / "gold_master.h5", SHAPE


def _mib(folder):
    head = "MQ1,{:06d},00384,01,0006,0005,U16,   1x1,01,2021-04-15 15:04:00.7,0.001,0,0,0,"
    with (folder / "scan.mib").open("wb") as file:
        for n, frame in enumerate(STACK, 1):
            text = head.format(n) + "2.0,2021-04-15T14:04:00.746234381Z,1000000ns,12,"
            file.write(text.encode().ljust(384) + frame.astype(">u2").tobytes())
    (folder / "scan.hdr").write_text(
        "HDR,\t\nCounter Depth (number):\t12\nFrames in Acquisition (Number):\t12\n"
        "Frames per Trigger (Number):\t4\nEnd\t\n"
    )
    return folder / "scan.mib", None


@pytest.mark.parametrize(
    "make",
    [_npy, _npy_stack, _npy_big_endian, _zarr_ours, _zarr_array, _zarr_group, _hdf5, _dectris,
     _mib],
)  # fmt: skip
def test_frames_come_in_the_order_taken(make, tmp_path):
    path, stated = make(tmp_path)
    scan = read_scan(path, stated=stated)
    assert scan.frames.shape == (3, 4, 5, 6)
    assert np.dtype(scan.frames.dtype).isnative
    np.testing.assert_array_equal(np.asarray(scan.frames[0:3]), FRAMES)
    np.testing.assert_array_equal(np.asarray(scan.frames[1]), FRAMES[1])
    assert not scan.missing.any()
    assert all(len(one.sha256) == 64 for one in scan.sources)


def test_blockfile(tmp_path):
    from rsciio.blockfile import file_writer

    frames = (FRAMES[:, :, :, :5] % 251).astype(np.uint8)
    axes = [
        {"name": name, "size": n, "scale": scale, "offset": 0.0, "units": units,
         "navigate": name in "yx", "index_in_array": i}
        for i, (name, n, scale, units) in enumerate(
            [("y", 3, 2.0, "nm"), ("x", 4, 2.0, "nm"), ("dy", 5, 1.0, "cm"), ("dx", 5, 1.0, "cm")]
        )
    ]  # fmt: skip
    path = tmp_path / "scan.blo"
    file_writer(
        str(path),
        {
            "data": frames,
            "axes": axes,
            "metadata": {},
            "original_metadata": {},
            "attributes": {"_lazy": False},
        },
        intensity_scaling=None,
    )
    scan = read_scan(path)
    np.testing.assert_array_equal(np.asarray(scan.frames[...]), frames)
    assert scan.scan_step_nm == (2.0, 2.0)


def test_dectris_master_says_more_than_frames(tmp_path):
    path, stated = _dectris(tmp_path)
    scan = read_scan(path, stated=stated)
    assert scan.name == "gold"
    assert scan.pixel_size_mm == pytest.approx(0.1)
    assert scan.camera_length_mm is None  # the detector's zero means that it does not know
    assert scan.saturation == 8352
    assert np.argwhere(scan.mask).tolist() == [[2, 3]]
    assert len(scan.sources) == 3


def test_the_file_beside_an_arina_master_states_the_scan(tmp_path):
    path, _ = _dectris(tmp_path)
    with h5py.File(tmp_path / "gold.h5", "w") as file:
        file.create_group("STEM Metadata").attrs.update(
            {"NumPixelsX": [4], "NumPixelsY": [3], "Pixel Size": [21.1], "Camera Length": [0.145],
             "High Tension": [300000.0]}
        )  # fmt: skip
    scan = read_scan(path)
    assert scan.scan_shape == (3, 4)
    assert scan.scan_step_nm == (21.1, 21.1)
    assert scan.camera_length_mm == pytest.approx(145)
    assert scan.wavelength_A == electron_wavelength_A(300)


def test_data_files_must_lie_beside_their_master(tmp_path):
    path, stated = _dectris(tmp_path)
    (tmp_path / "gold_data_000002.h5").unlink()
    with pytest.raises(UserError, match=r"a link to gold_data_000002\.h5, which is not beside it"):
        read_scan(path, stated=stated)


def test_merlin_header_and_the_way_up(tmp_path):
    path, _ = _mib(tmp_path)
    scan = read_scan(path)
    assert scan.saturation == 4095
    assert scan.pixel_size_mm == 0.055
    assert any("HyperSpy turns them over" in note for note in scan.notes)


def test_frames_lost_at_the_end_are_missing(tmp_path):
    path, _ = _mib(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: -2 * (384 + 60) + 10])
    scan = read_scan(path)
    assert np.argwhere(scan.missing).tolist() == [[2, 2], [2, 3]]
    assert not np.asarray(scan.frames[2])[2:].any()
    np.testing.assert_array_equal(np.asarray(scan.frames[2])[:2], FRAMES[2, :2])
    assert any("ends 2 frames before the scan does" in note for note in scan.notes)


def test_our_own_scan_keeps_all_it_knew(tmp_path):
    missing = np.zeros((3, 4), bool)
    missing[1, 2] = True
    written = scan_of(
        FRAMES, name="gold", missing=missing, wavelength_A=0.025, pixel_size_mm=0.055,
        camera_length_mm=500.0, scan_step_nm=(12.0, 13.0), notes=("odd",), instrument="lab",
    )  # fmt: skip
    write_scan(zarr.open_group(tmp_path / "a.zarr", mode="w"), written)
    scan = read_scan(tmp_path / "a.zarr", stated=ScanMetadata(camera_length_mm=480))
    for name in ("name", "wavelength_A", "pixel_size_mm", "scan_step_nm", "notes", "instrument"):
        assert getattr(scan, name) == getattr(written, name)
    assert scan.camera_length_mm == 480
    assert scan.missing[1, 2]
    assert type(scan.frames).__module__.startswith("zarr")  # the fast way of reading stays


def test_steps_of_hyperspy_and_emd_axes(tmp_path):
    with h5py.File(tmp_path / "a.hspy", "w") as file:
        file["Experiments/s/data"] = FRAMES
        for n, scale in enumerate((0.012, 0.013)):
            axis = file.create_group(f"Experiments/s/axis-{n}")
            axis.attrs.update({"scale": scale, "units": "µm"})
    assert read_scan(tmp_path / "a.hspy").scan_step_nm == pytest.approx((12.0, 13.0))
    with h5py.File(tmp_path / "a.emd", "w") as file:
        file["data/scan/data"] = FRAMES
        for n in (1, 2):
            file[f"data/scan/dim{n}"] = np.arange(4) * 25.0
            file[f"data/scan/dim{n}"].attrs["units"] = "[A]"
    assert read_scan(tmp_path / "a.emd").scan_step_nm == pytest.approx((2.5, 2.5))


def test_numbers_of_a_file_that_cannot_be_are_told(tmp_path):
    path, stated = _dectris(tmp_path)
    with h5py.File(path, "a") as file:
        for axis in "xy":  # micrometres
            file[f"entry/instrument/detector/{axis}_pixel_size"][()] = 100.0
    scan = read_scan(path, stated=stated)
    assert scan.pixel_size_mm is None
    assert any("pixel_size_mm 100000.0 in gold_master.h5" in note for note in scan.notes)


def _empad(folder, name):
    path = folder / name
    stored = np.full((6, 130, 128), -1, np.float32)
    stored[:, :128] = np.arange(6 * 128 * 128).reshape(6, 128, 128)
    path.write_bytes(stored.tobytes())
    return path, stored[:, :128].reshape(2, 3, 128, 128)


def test_an_empad_by_its_name_or_the_xml_beside_it(tmp_path):
    path, frames = _empad(tmp_path, "scan_x3_y2.raw")
    scan = read_scan(path)
    np.testing.assert_array_equal(scan.frames[...], frames)
    assert scan.pixel_size_mm == 0.15
    path, frames = _empad(tmp_path, "other.raw")
    with pytest.raises(UserError, match="6 frames in a row"):
        read_scan(path)
    (tmp_path / "about.xml").write_text(
        '<root><raw_file filename="other.raw"/><scan_parameters mode="acquire">'
        "<scan_resolution_x>3</scan_resolution_x><scan_resolution_y>2</scan_resolution_y>"
        "</scan_parameters><high_voltage>300000</high_voltage></root>"
    )
    scan = read_scan(path)
    np.testing.assert_array_equal(scan.frames[1, 1:], frames[1, 1:])
    assert scan.wavelength_A == electron_wavelength_A(300)
    assert len(scan.sources) == 2


def test_bare_numbers_are_refused(tmp_path):
    (tmp_path / "a.raw").write_bytes(b"1" * 1000)
    with pytest.raises(UserError, match="1000 bytes"):
        read_scan(tmp_path / "a.raw")


def test_one_of_several_scans_in_a_file(tmp_path):
    with h5py.File(tmp_path / "two.h5", "w") as file:
        file["a"] = FRAMES
        file["b"] = FRAMES + 1
    with pytest.raises(UserError, match=r"2 data sets of 4 axes: a, b.*two\.h5::a"):
        read_scan(tmp_path / "two.h5")
    scan = read_scan(f"{tmp_path / 'two.h5'}::b")
    np.testing.assert_array_equal(scan.frames[...], FRAMES + 1)
    with pytest.raises(UserError, match="no data set 'c'"):
        read_scan(f"{tmp_path / 'two.h5'}::c")


def _bad(folder, kind):
    path = folder / "bad.npy"
    match kind:
        case "absent":
            pass
        case "text":
            path.write_text("nothing")
        case "image":
            np.save(path, FRAMES[0, 0])
        case "one frame":
            np.save(path, STACK[:1])
        case "five axes":
            np.save(path, FRAMES[None])
        case "complex":
            np.save(path, FRAMES.astype(complex))
        case "empty folder":
            path = folder / "bad.zarr"
            path.mkdir()
        case "suffix":
            path = folder / "bad.tar"
            path.write_bytes(b"")
        case "hdf5":
            path = folder / "bad.h5"
            path.write_bytes(b"not HDF5")
        case "images only":
            path = folder / "bad.h5"
            with h5py.File(path, "w") as file:
                file["image"] = FRAMES[0, 0]
        case "empty mib":
            path = folder / "bad.mib"
            path.write_bytes(b"")
        case "cut mib":
            path = folder / "bad.mib"
            path.write_bytes(b"MQ1,000001,00384")
        case "blo":
            path = folder / "bad.blo"
            path.write_bytes(b"IMGBLO")
    return path


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("absent", "no such file or folder"),
        ("text", "expected a .npy file of a scan"),
        ("image", "one image of 5 x 6"),
        ("one frame", "one image of 5 x 6"),
        ("five axes", "data of 5 axes"),
        ("complex", "values of type complex128"),
        ("empty folder", "no zarr array or group"),
        ("suffix", "suffix '.tar'"),
        ("hdf5", "expected a .h5 file of a scan"),
        ("images only", "at most image of shape (5, 6)"),
        ("empty mib", "an empty file"),
        ("cut mib", "expected a .mib file of a scan"),
        ("blo", "truncated: 6 bytes"),
    ],
)
def test_files_that_are_no_scan_end_in_one_line(kind, told, tmp_path):
    with pytest.raises(UserError) as error:
        read_scan(_bad(tmp_path, kind))
    assert told in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("stated", "told"),
    [
        (None, "12 frames in a row"),
        (ScanMetadata(scan_shape=(3, 3)), "found 12 frames, expected 9 for 3 x 3"),
        (ScanMetadata(scan_shape=(7, 4)), "found 12 frames, expected 28 for 7 x 4"),
    ],
)
def test_a_stack_needs_its_shape(stated, told, tmp_path):
    path, _ = _npy_stack(tmp_path)
    with pytest.raises(UserError, match=told):
        read_scan(path, stated=stated)


def test_a_scan_of_another_shape_than_stated(tmp_path):
    path, _ = _npy(tmp_path)
    with pytest.raises(UserError, match="found 4 x 3 stated, expected 3 x 4, as in the file"):
        read_scan(path, stated=ScanMetadata(scan_shape=(4, 3)))


@pytest.mark.parametrize(
    "fields",
    [
        {"pixel_size_mm": 55.0},  # micrometres
        {"camera_length_mm": 0.5},  # metres
        {"scan_step_nm": (1.25e-8, 1.25e-8)},  # metres
        {"voltage_kV": 200_000.0},  # volts
        {"convergence_mrad": float("nan")},
    ],
)
def test_numbers_in_wrong_units_are_refused(fields):
    with pytest.raises(ValueError, match=next(iter(fields))):
        ScanMetadata(**fields)


INDICES = [
    0, -1, slice(None), slice(1, 3), slice(None, None, -1), slice(2, 0, -1), slice(3, 3),
    (1, 2), (1, slice(0, 2)), (slice(0, 2), 3, slice(1, 4)), [0, 2], np.array([True, False, True]),
    Ellipsis, (Ellipsis, 0), (slice(None), slice(None), 2, 2), np.int64(1),
]  # fmt: skip


@pytest.mark.parametrize("index", INDICES, ids=repr)
def test_lazy_scans_are_sliced_as_arrays_are(index):
    lazy = LazyScan([STACK[:5], STACK[5:]], (3, 4))
    np.testing.assert_array_equal(lazy[index], FRAMES[index])
    np.testing.assert_array_equal(LazyScan([FRAMES], (3, 4))[index], FRAMES[index])
    np.testing.assert_array_equal(np.asarray(lazy), FRAMES)
    with pytest.raises(IndexError):
        lazy[3]
