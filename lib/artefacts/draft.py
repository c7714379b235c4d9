"""Writing an artefact so that it appears whole or not at all."""

from __future__ import annotations

import json
import logging
import os
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from .artefact import DATA, FILES, Artefact
from .code_version import environment
from .durable import (
    explained,
    fsync,
    fsync_folders,
    locked,
    make_folder,
    remove_staged,
    settle,
    take_lock,
    tree_sizes,
)
from .in_threads import in_threads
from .manifest import MANIFEST, FileRecord, Manifest, Recipe, tree_digest, write_manifest

if TYPE_CHECKING:
    import zarr

    from .draft_files import DraftFiles
    from .store import ArtefactStore

_log = logging.getLogger(__name__)


class Draft:
    """An artefact being written, in a staging folder of its own; see `ArtefactStore.draft`.

    Attributes
    ----------
    recipe : what determines it.
    figures_of_merit : plain data by name, for the manifest.
    notes : sentences for the manifest.
    """

    def __init__(self, store: ArtefactStore, recipe: Recipe, flow_run_id: str | None) -> None:
        self.recipe = recipe
        self.figures_of_merit: dict[str, Any] = {}
        self.notes: list[str] = []
        self._store = store
        self._flow_run_id = flow_run_id
        self._staging = store.staging / uuid.uuid4().hex
        self._tree = self._staging / "tree"
        self._stored: DraftFiles | None = None
        self._arrays: zarr.Group | None = None
        self._published: Artefact | None = None

    def __enter__(self) -> Self:
        store = self._store
        store.create()
        with explained(store.root), locked(store.lock):
            # `gc` takes the same lock: it cannot come between the look and the word of it
            refs = [item.artefact for item in self.recipe.inputs if item.artefact]
            for ref in refs:
                store.get(ref)
            self._tree.mkdir(parents=True)
            # Held until the end, so that `gc` knows this writer to live, and what it reads.
            self._handle = take_lock(self._staging / "lock")
            try:
                os.write(self._handle, json.dumps(refs).encode())
            except BaseException:
                self._discard()
                raise
        self._created, self._started = datetime.now(UTC), time.perf_counter()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._discard()
        if isinstance(error, OSError):
            with explained(self._store.root):
                raise error

    def _discard(self) -> None:
        if self._stored:
            self._stored.close()
        try:
            remove_staged(self._staging)
        except OSError as error:  # `gc` will; what went wrong before matters more
            _log.warning("%s is left for gc: %s", self._staging, error)
        finally:
            os.close(self._handle)

    @property
    def arrays(self) -> zarr.Group:
        """The root group of the arrays; `artefacts.arrays` and `artefacts.records` fill it."""
        if self._arrays is None:
            import zarr

            from .draft_files import DraftFiles

            self._stored = DraftFiles(self._tree / DATA)
            self._arrays = zarr.open_group(self._stored, mode="w", zarr_format=3)
        return self._arrays

    @property
    def files(self) -> Path:
        """A folder for everything that is not an array."""
        folder = self._tree / FILES
        folder.mkdir(exist_ok=True)
        return folder

    def publish(self) -> Artefact:
        """Make what was written the next version, and return it.

        If the same key was published meanwhile, that artefact is returned and this one
        forgotten.

        Raises
        ------
        UserError : the disk is full or cannot be written.
        ValueError : an array was created but not filled; published already.
        """
        if self._published:
            raise ValueError(f"{self._published.ref} is published already")
        if self._arrays is not None:
            from .arrays import check_complete

            check_complete(self._arrays)
        store, tree = self._store, self._tree

        def finish(name: str) -> str:
            path = tree / name
            inside = name.removeprefix(f"{DATA}/")
            digest = self._stored.digest(inside) if self._stored and inside != name else None
            path.chmod(0o444)
            return digest or settle(path)

        with explained(store.root):
            sizes = tree_sizes(tree)
            digests = in_threads(finish, sizes)
            files = {
                name: FileRecord(sha256=digest, size=size)
                for (name, size), digest in zip(sizes.items(), digests, strict=True)
            }
            fsync_folders(tree)
            with locked(store.lock):
                self._published = store.find(self.recipe) or self._appear(files)
        return self._published

    def _appear(self, files: dict[str, FileRecord]) -> Artefact:
        store, recipe, path = self._store, self.recipe, self._tree / MANIFEST
        python, packages = environment()
        manifest = Manifest(
            **dict(recipe),
            version=max(store.versions(recipe.kind, recipe.name), default=0) + 1,
            key=store.key(recipe),
            code=store.running_code,
            packages=packages,
            python=python,
            flow_run_id=self._flow_run_id,
            created=self._created,
            finished=datetime.now(UTC),
            seconds=round(time.perf_counter() - self._started, 3),
            figures_of_merit=self.figures_of_merit,
            notes=tuple(self.notes),
            files=files,
            tree_digest=tree_digest(files),
        )
        write_manifest(path, manifest)
        path.chmod(0o444)
        fsync(path)
        fsync(path.parent)
        target = store.folder(manifest.ref)
        make_folder(target.parent, store.root)
        self._tree.rename(target)
        fsync(target.parent)
        return Artefact(target, manifest)
