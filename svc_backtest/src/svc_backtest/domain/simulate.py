"""
One paper account over the out-of-fold bars, in the order of the live line: fill the orders of the last bar on this
one, mark, allocate on this bar's forecasts, decide orders. Allocation and execution are the code that runs live.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from qraft_quant.allocation import Allocation, AllocationLimits, Correlations, allocate, weekly_correlations
from qraft_quant.costs import CostModel, policy_of_horizon
from qraft_quant.execution import (
    N_BARS_VOLATILITY,
    ORDER_REASONS,
    POLICY_LONG,
    POLICY_SHORT,
    bar_volatility,
    decide_orders,
    fill_orders,
    fill_rates,
    is_order,
    mark,
    position_after,
    settle,
)
from svc_backtest.domain.market import FloatArray, HorizonForecasts, IntArray, Market

_DAY_S: Final = 86_400
_POLICY_NAMES: Final = {POLICY_SHORT: "short", POLICY_LONG: "long"}


@dataclass(frozen=True, slots=True)
class AccountTerms:
    """The paper account: as svc_execution's settings. band: fraction of equity; the others quote currency."""

    start_cash: float
    band: float
    min_notional: float
    # Hourly returns that a pair must share, else its correlation is unknown; as svc_allocator's setting.
    n_common_returns_min: int


@dataclass(frozen=True, slots=True)
class OrderLine:
    """One order and what it got on the next bar. quantity, filled: signed base asset; costs: quote currency."""

    bar: int
    symbol: str
    quantity: float
    theoretical_price: float
    target_weight: float
    policy: str
    reason: str
    filled: float = 0.0
    fill_price: float = float("nan")
    drift: float = 0.0
    half_spread: float = 0.0
    slippage: float = 0.0
    impact: float = 0.0
    fee: float = 0.0


@dataclass(slots=True)
class Simulation:
    """
    The account bar by bar, over bars first..last of the market. equity, gross, net: (n_bars,), the latter two as
    fractions of equity at the close; is_held: no forecast, so nothing was decided.
    """

    first: int
    equity: FloatArray
    gross: FloatArray
    net: FloatArray
    is_held: np.typing.NDArray[np.bool_]
    n_passed: IntArray
    orders: list[OrderLine] = field(default_factory=list)
    refused: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Pending:
    """Orders waiting for the next bar: columns of the market, and arrays (n_orders,)."""

    columns: IntArray
    quantities: FloatArray
    policies: np.typing.NDArray[np.int8]
    theoretical_price: FloatArray
    sigma_bar: FloatArray
    lines: tuple[OrderLine, ...]


class Account:
    """The folded state of one run."""

    def __init__(self, market: Market, *, costs: CostModel, terms: AccountTerms) -> None:
        n = len(market.symbols)
        self._market = market
        self._column = {symbol: i for i, symbol in enumerate(market.symbols)}
        self._rates = fill_rates(costs)
        self._terms = terms
        self._cash = terms.start_cash
        self._positions = np.zeros(n)
        self._close = np.full(n, np.nan)
        self._pending: _Pending | None = None
        self.equity = terms.start_cash

    def trade(self, bar: int) -> list[OrderLine]:
        """Fill what was decided on the bar before, mark at this bar's close, return the orders with their fills."""
        done = self._fill(bar) if self._pending is not None else []
        close = self._market.close[bar]
        self._close = np.where(np.isfinite(close), close, self._close)
        self.equity = mark(cash=self._cash, positions=self._positions, close=self._close)
        assert np.isfinite(self.equity), f"a position without a price at bar {bar}"
        return done

    def exposure(self) -> tuple[float, float]:
        """Return gross and net notional as fractions of equity."""
        notional = np.where(self._positions != 0.0, self._positions * np.nan_to_num(self._close), 0.0)
        return float(np.abs(notional).sum() / self.equity), float(notional.sum() / self.equity)

    def decide(self, bar: int, allocation: Allocation) -> None:
        """Turn targets into orders for the next bar. A held symbol that is not named has the target 0."""
        weights = np.zeros(len(self._market.symbols))
        # Leaving a symbol that no target names pays for the short policy, as in svc_execution.
        policies = np.full(weights.size, POLICY_SHORT, dtype=np.int8)
        for target in allocation.targets:
            at = self._column[target.symbol]
            weights[at] = target.weight
            policies[at] = POLICY_LONG if policy_of_horizon(target.dominant) == "long" else POLICY_SHORT
        close = self._market.close[bar]
        decisions = decide_orders(
            target_weights=weights,
            positions=self._positions,
            close=close,
            valid=np.isfinite(close),
            equity=self.equity,
            band=self._terms.band,
            min_notional=self._terms.min_notional,
        )
        columns = np.array([i for i in range(weights.size) if is_order(int(decisions.codes[i]))], dtype=np.int64)
        if columns.size:
            self._keep(bar, columns, decisions.quantities, decisions.codes, weights, policies)

    def _keep(
        self,
        bar: int,
        columns: IntArray,
        quantities: FloatArray,
        codes: np.typing.NDArray[np.int8],
        weights: FloatArray,
        policies: np.typing.NDArray[np.int8],
    ) -> None:
        window = self._market.close[max(bar - N_BARS_VOLATILITY, 0) : bar + 1]
        sigma = bar_volatility(np.ascontiguousarray(window[:, columns]))
        # No volatility, no impact estimate, no order: as in svc_execution.
        columns, sigma = columns[np.isfinite(sigma)], sigma[np.isfinite(sigma)]
        close = self._market.close[bar, columns]
        lines = tuple(
            OrderLine(
                bar=bar,
                symbol=self._market.symbols[i],
                quantity=float(quantities[i]),
                theoretical_price=float(close[k]),
                target_weight=float(weights[i]),
                policy=_POLICY_NAMES[int(policies[i])],
                reason=ORDER_REASONS[codes[i]],
            )
            for k, i in enumerate(columns.tolist())
        )
        if lines:
            self._pending = _Pending(columns, quantities[columns], policies[columns], close, sigma, lines)

    def _fill(self, bar: int) -> list[OrderLine]:
        pending, self._pending = self._pending, None
        assert pending is not None
        at = pending.columns
        fills = fill_orders(
            quantities=pending.quantities,
            policies=pending.policies,
            theoretical_price=pending.theoretical_price,
            open_price=self._market.open[bar, at],
            volume=self._market.volume[bar, at],
            valid=np.isfinite(self._market.close[bar, at]),
            sigma_bar=pending.sigma_bar,
            rates=self._rates,
        )
        self._cash = settle(cash=self._cash, quantities=fills.quantities, fill_price=fills.fill_price, fee=fills.fee)
        for k, i in enumerate(at.tolist()):
            self._positions[i] = position_after(self._positions[i], fills.quantities[k])
        return [
            replace(
                line,
                filled=float(fills.quantities[k]),
                fill_price=float(fills.fill_price[k]),
                drift=float(fills.drift[k]),
                half_spread=float(fills.half_spread[k]),
                slippage=float(fills.slippage[k]),
                impact=float(fills.impact[k]),
                fee=float(fills.fee[k]),
            )
            for k, line in enumerate(pending.lines)
        ]

    def unfilled(self) -> tuple[OrderLine, ...]:
        """Return the orders of the last bar, which no bar came to fill."""
        return self._pending.lines if self._pending is not None else ()


def simulate(
    market: Market,
    forecasts: Sequence[HorizonForecasts],
    *,
    first: int,
    limits: AllocationLimits,
    costs: CostModel,
    terms: AccountTerms,
    tell: Callable[[int, int], None],
) -> Simulation:
    """
    Return the account over bars first..end of the market. Bar t uses bars and forecasts 0..t only.

    tell: called with (bars done, bars in all) after each bar.
    """
    n_bars = market.closed_at_s.size - first
    account = Account(market, costs=costs, terms=terms)
    run = Simulation(
        first=first,
        equity=np.zeros(n_bars),
        gross=np.zeros(n_bars),
        net=np.zeros(n_bars),
        is_held=np.zeros(n_bars, np.bool_),
        n_passed=np.zeros(n_bars, np.int64),
    )
    correlations = DailyCorrelations(market, n_common_min=terms.n_common_returns_min)
    for k in range(n_bars):
        bar = first + k
        run.orders.extend(account.trade(bar))
        run.equity[k] = account.equity
        run.gross[k], run.net[k] = account.exposure()
        allocation = allocate([one.at(bar, market.symbols) for one in forecasts], correlations.at(bar), limits)
        for refusal in allocation.refused:
            run.refused[refusal.reason] = run.refused.get(refusal.reason, 0) + refusal.n
        run.n_passed[k] = sum(scores.n_passed for scores in allocation.scores)
        run.is_held[k] = all(scores.score_max is None for scores in allocation.scores)
        if not run.is_held[k]:
            account.decide(bar, allocation)
        tell(k + 1, n_bars)
    run.orders.extend(account.unfilled())
    return run


class DailyCorrelations:
    """The correlations that svc_allocator would have used, one matrix a UTC day."""

    def __init__(self, market: Market, *, n_common_min: int) -> None:
        self._market = market
        self._n_common_min = n_common_min
        self._midnight_s: int | None = None
        self._of_day: Correlations | None = None

    def at(self, bar: int) -> Correlations | None:
        """Return the correlations of the bar's day."""
        closed_at_s = self._market.closed_at_s
        midnight_s = int(closed_at_s[bar]) // _DAY_S * _DAY_S
        if midnight_s != self._midnight_s:
            self._midnight_s = midnight_s
            self._of_day = weekly_correlations(
                self._market.symbols,
                self._market.close,
                closed_at_s=closed_at_s,
                end_s=midnight_s,
                n_common_min=self._n_common_min,
            )
        return self._of_day
