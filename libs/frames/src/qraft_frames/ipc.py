"""One Arrow record batch to bytes and back, with every decoding fault as Malformed."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from qraft_contracts.outcomes import Malformed

# Far above any real batch (500 symbols × 44 features is 90 kB); a larger claim is an attack or a bug.
MAX_PAYLOAD_BYTES = 8 * 1024 * 1024


def write_batch(columns: Sequence[pa.Array], schema: pa.Schema) -> bytes:
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
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError, StopIteration, EOFError) as error:
        raise Malformed("undecodable", f"expected an Arrow IPC stream with one batch: {error}") from error
    for index, field in enumerate(expected):
        if index >= batch.num_columns or not batch.schema.field(index).equals(field):
            received = batch.schema.field(index) if index < batch.num_columns else "nothing"
            raise Malformed("wrong_schema", f"expected column {index} to be {field}, received {received}")
    return batch
