"""The built-in engine, as one of several."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...series import RotationSeries
from ..config import ReductionConfig
from .protocol import LIMIT_S, EngineRun, Progress, Try


@dataclass(frozen=True)
class Builtin:
    """`lib.reduction.engine` in this process; the time limit does not concern it."""

    name: str = "builtin"

    def available(self) -> str | None:
        """Always."""
        return None

    def reduce(
        self,
        series: RotationSeries,
        config: ReductionConfig,
        scratch: Path,
        progress: Progress | None = None,
        limit_s: float | None = LIMIT_S,
    ) -> EngineRun:
        """Reduce one series; raises as `reduce_series` does."""
        from ..engine import reduce_series  # numba takes seconds to import

        reduction = reduce_series(series, config, progress)
        done = Try("reduce", "the only way it goes", reduction.verdict)
        return EngineRun(self.name, f"ewaldflow {_version()}", reduction, (done,))


def _version() -> str:
    from .... import __version__

    return __version__
