"""The feature matrix of one bar, and its Arrow form (`features/1`)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from qraft_contracts.origin import Origin
from qraft_contracts.outcomes import Malformed
from qraft_contracts.times import format_instant, parse_instant
from qraft_frames.ipc import DAMAGE, read_batch, read_metadata, read_symbols, write_batch


@dataclass(frozen=True, slots=True)
class FeatureBatch:
    """
    Symbol × feature matrix of one bar. Row i uses bars up to as_of only; NaN = not enough history or a gap in it.

    values: (n_symbols, n_features), float32, C order. signature: of the feature set (qraft_quant.features).
    """

    market: str
    interval: str
    as_of: datetime
    origin: Origin
    signature: str
    names: tuple[str, ...]
    symbols: tuple[str, ...]
    values: npt.NDArray[np.float32]


@cache
def _schema(n_features: int) -> pa.Schema:
    return pa.schema([("symbol", pa.string()), ("values", pa.list_(pa.float32(), n_features))])


def encode_features(batch: FeatureBatch) -> bytes:
    """Return the batch as one Arrow IPC stream; equal batches give equal bytes."""
    n_symbols, n_features = batch.values.shape
    assert n_symbols == len(batch.symbols) and n_features == len(batch.names), batch.values.shape
    assert batch.values.dtype == np.float32, batch.values.dtype
    flat = pa.array(np.ascontiguousarray(batch.values).reshape(-1))
    schema = _schema(n_features)
    metadata = {
        "market": batch.market,
        "interval": batch.interval,
        "as_of": format_instant(batch.as_of),
        "origin": batch.origin.value,
        "signature": batch.signature,
        "names": ",".join(batch.names),
    }
    columns = [pa.array(batch.symbols, pa.string()), pa.FixedSizeListArray.from_arrays(flat, n_features)]
    return write_batch(columns, schema.with_metadata(metadata))


def decode_features(data: bytes) -> FeatureBatch:
    """
    Return the batch in the bytes; the matrix is a view of them, not a copy.

    Raises:
        Malformed: if the bytes are no Arrow stream of features/1.
    """
    try:
        with pa.ipc.open_stream(data) as reader:
            metadata = read_metadata(reader.schema)
    except DAMAGE as error:
        raise Malformed("undecodable", f"expected an Arrow IPC stream: {error}") from error
    try:
        names = tuple(metadata["names"].split(","))
        market, interval, signature = metadata["market"], metadata["interval"], metadata["signature"]
        as_of, origin = parse_instant(metadata["as_of"]), Origin(metadata["origin"])
    except (KeyError, ValueError) as error:
        raise Malformed("bad_metadata", f"expected the metadata of features/1: {error}") from error
    batch = read_batch(data, expected=_schema(len(names)))
    symbols = read_symbols(batch)
    matrix: Any = batch.column(1)
    if matrix.null_count or matrix.flatten().null_count:
        raise Malformed("null_values", "expected a number or NaN for every feature, received an empty one")
    values = matrix.flatten().to_numpy(zero_copy_only=True).reshape(len(symbols), len(names))
    return FeatureBatch(market, interval, as_of, origin, signature, names, symbols, values)


__all__ = ["FeatureBatch", "decode_features", "encode_features"]
