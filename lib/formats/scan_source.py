"""What a reader of one kind of scan file hands over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class RawScan:
    """A scan as its file has it.

    Attributes
    ----------
    stacks : arrays, or what can be sliced like them: each (n, row, column) in the order taken, or
        one (scan_row, scan_column, row, column).
    files : raw files, or a folder.
    fields : what the file states, by the names of `ScanMetadata`; not checked.
    mask : (row, column), True where a pixel must not be used.
    missing : (scan_row, scan_column), True where there is no frame.
    name, instrument, wavelength_A, notes : as in `Scan4D`.
    """

    stacks: Sequence[Any]
    files: Sequence[Path]
    fields: Mapping[str, Any] = field(default_factory=dict)
    mask: NDArray[np.bool_] | None = None
    missing: NDArray[np.bool_] | None = None
    name: str = ""
    instrument: str = "unknown"
    wavelength_A: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """How many frames there are."""
        *axes, _, _ = self.stacks[0].shape
        if len(axes) == 2:
            return int(axes[0] * axes[1])
        return sum(int(stack.shape[0]) for stack in self.stacks)
