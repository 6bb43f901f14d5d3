"""Move closed partitions of a series to the cold root: same Parquet file, same rows, no column file."""

from __future__ import annotations

from contextlib import suppress

from qraft_store.bars.columns import COLUMNS
from qraft_store.bars.days import PARQUET, TAIL
from qraft_store.bars.partitions import Partition
from qraft_store.bars.series import TIERED, Series
from qraft_store.files import copy_whole


def move_to_cold(series: Series, partition: Partition) -> int:
    """
    Move one closed partition to the cold root and return the bytes moved; 0 where there is nothing to move.

    The cold file is whole, compared and on disk before the hot one goes, so a reader finds one or the other, and a
    kill leaves both, which counts once. A partition that still has a tail is left alone.

    Raises:
        Transient: if the cold root cannot be written or gives back other bytes.
    """
    assert series.cold is not None, "a lake with a cold root"
    hot, cold = series.folder(partition), series.cold / partition.name
    if (hot / TAIL).exists() or not (hot / PARQUET).exists():
        return 0
    (series.hot / TIERED).touch()
    size = copy_whole(hot / PARQUET, cold / PARQUET)
    (hot / COLUMNS).unlink(missing_ok=True)
    (hot / PARQUET).unlink()
    with suppress(OSError):  # what else lies there stays
        hot.rmdir()
    return size
