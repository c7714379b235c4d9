"""Large files of a draft are digested while others are written, and the digests are right."""

import hashlib
import os
import pickle

import numpy as np
import pytest
import zarr

from ewaldflow.lib.artefacts import ArtefactStore, Recipe, draft_files
from ewaldflow.lib.artefacts.arrays import create_array
from ewaldflow.lib.errors import UserError

NOISE = np.random.default_rng(0).integers(0, 2**32, 100_000, np.uint32)  # 400 kB, not compressible


def test_digests_are_those_of_the_files(tmp_path):
    store = ArtefactStore(tmp_path)
    with store.draft(Recipe(kind="note", name="a")) as draft:
        create_array(draft.arrays, "large", NOISE)
        create_array(draft.arrays, "small", NOISE[:9])
        (draft.files / "text").write_text("words")
        artefact = draft.publish()
    assert artefact.manifest.files["data.zarr/large/c/0"].size > draft_files._LARGE
    for name, record in artefact.manifest.files.items():
        content = (artefact.path / name).read_bytes()
        assert hashlib.sha256(content).hexdigest() == record.sha256
    assert not list(store.verify())


@pytest.mark.parametrize("through_zarr", [True, False])
def test_a_file_written_again_is_digested_again(tmp_path, through_zarr):
    store = ArtefactStore(tmp_path)
    with store.draft(Recipe(kind="note", name="a")) as draft:
        array = create_array(draft.arrays, "large", NOISE)
        if through_zarr:
            array[...] = NOISE[::-1]
        else:
            path = draft.arrays.store.root / "large" / "c" / "0"
            path.write_bytes(path.read_bytes()[::-1])
        artefact = draft.publish()
    assert not list(store.verify())
    if through_zarr:
        np.testing.assert_array_equal(artefact.arrays["large"][...], NOISE[::-1])


def test_a_disk_that_fails_in_the_background_is_told(tmp_path, monkeypatch):
    def refuse(handle):
        raise OSError(5, os.strerror(5))

    store = ArtefactStore(tmp_path)
    with store.draft(Recipe(kind="note", name="a")) as draft:
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", refuse)
            create_array(draft.arrays, "large", NOISE)
            draft._stored._pool.shutdown(wait=True)
        with pytest.raises(UserError, match="expected a working disk"):
            draft.publish()
    assert not store.list()


def test_elsewhere_it_is_a_folder(tmp_path):
    store = draft_files.DraftFiles(tmp_path)
    create_array(zarr.open_group(store, mode="w"), "large", NOISE)
    copied = pickle.loads(pickle.dumps(store))
    np.testing.assert_array_equal(zarr.open_group(copied, mode="r")["large"][...], NOISE)
    store.close()
