"""Processes that tasks hand their heavy work to: on this machine, of a Dask scheduler, of SLURM.

They are plain Dask workers rather than a Prefect task runner: a call costs milliseconds instead of
tenths of a second. Work may be run again if a worker dies, so only what is safe to repeat belongs
there; writing an artefact is.
"""

from __future__ import annotations

import logging
import os
import queue
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from ..lib.errors import UserError
from .progress import listening, tell

if TYPE_CHECKING:
    from distributed import Client, Future

P = ParamSpec("P")
T = TypeVar("T")

LOCAL = "local"
#: A worker that dies is replaced and its work done again, so often; then the work is to blame.
RUNS = 3
#: A scheduler that is lost is looked for so often, so long, and with such pauses.
_CONNECTIONS, CONNECT_S, _PAUSE_S = 4, 10.0, 5.0
#: How long workers of an existing scheduler may all be away.
_ALL_AWAY_S = 300.0
LOOK_S = 5.0
#: Events of Dask's, and how often progress is told at most.
_BEGUN, _TOLD, _TELL_S = "ewaldflow-begun", "ewaldflow-told", 0.2
#: Why there is nothing any more at an address that `workers` gave.
ended: dict[str, str] = {}
#: Addresses whose workers may be long in coming, as batch systems have queues.
queued: set[str] = set()


@contextmanager
def workers(n: int, scheduler: str | None = None, *, apart: bool = False) -> Iterator[str | None]:
    """The address of a Dask scheduler with worker processes; None where none are needed.

    Parameters
    ----------
    n : processes of one thread each: on this machine, where there are never more than cores, or
        asked of SLURM. An existing scheduler has those that it has.
    scheduler : "local", which None also stands for; the address of an existing one such as
        ``tcp://host:8786``; or a batch system: a name in configs/schedulers, or a YAML file.
    apart : have even a single process on this machine, since this one has better to do.

    Raises
    ------
    UserError : no such scheduler, none that can be used, or processes that do not start.
    """
    chosen = scheduler or LOCAL
    if chosen == LOCAL and n < 2 and not apart:
        yield None
        return
    import distributed  # noqa: F401 - it sets levels of its own as it is imported

    # What fails is told by the task whose work it was; the rest is of no use to a scientist.
    for name in ("distributed", "tornado.application"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    from .schedulers import existing_workers, local_workers

    started: AbstractContextManager[str]
    if chosen == LOCAL:
        started = local_workers(n)
    elif "://" in chosen:
        started = existing_workers(chosen)
    else:
        from .slurm import load_scheduler, slurm_workers

        started = slurm_workers(load_scheduler(chosen), n, wait=not apart)
    with started as address:
        ended.pop(address, None)
        try:
            yield address
        finally:
            ended.setdefault(address, "the flow that used it is over")


def carry_out(address: str | None, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The result of `work`, done by a worker at `address`, or here if there is none.

    Raises
    ------
    UserError : workers die of it, or the scheduler is lost and does not come back; and whatever
        `work` raises.
    """
    if address is None:
        return work(*args, **kwargs)
    ((_, result),) = _on_workers(address, work, [(args, kwargs)])
    return result


def carry_out_each(
    address: str | None,
    work: Callable[..., T],
    items: Sequence[tuple[object, ...]],
    done: Callable[[int], None] = lambda number: None,
) -> list[T]:
    """The results of ``work(*item)`` for each item, in order; many and small ones.

    `done` is told how many are finished. What `work` raises ends all: let it return its faults.

    Raises
    ------
    UserError : as `carry_out`.
    """
    results: dict[int, T] = {}
    for number, result in carried_out(address, work, items):
        results[number] = result
        done(len(results))
    return [results[number] for number in range(len(items))]


def carried_out(
    address: str | None, work: Callable[..., T], items: Sequence[tuple[object, ...]]
) -> Iterator[tuple[int, T]]:
    """Number and result of ``work(*item)`` for each item, as they are made.

    Only a few for each worker are under way at a time, so that what is not taken does not pile up.

    Raises
    ------
    UserError : as `carry_out`.
    """
    if address is None:
        yield from ((number, work(*item)) for number, item in enumerate(items))
    else:
        yield from _on_workers(address, work, [(item, {}) for item in items])


class _LostError(Exception):
    """There is no scheduler, or it forgot what it was asked."""


Call = tuple[tuple[Any, ...], dict[str, Any]]


def _on_workers(
    address: str, work: Callable[..., T], calls: Sequence[Call]
) -> Iterator[tuple[int, T]]:
    """Number and result of each call; what a lost scheduler took along is asked of it again."""
    left = dict(enumerate(calls))
    lost = 0
    while left:
        try:
            with connected(address) as client:
                for number, result in _as_made(client, address, work, left):
                    del left[number]
                    lost = 0
                    yield number, result
        except _LostError as error:
            lost += 1
            if lost >= _CONNECTIONS or address in ended:
                raise _lost(work, address, error) from None
            time.sleep(_PAUSE_S)


@contextmanager
def borrowed(address: str | None, work: Callable[..., Any]) -> Iterator[Client | None]:
    """A client for work that spreads itself over workers; None where there are none.

    Raises
    ------
    UserError : as `carry_out`, but that a lost scheduler is not waited for.
    """
    from distributed import CancelledError, KilledWorker
    from distributed.comm.core import CommClosedError

    if address is None:
        yield None
        return
    try:
        with connected(address) as client:
            try:
                yield client
            except KilledWorker as error:
                raise _died(client, error, work) from None
            except (CancelledError, OSError) as error:
                of_dask = isinstance(error, CancelledError | CommClosedError)
                if client.status == "running" and not of_dask:
                    raise  # of the work itself
                raise _LostError(first_line(error)) from None
    except _LostError as error:
        raise _lost(work, address, error) from None


def workers_at(address: str) -> int:
    """How many workers there are."""
    with borrowed(address, workers_at) as client:
        return 0 if client is None else len(client.nthreads())


def _lost(work: Callable[..., Any], address: str, error: _LostError) -> UserError:
    return UserError(
        f"{_words(work)}: scheduler {address}", f"it lost ({ended.get(address, str(error))})",
        "a scheduler that runs until all is done",
        "start it again, and this again: what is finished is kept",
    )  # fmt: skip


@contextmanager
def connected(address: str) -> Iterator[Client]:
    """A client of the scheduler at an address that `workers` gave."""
    from distributed import Client

    try:
        client = Client(address, timeout=CONNECT_S, set_as_default=False)
    except OSError as error:
        raise _LostError(first_line(error)) from None
    with client:
        yield client


def _as_made(
    client: Client, address: str, work: Callable[..., T], calls: dict[int, Call]
) -> Iterator[tuple[int, T]]:
    """Number and result of each call, as they are made; a few are under way at a time."""
    from distributed import KilledWorker

    ready: queue.SimpleQueue[Future[Any] | tuple[Any, ...]] = queue.SimpleQueue()
    waiting = deque(calls)
    running: dict[Any, tuple[int, Future[Any]]] = {}
    killed: dict[int, list[int]] = {}

    def submit(count: int) -> None:
        for number in [waiting.popleft() for _ in range(min(count, len(waiting)))]:
            args, kwargs = calls[number]
            future = client.submit(
                _in_folder, os.getcwd(), client.id, work, args, kwargs, pure=False
            )
            running[future.key] = (number, future)
            future.add_done_callback(ready.put)

    def hear(event: tuple[float, tuple[Any, ...]]) -> None:
        whom, *told = event[1]
        if whom == client.id:
            ready.put(tuple(told))

    client.subscribe_topic(_TOLD, hear)
    submit(max(8, 4 * len(_asked(client.nthreads))) if len(calls) > 1 else 1)
    away_since = None
    while running:
        try:
            came = [ready.get(timeout=LOOK_S)]
        except queue.Empty:
            away_since = _away(client, address, away_since)
            continue
        with suppress(queue.Empty):
            while True:
                came.append(ready.get_nowait())
        for each in came:
            if isinstance(each, tuple):  # not where it is heard: listeners may take their time
                tell(*each)
        made = [each for each in came if not isinstance(each, tuple)]
        whole: dict[int, Future[Any]] = {}
        for one in made:
            number, _ = running.pop(one.key)
            error = one.exception() if one.status == "error" else None
            if not isinstance(error, KilledWorker):
                whole[number] = one
                continue
            # Dask blames all that a dead worker was to do: only what it had begun can be at fault
            begun = killed.setdefault(number, [])
            begun.append(_begun(client, one.key))
            if sum(begun) >= RUNS or len(begun) >= RUNS:
                raise _died(client, error, work)
            waiting.appendleft(number)
        submit(len(made))  # before what came is looked at, so that no worker waits
        yield from zip(whole, _results(list(whole.values())), strict=True)


def _asked(question: Callable[..., Any], *args: Any) -> Any:
    """What the scheduler answers."""
    try:
        return question(*args)
    except (OSError, TimeoutError) as error:
        raise _LostError(first_line(error)) from None


def _begun(client: Client, key: Any) -> int:
    """How often work was begun, by any worker."""
    return sum(one == str(key) for _, one in _asked(client.get_events, _BEGUN))


def _results(futures: list[Future[Any]]) -> list[Any]:
    """What was made; or what it raised."""
    from asyncio import CancelledError as Cancelled

    from distributed import CancelledError

    if not futures:
        return []
    for one in futures:
        if one.status == "error":
            one.result()
    try:
        return list(futures[0].client.gather(futures))
    except (CancelledError, Cancelled, OSError, TimeoutError) as error:
        raise _LostError(first_line(error)) from None


def _died(client: Client, error: Any, work: Callable[..., Any]) -> UserError:
    """What to tell of work of which one worker after the other died."""
    memory = [event for _, event in _asked(client.get_events, "worker-restart-memory")]
    of_it = [one["rss"] for one in memory if one["worker"] == error.last_worker.address]
    times = f"{error.allowed_failures + 1} times"
    if of_it:
        return UserError(
            _words(work), f"{max(of_it) / 1e9:.1f} GB in a worker process, {times}",
            f"at most {error.last_worker.memory_limit / 1e9:.1f} GB",
            "ask for fewer workers, or for more memory for each",
        )  # fmt: skip
    return UserError(
        _words(work), f"a worker process that died of it, {times}",
        "a process that lives to its end",
        "see whether the machine ran out of memory; ask for fewer workers",
    )  # fmt: skip


def _away(client: Client, address: str, since: float | None) -> float | None:
    """When the last worker went; None while there are some. _LostError if it is long ago."""
    if client.status != "running" or address in ended:
        raise _LostError("the connection ended")
    if _asked(client.nthreads) or address in queued:
        return None
    since = since or time.monotonic()
    if time.monotonic() - since > _ALL_AWAY_S:
        raise _LostError("all its workers went away")
    return since


def _in_folder(
    folder: str, whom: str, work: Callable[..., T], args: Iterable[Any], kwargs: dict[str, Any]
) -> T:
    """The work, done where paths mean what they mean to who asked, and is told how far it is."""
    from distributed import get_worker

    worker = get_worker()
    worker.log_event(_BEGUN, str(worker.get_current_task()))
    try:
        os.chdir(folder)
    except OSError as error:
        from socket import gethostname

        raise UserError(
            f"worker on {gethostname()}", f"{folder}: {(error.strerror or '').lower()}",
            "the folders of this machine", "work on a file system that all of them share",
        ) from None  # fmt: skip
    following = 0.0

    def pass_on(series: str, step: str, fraction: float) -> None:
        nonlocal following
        if fraction >= 1 or time.monotonic() >= following:
            following = time.monotonic() + _TELL_S
            worker.log_event(_TOLD, (whom, series, step, fraction))

    with listening(pass_on):
        return work(*args, **kwargs)


def _words(work: Callable[..., Any]) -> str:
    """What work is called to people."""
    return getattr(work, "__name__", "work").strip("_").replace("_", " ")


def first_line(error: BaseException) -> str:
    """The first line of an error."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
