"""The name of stored content: a SHA-256 of the rows themselves, however they are split, compressed or encoded."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def content_hash(table: pa.Table, *, element: str = "item") -> str:
    """
    Return the SHA-256 of sorted rows: of each column its empty cells, then lengths where there are any, then values.

    Texts and lists are hashed by their lengths and their contents on end; -0.0 is 0.0, as in a comparison.

    element: how the elements of a list are called. Arrow calls them item, Parquet element; earlier releases hashed
    whichever it was, so that a hash of theirs may be of the other one.
    """
    digest = hashlib.sha256()
    for name in table.column_names:
        column: Any = table[name].combine_chunks()
        is_list = pa.types.is_list(column.type)
        kind = f"list<{element}: {column.type.value_type}>" if is_list else str(column.type)
        digest.update(f"{name} {kind} {len(column)}\n".encode())
        _hash_column(digest, column)
    return digest.hexdigest()


def _hash_column(digest: Any, column: Any) -> None:
    digest.update(np.packbits(np.asarray(pc.is_null(column), dtype=bool)))
    if pa.types.is_string(column.type):
        digest.update(np.asarray(pc.fill_null(pc.binary_length(column), 0), dtype="<i4"))
        digest.update(_text_bytes(column))
    elif pa.types.is_list(column.type):
        digest.update(np.asarray(pc.fill_null(pc.list_value_length(column), 0), dtype="<i4"))
        _hash_column(digest, column.flatten())
    elif pa.types.is_boolean(column.type):
        digest.update(np.packbits(np.asarray(pc.fill_null(column, False), dtype=bool)))
    elif pa.types.is_floating(column.type):
        digest.update(np.asarray(pc.fill_null(column, 0.0), dtype="<f8") + 0.0)  # -0.0 equals 0.0
    else:
        whole = column.cast(pa.int64())
        digest.update(np.asarray(pc.fill_null(whole, 0), dtype="<i8"))


def _text_bytes(column: Any) -> Any:
    """Return the bytes of all texts, one after the other."""
    if column.null_count:
        column = pc.fill_null(column, "")
    _validity, offsets, data = column.buffers()
    if data is None or len(column) == 0:
        return b""
    bounds = np.frombuffer(offsets, dtype=np.int32)[column.offset : column.offset + len(column) + 1]
    return memoryview(data)[int(bounds[0]) : int(bounds[-1])]


def version_of(kind: str, market: str, contents: Sequence[tuple[str, str]]) -> str:
    """Return the SHA-256 over the partitions' names and content hashes, in order."""
    lines = [f"{kind} {market}", *(f"{name} {content}" for name, content in sorted(contents))]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
