"""Move closed partitions of a series to the cold root: same Parquet file, same rows, no column file."""

from __future__ import annotations

import hashlib
import os
import shutil
from contextlib import suppress
from pathlib import Path

from qraft_contracts.outcomes import Transient
from qraft_store.bars.columns import COLUMNS
from qraft_store.bars.days import PARQUET, TAIL
from qraft_store.bars.partitions import Partition
from qraft_store.bars.series import TIERED, Series
from qraft_store.files import sync_folder


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
    temporary = cold / f".{PARQUET}.tmp"
    try:
        cold.mkdir(parents=True, exist_ok=True)
        (series.hot / TIERED).touch()
        shutil.copyfile(hot / PARQUET, temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        if _sha256(temporary) != _sha256(hot / PARQUET):
            raise Transient("cold_tier_damaged", f"expected the bytes of {hot / PARQUET} in {temporary}, read others")
        temporary.replace(cold / PARQUET)
        sync_folder(cold)
        sync_folder(cold.parent)
        size = (hot / PARQUET).stat().st_size
    except OSError as error:
        raise Transient("lake_write_failed", f"could not move {hot} to {cold}: {error}; is the disk full?") from error
    (hot / COLUMNS).unlink(missing_ok=True)
    (hot / PARQUET).unlink()
    with suppress(OSError):  # what else lies there stays
        hot.rmdir()
    return size


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
