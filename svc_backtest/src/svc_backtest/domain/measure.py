"""From a simulation to the numbers of the result."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import numpy as np

from qraft_quant.allocation import AllocationLimits, edge_and_score
from qraft_quant.measures import max_drawdown, sharpe
from svc_backtest.domain.market import FloatArray, HorizonForecasts, Market
from svc_backtest.domain.result import ScoreDistribution, Span
from svc_backtest.domain.simulate import OrderLine, Simulation

_DAY_S: Final = 86_400
_DAYS_A_YEAR: Final = 365.0
_N_BINS: Final = 40
_QUANTILES: Final = (0.0, 0.1, 0.5, 0.9, 0.99, 1.0)


def measure_span(name: str, market: Market, run: Simulation, *, start: int, end: int, start_cash: float) -> Span:
    """
    Return the numbers of bars start..end - 1 of the run (offsets into its arrays).

    An order belongs to the span of the bar on which it was decided; equity before the span is the close before it.
    """
    before = start_cash if start == 0 else float(run.equity[start - 1])
    curve = np.concatenate([[before], run.equity[start:end]])
    orders = [order for order in run.orders if start <= order.bar - run.first < end]
    fee, half_spread, slippage, impact, drift = (
        math.fsum(getattr(order, part) for order in orders)
        for part in ("fee", "half_spread", "slippage", "impact", "drift")
    )
    traded = math.fsum(abs(order.filled) * order.fill_price for order in orders if order.filled != 0.0)
    daily = daily_returns(market, run, start=start, end=end, start_cash=start_cash)
    ratio = sharpe(daily, periods_per_year=_DAYS_A_YEAR)
    turnover = traded / float(curve.mean())
    n_full = sum(order.filled == order.quantity for order in orders)
    n_partial = sum(order.filled not in (0.0, order.quantity) for order in orders)
    closed_at_s = market.closed_at_s[run.first + start : run.first + end]
    return Span(
        name=name,
        first_at=_instant(closed_at_s[0]),
        last_at=_instant(closed_at_s[-1]),
        n_bars=end - start,
        n_bars_held=int(run.is_held[start:end].sum()),
        total_return=float(curve[-1] / before - 1.0),
        return_before_costs=float((curve[-1] + fee + half_spread + slippage + impact) / before - 1.0),
        market_return=_market_return(market, first=run.first + start, last=run.first + end - 1),
        sharpe=_known(ratio),
        sharpe_standard_error=_known(_standard_error(ratio, daily.size)),
        n_observations=int(daily.size),
        max_drawdown=max_drawdown(curve),
        turnover=turnover,
        turnover_per_day=turnover * _DAY_S / max(float(closed_at_s[-1] - closed_at_s[0]), 1.0),
        n_orders=len(orders),
        n_orders_full=n_full,
        n_orders_partial=n_partial,
        n_orders_expired=len(orders) - n_full - n_partial,
        fee=fee,
        half_spread=half_spread,
        slippage=slippage,
        impact=impact,
        drift=drift,
        gross_mean=float(run.gross[start:end].mean()),
        gross_max=float(run.gross[start:end].max()),
        net_mean=float(run.net[start:end].mean()),
        n_passed=int(run.n_passed[start:end].sum()),
    )


def daily_returns(market: Market, run: Simulation, *, start: int, end: int, start_cash: float) -> FloatArray:
    """Return simple returns between the UTC midnights of the span, (n_days,); part days at its ends are left out."""
    closed_at_s = market.closed_at_s[run.first + start : run.first + end]
    step_s = market.closed_at_s[1] - market.closed_at_s[0]
    before = start_cash if start == 0 else float(run.equity[start - 1])
    at_s = np.concatenate([closed_at_s[:1] - step_s, closed_at_s])
    equity = np.concatenate([[before], run.equity[start:end]])[at_s % _DAY_S == 0]
    return np.diff(equity) / equity[:-1] if equity.size > 1 else np.empty(0)


def score_distribution(forecasts: HorizonForecasts, limits: AllocationLimits, *, first: int) -> ScoreDistribution:
    """Return the distribution of a horizon's scores from bar `first` on, rows without a usable number left out."""
    rows = slice(int(forecasts.first_row[first]), None)
    volatility = forecasts.volatility[rows]
    _, score = edge_and_score(forecasts.expected_return[rows], volatility=volatility, cost=forecasts.cost)
    known = np.sort(score[np.isfinite(score) & (volatility > 0.0)])
    threshold = limits.score_min[forecasts.horizon]
    counts, edges = np.histogram(known, bins=_N_BINS) if known.size else (np.empty(0, np.int64), np.empty(0))
    return ScoreDistribution(
        horizon=forecasts.horizon,
        bucket=forecasts.bucket,
        cost=forecasts.cost,
        threshold=threshold,
        n_rows=int(score.size),
        n_above=int((known >= threshold).sum()),
        quantiles={f"p{100 * q:g}": float(np.quantile(known, q)) for q in _QUANTILES} if known.size else {},
        distance=float(threshold - known[-1]) if known.size else None,
        edges=tuple(edges.tolist()),
        histogram=tuple(counts.tolist()),
    )


def order_list(market: Market, orders: Sequence[OrderLine]) -> bytes:
    """Return every order and its fill as text, one a line, numbers written exactly: two equal runs, equal bytes."""
    lines = ["decided_at_s,symbol,quantity,theoretical_price,target_weight,policy,reason,filled,fill_price,fee"]
    for order in orders:
        numbers = (order.quantity, order.theoretical_price, order.target_weight)
        fills = (order.filled, order.fill_price, order.fee)
        lines.append(
            f"{market.closed_at_s[order.bar]},{order.symbol},{','.join(map(repr, numbers))},"
            f"{order.policy},{order.reason},{','.join(map(repr, fills))}"
        )
    return ("\n".join(lines) + "\n").encode()


def _market_return(market: Market, *, first: int, last: int) -> float | None:
    """Return the mean return of the symbols that have a close at both ends."""
    ratio = market.close[last] / market.close[first]
    known = ratio[np.isfinite(ratio)]
    return float(known.mean() - 1.0) if known.size else None


def _standard_error(ratio: float, n: int) -> float:
    """Lo (2002), The Statistics of Sharpe Ratios, eq. 9, annualized."""
    if n < 2 or not math.isfinite(ratio):
        return math.nan
    daily = ratio / math.sqrt(_DAYS_A_YEAR)
    return math.sqrt((1.0 + 0.5 * daily * daily) / n * _DAYS_A_YEAR)


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _instant(unix_s: np.int64) -> datetime:
    return datetime.fromtimestamp(int(unix_s), tz=UTC)
