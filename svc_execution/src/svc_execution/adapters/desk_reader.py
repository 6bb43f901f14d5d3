"""The desk's reads, on connections of their own: the hot path never waits for them."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Final

import asyncpg
import msgspec
import numpy as np

from qraft_contracts.origin import Origin
from qraft_contracts.outcomes import Transient
from qraft_contracts.subjects import INTERVAL_SECONDS
from qraft_store.bars.port import BarPanel, BarStore
from qraft_store.postgres_pools import as_transient
from svc_execution.adapters import desk_sql, journal_sql
from svc_execution.adapters.database import Database
from svc_execution.adapters.journal_rows import kill_switch_of, mark_of
from svc_execution.domain.decide import TargetsSummary
from svc_execution.domain.desk import FillMark, FillView, OrderView, PricesView, RefusalView
from svc_execution.ports import DeskSnapshot

N_POINTS_MAX: Final = 1_500
N_ORDERS_MAX: Final = 100
N_REFUSALS_MAX: Final = 50


class StoredDesk:
    """The DeskReader port over the journal and the bar store."""

    def __init__(self, database: Database, store: BarStore, *, market: str, interval: str, start_cash: float) -> None:
        self._database = database
        self._store = store
        self._market = market
        self._interval = interval
        self._start_cash = start_cash
        self._step = timedelta(seconds=INTERVAL_SECONDS[interval])

    async def version(self) -> tuple[int, int]:
        """Return (events in the journal, rows of the kill switch)."""
        with as_transient():
            row = await self._database.desk.fetchrow(desk_sql.VERSION, self._market)
        assert row is not None
        return row["n_events"], row["kill_switch_seq"]

    async def snapshot(self) -> DeskSnapshot:
        """Return what the desk shows, all of one moment."""
        market = self._market
        with as_transient():
            async with (
                self._database.desk.acquire() as connection,
                connection.transaction(isolation="repeatable_read", readonly=True),
            ):
                progress = await connection.fetchrow(journal_sql.PROGRESS, market)
                mark = await connection.fetchrow(desk_sql.LAST_MARK, market)
                targets = await connection.fetchrow(desk_sql.LAST_TARGETS, market)
                latest = await connection.fetchrow(desk_sql.SUMMARY, market)
                switch = await connection.fetchrow(journal_sql.KILL_SWITCH)
                series = await connection.fetch(desk_sql.SERIES, market, N_POINTS_MAX)
                orders = await connection.fetch(desk_sql.ORDERS, market, N_ORDERS_MAX)
                refusals = await connection.fetch(desk_sql.REFUSALS, market, N_REFUSALS_MAX)
        return DeskSnapshot(
            start_cash=progress["start_cash"] if progress else self._start_cash,
            origin=Origin(progress["origin"]) if progress and progress["origin"] else None,
            n_events=progress["n_events"] if progress else 0,
            mark=mark_of(mark) if mark else None,
            profile=latest["profile"] if latest else None,
            hold=targets["hold"] if targets else False,
            hold_reason=targets["hold_reason"] if targets else None,
            summary=msgspec.json.decode(latest["summary"], type=TargetsSummary) if latest else None,
            kill_switch=kill_switch_of(switch),
            series=[(row["at"], row["equity"], row["drawdown"]) for row in series],
            orders=[_order_view(row) for row in orders],
            refusals=[RefusalView(**row) for row in map(dict, refusals)],
        )

    async def prices(self, symbol: str, *, limit: int) -> PricesView | None:
        """Return the last bars of a symbol up to the account's last one, with its fills."""
        with as_transient():
            end = await self._database.desk.fetchval(desk_sql.LAST_BAR_AT, self._market)
        if end is None:
            return None
        start = end - limit * self._step
        panel = await asyncio.to_thread(self._read, symbol, start, end)
        if panel is None:
            return None
        with as_transient():
            fills = await self._database.desk.fetch(desk_sql.FILLS_OF_SYMBOL, self._market, symbol, start, end)
        marks = [
            FillMark(
                time=int((row["filled_at"] - self._step).timestamp()),
                side=row["side"],
                price=row["fill_price"],
                quantity=row["quantity"],
                order_id=row["order_id"],
            )
            for row in fills
        ]
        return PricesView(symbol, self._bars(panel), marks)

    def _bars(self, panel: BarPanel) -> list[tuple[int, float, float, float, float, float]]:
        """Return the bars that exist, with the time of their open."""
        closed_s = panel.closed_at.astype("datetime64[s]").astype(np.int64)
        opened_s = (closed_s - int(self._step.total_seconds())).tolist()
        columns = [values[:, 0] for values in (panel.open, panel.high, panel.low, panel.close, panel.volume)]
        rows = np.column_stack(columns)
        whole: list[bool] = np.all(np.isfinite(rows), axis=1).tolist()
        return [(at, *row) for at, row, is_whole in zip(opened_s, rows.tolist(), whole, strict=True) if is_whole]

    def _read(self, symbol: str, start: datetime, end: datetime) -> BarPanel | None:
        try:
            return self._store.read(
                market=self._market,
                interval=self._interval,
                symbols=[symbol],
                start=start,
                end=end,
                as_of=end + self._step,
            )
        except OSError as error:
            raise Transient("bar_store_away", str(error)) from error


def _order_view(row: asyncpg.Record) -> OrderView:
    fill = None
    if row["filled"] is not None:
        amounts = ("fill_price", "fee", "slippage", "impact", "half_spread", "drift", "filled_at")
        fill = FillView(quantity=row["filled"], **{name: row[name] for name in amounts})
    is_left = row["expiry_reason"] is not None
    status = ("partial" if is_left else "filled") if fill else ("expired" if is_left else "open")
    plain = (
        "order_id", "symbol", "side", "quantity", "decided_at", "theoretical_price", "target_weight", "policy",
        "reason", "expiry_reason",
    )  # fmt: skip
    return OrderView(status=status, fill=fill, **{name: row[name] for name in plain})
