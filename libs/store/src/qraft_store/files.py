"""Files that are there whole or not at all, and the lock by which one process writes a folder."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from qraft_contracts.outcomes import Transient


def write_whole(path: Path, write: Callable[[BinaryIO], object]) -> int:
    """
    Put a file in place, whole or not at all, on disk when this returns. Returns its size.

    Raises:
        Transient: if it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        make_folder(path.parent)
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
            size = file.tell()
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise Transient("lake_write_failed", f"could not write {path}: {error}; is the disk full?") from error
    return size


def copy_whole(source: Path, target: Path) -> int:
    """
    Copy a file, whole or not at all, compared and on disk when this returns. Returns its size.

    Raises:
        Transient: if it cannot be written, or reads back as other bytes.
    """
    temporary = target.with_name(f".{target.name}.tmp")
    try:
        make_folder(target.parent)
        shutil.copyfile(source, temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        if sha256_of(temporary) != sha256_of(source):
            raise Transient("cold_tier_damaged", f"expected the bytes of {source} in {temporary}, read others")
        temporary.replace(target)
        sync_folder(target.parent)
        sync_folder(target.parent.parent)  # a run that was killed may have made the folder
        return source.stat().st_size
    except OSError as error:
        raise Transient(
            "lake_write_failed", f"could not move {source} to {target}: {error}; is the disk full?"
        ) from error


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def make_folder(folder: Path) -> None:
    """Make a folder and what is missing above it; the entries of all of them are on disk when this returns."""
    made: list[Path] = []
    above = folder
    while not above.exists():  # ends at the root
        made.append(above)
        above = above.parent
    folder.mkdir(parents=True, exist_ok=True)
    for it in reversed(made):
        sync_folder(it.parent)


def sync_folder(folder: Path) -> None:
    """Put a folder's entries on disk."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def lock_writer(path: Path) -> int:
    """
    Return the handle of a lock file that this process now holds until it closes it or ends.

    Raises:
        Transient: if another process holds it.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        raise Transient(
            "lake_locked", f"another process writes {path.parent}; stop it (`qraft down`) or use another QRAFT_HOME"
        ) from error
    return handle
