"""The manifest of an artefact: what it is, what it was made from, by which code, and its files."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime
from enum import Enum
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
    model_validator,
)

from ..errors import UserError
from .code_version import CodeVersion
from .durable import sha256_file

if TYPE_CHECKING:
    from .artefact import Artefact

MANIFEST = "manifest.yaml"
FORMAT = 1  # of the manifest itself; `schema_version` is that of the arrays of a kind
_SEAL = b"manifest_sha256: "

# The C ones are as safe and ten times as fast, but optional parts of PyYAML.
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_Dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def plain(value: object) -> Any:
    """`value` in nothing but None, bool, int, float, str, list and dict with string keys.

    Takes what configurations are made of: pydantic models, dataclasses, mappings, sequences,
    enums, paths, numpy scalars and arrays.

    Raises
    ------
    TypeError : something else is in there, or a key is not a string.
    ValueError : a string that is not Unicode text.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Enum):
        return plain(value.value)
    if isinstance(value, str):
        value.encode()  # a lone surrogate (an undecodable file name) cannot be written
        return str(value)
    if isinstance(value, int | float):
        return int(value) if isinstance(value, int) else float(value)
    if isinstance(value, PurePath):
        return plain(str(value))
    if isinstance(value, BaseModel):
        return plain(dict(value))
    if is_dataclass(value) and not isinstance(value, type):
        return {one.name: plain(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, Mapping):
        if bad := [key for key in value if not isinstance(key, str)]:
            raise TypeError(f"expected string keys, found {bad[0]!r}")
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):  # numpy, which this light module does not import
        return plain(value.tolist())
    raise TypeError(f"expected plain data, found {type(value).__name__}: {value!r}")


def digest_of(value: object) -> str:
    """SHA-256 of `value` as canonical JSON: keys sorted, no spaces, ASCII, floats by repr."""
    text = json.dumps(plain(value), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


def _label(text: str) -> str:
    # part of a path and of a reference: no separators, no leading dot
    if not re.fullmatch(r"\w[\w.+-]{0,99}", text):
        expected = "1 to 100 letters, digits, or _ . + - (the first a letter, digit or _)"
        raise UserError("name of an artefact", repr(text), expected, "choose such a name")
    return text


Label = Annotated[str, AfterValidator(_label)]
Plain = Annotated[dict[str, JsonValue], BeforeValidator(plain)]


class Model(BaseModel):
    """What every part of a manifest shares."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")


class Input(Model):
    """Something an artefact was made from: another artefact, or a file from outside.

    Attributes
    ----------
    role : what it was used as, e.g. "series".
    digest : tree digest of the artefact, or SHA-256 of the bytes of the file.
    artefact : reference such as "series/garnet@v0001"; None for a file.
    path : where the file was; None for an artefact. Not part of the key.
    """

    role: str
    digest: Sha256
    artefact: str | None = None
    path: str | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Input:
        if (self.artefact is None) == (self.path is None):
            raise ValueError("an input has either an artefact or a path")
        return self

    @classmethod
    def from_artefact(cls, role: str, artefact: Artefact) -> Input:
        """An artefact of the same store."""
        return cls(role=role, digest=artefact.digest, artefact=artefact.ref)

    @classmethod
    def from_file(cls, role: str, path: Path) -> Input:
        """A file, digested now. UserError if it cannot be read."""
        try:
            return cls(role=role, digest=sha256_file(path), path=str(path))
        except OSError as error:
            raise UserError(path, str(error.strerror), "a readable file", "check it") from error


class Recipe(Model):
    """All that determines an artefact, but for the code.

    Attributes
    ----------
    kind, name : which sort of artefact, of what; letters, digits and ``_ . + -`` only.
    schema_version : layout of the arrays of this kind.
    inputs : in the order that matters to the stage (sort them if none does).
    configuration : full and validated; a pydantic model or mapping, kept as plain data.
    seeds : of the stochastic steps, by name.
    """

    kind: Label
    name: Label
    schema_version: int = Field(default=1, ge=1)
    inputs: tuple[Input, ...] = ()
    configuration: Plain = {}
    seeds: dict[str, int] = {}

    def key_with(self, code_digest: str) -> str:
        """SHA-256 that is equal exactly when the artefact need not be made again."""
        return digest_of(
            {
                "kind": self.kind,
                "schema_version": self.schema_version,
                "inputs": [[item.role, item.digest] for item in self.inputs],
                "configuration": self.configuration,
                "seeds": self.seeds,
                "code": code_digest,
            }
        )


class FileRecord(Model):
    """One file of an artefact: SHA-256 of its bytes and their number."""

    sha256: Sha256
    size: int = Field(ge=0)


class Manifest(Recipe):
    """A recipe carried out: see `Recipe` for what determined the result.

    Attributes
    ----------
    format : of this file.
    version : 1, 2, ... among the artefacts of this kind and name.
    key : of the recipe with this code.
    code : that made it.
    packages, python : versions.
    flow_run_id : of the flow run that made it, if one did.
    created, finished, seconds : when the work began and ended (UTC), and how long it took.
    figures_of_merit : plain data, by name.
    notes : anything a reader should know, one sentence each.
    files : every file but the manifest, by path relative to it.
    tree_digest : of `files`; the digest of the artefact where it is an input.
    """

    format: Literal[1] = 1
    version: int = Field(ge=1)
    key: Sha256
    code: CodeVersion
    packages: dict[str, str]
    python: str
    flow_run_id: str | None = None
    created: datetime
    finished: datetime
    seconds: float
    figures_of_merit: Plain = {}
    notes: tuple[str, ...] = ()
    files: dict[str, FileRecord]
    tree_digest: Sha256

    @property
    def ref(self) -> str:
        """Such as "reduction/garnet@v0003"."""
        return f"{self.kind}/{self.name}@v{self.version:04d}"

    def to_yaml(self) -> str:
        """What `ewaldflow artefacts show` prints and `manifest.yaml` holds."""
        data = self.model_dump(mode="json")
        # the Python one writes U+0085 so that it reads back as a space, unless it escapes all
        readable = _Dumper is not yaml.SafeDumper
        text: str = yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=readable)
        return text


def tree_digest(files: Mapping[str, FileRecord]) -> str:
    """SHA-256 over the paths, digests and sizes of all files, in any order."""
    return digest_of({name: [record.sha256, record.size] for name, record in files.items()})


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Write `manifest` with its own digest as the last line, so that no edit goes unseen."""
    body = manifest.to_yaml().encode()
    path.write_bytes(body + _SEAL + hashlib.sha256(body).hexdigest().encode() + b"\n")


def read_manifest(path: Path) -> Manifest:
    """The manifest in `path`.

    Raises
    ------
    UserError : missing, unreadable, changed since it was written, or of a newer format.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _corrupt(path, str(error.strerror).lower()) from error
    body, _, seal = content.rpartition(_SEAL)
    if seal != hashlib.sha256(body).hexdigest().encode() + b"\n":
        raise _corrupt(path, "a manifest that is not as it was written")
    try:
        data = yaml.load(body, Loader=_Loader)
        if data["format"] > FORMAT:
            raise UserError(
                path,
                f"manifest format {data['format']}",
                f"at most {FORMAT}",
                "it was written by a newer Ewaldflow: update this one",
            )
        return Manifest.model_validate(data)
    except (yaml.YAMLError, ValidationError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise _corrupt(path, f"no valid manifest ({reason})") from error


def _corrupt(path: Path, found: str) -> UserError:
    return UserError(
        path,
        found,
        "the manifest of an artefact",
        "restore it from a copy, or delete the folder of this version and run its stage again",
    )
