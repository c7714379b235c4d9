"""XDS as an engine: Kabsch (2010), Acta Cryst. D66, 125.

The program is not ours and not free for all: it is looked for, never brought along, and its
licence is read from what it prints.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...errors import UserError
from ...series import RotationSeries
from ..config import ReductionConfig
from .programs import find_program
from .protocol import LIMIT_S, EngineRun, Progress
from .xds_run import PROBE_S, PROGRAM, probe


@dataclass(frozen=True)
class Xds:
    """XDS, on PATH as `xds_par` or where `program` says.

    Attributes
    ----------
    program : name or path of the program.
    user_input : the user's own XDS.INP, changed only where it must be; None to make one.
    processors : that it may use.
    probe_s : time limit of the probe by which `available` decides.
    """

    program: str | Path = PROGRAM
    user_input: Path | None = None
    processors: int = 1
    probe_s: float = PROBE_S
    name: str = "xds"

    def available(self) -> str | None:
        """Whether XDS is there, licensed and runs: it is run on nothing."""
        found = find_program(self.program)
        if found is None:
            path = Path(self.program)
            if path.name != str(self.program) and path.exists():
                return f"{path} cannot be executed"
            return f"{self.program} is not {'there' if path.is_absolute() else 'on the PATH'}"
        return probe(found, self.probe_s)

    def reduce(
        self,
        series: RotationSeries,
        config: ReductionConfig,
        scratch: Path,
        progress: Progress | None = None,
        limit_s: float | None = LIMIT_S,
    ) -> EngineRun:
        """Reduce one series; raises `UserError` as `reduce_with_xds`, and if XDS is not there."""
        program = find_program(self.program)
        if program is None:
            why = self.available() or "no program"
            raise UserError("engine xds", why, "XDS", "install it, or choose another engine")
        from .xds_reduce import reduce_with_xds  # scipy takes a second to import

        return reduce_with_xds(
            program, series, config, scratch, progress, limit_s,
            user_input=self.user_input, processors=self.processors,
        )  # fmt: skip
