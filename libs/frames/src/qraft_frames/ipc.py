"""One Arrow record batch to bytes and back, with every decoding fault as Malformed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from qraft_contracts.outcomes import Malformed

# Far above any real batch (500 symbols × 44 features is 90 kB); a larger claim is an attack or a bug.
MAX_PAYLOAD_BYTES = 8 * 1024 * 1024
# What pyarrow raises for bytes that it did not write, found by flipping bytes; a text that is no UTF-8 is a ValueError.
DAMAGE = (pa.ArrowException, OSError, EOFError, ValueError)


def write_batch(columns: Sequence[Any], schema: pa.Schema) -> bytes:
    """Return one record batch as an Arrow IPC stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        writer.write_batch(pa.RecordBatch.from_arrays(list(columns), schema=schema))
    return sink.getvalue().to_pybytes()


def read_batch(data: bytes, *, expected: pa.Schema) -> pa.RecordBatch:
    """
    Return the single record batch of an Arrow IPC stream, its columns checked by name, type and order.

    Columns beyond the expected ones are ignored (a newer writer may add some).

    Raises:
        Malformed: if the bytes are no such stream.
    """
    if len(data) > MAX_PAYLOAD_BYTES:
        raise Malformed("oversized", f"expected at most {MAX_PAYLOAD_BYTES} bytes, received {len(data)}")
    try:
        with pa.ipc.open_stream(data) as reader:
            batch = reader.read_next_batch()
            batch.validate(full=True)
    except (*DAMAGE, StopIteration) as error:
        raise Malformed("undecodable", f"expected an Arrow IPC stream with one batch: {error}") from error
    for index, field in enumerate(expected):
        if index >= batch.num_columns or not batch.schema.field(index).equals(field):
            received = f"{batch.schema.types[index]}" if index < batch.num_columns else "nothing"
            raise Malformed("wrong_schema", f"expected column {index} to be {field}, received {received}")
    return batch


def read_metadata(schema: pa.Schema) -> dict[str, str]:
    """
    Return a payload's metadata as text.

    Raises:
        Malformed: if it is no UTF-8.
    """
    try:
        return {key.decode(): value.decode() for key, value in (schema.metadata or {}).items()}
    except UnicodeDecodeError as error:
        raise Malformed("bad_metadata", f"expected text, received other bytes: {error}") from error


def read_symbols(batch: pa.RecordBatch) -> tuple[str, ...]:
    """
    Return the symbols of a payload, its first column.

    Raises:
        Malformed: if there is none, one is empty, or one stands twice.
    """
    symbols = tuple(str(symbol) for symbol in batch.column(0).to_pylist() if symbol is not None)
    if not symbols or len(symbols) != batch.num_rows or len(set(symbols)) != len(symbols):
        raise Malformed("bad_symbols", f"expected distinct symbols, received {batch.num_rows} rows")
    return symbols
