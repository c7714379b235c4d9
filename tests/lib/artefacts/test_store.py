import json
import logging
import os
import subprocess
import sys

import numpy as np
import pytest

from ewaldflow.lib.artefacts import ArtefactStore, CodeVersion, Input, Recipe
from ewaldflow.lib.artefacts.arrays import create_array, create_frames
from ewaldflow.lib.errors import UserError


def test_life_of_an_artefact(store):
    recipe = Recipe(
        kind="series", name="garnet", configuration={"gain": np.float64(3)}, seeds={"noise": 7}
    )
    assert store.find(recipe) is None
    with store.draft(recipe, flow_run_id="run-1") as draft:
        create_array(draft.arrays, "angle_deg", [0.0, 0.5])
        (draft.files / "logs").mkdir()
        (draft.files / "logs" / "a.log").write_text("fine")
        draft.figures_of_merit["r_merge"] = np.float32(0.5)
        draft.notes.append("Frame 3 is blank.")
        assert store.refs() == []
        artefact = draft.publish()

    assert artefact.ref == "series/garnet@v0001"
    assert artefact.path == store.root / "series" / "garnet" / "v0001"
    assert store.get("series/garnet") == store.get(artefact.ref) == artefact
    assert store.find(recipe) == artefact
    assert store.list() == store.list("series") == [artefact]
    assert store.list("reduction") == []
    assert artefact.arrays["angle_deg"][:].tolist() == [0.0, 0.5]
    assert (artefact.files / "logs" / "a.log").read_text() == "fine"
    manifest = artefact.manifest
    assert manifest.configuration == {"gain": 3.0}
    assert manifest.seeds == {"noise": 7}
    assert manifest.figures_of_merit == {"r_merge": 0.5}
    assert manifest.notes == ("Frame 3 is blank.",)
    assert manifest.flow_run_id == "run-1"
    assert manifest.key == recipe.key_with("0" * 64)
    assert manifest.created <= manifest.finished
    assert 0 < manifest.seconds < 60
    assert manifest.python == ".".join(map(str, sys.version_info[:3]))
    assert manifest.packages["numpy"] == np.__version__
    assert set(manifest.files) == {
        "data.zarr/zarr.json",
        "data.zarr/angle_deg/zarr.json",
        "data.zarr/angle_deg/c/0",
        "files/logs/a.log",
    }
    record = manifest.files["files/logs/a.log"]  # printf fine | sha256sum
    assert record.size == 4
    assert record.sha256 == "d14a58bae804a2b80b5b76a010239c88ffca1fc7951a90f8e9131beda1e23c1b"
    assert sorted(os.listdir(artefact.path)) == ["data.zarr", "files", "manifest.yaml"]
    assert list(store.verify()) == []
    assert list(store.staging.iterdir()) == []
    assert repr(artefact) == f"Artefact(path={artefact.path!r})"


def test_the_tree_digest_is_of_the_content_alone(store, make, tmp_path):
    one, two = make(number=1), make(number=2)
    assert one.manifest.key != two.manifest.key
    assert one.digest == two.digest


def test_versions_increase_and_latest_is_the_highest(store, make):
    refs = [make(number=number).ref for number in range(12)]
    assert refs == [f"series/garnet@v{n:04d}" for n in range(1, 13)]
    assert store.get("series/garnet").ref == refs[-1]
    assert store.refs() == refs
    assert make("reduction").ref == "reduction/garnet@v0001"
    assert store.get("series/garnet@v0003").manifest.configuration == {"number": 2}


def test_versions_beyond_four_digits_still_count(store, make):
    first = make(number=1)
    os.rename(first.path, first.path.with_name("v9999"))
    assert make(number=2).ref == "series/garnet@v10000"
    assert store.refs() == ["series/garnet@v9999", "series/garnet@v10000"]
    assert store.get("series/garnet").ref == "series/garnet@v10000"


def test_other_code_or_configuration_is_not_found(store, make):
    artefact = make(number=1)
    recipe = Recipe(kind="series", name="garnet", configuration={"number": 1})
    assert store.find(recipe) == artefact
    assert store.find(recipe.model_copy(update={"configuration": {"number": 1.5}})) is None
    newer = ArtefactStore(store.root, CodeVersion(version="0", digest="1" * 64))
    assert newer.find(recipe) is None
    assert newer.get("series/garnet") == artefact


def test_publishing_the_same_key_again_returns_the_first(store, make):
    assert make(number=1) == make(number=1)
    assert len(store.refs()) == 1
    assert list(store.staging.iterdir()) == []


def test_leaving_without_publishing_discards(store):
    recipe = Recipe(kind="series", name="garnet")
    with store.draft(recipe) as draft:
        create_array(draft.arrays, "x", [1])
        assert len(list(store.staging.iterdir())) == 1
    with pytest.raises(ZeroDivisionError), store.draft(recipe) as draft:
        create_array(draft.arrays, "x", [1 / 0])
    assert list(store.staging.iterdir()) == []
    assert store.refs() == []


def test_an_array_with_unwritten_chunks_cannot_be_published(store):
    # 70 frames are two shards; zarr would read the second as zeros
    with store.draft(Recipe(kind="series", name="garnet")) as draft:
        group = draft.arrays.create_group("a")
        frames = create_frames(group, "frames", (70, 4, 4), np.dtype("u2"))
        frames[:64] = 1
        with pytest.raises(ValueError, match=r"array a/frames: found chunks never written"):
            draft.publish()
    assert store.refs() == []


def test_frames_of_zeros_are_written_too(store):
    # zarr would leave them out, and they could not be told from lost ones
    with store.draft(Recipe(kind="series", name="garnet")) as draft:
        create_frames(draft.arrays, "frames", (70, 4, 4), np.dtype("u2"))[...] = 0
        artefact = draft.publish()
    assert {f"data.zarr/frames/c/{i}/0/0" for i in (0, 1)} <= set(artefact.manifest.files)
    assert not artefact.arrays["frames"][...].any()


def test_publishing_twice_is_refused(store):
    with store.draft(Recipe(kind="series", name="garnet")) as draft:
        draft.publish()
        with pytest.raises(ValueError, match="series/garnet@v0001 is published already"):
            draft.publish()


def test_an_artefact_without_arrays(store):
    with store.draft(Recipe(kind="report", name="garnet")) as draft:
        (draft.files / "report.html").write_text("<p>Fine.</p>")
        artefact = draft.publish()
    with pytest.raises(UserError, match="no arrays"):
        artefact.arrays["x"]


def test_published_files_cannot_be_changed_by_mistake(make):
    artefact = make()
    modes = {path.stat().st_mode & 0o777 for path in artefact.path.rglob("*") if path.is_file()}
    assert modes == {0o444}
    with pytest.raises(ValueError, match="read-only"):
        artefact.arrays["angle_deg"][0] = 1.0
    with pytest.raises(ValueError, match="read-only"):
        artefact.arrays.create_group("more")


@pytest.mark.parametrize(
    ("ref", "message"),
    [
        ("series/garnt", "no such artefact in .*, expected series/garnet, .*artefacts ls"),
        ("series/garnet@v0007", "expected series/garnet@v0001"),
        ("reduction/mordenite", "expected one that exists"),
        ("series", "no reference, expected KIND/NAME"),
        ("../series/garnet", "no reference"),
        ("series/garnet@latest", "no reference"),
        ("series/..", "no such artefact"),
        ("", "no reference"),
    ],
)
@pytest.mark.parametrize("ask", [ArtefactStore.get, ArtefactStore.verify])
def test_unknown_references(store, make, ref, message, ask):
    make()
    with pytest.raises(UserError, match=message) as error:
        ask(store, ref)
    assert "\n" not in str(error.value)


def test_a_folder_with_other_things_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("All I have.")
    store = ArtefactStore(tmp_path)
    with pytest.raises(UserError, match="a folder with other things in it"):
        store.draft(Recipe(kind="series", name="garnet")).__enter__()
    with pytest.raises(UserError, match="found no store, expected a store of artefacts"):
        store.list()
    assert os.listdir(tmp_path) == ["thesis.tex"]


def test_no_folder_and_a_file(tmp_path):
    absent = ArtefactStore(tmp_path / "absent")
    for ask in (absent.list, absent.gc, lambda: absent.get("a/b"), lambda: list(absent.verify())):
        with pytest.raises(UserError, match="found no such folder"):
            ask()
    assert absent.find(Recipe(kind="series", name="garnet")) is None
    assert not absent.root.exists()
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "store"):
        with pytest.raises(UserError, match="found a file, expected a store"):
            ArtefactStore(path).create()


def test_a_missing_input_stops_a_stage_before_it_starts(store, make):
    store.create()
    lost = Input(role="series", artefact="series/garnet@v0001", digest="a" * 64)
    recipe = Recipe(kind="reduction", name="garnet", inputs=(lost,))
    with (
        pytest.raises(UserError, match="series/garnet@v0001: found no such artefact"),
        store.draft(recipe),
    ):
        pass
    assert list(store.staging.iterdir()) == []


def test_lineage_goes_back_to_the_raw_frames(store, make, tmp_path):
    frame = tmp_path / "00001.img"
    frame.write_bytes(b"frame")
    raw = Recipe(kind="series", name="raw", inputs=(Input.from_file("frame", frame),))
    with store.draft(raw) as draft:
        series = draft.publish()
    reduction = make("reduction", inputs=[series])
    merged = make("merging", inputs=[reduction, series])
    assert list(store.lineage(merged.ref)) == [
        (1, "reduction/garnet@v0001"),
        (2, "series/raw@v0001"),
        (3, str(frame)),
    ]


def test_a_damaged_version_is_passed_over_aloud_and_its_stage_runs_again(store, make, caplog):
    artefact = make(number=1)
    recipe = Recipe(kind="series", name="garnet", configuration={"number": 1})
    (artefact.files / "report.html").unlink()
    with caplog.at_level(logging.WARNING):
        assert store.find(recipe) is None
        assert store.list() == []
    assert "series/garnet@v0001 is left out" in caplog.text
    assert "report.html: found no such file" in caplog.text
    assert make(number=1).ref == "series/garnet@v0002"
    assert store.find(recipe).ref == "series/garnet@v0002"


def test_importing_and_listing_needs_no_heavy_package(store, make):
    make()
    program = f"""
import json, sys
from ewaldflow.lib.artefacts import ArtefactStore
assert len(ArtefactStore({str(store.root)!r}).list()) == 1
print(json.dumps(sorted(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    heavy = {"dask", "distributed", "matplotlib", "numba", "numpy", "prefect", "scipy", "zarr"}
    assert heavy & set(json.loads(done.stdout)) == set()
