"""Polled rows into the stores: known when they were received, changed ones as revisions, other units kept apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np
import pyarrow as pa

from qraft_contracts.origin import Origin
from qraft_runtime.clock import Clock
from qraft_store.bars.port import BarStore
from qraft_store.tables.port import TableStore
from svc_ingest.domain.clock_times import US
from svc_ingest.domain.datasets import Instant, TableRule
from svc_ingest.domain.derive import basis_frac
from svc_ingest.domain.drift import BLOCK_ROWS, DRIFT_FIELDS
from svc_ingest.domain.polling import BASIS_INTERVAL
from svc_ingest.domain.raw import FloatArray, Int64Array, instant_of, micros_of
from svc_ingest.domain.shaping import Refused, as_received
from svc_ingest.domain.tally import Count
from svc_ingest.domain.venue_feeds import Feed, VenueRow
from svc_ingest.domain.venue_rows import find_jumps, venue_table, with_revisions
from svc_ingest.usecases.collect_bars import BarWriter
from svc_ingest.usecases.collect_tables import TableWriter

# Counts rows that follow a stored one with other values.
REVISED: Final = "kept: revision"
_EVER: Final = datetime(2200, 1, 1, tzinfo=UTC)
# How far back the basis is looked for where none is stored: as long as features of it look back.
_BASIS_DAYS_MAX: Final = 30


@dataclass(frozen=True, slots=True)
class PollRows:
    """
    Writes what polls bring. venue: its name, such as `binance`.

    live_since: when this lake was polled for the first time. What a venue had told before is known when it told it, as
    a back-fill has it; what came since is known when we received it, also after a pause of ours: a model must not see
    in training what the line did not see.
    """

    venue: str
    bars: BarStore
    tables: TableStore
    clock: Clock
    live_since: datetime

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
        return self._newest_of(feed.kind, market, symbol)

    def newest_basis_us(self, symbol: str) -> int:
        """Return the newest stored basis of a symbol, as newest_us."""
        return self._newest_of("basis", f"{self.venue}.perp", symbol)

    def _newest_of(self, kind: str, market: str, symbol: str) -> int:
        rows = self.tables.last(kind, market=market, symbols=[symbol], n=1, as_of=_EVER)
        return int(rows["event_at"].cast(pa.int64())[0].as_py()) if rows.num_rows else 0

    def store(self, feed: Feed, symbol: str, rows: Sequence[VenueRow], count: Count) -> list[Refused]:
        """
        Store rows of one symbol, by time, and count them; return those that cannot be of this unit.

        Raises:
            Transient: as the store.
        """
        table = self._as_known(venue_table(feed.kind, symbol, rows, source=f"ccxt:{self.venue}"))
        return self._write(feed.kind, self.market(feed), symbol, table, count)

    def store_bars(self, feed: Feed, rows: Sequence[tuple[str, Sequence[VenueRow]]], count: Count) -> list[Refused]:
        """Store bars of all symbols together; those of before the stored end are late, known now."""
        assert feed.interval is not None, "a feed of bars"
        tables = [venue_table("bars", symbol, found, source=f"ccxt:{self.venue}") for symbol, found in rows if found]
        if not tables:
            return []
        writer = BarWriter(self.bars, self.market(feed), feed.interval, count, origin=Origin.REAL)
        return writer.write(pa.concat_tables(tables), last_may_form=False, known_at=self.clock.now())

    def store_basis(self, symbols: Sequence[str], overlap: timedelta, count: Count) -> None:
        """Derive the basis of stored bars from the newest stored one on; known once both bars are here."""
        market, spot_market = f"{self.venue}.perp", f"{self.venue}.spot"
        now = self.clock.now()
        for symbol in symbols:
            newest = self._newest_of("basis", market, symbol)
            start = max(instant_of(newest) - overlap, now - timedelta(days=_BASIS_DAYS_MAX))
            panels = [
                self.bars.read(market=it, interval=BASIS_INTERVAL, symbols=[symbol], start=start, end=now)
                for it in (spot_market, market)
            ]
            if panels[0] is None or panels[1] is None:
                continue
            spot, future = panels[0].close[:, 0], panels[1].close[:, 0]
            there = ~(np.isnan(spot) | np.isnan(future))
            closed_at = panels[0].closed_at.astype("datetime64[ms]").astype(np.int64)[there]
            columns = (closed_at, spot[there], future[there], basis_frac(spot[there], future[there]))
            rows = [
                VenueRow(at, at, {"spot_price": left, "future_price": right, "basis_frac": frac})
                for at, left, right, frac in zip(*(column.tolist() for column in columns), strict=True)
            ]
            if rows:
                table = self._as_known(venue_table("basis", symbol, rows, source="derived:bars"))
                self._write("basis", market, symbol, table, count)

    def _as_known(self, table: pa.Table) -> pa.Table:
        """Return the rows with the time at which this lake could first have known them."""
        known = np.asarray(table["known_at"].cast(pa.int64()).to_numpy(), dtype=np.int64)
        received = micros_of(self.clock.now())
        told = np.where(known > micros_of(self.live_since), np.maximum(known, received), known)
        return table.set_column(table.schema.get_field_index("known_at"), "known_at", pa.array(told).cast(US))

    def _write(self, kind: str, market: str, symbol: str, table: pa.Table, count: Count) -> list[Refused]:
        event = _micros(table)
        stored = self.tables.read(
            kind, market=market, symbols=[symbol], start=instant_of(int(event.min()) - 1),
            end=instant_of(int(event.max())), as_of=_EVER,
        )  # fmt: skip
        new, n_repeated = with_revisions(kind, table, stored, received_at=self.clock.now())
        count.add(n_repeated=n_repeated)
        new, refused = self._without_jumps(kind, market, symbol, new)
        for row in refused:
            count.refuse(row.reason)
        if new.num_rows:
            count.reasons[REVISED] += int((np.asarray(new["revision"]) > 0).sum())
            rule = TableRule(kind, market, symbol, Instant("event_at"), {})
            refused += TableWriter(self.tables, rule, market, has_revisions=True).write(new, count)
        return refused

    def _without_jumps(self, kind: str, market: str, symbol: str, rows: pa.Table) -> tuple[pa.Table, list[Refused]]:
        names = DRIFT_FIELDS.get(kind, ())
        if not names or not rows.num_rows:
            return rows, []
        # A block of rows is judged by its median when it is written; what is less is judged row by row.
        if rows.num_rows >= BLOCK_ROWS:
            return rows, []
        before = self.tables.last(kind, market=market, symbols=[symbol], n=2 * BLOCK_ROWS, as_of=_EVER)
        before = before.filter(pa.array(_micros(before) < int(_micros(rows).min())))
        found = find_jumps(kind, _values(rows, names), _values(before, names))
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
