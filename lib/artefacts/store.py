"""The versioned artefact store.

On disk::

    ROOT/.ewaldflow-store                 marks the folder as a store; also its one lock
    ROOT/.staging/ID/                     an artefact being written; `lock` held by its writer
    ROOT/KIND/NAME/v0001/manifest.yaml    what it is and came from, the digest of every file
                         data.zarr/       arrays
                         files/           anything else: reports, logs, reflection files

A version appears by one rename after all of it is on the disk, so it is there whole or not at
all, whatever ends its writer. "Latest" is derived from the versions that exist, never kept.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

from ..errors import UserError
from .artefact import Artefact, open_artefact
from .code_version import CodeVersion, code_version
from .draft import Draft
from .durable import explained, fsync
from .manifest import Manifest, Recipe
from .upkeep import Problem, Removal, ancestors, collect_garbage, lineage, verify

_REF = re.compile(r"(?P<kind>[^/@]+)/(?P<name>[^/@]+)(@v(?P<version>\d{4,}))?")
_VERSION = re.compile(r"v(\d{4,})")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ArtefactStore:
    """Immutable, versioned artefacts below a folder.

    Attributes
    ----------
    root : the folder; the first draft makes it.
    code : the code whose keys count; that of this process unless given.
    """

    root: Path
    code: CodeVersion | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", Path(self.root).absolute())

    @property
    def running_code(self) -> CodeVersion:
        """`code`, or the version of the code of this process."""
        return self.code or code_version()

    @property
    def lock(self) -> Path:
        """The file that marks a store, and is locked while its set of versions changes."""
        return self.root / ".ewaldflow-store"

    @property
    def staging(self) -> Path:
        """Where artefacts are written; below the root, so that a rename can publish them."""
        return self.root / ".staging"

    def create(self) -> None:
        """Make the folder a store, if it is none yet.

        Raises
        ------
        UserError : it holds other things, is a file, or cannot be written.
        """
        try:
            with explained(self.root):
                self.root.mkdir(parents=True, exist_ok=True)
                # looked for twice: another process may make the store between the two
                if not self.lock.exists() and os.listdir(self.root) and not self.lock.exists():
                    raise self._no_store("a folder with other things in it")
                self.lock.touch()
                self.staging.mkdir(exist_ok=True)
                fsync(self.root)
        except (FileExistsError, NotADirectoryError) as error:
            raise self._no_store("a file") from error

    def draft(self, recipe: Recipe, *, flow_run_id: str | None = None) -> Draft:
        """A context in which to write an artefact; leaving it unpublished discards all.

        ::

            with store.draft(recipe) as draft:
                write_series(draft.arrays, series)
                draft.figures_of_merit["frames"] = len(series)
                artefact = draft.publish()

        Raises
        ------
        UserError : the folder is no store, is full or read-only, or lacks an input.
        """
        return Draft(self, recipe, flow_run_id)

    def key(self, recipe: Recipe) -> str:
        """The key of what `recipe` makes with the running code."""
        return recipe.key_with(self.running_code.digest)

    def find(self, recipe: Recipe) -> Artefact | None:
        """The newest sound artefact of this key, or None if it must be made.

        A damaged one is passed over with a warning in the log, so that its stage runs again.
        """
        key = self.key(recipe)
        for version in reversed(self.versions(recipe.kind, recipe.name)):
            artefact = self._sound(f"{recipe.kind}/{recipe.name}@v{version:04d}")
            if artefact and artefact.manifest.key == key:
                return artefact
        return None

    def get(self, ref: str) -> Artefact:
        """The artefact "kind/name@v0001", or the latest version of "kind/name".

        Raises
        ------
        UserError : no store, no such artefact, or it is damaged (see `open_artefact`).
        """
        full = self.match(ref)[-1]
        return open_artefact(self.folder(full), full)

    def list(self, kind: str | None = None) -> Sequence[Artefact]:
        """All sound artefacts (of a kind), sorted; damaged ones are warned of in the log."""
        found = (self._sound(ref) for ref in self.refs(kind))
        return [artefact for artefact in found if artefact]

    def verify(self, ref: str | None = None) -> Iterator[Problem]:
        """Digest every file again and name what is not as it was written.

        `ref` names one version, or all of "kind/name"; None means the whole store.
        """
        return verify(self, self.refs() if ref is None else self.match(ref))

    def gc(self, *, dry_run: bool = True, keep: int = 1) -> Sequence[Removal]:
        """Remove what dead writers left and old versions nobody needs; see `collect_garbage`."""
        return collect_garbage(self, dry_run=dry_run, keep=keep)

    def lineage(self, ref: str) -> Iterator[tuple[int, str]]:
        """What `ref` was made from, back to the raw files: (depth from 1, reference or path)."""
        return lineage(self, self.get(ref))

    def ancestors(self, *refs: str) -> Sequence[Manifest]:
        """Manifests of the versions `refs` and of all they were made from, raw side first."""
        return ancestors(self, refs)

    def folder(self, ref: str) -> Path:
        """Where the version "kind/name@v0001" lies, whether or not it exists."""
        return self.root / ref.replace("@", "/")

    def versions(self, kind: str, name: str) -> Sequence[int]:
        """The versions there are, sound or not, increasing."""
        matches = (_VERSION.fullmatch(entry) for entry in _entries(self.root / kind / name))
        return sorted(int(match[1]) for match in matches if match)

    def refs(self, kind: str | None = None) -> Sequence[str]:
        """Every version there is (of a kind), sound or not. UserError if this is no store."""
        if not self.lock.exists():
            raise self._no_store("no store" if self.root.is_dir() else "no such folder")
        return [
            f"{one}/{name}@v{version:04d}"
            for one in ([kind] if kind else _entries(self.root))
            for name in _entries(self.root / one)
            for version in self.versions(one, name)
        ]

    def match(self, ref: str) -> Sequence[str]:
        """The versions "kind/name" or "kind/name@v0001" stands for, at least one."""
        parts = _REF.fullmatch(ref)
        if parts is None:
            raise UserError(ref, "no reference", "KIND/NAME or KIND/NAME@v0001", "write it so")
        every = self.refs()
        found = [one for one in every if ref in (one, one.rpartition("@")[0])]
        if not found:
            names = dict.fromkeys(part for one in every for part in (one.rpartition("@")[0], one))
            near = ", ".join(get_close_matches(ref, names, 3, 0.5)) or "one that exists"
            do = "`ewaldflow artefacts ls` lists them all"
            raise UserError(ref, f"no such artefact in {self.root}", near, do)
        return found

    def _sound(self, ref: str) -> Artefact | None:
        try:
            return open_artefact(self.folder(ref), ref)
        except UserError as error:
            _log.warning("%s is left out: %s", ref, error)
            return None

    def _no_store(self, found: str) -> UserError:
        do = "give the folder of a store, or a new one for a flow to write to"
        return UserError(self.root, found, "a store of artefacts", do)


def _entries(folder: Path) -> list[str]:
    # sorted names of subfolders, but for the store's own (hidden) ones
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))
