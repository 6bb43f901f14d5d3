"""The rows of a part: as Parquet bytes and back, and everything that must hold of them before a store sees one."""

from __future__ import annotations

import io
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from qraft_contracts.kinds import KINDS
from qraft_contracts.outcomes import Malformed
from qraft_data.bundle.archive import Member
from qraft_data.bundle.manifest import PART_BYTES_MAX, Part, Source, damaged
from qraft_data.bundle.pages import decoded_bytes
from qraft_data.bundle.sizes import row_bytes
from qraft_data.bundle.sources import empty_rows, time_column
from qraft_data.times import micros_column
from qraft_store.bars.content import rows_sha256
from qraft_store.bars.raw import checked_rows
from qraft_store.tables.content import content_hash
from qraft_store.tables.rows import canonical, judge, order_of
from qraft_store.tables.rules import is_refused, reasons_of
from qraft_store.tables.schema import conform

_ROWS_PER_GROUP: Final = 131_072
# The bound that page headers give is at most three times what the rows are.
_DECODING_BYTES_MAX: Final = 3 * PART_BYTES_MAX


def encode_rows(rows: pa.Table) -> bytes:
    """Return rows as Parquet; one release of pyarrow gives the same bytes for equal rows."""
    sink = io.BytesIO()
    texts: Any = [it.name for it in rows.schema if pa.types.is_string(it.type) and it.name != "row_id"]
    pq.write_table(
        rows, sink, compression="zstd", use_dictionary=texts, row_group_size=_ROWS_PER_GROUP, write_page_checksum=True
    )
    return sink.getvalue()


def content_of(source: Source, rows: pa.Table) -> str:
    """Return the SHA-256 of sorted rows themselves."""
    return rows_sha256(rows) if source.kind == "bars" else content_hash(rows)


def rows_of(part: Part, data: bytes) -> pa.Table:
    """
    Return the rows in a part's bytes, which are those that the manifest names, after every check that needs no store.

    Raises:
        Malformed: if they are no such Parquet, are not what the manifest says of them, are not sorted, were known after
            the bundle's as_of or before their event, or break a rule of their kind.
    """
    rows = _decoded(part, data)
    times, known = micros_column(rows, time_column(part.source)), micros_column(rows, "known_at")
    said = (part.first_us, part.last_us, part.known_last_us)
    if (int(times[0]), int(times[-1]), int(known.max())) != said:
        raise damaged(f"{part.name} reaches from {times[0]} to {times[-1]}, known until {known.max()}; the manifest "
                      f"says {said}")  # fmt: skip
    if part.source.kind == "bars":
        _check_bars(part, rows)
    else:
        _check_table(part, rows)
    return rows


def _decoded(part: Part, data: bytes) -> pa.Table:
    try:
        metadata, schema = check_pages(part, data)
        missing = _missing(part, schema)
        texts = [field.name for field in schema if pa.types.is_string(field.type)]
        # A text that stands a million times in a few bytes is measured before it is written out.
        with pq.ParquetFile(
            io.BytesIO(data), metadata=metadata, read_dictionary=texts, page_checksum_verification=True
        ) as file:
            rows = file.read(use_threads=False)
        check_bytes(part.name, rows)
        rows = rows.cast(schema.remove_metadata())
    except (pa.ArrowException, OSError, ValueError) as error:
        raise damaged(f"{part.name} is no Parquet: {error}") from error
    return _typed(part, rows, missing)


def check_pages(part: Part, data: bytes) -> tuple[pq.FileMetaData, pa.Schema]:
    """
    Refuse a part that would need too much memory, before it is decoded; return what its footer says.

    Raises:
        Malformed: if it is too large, has another number of rows than the manifest says, or no pages as we write them.
    """
    try:
        with pq.ParquetFile(io.BytesIO(data)) as file:
            metadata, schema = file.metadata, file.schema_arrow
        n_rows = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
        if not metadata.num_rows == sum(n_rows) == part.n_rows or min(n_rows) < 0:
            raise damaged(f"{part.name} holds {metadata.num_rows} rows, the manifest says {part.n_rows} rows")
        size = decoded_bytes(data, metadata)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise damaged(f"{part.name} is no Parquet: {error}") from error
    if size > _DECODING_BYTES_MAX:
        raise damaged(f"{part.name} needs {size} bytes to be decoded, more than {_DECODING_BYTES_MAX}")
    return metadata, schema


def check_bytes(name: str, rows: pa.Table) -> None:
    """
    Refuse rows that are larger than a part may be.

    Raises:
        Malformed: if they are.
    """
    if (size := int(row_bytes(rows).sum())) > PART_BYTES_MAX:
        raise damaged(f"the rows of {name} have {size} bytes, more than {PART_BYTES_MAX}")


def _missing(part: Part, found: pa.Schema) -> list[str]:
    """Return the fields that the bundle was made without; refuse other columns than those of this release."""
    schema = empty_rows(part.source).schema
    fields = () if part.source.kind == "bars" else KINDS[part.source.kind].fields
    optional = {field.name for field in fields if not field.is_required}
    missing = [name for name in schema.names if name not in found.names]
    if unknown := sorted(set(found.names) - set(schema.names)):
        raise Malformed("unknown_bundle_kind", f"expected the columns {schema.names} in {part.name}, received also "
                        f"{unknown}: it was made by a newer release")  # fmt: skip
    if set(missing) - optional or len(found.names) + len(missing) != len(schema):
        raise damaged(f"{part.name} lacks the columns {missing}")
    present = [schema.field(name) for name in schema.names if name not in missing]
    if [found.field(it.name).type for it in present] != [it.type for it in present]:
        raise damaged(f"{part.name} has the types {found.types} instead of {[it.type for it in present]}")
    return missing


def _typed(part: Part, rows: pa.Table, missing: list[str]) -> pa.Table:
    """Return the columns of this release; a field that the bundle was made without is empty."""
    schema = empty_rows(part.source).schema
    present = pa.schema([schema.field(name) for name in schema.names if name not in missing])
    rows = rows.select(present.names).cast(present).combine_chunks()
    if content_of(part.source, rows) != part.content:
        raise damaged(f"{part.name} holds other rows than the manifest says")
    for name in missing:
        rows = rows.append_column(name, pa.nulls(rows.num_rows, schema.field(name).type))
    return rows.select(schema.names)


def _check_bars(part: Part, rows: pa.Table) -> None:
    try:
        ordered = checked_rows(rows, interval=part.source.interval)
    except ValueError as error:
        raise damaged(f"{part.name}: {error}") from error
    names = ["closed_at", "symbol", "revision"]
    if not ordered.select(names).equals(rows.select(names)):
        raise damaged(f"the rows of {part.name} are not in order")
    if rows.group_by(names).aggregate([]).num_rows != rows.num_rows:
        raise damaged(f"{part.name} names a row twice")


def _check_table(part: Part, rows: pa.Table) -> None:
    """Judge rows as a store would that has none of them: all must be new, in this order and as they are."""
    kind = KINDS[part.source.kind]
    try:
        rows = conform(kind.name, rows)
    except ValueError as error:
        raise damaged(f"{part.name}: {error}") from error
    reasons = reasons_of(kind, rows)
    refused = np.flatnonzero(is_refused(reasons))
    if refused.size:
        raise damaged(f"{part.name} holds {refused.size} rows that {kind.name} forbids ({reasons[refused[0]]})")
    if canonical(kind, rows) is not rows:
        raise damaged(f"{part.name} holds NaN where a field is empty")
    if not np.array_equal(order_of(rows), np.arange(rows.num_rows)):
        raise damaged(f"the rows of {part.name} are not in order")
    judged = judge(kind, rows, None)
    if judged.new.num_rows != rows.num_rows:
        why = judged.reasons[0] if judged.reasons else "a row is named twice"
        raise damaged(f"{part.name} contradicts itself: {why}")


def check_member(part: Part, member: Member, sha256: str) -> None:
    """
    Refuse a member that is not the part that the manifest names in its place.

    Raises:
        Malformed: if it is not.
    """
    if member.name != part.name:
        raise damaged(f"expected the member {part.name}, found {member.name!r}")
    if (member.size, sha256) != (part.n_bytes, part.sha256):
        raise damaged(f"{part.name} has other bytes than the manifest says")
