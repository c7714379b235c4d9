"""Reading a series: where frames are found, who is believed, and what bad input ends in."""

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile

from ewaldflow.lib.errors import UserError
from ewaldflow.lib.formats import read_series
from ewaldflow.lib.instrument import Instrument, SeriesMetadata, SeriesOverrides

Folder = Callable[..., Path]
Pixels = Callable[..., np.ndarray]

LOG = """Starting angle: -10 degrees
Ending angle: -5 degrees
Camera length: 300 mm
Rotation axis: -2.24 radians
Oscillation angle: 0.5 degrees
Image interval: every 5 frames an image with defocus 1500 (t=0.01 s).
"""


def line(error: pytest.ExceptionInfo[UserError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


# --- what a good series gives -----------------------------------------------------------


def test_a_series(
    tmp_path: Path, smv_folder: Folder, instrument: Instrument, pixels: Pixels
) -> None:
    folder = smv_folder(tmp_path / "crystal_7", range(1, 41))
    series = read_series(folder, instrument=instrument)
    assert series.name == "crystal_7"
    assert series.instrument == "bench"
    assert len(series) == 40
    np.testing.assert_array_equal(series.frame_number, np.arange(1, 41))
    np.testing.assert_allclose(series.angle_start_deg, -10 + 0.5 * np.arange(40))
    np.testing.assert_allclose(series.angle_width_deg, 0.5)
    assert series.geometry.beam_centre_px == (9.0, 16.0)
    assert series.geometry.axis == (0.0, 1.0, 0.0)
    # the header's 0.0251 is 200 kV rounded
    assert series.geometry.wavelength_A == pytest.approx(0.0250793, abs=5e-8)
    assert series.exposure_s == 0.3
    np.testing.assert_array_equal(series.mask, instrument.detector.mask)
    assert series.frames.chunks[0] == (32, 8)
    np.testing.assert_array_equal(series.frames[34].compute(), pixels(35))
    assert len(series.sources) == 40
    assert series.sources[0].path == str(folder / "00001.img")
    assert len(series.sources[0].sha256) == 64
    assert series.notes == (
        "wavelength_A: 0.0251 of the SMV headers is that of 200 kV rounded; 0.0250793 was used",
    )


def test_lazy_frames_travel_to_other_processes(
    tmp_path: Path, smv_folder: Folder, instrument: Instrument, pixels: Pixels
) -> None:
    series = read_series(smv_folder(tmp_path), instrument=instrument)
    frames = pickle.loads(pickle.dumps(series.frames))
    np.testing.assert_array_equal(frames[9].compute(), pixels(10))


def test_nothing_is_written_to_a_read_only_folder(
    tmp_path: Path, smv_folder: Folder, instrument: Instrument
) -> None:
    folder = smv_folder(tmp_path / "kept")
    before = sorted(folder.iterdir())
    folder.chmod(0o555)
    try:
        series = read_series(folder, instrument=instrument)
        assert series.frames.compute().shape == (10, 20, 30)
    finally:
        folder.chmod(0o755)
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize("below", ["SMV/data", "diff"])
def test_frames_below(
    tmp_path: Path, smv_folder: Folder, instrument: Instrument, pixels: Pixels, below: str
) -> None:
    top = tmp_path / "experiment_3"
    smv_folder(top / below)
    (top / "tiff").mkdir()
    if below == "SMV/data":
        tifffile.imwrite(top / "tiff" / "00001.tiff", pixels(1))
        tifffile.imwrite(top / "tiff" / "00002.tiff", pixels(2))
    (top / "cRED_log.txt").write_text(LOG)
    series = read_series(top, instrument=instrument)
    assert len(series) == 10
    assert series.name == "experiment_3"
    # the log beside them knows the axis; the instrument only thought it did
    np.testing.assert_allclose(series.geometry.axis, [-0.62036, 0.78432, 0], atol=1e-5)
    assert any(note.startswith("rotation_axis: (-0.62") for note in series.notes)


def test_a_single_image_beside_a_series_is_not_it(
    tmp_path: Path, smv_folder: Folder, instrument: Instrument, pixels: Pixels
) -> None:
    smv_folder(tmp_path / "diff")
    (tmp_path / "log").mkdir()
    tifffile.imwrite(tmp_path / "log" / "overview.tif", pixels(1))
    assert len(read_series(tmp_path, instrument=instrument)) == 10


def test_numbers_are_those_of_the_names(
    tmp_path: Path, smv_bytes: Callable[..., bytes], instrument: Instrument
) -> None:
    for number in (8, 9, 10, 12):
        path = tmp_path / f"Au_200kV_{number}_x1.img"
        path.write_bytes(smv_bytes(number))
    series = read_series(tmp_path, instrument=instrument)
    assert series.frame_number.tolist() == [8, 9, 10, 12]
    assert series.missing_numbers == (11,)
    assert any(note == "1 frame(s) missing in the numbering: 11" for note in series.notes)


def test_tracking_images(tmp_path: Path, smv_folder: Folder, instrument: Instrument) -> None:
    folder = smv_folder(tmp_path / "SMV" / "data", [1, 2, 3, 4, 6, 7, 9, 11, 12])
    (tmp_path / "cRED_log.txt").write_text(LOG)
    series = read_series(folder, instrument=instrument)
    assert series.tracking_numbers == (5, 10)
    assert series.missing_numbers == (8,)


def test_other_files_are_passed_over(
    tmp_path: Path, smv_folder: Folder, instrument: Instrument, pixels: Pixels
) -> None:
    folder = smv_folder(tmp_path, range(1, 21))
    tifffile.imwrite(folder / "overview.tiff", pixels(1))
    (folder / "notes.txt").write_text("3 good crystals")
    series = read_series(folder, instrument=instrument)
    assert len(series) == 20
    assert any("overview.tiff" in note for note in series.notes)


# --- who is believed --------------------------------------------------------------------


def test_precedence(tmp_path: Path, smv_folder: Folder, instrument: Instrument) -> None:
    folder = smv_folder(tmp_path)
    (tmp_path / "XDS.INP").write_text(
        "DETECTOR_DISTANCE= 500\nROTATION_AXIS= 1 0 0\nNAME_TEMPLATE_OF_DATA_FRAMES= ?????.img\n"
    )
    given = SeriesOverrides(distance_mm=800)
    corrected = instrument.model_copy(update={"overrides": SeriesMetadata(distance_mm=700)})

    series = read_series(folder, instrument=corrected, overrides=given)
    assert series.geometry.distance_mm == 800
    said = [note for note in series.notes if note.startswith("distance_mm")]
    assert said == [
        "distance_mm: 800 of the command line was used; the overrides of instrument bench says 700",
        "distance_mm: 800 of the command line was used; the SMV headers says 400",
        "distance_mm: 800 of the command line was used; XDS.INP says 500",
    ]
    assert read_series(folder, instrument=corrected).geometry.distance_mm == 700
    assert read_series(folder, instrument=instrument).geometry.distance_mm == 400
    for path in folder.glob("*.img"):
        path.write_bytes(path.read_bytes().replace(b"DISTANCE=400.0000", b"DISTANCX=400.0000"))
    series = read_series(folder, instrument=instrument)
    assert series.geometry.distance_mm == 500
    assert series.geometry.axis == (1, 0, 0)  # XDS.INP before the instrument


def test_camera_length_table(tmp_path: Path, smv_folder: Folder, instrument: Instrument) -> None:
    folder = smv_folder(tmp_path, DISTANCE=None)
    (folder / "cRED_log.txt").write_text(LOG)
    assert read_series(folder, instrument=instrument).geometry.distance_mm == 400
    (folder / "cRED_log.txt").write_text(LOG.replace("300 mm", "600 mm"))
    with pytest.raises(UserError, match="distance_mm"):
        read_series(folder, instrument=instrument)
    given = SeriesOverrides(camera_length_mm=300)
    series = read_series(folder, instrument=instrument, overrides=given)
    assert series.geometry.distance_mm == 400


def test_distance_from_pixel_size_in_reciprocal_space(
    tmp_path: Path, smv_folder: Folder, instrument: Instrument
) -> None:
    folder = smv_folder(tmp_path, DISTANCE=None)
    given = SeriesOverrides(per_A_per_px=0.005)
    series = read_series(folder, instrument=instrument, overrides=given)
    # 0.05 mm / (0.0250793 A * 0.005 / A)
    assert series.geometry.distance_mm == pytest.approx(398.735, abs=1e-3)
    assert series.geometry.per_A_per_px == pytest.approx(0.005)


def test_an_overload_no_pixel_can_reach_says_nothing(
    tmp_path: Path, smv_folder: Folder, instrument: Instrument
) -> None:
    folder = smv_folder(tmp_path)
    (folder / "XDS.INP").write_text("OVERLOAD= 130000\n")
    series = read_series(folder, instrument=instrument)
    assert series.saturation is None
    assert any("130000" in note for note in series.notes)


def test_rounding_is_no_disagreement(
    tmp_path: Path, smv_folder: Folder, instrument: Instrument
) -> None:
    folder = smv_folder(tmp_path)
    (folder / "XDS.INP").write_text(
        "X-RAY_WAVELENGTH= 0.02508\nDETECTOR_DISTANCE= 400.003\nOSCILLATION_RANGE= 0.5000\n"
        "ORGX= 17.02 ORGY= 9.98\nROTATION_AXIS= 0.0002 1 0\n"
        "STARTING_ANGLE= -10\nSTARTING_FRAME= 1\n"
    )
    series = read_series(folder, instrument=instrument)
    assert len(series.notes) == 1  # on the wavelength, as without XDS.INP


def test_xds_inp_leaves_frames_out(
    tmp_path: Path, smv_folder: Folder, instrument: Instrument
) -> None:
    folder = smv_folder(tmp_path / "data")
    (tmp_path / "XDS.INP").write_text(
        "NAME_TEMPLATE_OF_DATA_FRAMES= data/?????.img\nDATA_RANGE= 2 9\nEXCLUDE_DATA_RANGE= 4 5\n"
    )
    series = read_series(folder, instrument=instrument)
    assert series.frame_number.tolist() == [2, 3, 6, 7, 8, 9]
    assert any(note == "frame(s) 1, 4-5, 10 left out, as in XDS.INP" for note in series.notes)
    np.testing.assert_allclose(series.angle_start_deg, [-9.5, -9, -7.5, -7, -6.5, -6])
    every = read_series(
        folder, instrument=instrument, overrides=SeriesOverrides(frame_range=(1, 5))
    )
    assert every.frame_number.tolist() == [1, 2, 3, 4, 5]
    with pytest.raises(UserError, match="--frames"):
        read_series(folder, overrides=SeriesOverrides(frame_range=(50, 60)))


def test_an_xds_inp_about_other_frames(
    tmp_path: Path, smv_folder: Folder, instrument: Instrument
) -> None:
    folder = smv_folder(tmp_path / "data")
    smv_folder(tmp_path / "more")
    xds = tmp_path / "XDS.INP"
    xds.write_text("NAME_TEMPLATE_OF_DATA_FRAMES= more/?????.img\nROTATION_AXIS= 1 0 0\n")
    series = read_series(folder, instrument=instrument)
    assert series.geometry.axis == (0, 1, 0)
    assert any("was passed over" in note for note in series.notes)
    # frames that are gone may have been these
    xds.write_text("NAME_TEMPLATE_OF_DATA_FRAMES= gone/?????.img\nROTATION_AXIS= 1 0 0\n")
    series = read_series(folder, instrument=instrument)
    assert series.geometry.axis == (1, 0, 0)
    assert any("was written for gone/?????.img" in note for note in series.notes)
    xds.write_text("NX= 512 NY= 512\nROTATION_AXIS= 1 0 0\n")
    series = read_series(folder, instrument=instrument)
    assert series.geometry.axis == (0, 1, 0)
    assert any("512 x 512, these are 20 x 30" in note for note in series.notes)


def test_per_frame_centres(
    tmp_path: Path, smv_bytes: Callable[..., bytes], instrument: Instrument
) -> None:
    for number in (1, 2, 3):
        raw = smv_bytes(number, BEAM_CENTER_X=f"{16.5 + number}")
        (tmp_path / f"{number:05d}.img").write_bytes(raw)
    series = read_series(tmp_path, instrument=instrument)
    assert series.beam_centres_px is not None
    np.testing.assert_allclose(series.beam_centres_px, [[9, 17], [9, 18], [9, 19]])


def test_size1_and_size2_interchanged(
    tmp_path: Path, smv_folder: Folder, instrument: Instrument, pixels: Pixels
) -> None:
    folder = smv_folder(tmp_path, SIZE1="20", SIZE2="30")
    series = read_series(folder, instrument=instrument)
    assert series.shape == (20, 30)
    np.testing.assert_array_equal(series.frames[0].compute(), pixels(1))
    assert any("interchanged" in note for note in series.notes)


# --- angles -----------------------------------------------------------------------------


def starts(folder: Path, smv_bytes: Callable[..., bytes], angles: list[float], width: str) -> Path:
    for number, angle in enumerate(angles, 1):
        raw = smv_bytes(number, PHI=f"{angle}", OSC_START=f"{angle}", OSC_RANGE=width)
        (folder / f"{number:05d}.img").write_bytes(raw)
    return folder


def test_steps_that_disagree_with_the_oscillation(
    tmp_path: Path, smv_bytes: Callable[..., bytes], instrument: Instrument
) -> None:
    angles = [round(-29.75 + 0.124 * i, 2) for i in range(20)]
    series = read_series(starts(tmp_path, smv_bytes, angles, "0.12"), instrument=instrument)
    np.testing.assert_allclose(series.angle_start_deg, -29.75 + 0.12 * np.arange(20))
    np.testing.assert_allclose(series.angle_width_deg, 0.12)
    assert any("step by 0.124" in note and "0.12 (" in note for note in series.notes)


def test_turning_back(
    tmp_path: Path, smv_bytes: Callable[..., bytes], instrument: Instrument
) -> None:
    folder = starts(tmp_path, smv_bytes, [5, 4.5, 4, 3.5], "0.5")
    series = read_series(folder, instrument=instrument)
    np.testing.assert_allclose(series.angle_start_deg, [5, 4.5, 4, 3.5])
    np.testing.assert_allclose(series.angle_width_deg, -0.5)
    assert any("taken as negative" in note for note in series.notes)


@pytest.mark.parametrize(
    ("angles", "bad"),
    [([0, 0.5, 0.3, 1.5, 2], 3), ([0, 0.5, 0.5, 1, 1.5], 3), ([0, -0.5, -1, -0.7, -2], 4)],
)
def test_angles_that_do_not_go_one_way(
    tmp_path: Path,
    smv_bytes: Callable[..., bytes],
    instrument: Instrument,
    angles: list[float],
    bad: int,
) -> None:
    folder = starts(tmp_path, smv_bytes, angles, "0.5")
    with pytest.raises(UserError) as error:
        read_series(folder, instrument=instrument)
    assert f"{bad:05d}.img" in line(error)


def test_all_the_same_angle(
    tmp_path: Path, smv_bytes: Callable[..., bytes], instrument: Instrument
) -> None:
    series = read_series(starts(tmp_path, smv_bytes, [3, 3, 3], "0.5"), instrument=instrument)
    np.testing.assert_allclose(series.angle_start_deg, [3, 3.5, 4])
    assert any("same angle" in note for note in series.notes)


def test_angles_of_the_command_line(
    tmp_path: Path, smv_folder: Folder, instrument: Instrument
) -> None:
    folder = smv_folder(tmp_path, [1, 2, 5])
    given = SeriesOverrides(start_deg=20, oscillation_deg=0.25)
    series = read_series(folder, instrument=instrument, overrides=given)
    np.testing.assert_allclose(series.angle_start_deg, [20, 20.25, 21])
    np.testing.assert_allclose(series.angle_width_deg, 0.25)


def test_oscillation_from_the_steps(
    tmp_path: Path, smv_folder: Folder, instrument: Instrument
) -> None:
    for wrong in (None, "0"):
        folder = smv_folder(tmp_path / str(wrong), OSC_RANGE=wrong)
        series = read_series(folder, instrument=instrument)
        np.testing.assert_allclose(series.angle_width_deg, 0.5)
        assert any("no oscillation is stated" in note for note in series.notes)


def test_angles_of_the_log(tmp_path: Path, smv_folder: Folder, instrument: Instrument) -> None:
    folder = smv_folder(tmp_path, [3, 4], PHI=None, OSC_START=None, OSC_RANGE=None)
    (folder / "cRED_log.txt").write_text(LOG)
    series = read_series(folder, instrument=instrument)
    np.testing.assert_allclose(series.angle_start_deg, [-9, -8.5])  # it starts with frame 1


# --- bad input --------------------------------------------------------------------------


def test_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        read_series(tmp_path)
    assert str(tmp_path) in line(error)
    assert ".img" in line(error)


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file or folder"):
        read_series(tmp_path / "absent")
    (tmp_path / "a.txt").touch()
    with pytest.raises(UserError, match=r"suffix '\.txt'"):
        read_series(tmp_path / "a.txt")


def test_a_truncated_frame(tmp_path: Path, smv_folder: Folder, instrument: Instrument) -> None:
    folder = smv_folder(tmp_path)
    path = folder / "00004.img"
    path.write_bytes(path.read_bytes()[:-1])
    (folder / "00006.img").write_bytes(b"")
    (folder / "00007.img").write_bytes(path.read_bytes()[:200])
    series = read_series(folder, instrument=instrument)
    assert series.frame_number.tolist() == [1, 2, 3, 5, 8, 9, 10]
    np.testing.assert_allclose(series.angle_start_deg[[2, 3]], [-9, -8])
    for number, words in ((4, "truncated"), (6, "an empty file"), (7, "header has no end")):
        assert any(f"{number:05d}.img" in note and words in note for note in series.notes)
    assert series.frames.compute().shape == (7, 20, 30)


def test_all_truncated(tmp_path: Path, smv_folder: Folder) -> None:
    folder = smv_folder(tmp_path)
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(UserError, match=r"00001\.img.*truncated"):
        read_series(folder)


def test_a_frame_lost_after_reading(
    tmp_path: Path, smv_folder: Folder, instrument: Instrument
) -> None:
    series = read_series(smv_folder(tmp_path), instrument=instrument)
    (tmp_path / "00003.img").unlink()
    with pytest.raises(UserError, match=r"00003\.img"):
        series.frames.compute()


def test_a_few_frames_of_another_size(
    tmp_path: Path, smv_folder: Folder, smv_bytes: Callable[..., bytes], instrument: Instrument
) -> None:
    folder = smv_folder(tmp_path, range(1, 21))
    (folder / "00004.img").write_bytes(smv_bytes(4, SIZE2="10"))
    series = read_series(folder, instrument=instrument)
    assert len(series) == 19
    assert any("00004.img is a frame of 10 x 30" in note for note in series.notes)
    for number in (5, 6, 7):
        (folder / f"{number:05d}.img").write_bytes(smv_bytes(number, SIZE2="10"))
    with pytest.raises(UserError) as error:
        read_series(folder, instrument=instrument)
    assert "10 x 30 uint16 (4 such among 20)" in line(error)
    assert "20 x 30 uint16" in line(error)


@pytest.mark.parametrize(
    ("key", "field", "entry"),
    [
        ("WAVELENGTH", "wavelength_A", "--voltage or --wavelength"),
        ("PIXEL_SIZE", "pixel_size_mm", "--pixel-size"),
        ("DISTANCE", "distance_mm", "--distance or --scale"),
    ],
)
def test_a_value_no_one_states(
    tmp_path: Path, smv_folder: Folder, key: str, field: str, entry: str
) -> None:
    folder = smv_folder(tmp_path, **{key: None})
    axis = SeriesOverrides(rotation_axis=(1, 0, 0))
    with pytest.raises(UserError) as error:
        read_series(folder, overrides=axis)
    assert field in line(error)
    assert entry in line(error)


def test_no_axis_and_no_oscillation(tmp_path: Path, smv_folder: Folder) -> None:
    folder = smv_folder(tmp_path, OSC_START=None, PHI=None, OSC_RANGE=None)
    with pytest.raises(UserError, match=r"oscillation_deg.*--osc"):
        read_series(folder)
    given = SeriesOverrides(oscillation_deg=0.5)
    with pytest.raises(UserError, match=r"rotation_axis.*--axis.*YAML"):
        read_series(folder, overrides=given)


def test_no_beam_centre_is_noted(
    tmp_path: Path, smv_folder: Folder, instrument: Instrument
) -> None:
    series = read_series(smv_folder(tmp_path, BEAM_CENTER_X=None), instrument=instrument)
    assert series.geometry.beam_centre_px == (9.5, 14.5)
    assert any("no source states the beam centre" in note for note in series.notes)


def test_blank_and_saturated_frames_are_kept_and_noted(
    tmp_path: Path, smv_folder: Folder, instrument: Instrument
) -> None:
    folder = smv_folder(tmp_path)
    for number in (2, 3, 8):
        path = folder / f"{number:05d}.img"
        path.write_bytes(path.read_bytes()[:512] + bytes(1200))
    full = folder / "00005.img"  # no other pixel of these frames reaches 11000
    full.write_bytes(full.read_bytes()[:-2] + b"\xff\xff")
    given = SeriesOverrides(saturation=11000)
    series = read_series(folder, instrument=instrument, overrides=given)
    assert len(series) == 10
    assert "3 frame(s) all zero, kept: 2-3, 8" in series.notes
    assert any(note.endswith("saturation (11000): 5") for note in series.notes)


def test_a_ceiling_no_one_told_of(
    tmp_path: Path, smv_folder: Folder, instrument: Instrument
) -> None:
    folder = smv_folder(tmp_path)
    for number in (2, 3, 8):
        path = folder / f"{number:05d}.img"
        path.write_bytes(path.read_bytes()[:-2] + b"\xff\x3f")  # 16383
    series = read_series(folder, instrument=instrument)
    assert series.saturation is None
    assert any("16383, is reached in 3 frames" in note for note in series.notes)


def test_a_file_that_is_not_what_its_suffix_says(
    tmp_path: Path, smv_folder: Folder, instrument: Instrument, pixels: Pixels
) -> None:
    folder = smv_folder(tmp_path / "one")
    (folder / "00003.img").unlink()
    tifffile.imwrite(folder / "00003.tif", pixels(3))
    (folder / "00003.tif").rename(folder / "00003.img")
    (folder / "00005.img").write_text("a letter" * 300)
    series = read_series(folder, instrument=instrument)
    assert len(series) == 8
    assert any("TIFF" in note and "SMV, as its suffix says" in note for note in series.notes)
    assert any("no known kind" in note and "00005.img" in note for note in series.notes)

    wrong = tmp_path / "all"
    wrong.mkdir()
    for number in (1, 2, 3):
        tifffile.imwrite(wrong / "x.tif", pixels(number))
        (wrong / "x.tif").rename(wrong / f"{number}.img")
    with pytest.raises(UserError) as error:
        read_series(wrong)
    assert "1.img" in line(error)
    assert "TIFF" in line(error)
    assert "SMV" in line(error)


def test_two_series_in_a_folder(tmp_path: Path, smv_folder: Folder, instrument: Instrument) -> None:
    folder = smv_folder(tmp_path)
    for path in list(folder.iterdir()):
        (folder / f"b_{path.name}").write_bytes(path.read_bytes())
    with pytest.raises(UserError, match="several series"):
        read_series(folder, instrument=instrument)
    smv_folder(tmp_path / "x" / "a")
    smv_folder(tmp_path / "x" / "b")
    with pytest.raises(UserError, match="frames in a and b"):
        read_series(tmp_path / "x")


def test_the_same_number_twice(tmp_path: Path, smv_folder: Folder, instrument: Instrument) -> None:
    folder = smv_folder(tmp_path)
    (folder / "4.img").write_bytes((folder / "00004.img").read_bytes())
    with pytest.raises(UserError, match="number 4 again"):
        read_series(folder, instrument=instrument)


def test_three_frames_read(tmp_path: Path, smv_folder: Folder, instrument: Instrument) -> None:
    series = read_series(smv_folder(tmp_path, [1, 2, 3]), instrument=instrument)
    assert len(series) == 3
    assert "only 3 frame(s)" in series.notes


def test_one_frame_reads(tmp_path: Path, smv_folder: Folder, instrument: Instrument) -> None:
    series = read_series(smv_folder(tmp_path, [7]), instrument=instrument)
    assert len(series) == 1
    assert series.frame_number.tolist() == [7]
    assert series.angle_start_deg.tolist() == [-7]


def test_another_detector(tmp_path: Path, smv_folder: Folder, instrument: Instrument) -> None:
    folder = smv_folder(tmp_path, SIZE1="15")
    with pytest.raises(UserError, match=r"detector\.shape of instrument bench"):
        read_series(folder, instrument=instrument)


def test_an_unreadable_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: Path) -> object:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", refused)  # chmod would not stop root
    with pytest.raises(UserError) as error:
        read_series(tmp_path)
    assert f"{tmp_path}: found Permission denied" in line(error)
