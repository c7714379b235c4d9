"""DIALS as an engine: its programs, called with settings that electron diffraction needs.

Winter et al. (2018), Acta Cryst. D74, 85. What differs from X-rays (Clabbers et al. (2018),
Acta Cryst. D74, 506): the distance is held, since over so flat an Ewald sphere it is the cell's
scale; the cell does not vary during the scan; large spots count, small ones do not.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...errors import UserError
from ...series import RotationSeries
from ..config import ReductionConfig
from .programs import find_program
from .protocol import LIMIT_S, EngineRun, Progress

_PROGRAMS = ("dials.import", "dials.find_spots", "dials.index", "dials.integrate")


@dataclass(frozen=True)
class Dials:
    """The programs of DIALS, found on PATH.

    Attributes
    ----------
    nproc : processes that finding spots and integrating may use.
    """

    nproc: int = 1
    name: str = "dials"

    def available(self) -> str | None:
        """Whether its programs are there."""
        missing = [program for program in _PROGRAMS if find_program(program) is None]
        return f"{missing[0]} is not on the PATH" if missing else None

    def reduce(
        self,
        series: RotationSeries,
        config: ReductionConfig,
        scratch: Path,
        progress: Progress | None = None,
        limit_s: float | None = LIMIT_S,
    ) -> EngineRun:
        """Reduce one series; raises `UserError` as `reduce_with_dials`, and without DIALS."""
        if (why := self.available()) is not None:
            raise UserError("engine dials", why, "DIALS", "install it, or choose another engine")
        from .dials_reduce import reduce_with_dials  # scipy takes a second to import

        return reduce_with_dials(series, config, scratch, progress, limit_s, nproc=self.nproc)
