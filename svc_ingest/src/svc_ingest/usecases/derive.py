"""Fallbacks into the lake: taker volume out of trades, basis out of spot and perpetual bars; stored rows come first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import numpy as np
import pyarrow as pa

from qraft_contracts.kinds import KINDS
from qraft_contracts.subjects import INTERVAL_SECONDS
from qraft_store.bars.port import BarPanel, BarStore
from qraft_store.tables.port import TableStore
from svc_ingest.domain.clock_times import US
from svc_ingest.domain.derive import basis_frac, taker_volume
from svc_ingest.domain.raw import Int64Array, instant_of, micros_of
from svc_ingest.domain.shaping import ARROW_TYPES
from svc_ingest.domain.tally import Tally
from svc_ingest.usecases.collect import Selection

TAKER_STEP: Final = timedelta(minutes=5)
# Stretches of time that are read at once; trades of a day of a busy market are some millions.
_TRADES_WINDOW: Final = timedelta(days=1)
_BARS_WINDOW: Final = timedelta(days=60)
_FAR: Final = timedelta(days=36_500)
_STEP_US: Final = TAKER_STEP // timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Deriver:
    """Derives kinds from what the lake holds; rows carry the source `derived:<kind they come from>`."""

    bars: BarStore
    tables: TableStore

    def derive(self, selection: Selection, tally: Tally) -> None:
        """
        Add the rows that can be derived and that no source gave; a second run adds nothing.

        Raises:
            Transient: as the stores.
        """
        if selection.takes("taker_volume"):
            for market in self.tables.markets("trades"):
                for start, end in _windows(self.tables.range("trades", market=market), selection, _TRADES_WINDOW):
                    self._taker_volume(market, start, end, tally)
        if selection.takes("basis"):
            for spot, perp, interval in self._pairs():
                span = self.bars.range(market=perp, interval=interval)
                for start, end in _windows(span, selection, _BARS_WINDOW):
                    self._basis(spot, perp, interval, start, end, tally)

    def _pairs(self) -> list[tuple[str, str, str]]:
        """Return the venues with spot and perpetual bars, each with the shortest interval of both."""
        found: dict[str, tuple[str, str, str]] = {}
        for interval in sorted(INTERVAL_SECONDS, key=INTERVAL_SECONDS.__getitem__):
            markets = set(self.bars.markets(interval))
            for market in sorted(markets):
                venue, _, contract = market.rpartition(".")
                if contract == "spot" and f"{venue}.perp" in markets:
                    found.setdefault(venue, (market, f"{venue}.perp", interval))
        return sorted(found.values())

    def _taker_volume(self, market: str, start: datetime, end: datetime, tally: Tally) -> None:
        trades = self.tables.read(
            "trades", market=market, symbols=None, start=start - TAKER_STEP, end=end + TAKER_STEP, as_of=end + _FAR,
            columns=("symbol", "event_at", "known_at", "row_id", "qty", "is_taker_buy", "origin"),
        )  # fmt: skip
        for symbol in sorted({str(name) for name in trades["symbol"].to_pylist()}):
            own = trades.filter(pa.array(np.asarray(trades["symbol"].to_pylist(), dtype=object) == symbol))
            ids = _numbers([str(name) for name in own["row_id"].to_pylist()])
            found = taker_volume(
                _micros(own, "event_at"), _micros(own, "known_at"), np.asarray(own["qty"].to_numpy()),
                np.asarray(own["is_taker_buy"].to_pylist(), dtype=bool), ids,
                step_us=_STEP_US,
            )  # fmt: skip
            inside = (found.event_us > micros_of(start)) & (found.event_us <= micros_of(end))
            self._add(
                "taker_volume", market, symbol, found.event_us[inside], found.known_us[inside],
                {"buy_volume": found.buy[inside], "sell_volume": found.sell[inside]}, "trades",
                str(own["origin"][0].as_py()), tally,
            )  # fmt: skip

    def _basis(self, spot: str, perp: str, interval: str, start: datetime, end: datetime, tally: Tally) -> None:
        panels = [
            self.bars.read(market=it, interval=interval, symbols=None, start=start, end=end) for it in (spot, perp)
        ]
        left, right = panels
        if left is None or right is None:
            return
        # Both panels lie on the grid of the same range, and first revisions are known when their bar ends: row i of
        # both was known at closed_at[i], and nothing later is used.
        closed_at = left.closed_at.astype("datetime64[us]").astype(np.int64)
        origin = max(left.origin.value, right.origin.value)
        for symbol in sorted(set(left.symbols) & set(right.symbols)):
            spot_close, future = _closes(left, symbol), _closes(right, symbol)
            there = ~(np.isnan(spot_close) | np.isnan(future))
            fields = {
                "spot_price": spot_close[there],
                "future_price": future[there],
                "basis_frac": basis_frac(spot_close[there], future[there]),
            }
            self._add("basis", perp, symbol, closed_at[there], closed_at[there], fields, "bars", origin, tally)

    def _add(
        self, kind: str, market: str, symbol: str, event: Int64Array, known: Int64Array,
        fields: dict[str, Any], came_from: str, origin: str, tally: Tally,
    ) -> None:  # fmt: skip
        if event.size == 0:
            return
        count = tally.of(f"derived:{came_from}", kind, market)
        count.saw(int(event.min()), int(event.max()))
        stored = self.tables.read(
            kind, market=market, symbols=[symbol], start=instant_of(int(event.min()) - 1),
            end=instant_of(int(event.max())), as_of=instant_of(int(event.max())) + _FAR, columns=("event_at",),
        )  # fmt: skip
        is_new = ~np.isin(event, _micros(stored, "event_at"))
        count.add(n_repeated=int((~is_new).sum()))
        if not is_new.any():
            return
        n = int(is_new.sum())
        columns: dict[str, Any] = {
            "symbol": [symbol] * n,
            "event_at": pa.array(event[is_new]).cast(US),
            "known_at": pa.array(known[is_new]).cast(US),
            "row_id": [""] * n,
            "revision": pa.array([0] * n, pa.int32()),
            "origin": [origin] * n,
            "source": [f"derived:{came_from}"] * n,
        }
        for field in KINDS[kind].fields:
            values = fields.get(field.name)
            columns[field.name] = pa.array([None] * n if values is None else values[is_new], ARROW_TYPES[field.type])
        done = self.tables.append(kind, market=market, rows=pa.table(columns))
        count.add(n_new=done.n_new, n_repeated=done.n_repeated)
        if done.n_quarantined:
            count.refuse("kept in the store's quarantine", done.n_quarantined)


def _windows(
    span: tuple[datetime, datetime] | None, selection: Selection, width: timedelta
) -> Iterator[tuple[datetime, datetime]]:
    """Yield the stretches (start, end] of a stored range, cut at what was asked for; bounded by the range itself."""
    if span is None:
        return
    first = span[0].replace(hour=0, minute=0, second=0, microsecond=0)
    first, last = max(first, selection.start or first), min(span[1] + TAKER_STEP, selection.end or span[1] + TAKER_STEP)
    while first < last:
        yield first, min(first + width, last)
        first += width


def _closes(panel: BarPanel, symbol: str) -> Any:
    return panel.close[:, panel.symbols.index(symbol)]


def _micros(table: pa.Table, name: str) -> Int64Array:
    return np.asarray(table[name].cast(pa.int64()).to_numpy(), dtype=np.int64)


def _numbers(ids: list[str]) -> Int64Array | None:
    """Return running numbers; None where the venue names its trades otherwise. Aggregated ones carry an `a`."""
    plain = [text.removeprefix("a") for text in ids]
    prefixed = {text.startswith("a") for text in ids}
    if len(prefixed) != 1 or not all(text.isdecimal() for text in plain):
        return None
    return np.array([int(text) for text in plain], dtype=np.int64)
