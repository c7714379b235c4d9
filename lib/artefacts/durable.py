"""Files that survive their writer: digests, fsync, locks, and what to say when a disk refuses."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import UserError

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NO_WRITING = {errno.EROFS, errno.EACCES, errno.EPERM}


def sha256_file(path: Path) -> str:
    """SHA-256 of the bytes of a file, as 64 hexadecimal digits. OSError if it cannot be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tree_sizes(folder: Path, *, leave: str = "") -> dict[str, int]:
    """Size in bytes of every file below `folder`, by relative path with "/", sorted.

    The file `leave` is left out. What is neither file nor folder (a link, a pipe) counts as a
    file of size -1, which no record can have.
    """
    sizes = {}
    for parent, folders, files in os.walk(folder):
        for name in [*files, *(name for name in folders if os.path.islink(f"{parent}/{name}"))]:
            path = os.path.join(parent, name)
            state = os.lstat(path)
            relative = Path(path).relative_to(folder).as_posix()
            sizes[relative] = state.st_size if stat.S_ISREG(state.st_mode) else -1
    sizes.pop(leave, None)
    return dict(sorted(sizes.items()))


def fsync(path: Path) -> None:
    """Have the disk hold a file's bytes, or a folder's entries."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def settle(path: Path) -> str:
    """Have the disk hold a file; returns its SHA-256. OSError if the disk refuses."""
    digest = sha256_file(path)
    fsync(path)
    return digest


def fsync_folders(folder: Path) -> None:
    """Have the disk hold the entries of a folder and of those in it, inside out."""
    for parent, _, _ in os.walk(folder, topdown=False):
        fsync(Path(parent))


def make_folder(folder: Path, root: Path) -> None:
    """Create `folder` and its parents below `root`, each held by the disk."""
    if not folder.is_dir():
        make_folder(folder.parent, root)
        folder.mkdir(exist_ok=True)
        fsync(folder.parent)


def take_lock(path: Path) -> int:
    """Wait for the lock `path`; it is held until the returned handle is closed.

    The kernel closes it when the process ends, however it ends.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
    except BaseException:
        os.close(handle)
        raise
    return handle


def is_held(path: Path) -> bool:
    """Whether a living process holds the lock `path`. OSError if there is no such file."""
    handle = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock `path` alone."""
    handle = take_lock(path)
    try:
        yield
    finally:
        os.close(handle)


def remove_staged(folder: Path) -> None:
    """Delete a draft's folder, its lock last: until then nobody takes it for abandoned."""
    while folder.exists():
        with suppress(FileNotFoundError):  # another `gc` may be deleting the same
            for entry in folder.iterdir():
                if entry.is_dir():
                    shutil.rmtree(entry)
                elif entry.name != "lock":
                    entry.unlink()
            (folder / "lock").unlink(missing_ok=True)
            folder.rmdir()


@contextmanager
def explained(root: Path) -> Iterator[None]:
    """Turn what a disk below `root` refuses into one line for the user.

    Raises
    ------
    UserError : no room (ENOSPC, EDQUOT, EFBIG), no permission (EROFS, EACCES, EPERM) or a
        failing disk (EIO), unless the error names a file somewhere else.
    """
    try:
        yield
    except OSError as error:
        # a failed write() names no file; a failed open() does
        name = error.filename
        path = Path(name) if isinstance(name, str | os.PathLike) else root
        if not (path.is_relative_to(root) or root.is_relative_to(path)):
            raise
        reason = str(error.strerror).lower()
        if error.errno in _NO_ROOM:
            expected = "room for the new artefact"
            do = "free some space or choose another store, then run again"
        elif error.errno in _NO_WRITING:
            expected = "a store that this user may write to"
            do = "mount it writable, mend its permissions or choose another store"
        elif error.errno == errno.EIO:
            expected, do = "a working disk", "check the disk, then run again"
        else:
            raise
        raise UserError(root, reason, expected, do) from error
