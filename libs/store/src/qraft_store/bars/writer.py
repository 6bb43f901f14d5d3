"""The one writer of a series (market × interval) of the lake: order, duplicates, day roll."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import numpy as np
import pyarrow as pa

from qraft_contracts.outcomes import Transient
from qraft_contracts.subjects import INTERVAL_SECONDS
from qraft_contracts.times import format_instant
from qraft_frames.bars import BarBatch
from qraft_store.bars.days import TAIL, TailFile, read_day, write_day
from qraft_store.bars.rows import closed_micros, instant_of, micros, new_rows, record_of

DAY_PREFIX = "date="
_DAY_MICROS = 86_400_000_000


def day_folders(series: Path) -> list[Path]:
    """Return the folders of a series' days, oldest first. A row's day is the UTC date of its closed_at."""
    try:
        names = [entry.name for entry in os.scandir(series) if entry.name.startswith(DAY_PREFIX)]
    except FileNotFoundError:
        return []
    return [series / name for name in sorted(names)]


class SeriesWriter:
    """
    Appends rows of one series. Holds a file lock for as long as it lives.

    Opening cuts a torn tail and compacts days that a killed writer left uncompacted.
    """

    def __init__(self, series: Path) -> None:
        series.mkdir(parents=True, exist_ok=True)
        self._series = series
        self._lock = _lock(series / ".writer.lock")
        self._tail: TailFile | None = None
        self._end = 0  # closed_at of the newest row of revision 0, microseconds since 1970
        self._recover()

    def _recover(self) -> None:
        folders = day_folders(self._series)
        for folder in folders[:-1]:
            if (folder / TAIL).exists():
                self._compact(folder)
        for folder in reversed(folders):
            rows = read_day(folder)
            if rows is not None:
                first = closed_micros(rows)[np.asarray(rows["revision"]) == 0]
                self._end = int(first.max(initial=0))
            if self._end:
                break

    def append_next(self, batch: BarBatch) -> bool:
        """
        Store a batch if it is simply the next bar of the current day; else return False and store nothing.

        Raises:
            Transient: if the disk is full.
        """
        closed_at = micros(batch.closed_at)
        is_next = (
            self._tail is not None
            and batch.revision == 0
            and closed_at > self._end
            and closed_at // _DAY_MICROS == self._end // _DAY_MICROS
            and closed_at % (INTERVAL_SECONDS[batch.interval] * 1_000_000) == 0
            and len(set(batch.symbols)) == len(batch.symbols)
        )
        if is_next and self._tail is not None:
            self._tail.append(record_of(batch))
            self._end = closed_at
        return is_next

    def append(self, rows: pa.Table) -> int:
        """
        Store the rows, day by day, and return how many were new.

        All days but the last of them are closed and written whole; the last one grows by one message.

        Raises:
            ValueError: if a row of revision 0 is before the stored end, a revision beyond it, or a stored row comes
                with other values.
            Transient: if the disk is full.
        """
        days = closed_micros(rows) // _DAY_MICROS
        n_new = 0
        for day in np.unique(days):
            of_day = rows.filter(pa.array(days == day)).combine_chunks()
            n_new += self._append_day(int(day), of_day, is_last=day == days.max())
        return n_new

    def _append_day(self, day: int, rows: pa.Table, *, is_last: bool) -> int:
        folder = self._series / f"{DAY_PREFIX}{instant_of(day * _DAY_MICROS).date().isoformat()}"
        closed_at, is_first = closed_micros(rows), np.asarray(rows["revision"]) == 0
        is_ahead = is_first.all() and closed_at.min() > self._end  # then nothing stored can be among them
        rows = new_rows(rows, None if is_ahead else read_day(folder))
        if rows.num_rows == 0:
            return 0
        closed_at, is_first = closed_micros(rows), np.asarray(rows["revision"]) == 0
        oldest = int(closed_at[is_first].min(initial=self._end))
        if oldest < self._end:
            raise ValueError(
                f"expected closed_at from {format_instant(instant_of(self._end))} on, received "
                f"{format_instant(instant_of(oldest))}: a late row is stored as a revision"
            )
        newest, end = int(closed_at[~is_first].max(initial=0)), int(closed_at[is_first].max(initial=self._end))
        if newest > end:
            raise ValueError(
                f"expected a revision of a bar up to {format_instant(instant_of(end))}, received one of "
                f"{format_instant(instant_of(newest))}: the first row of a bar is revision 0"
            )
        if is_last and day >= self._end // _DAY_MICROS:
            (record,) = rows.combine_chunks().to_batches()
            self._tail_of(folder).append(record)
        else:
            self._write_closed_day(folder, rows)
        self._end = end
        return rows.num_rows

    def _write_closed_day(self, folder: Path, rows: pa.Table) -> None:
        if self._tail is not None and self._tail.folder == folder:
            self._tail.close()
            self._tail = None
        stored = read_day(folder)
        write_day(folder, rows if stored is None else pa.concat_tables([stored, rows]))

    def _tail_of(self, folder: Path) -> TailFile:
        """Return the tail of the current day; the day before is compacted when the day rolls."""
        if self._tail is None or self._tail.folder != folder:
            self.close_tail()
            for before in day_folders(self._series):
                if before != folder and (before / TAIL).exists():
                    self._compact(before)
            self._tail = TailFile(folder)
        return self._tail

    def _compact(self, folder: Path) -> None:
        rows = read_day(folder)
        if rows is None:
            (folder / TAIL).unlink()
        else:
            write_day(folder, rows)

    def close_tail(self) -> None:
        """Close the growing file; the next append opens it again."""
        if self._tail is not None:
            self._tail.close()
            self._tail = None

    def close(self) -> None:
        """Give the series to another writer."""
        self.close_tail()
        os.close(self._lock)


def _lock(path: Path) -> int:
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        raise Transient(
            "lake_locked", f"another process writes {path.parent}; stop it (`qraft down`) or use another QRAFT_HOME"
        ) from error
    return handle
