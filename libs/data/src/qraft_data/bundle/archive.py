"""
The file of a bundle: a plain tar of Parquet parts, then `manifest.json`, then `manifest.sha256`.

There is one way to write it, and the reader takes no other: member headers, paddings and the end are compared with what
the writer would have written, so no byte of the file is without a check. Nothing is ever extracted, so no member's name
reaches a file system; `tar tf` lists it, and `sha256sum -c manifest.sha256` holds of what `tar xf` gives.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from qraft_contracts.outcomes import Malformed
from qraft_data.bundle.manifest import MANIFEST_BYTES_MAX, PART_BYTES_MAX, bundle_id_of, damaged

MANIFEST: Final = "manifest.json"
TRAILER: Final = "manifest.sha256"
BLOCK: Final = tarfile.BLOCKSIZE
_END: Final = bytes(2 * BLOCK)
# A part holds up to a million rows; a file of more members is none of ours.
_MEMBERS_MAX: Final = 1_000_000
_READ_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Member:
    """One member: where its bytes begin in the file, and how many there are."""

    name: str
    offset: int
    size: int

    @property
    def end(self) -> int:
        """Return where the next member's header begins."""
        return self.offset + padded(self.size)


def padded(size: int) -> int:
    """Return a size rounded up to whole blocks."""
    return -(-size // BLOCK) * BLOCK


def header_of(name: str, size: int) -> bytes:
    """
    Return the one header of a member.

    Raises:
        ValueError: if tar's plain form cannot hold the name or the size.
    """
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = size, 0o644, 0
    return info.tobuf(tarfile.USTAR_FORMAT, "ascii", "strict")


def write_member(file: BinaryIO, name: str, data: bytes) -> None:
    """Write one member at the file's position."""
    file.write(header_of(name, len(data)))
    file.write(data)
    file.write(bytes(padded(len(data)) - len(data)))


def write_end(file: BinaryIO, manifest: bytes) -> None:
    """Write the manifest, its hash, and the end of the archive."""
    write_member(file, MANIFEST, manifest)
    write_member(file, TRAILER, trailer_of(manifest))
    file.write(_END)


def trailer_of(manifest: bytes) -> bytes:
    """Return the last member: the manifest's hash as sha256sum writes it."""
    return f"{bundle_id_of(manifest)}  {MANIFEST}\n".encode()


class Archive:
    """An open bundle file. Its members were found in order; their bytes are checked as they are read."""

    def __init__(self, file: BinaryIO, members: tuple[Member, ...], manifest: bytes) -> None:
        self._file = file
        self.parts = members
        self.manifest = manifest

    def read(self, member: Member) -> bytes:
        """
        Return the bytes of a member.

        Raises:
            Malformed: if the padding behind it holds anything.
        """
        return _read(self._file, member)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def open_archive(path: Path) -> Archive:
    """
    Open a bundle whose headers, order, manifest hash and end are right; its parts are not read yet.

    Raises:
        Malformed: if it is no bundle, cut off, or anything but parts, manifest, trailer and end is in it.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise Malformed("no_bundle", f"expected a bundle file: {error}") from error
    is_open = False
    try:
        members = _members(file)
        if len(members) < 2 or [member.name for member in members[-2:]] != [MANIFEST, TRAILER]:
            raise damaged(f"it does not end with {MANIFEST} and {TRAILER}: it was cut off, or is no bundle")
        if members[-2].size > MANIFEST_BYTES_MAX:
            raise damaged(f"its manifest has {members[-2].size} bytes")
        manifest, trailer = (_read(file, member) for member in members[-2:])
        if trailer != trailer_of(manifest):
            raise damaged("its manifest has another hash than the trailer says")
        is_open = True
        *parts, _, _ = members
        return Archive(file, tuple(parts), manifest)
    finally:
        if not is_open:
            file.close()


def _members(file: BinaryIO) -> list[Member]:
    size = os.fstat(file.fileno()).st_size
    members: list[Member] = []
    at = 0
    while len(members) < _MEMBERS_MAX:
        file.seek(at)
        header = file.read(BLOCK)
        if header == bytes(BLOCK):
            if header + file.read(BLOCK + 1) != _END:
                raise damaged("something follows its end, or its end is cut off")
            return members
        member = _member(header, at)
        if member.end > size:
            raise damaged(f"it ends within {member.name}: it was cut off")
        members.append(member)
        at = member.end
    raise damaged(f"it has more than {_MEMBERS_MAX} members")


def _member(header: bytes, at: int) -> Member:
    try:
        info = tarfile.TarInfo.frombuf(header, "ascii", "strict")
        expected = header_of(info.name, info.size)
    except (tarfile.HeaderError, UnicodeError, ValueError) as error:
        raise damaged(f"there is no member at byte {at}: {error}") from error
    if header != expected or info.size > max(PART_BYTES_MAX, MANIFEST_BYTES_MAX):
        raise damaged(f"the header of {info.name!r} at byte {at} is not as it was written")
    return Member(info.name, at + BLOCK, info.size)


def _read(file: BinaryIO, member: Member) -> bytes:
    file.seek(member.offset)
    data = file.read(member.size)
    padding = file.read(padded(member.size) - member.size)
    if len(data) != member.size or padding.strip(b"\0"):
        raise damaged(f"{member.name} is cut off, or something stands behind it")
    return data


def sha256_file(file: BinaryIO, member: Member) -> str:
    """Return the SHA-256 of a member's bytes, a piece at a time."""
    digest = hashlib.sha256()
    file.seek(member.offset)
    left = member.size
    while left:
        piece = file.read(min(left, _READ_BYTES))
        if not piece:
            raise damaged(f"it ends within {member.name}")
        digest.update(piece)
        left -= len(piece)
    return digest.hexdigest()
