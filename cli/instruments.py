"""ewaldflow instruments."""

from __future__ import annotations

from .output import console, table


def instruments() -> None:
    """List the instruments that --instrument knows by name.

    Each is a YAML file; copy one to describe your own microscope and give its path.
    """
    from ..lib.instrument import INSTRUMENTS, available_instruments, load_instrument

    rows = []
    for name in available_instruments():
        one = load_instrument(name)
        rows_columns = " x ".join(str(n) for n in one.detector.shape)
        rows.append([name, f"{one.voltage_kV:g}", rows_columns, one.description])
    out = console()
    out.print(table(["name", "kV", "detector / px", "description"], rows, right=(1,)))
    out.print(f"\nfiles: {INSTRUMENTS}")
