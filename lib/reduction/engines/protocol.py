"""What every engine does, and what it hands back: the same types, whatever program ran."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ...series import RotationSeries
from ..config import ReductionConfig
from ..result import Reduction

Progress = Callable[[str, float], None]

# Wall time of an external program on one series. XDS takes seconds, DIALS minutes.
LIMIT_S = 1800.0


@dataclass(frozen=True)
class Try:
    """One attempt of an engine.

    Attributes
    ----------
    what : what was run.
    reason : why it was tried.
    outcome : what came of it.
    """

    what: str
    reason: str
    outcome: str

    def __str__(self) -> str:
        return f"{self.what} ({self.reason}): {self.outcome}"


@dataclass(frozen=True)
class EngineRun:
    """What an engine made of a series.

    Attributes
    ----------
    engine : builtin, xds or dials.
    version : program and version, as it names itself.
    reduction : lattices and frames; no lattice, and a verdict that says why, where it failed.
    tries : every attempt, in order; the last is the one that counts unless its outcome says no.
    logs : files in the scratch folder worth keeping.
    """

    engine: str
    version: str
    reduction: Reduction
    tries: tuple[Try, ...] = ()
    logs: tuple[Path, ...] = ()


class Engine(Protocol):
    """A program that reduces a series.

    `reduce` works in `scratch`, an empty folder of its own, and ends within `limit_s` seconds of
    wall time if it runs a program of others. What is wrong with the series is in the verdict;
    it raises `UserError` only where no engine could do better or the program is not there.
    """

    @property
    def name(self) -> str:
        """As a configuration names it."""
        ...

    def available(self) -> str | None:
        """None if it can run here, else the reason why not."""
        ...

    def reduce(
        self,
        series: RotationSeries,
        config: ReductionConfig,
        scratch: Path,
        progress: Progress | None = None,
        limit_s: float | None = LIMIT_S,
    ) -> EngineRun:
        """Reduce one series."""
        ...
