"""The line to the TEM server, when server and network do what they should not."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from standins.instamatic import PAIRS, BareJeol, TemServer, opened
from standins.proxy import FaultProxy, spoiling

from ewaldflow.hardware.errors import ConnectionLost, InstrumentError, LimitExceeded
from ewaldflow.hardware.instamatic.connection import Connection, anything, numbers
from ewaldflow.hardware.instamatic.dialects import Json, Nonsense
from ewaldflow.hardware.instamatic.options import Options


@pytest.fixture
def proxy(server: TemServer) -> Iterator[FaultProxy]:
    with spoiling(server.port) as one:
        yield one


def connected(port: int, **options: Any) -> Connection:
    quick: dict[str, Any] = {"timeout_s": 0.3, "give_up_s": 3.0}
    return Connection(Options(port=port, **{**quick, **options}), Json(), "jeol", "use json")


def pair(connection: Connection, name: str) -> tuple[float, ...]:
    return connection.call(f"get{name}", read=numbers(2))


def right(connection: Connection, rounds: int = 2) -> None:
    """Each getter gives its own values: an answer to another call would be seen."""
    for _ in range(rounds):
        for i, name in enumerate(PAIRS):
            assert pair(connection, name) == (30000 + 100 * i, 31000 + 100 * i)


def test_one_connection_serves_many_calls(server: TemServer) -> None:
    connection = connected(server.port)
    right(connection, 50)
    assert server.connected == 1


def test_threads_take_turns(server: TemServer) -> None:
    connection, wrong = connected(server.port), []

    def ask() -> None:
        try:
            right(connection, 40)
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert wrong == []
    assert server.connected == 1


@pytest.mark.parametrize(
    "fault",
    ["bytes", "delay", "cut", "hang_up", "hole", "late", "corrupt", "garbage", "twice", "stale"],
)
def test_a_spoiled_answer_is_asked_for_again(proxy: FaultProxy, fault: str) -> None:
    connection = connected(proxy.port)
    right(connection)
    proxy.plan.extend([fault, None, None, fault])
    right(connection, 5)
    assert proxy.done[fault] == 2
    assert proxy.connected == {"bytes": 1, "late": 5}.get(fault, 3)


@pytest.mark.parametrize("seed", range(3))
def test_a_storm_of_faults_never_gives_a_wrong_value(proxy: FaultProxy, seed: int) -> None:
    rng = random.Random(seed)
    kinds = ["bytes", "cut", "hang_up", "corrupt", "garbage", "twice", "stale"]
    proxy.plan.extend(rng.choice(kinds) if rng.random() < 0.2 else None for _ in range(400))
    connection = connected(proxy.port, timeout_s=0.15, give_up_s=20.0)
    right(connection, 15)
    assert sum(proxy.done.values()) > 15


def test_a_late_answer_is_not_that_of_the_next_call(server: TemServer, jeol: BareJeol) -> None:
    """The server gives what is topmost on its pile to whichever thread wakes first."""
    connection = connected(server.port, timeout_s=0.1, give_up_s=5.0)
    for i, name in enumerate(PAIRS):
        jeol.slow = {f"get{name}": 0.25}
        threading.Timer(0.3, jeol.slow.clear).start()
        assert pair(connection, name) == (30000 + 100 * i, 31000 + 100 * i)
        right(connection, 10)
    assert server.connected > len(PAIRS)


def test_nor_when_the_call_was_given_up(proxy: FaultProxy) -> None:
    connection = connected(proxy.port, give_up_s=0.0)
    right(connection)
    proxy.plan.append("late")
    with pytest.raises(ConnectionLost):
        pair(connection, "BeamShift")
    with pytest.raises(ConnectionLost, match="an answer to another request"):
        pair(connection, "BeamTilt")
    right(connection)


def test_a_call_may_be_given_more_time(server: TemServer, jeol: BareJeol) -> None:
    connection = connected(server.port)
    jeol.slow = {"getBeamShift": 0.5}
    assert connection.call("getBeamShift", read=numbers(2), timeout_s=2.0) == (30000, 31000)
    assert server.connected == 1


def test_an_interruption_cuts_the_line(server: TemServer, jeol: BareJeol) -> None:
    connection = connected(server.port)
    right(connection)

    def interrupted(_: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        connection.call("getBeamTilt", read=interrupted)
    right(connection)
    assert server.connected == 2


def test_the_server_may_start_anew(proxy: FaultProxy, server: TemServer) -> None:
    connection = connected(proxy.port)
    right(connection)
    proxy.close()
    with spoiling(server.port) as anew:
        connection._server = Options(port=anew.port, timeout_s=0.3)
        right(connection)


def test_a_black_hole_is_one_line_in_time_and_quicker_the_second_time(proxy: FaultProxy) -> None:
    connection = connected(proxy.port, timeout_s=0.2, give_up_s=1.0)
    right(connection)
    proxy.always = "hole"
    for limit_s in (1.6, 0.5, 0.5):
        began = time.monotonic()
        with pytest.raises(ConnectionLost) as lost:
            pair(connection, "BeamShift")
        assert time.monotonic() - began < limit_s
        assert "\n" not in str(lost.value)
    proxy.always = None
    right(connection)


def test_nobody_there(server: TemServer) -> None:
    server.close()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(ConnectionLost, match=f"127.0.0.1:{port}") as lost:
        opened(port, give_up_s=0.3)
    assert "\n" not in str(lost.value)


def test_a_server_that_speaks_pickle_is_recognised() -> None:
    """It cannot read the request, and its thread dies: all that is seen is a hung-up line."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def hang_up() -> None:
            while True:
                try:
                    line, _ = listener.accept()
                except OSError:
                    return
                line.recv(1024)
                line.close()

        threading.Thread(target=hang_up, daemon=True).start()
        with pytest.raises(ConnectionLost, match="tem_communication_protocol: json"):
            opened(listener.getsockname()[1], give_up_s=0.2)


def test_refusals_are_one_line_and_keep_the_line(server: TemServer) -> None:
    connection = connected(server.port)
    with pytest.raises(LimitExceeded, match="TEMValueError: Unrecognized") as refused:
        connection.call("setFunctionMode", "spectroscopy", read=anything)
    assert "\n" not in str(refused.value)
    with pytest.raises(InstrumentError, match="AttributeError"):
        connection.call("getEverything", read=anything)
    with pytest.raises(InstrumentError, match="TypeError"):
        connection.call("getFunctionMode", 1, 2, 3, read=anything)
    right(connection)
    assert server.connected == 1


def test_a_value_of_the_wrong_kind_is_not_believed(server: TemServer, jeol: BareJeol) -> None:
    connection = connected(server.port, give_up_s=0.3)
    jeol.pairs["BeamShift"] = [1, 2, 3]
    with pytest.raises(ConnectionLost, match="nonsense"):
        pair(connection, "BeamShift")
    with pytest.raises(Nonsense):
        numbers(2)([1.0, float("nan")])
    with pytest.raises(Nonsense):
        numbers(1)([True])


def test_after_its_release_nothing_is_sent(server: TemServer) -> None:
    connection = connected(server.port)
    right(connection)
    connection.close()
    connection.close()
    with pytest.raises(ConnectionLost, match="released"):
        pair(connection, "BeamShift")


def test_what_is_no_json_is_not_sent(server: TemServer) -> None:
    connection = connected(server.port)
    with pytest.raises(ValueError, match="JSON compliant"):
        connection.call("setBrightness", float("nan"), read=anything)
    right(connection)
