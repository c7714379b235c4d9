"""What `protocols.Camera` promises."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from ewaldflow.hardware.errors import InstrumentError
from ewaldflow.hardware.protocols import Camera, Clock, Exposure

# short, since real cameras take their time
EXPOSURE_S = 0.05


def _check(exposure: Exposure, camera: Camera, binning: int = 1) -> None:
    rows, columns = camera.shape
    counts = exposure.counts
    assert counts.shape == (rows // binning, columns // binning)
    assert np.issubdtype(counts.dtype, np.unsignedinteger)
    if binning == 1:
        assert int(counts.max()) <= camera.dynamic_range
    assert exposure.exposure_s == pytest.approx(EXPOSURE_S, rel=0.2)
    assert exposure.binning == binning
    assert exposure.ended_s == pytest.approx(exposure.started_s + exposure.exposure_s)


def test_it_is_a_camera(camera: Camera) -> None:
    assert isinstance(camera, Camera)
    assert camera.name
    rows, columns = camera.shape
    assert rows > 0
    assert columns > 0
    assert 0.001 < camera.pixel_size_mm < 1
    assert camera.dynamic_range > 1
    assert camera.dead_time_s >= 0
    assert camera.binnings[0] == 1
    assert len(set(camera.binnings)) == len(camera.binnings)


def test_an_exposure_is_as_asked_for(camera: Camera, clock: Clock) -> None:
    before = clock.now()
    exposure = camera.expose(EXPOSURE_S)
    after = clock.now()
    _check(exposure, camera)
    assert before <= exposure.started_s
    assert exposure.ended_s <= after + 1e-6


def test_every_binning_on_offer(camera: Camera) -> None:
    for binning in camera.binnings:
        _check(camera.expose(EXPOSURE_S, binning), camera, binning)


def test_no_other_binning(camera: Camera) -> None:
    for wrong in (0, -1, max(camera.binnings) * 2):
        with pytest.raises(InstrumentError):
            camera.expose(EXPOSURE_S, wrong)
    _check(camera.expose(EXPOSURE_S), camera)


@pytest.mark.parametrize("wrong", [0.0, -1.0, float("nan")])
def test_no_exposure_that_is_none(camera: Camera, wrong: float) -> None:
    with pytest.raises(InstrumentError):
        camera.expose(wrong)
    _check(camera.expose(EXPOSURE_S), camera)


def test_numbers_are_consecutive_and_times_in_order(camera: Camera) -> None:
    taken = [camera.expose(EXPOSURE_S) for _ in range(3)]
    taken += list(camera.stream(EXPOSURE_S, 3))
    taken += [camera.expose(EXPOSURE_S)]
    for one, next_ in itertools.pairwise(taken):
        assert next_.number == one.number + 1
        assert next_.started_s >= one.ended_s + 0.9 * camera.dead_time_s - 1e-3


def test_images_do_not_share_their_pixels(camera: Camera) -> None:
    first = camera.expose(EXPOSURE_S)
    kept = first.counts.copy()
    for _ in range(3):
        camera.expose(EXPOSURE_S)
    np.testing.assert_array_equal(first.counts, kept)


def test_a_stream_of_n_frames_ends(camera: Camera) -> None:
    frames = list(camera.stream(EXPOSURE_S, 5))
    assert len(frames) == 5
    for one in frames:
        _check(one, camera)
    steps = np.diff([one.started_s for one in frames])
    assert np.all(steps >= EXPOSURE_S + 0.9 * camera.dead_time_s - 1e-3)


def test_no_frames_are_no_frames(camera: Camera) -> None:
    assert list(camera.stream(EXPOSURE_S, 0)) == []
    _check(camera.expose(EXPOSURE_S), camera)


def test_a_stream_bins(camera: Camera) -> None:
    binning = camera.binnings[-1]
    for one in camera.stream(EXPOSURE_S, 2, binning):
        _check(one, camera, binning)


def test_an_endless_stream_ends_when_closed(camera: Camera) -> None:
    stream = camera.stream(EXPOSURE_S)
    frames = [next(stream) for _ in range(3)]
    stream.close()  # type: ignore[attr-defined]
    stream.close()  # type: ignore[attr-defined]
    assert next(stream, None) is None
    assert len({one.number for one in frames}) == 3
    _check(camera.expose(EXPOSURE_S), camera)  # the camera is free again
    assert len(list(camera.stream(EXPOSURE_S, 2))) == 2


def test_a_stream_left_by_an_error_is_closed(camera: Camera) -> None:
    stream = camera.stream(EXPOSURE_S)
    next(stream)
    with pytest.raises(ZeroDivisionError):
        stream.throw(ZeroDivisionError())  # type: ignore[attr-defined]
    _check(camera.expose(EXPOSURE_S), camera)
