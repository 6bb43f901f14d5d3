"""Polled rows into the stores: known when they were received, changed ones as revisions, other units kept apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

import numpy as np
import pyarrow as pa

from qraft_contracts.kinds import KINDS
from qraft_contracts.origin import Origin
from qraft_runtime.clock import Clock
from qraft_store.bars.port import BarStore
from qraft_store.tables.port import TableStore
from svc_ingest.domain.clock_times import US
from svc_ingest.domain.datasets import Instant, TableRule
from svc_ingest.domain.drift import BLOCK_ROWS, DRIFT_FIELDS
from svc_ingest.domain.raw import EVER, FloatArray, Int64Array, instant_of, micros_of
from svc_ingest.domain.shaping import Refused, as_received
from svc_ingest.domain.tally import Count
from svc_ingest.domain.venue_feeds import Feed, VenueRow
from svc_ingest.domain.venue_rows import find_jumps, near_book, venue_table, with_revisions
from svc_ingest.usecases.collect_bars import BarWriter
from svc_ingest.usecases.collect_tables import TableWriter
from svc_ingest.usecases.newest import newest_events
from svc_ingest.usecases.poll_refused import QuarantinedRows

# Counts rows that follow a stored one with other values.
REVISED: Final = "kept: revision"


@dataclass(frozen=True, slots=True)
class PollRows:
    """
    Writes what polls bring. venue: its name, such as `binance`.

    live_since: when this lake was polled for the first time. What a venue had told before is known when it told it, as
    a back-fill has it; what came since is known when we received it, also after a pause of ours: a model must not see
    in training what the line did not see.
    is_new: whether this process is the first that polls the lake. A later one finds bars that went out since, and what
    was not stored then was not their state: of history only what was stale by live_since keeps the venue's time.
    """

    venue: str
    bars: BarStore
    tables: TableStore
    clock: Clock
    live_since: datetime
    is_new: bool
    quarantined: QuarantinedRows = field(default_factory=QuarantinedRows)

    def market(self, feed: Feed) -> str:
        """Return the market of a feed."""
        return f"{self.venue}.{feed.contract}"

    def newest_us(self, feed: Feed, symbol: str) -> int:
        """Return the newest stored event of a symbol, microseconds since 1970, 0 when there is none."""
        market, now = self.market(feed), self.clock.now() + timedelta(minutes=1)
        if feed.interval is not None:
            panel = self.bars.last(market=market, interval=feed.interval, symbols=[symbol], n=1, as_of=now,
                                   revisions="latest")  # fmt: skip
            return 0 if panel is None else int(panel.closed_at[-1].astype("datetime64[us]").astype(np.int64))
        if KINDS[feed.kind].has_row_id:
            return self._newest_near(feed.kind, market, symbol)
        return self.newest_of(feed.kind, market, symbol)

    def _newest_near(self, kind: str, market: str, symbol: str) -> int:
        """Return the newest event of the last hour: the newest of all would open a whole day of trades."""
        now = self.clock.now()
        near = self.tables.read(
            kind, market=market, symbols=[symbol], start=now - timedelta(hours=1), end=now + timedelta(minutes=1),
            as_of=EVER, columns=("event_at",), revisions="first",
        )  # fmt: skip
        return int(_micros(near)[-1]) if near.num_rows else 0

    def newest_of(self, kind: str, market: str, symbol: str) -> int:
        """Return the newest stored event of a table's symbol, as newest_us."""
        return newest_events(self.tables, kind, market=market, symbols=[symbol]).get(symbol, 0)

    def store(self, feed: Feed, symbol: str, rows: Sequence[VenueRow], count: Count) -> list[Refused]:
        """
        Store rows of one symbol, by time, and count them; return those that cannot be of this unit.

        Rows with an id of the venue's own (trades, books) never change: they have no revisions. Of a book the levels
        near the mid are stored.

        Raises:
            Transient: as the store.
        """
        taken = [near_book(row) for row in rows] if feed.is_snapshot else rows
        table = self.as_known(feed.kind, venue_table(feed.kind, symbol, taken, source=f"ccxt:{self.venue}"))
        return self.write(feed.kind, self.market(feed), symbol, table, count)

    def bar_table(self, symbol: str, rows: Sequence[VenueRow]) -> pa.Table:
        """Return bars as store_bars takes them, a hundred bytes each where the venue's rows are four times as much."""
        return venue_table("bars", symbol, rows, source=f"ccxt:{self.venue}")

    def store_bars(self, feed: Feed, rows: Mapping[str, pa.Table], count: Count) -> list[Refused]:
        """
        Store bars of all symbols together and count them; return those that cannot be bars of this unit.

        Bars of before the stored end are late, known now: all of a symbol that was added, or that failed before.

        Raises:
            Malformed, Transient: as BarWriter.
        """
        assert feed.interval is not None, "a feed of bars"
        tables, refused = list[pa.Table](), list[Refused]()
        for symbol, table in rows.items():
            if 0 < table.num_rows < BLOCK_ROWS:
                table, far = self._without_jumps("bars", f"{self.market(feed)}.{feed.interval}", table,
                                                 self._bars_before(feed, symbol, table))  # fmt: skip
                refused += far
            tables.append(table)
        for row in refused:
            count.refuse(row.reason)
        together = pa.concat_tables(tables) if tables else None
        if together is not None and together.num_rows:
            writer = BarWriter(self.bars, self.market(feed), feed.interval, count, origin=Origin.REAL)
            refused += writer.write(together, last_may_form=False, known_at=self.clock.now())
        return refused

    def _bars_before(self, feed: Feed, symbol: str, rows: pa.Table) -> dict[str, FloatArray]:
        """Return the newest stored closes of before the first of some rows, in any revision."""
        assert feed.interval is not None, "a feed of bars"
        panel = self.bars.last(market=self.market(feed), interval=feed.interval, symbols=[symbol], n=2 * BLOCK_ROWS,
                               as_of=EVER, revisions="latest")  # fmt: skip
        if panel is None:
            return {"close": np.empty(0)}
        is_before = panel.closed_at.astype("datetime64[us]").astype(np.int64) < int(_micros(rows).min())
        close = panel.close[is_before, 0]
        return {"close": close[~np.isnan(close)]}

    def as_known(self, kind: str, table: pa.Table) -> pa.Table:
        """Return the rows with the time at which this lake could first have known them."""
        known = np.asarray(table["known_at"].cast(pa.int64()).to_numpy(), dtype=np.int64)
        since, received = micros_of(self.live_since), micros_of(self.clock.now())
        is_live = known > since
        if not self.is_new:
            stale_s = KINDS[kind].stale_after_s
            is_live |= _micros(table) >= (0 if stale_s is None else since - stale_s * 1_000_000)
        told = np.where(is_live, np.maximum(known, received), known)
        return table.set_column(table.schema.get_field_index("known_at"), "known_at", pa.array(told).cast(US))

    def write(self, kind: str, market: str, symbol: str, table: pa.Table, count: Count) -> list[Refused]:
        """
        Store rows of one symbol that are as_known, by time, and count them; return those of another unit.

        Raises:
            Transient: as the store.
        """
        table = self.quarantined.without(self.tables, kind, market, table)
        if table.num_rows == 0:
            return []
        writer = TableWriter(self.tables, TableRule(kind, market, symbol, Instant("event_at"), {}), market,
                             has_revisions=True)  # fmt: skip
        if KINDS[kind].has_row_id:
            return self._stored(writer, table, count)
        event = _micros(table)
        stored = self.tables.read(
            kind, market=market, symbols=[symbol], start=instant_of(int(event.min()) - 1),
            end=instant_of(int(event.max())), as_of=EVER,
        )  # fmt: skip
        new, n_repeated = with_revisions(kind, table, stored, received_at=self.clock.now())
        count.add(n_repeated=n_repeated)
        new, refused = self._without_jumps(kind, market, new, self._rows_before(kind, market, symbol, new))
        for row in refused:
            count.refuse(row.reason)
        if new.num_rows:
            count.reasons[REVISED] += int((np.asarray(new["revision"]) > 0).sum())
            refused += self._stored(writer, new, count)
        return refused

    def _stored(self, writer: TableWriter, rows: pa.Table, count: Count) -> list[Refused]:
        """Store rows; those that the store itself does not take leave the count of every later poll."""
        n_before = count.n_quarantined
        refused = writer.write(rows, count)
        if count.n_quarantined - n_before > len(refused):
            self.quarantined.forget(writer.rule.kind, writer.market)
        return refused

    def _rows_before(self, kind: str, market: str, symbol: str, rows: pa.Table) -> dict[str, FloatArray]:
        """Return the newest stored values of before the first of some rows, of the fields that have a level."""
        names = DRIFT_FIELDS.get(kind, ())
        if not names or not rows.num_rows:
            return {}
        before = self.tables.last(kind, market=market, symbols=[symbol], n=2 * BLOCK_ROWS, as_of=EVER)
        return _values(before.filter(pa.array(_micros(before) < int(_micros(rows).min()))), names)

    def _without_jumps(
        self, kind: str, market: str, rows: pa.Table, before: dict[str, FloatArray]
    ) -> tuple[pa.Table, list[Refused]]:
        # A block of rows is judged by its median when it is written; what is less is judged row by row.
        if not before or not 0 < rows.num_rows < BLOCK_ROWS:
            return rows, []
        found = find_jumps(kind, _values(rows, tuple(before)), before)
        refused = [
            Refused(kind, market, i, why, as_received(rows.slice(i, 1).to_pylist()[0]))
            for i, why in sorted(found.items())
        ]
        keep = np.ones(rows.num_rows, dtype=bool)
        keep[list(found)] = False
        return rows.filter(pa.array(keep)), refused


def _values(table: pa.Table, names: Sequence[str]) -> dict[str, FloatArray]:
    return {name: np.asarray(table[name].to_numpy(zero_copy_only=False), dtype=np.float64) for name in names}


def _micros(table: pa.Table) -> Int64Array:
    return np.asarray(table["event_at"].cast(pa.int64()).to_numpy(), dtype=np.int64)
