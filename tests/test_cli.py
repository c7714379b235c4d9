from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

from ewaldflow.cli import main
from ewaldflow.cli.options import chosen, stated_overrides
from ewaldflow.lib import instrument
from ewaldflow.lib.artefacts import ArtefactStore, Recipe
from ewaldflow.lib.errors import UserError
from ewaldflow.lib.formats import read_series, write_series
from ewaldflow.lib.reduction.config import ReductionConfig
from ewaldflow.lib.series import RotationSeries
from ewaldflow.lib.series.storage import pixel_digest
from ewaldflow.lib.simulation.truth import Truth

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with two versions of one artefact."""
    root = tmp_path / "runs"
    for number in (1, 2):
        recipe = Recipe(kind="note", name="first", configuration={"number": number})
        with ArtefactStore(root).draft(recipe) as draft:
            (draft.files / "text").write_text(f"number {number}")
            draft.figures_of_merit = {"verdict": f"it is {number}"}
            draft.publish()
    return root


@pytest.mark.parametrize(
    "arguments",
    [
        ["reduce", "--help"], ["orient", "--help"], ["demo", "--help"], ["convert", "--help"],
        ["cells", "--help"], ["instruments", "--help"], ["artefacts", "--help"],
        ["artefacts", "gc", "--help"],
    ],
)  # fmt: skip
def test_every_command_explains_itself(arguments: list[str], capsys: Capture) -> None:
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert "Usage: ewaldflow" in out
    assert "Traceback" not in out


def test_first_page_names_the_commands_and_an_example(capsys: Capture) -> None:
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    for words in ("reduce", "demo", "convert", "instruments", "artefacts", "ewaldflow demo"):
        assert words in out


def test_reduce_help_gives_units(capsys: Capture) -> None:
    main(["reduce", "--help"])
    out = capsys.readouterr().out
    for words in ("--distance", "mm", "--wavelength", "Å", "--voltage", "kV", "--axis", "X Y Z"):
        assert words in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["reduc"], "reduc"),
        (["reduce"], "DIR"),
        (["reduce", "x", "--wavelength", "long"], "--wavelength"),
        (["reduce", "x", "--wavelength", "-1"], "wavelength_A"),
        (["reduce", "x", "--voltage", "200", "--wavelength", "0.025"], "not both"),
        (["reduce", "x", "--axis", "0", "0", "0"], "not all zero"),
        (["reduce", "x", "--axis", "1", "0"], "axis"),
        (["reduce", "x", "--instrument", "microscop"], "microscop"),
        (["reduce", "x", "--instrument", "nowhere.yaml"], "nowhere.yaml"),
        (["reduce", "x", "--engine", "magic"], "magic"),
        (["reduce", "x", "--d-min", "0"], "d_min_A"),
        (["reduce", "x", "--config", "nowhere.yaml"], "nowhere.yaml"),
        (["reduce", "x", "--workers", "0"], "workers"),
        (["convert", "nowhere", "out", "--to", "smv"], "nowhere"),
        (["convert", "nowhere", "out", "--to", "jpeg"], "jpeg"),
        (["convert", "nowhere", ".", "--to", "smv"], "new folder"),
        (["orient", "reduction/x", "--store", "nowhere"], "nowhere"),
        (["orient", "reduction/x", "--iterate", "9"], "iterate"),
        (["artefacts", "ls", "--store", "nowhere"], "nowhere"),
        (["artefacts", "show", "a b", "--store", "nowhere"], "a b"),
        (["artefacts", "gc", "--store", "nowhere", "--keep", "0"], "keep"),
    ],
)
def test_what_the_user_must_mend_is_one_line(
    arguments: list[str], words: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:  # fmt: skip
    (tmp_path / "something").touch()
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    assert shown.err.startswith("ewaldflow: ")
    assert words in shown.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["something"]


def test_a_store_that_is_something_else_is_one_line(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "thesis.doc").touch()
    assert main(["reduce", str(tmp_path), "--store", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (KeyboardInterrupt(), 130, "ewaldflow: interrupted; finished stages are kept\n"),
        (OSError(5, "Input/output error", "a/b"), 2, "ewaldflow: a/b: Input/output error\n"),
    ],
)
def test_what_comes_from_outside_is_one_line(
    error: BaseException, code: int, line: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(instrument, "available_instruments", fail)
    assert main(["instruments"]) == code
    assert capsys.readouterr().err == line


def test_help_comes_at_once() -> None:
    began = time.perf_counter()
    code = "import sys; from ewaldflow.cli import main; main(['--help']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"numpy", "prefect", "zarr", "numba", "matplotlib", "dask", "pydantic"}
    assert not heavy & set(done.stdout.splitlines()[-1].split())
    assert time.perf_counter() - began < 10  # 0.2 s by itself; the machine may be busy


def test_artefacts_ls_and_show(store: Path, capsys: Capture) -> None:
    assert main(["artefacts", "ls", "--store", str(store)]) == 0
    out = capsys.readouterr().out
    assert "note/first@v0001" in out
    assert "it is 2" in out
    assert main(["artefacts", "show", "note/first", "--store", str(store)]) == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    assert (shown["version"], shown["configuration"]) == (2, {"number": 2})


def test_artefacts_verify_names_what_was_changed(store: Path, capsys: Capture) -> None:
    assert main(["artefacts", "verify", "--store", str(store)]) == 0
    assert "2 artefacts checked, 0 damaged" in capsys.readouterr().out
    changed = store / "note" / "first" / "v0001" / "files" / "text"
    changed.chmod(0o644)
    changed.write_text("number 9")
    assert main(["artefacts", "verify", "--store", str(store)]) == 1
    out = capsys.readouterr().out
    assert str(changed) in out
    assert "1 damaged" in out
    assert main(["artefacts", "verify", "note/first@v0002", "--store", str(store)]) == 0


def test_artefacts_gc_removes_only_when_told(store: Path, capsys: Capture) -> None:
    old = store / "note" / "first" / "v0001"
    assert main(["artefacts", "gc", "--store", str(store)]) == 0
    assert "1 could go" in capsys.readouterr().out
    assert old.exists()
    assert main(["artefacts", "gc", "--delete", "--store", str(store)]) == 0
    assert not old.exists()
    assert old.with_name("v0002").exists()


def test_instruments_are_listed(capsys: Capture) -> None:
    assert main(["instruments"]) == 0
    assert "twin" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("to", "suffix"), [("smv", ".img"), ("tiff", ".tiff"), ("mrc", ".mrc"), ("xds", ".img")]
)
def test_convert_keeps_every_pixel(
    to: str, suffix: str, simulated: tuple[RotationSeries, Truth], tmp_path: Path, capsys: Capture
) -> None:
    few = simulated[0].select(np.arange(5))
    write_series(few, tmp_path / "in", "SMV")
    arguments = ["convert", str(tmp_path / "in"), str(tmp_path / "out"), "--to", to]
    assert main([*arguments, "--instrument", "twin"]) == 0
    assert "5 frames in" in capsys.readouterr().out
    frames = list((tmp_path / "out" / "data").glob(f"*{suffix}"))
    assert len(frames) == 5
    assert (tmp_path / "out" / "XDS.INP").exists()
    assert pixel_digest(read_series(tmp_path / "out")) == pixel_digest(few)


def test_options_become_overrides_and_nothing_else_is_set() -> None:
    stated = stated_overrides(voltage_kV=200.0, beam_centre_px=(255.5, 257.0), distance_mm=None)
    assert stated.model_fields_set == {"voltage_kV", "beam_centre_px"}
    assert stated.beam_centre_px == (255.5, 257.0)


def test_command_line_wins_over_the_configuration_file(tmp_path: Path) -> None:
    path = tmp_path / "engine.yaml"
    path.write_text("d_min_A: 0.9\nmax_lattices: 1\n")
    config = chosen(ReductionConfig, path, d_min_A=1.1, cell=None)
    assert (config.d_min_A, config.max_lattices) == (1.1, 1)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("d_min: 0.9", "d_min"),
        ("max_lattices: many", "max_lattices"),
        ("- 1", "list"),
        ("{", "YAML"),
        ("a: !!python/object/apply:os.getcwd []", "YAML"),
    ],
)
def test_a_bad_configuration_file_is_named(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "engine.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=words) as error:
        chosen(ReductionConfig, path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_cells_are_sorted_and_bad_ones_told(tmp_path: Path, capsys: Capture) -> None:
    file = tmp_path / "cells.yaml"
    rows = [
        {"name": f"a{i}", "cell": [10 + 0.01 * i, 12, 14, 90, 90, 90], "lattice": "oP"}
        for i in range(3)
    ] + [{"name": f"b{i}", "cell": [5, 5, 9 + 0.01 * i, 90, 90, 120]} for i in range(2)]
    file.write_text(yaml.safe_dump({"cells": rows}))
    assert main(["cells", str(file), "--out", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert "a0, a1, a2" in out
    assert "b0, b1" in out
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        "cells.xlsx", "dendrogram.svg", "histograms.svg",
    }  # fmt: skip
    rows[1]["cell"] = [10, 12, "long", 90, 90, 90]
    file.write_text(yaml.safe_dump({"cells": rows}))
    assert main(["cells", str(file)]) == 2
    error = capsys.readouterr().err
    assert "a1" in error
    assert error.count("\n") == 1
