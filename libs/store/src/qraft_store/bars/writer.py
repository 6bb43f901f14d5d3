"""The one writer of a series (market × interval) of the lake: order, duplicates, and the roll of its partitions."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Final

import numpy as np
import pyarrow as pa

from qraft_contracts.outcomes import Malformed
from qraft_frames.bars import BarBatch
from qraft_store.bars.columns import COLUMNS, file_key, read_header, write_columns
from qraft_store.bars.days import PARQUET, TAIL, TailFile, read_parquet, read_sha256, write_parquet
from qraft_store.bars.partitions import Partition
from qraft_store.bars.rows import checked_end, closed_micros, is_first_revision, micros, new_rows, record_of
from qraft_store.bars.series import Series
from qraft_store.files import lock_writer

# What live readers warm up from: more than a month of days. Older column files are made by `make_columns`.
_HEALED_MAX: Final = 40


class SeriesWriter:
    """
    Appends rows of one series. Holds a file lock for as long as it lives.

    Opening cuts a torn tail, compacts partitions that a killed writer left uncompacted, and makes the column files
    that are missing among the newest partitions.
    """

    def __init__(self, series: Series) -> None:
        series.hot.mkdir(parents=True, exist_ok=True)
        self._series = series
        self._division = series.division
        self._lock = lock_writer(series.hot / ".writer.lock")
        self._tail: TailFile | None = None
        self._tail_end = 0  # of its partition
        self._end = 0  # closed_at of the newest row of revision 0, microseconds since 1970
        is_open = False
        try:
            self._recover()
            is_open = True
        finally:
            if not is_open:  # nobody holds this writer: the next attempt must not find it locked
                os.close(self._lock)

    def _recover(self) -> None:
        partitions = self._series.partitions()
        for partition in partitions[:-1]:
            if (self._series.folder(partition) / TAIL).exists():
                self._compact(partition)
        for partition in reversed(partitions):
            rows = self._series.read_rows(partition, ["closed_at", "revision"])
            if rows is not None:
                self._end = int(closed_micros(rows)[is_first_revision(rows)].max(initial=0))
            if self._end:
                break
        for partition in partitions[-_HEALED_MAX:]:
            with suppress(Malformed):  # new bars are stored beside a damaged day; who reads that day is told
                self._make_columns(partition)

    def append_next(self, batch: BarBatch) -> bool:
        """
        Store a batch if it is simply the next bar of the current partition; else return False and store nothing.

        Raises:
            Transient: if the disk is full.
        """
        closed_at = micros(batch.closed_at)
        is_next = (
            self._tail is not None
            and batch.revision == 0
            and self._end < closed_at < self._tail_end
            and closed_at % self._division.step_us == 0
            and batch.known_at >= batch.closed_at
            and len(set(batch.symbols)) == len(batch.symbols)
        )
        if is_next and self._tail is not None:
            self._tail.append(record_of(batch))
            self._end = closed_at
        return is_next

    def append(self, rows: pa.Table, *, is_restored: bool = False) -> int:
        """
        Store the rows, partition by partition, and return how many were new.

        All partitions but the last of them are closed and written whole; the last one grows by one message.
        is_restored: rows of another store, by the rules of the port's append_rows.

        Raises:
            ValueError: if a row of revision 0 is before the stored end, a revision beyond it, or a stored row comes
                with other values.
            Transient: if the disk is full.
        """
        ordinals = self._division.ordinals(closed_micros(rows))
        n_new = 0
        for ordinal in np.unique(ordinals):
            of_partition = rows.filter(pa.array(ordinals == ordinal)).combine_chunks()
            partition = self._division.partition(int(ordinal))
            is_last = ordinal == ordinals.max()
            n_new += self._append_to(partition, of_partition, is_last=is_last, is_restored=is_restored)
        return n_new

    def _append_to(self, partition: Partition, rows: pa.Table, *, is_last: bool, is_restored: bool) -> int:
        closed_at, is_first = closed_micros(rows), is_first_revision(rows)
        is_ahead = is_first.all() and closed_at.min() > self._end  # then nothing stored can be among them
        rows = new_rows(rows, None if is_ahead else self._series.read_rows(partition), is_exact=is_restored)
        if rows.num_rows == 0:
            return 0
        end = checked_end(rows, self._end, is_restored=is_restored)
        if is_last and partition.end_us > self._end:
            (record,) = rows.combine_chunks().to_batches()
            self._tail_of(partition).append(record)
        else:
            self._write_closed(partition, rows)
        self._end = end
        return rows.num_rows

    def _write_closed(self, partition: Partition, rows: pa.Table) -> None:
        if self._tail is not None and self._tail.folder == self._series.folder(partition):
            self.close_tail()
        stored = self._series.read_rows(partition)
        self._replace(partition, rows if stored is None else new_rows(pa.concat_tables([stored, rows]), None))

    def _tail_of(self, partition: Partition) -> TailFile:
        """Return the tail of the current partition; the one before is compacted when the partition rolls."""
        folder = self._series.folder(partition)
        if self._tail is None or self._tail.folder != folder:
            self.close_tail()
            for before in self._series.partitions():
                if before != partition and (self._series.folder(before) / TAIL).exists():
                    self._compact(before)
            self._tail, self._tail_end = TailFile(folder), partition.end_us
        return self._tail

    def _compact(self, partition: Partition) -> None:
        rows = self._series.read_rows(partition)
        if rows is None:
            (self._series.folder(partition) / TAIL).unlink()
        else:
            self._replace(partition, new_rows(rows, None))

    def _replace(self, partition: Partition, rows: pa.Table) -> None:
        """Write a partition's rows, each once: first the Parquet file, then the column file; then the tail goes."""
        folder = self._series.folder(partition)
        written, sha256 = write_parquet(folder, rows)
        self._write_columns(partition, written, sha256)
        (folder / TAIL).unlink(missing_ok=True)

    def make_columns(self, *, verify: bool = False) -> int:
        """
        Make the column files that are missing, stale or, where `verify`, damaged; return how many were made.

        Raises:
            Malformed: if a Parquet file is damaged.
        """
        return sum(self._make_columns(partition, verify=verify) for partition in self._series.partitions())

    def _make_columns(self, partition: Partition, *, verify: bool = False) -> bool:
        parquet = self._series.folder(partition) / PARQUET
        key = file_key(parquet)
        if key is None:
            return False  # cold, or still growing
        header = read_header(parquet.with_name(COLUMNS))
        if (
            header is not None
            and header.made_from == key
            and not (verify and not header.verify(parquet.with_name(COLUMNS)))
        ):
            return False
        rows = read_parquet(parquet)
        return rows is not None and self._write_columns(partition, rows, read_sha256(parquet))

    def _write_columns(self, partition: Partition, rows: pa.Table, sha256: str) -> bool:
        step_us, folder = self._division.step_us, self._series.folder(partition)
        return write_columns(folder, rows, partition=partition, step_us=step_us, sha256=sha256)

    def close_tail(self) -> None:
        """Close the growing file; the next append opens it again."""
        if self._tail is not None:
            self._tail.close()
            self._tail = None

    def close(self) -> None:
        """Give the series to another writer."""
        self.close_tail()
        os.close(self._lock)
