"""Memory of converting long series for other programs: sparse files of zeros, read in blocks.

A Merlin file and a TVIPS stream of 4096 x 4096 frames are written as NXmx; the highest memory is
that of the whole process, with the libraries it loads.
"""

from __future__ import annotations

import struct
import sys
from pathlib import Path

from _table import Table, options, run_measured, say, work_folder

SIDE = 4096
BAR_MB = 1000.0
CONVERT = """
import sys
from ewaldflow.lib.formats import read_series, write_series
from ewaldflow.lib.instrument import SeriesOverrides
given = SeriesOverrides(voltage_kV=200, pixel_size_mm=0.055, distance_mm=400,
                        rotation_axis=(0, 1, 0), oscillation_deg=0.1, start_deg=-10)
series = read_series(sys.argv[1], overrides=given)
assert write_series(series, sys.argv[2], sys.argv[3]).lossless
"""


def mib(path: Path, n_bytes: int) -> None:
    """A Merlin file of zeros, as long as whole frames make it."""
    size = 384 + 2 * SIDE * SIDE
    with path.open("wb") as file:
        for k in range(n_bytes // size):
            file.seek(k * size)
            text = (
                f"MQ1,{k + 1:06d},00384,01,{SIDE},{SIDE},U16,   1x1,01,2018-01-19 20:55:10.9,0.1,"
            )
            file.write(text.encode().ljust(384, b"\0"))
        file.truncate(n_bytes // size * size)


def tvips(path: Path, n_bytes: int) -> None:
    """A TVIPS stream of zeros."""
    size = 100 + 2 * SIDE * SIDE
    with path.open("wb") as file:
        said = (256, 2, SIDE, SIDE, 16, 0, 0, 1, 1, 15500, 200, 1000, 100)
        file.write(struct.pack("<13I", *said).ljust(256))
        file.truncate(256 + n_bytes // size * size)


def main() -> int:
    """Print the table."""
    given = options(__doc__ or "").parse_args()
    n_bytes = int(5e8) if given.quick else int(4e9)
    table = Table(f"memory of converting {n_bytes / 1e9:g} GB of {SIDE} x {SIDE} frames")
    with work_folder(given.work) as folder:
        for name, make in (("long.mib", mib), ("long_000.tvips", tvips)):
            make(folder / name, n_bytes)
            say(f"{name} to NXmx")
            out = folder / f"{name}-NXmx"
            ran = run_measured(
                [sys.executable, "-c", CONVERT, folder / name, out, "NXmx"], folder,
                folder / f"{name}.log",
            )  # fmt: skip
            figure = f"{name} to NXmx: highest memory, MB"
            if ran.code:
                table.fail(figure, ran.output.strip()[-200:])
                continue
            table.check(figure, ran.memory_MB, at_most=BAR_MB, form=".0f")
            table.tell(f"{name} to NXmx: CPU time", f"{ran.cpu_s:.0f} s")
    return table.show()


if __name__ == "__main__":
    raise SystemExit(main())
