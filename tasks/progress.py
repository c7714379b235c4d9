"""How far the tasks of this process are, for whoever wants to show it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Listener = Callable[[str, str, float], None]
_listeners: list[Listener] = []


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Have `listener` called with the series, the step and the fraction done (0 to 1)."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def tell(series: str, step: str, fraction: float = 0.0) -> None:
    """Tell the listeners; from any thread."""
    for listener in tuple(_listeners):
        listener(series, step, fraction)
