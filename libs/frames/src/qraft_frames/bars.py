"""One closed bar of all symbols of a market, and its Arrow form (`bars/1`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from qraft_contracts.arrow_schemas import BARS_COLUMNS
from qraft_contracts.kinds import STATE_INPUTS
from qraft_contracts.origin import Origin
from qraft_contracts.outcomes import Malformed
from qraft_contracts.subjects import INTERVAL_SECONDS
from qraft_contracts.times import format_instant, parse_instant
from qraft_frames.ipc import read_batch, read_metadata, read_symbols, write_batch

FloatArray = npt.NDArray[np.float64]

_VALUES = ("open", "high", "low", "close", "volume")
_ARROW_SCHEMA = pa.schema([(name, pa.string() if kind == "utf8" else pa.float64()) for name, kind in BARS_COLUMNS])


@dataclass(frozen=True, slots=True)
class BarBatch:
    """
    All symbols of one market for one closed bar. A symbol without a bar is absent, never filled.

    closed_at: end of the bar, exclusive. known_at: when we could have known it. revision: 0 = as first published.
    Arrays: (n_symbols,), quote currency; volume in base asset. state: what else was known of each symbol at closed_at,
    by the names of qraft_contracts.kinds.STATE_INPUTS, NaN where nothing was; a name that is absent is NaN everywhere.
    """

    market: str
    interval: str
    closed_at: datetime
    known_at: datetime
    revision: int
    origin: Origin
    symbols: tuple[str, ...]
    open: FloatArray
    high: FloatArray
    low: FloatArray
    close: FloatArray
    volume: FloatArray
    state: Mapping[str, FloatArray] = field(default_factory=dict)

    @property
    def opened_at(self) -> datetime:
        """Return the start of the bar, inclusive."""
        return self.closed_at - timedelta(seconds=INTERVAL_SECONDS[self.interval])


def encode_bars(batch: BarBatch) -> bytes:
    """Return the batch as one Arrow IPC stream; equal batches give equal bytes."""
    metadata = {
        "market": batch.market,
        "interval": batch.interval,
        "closed_at": format_instant(batch.closed_at),
        "known_at": format_instant(batch.known_at),
        "revision": str(batch.revision),
        "origin": batch.origin.value,
    }
    columns = [pa.array(batch.symbols, pa.string()), *(pa.array(getattr(batch, name)) for name in _VALUES)]
    schema = _ARROW_SCHEMA
    for name in STATE_INPUTS:
        if name in batch.state:
            columns.append(pa.array(batch.state[name]))
            schema = schema.append(pa.field(name, pa.float64()))
    return write_batch(columns, schema.with_metadata(metadata))


def decode_bars(data: bytes) -> BarBatch:
    """
    Return the batch in the bytes.

    Raises:
        Malformed: if the bytes are no Arrow stream, columns or metadata are missing, a symbol stands twice, or the
            batch is empty. Prices are not judged here: a NaN is data, and the services refuse it by name.
    """
    batch = read_batch(data, expected=_ARROW_SCHEMA)
    metadata = read_metadata(batch.schema)
    try:
        market, interval = metadata["market"], metadata["interval"]
        closed_at, known_at = parse_instant(metadata["closed_at"]), parse_instant(metadata["known_at"])
        revision, origin = int(metadata["revision"]), Origin(metadata["origin"])
        if revision < 0:
            raise ValueError(f"expected a revision from 0 on, received {revision}")
    except (KeyError, ValueError) as error:
        raise Malformed("bad_metadata", f"expected the metadata of bars/1, received {metadata}: {error}") from error
    if interval not in INTERVAL_SECONDS:
        raise Malformed("bad_interval", f"expected one of {sorted(INTERVAL_SECONDS)}, received {interval!r}")
    symbols = read_symbols(batch)
    open_, high, low, close, volume = (batch.column(i + 1).to_numpy(zero_copy_only=False) for i in range(len(_VALUES)))
    return BarBatch(
        market,
        interval,
        closed_at,
        known_at,
        revision,
        origin,
        symbols,
        open_,
        high,
        low,
        close,
        volume,
        _state_of(batch),
    )


def _state_of(batch: pa.RecordBatch) -> dict[str, FloatArray]:
    """Return the state columns that are there; columns of names that we do not know are a newer writer's."""
    state: dict[str, FloatArray] = {}
    for index in range(len(_ARROW_SCHEMA), batch.num_columns):
        name, kind = batch.schema.field(index).name, batch.schema.field(index).type
        if name not in STATE_INPUTS:
            continue
        if kind != pa.float64():
            raise Malformed("wrong_schema", f"expected {name} to be double, received {kind}")
        state[name] = batch.column(index).to_numpy(zero_copy_only=False)
    return state
