"""The door for instruments, spoken to as `notify.py` does, with Prefect's place taken by a list."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from httpx import ASGITransport, AsyncClient
from starlette.testclient import TestClient

from ewaldflow.service.gateway import DEPLOYMENT, gateway
from ewaldflow.service.settings import ServiceSettings

SIGN = ("lab", "a long enough word")
SERIES = {"folder": "crystal_1", "files": 3, "bytes": 30, "digest": "a" * 64}


def message(**changes: Any) -> dict[str, Any]:
    content = {
        "version": 1,
        "id": "0" * 64,
        "root": "scope",
        "session": "2026-11-21/run_3",
        "series": [SERIES],
        "closed": True,
        "metadata": {"sample": "zsm5"},
    }
    return {**content, **changes}


class Prefect:
    """Takes runs, or is away."""

    def __init__(self) -> None:
        self.runs: dict[str, tuple[str, dict[str, Any]]] = {}
        self.away = False

    async def start(self, deployment: str, parameters: dict[str, Any], key: str) -> str:
        if self.away:
            raise ConnectionError("nobody listens")
        self.runs.setdefault(key, (deployment, parameters))
        return f"run {key[:4]}"


@pytest.fixture
def settings(tmp_path: Path) -> ServiceSettings:
    (tmp_path / "data" / "2026-11-21" / "run_3").mkdir(parents=True)
    return ServiceSettings.model_validate(
        {
            "home": tmp_path / "home",
            "store": tmp_path / "runs",
            "roots": {"scope": tmp_path / "data"},
            "password": SIGN[1],
            "instruments": ["127.0.0.0/8"],
            "largest_message_bytes": 2000,
        }
    )


@pytest.fixture
def prefect() -> Prefect:
    return Prefect()


@pytest.fixture
def door(settings: ServiceSettings, prefect: Prefect) -> TestClient:
    return TestClient(gateway(settings, prefect.start), client=("127.0.0.1", 50000))


def test_a_session_becomes_a_run(door: TestClient, prefect: Prefect, tmp_path: Path) -> None:
    reply = door.post("/notify", json=message(), auth=SIGN)
    assert (reply.status_code, reply.json()) == (202, {"run": "run 0000"})
    ((deployment, parameters),) = prefect.runs.values()
    assert deployment == DEPLOYMENT
    assert parameters == {
        "folder": str(tmp_path / "data" / "2026-11-21" / "run_3"),
        "name": "2026-11-21-run_3",
        "series": [SERIES],
        "closed": True,
        "instrument": None,
        "sample": "zsm5",
    }


def test_the_same_message_is_taken_once(door: TestClient, prefect: Prefect) -> None:
    replies = [door.post("/notify", json=message(), auth=SIGN).json() for _ in range(3)]
    assert replies[0] == replies[1] == replies[2]
    assert len(prefect.runs) == 1


@pytest.mark.parametrize(
    ("sign", "says"), [(None, "password"), (("lab", "wrong"), "password"), (("x", SIGN[1]), "user")]
)
def test_nobody_without_the_password(
    door: TestClient, prefect: Prefect, sign: Any, says: str
) -> None:
    reply = door.post("/notify", json=message(), auth=sign)
    assert reply.status_code == 401
    assert says in reply.json()["refused"]
    assert not prefect.runs


def test_no_other_network(settings: ServiceSettings, prefect: Prefect) -> None:
    outside = TestClient(gateway(settings, prefect.start), client=("10.1.2.3", 50000))
    reply = outside.post("/notify", json=message(), auth=SIGN)
    assert (reply.status_code, len(prefect.runs)) == (403, 0)


@pytest.mark.parametrize(
    ("changes", "status", "field"),
    [
        ({"session": "../secrets"}, 422, "session"),
        ({"session": "/etc"}, 422, "session"),
        ({"session": "a\\..\\b"}, 422, "session"),
        ({"session": "."}, 403, "session"),
        ({"root": "elsewhere"}, 403, "root"),
        ({"series": []}, 422, "series"),
        ({"series": [{**SERIES, "folder": "../x"}]}, 422, "folder"),
        ({"series": [{**SERIES, "files": 0}]}, 422, "files"),
        ({"id": "short"}, 422, "id"),
        ({"version": 2}, 422, "version"),
        ({"surprise": 1}, 422, "surprise"),
    ],
)
def test_what_is_wrong_is_refused_in_one_line(
    door: TestClient, prefect: Prefect, changes: dict[str, Any], status: int, field: str
) -> None:
    reply = door.post("/notify", json=message(**changes), auth=SIGN)
    assert reply.status_code == status
    line = reply.json()["refused"]
    assert field in line
    assert "\n" not in line
    assert not prefect.runs


def test_a_link_out_of_the_root_is_refused(
    door: TestClient, prefect: Prefect, tmp_path: Path
) -> None:
    (tmp_path / "data" / "out").symlink_to(tmp_path)
    reply = door.post("/notify", json=message(session="out"), auth=SIGN)
    assert (reply.status_code, len(prefect.runs)) == (403, 0)


@pytest.mark.parametrize("body", [b"", b"{", b"[1, 2]", b"\xff\xfe", b"null"])
def test_malformed_json(door: TestClient, prefect: Prefect, body: bytes) -> None:
    reply = door.post("/notify", content=body, auth=SIGN)
    assert (reply.status_code, len(prefect.runs)) == (422, 0)


def test_too_large_by_its_own_word_is_not_read(door: TestClient, prefect: Prefect) -> None:
    body = json.dumps(message()) + " " * 3000
    reply = door.post("/notify", content=body, auth=SIGN)
    assert (reply.status_code, len(prefect.runs)) == (413, 0)


def test_too_large_without_a_word_is_read_to_the_limit_only(
    door: TestClient, prefect: Prefect
) -> None:
    reply = door.post("/notify", content=(b"x" * 1000 for _ in range(100)), auth=SIGN)
    assert (reply.status_code, len(prefect.runs)) == (413, 0)


def test_without_prefect_the_sender_keeps_the_message(door: TestClient, prefect: Prefect) -> None:
    prefect.away = True
    assert door.post("/notify", json=message(), auth=SIGN).status_code == 503
    prefect.away = False
    assert door.post("/notify", json=message(), auth=SIGN).status_code == 202
    assert len(prefect.runs) == 1


class SlowPrefect(Prefect):
    """Is asked, and answers when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.let = asyncio.Event()

    async def start(self, deployment: str, parameters: dict[str, Any], key: str) -> str:
        self.asked.append(key)
        await self.let.wait()
        return await super().start(deployment, parameters, key)


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0.01)


def test_a_message_that_comes_again_while_prefect_is_slow_is_asked_for_once(
    settings: ServiceSettings,
) -> None:
    async def sent() -> list[tuple[int, Any]]:
        slow = SlowPrefect()
        door = ASGITransport(gateway(settings, slow.start))
        async with AsyncClient(transport=door, base_url="http://door", auth=SIGN) as client:
            posts = [
                asyncio.create_task(client.post("/notify", json=message(id=letter * 64)))
                for letter in "aab"
            ]
            await until(lambda: len(slow.asked) == 2)
            await asyncio.sleep(0.1)
            slow.let.set()
            answers = [(await one) for one in posts]
        assert sorted(slow.asked) == ["a" * 64, "b" * 64]
        return [(one.status_code, one.json()["run"]) for one in answers]

    assert asyncio.run(sent()) == [(202, "run aaaa"), (202, "run aaaa"), (202, "run bbbb")]


def test_more_messages_than_can_wait_are_sent_back(
    settings: ServiceSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ewaldflow.service.gateway.MOST_WAITING", 2)

    async def sent() -> list[int]:
        slow = SlowPrefect()
        door = ASGITransport(gateway(settings, slow.start))
        async with AsyncClient(transport=door, base_url="http://door", auth=SIGN) as client:
            posts = [
                asyncio.create_task(client.post("/notify", json=message(id=letter * 64)))
                for letter in "ab"
            ]
            await until(lambda: len(slow.asked) == 2)
            third = await client.post("/notify", json=message(id="c" * 64))
            slow.let.set()
            rest = [(await one).status_code for one in posts]
            again = await client.post("/notify", json=message(id="c" * 64))
        return [third.status_code, *rest, again.status_code]

    assert asyncio.run(sent()) == [503, 202, 202, 202]


def test_who_hangs_up_is_not_waited_for(settings: ServiceSettings) -> None:
    async def sent() -> tuple[list[int], int]:
        slow = SlowPrefect()
        body, answers = json.dumps(message()).encode(), list[int]()
        said = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> dict[str, Any]:
            return said.pop() if said else {"type": "http.disconnect"}

        async def send(part: Any) -> None:
            answers.extend([part["status"]] if "status" in part else [])

        word = b64encode(":".join(SIGN).encode())
        scope = {
            "type": "http", "http_version": "1.1", "method": "POST", "path": "/notify",
            "query_string": b"", "root_path": "", "scheme": "http", "server": ("door", 80),
            "client": ("127.0.0.1", 1), "headers": [(b"authorization", b"Basic " + word)],
        }  # fmt: skip
        await asyncio.wait_for(gateway(settings, slow.start)(scope, receive, send), 10)
        slow.let.set()
        await until(lambda: slow.runs)  # what was begun goes on
        return answers, len(slow.runs)

    assert asyncio.run(sent()) == ([408], 1)
