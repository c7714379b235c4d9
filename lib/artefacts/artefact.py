"""One version of an artefact, as it stands on the disk."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UserError
from .durable import tree_sizes
from .manifest import MANIFEST, FileRecord, Manifest, read_manifest

if TYPE_CHECKING:
    import zarr

DATA = "data.zarr"
FILES = "files"
REPAIR = "restore it from a copy, or delete the folder of this version and run its stage again"


@dataclass(frozen=True)
class Artefact:
    """One version, whole: its folder and its manifest."""

    path: Path
    manifest: Manifest = field(repr=False)

    @property
    def ref(self) -> str:
        """Such as "reduction/garnet@v0003"."""
        return self.manifest.ref

    @property
    def digest(self) -> str:
        """Of all its files; what enters the key of an artefact made from this one."""
        return self.manifest.tree_digest

    @property
    def arrays(self) -> zarr.Group:
        """The arrays, read-only (as a group that can be sent to other processes).

        Reading raises UserError where a file is missing or is not as the manifest has it;
        zarr by itself takes a missing chunk for zeros.
        """
        from .checked_files import open_checked  # zarr takes long to import; listing needs none

        start = f"{DATA}/"
        files = self.manifest.files.items()
        records = {name.removeprefix(start): r for name, r in files if name.startswith(start)}
        return open_checked(self.path / DATA, records)

    @property
    def files(self) -> Path:
        """The folder of everything that is not an array (absent if there is nothing)."""
        return self.path / FILES


def open_artefact(path: Path, ref: str) -> Artefact:
    """The artefact in the folder `path`, which should be `ref`.

    Files are compared with the manifest by presence and size, which costs microseconds each;
    their bytes are digested as arrays are read, or all at once by `verify`.

    Raises
    ------
    UserError : the manifest is missing, changed or another version's; a file is missing or
        has another size.
    """
    manifest = read_manifest(path / MANIFEST)
    if manifest.ref != ref:
        raise UserError(path, f"the manifest of {manifest.ref}", f"that of {ref}", REPAIR)
    sizes = tree_sizes(path)
    for name, record in manifest.files.items():
        found = sizes.get(name)
        if found != record.size:
            raise damaged(path / name, found, record)
    return Artefact(path, manifest)


def damaged(path: Path, size: int | None, record: FileRecord) -> UserError:
    """The error for a file that is not as its record has it (`size` None: missing)."""
    if size is None:
        found = "no such file"
    elif size < 0:
        found = "something that is no file"
    elif size != record.size:
        found = f"{size} bytes"
    else:
        found = "other bytes than were written"
    return UserError(path, found, f"{record.size} bytes of SHA-256 {record.sha256[:12]}", REPAIR)
