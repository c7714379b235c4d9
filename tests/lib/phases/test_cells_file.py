import numpy as np
import openpyxl
import pytest

from ewaldflow.lib.errors import UserError
from ewaldflow.lib.phases.cell_record import CellRecord
from ewaldflow.lib.phases.cells_file import read_cells, write_cells, write_cells_xlsx
from ewaldflow.lib.phases.phases import find_phases

MFI = (20.09, 19.738, 13.142, 90.0, 90.0, 90.0)
RECORDS = [
    CellRecord("a", MFI, "oP", (0.02, 0.02, 0.01, 0, 0, 0), 1820, 0.93, "reduction/1"),
    CellRecord("b", (20.1, 19.7, 13.1, 90, 90, 90), "oP", None, 900, 0.8),
    CellRecord("c", (5.1, 6.2, 7.3, 80, 85, 95)),
]


def test_what_is_written_is_read(tmp_path):
    path = write_cells(tmp_path / "cells.yaml", RECORDS, find_phases(RECORDS))
    read = read_cells(path)
    for one, other in zip(read, RECORDS, strict=True):
        assert (one.name, one.cell, one.bravais, one.weight, one.source) == (
            other.name, other.cell, other.bravais, other.weight, other.source
        )  # fmt: skip
    assert read[0].cell_esd == RECORDS[0].cell_esd
    assert read[0].indexed_fraction == 0.93
    assert np.isnan(read[2].indexed_fraction)
    text = path.read_text()
    assert "phase: phase 1" in text
    assert "reason: 'no other series" in text or "reason: no other series" in text
    assert read_cells(write_cells(tmp_path / "again.yaml", RECORDS))[0].name == "a"


def test_what_edtools_writes_is_read(tmp_path):
    path = tmp_path / "cells.yaml"
    path.write_text(
        "- directory: one/SMV\n  number: 1\n  raw_unit_cell: [14, 25, 27, 90, 90, 90]\n"
        "  space_group: '69'\n  unit_cell: [13.88, 25.44, 27.26, 90, 90, 90]\n  weight: 3938\n"
    )
    (record,) = read_cells(path)
    assert (record.name, record.bravais, record.weight) == ("one/SMV", "oF", 3938)


GOOD = "cells:\n- {name: a, cell: [20, 19, 13, 90, 90, 90]}\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no list of cells"),
        ("cells: 5", "no list of cells"),
        ("cells: []", "no list of cells"),
        ("cells:\n- name: [a", "line 2"),
        ("cells:\n- a\n", "entry 1: found 'a'"),
        ("cells:\n- {name: a}\n", r"entry 1 \(a\), cell: found nothing"),
        (GOOD + "- {name: b, cell: [20, 19, 13, 90, 90]}", r"entry 2 \(b\), cell: found 5 numbers"),
        (GOOD + "- {name: b, cell: 20 19 13}", r"entry 2 \(b\), cell: found '20 19 13'"),
        (GOOD + "- {name: b, cell: [20, x, 13, 90, 90, 90]}", r"\(b\), cell\[b\]: found 'x'"),
        (GOOD + "- {name: b, cell: [2000000, 3, 13, 90, 90, 90]}", r"cell: found a = 2e\+06"),
        (GOOD + "- {name: b, cell: [20, 19, 13, 90, 90, 900]}", "gamma = 900 degrees"),
        (GOOD + "- {name: b, cell: [20, 19, 13, 60, 60, 150]}", "close no cell"),
        (GOOD + "- {name: b, cell: [.nan, 19, 13, 60, 60, 150]}", "nan"),
        (GOOD + "- {name: b, cell: [20, 19, 13, 90, 90, 90], lattice: oX}",
         r"entry 2 \(b\), lattice: found lattice type 'oX'"),
        (GOOD + "- {name: b, cell: [20, 19, 13, 90, 90, 90], space_group: 231}",
         r"\(b\), space_group: found 231"),
        (GOOD + "- {name: b, cell: [20, 19, 13, 90, 90, 90], space_group: 40}",
         r"\(b\), space_group: found space group 40"),
        (GOOD + "- {name: b, cell: [20, 19, 13, 90, 90, 90], lattice: oP, space_group: 16}",
         "one of the two"),
        (GOOD + "- {name: b, cell: [20, 19, 13, 90, 90, 90], spacegroup: 16}",
         r"\(b\), spacegroup: found an unknown field"),
        (GOOD + "- {name: b, cell: [20, 19, 13, 90, 90, 90], indexed: 93}",
         r"\(b\), indexed: found 93"),
        (GOOD + "- {name: b, cell: [20, 19, 13, 90, 90, 90], reflections: many}",
         r"\(b\), reflections: found 'many'"),
        (GOOD + "- {name: a, cell: [20, 19, 13, 90, 90, 90]}", "'a', as in entry 1"),
        (GOOD + "- {cell: [20, 19, 13, 90, 90, 90]}", "entry 2, name: found nothing"),
    ],
)  # fmt: skip
def test_an_error_by_hand_is_one_line_with_entry_and_field(tmp_path, text, words):
    path = tmp_path / "cells.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=words) as caught:
        read_cells(path)
    assert "\n" not in str(caught.value)
    assert "cells.yaml" in str(caught.value)


def test_no_file_and_no_text(tmp_path):
    with pytest.raises(UserError, match="No such file"):
        read_cells(tmp_path / "none.yaml")
    (tmp_path / "cells.yaml").write_bytes(b"\xff\xfe\x00a")
    with pytest.raises(UserError, match="UTF-8"):
        read_cells(tmp_path / "cells.yaml")


def test_the_workbook(tmp_path):
    phases = find_phases(RECORDS)
    book = openpyxl.load_workbook(write_cells_xlsx(tmp_path / "cells.xlsx", phases))
    rows = list(book["cells"].iter_rows(values_only=True))
    head = rows[0]
    by_name = {row[0]: dict(zip(head, row, strict=True)) for row in rows[1:]}
    assert by_name["a"]["phase"] == "phase 1"
    assert by_name["a"]["a"] == 20.09
    assert by_name["c"]["phase"] is None
    assert "no other series" in by_name["c"]["reason left out"]
    means = list(book["phases"].iter_rows(values_only=True))
    assert means[1][:3] == ("phase 1", 2, "oP")
