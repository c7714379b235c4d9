import os
import subprocess
import sys
from pathlib import Path

import ewaldflow.lib
from ewaldflow.lib.artefacts.code_version import (
    _git_state,
    code_version,
    environment,
    source_digest,
)

LIBRARY = Path(ewaldflow.lib.__file__).parent


def tree(folder, **files):
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path = path.with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_any_edit_new_file_or_new_name_changes_the_digest(tmp_path):
    texts = [{"a": "x = 1", "b__c": "y = 2"}]
    texts += [{"a": "x = 1 ", "b__c": "y = 2"}, {"a": "x = 1", "b__c": "y = 2", "d": ""}]
    texts += [{"a": "x = 1", "b__d": "y = 2"}, {"a": "x = 1y = 2", "b__c": ""}]
    folders = [tree(tmp_path / str(number), **text) for number, text in enumerate(texts)]
    digests = [source_digest(folder) for folder in folders]
    assert len(set(digests)) == len(texts)
    again = tree(tmp_path / "again", **texts[0])
    (again / "__pycache__").mkdir()
    (again / "__pycache__" / "a.pyc").write_bytes(b"compiled")
    assert source_digest(again) == digests[0]


def test_the_running_code(monkeypatch):
    version = code_version()
    assert version is code_version()
    assert version.version == ewaldflow.__version__
    assert len(version.digest) == 64
    assert source_digest(LIBRARY) != version.digest  # the version of the package is in it


def test_processes_agree_on_the_digest():
    program = "from ewaldflow.lib.artefacts.code_version import *; print(source_digest({!r}))"
    command = program.replace("{!r}", f"__import__('pathlib').Path({str(LIBRARY / 'artefacts')!r})")
    found = {
        subprocess.run(
            [sys.executable, "-c", command],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout.strip()
        for seed in "01"
    }
    assert found == {source_digest(LIBRARY / "artefacts")}


def test_git_state(tmp_path):
    def git(*words):
        names = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        command = ["git", "-C", str(tmp_path), *names, *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    assert _git_state(tmp_path) == (None, None)
    git("init")
    tree(tmp_path, a="x = 1")
    git("add", "a.py")
    git("commit", "-m", "first")
    assert _git_state(tmp_path) == (git("rev-parse", "HEAD"), False)
    tree(tmp_path, a="x = 2")
    assert _git_state(tmp_path) == (git("rev-parse", "HEAD"), True)
    (tmp_path / "inside").mkdir()
    assert _git_state(tmp_path / "inside") == (None, None)  # installed inside another checkout


def test_environment_names_what_is_installed():
    python, packages = environment()
    assert python == ".".join(map(str, sys.version_info[:3]))
    assert {"numpy", "zarr", "pydantic"} <= set(packages)
