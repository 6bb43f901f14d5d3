"""
Make a bundle: part by part into a hidden file beside it, with a journal, and renamed when it is whole.

A part counts when its line stands in the journal and its bytes have the hash that the line says; whatever follows it
is cut off by the next run, which goes on there if the lake and the selection are the same. So the bytes do not depend
on how often it was killed.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from qraft_contracts.outcomes import Malformed, Refused, Transient
from qraft_contracts.times import parse_instant
from qraft_data.bundle.archive import BLOCK, Member, header_of, open_archive, sha256_file, write_end, write_member
from qraft_data.bundle.judged import AuditAsked, audit_of, plan_of, why_not
from qraft_data.bundle.manifest import (
    FORMAT,
    Manifest,
    Part,
    Selection,
    Source,
    bundle_id_of,
    decode_manifest,
    encode_manifest,
    identity_of,
    part_name,
)
from qraft_data.bundle.rows import check_bytes, check_member, check_pages, content_of, encode_rows
from qraft_data.bundle.sources import Stores, parts_of, sources_of, time_column
from qraft_data.times import micros, micros_column
from qraft_store.files import lock_writer, sync_folder

_NAMED_MAX: Final = 5


@dataclass(frozen=True, slots=True)
class Asked:
    """What a bundle is to hold, and the audit that it is to pass. allows_gaps: make it also when it does not."""

    selection: Selection
    audit: AuditAsked
    allows_gaps: bool


@dataclass(frozen=True, slots=True)
class Made:
    """A finished bundle. n_resumed: parts that an earlier run had written."""

    manifest: Manifest
    bundle_id: str
    n_bytes: int
    n_resumed: int


class _Line(msgspec.Struct, frozen=True):
    """A line of the journal: the identity first, then a line a part, with where its member ends in the file."""

    identity: str = ""
    part: Part | None = None
    end: int = 0


OnStep = Callable[[str, int, int], None]


def make_bundle(stores: Stores, asked: Asked, path: Path, *, on_step: OnStep) -> Made:
    """
    Write a bundle at `path` and return what is in it. on_step: called with what is done, and (done, total) of it.

    Raises:
        Refused: if nothing is stored of what was asked for, the audit is not green and gaps are not allowed, or another
            file is in the place.
        Transient: if the lake is written meanwhile, another process makes the same bundle, or the disk is full.
        Malformed: if a file of the lake is damaged.
    """
    if path.exists():
        raise Refused("bundle_exists", f"expected a new file, {path} is there; move it away or name another one")
    sources = sources_of(stores, asked.selection)
    versions = {source.name: stores.version(source) for source in sources}
    plan = plan_of(stores, sources, asked.selection, asked.audit)
    audit = audit_of(stores, plan, dict.fromkeys(sources), on_series=lambda done, total: on_step("audit", done, total))
    reasons = why_not(audit, plan, days=asked.audit.days)
    if reasons and not asked.allows_gaps:
        first = "; ".join(reasons[:_NAMED_MAX])
        raise Refused("audit_not_green", f"expected an audit without a fault: {first} ({len(reasons)} in all); mend "
                      "them, or say --allow-gaps and the bundle says so too")  # fmt: skip
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = _Draft(path, identity_of(asked.selection, versions))
    except OSError as error:
        raise Transient("bundle_write_failed", f"could not write beside {path}: {error}") from error
    try:
        n_resumed = len(draft.parts)
        _collect(stores, sources, asked.selection, draft, on_step=on_step)
        _check_still(stores, sources, versions)
        as_of_us = max(part.known_last_us for part in draft.parts)
        if asked.selection.as_of:
            as_of_us = micros(parse_instant(asked.selection.as_of))
        manifest = Manifest(
            format=FORMAT,
            selection=asked.selection,
            as_of_us=as_of_us,
            is_green=not reasons,
            why_not=reasons,
            plan=plan,
            audit=audit,
            versions=versions,
            n_rows=sum(part.n_rows for part in draft.parts),
            n_bytes=sum(part.n_bytes for part in draft.parts),
            parts=tuple(draft.parts),
        )
        data = encode_manifest(manifest)
        decode_manifest(data)  # nor a manifest: a window beyond its bounds, a number that JSON lacks
        return Made(manifest, bundle_id_of(data), draft.finish(data), n_resumed)
    except OSError as error:
        raise Transient("bundle_write_failed", f"could not write {path}: {error}; is the disk full?") from error
    finally:
        draft.close()


def _collect(
    stores: Stores, sources: tuple[Source, ...], selection: Selection, draft: _Draft, *, on_step: OnStep
) -> None:  # fmt: skip
    for done, source in enumerate(sources):
        if draft.parts and draft.parts[-1].source > source:
            on_step(source.name, done + 1, len(sources))
            continue  # an earlier run wrote all of it
        mine = [part for part in draft.parts if part.source == source]
        after_us = mine[-1].last_us if mine else None
        for n, rows in enumerate(parts_of(stores, source, selection, after_us=after_us), start=len(mine)):
            data, times = encode_rows(rows), micros_column(rows, time_column(source))
            part = Part(
                name=part_name(source, n),
                source=source,
                n_rows=rows.num_rows,
                n_bytes=len(data),
                sha256=hashlib.sha256(data).hexdigest(),
                content=content_of(source, rows),
                first_us=int(times[0]),
                last_us=int(times[-1]),
                known_last_us=int(micros_column(rows, "known_at").max()),
            )
            # What no reader would take is not made.
            check_bytes(part.name, rows)
            check_pages(part, data)
            draft.add(part, data)
        on_step(source.name, done + 1, len(sources))
    if not draft.parts:
        raise Refused("nothing_to_bundle", "expected rows in this range, found none; ask for another one")


def _check_still(stores: Stores, sources: tuple[Source, ...], versions: dict[str, str]) -> None:
    moved = [source.name for source in sources if stores.version(source) != versions[source.name]]
    if moved:
        raise Transient("sources_moving", f"expected {', '.join(moved[:_NAMED_MAX])} to stand still while they were "
                        "read; stop what writes them and run this again")  # fmt: skip


class _Draft:
    """The file that grows, its journal, and the lock by which one process makes it."""

    def __init__(self, path: Path, identity: str) -> None:
        self._path = path
        self._partial = path.with_name(f".{path.name}.partial")
        self._journal = path.with_name(f".{path.name}.journal")
        self._lock = lock_writer(self._partial)
        self._file: BinaryIO = self._partial.open("r+b")
        lines, n_bytes = self._lines(identity)
        self.parts: list[Part] = [line.part for line in lines if line.part is not None]
        self._file.truncate(lines[-1].end if lines else 0)
        self._file.seek(0, os.SEEK_END)
        self._log: BinaryIO = self._journal.open("ab")
        self._log.truncate(n_bytes)
        if not lines:
            self._note(_Line(identity=identity))

    def _lines(self, identity: str) -> tuple[list[_Line], int]:
        """Return the lines of an earlier run that this one goes on with, and how many bytes of the journal they are."""
        try:
            written = self._journal.read_bytes().splitlines(keepends=True)
        except FileNotFoundError:
            return [], 0
        lines: list[_Line] = []
        n_bytes = 0
        for text in written:
            try:
                line = msgspec.json.decode(text, type=_Line) if text.endswith(b"\n") else None
            except (msgspec.MsgspecError, UnicodeDecodeError):
                line = None
            if line is None or not (self._holds(line, at=lines[-1].end) if lines else line.identity == identity):
                break
            lines.append(line)
            n_bytes += len(text)
        return lines, n_bytes

    def _holds(self, line: _Line, *, at: int) -> bool:
        """Return whether the file holds a part whole, behind the one before: a power cut may have taken its bytes."""
        if line.part is None:
            return False
        member = Member(line.part.name, at + BLOCK, line.part.n_bytes)
        self._file.seek(at)
        if self._file.read(BLOCK) != header_of(member.name, member.size) or line.end != member.end:
            return False
        is_there = os.fstat(self._file.fileno()).st_size >= member.end
        return is_there and sha256_file(self._file, member) == line.part.sha256

    def add(self, part: Part, data: bytes) -> None:
        """Write a part; it counts when this returns."""
        write_member(self._file, part.name, data)
        self._file.flush()
        self._note(_Line(part=part, end=self._file.tell()))
        self.parts.append(part)

    def finish(self, manifest: bytes) -> int:
        """Write the end, read everything again, put the file in its place, and return its size."""
        write_end(self._file, manifest)
        self._file.flush()
        os.fsync(self._file.fileno())
        size = self._file.tell()
        archive = open_archive(self._partial)
        archive.close()
        for part, member in zip(self.parts, archive.parts, strict=True):
            check_member(part, member, sha256_file(self._file, member))
        if archive.manifest != manifest:
            raise Malformed("bundle_write_failed", f"expected in {self._partial} what was written; is the disk broken?")
        self._partial.rename(self._path)
        sync_folder(self._path.parent)
        self._journal.unlink()
        return size

    def close(self) -> None:
        """Close the files; what is not finished stays for the next run."""
        self._file.close()
        self._log.close()
        os.close(self._lock)

    def _note(self, line: _Line) -> None:
        self._log.write(msgspec.json.encode(line) + b"\n")
        self._log.flush()
