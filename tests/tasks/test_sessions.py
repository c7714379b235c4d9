"""Who works on what: a lock by name that ends with its holder, however that ends."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ewaldflow.lib.artefacts import ArtefactStore
from ewaldflow.tasks.sessions import holding, merged_series

HOLDER = """
import sys, time
from pathlib import Path
from ewaldflow.tasks.sessions import holding
with holding("merge-s", Path(sys.argv[1]), wait=True) as mine:
    print(mine, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def store(tmp_path: Path) -> Path:
    ArtefactStore(tmp_path / "runs").create()
    return tmp_path / "runs"


def test_one_has_it_and_others_go_on_without(store: Path) -> None:
    with holding("merge-s", store, wait=False) as mine:
        assert mine
        with holding("merge-s", store, wait=False) as second:
            assert not second
        with holding("merge-t", store, wait=False) as other:
            assert other
    with holding("merge-s", store, wait=False) as again:
        assert again


def test_who_waits_has_it_in_the_end(store: Path) -> None:
    order: list[str] = []
    waits = threading.Event()

    def second() -> None:
        waits.set()
        with holding("merge-s", store, wait=True) as mine:
            order.append(f"second {mine}")

    with holding("merge-s", store, wait=True):
        other = threading.Thread(target=second)
        other.start()
        waits.wait(10)
        other.join(0.3)
        assert other.is_alive()
        order.append("first")
    other.join(10)
    assert order == ["first", "second True"]


def test_a_killed_holder_holds_nothing(store: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(store)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "True\n"
        with holding("merge-s", store, wait=False) as mine:
            assert not mine
    finally:
        holder.kill()
        holder.wait()
    with holding("merge-s", store, wait=False) as mine:
        assert mine


def test_a_session_without_a_page_has_no_merged_series(store: Path) -> None:
    assert merged_series("s", store) == 0
