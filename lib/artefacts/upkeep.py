"""Looking after a store: what was changed, what nobody needs, where a number came from."""

from __future__ import annotations

import json
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UserError
from .artefact import REPAIR, Artefact, damaged, open_artefact
from .durable import explained, is_held, locked, remove_staged, sha256_file, tree_sizes
from .manifest import MANIFEST, Manifest, read_manifest, tree_digest

if TYPE_CHECKING:
    from .store import ArtefactStore


@dataclass(frozen=True)
class Problem:
    """Something in a store that is not as it was written.

    Attributes
    ----------
    ref : of the artefact.
    path : of the file, relative to the artefact's folder.
    what : "changed", "missing", "added" or "unreadable".
    line : one sentence for the user.
    """

    ref: str
    path: str
    what: str
    line: str

    def __str__(self) -> str:
        return self.line


@dataclass(frozen=True)
class Removal:
    """Something `collect_garbage` removed, or would.

    Attributes
    ----------
    path : the folder.
    size : bytes in it.
    reason : why nobody needs it.
    """

    path: Path
    size: int
    reason: str


def verify(store: ArtefactStore, refs: Iterable[str]) -> Iterator[Problem]:
    """Compare every byte of the artefacts `refs` with their manifests."""
    for ref in refs:
        folder = store.folder(ref)
        try:
            manifest = read_manifest(folder / MANIFEST)
        except UserError as error:
            yield Problem(ref, MANIFEST, "unreadable", str(error))
            continue
        yield from _inconsistent(ref, folder, manifest)
        yield from _changed_files(ref, folder, manifest)
        yield from _lost_inputs(store, ref, folder, manifest)


def _inconsistent(ref: str, folder: Path, manifest: Manifest) -> Iterator[Problem]:
    checks = {
        "a name": (manifest.ref, ref),
        "a tree digest": (manifest.tree_digest, tree_digest(manifest.files)),
        "a key": (manifest.key, manifest.key_with(manifest.code.digest)),
    }
    for what, (found, expected) in checks.items():
        if found != expected:
            error = UserError(folder / MANIFEST, f"{what} {found}", expected, REPAIR)
            yield Problem(ref, MANIFEST, "changed", str(error))


def _changed_files(ref: str, folder: Path, manifest: Manifest) -> Iterator[Problem]:
    sizes = tree_sizes(folder)
    del sizes[MANIFEST]
    for name, record in manifest.files.items():
        path, size = folder / name, sizes.pop(name, None)
        try:
            if size == record.size and sha256_file(path) == record.sha256:
                continue
        except OSError as error:
            line = str(UserError(path, str(error.strerror).lower(), "a readable file", REPAIR))
            yield Problem(ref, name, "unreadable", line)
            continue
        what = "missing" if size is None else "changed"
        yield Problem(ref, name, what, str(damaged(path, size, record)))
    for name in sizes:
        added = UserError(folder / name, "a file", "none of this name", "move it elsewhere")
        yield Problem(ref, name, "added", str(added))


def _lost_inputs(
    store: ArtefactStore, ref: str, folder: Path, manifest: Manifest
) -> Iterator[Problem]:
    for item in manifest.inputs:
        if item.artefact is None:
            continue  # raw files may have been moved since; their digests are on record
        try:
            found = read_manifest(store.folder(item.artefact) / MANIFEST).tree_digest
        except UserError:
            found = "none"
        if found != item.digest:
            where = f"{folder / MANIFEST}: input {item.artefact}"
            line = UserError(where, f"digest {found[:12]}", item.digest[:12], REPAIR)
            yield Problem(ref, MANIFEST, "missing", str(line))


def lineage(store: ArtefactStore, artefact: Artefact) -> Iterator[tuple[int, str]]:
    """(depth, reference or path) of all that `artefact` was made from, each once, depth first.

    Raises
    ------
    UserError : an artefact on the way is missing or damaged.
    """
    seen: set[str] = set()

    def follow(one: Artefact, depth: int) -> Iterator[tuple[int, str]]:
        for item in one.manifest.inputs:
            source = str(item.artefact or item.path)
            if source in seen:
                continue
            seen.add(source)
            yield depth, source
            if item.artefact:
                yield from follow(store.get(item.artefact), depth + 1)

    return follow(artefact, 1)


def ancestors(store: ArtefactStore, refs: Iterable[str]) -> list[Manifest]:
    """Manifests of `refs` and of all that they were made from, each once, raw side first.

    Only manifests are read. Those of artefacts that are gone are left out: what was made from
    them keeps their references and digests.
    """
    found: dict[str, Manifest] = {}

    def follow(ref: str) -> None:
        if ref in found:
            return
        try:
            manifest = read_manifest(store.folder(ref) / MANIFEST)
        except UserError:
            return
        for item in manifest.inputs:
            if item.artefact:
                follow(item.artefact)
        found[ref] = manifest

    for ref in refs:
        follow(ref)
    return list(found.values())


def collect_garbage(store: ArtefactStore, *, dry_run: bool = True, keep: int = 1) -> list[Removal]:
    """Remove what dead writers left, then old versions that nothing kept was made from.

    Kept are the latest `keep` sound versions of every name, every damaged one, all that living
    writers read, and all that any of these was made from, back to the first. A version goes
    as it came, by one rename.

    Raises
    ------
    UserError : a manifest cannot be read, so what its artefact was made from is unknown and no
        version is removed (what dead writers left is); the store cannot be written.
    ValueError : `keep` < 1.
    """
    if keep < 1:
        raise ValueError(f"keep: found {keep}, expected at least 1")
    store.refs()  # says if this is no store
    with explained(store.root):
        # Deleting takes long and is done without the lock, for nobody else wants these.
        with locked(store.lock):
            drafts, _ = _drafts(store)
        if not dry_run:
            for removal in drafts:
                remove_staged(removal.path)
        with locked(store.lock):
            _, reading = _drafts(store)
            versions = _unneeded(store, keep, reading)
            withdrawn = _withdraw(store, versions) if versions and not dry_run else None
        if withdrawn:
            remove_staged(withdrawn)
    return drafts + versions


def _drafts(store: ArtefactStore) -> tuple[list[Removal], set[str]]:
    # The drafts of dead writers, and what the living ones read.
    dead, reading = [], set()
    for folder in sorted(store.staging.glob("*")):
        lock = folder / "lock"
        try:
            if is_held(lock):
                reading |= set(json.loads(lock.read_text()))
                continue
        except FileNotFoundError:
            pass  # ended before it could lock, or after it had cleaned up
        dead.append(Removal(folder, _size(folder), "its writer ended before publishing it"))
    return dead, reading


def _unneeded(store: ArtefactStore, keep: int, reading: set[str]) -> list[Removal]:
    manifests = {ref: read_manifest(store.folder(ref) / MANIFEST) for ref in store.refs()}
    needed, count = set(reading), Counter[str]()
    for ref in reversed(manifests):
        name = ref.rpartition("@")[0]
        try:
            open_artefact(store.folder(ref), ref)
        except UserError:
            needed.add(ref)  # for a person to look at; it does not count as a good one
            continue
        if count[name] < keep:
            needed.add(ref)
            count[name] += 1
    waiting = list(needed)
    while waiting:
        manifest = manifests.get(waiting.pop())
        sources = {item.artefact for item in manifest.inputs} if manifest else set()
        fresh = {source for source in sources if source} - needed
        needed |= fresh
        waiting += fresh
    old = [manifest for ref, manifest in manifests.items() if ref not in needed]
    # the newest first: ending halfway leaves nothing whose inputs are gone
    old.sort(key=lambda manifest: manifest.finished, reverse=True)
    reason = "newer versions exist and nothing kept was made from it"
    folders = [store.folder(manifest.ref) for manifest in old]
    return [Removal(folder, _size(folder), reason) for folder in folders]


def _withdraw(store: ArtefactStore, versions: list[Removal]) -> Path:
    # Looks like the draft of a dead writer, so the next `gc` goes on if this one is ended.
    folder = store.staging / uuid.uuid4().hex
    folder.mkdir()
    for number, removal in enumerate(versions):
        removal.path.rename(folder / str(number))
    return folder


def _size(folder: Path) -> int:
    return sum(max(size, 0) for size in tree_sizes(folder).values())
