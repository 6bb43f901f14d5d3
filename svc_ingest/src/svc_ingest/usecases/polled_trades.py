"""
Trades that polls bring, held for as long as the flow of their intervals is not derived.

They are not stored unless the settings say so: a day of five busy contracts is four million rows, whose merging takes
1.7 GB of memory. After a restart the venue is asked for the last quarter of an hour again: it has the same trades.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from qraft_contracts.kinds import KINDS
from qraft_contracts.origin import Origin
from svc_ingest.domain.drift import BLOCK_ROWS, level_of, limit_of
from svc_ingest.domain.raw import FloatArray, Int64Array, micros_of
from svc_ingest.domain.shaping import Refused, as_received
from svc_ingest.domain.tally import Count
from svc_ingest.domain.venue_feeds import VenueRow
from svc_ingest.domain.venue_rows import venue_table
from svc_ingest.usecases.derived_rows import DerivedRows, Series
from svc_ingest.usecases.poll_rows import PollRows

# While nothing can be derived, so much is held for later.
_HELD: Final = timedelta(hours=1)
# Of one symbol; 20 symbols with as many are 300 MB.
_ROWS_MAX: Final = 200_000


@dataclass(slots=True)
class PolledTrades:
    """Trades of one market, by symbol and time. rows: of the polls that bring them."""

    rows: PollRows
    market: str
    _held: dict[str, pa.Table] = field(default_factory=dict)

    def newest_us(self, symbol: str) -> int:
        """Return the time of the newest trade held, microseconds since 1970, 0 when there is none."""
        held = self._held.get(symbol)
        return int(_events(held)[-1]) if held is not None and held.num_rows else 0

    def add(self, symbol: str, found: Sequence[VenueRow], count: Count) -> list[Refused]:
        """
        Hold trades, each once, and count them; return those that are impossible or of another unit.

        A refused trade leaves a hole in the venue's numbers, and its interval missing.
        """
        table = self.rows.as_known("trades", venue_table("trades", symbol, found, source=f"ccxt:{self.rows.venue}"))
        before = self._held.get(symbol, table.slice(0, 0))
        is_known = np.asarray(pc.is_in(table["row_id"], value_set=before["row_id"].combine_chunks()))
        count.add(n_repeated=int(is_known.sum()))
        table = table.filter(pa.array(~is_known))
        bad = _of_another_unit(table, before) | _impossible(table)
        refused = [
            Refused("trades", self.market, i, why, as_received(table.slice(i, 1).to_pylist()[0]))
            for i, why in sorted(bad.items())
        ]
        for row in refused:
            count.refuse(row.reason)
        good = np.ones(table.num_rows, dtype=bool)
        good[list(bad)] = False
        table = table.filter(pa.array(good))
        count.add(n_new=table.num_rows)
        whole = pa.concat_tables([before, table]).sort_by([("event_at", "ascending"), ("row_id", "ascending")])
        self._held[symbol] = whole.slice(max(0, whole.num_rows - _ROWS_MAX)).combine_chunks()
        return refused

    def derive(self, rows: DerivedRows, symbol: str) -> None:
        """
        Add the flows of the whole intervals that are held, then let go of what they were made of. Blocks.

        Raises:
            Malformed, Transient: as the store; everything is held then.
        """
        from svc_ingest.usecases.derive_flows import add_asked_flow  # numba costs a second of start

        held = self._held.get(symbol)
        if held is None or not held.num_rows:
            return
        until_us = add_asked_flow(rows, self.market, Series(symbol, Origin.REAL.value, held))
        oldest_us = micros_of(self.rows.clock.now() - _HELD)
        # The last trade before an interval says that it is whole from its start, a block of them what a price is.
        first = int(np.searchsorted(_events(held), max(until_us, oldest_us), side="right")) - 1
        self._held[symbol] = held.slice(max(0, min(first, held.num_rows - BLOCK_ROWS))).combine_chunks()


def _impossible(rows: pa.Table) -> dict[int, str]:
    found: dict[int, str] = {}
    for it in KINDS["trades"].fields:
        if it.type == "float64":
            values = np.asarray(rows[it.name].to_numpy(zero_copy_only=False), dtype=np.float64)
            wrong = np.flatnonzero(~((values >= it.low) & (values <= it.high)))
            found |= {int(i): f"out_of_bounds: {it.name}" for i in wrong}
    return found


def _of_another_unit(rows: pa.Table, before: pa.Table) -> dict[int, str]:
    """Judge each trade by those before the poll: no price moves fiftyfold in minutes."""
    level, limit = level_of(_prices(before)), limit_of("trades")
    if not level:
        return {}
    times = _prices(rows) / level
    far = np.flatnonzero((times > limit) | (times < 1 / limit))
    return {int(i): f"unit_drift: price is {times[i]:.3g} times what it was" for i in far}


def _prices(rows: pa.Table) -> FloatArray:
    return np.asarray(rows["price"].to_numpy(zero_copy_only=False), dtype=np.float64)


def _events(rows: pa.Table) -> Int64Array:
    return np.asarray(rows["event_at"].cast(pa.int64()).to_numpy(), dtype=np.int64)
