"""Every kind of damage is found by `verify`, and none ends in a wrong number."""

import pickle
import random
import shutil

import dask.array as da
import numpy as np
import pytest
import zarr

from ewaldflow.lib.artefacts import Recipe
from ewaldflow.lib.artefacts.arrays import create_array, read_frames, write_frames
from ewaldflow.lib.errors import UserError

FILES = [
    "manifest.yaml",
    "data.zarr/zarr.json",
    "data.zarr/frames/zarr.json",
    "data.zarr/frames/c/0/0/0",
    "data.zarr/frames/c/1/0/0",
    "data.zarr/angle_deg/zarr.json",
    "data.zarr/angle_deg/c/0",
    "files/XDS_ASCII.HKL",
]
FRAMES = np.random.default_rng(1).poisson(3, (70, 16, 16)).astype("u2")


@pytest.fixture
def artefact(store):
    with store.draft(Recipe(kind="series", name="garnet")) as draft:
        write_frames(draft.arrays, "frames", da.from_array(FRAMES, chunks=(10, 16, 16)))
        create_array(draft.arrays, "angle_deg", np.arange(70.0))
        (draft.files / "XDS_ASCII.HKL").write_text("!FORMAT=XDS_ASCII\n")
        return draft.publish()


def flip(path, rng):
    content = bytearray(path.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.chmod(0o644)
    path.write_bytes(content)


def everything(artefact):
    return artefact.arrays["frames"][...], artefact.arrays["angle_deg"][...]


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_is_found_by_verify_and_by_reading(store, artefact, name):
    path = artefact.path / name
    content = path.read_bytes()
    rng = random.Random(name)
    for _ in range(20):
        flip(path, rng)
        (problem,) = store.verify()
        assert problem.ref == artefact.ref
        assert problem.path == name
        assert problem.what == ("unreadable" if name == "manifest.yaml" else "changed")
        assert str(path) in str(problem)
        assert "\n" not in str(problem)
        if name.startswith("data.zarr"):
            with pytest.raises(UserError, match="found other bytes than were written") as error:
                everything(store.get(artefact.ref))
            assert str(error.value).startswith(f"{path}: ")
        elif name == "manifest.yaml":
            with pytest.raises(UserError, match="is not as it was written"):
                store.get(artefact.ref)
        path.write_bytes(content)
    assert list(store.verify()) == []
    np.testing.assert_array_equal(everything(store.get(artefact.ref))[0], FRAMES)


@pytest.mark.parametrize("frame", [0, 63, 64, 69])
def test_a_flipped_bit_is_found_when_only_a_frame_is_read(store, artefact, frame):
    flip(artefact.path / f"data.zarr/frames/c/{frame // 64}/0/0", random.Random(frame))
    frames = read_frames(artefact.arrays, "frames")
    with pytest.raises(UserError, match="found other bytes"):
        frames[frame].compute()
    sound = 69 - frame if frame in (0, 69) else 5 if frame == 64 else 65
    np.testing.assert_array_equal(frames[sound].compute(), FRAMES[sound])


@pytest.mark.parametrize("name", ["frames/c/0/0/0", "angle_deg/c/0"])
def test_flipped_bits_never_read_silently_wrong_without_our_store_either(store, artefact, name):
    path = artefact.path / "data.zarr" / name
    content, rng = path.read_bytes(), random.Random(0)
    array = name.partition("/")[0]
    for _ in range(100):
        flip(path, rng)
        group = zarr.open_group(artefact.path / "data.zarr", mode="r")
        with pytest.raises((ValueError, RuntimeError)):
            group[array][...]
        path.write_bytes(content)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(store, artefact, name):
    (artefact.path / name).unlink()
    (problem,) = store.verify()
    assert problem.path == name
    assert problem.what == ("unreadable" if name == "manifest.yaml" else "missing")
    assert "no such file" in str(problem)
    with pytest.raises(UserError, match="no such file"):
        store.get(artefact.ref)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("by", [-1, 1])
def test_a_cut_or_longer_file_is_named(store, artefact, name, by):
    path = artefact.path / name
    content = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(content[:-1] if by < 0 else content + b"\0")
    (problem,) = store.verify()
    assert (problem.path, problem.what) in {(name, "changed"), (name, "unreadable")}
    with pytest.raises(UserError):
        store.get(artefact.ref)


def test_a_chunk_lost_or_cut_after_opening_is_an_error_and_not_zeros(artefact):
    arrays = artefact.arrays
    frames, path = arrays["frames"], artefact.path / "data.zarr/frames/c/1/0/0"
    np.testing.assert_array_equal(frames[64:], FRAMES[64:])
    path.chmod(0o644)
    content = path.read_bytes()
    path.write_bytes(content[:-10])
    with pytest.raises(UserError, match=f"{len(content) - 10} bytes, expected {len(content)}"):
        frames[64:]
    path.unlink()
    with pytest.raises(UserError, match="no such file"):
        frames[64:]
    np.testing.assert_array_equal(frames[:64], FRAMES[:64])


def test_added_files_are_named_and_cannot_reach_a_reader(store, artefact):
    array = artefact.path / "data.zarr" / "more"
    shutil.copytree(artefact.path / "data.zarr" / "angle_deg", array)
    (artefact.path / "note.txt").write_text("hello")
    found = {(problem.path, problem.what) for problem in store.verify()}
    added = ("note.txt", "data.zarr/more/c/0", "data.zarr/more/zarr.json")
    assert found == {(name, "added") for name in added}
    arrays = store.get(artefact.ref).arrays
    assert "more" not in arrays
    assert sorted(arrays.array_keys()) == ["angle_deg", "frames"]


def test_a_file_replaced_by_a_link_to_the_same_is_named(store, artefact):
    path = artefact.path / "files" / "XDS_ASCII.HKL"
    path.rename(store.root / "elsewhere")
    path.symlink_to(store.root / "elsewhere")
    (problem,) = store.verify()
    assert (problem.path, problem.what) == ("files/XDS_ASCII.HKL", "changed")
    assert "no file" in str(problem)


def test_a_version_moved_to_another_name_is_named(store, artefact):
    shutil.copytree(artefact.path, artefact.path.with_name("v0007"))
    (problem,) = store.verify("series/garnet@v0007")
    assert "a name series/garnet@v0001, expected series/garnet@v0007" in str(problem)
    with pytest.raises(UserError, match="the manifest of series/garnet@v0001"):
        store.get("series/garnet")


def test_a_lost_or_exchanged_input_is_named(store, make):
    series = make()
    reduction = make("reduction", inputs=[series])
    assert list(store.verify()) == []
    shutil.rmtree(series.path)
    (problem,) = store.verify()
    assert (problem.ref, problem.what) == (reduction.ref, "missing")
    assert "input series/garnet@v0001: found digest none" in str(problem)
    with store.draft(Recipe(kind="series", name="garnet")) as draft:
        create_array(draft.arrays, "x", [1])
        assert draft.publish().ref == series.ref
    (problem,) = store.verify()
    assert f"expected {series.digest[:12]}" in str(problem)


def test_one_damaged_artefact_does_not_hide_the_others(store, make):
    refs = [make(number=number).ref for number in range(3)]
    shutil.rmtree(store.folder(refs[0]) / "data.zarr")
    (store.folder(refs[1]) / "manifest.yaml").unlink()
    (store.folder(refs[2]) / "files/report.html").unlink()
    found = {problem.ref for problem in store.verify()}
    assert found == set(refs)
    assert {problem.ref for problem in store.verify(refs[2])} == {refs[2]}
    assert {problem.ref for problem in store.verify("series/garnet")} == set(refs)


def test_arrays_read_the_same_in_another_process(artefact):
    arrays = pickle.loads(pickle.dumps(artefact.arrays))
    np.testing.assert_array_equal(arrays["frames"][3:5], FRAMES[3:5])
    flip(artefact.path / "data.zarr/frames/c/0/0/0", random.Random(3))
    with pytest.raises(UserError, match="found other bytes"):
        pickle.loads(pickle.dumps(arrays))["frames"][3:5]
