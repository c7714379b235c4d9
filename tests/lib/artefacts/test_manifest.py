import enum
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

import ewaldflow.lib.artefacts.manifest as module
from ewaldflow.lib.artefacts import CodeVersion, Input, Manifest, Recipe
from ewaldflow.lib.artefacts.manifest import (
    FileRecord,
    digest_of,
    plain,
    read_manifest,
    tree_digest,
    write_manifest,
)
from ewaldflow.lib.errors import UserError

numbers = st.integers() | st.floats()
text = st.text(st.characters(exclude_categories=["Cs"]))
data = st.recursive(
    st.none() | st.booleans() | numbers | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=10,
)
digests = st.text("0123456789abcdef", min_size=64, max_size=64)
labels = st.from_regex(r"\A[A-Za-z0-9_][\w.+-]{0,30}\Z")
moments = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)).map(
    lambda moment: moment.replace(tzinfo=UTC)
)
manifests = st.builds(
    Manifest,
    kind=labels,
    name=labels,
    schema_version=st.integers(1, 9),
    inputs=st.lists(st.builds(Input, role=text, digest=digests, path=text), max_size=3).map(tuple),
    configuration=st.dictionaries(text, data, max_size=4),
    seeds=st.dictionaries(text, st.integers(), max_size=2),
    version=st.integers(1, 99999),
    key=digests,
    code=st.builds(CodeVersion, version=text, digest=digests),
    packages=st.dictionaries(text, text, max_size=2),
    python=text,
    flow_run_id=st.none() | text,
    created=moments,
    finished=moments,
    seconds=st.floats(0, 1e9),
    figures_of_merit=st.dictionaries(text, numbers | text, max_size=3),
    notes=st.lists(text, max_size=2).map(tuple),
    files=st.dictionaries(text, st.builds(FileRecord, sha256=digests, size=st.integers(0))),
    tree_digest=digests,
)


@pytest.mark.parametrize("libyaml", [True, False])
@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(manifests)
def test_a_manifest_read_back_equals_the_one_written(
    tmp_path_factory, monkeypatch, libyaml, manifest
):
    if not libyaml:  # PyYAML may have been built without it
        monkeypatch.setattr(module, "_Loader", yaml.SafeLoader)
        monkeypatch.setattr(module, "_Dumper", yaml.SafeDumper)
    path = tmp_path_factory.getbasetemp() / "manifest.yaml"
    write_manifest(path, manifest)
    again = read_manifest(path)
    # as words, because no NaN equals another
    assert repr(again.model_dump(mode="json")) == repr(manifest.model_dump(mode="json"))
    assert list(again.files) == list(manifest.files)
    assert again.key_with("x") == manifest.key_with("x")
    # nothing but plain data in the file: the strictest loader reads it
    assert repr(yaml.safe_load(path.read_bytes())["notes"]) == repr(list(manifest.notes))


@settings(max_examples=100)
@given(data, data)
def test_digest_is_of_the_value(one, other):
    assert digest_of(one) == digest_of(one)
    assert (digest_of(one) == digest_of(other)) == (
        repr(sorted_keys(one)) == repr(sorted_keys(other))
    )


def sorted_keys(value):
    if isinstance(value, dict):
        return {key: sorted_keys(value[key]) for key in sorted(value)}
    return [sorted_keys(item) for item in value] if isinstance(value, list) else value


def test_digest_known_by_hand():
    # printf '{"a":[1,2.5,"\\u00c5"],"b":null}' | sha256sum
    known = "6060f21d0e8d2f7c847ed2c9f1f812ad823ad5dc13e76a427434d217b6469063"
    assert digest_of({"b": None, "a": (1, 2.5, "Å")}) == known


class Mode(enum.StrEnum):
    FAST = "fast"


class Level(enum.IntEnum):
    LOW = 1


@dataclass(frozen=True)
class Axis:
    vector: tuple[float, float]


class Configuration(BaseModel):
    mode: Mode = Mode.FAST
    axis: Axis = Axis((1.0, 0.5))
    path: Path = Path("a/b")


def test_plain_takes_what_configurations_are_made_of():
    assert plain(Configuration()) == {
        "mode": "fast",
        "axis": {"vector": [1.0, 0.5]},
        "path": "a/b",
    }
    found = plain([np.float32(0.5), np.int16(-3), np.bool_(True), np.arange(2), Level.LOW, True])
    assert found == [0.5, -3, True, [0, 1], 1, True]
    assert [type(item) for item in found] == [float, int, bool, list, int, bool]
    assert type(plain(np.float64(2))) is float
    assert math.isnan(plain(float("nan")))


@pytest.mark.parametrize("bad", [object(), {1: 2}, {1, 2}, b"bytes", [lambda: 0], datetime.now()])
def test_plain_refuses_what_it_cannot_keep(bad):
    with pytest.raises(TypeError, match="expected"):
        plain(bad)


def test_plain_refuses_undecodable_file_names():
    with pytest.raises(ValueError, match="surrogates"):
        plain("\udcff.img")


def recipe(**changes):
    base = {
        "kind": "reduction",
        "name": "garnet",
        "inputs": (Input(role="series", artefact="series/garnet@v0001", digest="a" * 64),),
        "configuration": {"d_min_A": 0.8},
        "seeds": {"split": 1},
    }
    return Recipe(**{**base, **changes})


def test_key_changes_with_all_that_determines_the_result_and_with_nothing_else():
    key = recipe().key_with("code")
    moved = Input(role="series", path="elsewhere.zarr", digest="a" * 64)
    assert recipe(name="other").key_with("code") == key
    assert recipe(inputs=(moved,)).key_with("code") == key
    changes = [
        {"kind": "merging"},
        {"schema_version": 2},
        {"inputs": ()},
        {"inputs": (Input(role="reference", path="x", digest="a" * 64),)},
        {"inputs": (Input(role="series", path="x", digest="b" * 64),)},
        {"configuration": {"d_min_A": 0.8000000000000002}},
        {"configuration": {"d_min_A": "0.8"}},
        {"seeds": {"split": 2}},
    ]
    keys = {recipe(**change).key_with("code") for change in changes}
    keys |= {key, recipe().key_with("code2")}
    assert len(keys) == len(changes) + 2


def test_order_of_configuration_does_not_matter_to_the_key_but_of_inputs_does():
    one, two = (Input(role="r", path="x", digest=letter * 64) for letter in "ab")
    forth = recipe(configuration={"a": 1, "b": 2}, inputs=(one, two)).key_with("c")
    assert recipe(configuration={"b": 2, "a": 1}, inputs=(one, two)).key_with("c") == forth
    assert recipe(configuration={"a": 1, "b": 2}, inputs=(two, one)).key_with("c") != forth


@pytest.mark.parametrize("name", ["", "a/b", "..", ".hidden", "a b", "a@v1", "-x", "x" * 101])
def test_a_name_that_cannot_be_a_folder_is_one_clear_line(name):
    with pytest.raises(UserError, match="name of an artefact: found") as error:
        recipe(name=name)
    assert "\n" not in str(error.value)


def test_input_is_either_an_artefact_or_a_file():
    for places in ({}, {"artefact": "a/b@v0001", "path": "x"}):
        with pytest.raises(ValidationError, match="either an artefact or a path"):
            Input(role="r", digest="a" * 64, **places)


def test_input_from_file(tmp_path):
    path = tmp_path / "abc.txt"
    path.write_text("abc")
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2
    assert Input.from_file("cif", path) == Input(role="cif", path=str(path), digest=known)
    with pytest.raises(UserError, match="No such file"):
        Input.from_file("cif", tmp_path / "absent")


def manifest(**changes):
    now = datetime(2026, 1, 1, tzinfo=UTC)
    fields = {
        **dict(recipe()),
        "version": 3,
        "key": "c" * 64,
        "code": CodeVersion(version="0", digest="0" * 64),
        "packages": {},
        "python": "3.11",
        "created": now,
        "finished": now,
        "seconds": 0.0,
        "files": {},
        "tree_digest": tree_digest({}),
    }
    return Manifest(**{**fields, **changes})


def test_any_flipped_bit_of_a_manifest_is_seen(tmp_path):
    path = tmp_path / "manifest.yaml"
    write_manifest(path, manifest())
    content = bytearray(path.read_bytes())
    for place in range(len(content)):
        content[place] ^= 1 << place % 8
        path.write_bytes(content)
        with pytest.raises(UserError):
            read_manifest(path)
        content[place] ^= 1 << place % 8
    path.write_bytes(content)
    assert read_manifest(path) == manifest()


@pytest.mark.parametrize("keep", [0, 1, 100, -1])
def test_a_cut_manifest_is_one_clear_line(tmp_path, keep):
    path = tmp_path / "manifest.yaml"
    write_manifest(path, manifest())
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match="manifest that is not as it was written") as error:
        read_manifest(path)
    assert "\n" not in str(error.value)


def test_absent_manifest(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        read_manifest(tmp_path / "manifest.yaml")


class Forged:
    """Whatever someone may write into the file and seal."""

    def __init__(self, body):
        self.body = body

    def to_yaml(self):
        return self.body


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("format: 2\nwhatever: is in there\n", "format 2, expected at most 1; .* newer Ewaldflow"),
        ("format: 1\nunknown: 1\n", "no valid manifest"),
        ("[]\n", "no valid manifest"),
        ("format: [\n", "no valid manifest"),
        ("format: !!python/object/apply:os.getcwd []\n", "no valid manifest"),
    ],
)
def test_sealed_but_wrong(tmp_path, body, message):
    path = tmp_path / "manifest.yaml"
    write_manifest(path, Forged(body))
    with pytest.raises(UserError, match=message) as error:
        read_manifest(path)
    assert "\n" not in str(error.value)
