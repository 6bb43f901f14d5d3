"""Check every file of a series of bars: rows against their hash, order, place and grid."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from qraft_contracts.outcomes import Malformed
from qraft_store.bars.columns import COLUMNS, file_key, read_header
from qraft_store.bars.content import rows_sha256, sort_rows
from qraft_store.bars.days import PARQUET, TAIL, read_parquet, read_sha256, read_tail, whole_bytes
from qraft_store.bars.partitions import Partition
from qraft_store.bars.raw import checked_rows
from qraft_store.bars.rows import closed_micros, new_rows
from qraft_store.bars.series import Series
from qraft_store.checked import Checked, Finding, bounds_fault


def check_series(series: Series) -> Checked:
    """Read every Parquet file, in both roots where it stands in both, every tail and every column file."""
    checked = Checked()
    try:
        partitions = series.partitions()
    except Malformed as error:
        checked.damages.append(Finding(series.hot, error.detail))
        return checked
    for partition in partitions:
        for path in series.parquet_paths(partition):
            if path.exists():
                _check_parquet(path, partition, series, checked)
        folder = series.folder(partition)
        if (folder / TAIL).exists():
            _check_tail(folder, partition, series, checked)
        if (folder / COLUMNS).exists():
            _check_columns(folder, checked)
    roots = [root for root in (series.hot, series.cold) if root is not None]
    checked.notes += [Finding(path, "half-written") for root in roots for path in sorted(root.glob("*=*/.*.tmp"))]
    return checked


def _check_parquet(path: Path, partition: Partition, series: Series, checked: Checked) -> None:
    checked.n_files += 1
    checked.n_bytes += path.stat().st_size
    try:
        rows, said = read_parquet(path), read_sha256(path)
        what = "" if rows is None else _fault(rows, partition, series)
        if rows is not None and not what and rows_sha256(rows) != said:
            what = "holds other rows than it says"
        if rows is not None and not what:
            what = bounds_fault(path, "closed_at", closed_micros(rows))
    except (Malformed, ValueError) as error:
        rows, what = None, str(error)
    if what:
        checked.damages.append(Finding(path, what))
    elif rows is not None:
        checked.n_rows += rows.num_rows


def _check_tail(folder: Path, partition: Partition, series: Series, checked: Checked) -> None:
    path = folder / TAIL
    data = path.read_bytes()
    checked.n_files += 1
    checked.n_bytes += len(data)
    n_torn = len(data) - whole_bytes(data)
    try:
        rows = read_tail(folder)
        what = "" if rows is None else _fault(sort_rows(new_rows(rows, None)), partition, series)
    except (Malformed, ValueError) as error:
        rows, what = None, str(error)
    if what:
        checked.damages.append(Finding(path, what))
    elif rows is not None:
        checked.n_rows += rows.num_rows
    if n_torn:
        checked.notes.append(Finding(path, f"its last {n_torn} bytes are half a message; the next writer cuts it off"))


def _fault(rows: pa.Table, partition: Partition, series: Series) -> str:
    """Return what no writer would have put into a partition, "" = nothing."""
    closed = closed_micros(rows)
    if rows.num_rows and not partition.start_us <= closed.min() <= closed.max() < partition.end_us:
        return "holds bars of another partition"
    names = ["closed_at", "symbol", "revision"]
    if not checked_rows(rows, interval=series.interval).select(names).equals(rows.select(names).combine_chunks()):
        return "its rows are not in order"
    return "" if new_rows(rows, None).num_rows == rows.num_rows else "names a row twice"


def _check_columns(folder: Path, checked: Checked) -> None:
    """Column files are derived: a reader passes over one that is not right, and the next writer makes it again."""
    path = folder / COLUMNS
    header = read_header(path)
    if header is None or not header.verify(path):
        checked.notes.append(Finding(path, "is damaged; reads do not use it, `make_columns` makes it again"))
    elif header.made_from != file_key(folder / PARQUET) and header.sha256 != _sha256(folder):
        checked.notes.append(Finding(path, "was made from another file; reads do not use it"))


def _sha256(folder: Path) -> str:
    try:
        return read_sha256(folder / PARQUET)
    except (FileNotFoundError, Malformed):
        return ""
