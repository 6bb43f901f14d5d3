"""The hot window: the growing tail of a series as dense cells in memory, so that a read decodes what is new of it."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa

from qraft_store.bars.days import TAIL, damaged, release_decoded
from qraft_store.bars.panel import PanelDraft
from qraft_store.bars.partitions import Partition
from qraft_store.bars.rows import ROW_SCHEMA, Int64Array, closed_micros, encode_texts, is_first_revision, known_micros
from qraft_store.bars.slab import N_FIELDS, FloatArray, empty_cells, fill_cells, word_limit, words_of

# 64 MiB is a day of 1-minute bars of 900 symbols. A larger window stays on disk and is decoded at every read.
HOT_BYTES_MAX: Final = 64 * 1024 * 1024
_GUARD_BYTES: Final = 64
_ROWS_AT_FIRST: Final = 16
_RELEASE_BYTES: Final = 1024 * 1024


class HotTail:
    """
    What this process has read of one partition's tail. It only ever grows.

    A tail grows too, and is cut by its writer behind the last whole message; so what was read stays true for as long
    as the file is the same and holds the bytes that were read last where they were. A file that does not is another
    one and needs another window; this one is then as it was, for the reads that are under way.
    """

    def __init__(self, folder: Path, partition: Partition, step_us: int) -> None:
        self.folder = folder
        self.partition = partition
        self._step_us = step_us
        self.is_too_large = False
        self._lock = threading.Lock()  # services read from several threads
        self._inode, self._n_bytes, self._guard = 0, 0, b""
        self._places: dict[str, int] = {}
        self._first_us = 0
        self._cells = empty_cells(0, 0)  # (n_symbols, N_FIELDS, capacity), a view of one that is laid out bar by bar
        self._n_rows = 0
        self._later: list[pa.Table] = []  # rows above revision 0

    def extent(self) -> tuple[int, int]:
        """Return how much has been read: grid steps with a bar, messages of later revisions."""
        with self._lock:
            return self._n_rows, len(self._later)

    def add_to(self, draft: PanelDraft, extent: tuple[int, int]) -> None:
        """Add what had been read at `extent`: another thread may have read on, and newer bars have other symbols."""
        n_rows, n_later = extent
        with self._lock:
            symbols = [name for name in self._places if name in draft.place]
            if symbols and n_rows:
                cells = self._cells[:, :, :n_rows]
                if len(symbols) < len(self._places):
                    cells = cells[[self._places[name] for name in symbols]]
                draft.add_cells(symbols, cells[None], first_us=self._first_us)
            if draft.revisions == "latest":
                for rows in self._later[:n_later]:
                    draft.add_rows(rows)

    def symbols(self) -> tuple[str, ...]:
        """Return the symbols of the tail in any revision."""
        with self._lock:
            later = [name for rows in self._later for name in encode_texts(rows["symbol"])[0]]
            return tuple({*self._places, *later})

    def bounds(self) -> tuple[int, int] | None:
        """Return the first and the last closed_at of revision 0."""
        with self._lock:
            is_there = (words_of(self._cells[:, :, : self._n_rows]) != 0).any(axis=0)
            if not is_there.any():
                return None
            rows = np.flatnonzero(is_there)
            return self._first_us + int(rows[0]) * self._step_us, self._first_us + int(rows[-1]) * self._step_us

    def newest(self, symbols: frozenset[str] | None, as_of_us: int, *, is_latest: bool) -> int | None:
        """Return the closed_at of the newest bar of these symbols that was known by an instant."""
        with self._lock:
            places = [place for name, place in self._places.items() if symbols is None or name in symbols]
            words = words_of(self._cells[:, :, : self._n_rows])
            found: list[int] = []
            for row in range(self._n_rows - 1, -1, -1):  # nearly always the first one says it
                of_row = words[places, row]
                if ((of_row != 0) & (of_row <= word_limit(as_of_us))).any():
                    found.append(self._first_us + row * self._step_us)
                    break
            if is_latest:
                found += [at for rows in self._later if (at := newest_row(rows, symbols, as_of_us)) is not None]
            return max(found, default=None)

    def refresh(self) -> bool:
        """
        Read what is new; return False where this is no window of the tail that is there.

        Raises:
            Malformed: if a whole message holds no bars.
        """
        with self._lock:
            if self.is_too_large:
                return False
            try:
                handle = os.open(self.folder / TAIL, os.O_RDONLY)
            except FileNotFoundError:
                return False
            try:
                return self._read_on(handle)
            finally:
                os.close(handle)

    def _read_on(self, handle: int) -> bool:
        found = os.fstat(handle)
        if self._n_bytes == 0:
            self._inode = found.st_ino
        elif found.st_ino != self._inode or found.st_size < self._n_bytes or not self._ends_as_before(handle):
            return False
        if found.st_size > self._n_bytes:
            data = os.pread(handle, found.st_size - self._n_bytes, self._n_bytes)
            rows, n_whole = self._decode(data)
            if rows is not None and rows.num_rows and not self._add(rows):
                self.is_too_large = True
                return False
            if len(data) > _RELEASE_BYTES:
                del rows
                release_decoded()
            if n_whole:
                self._guard = (self._guard + data[max(0, n_whole - _GUARD_BYTES) : n_whole])[-_GUARD_BYTES:]
                self._n_bytes += n_whole
        return True

    def _ends_as_before(self, handle: int) -> bool:
        return os.pread(handle, len(self._guard), self._n_bytes - len(self._guard)) == self._guard

    def _decode(self, data: bytes) -> tuple[pa.Table | None, int]:
        """Return the rows of the whole messages and how many bytes those are."""
        source, n_whole = pa.BufferReader(data), 0
        messages: list[pa.Message] = []
        # pyarrow says "torn" in four ways, by where the cut is.
        with suppress(pa.ArrowInvalid, pa.ArrowIOError, EOFError, OSError):
            while n_whole < len(data):
                messages.append(pa.ipc.read_message(source))
                n_whole = source.tell()
        try:
            for message in messages:
                if message.type == "schema" and not pa.ipc.read_schema(message).equals(ROW_SCHEMA):
                    raise damaged(self.folder / TAIL, "its columns are others")
            batches = [pa.ipc.read_record_batch(m, ROW_SCHEMA) for m in messages if m.type == "record batch"]
        except (pa.ArrowException, OSError, ValueError) as error:
            raise damaged(self.folder / TAIL, error) from error
        return (pa.Table.from_batches(batches, ROW_SCHEMA) if batches else None), n_whole

    def _add(self, rows: pa.Table) -> bool:
        """Take rows in; return False where the window would become too large."""
        names, codes = encode_texts(rows["symbol"])
        is_first = is_first_revision(rows)
        if not is_first.all():
            self._later.append(rows.filter(pa.array(~is_first)))
            rows = rows.filter(pa.array(is_first))
            names, codes = encode_texts(rows["symbol"])
        if rows.num_rows == 0:
            return True
        closed_at = closed_micros(rows)
        if not self._n_rows:
            self._first_us = int(closed_at.min())
        if closed_at.min() < self._first_us or closed_at.max() >= self.partition.end_us:
            raise damaged(self.folder / TAIL, "its bars go back in time or belong elsewhere")
        for name in names:
            self._places.setdefault(name, len(self._places))
        n_rows = max(self._n_rows, (int(closed_at.max()) - self._first_us) // self._step_us + 1)
        if not self._reserve(len(self._places), n_rows):
            return False
        places: Int64Array = np.array([self._places[name] for name in names], dtype=np.int64)[codes]
        fill_cells(self._cells, rows, places, first_us=self._first_us, step_us=self._step_us)
        self._n_rows = n_rows
        return True

    def _reserve(self, n_symbols: int, n_rows: int) -> bool:
        n_had, _, capacity = self._cells.shape
        if n_symbols <= n_had and n_rows <= capacity:
            return True
        while capacity < n_rows:
            capacity = min(max(2 * capacity, _ROWS_AT_FIRST), self.partition.n_rows)
        if 8 * N_FIELDS * capacity * n_symbols > HOT_BYTES_MAX:
            return False
        # Bar by bar in memory: the newest bars, which are read most, then lie together.
        by_bar: FloatArray = np.ascontiguousarray(empty_cells(n_symbols, capacity).transpose(2, 1, 0))
        grown = by_bar.transpose(2, 1, 0)
        grown[:n_had, :, : self._n_rows] = self._cells[:, :, : self._n_rows]
        self._cells = grown
        return True


def newest_row(rows: pa.Table, symbols: frozenset[str] | None, as_of_us: int) -> int | None:
    """Return the closed_at of the newest of a table's rows of these symbols that was known by an instant."""
    names, codes = encode_texts(rows["symbol"])
    is_wanted = np.array([symbols is None or name in symbols for name in names], dtype=bool)[codes]
    is_wanted &= known_micros(rows) <= as_of_us
    return int(closed_micros(rows)[is_wanted].max()) if is_wanted.any() else None
