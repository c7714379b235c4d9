"""Dask schedulers that flows work with: one of this machine, and one that runs already."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from ..lib.errors import UserError
from . import workers as shared

if TYPE_CHECKING:
    from distributed import Client

_STARTS = 3
#: Part of the memory that worker processes share.
_MEMORY = 0.9


@contextmanager
def local_workers(n: int) -> Iterator[str]:
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
                    scheduler_kwargs={"allowed_failures": shared.RUNS - 1},
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

    while not over.wait(shared.LOOK_S):
        cluster.loop.add_callback(mend)


def _kill(cluster: Any) -> None:
    """End worker processes at once; by themselves they would finish what they are at."""
    for nanny in cluster.workers.values():
        nanny.close_gracefully("the flow is ended")  # so that it does not start another
        if nanny.pid:
            with suppress(ProcessLookupError):
                os.kill(nanny.pid, signal.SIGKILL)


@contextmanager
def existing_workers(address: str) -> Iterator[str]:
    """A scheduler that somebody else started and will end."""
    from distributed import Client

    where = f"scheduler {address}"
    try:
        client = Client(address, timeout=shared.CONNECT_S, set_as_default=False)
    except (OSError, ValueError) as error:
        raise UserError(
            where, f"no answer ({shared.first_line(error)})", "a running Dask scheduler",
            "start one (dask scheduler), or correct the address",
        ) from None  # fmt: skip
    with client:
        try:
            client.wait_for_workers(1, timeout=shared.CONNECT_S)
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
            where, f"workers that cannot run it ({shared.first_line(error)})",
            f"ewaldflow {mine.version}", "install the same environment there",
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
