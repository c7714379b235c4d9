"""Disks that are full, read-only or failing: one clear line, and a store as it was before."""

import errno
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ewaldflow.lib.artefacts import Recipe
from ewaldflow.lib.artefacts.arrays import create_array
from ewaldflow.lib.errors import UserError

WRITER = Path(__file__).with_name("writer.py")
NAMESPACE = ["unshare", "--user", "--map-root-user", "--mount"]


def can_mount():
    try:
        return subprocess.run([*NAMESPACE, "true"], capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not can_mount(), reason="this system lets no user mount a small disk")
def test_a_real_full_disk_and_a_real_read_only_one(tmp_path):
    command = [*NAMESPACE, sys.executable, str(WRITER), "small_disk", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = json.loads(done.stdout)
    root = tmp_path / "store"
    expected = "expected room for the new artefact; free some space or choose another store"
    assert lines["full"].startswith(f"{root}: found no space left on device, {expected}")
    assert lines["staged"] == []
    expected = "read-only file system, expected a store that this user may write to"
    for name, path in (("read_only", root), ("gc", root), ("no_folder", tmp_path / "other")):
        assert lines[name].startswith(f"{path}: found {expected}")
        assert "\n" not in lines[name]
    # reading goes on, and nothing half-written is there
    assert lines["refs"] == ["series/crystal@v0001", "series/crystal@v0002"]
    assert lines["problems"] == []


def test_a_limit_on_the_size_of_files(store):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    store.create()
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with (
            pytest.raises(UserError, match="file too large, expected room"),
            store.draft(Recipe(kind="series", name="garnet")) as draft,
        ):
            create_array(draft.arrays, "x", np.random.default_rng(0).random(10_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert store.refs() == []
    assert list(store.staging.iterdir()) == []


@pytest.mark.parametrize(
    ("call", "number", "line"),
    [
        ("fsync", errno.ENOSPC, "no space left on device, expected room"),
        ("fsync", errno.EDQUOT, "disk quota exceeded, expected room"),
        ("fsync", errno.EIO, "input/output error, expected a working disk"),
        ("rename", errno.EROFS, "read-only file system, expected a store that this user may"),
        ("mkdir", errno.EACCES, "permission denied, expected a store that this user may"),
        ("open", errno.EPERM, "operation not permitted, expected a store that this user may"),
    ],
)
def test_what_a_disk_refuses_while_publishing_is_one_line(
    store, make, monkeypatch, call, number, line
):
    make()
    original = getattr(os, call)

    def refuse(path, *args, **kwargs):
        if call == "fsync" or str(store.root) in str(path):
            raise OSError(number, os.strerror(number), None if call == "fsync" else str(path))
        return original(path, *args, **kwargs)

    with store.draft(Recipe(kind="reduction", name="garnet")) as draft:
        create_array(draft.arrays, "x", [1])
        with monkeypatch.context() as patch:
            patch.setattr(os, call, refuse)
            with pytest.raises(UserError, match=line) as error:
                draft.publish()
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(f"{store.root}: ")
    assert store.refs() == ["series/garnet@v0001"]
    store.gc(dry_run=False)
    assert list(store.staging.iterdir()) == []


def test_errors_of_files_elsewhere_stay_what_they_are(store, tmp_path):
    def fail():
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "input.img"))

    with (
        pytest.raises(PermissionError, match=r"input\.img"),
        store.draft(Recipe(kind="series", name="garnet")),
    ):
        fail()
    assert list(store.staging.iterdir()) == []
