"""Audit a lake: read every series of every kind in a window and judge it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Final

import msgspec
import numpy as np
import pyarrow as pa

from qraft_contracts.kinds import KINDS
from qraft_contracts.snapshots import REQUIRED_KINDS
from qraft_contracts.subjects import INTERVAL_SECONDS
from qraft_contracts.times import format_instant
from qraft_data.audit.bar_rows import BarRows
from qraft_data.audit.expectation import Thresholds, Window, owed_times, recent_part
from qraft_data.audit.findings import AUDIT_FORMAT, Audit, Quarantined, SeriesAudit, Verdict
from qraft_data.audit.judge import Rows, judge
from qraft_data.times import SECOND_US, Int64Array, float_column, micros_column
from qraft_store.bars.port import BarStore
from qraft_store.tables.port import TableStore

# Values whose size may not change from one stretch to the next; what is 0 most of the time says nothing.
_SIZED: Final = {
    "bars": ("close",),
    "mark_price": ("close",),
    "quote_bars": ("bid_close",),
    "funding": ("funding_rate",),
    "open_interest": ("open_interest_usd",),
    "long_short": ("account_ratio",),
    "macro": ("value",),
    "onchain": ("value",),
    "trades": ("price",),
}
_PRICES: Final = {"bars": "close", "mark_price": "close", "quote_bars": "bid_close"}
# Times of a table are rounded to the grid when they are this near: venues stamp settlements some milliseconds late.
_NEAR_US: Final = 60_000_000
# Rows that a series may owe at a pace that its own rows tell: venues settle every 1, 4 or 8 hours, 70,000 since 2018.
OWED_BY_ROWS_MAX: Final = 500_000


@dataclass(slots=True)
class Auditor:
    """
    What an audit needs. on_series: called with (done, total) as series are judged.

    line_market: the market whose bars svc_ingest publishes; state_market: whose tables are the state of its symbols.
    """

    bars: BarStore
    tables: TableStore
    thresholds: Thresholds
    on_series: Callable[[int, int], None]
    line_market: str = ""
    state_market: str = ""

    def audit(self, *, mode: str, market: str, interval: str, window: Window) -> Audit:
        """
        Judge everything that is stored, and say what the market lacks for training.

        Args:
            mode: production or full; it names the audit, `window` is what is read.
            market: whose series decide whether the lake is ready.
            interval: of the bars that decide.
        """
        work = [("bars", name, grid) for grid in INTERVAL_SECONDS for name in self.bars.markets(grid)]
        work += [(kind, name, "") for kind in KINDS if kind != "bars" for name in self.tables.markets(kind)]
        found: list[SeriesAudit] = []
        for done, (kind, name, grid) in enumerate(work):
            found += self._bars(name, grid, window) if kind == "bars" else self._table(kind, name, window)
            self.on_series(done + 1, len(work))
        # The line's own market holds bars only; the state that its messages carry lies under another name.
        state = self.state_market if market == self.line_market and self.state_market else market
        found += self._absent(found, market, state, interval, window)
        found = [msgspec.structs.replace(it, is_required=_decides(it, market, state, interval)) for it in found]
        required = [it for it in found if it.is_required]
        n_ready = sum(it.verdict is Verdict.READY for it in required)
        return Audit(
            format=AUDIT_FORMAT,
            mode=mode,
            start=format_instant(window.start),
            end=format_instant(window.end),
            market=market,
            ready=bool(required) and n_ready == len(required),
            n_required=len(required),
            n_ready=n_ready,
            thresholds=asdict(self.thresholds),
            series=tuple(sorted(found, key=lambda it: (it.kind, it.market, it.interval, it.symbol))),
            quarantined=tuple(self._quarantined()),
            versions=self._versions(work),
        )

    def _bars(self, market: str, interval: str, window: Window) -> list[SeriesAudit]:
        read = BarRows(self.bars, market, interval, window)
        found = []
        for symbol in self.bars.symbols(market=market, interval=interval):
            times, close, n_revised = read.of(symbol)
            owed = owed_times("bars", market=market, interval=interval, symbol=symbol, window=window)
            rows = Rows("bars", market, interval, symbol, times, {"close": close}, n_revised, read.origins)
            found.append(judge(rows, owed, window=window, part=window, thresholds=self.thresholds, sized=_SIZED["bars"],
                               priced="close", line_market=self.line_market))  # fmt: skip
        return found

    def _table(self, kind: str, market: str, window: Window) -> list[SeriesAudit]:
        names = tuple(name for name in (*_SIZED.get(kind, ()), *_extra(kind)))
        # A settlement that is due at the end of the window may be stamped a little later.
        table = self.tables.read(
            kind, market=market, symbols=None, start=window.start, end=window.end + timedelta(microseconds=_NEAR_US),
            columns=("symbol", "event_at", "revision", "origin", *names), revisions="all",
        )  # fmt: skip
        part = recent_part(KINDS[kind], window)
        found = []
        symbols = np.asarray(table["symbol"].to_pylist(), dtype=object)
        for symbol in self.tables.symbols(kind, market=market):
            mine = table.filter(pa.array(symbols == symbol))
            rows = _rows(kind, market, symbol, mine, names)
            step_s, fault = _pace(mine, part) if kind == "funding" else (None, "")
            owed = owed_times(kind, market=market, interval="", symbol=symbol, window=part, step_s=step_s)
            _keep_window(rows, owed, window)
            one = judge(rows, owed, window=window, part=part, thresholds=self.thresholds,
                        sized=_SIZED.get(kind, ()), priced=_PRICES.get(kind, ""))  # fmt: skip
            if fault:
                one = msgspec.structs.replace(one, verdict=Verdict.NOT_READY, reasons=(fault, *one.reasons))
            found.append(one)
        return found

    def _absent(
        self, found: list[SeriesAudit], market: str, state: str, interval: str, window: Window
    ) -> list[SeriesAudit]:
        """Return a finding for each required kind of each symbol with bars of which there is nothing at all."""
        there = {(it.kind, it.market, it.symbol) for it in found if it.interval in ("", interval)}
        symbols = sorted({it.symbol for it in found if it.n_rows and _is_bars(it, market, interval)}) or [""]
        kinds = {kind for kind, name, _ in there if name == (market if kind == "bars" else state)}
        return [
            self._nothing_stored(kind, name, symbol, interval if kind == "bars" else "", window)
            for kind in REQUIRED_KINDS
            for name in [market if kind == "bars" else state]
            for symbol in (symbols if kind in kinds else [""])
            if (kind, name, symbol) not in there and not (symbol == "" and kind in kinds)
        ]

    def _nothing_stored(self, kind: str, market: str, symbol: str, interval: str, window: Window) -> SeriesAudit:
        """Return the finding of a required kind without a row. symbol: "" = of no symbol."""
        part = recent_part(KINDS[kind], window)
        names = {*_SIZED.get(kind, ()), *filter(None, [_PRICES.get(kind, "")])}
        nothing = Rows(kind, market, interval, symbol, np.empty(0, dtype=np.int64),
                       {name: np.empty(0) for name in names}, 0, ())  # fmt: skip
        owed = owed_times(kind, market=market, interval=interval, symbol=symbol, window=part)
        found = judge(nothing, owed, window=window, part=part, thresholds=self.thresholds, sized=(), priced="",
                      line_market=self.line_market)  # fmt: skip
        return msgspec.structs.replace(
            found,
            verdict=Verdict.NOT_READY,
            reasons=(f"nothing of {kind} is stored for {f'{market} {symbol}'.strip()}",),
        )

    def _quarantined(self) -> list[Quarantined]:
        counts: Counter[tuple[str, str, str]] = Counter()
        for kind in KINDS:
            if kind == "bars":
                continue
            for market in self.tables.markets(kind):
                for reason in self.tables.quarantine(kind, market=market)["reason"].to_pylist():
                    counts[kind, market, str(reason)] += 1
        return [Quarantined(kind=k, market=m, reason=r, n=n) for (k, m, r), n in sorted(counts.items())]

    def _versions(self, work: list[tuple[str, str, str]]) -> dict[str, str]:
        return {
            f"{kind}/{grid}/{name}" if grid else f"{kind}/{name}": (
                self.bars.version(market=name, interval=grid) if grid else self.tables.version(kind, market=name)
            )
            for kind, name, grid in work
        }


def _decides(it: SeriesAudit, market: str, state: str, interval: str) -> bool:
    """Return whether a series is one that training on the market's bars needs."""
    own = market if it.kind == "bars" else state
    is_judged = it.verdict is not Verdict.UNJUDGED
    return it.market == own and is_judged and it.kind in REQUIRED_KINDS and it.interval in ("", interval)


def _is_bars(it: SeriesAudit, market: str, interval: str) -> bool:
    return it.kind == "bars" and it.market == market and it.interval == interval


def _rows(kind: str, market: str, symbol: str, table: pa.Table, names: tuple[str, ...]) -> Rows:
    revision = np.asarray(table["revision"].to_numpy())
    first = table.filter(pa.array(revision == 0))
    times = micros_column(first, "event_at")
    values = {name: float_column(first, name) for name in names}
    origins = tuple(sorted({str(it) for it in table["origin"].unique().to_pylist()}))
    return Rows(kind, market, "", symbol, times, values, int((revision > 0).sum()), origins)


def _extra(kind: str) -> tuple[str, ...]:
    return ("period_hours",) if kind == "funding" else ()


def _pace(table: pa.Table, window: Window) -> tuple[int | None, str]:
    """
    Return the seconds between two settlements as the rows themselves say, None without rows, and why not to trust them.

    Rows may say anything, those of a bundle for example: a pace that no venue has would owe millions of rows, or none.
    """
    told = float_column(table, "period_hours")
    if not told.size:
        return None, ""
    hours = float(np.median(told))
    field = next(it for it in KINDS["funding"].fields if it.name == "period_hours")
    if not field.low <= hours <= field.high:
        return None, f"period_hours is {hours:g}, expected {field.low:g} to {field.high:g}: another unit?"
    step_s = round(hours * 3600)
    n_owed = (window.end_us - window.start_us) // (step_s * SECOND_US)
    if n_owed > OWED_BY_ROWS_MAX:
        return None, (
            f"period_hours is {hours:g}, which owes {n_owed:,} rows in this window, expected at most "
            f"{OWED_BY_ROWS_MAX:,}: another unit?"
        )
    return step_s, ""


def _keep_window(rows: Rows, owed: Int64Array | None, window: Window) -> None:
    """Move times onto the owed ones that they are near, then drop what lies outside the window."""
    if owed is not None:
        rows.times = _on_grid(rows.times, owed)
    inside = (rows.times > window.start_us) & (rows.times <= window.end_us)
    rows.times = rows.times[inside]
    rows.values = {name: values[inside] for name, values in rows.values.items()}


def _on_grid(times: Int64Array, owed: Int64Array) -> Int64Array:
    """Return the times, those near an owed one moved onto it."""
    if not owed.size or not times.size:
        return times
    place = np.clip(np.searchsorted(owed, times), 1, max(1, owed.size - 1))
    left, right = owed[np.maximum(place - 1, 0)], owed[np.minimum(place, owed.size - 1)]
    near = np.where(np.abs(times - left) <= np.abs(times - right), left, right)
    return np.where(np.abs(near - times) <= _NEAR_US, near, times)
