import shutil

import pytest

from ewaldflow.lib.artefacts import Input, Recipe
from ewaldflow.lib.errors import UserError


def removed(store, **options):
    return [str(one.path.relative_to(store.root)) for one in store.gc(**options)]


def test_old_versions_go_but_not_what_kept_ones_were_made_from(store, make):
    old, used, unused, latest = (make(number=number) for number in range(4))
    make("reduction", inputs=[old], number=1)  # its one user is itself replaced
    make("reduction", inputs=[used], number=2)
    expected = {"reduction/garnet/v0001", "series/garnet/v0001", "series/garnet/v0003"}
    assert set(removed(store)) == expected
    assert len(store.refs()) == 6, "a dry run removed something"
    assert set(removed(store, dry_run=False)) == expected
    assert store.refs() == [
        "reduction/garnet@v0002",
        "series/garnet@v0002",
        "series/garnet@v0004",
    ]
    assert list(store.verify()) == []
    assert not unused.path.exists()
    assert latest.path.exists()
    assert list(store.staging.iterdir()) == []
    assert removed(store, dry_run=False) == []


def test_what_was_made_from_another_goes_before_it(store, make):
    first = make("merging", number=1)
    middle = make("series", inputs=[first], number=1)
    last = make("reduction", inputs=[middle], number=1)
    for kind in ("series", "reduction", "merging"):
        make(kind, number=2)
    assert [one.path for one in store.gc()] == [last.path, middle.path, first.path]


def test_keep_more_than_the_latest(store, make):
    for number in range(5):
        make(number=number)
    assert set(removed(store, keep=3)) == {"series/garnet/v0001", "series/garnet/v0002"}
    assert removed(store, keep=5) == []
    with pytest.raises(ValueError, match="keep: found 0"):
        store.gc(keep=0)


def test_sizes_are_of_the_files(store, make):
    artefact = make(number=1)
    make(number=2)
    (removal,) = store.gc()
    files = [path for path in artefact.path.rglob("*") if path.is_file()]
    assert removal.size == sum(path.stat().st_size for path in files)


def test_what_a_living_writer_reads_is_kept(store, make):
    old = make(number=1)
    make(number=2)
    recipe = Recipe(kind="reduction", name="garnet", inputs=(Input.from_artefact("series", old),))
    with store.draft(recipe) as draft:
        assert removed(store, dry_run=False) == []
        draft.publish()
    assert removed(store, dry_run=False) == []
    assert list(store.verify()) == []


def test_a_damaged_latest_version_does_not_cost_the_last_good_one(store, make):
    make(number=1)
    good, damaged = make(number=2), make(number=3)
    (damaged.files / "report.html").unlink()
    assert removed(store, dry_run=False) == ["series/garnet/v0001"]
    assert good.path.exists()
    assert damaged.path.exists()


def test_an_unreadable_manifest_keeps_every_version_but_no_dead_draft(store, make):
    first = make(number=1)
    broken, _ = make(number=2), make(number=3)
    (broken.path / "manifest.yaml").unlink()
    (store.staging / "left" / "tree").mkdir(parents=True)
    with pytest.raises(UserError, match=r"v0002/manifest\.yaml: found no such file"):
        store.gc(dry_run=False)
    assert first.path.exists()
    assert list(store.staging.iterdir()) == []
    shutil.rmtree(broken.path)
    assert removed(store, dry_run=False) == ["series/garnet/v0001"]


def test_a_dead_draft_is_removed_only_when_asked(store, make):
    make()
    dead = store.staging / "dead"
    (dead / "tree" / "data.zarr").mkdir(parents=True)
    (dead / "tree" / "data.zarr" / "zarr.json").write_text("{}")
    (dead / "lock").write_text("[]")
    (removal,) = store.gc()
    assert (removal.path, removal.size) == (dead, 4)
    assert "writer ended" in removal.reason
    assert dead.exists()
    store.gc(dry_run=False)
    assert not dead.exists()
    assert len(store.refs()) == 1
