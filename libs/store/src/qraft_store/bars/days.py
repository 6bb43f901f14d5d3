"""
One day of bars on disk: `bars.parquet` once the day is closed, `tail.arrows` while it grows.

The tail is an Arrow IPC stream: the schema message, then one record batch message an append, so a kill in the middle
of a write leaves a torn message at the end and nothing else; readers ignore it, the writer cuts it off when it opens.
A day may hold both files for a moment (killed while compacting): the rows are equal and count once.
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
from qraft_store.bars.rows import ROW_SCHEMA, new_rows

PARQUET: Final = "bars.parquet"
TAIL: Final = "tail.arrows"
# Columns of few values. The stubs know only True and False here.
_DICTIONARY: Final[Any] = ["symbol", "origin", "revision"]


def read_day(folder: Path, columns: Sequence[str] = ROW_SCHEMA.names) -> pa.Table | None:
    """
    Return a day's rows, or None when it holds none. A row may stand twice, equal, while the writer compacts.

    columns: of ROW_SCHEMA, in that order; the others are not decoded.

    Raises:
        Malformed: if the Parquet file is damaged.
    """
    # The tail first: the writer puts the Parquet file in place before it removes the tail, so no row is missed.
    tail = read_tail(folder)
    closed = _read_parquet(folder / PARQUET, columns)
    found = [table.select(columns) for table in (closed, tail) if table is not None and table.num_rows]
    return pa.concat_tables(found) if found else None


def _read_parquet(path: Path, columns: Sequence[str]) -> pa.Table | None:
    try:
        with pq.ParquetFile(path) as file:
            wanted = pa.schema([ROW_SCHEMA.field(name) for name in columns])
            return file.read(columns=wanted.names, use_threads=False).cast(wanted)
    except FileNotFoundError:
        return None
    except (pa.ArrowInvalid, OSError, ValueError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> Malformed:
    return Malformed("damaged_lake_file", f"expected bars in {path}: {error}; move it away and load again")


def read_tail(folder: Path) -> pa.Table | None:
    """
    Return the rows of the whole messages of a day's tail, or None when there is no tail.

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
    except (pa.ArrowInvalid, OSError, ValueError) as error:
        raise _damaged(path, error) from error


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


def write_day(folder: Path, rows: pa.Table) -> None:
    """Replace a day by one Parquet file sorted by closed_at and symbol: atomic, and on disk when this returns."""
    folder.mkdir(parents=True, exist_ok=True)
    unique = new_rows(rows, None)
    ordered = unique.sort_by([("closed_at", "ascending"), ("symbol", "ascending"), ("revision", "ascending")])
    temporary = folder / f".{PARQUET}.tmp"
    try:
        with temporary.open("wb") as file:
            pq.write_table(ordered, file, compression="zstd", use_dictionary=_DICTIONARY)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(folder / PARQUET)
        _sync_folder(folder)
        (folder / TAIL).unlink(missing_ok=True)
    except OSError as error:
        raise Transient("lake_write_failed", f"could not write {folder}: {error}; is the disk full?") from error


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class TailFile:
    """The growing file of the current day, open for appending. A torn end is cut off when it opens."""

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
