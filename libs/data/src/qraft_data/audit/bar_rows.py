"""The bars of one market and interval, each stored row read once: the newest word on each bar, and how many changed."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise

import numpy as np
import pyarrow as pa

from qraft_data.audit.expectation import Window
from qraft_data.times import FloatArray, Int64Array
from qraft_store.bars.port import BarStore

_NO_TIMES: Int64Array = np.empty(0, dtype=np.int64)


class BarRows:
    """
    Every symbol's closes in a window, by time, as the newest revision has them.

    One pass over the stored revisions of all symbols; what is held are 17 bytes a bar.
    """

    def __init__(self, bars: BarStore, market: str, interval: str, window: Window) -> None:
        self._parts: dict[str, list[tuple[Int64Array, FloatArray, int]]] = defaultdict(list)
        origins: set[str] = set()
        for table in bars.rows(market=market, interval=interval, start=window.start, end=window.end):
            origins.update(str(it) for it in table["origin"].unique().to_pylist())
            self._take(table)
        self.origins = tuple(sorted(origins))

    def _take(self, table: pa.Table) -> None:
        names = table["symbol"].combine_chunks().dictionary_encode()
        code = np.asarray(names.indices, dtype=np.int64)
        closed = np.asarray(table["closed_at"].cast(pa.int64()).to_numpy(), dtype=np.int64)
        close, revision = np.asarray(table["close"].to_numpy()), np.asarray(table["revision"].to_numpy())
        order = np.argsort(code, kind="stable")  # rows stay by time and revision within a symbol
        ends = np.searchsorted(code[order], np.arange(len(names.dictionary) + 1))
        for symbol, (first, end) in zip(names.dictionary.to_pylist(), pairwise(ends.tolist()), strict=True):
            own = order[first:end]
            # The last row of each bar is its newest revision.
            newest = own[own.size - 1 - np.unique(closed[own][::-1], return_index=True)[1]]
            self._parts[str(symbol)].append((closed[newest], close[newest], int((revision[newest] > 0).sum())))

    def of(self, symbol: str) -> tuple[Int64Array, FloatArray, int]:
        """Return times (n,), closes (n,) and how many bars were corrected or came late."""
        parts = self._parts.get(symbol)
        if not parts:
            return _NO_TIMES, np.empty(0), 0
        times, closes, revised = zip(*parts, strict=True)
        return np.concatenate(times), np.concatenate(closes), sum(revised)
