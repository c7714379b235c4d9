"""Several processes at one store."""

import time

import pytest


@pytest.mark.parametrize("n", [2, 6])
def test_same_key_at_once_ends_in_one_version_and_no_error(writers, store, tmp_path, n):
    for number in range(1, 4):
        at = time.time() + 0.1 + 0.05 * n  # all have written by then, none has published
        answers = [tmp_path / f"{number}-{i}" for i in range(n)]
        pids = [
            writers.start(store.root, number, publish_at=at, answer=str(path)) for path in answers
        ]
        assert [writers.wait(pid) for pid in pids] == [0] * n
        # every one of them got as far as publishing, and was given the same artefact
        assert {path.read_text() for path in answers} == {f"series/crystal@v{number:04d}"}
        assert len(store.refs()) == number
    assert list(store.verify()) == []
    assert list(store.staging.iterdir()) == []


def test_different_keys_at_once_become_different_versions(writers, store):
    at = time.time() + 0.5
    pids = [writers.start(store.root, number, publish_at=at) for number in range(12)]
    assert [writers.wait(pid) for pid in pids] == [0] * 12
    assert store.versions("series", "crystal") == list(range(1, 13))
    numbers = [artefact.manifest.configuration["number"] for artefact in store.list()]
    assert sorted(numbers) == list(range(12))
    assert list(store.verify()) == []


def test_gc_leaves_living_writers_alone(writers, store, make):
    make()
    pid = writers.start(store.root, 1, publish_at=time.time() + 0.4)
    for _ in range(200):
        if list(store.staging.glob("*/tree/files/log.txt")):
            break
        time.sleep(0.005)
    assert store.gc(dry_run=False) == []
    assert writers.wait(pid) == 0
    assert "series/crystal@v0001" in store.refs()
