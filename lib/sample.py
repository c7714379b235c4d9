"""What is known of a sample: composition, and cell and space group where known.

A sample is a YAML file in `configs/samples/`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import gemmi
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from .crystal.cell import Cell, cell_volume
from .errors import UserError
from .instrument import first_problem
from .yaml_file import read_fields

SAMPLES = Path(__file__).resolve().parents[1] / "configs" / "samples"

# Volume of an atom other than hydrogen in a crystal, Å^3: the usual rule of thumb
ATOM_VOLUME_A3 = 18.0


def parse_formula(text: str) -> dict[str, float]:
    """``Si O2`` or ``C19H22N2O`` as {element: count}, repeated elements summed.

    Raises
    ------
    ValueError : an unknown element, a count of zero, brackets, or nothing at all.
    """
    counts: dict[str, float] = {}
    rest = text.replace(" ", "")
    for symbol, count in re.findall(r"([A-Z][a-z]?)(\d*\.?\d*)", rest):
        if gemmi.Element(symbol).atomic_number == 0:
            raise ValueError(f"'{symbol}' is no element")
        counts[symbol] = counts.get(symbol, 0.0) + (float(count) if count else 1.0)
    if re.sub(r"([A-Z][a-z]?)(\d*\.?\d*)", "", rest) or not counts:
        raise ValueError(f"'{text}' is no formula; write elements with counts, such as Si O2")
    if min(counts.values()) <= 0:
        raise ValueError(f"'{text}' has an element without atoms")
    return counts


def _composition(value: Any) -> Any:
    return parse_formula(value) if isinstance(value, str) else value


def _elements(counts: dict[str, float]) -> dict[str, float]:
    for symbol in counts:
        element = gemmi.Element(symbol)
        if element.atomic_number == 0 or element.name != symbol:
            raise ValueError(f"'{symbol}' is no element")
    return counts


def _cell(cell: Cell) -> Cell:
    if min(cell) <= 0 or max(cell[3:]) >= 180 or not cell_volume(cell) > 1:
        raise ValueError("these are no cell: edges in Å and angles in degrees")
    return cell


def _space_group(name: str) -> str:
    if gemmi.find_spacegroup_by_name(name) is None:
        raise ValueError("no such space group; write it as 'P n m a' or 'Pnma'")
    return name


Composition = Annotated[
    dict[str, Annotated[float, Field(gt=0)]],
    BeforeValidator(_composition),
    AfterValidator(_elements),
    Field(min_length=1),
]


class Sample(BaseModel):
    """A sample.

    Attributes
    ----------
    name : for titles.
    description : for people.
    composition : of a formula unit, ``Si O2`` or {Si: 1, O: 2}.
    formula_units : of them in the cell (Z); estimated from the volume where not known.
    cell, space_group : where known; the cell in the setting of the space group.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str
    description: str = ""
    composition: Composition
    formula_units: Annotated[float, Field(gt=0)] | None = None
    cell: Annotated[Cell, AfterValidator(_cell)] | None = None
    space_group: Annotated[str, AfterValidator(_space_group)] | None = None

    def formula_units_in(self, cell: Cell) -> float:
        """Z of a cell: as given, or from its volume at 18 Å^3 for each atom but hydrogen."""
        if self.formula_units is not None:
            if self.cell is None:
                return self.formula_units
            # another cell of the same lattice (primitive, superstructure) holds in proportion
            ratio = cell_volume(cell) / cell_volume(self.cell)
            whole = round(ratio) if ratio >= 1 else 1 / round(1 / ratio)
            return self.formula_units * (whole if abs(ratio / whole - 1) < 0.1 else ratio)
        return estimated_formula_units(self.composition, cell)

    def contents_of(self, cell: Cell) -> dict[str, float]:
        """Atoms of each element in a cell."""
        z = self.formula_units_in(cell)
        return {element: count * z for element, count in self.composition.items()}


def estimated_formula_units(composition: Mapping[str, float], cell: Cell) -> int:
    """Formula units in a cell, at 18 Å^3 for each atom but hydrogen; at least 1."""
    heavy = sum(n for element, n in composition.items() if element not in {"H", "D"})
    return max(1, round(cell_volume(cell) / (ATOM_VOLUME_A3 * max(heavy, 1.0))))


def available_samples() -> tuple[str, ...]:
    """Names of the samples in configs/samples."""
    return tuple(sorted(path.stem for path in SAMPLES.glob("*.yaml")))


def load_sample(name_or_path: str | Path) -> Sample:
    """A sample by its name in configs/samples, or from a YAML file anywhere.

    Raises
    ------
    UserError : no such sample or file; or a field that is unknown, missing or wrong.
    """
    path = Path(name_or_path)
    if path.suffix not in {".yaml", ".yml"}:
        path = SAMPLES / f"{name_or_path}.yaml"
        if not path.exists():
            known = ", ".join(available_samples())
            raise UserError(
                "sample", f"'{name_or_path}'", f"one of {known}", "name one, or give a .yaml"
            )
    content = read_fields(path, "a sample")
    try:
        return Sample.model_validate(content)
    except ValidationError as error:
        raise first_problem(path, error) from None
