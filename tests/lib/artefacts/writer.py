"""Real writer processes for the tests: imports once, then forks one child for each request.

Requests and answers are lines of JSON on stdin and stdout: ``{"run": {...}}`` and
``{"gc": {...}}`` answer the child's pid, ``{"wait": pid}`` its wait status. ``small_disk DIR``
instead fills a disk of 1 MB.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import zarr  # noqa: F401  (imported before forking, so that a child starts in a millisecond)

from ewaldflow.lib.artefacts import ArtefactStore, CodeVersion, Recipe
from ewaldflow.lib.artefacts.arrays import create_array, create_frames
from ewaldflow.lib.errors import UserError

CODE = CodeVersion(version="0", digest="0" * 64)


def write(root, number, publish_at=0.0, kill_at=0, answer=None, rows=32, name="crystal"):
    if kill_at:
        kill_at_event(root, kill_at)
    store = ArtefactStore(Path(root), CODE)
    recipe = Recipe(kind="series", name=name, configuration={"number": number})
    if store.find(recipe):
        return
    rng = np.random.default_rng(number)
    with store.draft(recipe) as draft:
        frames = create_frames(draft.arrays, "frames", (6, rows, rows), np.dtype("u2"))
        frames[...] = rng.poisson(20, frames.shape)
        create_array(draft.arrays, "number", np.arange(6))
        (draft.files / "log.txt").write_text("some words\n" * 100)
        time.sleep(max(0.0, publish_at - time.time()))
        artefact = draft.publish()
    if answer:
        Path(answer).write_text(artefact.ref)


def collect(root, kill_at):
    kill_at_event(root, kill_at)
    ArtefactStore(Path(root), CODE).gc(dry_run=False)


def kill_at_event(root, count):
    # Python tells of most calls on files just before it makes them.
    seen = 0

    def hook(event, arguments):
        nonlocal seen
        paths = [str(one) for one in arguments if isinstance(one, str | Path)]
        if event == "fcntl.flock" or any(root in path for path in paths):
            seen += 1
            if seen == count:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def serve():
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            answer = os.waitpid(request["wait"], 0)[1]
        else:
            answer = os.fork()
            if answer == 0:
                try:
                    collect(**request["gc"]) if "gc" in request else write(**request["run"])
                except BaseException as error:
                    print(repr(error), file=sys.stderr, flush=True)
                    os._exit(1)
                os._exit(0)
        print(json.dumps(answer), flush=True)


def small_disk(folder):
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder]
    subprocess.run(mount, check=True)
    root = f"{folder}/store"
    write(root, 1)
    lines = {}
    try:
        write(root, 2, rows=600)
    except UserError as error:
        lines["full"] = str(error)
    lines["staged"] = os.listdir(f"{root}/.staging")
    write(root, 3)  # there is room again for a small one
    subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
    for name, path in (("read_only", root), ("no_folder", f"{folder}/other")):
        try:
            write(path, 4)
        except UserError as error:
            lines[name] = str(error)
    store = ArtefactStore(Path(root), CODE)
    lines["refs"] = list(store.refs())
    lines["problems"] = [str(problem) for problem in store.verify()]
    try:
        store.gc(dry_run=False)
    except UserError as error:
        lines["gc"] = str(error)
    print(json.dumps(lines))


if __name__ == "__main__":
    serve() if sys.argv[1] == "serve" else small_disk(sys.argv[2])
