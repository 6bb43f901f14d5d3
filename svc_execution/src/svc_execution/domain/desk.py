"""What the desk's API answers, field by field. Drawdowns are fractions >= 0; amounts are quote currency."""

from __future__ import annotations

from datetime import datetime

import msgspec

from qraft_contracts.targets import ScoreSummary
from svc_execution.domain.decide import ActiveModel


class KillSwitchView(msgspec.Struct, frozen=True):
    """at, actor and reason are null while the switch was never touched."""

    engaged: bool
    reason: str | None
    actor: str | None
    at: datetime | None


class EquityView(msgspec.Struct, frozen=True):
    """series: (unix seconds, equity, drawdown), oldest first, at most 1,500 points, the last mark always among them."""

    now: float
    start: float
    drawdown: float
    drawdown_max: float
    pnl: float
    fees: float
    slippage: float
    half_spread: float
    impact: float
    drift: float
    cash: float
    series: list[tuple[int, float, float]]


class PositionView(msgspec.Struct, frozen=True):
    """price: last known close. weight and target_weight: signed fractions of equity."""

    symbol: str
    quantity: float
    price: float
    notional: float
    weight: float
    target_weight: float
    average_price: float
    unrealized_pnl: float


class FillView(msgspec.Struct, frozen=True):
    """Amounts as in fills/1."""

    fill_price: float
    quantity: float
    fee: float
    slippage: float
    impact: float
    half_spread: float
    drift: float
    filled_at: datetime


class OrderView(msgspec.Struct, frozen=True):
    """status: open, filled, partial or expired. expiry_reason: why a part, or all, was not filled."""

    order_id: str
    symbol: str
    side: str
    quantity: float
    decided_at: datetime
    theoretical_price: float
    target_weight: float
    policy: str
    reason: str
    status: str
    expiry_reason: str | None
    fill: FillView | None


class RefusalView(msgspec.Struct, frozen=True):
    """One rule that turned something away."""

    as_of: datetime
    reason: str
    n: int
    examples: list[str]


class LatencyView(msgspec.Struct, frozen=True):
    """Milliseconds over the last n bars."""

    p50_ms: float
    p99_ms: float
    n: int


class HopView(msgspec.Struct, frozen=True):
    """One hop, named by the service at its end."""

    name: str
    p50_ms: float
    p99_ms: float
    n: int


class StartingView(msgspec.Struct, frozen=True):
    """The bars that waited for the line's start and are not among the others. max_ms: of the slowest."""

    n: int
    max_ms: float


class LatenciesView(msgspec.Struct, frozen=True):
    """Each hop, and from the publish of the bar to the publish of its orders."""

    hops: list[HopView]
    total: LatencyView
    starting: StartingView


class DeskView(msgspec.Struct, frozen=True):
    """All that the page shows at once. replay_speed: bars a second as observed, null in real time."""

    origin: str | None
    profile: str | None
    market: str
    interval: str
    as_of: datetime | None
    replay_speed: float | None
    kill_switch: KillSwitchView
    equity: EquityView
    positions: list[PositionView]
    orders: list[OrderView]
    refusals: list[RefusalView]
    scores: tuple[ScoreSummary, ...]
    models: tuple[ActiveModel, ...]
    hold: bool
    hold_reason: str | None
    latency: LatenciesView
    symbols: tuple[str, ...]


class FillMark(msgspec.Struct, frozen=True):
    """A fill on the price chart. time: unix seconds of its bar's open."""

    time: int
    side: str
    price: float
    quantity: float
    order_id: str


class PricesView(msgspec.Struct, frozen=True):
    """bars: (unix seconds of the open, open, high, low, close, volume), oldest first."""

    symbol: str
    bars: list[tuple[int, float, float, float, float, float]]
    fills: list[FillMark]


class BarEvent(msgspec.Struct, frozen=True):
    """The event `bar`. n_orders and n_fills: of this bar."""

    as_of: datetime
    equity: float
    drawdown: float
    n_orders: int
    n_fills: int


class ErrorBody(msgspec.Struct, frozen=True):
    """A stable code and a sentence for people."""

    code: str
    message: str


class ErrorView(msgspec.Struct, frozen=True):
    """The envelope of every error."""

    error: ErrorBody
