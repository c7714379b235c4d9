import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ewaldflow.lib.artefacts import ArtefactStore, CodeVersion, Input, Recipe
from ewaldflow.lib.artefacts.arrays import create_array, create_frames

CODE = CodeVersion(version="0", digest="0" * 64)
WRITER = Path(__file__).with_name("writer.py")


class Writers:
    """Starts real processes that write artefacts; see writer.py."""

    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, str(WRITER), "serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    def ask(self, **request):
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def start(self, root, number, **options):
        return self.ask(run={"root": str(root), "number": number, **options})

    def wait(self, pid):
        return os.waitstatus_to_exitcode(self.ask(wait=pid))

    def close(self):
        self.process.stdin.close()
        self.process.wait(30)


@pytest.fixture(scope="module")
def writers():
    server = Writers()
    yield server
    server.close()


@pytest.fixture
def store(tmp_path):
    return ArtefactStore(tmp_path / "store", CODE)


@pytest.fixture
def make(store):
    """Publishes a small artefact and returns it."""

    def make(kind="series", name="garnet", inputs=(), **configuration):
        inputs = tuple(Input.from_artefact("from", one) for one in inputs)
        recipe = Recipe(kind=kind, name=name, inputs=inputs, configuration=configuration)
        with store.draft(recipe) as draft:
            frames = create_frames(draft.arrays, "frames", (5, 24, 20), np.dtype("u2"))
            frames[...] = np.random.default_rng(0).poisson(3, frames.shape)
            create_array(draft.arrays, "angle_deg", np.arange(5.0))
            (draft.files / "report.html").write_text("<p>Nothing to see.</p>")
            return draft.publish()

    return make
