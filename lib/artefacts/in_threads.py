"""Doing many pieces of work side by side, with a few of them in memory at a time."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

#: Compressing, digesting and waiting for a disk all leave the interpreter to others.
THREADS = min(8, os.cpu_count() or 1)
_WAITING = 2


def in_threads(work: Callable[[T], R], items: Iterable[T], threads: int = THREADS) -> list[R]:
    """What `work` makes of each item, in order; items are taken as threads come free.

    `items` is iterated in the calling thread. At most `threads` items are worked on, and a few wait
    so that no thread does.
    What `work` raises is raised here, when what had begun has ended.
    """
    done: list[R] = []
    running: deque[Future[R]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for item in items:
            if len(running) == threads + _WAITING:
                done.append(running.popleft().result())
            running.append(pool.submit(work, item))
        done += [one.result() for one in running]
    return done
