"""Up to where a table is stored."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from qraft_store.tables.port import TableStore
from svc_ingest.domain.raw import EVER


def newest_events(
    tables: TableStore, kind: str, *, market: str, symbols: Sequence[str] | None = None
) -> dict[str, int]:
    """
    Return the newest event of each symbol that has rows, microseconds since 1970, whenever known. Blocks.

    symbols: None = all.
    """
    last = tables.last(kind, market=market, symbols=symbols, n=1, as_of=EVER)
    events = np.asarray(last["event_at"].cast(pa.int64()).to_numpy(), dtype=np.int64).tolist()
    return dict(zip(map(str, last["symbol"].to_pylist()), events, strict=True))
