"""One Parquet file of a table: written once, sorted, never changed; read by time, column and row group."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from qraft_contracts.kinds import Kind
from qraft_contracts.outcomes import Malformed
from qraft_store.files import write_whole
from qraft_store.tables.content import content_hash
from qraft_store.tables.folder import TableFolder
from qraft_store.tables.manifest import Manifest, Part
from qraft_store.tables.rows import is_ordered
from qraft_store.tables.schema import distinct, micros_of, table_schema

SUFFIX: Final = ".parquet"
# A row group is what a scan decodes at once: 8 MiB decoded stays in the cache of one core, 65,536 narrow rows decode in
# about 2 ms. A book of 1,000 levels a side is 32 kB a row, so its groups are of 256 rows.
_ROW_GROUP_BYTES: Final = 8 << 20
_ROW_GROUP_ROWS: Final = (256, 65_536)
_INSTANTS: Final = ("event_at", "known_at")


def write_part(folder: Path, partition: str, rows: pa.Table, *, manifest: Manifest) -> Part:
    """
    Write sorted rows as one file of a partition and return how the manifest is to name it.

    Raises:
        Transient: if the disk is full.
    """
    assert is_ordered(rows) and rows.num_rows, "rows are sorted before they are written"
    symbols = distinct(rows["symbol"])
    manifest.add_symbols(symbols)
    content = content_hash(rows)
    name = f"{partition}/{content[:32]}{SUFFIX}"
    group_rows = _group_rows(rows)
    size = write_whole(folder / name, lambda file: _write(rows, file, group_rows=group_rows))
    known = micros_of(rows, "known_at")
    event = micros_of(rows, "event_at")
    return Part(
        file=name,
        n_rows=rows.num_rows,
        n_groups=-(-rows.num_rows // group_rows),
        n_bytes=size,
        first=int(event[0]),
        last=int(event[-1]),
        known_first=int(known.min()),
        known_last=int(known.max()),
        revision_max=int(np.asarray(rows["revision"]).max()),
        symbols=f"{manifest.bits(symbols):x}",
        content=content,
    )


def _group_rows(rows: pa.Table) -> int:
    least, most = _ROW_GROUP_ROWS
    return min(most, max(least, _ROW_GROUP_BYTES * rows.num_rows // max(1, rows.nbytes)))


def _write(rows: pa.Table, file: Any, *, group_rows: int) -> None:
    texts = [field.name for field in rows.schema if pa.types.is_string(field.type) and field.name != "row_id"]
    options: Any = {
        "compression": "zstd",
        "use_dictionary": [*texts, "revision"],
        "column_encoding": dict.fromkeys(_INSTANTS, "DELTA_BINARY_PACKED"),
        "row_group_size": group_rows,
        "write_statistics": True,
        "write_page_checksum": True,
    }
    pq.write_table(rows, file, **options)


def read_part(
    folder: TableFolder,
    part: Part,
    *,
    kind: Kind,
    columns: Sequence[str],
    first: int,
    last: int,
    newest_groups: int = 0,
) -> pa.Table:
    """
    Return a part's rows with first <= event_at <= last, in order, with the columns asked for and event_at.

    newest_groups: read only so many row groups from the end, 0 = all that the range touches.

    Raises:
        FileNotFoundError: if there is no such file: the writer may have merged it since the manifest was read.
        Malformed: if it is half-written, damaged, or of another schema.
    """
    names = list(dict.fromkeys([*columns, "event_at"]))
    *first_tried, path = folder.paths_of(part.file)
    for hot in first_tried:
        # A part that is moved away in between has been put into the other place before.
        with suppress(FileNotFoundError):
            return _read_file(hot, part, kind=kind, names=names, first=first, last=last, newest_groups=newest_groups)
    return _read_file(path, part, kind=kind, names=names, first=first, last=last, newest_groups=newest_groups)


def _read_file(
    path: Path, part: Part, *, kind: Kind, names: Sequence[str], first: int, last: int, newest_groups: int
) -> pa.Table:
    try:
        size = path.stat().st_size
        if size != part.n_bytes:
            raise damaged(path, f"received {size} of {part.n_bytes} bytes")
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            groups = [i for i in range(file.num_row_groups) if _touches(file, i, first, last)]
            present = [name for name in names if name in file.schema_arrow.names]
            table = file.read_row_groups(groups[-newest_groups:] if newest_groups else groups, columns=present)
    except FileNotFoundError:
        raise
    except (pa.ArrowInvalid, OSError, ValueError) as error:
        raise damaged(path, error) from error
    table = _with_empty_columns(table, kind=kind, names=names, path=path)
    if not is_ordered(table):
        raise damaged(path, "event_at goes back")
    if part.first >= first and part.last <= last:
        return table
    event = micros_of(table, "event_at")
    low, high = np.searchsorted(event, first, side="left"), np.searchsorted(event, last, side="right")
    return table.slice(int(low), int(high - low))


def _touches(file: pq.ParquetFile, group: int, first: int, last: int) -> bool:
    """Return whether a row group's statistics leave room for the range; event_at is a part's second column."""
    statistics: Any = file.metadata.row_group(group).column(1).statistics
    low, high = (int(pa.scalar(value).cast(pa.int64()).as_py()) for value in (statistics.min, statistics.max))
    return low <= last and high >= first


def _with_empty_columns(table: pa.Table, *, kind: Kind, names: Sequence[str], path: Path) -> pa.Table:
    """Return the columns in order; a field that the file was written without is empty, if it may be."""
    schema = table_schema(kind.name)
    optional = {field.name for field in kind.fields if not field.is_required}
    columns: list[Any] = []
    for name in names:
        wanted = schema.field(name)
        if name in table.column_names:
            if table.schema.field(name).type != wanted.type:
                raise damaged(path, f"{name} is {table.schema.field(name).type} instead of {wanted.type}")
            columns.append(table[name])
        elif name in optional:
            columns.append(pa.nulls(table.num_rows, wanted.type))
        else:
            raise damaged(path, f"column {name} is missing")
    return pa.Table.from_arrays(columns, names=list(names))


def damaged(path: Path, error: object) -> Malformed:
    """Return the outcome that names a damaged file and what to do."""
    return Malformed(
        "damaged_lake_file",
        f"expected rows in {path}: {error}; move the table's folder away and load it again, or restore the file",
    )


def keep(table: pa.Table, mask: Any) -> pa.Table:
    """Return the rows where the mask is true."""
    whole = np.asarray(mask, dtype=bool)
    return table if whole.all() else table.filter(pa.array(whole))


def with_symbols(table: pa.Table, symbols: Sequence[str] | None) -> pa.Table:
    """Return the rows of the symbols; None = all."""
    if symbols is None:
        return table
    return keep(table, pc.is_in(table["symbol"], value_set=pa.array(list(symbols), pa.string())))
