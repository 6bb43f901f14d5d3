"""One closed bar of all symbols of a market, and its Arrow form (`bars/1`)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from qraft_contracts.arrow_schemas import BARS_COLUMNS
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
    Arrays: (n_symbols,), quote currency; volume in base asset.
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
    return write_batch(columns, _ARROW_SCHEMA.with_metadata(metadata))


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
    values = [batch.column(i + 1).to_numpy(zero_copy_only=False) for i in range(len(_VALUES))]
    return BarBatch(market, interval, closed_at, known_at, revision, origin, symbols, *values)
