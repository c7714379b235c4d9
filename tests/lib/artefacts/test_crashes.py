"""Whatever ends a writer, a version is there whole or not at all, and the next run goes on."""

import os
import random
import shutil
import signal
import time

from ewaldflow.lib.artefacts import ArtefactStore, CodeVersion, Input, Recipe

KILLED = -signal.SIGKILL
CODE = CodeVersion(version="0", digest="0" * 64)


def assert_whole(store):
    assert [str(problem) for problem in store.verify()] == []
    assert len(store.list()) == len(store.refs())


def test_sigkill_at_random_moments_leaves_no_half_version(writers, store):
    store.create()

    def start(number):
        return writers.start(store.root, number, name=f"crystal{number}")

    times = []
    for number in range(3):
        begin = time.monotonic()
        assert writers.wait(start(number)) == 0
        times.append(time.monotonic() - begin)
    rng = random.Random(20)
    killed = visible = staged = 0
    for number in range(3, 300):
        pid = start(number)
        time.sleep(rng.uniform(0, sorted(times)[1]))
        os.kill(pid, signal.SIGKILL)
        if writers.wait(pid) != KILLED:
            continue  # it had ended already
        killed += 1
        if store.versions("series", f"crystal{number}"):
            visible += 1
            assert list(store.verify(f"series/crystal{number}")) == []
        staged = max(staged, len(os.listdir(store.staging)))
        assert writers.wait(start(number)) == 0
        assert store.versions("series", f"crystal{number}") == [1]
        if killed == 60:
            break
    assert killed == 60
    assert visible < 30, "most kills came too late to tell anything"
    assert staged > 0, "no kill came while something was staged"
    assert_whole(store)
    store.gc(dry_run=False)
    assert os.listdir(store.staging) == []
    assert_whole(store)


def test_sigkill_before_every_single_call_on_files(writers, store):
    store.create()
    leftovers = set()
    for event in range(1, 1000):
        # a name of its own, so that every writer makes the same calls
        name = f"crystal{event}"
        result = writers.wait(writers.start(store.root, event, name=name, kill_at=event))
        assert not store.versions("series", name) or not list(store.verify(f"series/{name}"))
        leftovers.update(p.name for p in store.staging.glob("*/tree/*"))
        if result == 0:
            break
        assert result == KILLED
    assert_whole(store)
    assert 50 < event < 999
    assert {"data.zarr", "files", "manifest.yaml"} <= leftovers
    # of the writers killed, only those past the rename left a version
    assert 1 < len(store.refs()) < event / 2
    assert len(os.listdir(store.staging)) > event / 2
    store.gc(dry_run=False)
    assert os.listdir(store.staging) == []
    assert_whole(store)


def test_sigkill_of_gc_before_every_single_call_on_files(writers, store, tmp_path):
    def small(kind, number, *inputs):
        inputs = tuple(Input.from_artefact("from", one) for one in inputs)
        configuration = {"number": number}
        recipe = Recipe(kind=kind, name="garnet", inputs=inputs, configuration=configuration)
        with store.draft(recipe) as draft:
            (draft.files / "log").write_text("fine")
            return draft.publish()

    small("series", 1, small("merging", 1))
    small("series", 2)
    small("merging", 2)
    (store.staging / "dead" / "tree").mkdir(parents=True)
    sizes = set()
    for event in range(1, 500):
        copy = ArtefactStore(tmp_path / f"copy{event}", CODE)
        shutil.copytree(store.root, copy.root)
        result = writers.wait(writers.ask(gc={"root": str(copy.root), "kill_at": event}))
        assert_whole(copy)
        sizes.add(len(copy.refs()))
        copy.gc(dry_run=False)
        assert os.listdir(copy.staging) == []
        assert copy.refs() == ["merging/garnet@v0002", "series/garnet@v0002"]
        assert_whole(copy)
        if result == 0:
            break
        assert result == KILLED
    assert 20 < event < 499
    assert sizes == {4, 3, 2}


def test_a_writer_killed_halfway_is_followed_by_one_that_completes(writers, store):
    assert writers.wait(writers.start(store.root, 7, kill_at=40)) == KILLED
    assert store.refs() == []
    assert writers.wait(writers.start(store.root, 7)) == 0
    assert store.refs() == ["series/crystal@v0001"]
    assert_whole(store)


def test_everything_is_on_the_disk_before_the_version_appears(store, make, monkeypatch):
    make()
    order = []
    fsync, rename = os.fsync, os.rename
    monkeypatch.setattr(
        os, "fsync", lambda fd: (order.append(os.readlink(f"/proc/self/fd/{fd}")), fsync(fd))[1]
    )
    monkeypatch.setattr(os, "rename", lambda a, b: (order.append("rename"), rename(a, b))[1])
    artefact = make(other=1)
    assert order.count("rename") == 1
    before, after = order[: order.index("rename")], order[order.index("rename") + 1 :]
    (tree,) = {path.partition("/tree")[0] + "/tree" for path in before if "/tree" in path}
    expected = {f"{tree}/{name}" for name in artefact.manifest.files}
    expected |= {os.path.dirname(path) for path in expected} | {f"{tree}/manifest.yaml", tree}
    assert expected <= set(before)
    assert before[-1] == tree
    assert after == [str(artefact.path.parent)]
