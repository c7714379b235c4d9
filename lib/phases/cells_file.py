"""cells.yaml and cells.xlsx: the cells of a session, for people and for other programs.

    cells:
      - name: crystal_0001
        cell: [20.09, 19.74, 13.14, 90, 90, 90]   # Å, degrees
        lattice: oP          # or space_group: 62; aP without either
        esd: [0.02, 0.02, 0.01, 0, 0, 0]
        reflections: 1820
        indexed: 0.93
        phase: phase 1       # left out for an outlier, which has a reason instead

Lists as edtools writes them (a list of entries with ``directory``, ``number``, ``unit_cell``,
``space_group`` and ``weight``) are read too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from openpyxl import Workbook  # type: ignore[import-untyped]
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..crystal.cell import Cell
from ..errors import UserError
from .cell_record import CellRecord, record_from_space_group
from .phases import Phases

_EDTOOLS = {"directory", "number", "unit_cell", "raw_unit_cell", "space_group", "weight"}


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1)
    cell: Cell
    lattice: str | None = None
    space_group: int | None = Field(None, ge=1, le=230)
    esd: Cell | None = None
    reflections: float = Field(1.0, ge=0, allow_inf_nan=False)
    indexed: float | None = Field(None, ge=0, le=1)
    source: str = ""
    phase: str | None = None
    reason: str | None = None

    def record(self, where: str) -> CellRecord:
        if self.lattice and self.space_group:
            raise UserError(
                f"{where}, lattice", "a space_group as well", "one of the two", "take one away"
            )
        indexed = math.nan if self.indexed is None else self.indexed
        try:
            if self.space_group:
                return record_from_space_group(
                    self.name, self.cell, self.space_group, cell_esd=self.esd,
                    weight=self.reflections, indexed_fraction=indexed, source=self.source,
                )  # fmt: skip
            return CellRecord(
                self.name, self.cell, self.lattice or "aP", self.esd, self.reflections, indexed,
                self.source,
            )  # fmt: skip
        except UserError as error:
            field = "cell"
            if "space group" in error.found:
                field = "space_group"
            elif "lattice type" in error.found:
                field = "lattice"
            raise UserError(f"{where}, {field}", error.found, error.expected, error.do) from error


def read_cells(path: str | Path) -> tuple[CellRecord, ...]:
    """The records of a cells.yaml, ours or as edtools writes them.

    Raises
    ------
    UserError : on the first thing wrong, one line that names the entry and the field.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
        content = yaml.safe_load(text)
    except OSError as error:
        raise UserError(path, error.strerror or "no file", "a cells.yaml", "check it") from error
    except UnicodeDecodeError as error:
        raise UserError(path, "bytes that are not UTF-8", "a text file", "save as UTF-8") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "no YAML"
        raise UserError(f"{path}{line}", problem, "YAML", "correct that line") from error
    entries = content.get("cells") if isinstance(content, dict) else content
    if not isinstance(entries, list) or not entries:
        raise UserError(
            path, "no list of cells", "cells: with one entry (- name: ...) for every series",
            "write it as docs/phases.md shows",
        )  # fmt: skip
    records: list[CellRecord] = []
    seen: dict[str, int] = {}
    for number, raw in enumerate(entries, 1):
        entry, where = _entry(path, number, raw)
        if entry.name in seen:
            raise UserError(
                f"{where}, name", f"{entry.name!r}, as in entry {seen[entry.name]}",
                "names used once", "rename one of them",
            )  # fmt: skip
        seen[entry.name] = number
        records.append(entry.record(where))
    return tuple(records)


def _entry(path: Path, number: int, raw: Any) -> tuple[_Entry, str]:
    where = f"{path}, entry {number}"
    if not isinstance(raw, dict):
        raise UserError(where, repr(raw), "name: and cell: of a series", "write both")
    if "name" in raw:
        where += f" ({raw['name']})"
    elif "unit_cell" in raw and set(raw) <= _EDTOOLS:
        raw = _from_edtools(raw)
    for field in ("cell", "esd"):
        values = raw.get(field)
        if field == "cell" and values is None:
            raise UserError(f"{where}, cell", "nothing", "a b c alpha beta gamma", "write it")
        if values is not None and (not isinstance(values, list) or len(values) != 6):
            found = f"{len(values)} numbers" if isinstance(values, list) else repr(values)
            raise UserError(
                f"{where}, {field}", found, "[a, b, c, alpha, beta, gamma] with six numbers",
                "write all six",
            )  # fmt: skip
    try:
        return _Entry.model_validate(raw), where
    except ValidationError as error:
        first = error.errors()[0]
        place = first["loc"]
        field = str(place[0]) if place else "entry"
        if len(place) > 1 and isinstance(place[1], int):
            field += f"[{('a', 'b', 'c', 'alpha', 'beta', 'gamma')[place[1]]}]"
        if first["type"] == "extra_forbidden":
            known = ", ".join(_Entry.model_fields)
            raise UserError(f"{where}, {field}", "an unknown field", known, "rename it") from error
        found = "nothing" if first["type"] == "missing" else repr(first["input"])
        expected = first["msg"].removeprefix("Input should be ")
        raise UserError(f"{where}, {field}", found, expected, "correct it") from error


def _from_edtools(raw: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": str(raw.get("directory") or raw.get("number") or "?"),
        "cell": raw["unit_cell"],
        "space_group": raw.get("space_group"),
        "reflections": raw.get("weight", 1.0),
    }


def write_cells(
    path: str | Path, records: Sequence[CellRecord], phases: Phases | None = None
) -> Path:
    """Write a cells.yaml; with `phases`, what became of every series and the phases' mean cells.

    The means are comments for people: reading finds them again from the cells.
    """
    path = Path(path)
    lines = ["# Cells in Å and degrees."]
    if phases is not None:
        lines += [
            f"# {p.name}: {len(p.members)} series, {p.bravais} {_cell_text(p.cell)}"
            for p in phases.phases
        ]
    entries = []
    for record in records:
        entry: dict[str, Any] = {
            "name": record.name,
            "cell": [round(v, 4) for v in record.cell],
            "lattice": record.bravais,
        }
        if record.cell_esd is not None:
            entry["esd"] = [float(f"{v:.3g}") for v in record.cell_esd]
        entry["reflections"] = float(record.weight)
        if math.isfinite(record.indexed_fraction):
            entry["indexed"] = round(record.indexed_fraction, 4)
        if record.source:
            entry["source"] = record.source
        phase, reason = _fate(record.name, phases)
        if phase:
            entry["phase"] = phase
        if reason:
            entry["reason"] = reason
        entries.append(entry)
    body = yaml.safe_dump(
        {"cells": entries}, sort_keys=False, allow_unicode=True, default_flow_style=None, width=1000
    )
    path.write_text("\n".join(lines) + "\n" + body, encoding="utf-8")
    return path


def write_cells_xlsx(path: str | Path, phases: Phases) -> Path:
    """Write a workbook: sheets ``cells``, one row per series, and ``phases``."""
    path = Path(path)
    book = Workbook()
    cells = book.active
    assert cells is not None
    cells.title = "cells"
    names = ["a", "b", "c", "alpha", "beta", "gamma"]
    cells.append(
        ["name", "phase", "lattice", *names, "volume", *(f"niggli {n}" for n in names),
         *(f"esd {n}" for n in names), "reflections", "indexed", "strain from phase",
         "reason left out", "source"]
    )  # fmt: skip
    for r in phases.records:
        phase, reason = _fate(r.name, phases)
        strain = None
        home = phases.phase_of(r.name)
        if home is not None:
            strain = float(home.strain[home.names.index(r.name)])
        cells.append(
            [r.name, phase, r.bravais, *r.cell, r.volume_A3, *r.niggli,
             *(r.cell_esd or [None] * 6), r.weight,
             None if math.isnan(r.indexed_fraction) else r.indexed_fraction, strain, reason,
             r.source]
        )  # fmt: skip
    sheet = book.create_sheet("phases")
    sheet.append(["phase", "series", "lattice", *names, *(f"spread {n}" for n in names), "votes"])
    for p in phases.phases:
        votes = ", ".join(f"{b} {w:g}" for b, w in p.vote.items())
        sheet.append([p.name, len(p.members), p.bravais, *p.cell, *p.spread, votes])
    for page in (cells, sheet):
        page.freeze_panes = "B2"
    book.save(path)
    return path


def _fate(name: str, phases: Phases | None) -> tuple[str | None, str | None]:
    """(phase, None) or (None, reason); (None, None) if nothing is known."""
    if phases is None:
        return None, None
    home = phases.phase_of(name)
    if home is not None:
        return home.name, None
    reasons = (o.reason for o in phases.outliers if o.record.name == name)
    return None, next(reasons, None)


def _cell_text(cell: Cell) -> str:
    return " ".join(f"{v:.3f}" for v in cell[:3]) + " " + " ".join(f"{v:.2f}" for v in cell[3:])
