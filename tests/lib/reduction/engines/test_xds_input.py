from __future__ import annotations

from pathlib import Path

import dask.array as da
import fabio
import numpy as np
import pytest

from ewaldflow.lib.errors import UserError
from ewaldflow.lib.formats.xds_inp import read_xds_inp
from ewaldflow.lib.geometry import EllipticalDistortion, Geometry
from ewaldflow.lib.reduction.config import ReductionConfig
from ewaldflow.lib.reduction.engines.xds_document import XdsDocument
from ewaldflow.lib.reduction.engines.xds_input import prepare
from ewaldflow.lib.series import RotationSeries

CONFIG = ReductionConfig()


@pytest.fixture
def series() -> RotationSeries:
    """Frames 2, 3, 5 .. 12 turned backwards; a cross of masked pixels."""
    number = np.array([2, 3, *range(5, 13)])
    mask = np.zeros((30, 40), bool)
    mask[14:16], mask[:, 20:23] = True, True
    frames = np.random.default_rng(0).poisson(5.0, (10, 30, 40)).astype(np.uint16)
    return RotationSeries(
        "mine",
        da.from_array(frames),
        number,
        10.0 - 0.5 * number,
        np.full(10, -0.5),
        Geometry(0.0251, 0.055, 480.0, (14.2, 21.7), (0.6, -0.8, 0.0)),
        mask,
        saturation=11810.0,
    )


def made(
    series: RotationSeries, folder: Path, user: Path | None = None
) -> tuple[XdsDocument, tuple[str, ...]]:
    folder.mkdir()
    return prepare(series, CONFIG, folder, user_input=user)


def test_what_xds_is_told_reads_back_as_the_series(series: RotationSeries, tmp_path: Path) -> None:
    document, _ = made(series, tmp_path / "s")
    (tmp_path / "s" / "XDS.INP").write_bytes(document.to_bytes())
    told = read_xds_inp(tmp_path / "s" / "XDS.INP")
    assert told.metadata.beam_centre_px == pytest.approx((14.2, 21.7))
    # XDS turns towards growing angles, about the opposite axis
    assert told.metadata.rotation_axis == pytest.approx((-0.6, 0.8, 0.0))
    assert told.metadata.oscillation_deg == pytest.approx(0.5)
    assert told.metadata.start_deg == pytest.approx(-9.0)
    assert told.frame_range == (2, 12)
    assert told.excluded == ((4, 4),)
    mask = np.zeros(series.shape, bool)
    for rows, columns in told.untrusted:
        mask[rows, columns] = True
    assert np.array_equal(mask, series.mask)
    assert len(told.untrusted) <= 4
    assert document.value("INCLUDE_RESOLUTION_RANGE") == "20 0.7"
    assert sorted(p.name for p in (tmp_path / "s" / "data").iterdir())[:3] == [
        "00002.img", "00003.img", "00005.img",
    ]  # fmt: skip


def test_the_distortion_is_told_by_maps(series: RotationSeries, tmp_path: Path) -> None:
    bent = series.with_(geometry=series.geometry.with_(distortion=EllipticalDistortion(1.03, 20.0)))
    document, notes = made(bent, tmp_path / "s")
    assert document.value("X-GEO_CORR") == "XCORR.cbf"
    assert document.value("Y-GEO_CORR") == "YCORR.cbf"
    assert document.value("DETECTOR") == "PILATUS"
    assert not any("distortion" in note for note in notes)
    with fabio.open(str(tmp_path / "s" / "XCORR.cbf")) as image:
        assert image.data.shape == series.shape


def test_without_distortion_there_are_no_maps(series: RotationSeries, tmp_path: Path) -> None:
    document, _ = made(series, tmp_path / "s")
    assert document.value("X-GEO_CORR") is None
    assert not list((tmp_path / "s").glob("*.cbf"))


USER = (
    b"! M\xf6ller's own\r\n"
    b"JOB= ALL\r\n"
    b"NAME_TEMPLATE_OF_DATA_FRAMES= /far/away/????.h5  ! a container\r\n"
    b"LIB= /opt/dectris-neggia.so\r\n"
    b"DATA_RANGE= 1 90  SPOT_RANGE= 3 6\r\n"
    b"ROTATION_AXIS= -0.6204 0.7843 0.0000\r\n"
    b"UNTRUSTED_RECTANGLE= 1 4 2 7\r\n"
    b"X-GEO_CORR= maps/XCORR.cbf\r\n"
    b"SPACE_GROUP_NUMBER= 0 ! unknown\r\n"
)


@pytest.fixture
def user(tmp_path: Path) -> Path:
    (tmp_path / "mine" / "maps").mkdir(parents=True)
    (tmp_path / "mine" / "maps" / "XCORR.cbf").write_bytes(b"a map")
    path = tmp_path / "mine" / "XDS.INP"
    path.write_bytes(USER)
    return path


def test_a_users_file_keeps_all_that_need_not_change(
    series: RotationSeries, user: Path, tmp_path: Path
) -> None:
    document, notes = made(series, tmp_path / "s", user)
    lines = document.to_bytes().split(b"\r\n")
    assert lines[:9] == [
        b"! M\xf6ller's own",
        b"JOB= ALL",
        b"NAME_TEMPLATE_OF_DATA_FRAMES= data/?????.img SMV  ! a container",
        b"! LIB= /opt/dectris-neggia.so",
        b"DATA_RANGE= 2 12  SPOT_RANGE= 3 6",
        b"ROTATION_AXIS= -0.6204 0.7843 0.0000",
        b"UNTRUSTED_RECTANGLE= 1 4 2 7",
        b"X-GEO_CORR= XCORR.cbf",
        b"SPACE_GROUP_NUMBER= 0 ! unknown",
    ]
    assert document.values("EXCLUDE_DATA_RANGE") == ("4 4",)
    assert (tmp_path / "s" / "XCORR.cbf").read_bytes() == b"a map"
    assert any("DATA_RANGE= 1 90 became 2 12" in note for note in notes)
    assert user.read_bytes() == USER


def test_changing_a_users_file_twice_changes_it_once(
    series: RotationSeries, user: Path, tmp_path: Path
) -> None:
    once, _ = made(series, tmp_path / "s", user)
    user.write_bytes(once.to_bytes())
    (user.parent / "XCORR.cbf").write_bytes(b"a map")
    twice, _ = made(series, tmp_path / "t", user)
    assert twice == once


def test_a_map_that_is_not_there_is_a_user_error(
    series: RotationSeries, user: Path, tmp_path: Path
) -> None:
    (user.parent / "maps" / "XCORR.cbf").unlink()
    with pytest.raises(UserError, match="maps/XCORR"):
        made(series, tmp_path / "s", user)
