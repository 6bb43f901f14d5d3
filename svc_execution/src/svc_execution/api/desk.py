"""What the desk's page asks for, put together: the journal's snapshot, what the process remembers, the prices."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from svc_execution.api.feed import DeskFeed
from svc_execution.domain.account import Account, open_account
from svc_execution.domain.desk import (
    DeskView,
    EquityView,
    HopView,
    KillSwitchView,
    LatenciesView,
    LatencyView,
    PositionView,
    StartingView,
)
from svc_execution.domain.latency import LatencyLog
from svc_execution.ports import DeskReader, DeskSnapshot


class Desk:
    """Answers of the desk. A snapshot is read once for each event in the journal, however many clients ask."""

    def __init__(
        self,
        reader: DeskReader,
        feed: DeskFeed,
        *,
        market: str,
        interval: str,
        symbols: Callable[[], tuple[str, ...]],
    ) -> None:
        self._reader = reader
        self._feed = feed
        self._market = market
        self._interval = interval
        self._symbols = symbols
        self._lock = asyncio.Lock()
        self._version: tuple[int, int] | None = None
        self._snapshot: DeskSnapshot | None = None

    async def view(self) -> DeskView:
        """Return all that the page shows. Raises Transient when the database is away."""
        snapshot = await self._current()
        mark, switch = snapshot.mark, snapshot.kill_switch
        summary = snapshot.summary
        return DeskView(
            origin=snapshot.origin.value if snapshot.origin else None,
            profile=snapshot.profile,
            market=self._market,
            interval=self._interval,
            as_of=mark.closed_at if mark else None,
            replay_speed=self._feed.replay_speed,
            kill_switch=KillSwitchView(switch.engaged, switch.reason, switch.actor, switch.at),
            equity=_equity(snapshot),
            positions=_positions(mark.account, summary.weights if summary else {}) if mark else [],
            orders=snapshot.orders,
            refusals=snapshot.refusals,
            scores=summary.scores if summary else (),
            models=summary.models if summary else (),
            hold=snapshot.hold,
            hold_reason=snapshot.hold_reason,
            latency=_latencies(self._feed.latency),
            symbols=self._symbols(),
        )

    async def _current(self) -> DeskSnapshot:
        async with self._lock:
            version = await self._reader.version()
            if self._snapshot is None or version != self._version:
                self._snapshot = await self._reader.snapshot()
                self._version = version
            return self._snapshot


def _equity(snapshot: DeskSnapshot) -> EquityView:
    account = snapshot.mark.account if snapshot.mark else open_account(snapshot.start_cash)
    totals = account.totals
    return EquityView(
        now=account.equity,
        start=snapshot.start_cash,
        drawdown=account.drawdown,
        drawdown_max=account.drawdown_max,
        pnl=account.equity - snapshot.start_cash,
        fees=totals.fee,
        slippage=totals.slippage,
        half_spread=totals.half_spread,
        impact=totals.impact,
        drift=totals.drift,
        cash=account.cash,
        series=snapshot.series,
    )


def _positions(account: Account, target_weights: dict[str, float]) -> list[PositionView]:
    return [
        PositionView(
            symbol=symbol,
            quantity=position.quantity,
            price=position.close,
            notional=position.quantity * position.close,
            weight=position.quantity * position.close / account.equity if account.equity > 0.0 else 0.0,
            target_weight=target_weights.get(symbol, 0.0),
            average_price=position.average_price,
            unrealized_pnl=position.quantity * (position.close - position.average_price),
        )
        for symbol, position in account.positions.items()
    ]


def _latencies(log: LatencyLog) -> LatenciesView:
    total = log.total()
    return LatenciesView(
        hops=[HopView(hop.name, hop.p50_ms, hop.p99_ms, hop.n) for hop in log.hops()],
        total=LatencyView(total.p50_ms, total.p99_ms, total.n),
        starting=StartingView(log.starting.n, log.starting.max_ms),
    )
