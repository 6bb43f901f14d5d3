"""result.json: what an evaluation found, whole and by fold. It holds no wall clock; undefined numbers are null."""

from __future__ import annotations

from datetime import datetime

import msgspec

from qraft_contracts.origin import Origin
from qraft_quant.costs import CostModel

FORMAT = "backtest/1"

WHAT_IT_IS = (
    "A first honest evaluation of one candidate on bars that its fold's model never saw: walk-forward, after costs, "
    "through the allocation and the execution kernel that run live."
)
WHAT_IT_IS_NOT = (
    "It is no gate: nothing is promoted or refused by it.",
    "One path of history and one set of limits; trials are not counted, so a good number may be luck.",
    "Each fold's own model is evaluated. The exported model was trained on all bars and has no unseen ones here.",
    "A horizon's bucket was chosen from all out-of-fold forecasts, later ones included.",
    "Funding, borrowing, outages and queue position are not modeled; fills are at the next bar's open plus costs.",
    "Positions open at the end are marked at the last close, not sold.",
)
ANNUALIZATION = "Sharpe = mean / standard deviation (ddof 1) of daily returns between UTC midnights, times sqrt(365)"


class Span(msgspec.Struct, frozen=True):
    """
    One stretch of the run, first_at and last_at inclusive. Money is quote currency, other fractions of equity.

    total_return: of equity. return_before_costs: with fee, half_spread, slippage and impact given back.
    market_return: equal-weighted buy and hold of all symbols without costs, for comparison. sharpe_standard_error:
    Lo (2002), for independent returns. turnover: traded notional over mean equity. n_bars_held: bars without a usable
    forecast. gross, net: exposure at the close.
    """

    name: str
    first_at: datetime
    last_at: datetime
    n_bars: int
    n_bars_held: int
    total_return: float
    return_before_costs: float
    market_return: float | None
    sharpe: float | None
    sharpe_standard_error: float | None
    n_observations: int
    max_drawdown: float
    turnover: float
    turnover_per_day: float
    n_orders: int
    n_orders_full: int
    n_orders_partial: int
    n_orders_expired: int
    fee: float
    half_spread: float
    slippage: float
    impact: float
    drift: float
    gross_mean: float
    gross_max: float
    net_mean: float
    n_passed: int


class ScoreDistribution(msgspec.Struct, frozen=True):
    """
    One horizon's scores over the whole run; distance: threshold minus the best, > 0 = nothing ever reached it.

    n_above: scores at or above the threshold (confidence and edge aside). histogram: counts between the edges.
    """

    horizon: str
    bucket: str
    cost: float
    threshold: float
    n_rows: int
    n_above: int
    quantiles: dict[str, float]
    distance: float | None
    edges: tuple[float, ...]
    histogram: tuple[int, ...]


class LimitsUsed(msgspec.Struct, frozen=True):
    """Every number of qraft_quant.allocation.AllocationLimits, as it stood."""

    score_min: dict[str, float]
    confidence_min: dict[str, float]
    edge_min: float
    score_full: dict[str, float]
    size_min: float
    horizon_shares: dict[str, float]
    symbol_cap: float
    bucket_caps: dict[str, float]
    gross_max: float
    risk_budget: float
    correlation_max: float


class Terms(msgspec.Struct, frozen=True):
    """The paper account."""

    start_cash: float
    band: float
    min_notional: float
    n_common_returns_min: int


class BacktestResult(msgspec.Struct, frozen=True):
    """The whole result. inputs: SHA-256 of manifest.json and oof.parquet, and of the bars read (closes and opens)."""

    format: str
    model_id: str
    profile: str
    origin: Origin
    market: str
    interval: str
    symbols: tuple[str, ...]
    what_it_is: str
    what_it_is_not: tuple[str, ...]
    annualization: str
    inputs: dict[str, str]
    order_list_sha256: str
    whole: Span
    folds: tuple[Span, ...]
    scores: tuple[ScoreDistribution, ...]
    refused: dict[str, int]
    limits: LimitsUsed
    costs: CostModel
    terms: Terms
