"""
One partition of bars on disk: `bars.parquet` once it is closed, `tail.arrows` while it grows.

The tail is an Arrow IPC stream: the schema message, then one record batch message an append, so a kill in the middle
of a write leaves a torn message at the end and nothing else; readers ignore it, the writer cuts it off when it opens.
A partition may hold both files for a moment (killed while compacting): the rows are equal and count once.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from qraft_contracts.outcomes import Malformed, Transient
from qraft_store.bars.content import rows_sha256, sort_rows
from qraft_store.bars.rows import ROW_SCHEMA, micros
from qraft_store.files import write_whole

PARQUET: Final = "bars.parquet"
TAIL: Final = "tail.arrows"
# A row group of 500 symbols holds 262 bars: small enough to pass over by its times, large enough for the codecs.
ROW_GROUP_ROWS: Final = 131_072
# What pyarrow raises for bytes that are no bars, by where they are wrong.
_DAMAGES: Final = (pa.ArrowException, OSError, ValueError)
_SHA256: Final = b"qraft.rows_sha256"
# Columns of few values. The stubs know only True and False here.
_DICTIONARY: Final[Any] = ["symbol", "origin", "revision"]


def read_parquet(
    path: Path, columns: Sequence[str] = ROW_SCHEMA.names, *, span_us: tuple[int, int] | None = None
) -> pa.Table | None:
    """
    Return a closed partition's rows, or None when there is no file.

    columns: of ROW_SCHEMA, in that order; the others are not decoded. span_us: row groups without a closed_at from the
    first to the second instant are not decoded either; None = all rows.

    Raises:
        Malformed: if the file is damaged.
    """
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            wanted = pa.schema([ROW_SCHEMA.field(name) for name in columns])
            groups = _groups_within(file.metadata, span_us)
            return file.read_row_groups(groups, columns=wanted.names, use_threads=False).cast(wanted)
    except FileNotFoundError:
        return None
    except _DAMAGES as error:
        raise damaged(path, error) from error


def _groups_within(metadata: pq.FileMetaData, span_us: tuple[int, int] | None) -> list[int]:
    """Return the row groups that may hold a row of the span."""
    groups = list(range(metadata.num_row_groups))
    if span_us is None or len(groups) == 1:
        return groups
    at = ROW_SCHEMA.get_field_index("closed_at")
    return [group for group in groups if _may_hold(metadata.row_group(group).column(at).statistics, *span_us)]


def _may_hold(found: pq.Statistics | None, low_us: int, high_us: int) -> bool:
    if found is None or found.min is None or found.max is None:
        return True
    return micros(found.min) <= high_us and micros(found.max) >= low_us


def read_sha256(path: Path) -> str:
    """
    Return the SHA-256 of a closed partition's rows, from its footer where the writer left it there.

    Raises:
        Malformed: if the file is damaged.
        FileNotFoundError: if there is none.
    """
    try:
        found = (pq.read_metadata(path).metadata or {}).get(_SHA256)
        if found is not None:
            return str(found.decode())
    except FileNotFoundError:
        raise
    except _DAMAGES as error:
        raise damaged(path, error) from error
    rows = read_parquet(path)  # written before content had a name
    if rows is None:
        raise FileNotFoundError(path)
    return rows_sha256(sort_rows(rows))


def release_decoded() -> None:
    """Give back what Arrow keeps for a next read, which may come hours later: 75 MB after a week of 500 symbols."""
    pa.default_memory_pool().release_unused()


def damaged(path: Path, error: Exception | str) -> Malformed:
    """Return the error of a file that does not hold what it should."""
    return Malformed("damaged_lake_file", f"expected bars in {path}: {error}; move it away and load again")


def read_tail(folder: Path) -> pa.Table | None:
    """
    Return the rows of the whole messages of a partition's tail, or None when there is no tail.

    Raises:
        Malformed: if a whole message holds no bars.
    """
    path = folder / TAIL
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    whole = whole_bytes(data)
    if whole == 0:
        return ROW_SCHEMA.empty_table()
    try:
        with pa.ipc.open_stream(pa.py_buffer(data)[:whole]) as reader:
            return reader.read_all().cast(ROW_SCHEMA)
    except _DAMAGES as error:
        raise damaged(path, error) from error


def whole_bytes(data: bytes) -> int:
    """Return how many leading bytes are whole Arrow messages; what follows is torn."""
    source = pa.BufferReader(data)
    end = 0
    # pyarrow says "torn" in four ways, by where the cut is.
    with suppress(pa.ArrowInvalid, pa.ArrowIOError, EOFError, OSError):
        while end < len(data):
            pa.ipc.read_message(source)
            end = source.tell()
    return end


def write_parquet(folder: Path, rows: pa.Table) -> tuple[pa.Table, str]:
    """
    Replace a partition by one Parquet file sorted by closed_at, symbol and revision; return its rows and their SHA-256.

    rows: each once, in any order.

    Atomic, and on disk when this returns. A tail beside it is left where it is.

    Raises:
        Transient: if the disk is full.
    """
    ordered = sort_rows(rows)
    sha256 = rows_sha256(ordered)
    named = ordered.replace_schema_metadata({_SHA256: sha256.encode()})
    write_whole(
        folder / PARQUET,
        lambda file: pq.write_table(
            named,
            file,
            compression="zstd",
            use_dictionary=_DICTIONARY,
            row_group_size=ROW_GROUP_ROWS,
            write_page_checksum=True,
        ),
    )
    return ordered, sha256


class TailFile:
    """The growing file of the current partition, open for appending. A torn end is cut off when it opens."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._handle = os.open(folder / TAIL, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        self._size = whole_bytes((folder / TAIL).read_bytes())
        os.ftruncate(self._handle, self._size)
        if self._size == 0:
            self._write(ROW_SCHEMA.serialize().to_pybytes())

    def append(self, rows: pa.RecordBatch) -> None:
        """
        Add the rows as one message.

        Not synced to disk one by one: a kill loses nothing, and what a power cut takes is read from the source again.

        Raises:
            Transient: if the disk is full; the file is as it was before.
        """
        self._write(rows.serialize().to_pybytes())

    def _write(self, message: bytes) -> None:
        try:
            n_written = os.write(self._handle, message)
        except OSError as error:
            os.ftruncate(self._handle, self._size)
            raise Transient("lake_write_failed", f"could not append to {self.folder}: {error}") from error
        if n_written < len(message):
            os.ftruncate(self._handle, self._size)
            raise Transient("lake_write_failed", f"could not append to {self.folder}: the disk is full")
        self._size += n_written

    def close(self) -> None:
        """Close the file; it stays as it is."""
        os.close(self._handle)
