"""Processes that tasks hand their heavy work to, when several series are processed at once."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_STARTS = 3


@contextmanager
def workers(n: int, *, apart: bool = False) -> Iterator[str | None]:
    """The address of `n` worker processes of one thread each; None for n = 1, which needs none.

    With `apart` even a single one is a process, since this one has better to do.

    They are a plain Dask cluster rather than a Prefect task runner: a call costs milliseconds
    instead of tenths of a second. Work may be run again if a worker dies, so only what is safe
    to repeat belongs there; writing an artefact is.
    """
    if n < 2 and not apart:
        yield None
        return
    from distributed import LocalCluster

    # What fails is told by the task whose work it was; the rest is of no use to a scientist.
    logging.getLogger("distributed").setLevel(logging.CRITICAL)

    for attempt in range(_STARTS):
        try:
            with _unreachable_by_ctrl_c():
                cluster = LocalCluster(
                    n_workers=n,
                    threads_per_worker=1,
                    dashboard_address="127.0.0.1:0",
                    silence_logs=logging.CRITICAL,
                )
            break
        except RuntimeError:  # a process that is killed while it starts takes the start with it
            if attempt == _STARTS - 1:
                raise
    with cluster:
        yield cluster.scheduler_address


@contextmanager
def _unreachable_by_ctrl_c() -> Iterator[None]:
    """Processes started within ignore SIGINT: a terminal sends it to all, this one ends them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def carry_out(address: str | None, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The result of `work`, done by a worker at `address`, or here if there is none."""
    if address is None:
        return work(*args, **kwargs)
    from distributed import Client

    with Client(address, set_as_default=False) as client:
        result: T = client.submit(work, *args, **kwargs, pure=False).result()
    return result


def carry_out_each(
    address: str | None,
    work: Callable[..., T],
    items: Sequence[tuple[object, ...]],
    done: Callable[[int], None] = lambda number: None,
) -> list[T]:
    """The results of ``work(*item)`` for each item, in order; many and small ones.

    `done` is told how many are finished. What `work` raises ends all: let it return its faults.
    """
    if address is None:
        here = []
        for item in items:
            here.append(work(*item))
            done(len(here))
        return here
    from distributed import Client, as_completed

    with Client(address, set_as_default=False) as client:
        futures = [client.submit(work, *item, pure=False) for item in items]
        for number, _ in enumerate(as_completed(futures, loop=client.loop), 1):
            done(number)
        results: list[T] = client.gather(futures)
    return results
