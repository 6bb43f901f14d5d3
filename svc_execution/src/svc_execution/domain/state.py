"""What one market's execution has done so far, and what each event adds to the journal."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from qraft_contracts.orders import Fill, Order
from qraft_contracts.origin import Origin
from svc_execution.domain.account import Account, Mark


@dataclass(frozen=True, slots=True)
class OpenOrder:
    """An order good for the next bar, and the per-bar volatility known when it was decided."""

    order: Order
    sigma_bar: float


@dataclass(frozen=True, slots=True)
class State:
    """
    The fold over all events up to the last one in the journal.

    last_targets_at < last_bar_at (or None) = the targets of last_bar_at are awaited. origin: the worst seen by this
    account; n_events: events in the journal, the optimistic lock of the next one.
    """

    market: str
    interval: str
    account: Account
    open_orders: tuple[OpenOrder, ...] = ()
    last_bar_at: datetime | None = None
    last_targets_at: datetime | None = None
    origin: Origin | None = None
    n_events: int = 0


@dataclass(frozen=True, slots=True)
class Expiry:
    """The part of an order that its bar did not fill. quantity: base asset, > 0."""

    order_id: str
    symbol: str
    expired_at: datetime
    quantity: float
    reason: str


@dataclass(frozen=True, slots=True)
class BarRecord:
    """What one bar adds to the journal."""

    mark: Mark
    fills: tuple[Fill, ...]
    expiries: tuple[Expiry, ...]


@dataclass(frozen=True, slots=True)
class Refusal:
    """A rule that turned something away. examples: at most three. sha256: of the refused message, or empty."""

    as_of: datetime
    reason: str
    n: int
    examples: tuple[str, ...] = ()
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class DecisionRecord:
    """
    What the targets of one bar (or their absence) add to the journal.

    sha256: of the targets message, None when none came. summary: JSON for the desk.
    """

    as_of: datetime
    origin: Origin
    sha256: str | None
    profile: str | None
    hold: bool
    hold_reason: str | None
    orders: tuple[OpenOrder, ...]
    refusals: tuple[Refusal, ...]
    summary: bytes | None


@dataclass(frozen=True, slots=True)
class KillSwitch:
    """The newest row of the kill switch. engaged False with no actor: it was never touched."""

    engaged: bool
    actor: str | None = None
    reason: str | None = None
    at: datetime | None = None
