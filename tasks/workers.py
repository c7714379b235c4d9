"""Processes that tasks hand their heavy work to: on this machine, of a Dask scheduler, of SLURM.

They are plain Dask workers rather than a Prefect task runner: a call costs milliseconds instead of
tenths of a second. Work may be run again if a worker dies, so only what is safe to repeat belongs
there; writing an artefact is.
"""

from __future__ import annotations

import logging
import os
import queue
import signal
import threading
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
_CONNECTIONS, _CONNECT_S, _PAUSE_S = 4, 10.0, 5.0
_STARTS = 3
#: How long workers of an existing scheduler may all be away.
_ALL_AWAY_S = 300.0
_LOOK_S = 5.0
#: Part of the memory that worker processes share.
_MEMORY = 0.9
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
    # What fails is told by the task whose work it was; the rest is of no use to a scientist.
    for name in ("distributed", "tornado.application"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    started: AbstractContextManager[str]
    if chosen == LOCAL:
        started = _local(n)
    elif "://" in chosen:
        started = _existing(chosen)
    else:
        from .slurm import load_scheduler, slurm_workers

        started = slurm_workers(load_scheduler(chosen), n, wait=not apart)
    with started as address:
        ended.pop(address, None)
        try:
            yield address
        finally:
            ended.setdefault(address, "the flow that used it is over")


@contextmanager
def _local(n: int) -> Iterator[str]:
    """`n` processes on this machine, or as many as it has cores, that share its memory."""
    from dask.system import CPU_COUNT
    from distributed import LocalCluster
    from distributed.system import MEMORY_LIMIT

    n = min(n, CPU_COUNT)
    for attempt in range(_STARTS):
        try:
            with _unreachable_by_ctrl_c():
                cluster = LocalCluster(
                    n_workers=n,
                    threads_per_worker=1,
                    memory_limit=int(_MEMORY * MEMORY_LIMIT / n),
                    dashboard_address="127.0.0.1:0",
                    silence_logs=logging.CRITICAL,
                    scheduler_kwargs={"allowed_failures": RUNS - 1},
                )
            break
        except RuntimeError as error:  # killed while it starts, one takes the start with it
            if attempt == _STARTS - 1:
                raise UserError(
                    "worker processes", f"{n} that ended while they started, {_STARTS} times",
                    "processes that run", f"free memory, or ask for fewer ({error})",
                ) from None  # fmt: skip
    over = threading.Event()
    keeper = threading.Thread(target=_keep, args=(cluster, n, over), daemon=True)
    with cluster:
        keeper.start()
        try:
            yield cluster.scheduler_address
        except BaseException as error:
            if not isinstance(error, Exception):  # cancelled: somebody waits for the end
                _kill(cluster)
            raise
        finally:
            over.set()
            keeper.join()


def _keep(cluster: Any, n: int, over: threading.Event) -> None:
    """Replace nannies: one gives up if its worker dies while it starts, and never says so."""
    from distributed.core import Status

    def mend() -> None:
        for name, nanny in list(cluster.workers.items()):
            if nanny.status in {Status.closed, Status.failed}:
                del cluster.workers[name]
        if len(cluster.workers) < n and not over.is_set():
            cluster.scale(n)

    while not over.wait(_LOOK_S):
        cluster.loop.add_callback(mend)


def _kill(cluster: Any) -> None:
    """End worker processes at once; by themselves they would finish what they are at."""
    for nanny in cluster.workers.values():
        nanny.close_gracefully("the flow is ended")  # so that it does not start another
        if nanny.pid:
            with suppress(ProcessLookupError):
                os.kill(nanny.pid, signal.SIGKILL)


@contextmanager
def _existing(address: str) -> Iterator[str]:
    """A scheduler that somebody else started and will end."""
    from distributed import Client

    where = f"scheduler {address}"
    try:
        client = Client(address, timeout=_CONNECT_S, set_as_default=False)
    except (OSError, ValueError) as error:
        raise UserError(
            where, f"no answer ({_line(error)})", "a running Dask scheduler",
            "start one (dask scheduler), or correct the address",
        ) from None  # fmt: skip
    with client:
        try:
            client.wait_for_workers(1, timeout=_CONNECT_S)
        except TimeoutError:
            raise UserError(
                where, "no workers", "at least one",
                f"start some: dask worker {address} --nthreads 1 --nworkers N",
            ) from None  # fmt: skip
        several = [one for one in client.nthreads().values() if one > 1]
        if several:
            raise UserError(
                where, f"workers of {several[0]} threads", "one thread in each",
                "start them with --nthreads 1 --nworkers N",
            )  # fmt: skip
        _same_code(client, where)
    yield address


def _same_code(client: Client, where: str) -> None:
    """Refuse workers that would make other artefacts than this process."""
    from ..lib.artefacts.code_version import code_version

    mine = code_version()
    try:
        there = client.run(code_version)
    except Exception as error:
        raise UserError(
            where, f"workers that cannot run it ({_line(error)})", f"ewaldflow {mine.version}",
            "install the same environment there",
        ) from None  # fmt: skip
    other = [one.version for one in there.values() if one.digest != mine.digest]
    if other:
        raise UserError(
            where, f"other code of ewaldflow {other[0]} on {len(other)} of {len(there)} workers",
            f"that of this ewaldflow {mine.version}", "install the same there, and restart them",
        )  # fmt: skip


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
                if isinstance(error, OSError) and client.status == "running":
                    raise  # of the work itself
                raise _LostError(_line(error)) from None
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
        client = Client(address, timeout=_CONNECT_S, set_as_default=False)
    except OSError as error:
        raise _LostError(_line(error)) from None
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
    submit(max(8, 4 * len(client.nthreads())) if len(calls) > 1 else 1)
    away_since = None
    while running:
        try:
            came = [ready.get(timeout=_LOOK_S)]
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


def _begun(client: Client, key: Any) -> int:
    """How often work was begun, by any worker."""
    return sum(one == str(key) for _, one in client.get_events(_BEGUN))


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
        raise _LostError(_line(error)) from None


def _died(client: Client, error: Any, work: Callable[..., Any]) -> UserError:
    """What to tell of work of which one worker after the other died."""
    memory = [event for _, event in client.get_events("worker-restart-memory")]
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
    if client.nthreads() or address in queued:
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


def _line(error: BaseException) -> str:
    """The first line of an error."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
