"""When frames began, by hand and for any delays; numbers; sockets read by line and length."""

from __future__ import annotations

import socket

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ewaldflow.hardware.errors import CameraFailed
from ewaldflow.hardware.frames import FrameTimes, Numbers, Wire, exposure, triggered


def test_the_earliest_arrival_tells_the_start() -> None:
    times = FrameTimes(exposure_s=0.5, period_s=0.6, commanded_s=10.0)
    assert times.began(0, 10.612) == pytest.approx(10.112)  # 0.012 s late, as is not known yet
    assert times.began(1, 11.2) == pytest.approx(10.706)  # in time; 0.006 s are caught up
    assert times.began(2, 12.5) == pytest.approx(11.3)  # and 0.006 s more: the start is 10.1
    assert times.began(3, 13.9) == pytest.approx(11.9)  # late, which tells nothing
    assert times.began(5, 13.6) == pytest.approx(13.1)


def test_no_frame_began_before_it_was_asked_for() -> None:
    assert FrameTimes(0.5, 0.5, 10.0).began(0, 10.1) == 10.0


@given(
    st.lists(st.floats(0.0, 0.3), min_size=2, max_size=30),
    st.floats(0.01, 1.0),
    st.floats(0.0, 0.1),
)
def test_times_are_never_too_early_nor_later_than_arrivals_allow(
    delays: list[float], exposure_s: float, gap_s: float
) -> None:
    period = exposure_s + gap_s
    times = FrameTimes(exposure_s, period, 0.0)
    arrived = [i * period + exposure_s + delay for i, delay in enumerate(delays)]
    began = [times.began(i, at) for i, at in enumerate(arrived)]
    true = period * np.arange(len(delays))
    assert np.all(np.array(began) >= true - 1e-9)
    assert np.all(np.array(began) - true <= np.maximum.accumulate(delays) + 1e-9)
    assert np.all(np.diff(began) >= 0.99 * period - 1e-9)


def test_a_triggered_exposure_began_within_its_trigger_and_before_its_image() -> None:
    assert triggered(10.0, 10.004, 10.6, 0.5) == pytest.approx(10.002)
    assert triggered(10.0, 10.4, 10.6, 0.5) == pytest.approx(10.1)  # the answer came late
    assert triggered(10.0, 10.0, 10.0, 0.5) == 10.0


def test_numbers_go_on_over_acquisitions_and_keep_gaps() -> None:
    numbers = Numbers("camera")
    numbers.new_acquisition()
    assert [numbers.of(i) for i in (0, 1, 3)] == [0, 1, 3]
    numbers.new_acquisition()
    assert numbers.of(0) == 4
    with pytest.raises(CameraFailed, match="frame 0 once more"):
        numbers.of(0)


@pytest.mark.parametrize(
    ("counts", "says"),
    [
        (np.zeros((3, 2), np.uint16), r"\(3, 2\)"),
        (np.zeros((2, 3), np.float32), "float32"),
        (np.zeros((2, 3), np.int16), "int16"),
    ],
)
def test_what_is_no_image_of_the_camera(counts: np.ndarray, says: str) -> None:
    with pytest.raises(CameraFailed, match=says):
        exposure("camera", counts, (2, 3), started_s=0.0, exposure_s=1.0, number=0)


def test_a_wire_reads_lines_and_lengths_from_any_pieces() -> None:
    ours, theirs = socket.socketpair()
    wire = Wire.__new__(Wire)
    wire._socket, wire._rest = ours, bytearray()
    for piece in (b"\n\nhea", b"der\nab", b"cdef", b"ghi"):
        theirs.sendall(piece)
    assert wire.line(1.0) == b"header"
    assert wire.exactly(9, 1.0) == b"abcdefghi"
    with pytest.raises(TimeoutError):
        wire.exactly(1, 0.02)
    theirs.sendall(b"x" * (1 << 17))
    with pytest.raises(ConnectionError, match="no end of line"):
        wire.line(1.0)
    theirs.close()
    with pytest.raises(ConnectionError, match="closed"):
        wire.exactly(1 << 20, 1.0)
    wire.close()
