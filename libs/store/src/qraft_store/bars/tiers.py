"""Move closed partitions of a series to the cold root: same Parquet file, same rows, no column file."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pyarrow as pa

from qraft_store.bars.columns import COLUMNS
from qraft_store.bars.days import PARQUET, TAIL, damaged, read_parquet, read_sha256, write_parquet
from qraft_store.bars.partitions import Partition
from qraft_store.bars.rows import new_rows
from qraft_store.bars.series import Series
from qraft_store.files import copy_whole
from qraft_store.tiers import claim_cold


def move_to_cold(series: Series, partition: Partition) -> int:
    """
    Move one closed partition to the cold root and return the bytes moved; 0 where there is nothing to move.

    The cold file is whole, compared and on disk before the hot one goes, so a reader finds one or the other, and a
    kill leaves both, which counts once. Rows that only a cold file holds are taken into the hot one before. A partition
    that still has a tail is left alone.

    Raises:
        Transient: if the cold root cannot be written or gives back other bytes.
        Refused: if the cold root belongs to another lake.
        Malformed: if a cold file is there that contradicts the hot one, or one of them is damaged.
    """
    assert series.cold is not None, "a lake with a cold root"
    hot, cold = series.folder(partition), series.cold / partition.name
    if (hot / TAIL).exists() or not (hot / PARQUET).exists():
        return 0
    claim_cold(series.hot, series.cold)
    _take_in(hot, cold)
    size = copy_whole(hot / PARQUET, cold / PARQUET)
    (hot / COLUMNS).unlink(missing_ok=True)
    (hot / PARQUET).unlink()
    with suppress(OSError):  # what else lies there stays
        hot.rmdir()
    return size


def _take_in(hot: Path, cold: Path) -> None:
    """Write into the hot file what only the cold one holds: the hot root may be older than the last move."""
    if not (cold / PARQUET).exists() or read_sha256(cold / PARQUET) == read_sha256(hot / PARQUET):
        return
    ours, theirs = read_parquet(hot / PARQUET), read_parquet(cold / PARQUET)
    assert ours is not None and theirs is not None, "only the writer removes files, and it is here"
    try:
        more = new_rows(theirs, ours, is_exact=True)
    except ValueError as error:
        raise damaged(cold / PARQUET, f"those of {hot / PARQUET}: {error}") from error
    if more.num_rows:
        write_parquet(hot, pa.concat_tables([ours, more]))
