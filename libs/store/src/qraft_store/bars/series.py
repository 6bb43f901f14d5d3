"""Where one series (market × interval) lies: its partitions' folders under the hot root and under the cold one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from qraft_store.bars.days import PARQUET, read_parquet, read_tail
from qraft_store.bars.partitions import Division, Partition
from qraft_store.bars.rows import ROW_SCHEMA
from qraft_store.tiers import check_tiers


@dataclass(frozen=True, slots=True)
class Series:
    """
    The folders of one series.

    Under `hot` the writer works: tails, Parquet files, column files. Under `cold` lie Parquet files only. A partition
    may stand under both for a moment, or when a late row came to a cold one; then the hot one holds all of its rows,
    unless the hot root was restored from an older backup.
    """

    market: str
    interval: str
    hot: Path
    cold: Path | None

    @property
    def division(self) -> Division:
        """Return how the series is divided."""
        return Division(self.interval)

    def check(self) -> None:
        """
        Refuse to work on half of a series, or beside another lake's.

        Raises:
            Transient: if partitions were moved to a cold root that was not given or is not there.
            Refused: if the cold root belongs to another lake.
        """
        check_tiers(self.hot, self.cold)

    def partitions(self) -> list[Partition]:
        """
        Return the partitions that have a folder, oldest first.

        Raises:
            Malformed: if a folder belongs to another division.
        """
        return self.division.named({*_entries(self.hot), *(_entries(self.cold) if self.cold else ())})

    def folder(self, partition: Partition) -> Path:
        """Return a partition's folder under the hot root."""
        return self.hot / partition.name

    def parquet_paths(self, partition: Partition) -> list[Path]:
        """Return where a partition's Parquet file may be; the first that is there holds its rows."""
        roots = [self.hot] if self.cold is None else [self.hot, self.cold]
        return [root / partition.name / PARQUET for root in roots]

    def read_closed(
        self,
        partition: Partition,
        columns: Sequence[str] = ROW_SCHEMA.names,
        *,
        span_us: tuple[int, int] | None = None,
    ) -> pa.Table | None:
        """
        Return the rows of a partition's Parquet file, or None when there is none; columns, span_us: as read_parquet.

        Raises:
            Malformed: if the file is damaged.
        """
        # Hot, cold: a file that is moved away in between has been put into the other place before.
        for path in self.parquet_paths(partition):
            rows = read_parquet(path, columns, span_us=span_us)
            if rows is not None:
                return rows
        return None

    def read_rows(self, partition: Partition, columns: Sequence[str] = ROW_SCHEMA.names) -> pa.Table | None:
        """
        Return a partition's rows, or None when it holds none. A row may stand twice, equal, while the writer compacts.

        columns: of ROW_SCHEMA, in that order; the others are not decoded.

        Raises:
            Malformed: if a file is damaged.
        """
        # The tail first: the writer puts the Parquet file in place before it removes the tail, so no row is missed.
        tail = read_tail(self.folder(partition))
        closed = self.read_closed(partition, columns)
        found = [table.select(columns) for table in (closed, tail) if table is not None and table.num_rows]
        return pa.concat_tables(found) if found else None


def _entries(folder: Path) -> list[str]:
    try:
        return [entry.name for entry in os.scandir(folder)]
    except FileNotFoundError:
        return []
